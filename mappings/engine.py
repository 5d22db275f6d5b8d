"""Applies a mapping in YAML: from a vendor's raw record to canonical records. Pure: no I/O, no clock.

A mapping says, for each stream of a connector type, which canonical records a raw record becomes::

    type: woocommerce
    streams:
      orders:
        - kind: order                  # one of canonical.KINDS; several entries make several records
          when: {path: parent_id, in: [0, null]}   # optional; a list: all must hold
          each: line_items             # optional: one record per item; paths then start in the item
          keep: true                   # optional: a record stays although a later version no longer gives it
          fields:
            external_id: id            # short for {path: id}
            total_minor: {path: total, currency: currency}

A field takes its value from exactly one source and is then normalised by its canonical type, or by `as:`.

Sources
    ``path: P`` (`mappings.paths` has the path language); ``first: [A, B]`` the first that is there, each
    a path or a mapping with options of its own beside the inherited ones; ``all: [A, B]`` for lists:
    everything found, without doubles; ``const: V``; ``join: [A, B]`` with ``with: "|"`` (None when all
    that is not constant is missing; ``skip_empty: true`` leaves missing parts out); ``sum: [P, Q]`` the
    exact sum of all numbers found (``negate: true`` turns its sign); ``is: CONDITION`` true or false;
    ``each: P`` with ``fields:`` for the lines of an order.
Options, in the order in which they work
    ``when: CONDITION`` else no value; ``map: {theirs: ours}`` with ``otherwise: keep`` or a value
    (without it an unknown value is a problem; the key ``null`` is for no value); ``url_param: NAME`` cuts
    a parameter out of a URL; ``click: KIND`` makes ``KIND:value`` of a bare click id; ``split: ";"``
    makes a list of a text; ``as: FUNCTION``; ``lenient: true`` turns a value that cannot be used into
    none, with a note; ``default: V`` where nothing was found.
Functions
    text, html_text, email, phone (``region: P`` or the workspace's), currency, decimal, decimal_text,
    money (``currency: P`` or the record's own), int, bool, any_true (of a list), time (``zone:`` UTC, a
    name, ``workspace`` or ``$.name`` for times without offset), epoch_s, epoch_ms, date, click_ids (of
    URLs). ``decimal_comma: true`` reads numbers as ``1 234,50``.
Conditions
    A source with exactly one of ``in``, ``not_in``, ``equals`` (a value or a source), ``present``,
    ``matches`` (regular expression, found anywhere); of a list, one item is enough. ``any: [C, D]``;
    ``not: C``; a list of conditions holds when all do.

"" and what is absent is None. A required field without a value, a wrong type and a value that cannot be read
are problems that name the field, the path and the shape of the value, never the value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from mappings import entries, functions, spec, values
from mappings.canonical import Record
from mappings.entries import Entry, Overrides
from mappings.paths import Scope
from mappings.spec import MappingError, Report, SpecProblem
from mappings.unfit import Unfit

__all__ = ["Mapped", "Mapping", "MappingError", "MappingProblem", "Produced", "SpecProblem", "build", "load"]

# Part of every fingerprint: raise it when the same mapping begins to give other results.
VERSION = 2

_DECODER = msgspec.json.Decoder(float_hook=Decimal)


@dataclass(frozen=True, slots=True)
class MappingProblem:
    """Why a raw record gave no canonical record, or (as a note) why a value was passed over.

    `got` is the shape of the value, `line` the field's line in the mapping `source` (None in an override).
    """

    kind: str
    field: str
    path: str
    got: str
    wrong: str
    right: str
    source: str
    line: int | None = None

    def __str__(self) -> str:
        at = self.source if self.line is None else f"{self.source}:{self.line}"
        what = ".".join(part for part in (self.kind, self.field) if part) or "record"
        came = f" ({self.path}: {self.got})" if self.path else ""
        return f"{at}: {what}: {self.wrong}{came}; {self.right}"


class Produced(NamedTuple):
    """One canonical record. `keep`: it stays although a later version of the raw record lacks it."""

    kind: str
    record: Record
    keep: bool


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a raw record became. With `problems` it belongs in quarantine; `notes` are for information."""

    records: tuple[Produced, ...]
    problems: tuple[MappingProblem, ...] = ()
    notes: tuple[MappingProblem, ...] = ()


