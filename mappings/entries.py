"""Compiles the streams of a mapping to entries: what to make of a raw record, and when."""

from __future__ import annotations

from collections.abc import Mapping as MappingABC
from dataclasses import dataclass
from typing import Any

from mappings import conditions, sources, values
from mappings.canonical import KINDS, Record
from mappings.conditions import Holds
from mappings.paths import Get
from mappings.spec import Report, line_of

Overrides = MappingABC[str, MappingABC[str, MappingABC[str, Any]]]

_ENTRY = ("kind", "when", "each", "keep", "fields")


@dataclass(frozen=True, slots=True)
class Entry:
    """One canonical record that a raw record becomes, or one for each item of its list `each`."""

    kind: str
    record: type[Record]
    fields: tuple[values.Field, ...]
    when: Holds | None
    each: Get | None
    each_path: str
    keep: bool
    line: int | None


def compile_streams(
    data: Any, overrides: Overrides, report: Report, theirs: Report
) -> dict[str, tuple[Entry, ...]]:
    """The entries of every stream. Mistakes of the file go to `report`, of the overrides to `theirs`."""
    top = report.mapping(data, "mapping")
    report.names(top, "", ("type", "streams"), what="key")
    streams = report.mapping(top.get("streams"), "streams", owner=top, key="streams")
    for stream in overrides:
        if stream not in streams:
            theirs.unknown(overrides, stream, "", what="stream", name=str(stream), known=map(str, streams))
    named = [stream for stream in streams if isinstance(stream, str)]
    for stream in streams:
        if stream not in named:
            report.add(streams, stream, "streams", "the name of a stream must be a text")
    return {
        str(stream): _stream(stream, streams, overrides.get(stream) or {}, report, theirs) for stream in named
    }


def _stream(
    stream: str,
    streams: MappingABC[Any, Any],
    overrides: MappingABC[str, MappingABC[str, Any]],
    report: Report,
    theirs: Report,
) -> tuple[Entry, ...]:
    nodes = streams[stream]
    if not isinstance(nodes, list) or not nodes:
        report.add(streams, stream, stream, "must be a list of entries, each with kind: and fields:")
        return ()
    kinds = {str(node.get("kind")) for node in nodes if isinstance(node, MappingABC)}
    for kind, fields in theirs.mapping(overrides, stream).items():
        if kind not in kinds:
            theirs.unknown(overrides, kind, stream, what="kind", name=str(kind), known=kinds)
        theirs.mapping(fields, f"{stream}.{kind}", owner=overrides, key=kind)
    changed = _Changed(overrides if isinstance(overrides, MappingABC) else {}, report, theirs)
    entries = (_entry(nodes, at, stream, changed) for at in range(len(nodes)))
    return tuple(entry for entry in entries if entry is not None)


@dataclass(frozen=True, slots=True)
class _Changed:
    """The overrides of a stream, and where mistakes of the file and of the overrides go."""

    overrides: MappingABC[str, MappingABC[str, Any]]
    report: Report
    theirs: Report


def _entry(nodes: list[Any], at: int, stream: str, changed: _Changed) -> Entry | None:
    where, report = f"{stream}[{at}]", changed.report
    node = report.mapping(nodes[at], where, owner=nodes, key=at)
    report.names(node, where, _ENTRY, what="key")
    kind = node.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        if kind is None:
            report.add(nodes, at, where, "kind: is missing", f"known: {', '.join(sorted(KINDS))}")
        else:
            report.unknown(node, "kind", where, what="kind", name=str(kind), known=KINDS)
        return None
    keep = node.get("keep", False)
    if not isinstance(keep, bool):
        report.add(node, "keep", where, "keep must be true or false")
    override = changed.overrides.get(kind)
    fields = values.compile_fields(
        node.get("fields"),
        KINDS[kind],
        f"{stream}.{kind}",
        report,
        owner=node,
        overrides=override if isinstance(override, MappingABC) else None,
        override_report=changed.theirs,
    )
    each = (
        sources.compile_source(node["each"], where, report, owner=node, key="each")
        if "each" in node
        else None
    )
    when = (
        conditions.compile_condition(node["when"], f"{where}.when", report, owner=(node, "when"))
        if "when" in node
        else None
    )
    each_path = sources.describe(node.get("each", ""))
    line = line_of(nodes, at)
    return Entry(kind, KINDS[kind], tuple(fields), when, each, each_path, bool(keep), line)
