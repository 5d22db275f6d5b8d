"""Conditions of a mapping: `when:` and `is:`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from mappings import normalise, sources
from mappings.paths import Scope, key_text
from mappings.spec import Report
from mappings.unfit import Unfit

Holds = Callable[[Scope], bool]

OPERATORS = ("in", "not_in", "equals", "present", "matches")
COMBINATORS = ("any", "not")


def compile_condition(node: Any, where: str, report: Report, *, owner: tuple[Any, Any]) -> Holds:
    """A function from scope to bool. Mistakes go to `report`; `owner` is where the node stands.

    A list holds when all of it holds; ``any:`` when one of its list does; ``not:`` when the
    condition does not.
    """
    if isinstance(node, list):
        parts = [compile_condition(part, where, report, owner=owner) for part in node]
        return lambda scope: all(part(scope) for part in parts)
    if not isinstance(node, Mapping):
        report.add(*owner, where, "a condition must be a mapping of options, or a list of such")
        return lambda _: False
    if "any" in node and isinstance(node["any"], list):
        parts = [compile_condition(part, where, report, owner=(node, "any")) for part in node["any"]]
        return lambda scope: any(part(scope) for part in parts)
    if "not" in node:
        inner = compile_condition(node["not"], where, report, owner=(node, "not"))
        return lambda scope: not inner(scope)
    known = (*sources.KINDS, *sources.EXTRAS, *OPERATORS, *COMBINATORS)
    report.names(node, where, known, what="option of a condition")
    used = [name for name in OPERATORS if name in node]
    if len(used) != 1:
        report.add(node, None, where, f"a condition needs exactly one of: {', '.join(OPERATORS)}")
        return lambda _: False
    value = sources.compile_source(node, where, report)
    return _operator(used[0], node, value, where, report)


def _operator(name: str, node: Mapping[Any, Any], value: Any, where: str, report: Report) -> Holds:
    argument = node[name]
    if name == "present":
        wanted = argument is True
        if not isinstance(argument, bool):
            report.add(node, name, where, "present must be true or false")
        return lambda scope: (value(scope) not in (None, [], {})) is wanted
    if name == "matches":
        return _matches(node, value, where, report)
    if name == "equals":
        if isinstance(argument, Mapping):
            other = sources.compile_source(argument, where, report)
            return lambda scope: _same(value(scope), other(scope))
        argument = [argument]
    if not isinstance(argument, list) or any(isinstance(item, list | Mapping) for item in argument):
        report.add(node, name, where, f"{name} must be a list of values")
        return lambda _: False
    among = frozenset(key_text(item) for item in argument)
    wanted = name != "not_in"

    def holds(scope: Scope) -> bool:
        found = value(scope)
        if type(found) is list:
            return any(key_text(item) in among for item in found) is wanted
        return (key_text(found) in among) is wanted

    return holds


def _matches(node: Mapping[Any, Any], value: Any, where: str, report: Report) -> Holds:
    try:
        pattern = re.compile(str(node["matches"]))
    except re.error as error:
        report.add(node, "matches", where, f"not a regular expression: {error}")
        return lambda _: False

    def holds(scope: Scope) -> bool:
        return any(pattern.search(text) for item in _items(value(scope)) if (text := key_text(item)))

    return holds


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _same(one: Any, other: Any) -> bool:
    """Numbers are the same when their amounts are (``5.00`` and ``5``), all else when their text is."""
    first, second = _number(one), _number(other)
    if first is not None and second is not None:
        return first == second
    return key_text(one) == key_text(other)


def _number(value: Any) -> Decimal | None:
    try:
        return normalise.decimal(value)
    except Unfit:
        return None
