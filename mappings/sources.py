"""Where a field's raw value comes from: a path, the first of several, a constant, a join, a sum."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from mappings import normalise, paths
from mappings.paths import Get, Scope
from mappings.spec import Report

KINDS = ("path", "first", "const", "join", "sum")
EXTRAS = ("with", "skip_empty", "negate")


def nothing(_: Scope) -> Any:
    """The value of a source that is wrong, while its mistakes are collected."""
    return None


def compile_source(node: Any, where: str, report: Report, *, owner: Any = None, key: Any = None) -> Get:
    """A function from scope to the raw value. A text is a path. Mistakes go to `report`."""
    if isinstance(node, str):
        return _path(node, where, report, owner=owner, key=key)
    node = report.mapping(node, where, owner=owner, key=key)
    used = [name for name in KINDS if name in node]
    if len(used) != 1:
        if node:
            report.add(node, None, where, f"needs exactly one of: {', '.join(KINDS)}")
        return nothing
    name = used[0]
    if name == "path":
        return _path(node[name], where, report, owner=node, key=name)
    if name == "const":
        return _const(node[name])
    parts = node[name] if isinstance(node[name], list) else [node[name]]
    gets = [compile_source(part, where, report, owner=node, key=name) for part in parts]
    if name == "first":
        return lambda scope: next((value for get in gets if (value := get(scope)) is not None), None)
    if name == "sum":
        return _sum(gets, negate=node.get("negate") is True)
    fixed = [isinstance(part, Mapping) and "const" in part for part in parts]
    return _join(gets, fixed, between=str(node.get("with", "")), skip=node.get("skip_empty") is True)


def describe(node: Any) -> str:
    """The source as one reads it in a problem."""
    if isinstance(node, str):
        return node
    if isinstance(node, Mapping):
        for name in (*KINDS, "all", "each", "is"):
            if name in node:
                inner = node[name]
                parts = inner if isinstance(inner, list) else [inner]
                said = ", ".join(describe(part) for part in parts)
                return said if name == "path" else f"{name} of {said}"
    return str(node)[:80]


def _path(text: Any, where: str, report: Report, *, owner: Any, key: Any) -> Get:
    if not isinstance(text, str):
        report.add(owner, key, where, "a path must be a text")
        return nothing
    try:
        return paths.compile_path(text)
    except paths.PathError as error:
        report.add(owner, key, where, str(error), "see the path language in mappings/paths.py")
        return nothing


def _const(value: Any) -> Get:
    fixed = value if value is None or isinstance(value, bool | int | str) else str(value)
    return lambda _: fixed


def _join(gets: list[Get], fixed: list[bool], *, between: str, skip: bool) -> Get:
    """Texts put together; None when all that is not constant is missing."""

    def get(scope: Scope) -> Any:
        found = [normalise.text(one(scope)) for one in gets]
        if all(part is None for part, is_fixed in zip(found, fixed, strict=True) if not is_fixed):
            return None
        return between.join(part or "" for part in found if part or not skip)

    return get


def _sum(gets: list[Get], *, negate: bool) -> Get:
    """The exact sum of all numbers found, as decimal text; None when there is none at all."""

    def get(scope: Scope) -> Any:
        total, found = Decimal(0), False
        for one in gets:
            value = one(scope)
            for item in value if isinstance(value, list) else [value]:
                number = normalise.decimal(item)
                if number is not None:
                    total, found = normalise.EXACT.add(total, number), True
        if not found:
            return None
        # 0 - x, not -x: no negative zero.
        return format(normalise.EXACT.subtract(Decimal(0), total) if negate else total, "f")

    return get