class Mapping:
    """A compiled mapping. Made by `load` or `build`; immutable; safe to share between threads."""

    def __init__(
        self, data: Any, *, name: str, overrides: Overrides | None = None, overrides_name: str = ""
    ) -> None:
        self.name = name
        self._data = data
        self._overrides: Overrides = overrides or {}
        report, theirs = Report(name), Report(overrides_name or f"override of {name}")
        self._streams: dict[str, tuple[Entry, ...]] = {}
        try:
            self._streams = entries.compile_streams(data, self._overrides, report, theirs)
        except RecursionError:
            report.add(None, None, "", "a part of the mapping holds itself (a YAML alias inside its anchor)")
        report.problems += theirs.problems
        report.check()

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that have a mapping."""
        return tuple(self._streams)

    def with_overrides(self, overrides: Overrides, *, name: str = "") -> Mapping:
        """The same mapping with fields replaced: {stream: {kind: {field: source or null}}}.

        An override holds for every entry of that kind in the stream; they take the place of earlier
        overrides. `name` is what problems call them. Raises `MappingError`.
        """
        return Mapping(self._data, name=self.name, overrides=overrides, overrides_name=name)

    def fingerprint(self, stream: str) -> str:
        """Changes whenever the result of `apply` for this stream could: mapping, overrides, kinds, engine."""
        data = spec.plain(self._data)["streams"][stream]
        shapes = {
            entry.kind: sorted(map(repr, functions.targets(entry.record).values()))
            for entry in self._streams[stream]
        }
        known = [VERSION, data, spec.plain(self._overrides.get(stream, {})), shapes]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    def kinds(self, stream: str) -> frozenset[str]:
        """Every canonical kind that a raw record of this stream can become."""
        return frozenset(entry.kind for entry in self._streams[stream])

    def keeps(self, stream: str) -> frozenset[str]:
        """The kinds whose records stay although a later version of their raw record lacks them."""
        return frozenset(entry.kind for entry in self._streams[stream] if entry.keep)

    def apply(
        self,
        stream: str,
        body: bytes,
        context: MappingABC[str, Any],
        *,
        phone_region: str | None,
        zone: ZoneInfo,
    ) -> Mapped:
        """The canonical records of one raw record.

        Parameters
        ----------
        body : the raw record's JSON.
        context : `RawRecord.context`. With a text under ``broken`` the record could not even be read as a
            row; that is then its only problem.
        phone_region : ISO 3166 code for phone numbers without a country code.
        zone : the workspace's zone, for `zone: workspace`.

        Raises `KeyError` for a stream without a mapping; all else is a problem in the result.
        """
        compiled = self._streams[stream]
        if context.get("broken"):
            return self._unreadable(str(context["broken"]))
        try:
            root = decode(body)
        except ValueError as error:
            return self._unreadable(f"not JSON: {error}")
        scope = Scope(root, root, dict(context), phone_region, zone)
        run = _Run(scope)
        for entry in compiled:
            run.entry(entry, self.name)
        return Mapped(tuple(run.records), tuple(run.problems), tuple(run.notes))

    def _unreadable(self, wrong: str) -> Mapped:
        right = "look at the raw record and mend it at its source"
        return Mapped((), (MappingProblem("", "", "", "", wrong, right, self.name),))


def load(text: str, *, name: str) -> Mapping:
    """The mapping in a YAML text. Raises `MappingError` with every mistake, each with its line."""
    return Mapping(spec.parse(text, name=name), name=name)


def build(data: MappingABC[str, Any], *, name: str) -> Mapping:
    """The mapping in data that is parsed already (part of a config). Raises `MappingError`."""
    return Mapping(data, name=name)


def decode(body: bytes) -> Any:
    """JSON with its decimals exact. Raises `ValueError` without any of the content.

    What the fast decoder refuses and other programs write (lone surrogates) is read by the slow one.
    """
    try:
        return _DECODER.decode(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return json.loads(body.decode("utf-8-sig"), parse_float=Decimal, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos + 1}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start + 1}") from None


def _refuse(word: str) -> Any:
    raise json.JSONDecodeError(f"{word} is no number", "", 0)


class _Run:
    """The application of the entries to one raw record."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.records: list[Produced] = []
        self.problems: list[MappingProblem] = []
        self.notes: list[MappingProblem] = []

    def entry(self, entry: Entry, name: str) -> None:
        if entry.each is None:
            self.one(entry, self.scope)
            return
        items = entry.each(self.scope)
        if items is None or items == {}:
            return
        if not isinstance(items, list):
            wrong, right = "each: is no list", "its path must lead to a list"
            self.problems.append(
                MappingProblem(entry.kind, "", entry.each_path, "", wrong, right, name, entry.line)
            )
            return
        for item in items:
            self.one(entry, self.scope.inside(item))

    def one(self, entry: Entry, scope: Scope) -> None:
        scope.notes = []
        found: dict[str, Any] = {}
        problems: list[MappingProblem] = []
        try:
            if entry.when is not None and not entry.when(scope):
                return
        except Unfit as unfit:
            problems.append(_problem(entry, None, unfit))
        for field in entry.fields:
            try:
                value = field.evaluate(scope)
            except Unfit as unfit:
                problems.append(_problem(entry, field, unfit))
                continue
            if value is None:
                if field.required:
                    missing = Unfit(
                        "no value, and the field is required", "map it from where the vendor has it"
                    )
                    missing.path, missing.got = field.path, "nothing"
                    problems.append(_problem(entry, field, missing))
                continue
            if field.money and type(value) is tuple:
                value, exact = value
                if exact is not None and field.exact is not None:
                    found.setdefault(field.exact, exact)
            found[field.name] = value
        if scope.notes:
            by_name = {field.name: field for field in entry.fields}
            self.notes += [_problem(entry, by_name.get(name), passed) for name, passed in scope.notes]
        if problems:
            self.problems += problems
        else:
            self.records.append(Produced(entry.kind, entry.record(**found), entry.keep))


def _problem(entry: Entry, field: values.Field | None, unfit: Unfit) -> MappingProblem:
    name = "when" if field is None else f"{field.name}.{unfit.inside}" if unfit.inside else field.name
    source, line = (field.source, field.line) if field else (entry.fields[0].source, entry.line)
    return MappingProblem(entry.kind, name, unfit.path, unfit.got, unfit.wrong, unfit.right, source, line)
