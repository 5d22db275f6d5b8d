"""The path language of mappings: how a value is found in a raw record.

=========================  =====================================================================
``billing.email``          names, joined by dots
``["odd.name"].x``         a name that holds a dot or a bracket
``lines[0]``, ``[-1]``     an item of a list, counted from 0; from the end when negative
``lines[]``                all items: the rest of the path is taken of each, and gives a list
``meta[key=_utm].value``   the first item of a list whose ``key`` is ``_utm`` (also ``[key="a]b"]``)
``meta[key=$.name]``       the same, the wanted value taken from the context
``history[$.property]``    a name taken from the context
``$.types.<EMAIL>``        the first name under which an object holds ``EMAIL``
``$.x``                    starts in the context of the raw record (`RawRecord.context`)
``^.x``                    starts in the raw record itself, inside `each`
``.``                      the raw record, or the item inside `each`
=========================  =====================================================================

What is not there, and the empty text, is None; so is whatever a path looks for inside of something that is
no object or list (PHP writes an empty object as ``[]``). Inside of a list made by ``[]`` a missing value
keeps its place as None.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from mappings.unfit import Unfit


@dataclass(slots=True)
class Scope:
    """What a path is looked up in: an item of a raw record, the record, and its context.

    All are JSON as the decoder makes it, so that exact types can be asked for (this is the hot path).
    `notes` collects what was passed over by `lenient`; `index` remembers lookups by ``[key=value]``.
    """

    item: Any
    root: Any
    context: dict[str, Any]
    region: str | None
    zone: ZoneInfo
    notes: list[tuple[str, Unfit]] = field(default_factory=list)
    index: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)

    def inside(self, item: Any) -> Scope:
        """The scope of one item of an `each`."""
        return Scope(item, self.root, self.context, self.region, self.zone, self.notes, self.index)


Get = Callable[[Scope], Any]
_Step = Callable[[Any, Scope], Any]

_NAME = re.compile(r"[^.\[\]]+")
_INDEX = re.compile(r"-?[0-9]{1,6}")
_EQUALS = re.compile(r'([^=\[\]"]+)=(?:"([^"]*)"|([^\[\]"]*))')
_BRACKET = re.compile(r'\[((?:"[^"]*"|[^\[\]"])*)\]')


class PathError(ValueError):
    """The text is not a path of this language; says where and why."""


def key_text(value: Any) -> str | None:
    """A value as it is compared with a value in a mapping: text, trimmed; None for none."""
    if type(value) is str:
        return value.strip() or None
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if type(value) in {list, dict} else str(value)


def compile_path(path: str) -> Get:
    """A function from scope to value. Raises `PathError`."""
    start, rest = _start(path)
    steps = _steps(path, rest)
    if all(isinstance(step, str) for step in steps):
        return _names(start, tuple(str(step) for step in steps))
    getter = _chain(tuple(_by_name(step) if isinstance(step, str) else step for step in steps))

    def get(scope: Scope) -> Any:
        return _present(getter(start(scope), scope))

    return get


def _item(scope: Scope) -> Any:
    return scope.item


def _start(path: str) -> tuple[Get, str]:
    if path == ".":
        return _item, ""
    if path.startswith("$."):
        return (lambda scope: scope.context), path[2:]
    if path.startswith("^."):
        return (lambda scope: scope.root), path[2:]
    return _item, path


class _All:
    """The step ``[]``."""


def _steps(path: str, rest: str) -> list[Any]:
    if path != "." and not rest:
        raise PathError(f"{path!r} is not a path: it names nothing")
    steps: list[Any] = []
    at = 0
    while at < len(rest):
        if rest[at] == "[":
            match = _BRACKET.match(rest, at)
            if match is None:
                raise PathError(f"{path!r} is not a path: a bracket is not closed")
            steps.append(_bracket(path, match[1]))
        else:
            if rest[at] == "." and steps:
                at += 1
            elif steps:
                raise PathError(f"{path!r} is not a path: a dot is missing before {rest[at:]!r}")
            if rest.startswith("[", at):
                continue
            match = _NAME.match(rest, at)
            if match is None:
                raise PathError(f"{path!r} is not a path: a name is missing at character {at + 1}")
            name = match[0]
            held = name.startswith("<") and name.endswith(">") and len(name) > 2
            steps.append(_by_value(name[1:-1]) if held else name)
        at = match.end()
    return steps


def _bracket(path: str, inner: str) -> Any:
    if not inner:
        return _All
    if _INDEX.fullmatch(inner):
        return _by_index(int(inner))
    if inner.startswith("$."):
        return _by_context(compile_path(inner))
    if len(inner) > 2 and inner[0] == inner[-1] == '"':
        return inner[1:-1]
    match = _EQUALS.fullmatch(inner)
    if match is None:
        raise PathError(f"{path!r} is not a path: [{inner}] is no number, no [key=value] and no name")
    if match[2] is None and match[3].startswith("$."):
        wanted_there = compile_path(match[3])
        return _by_key(match[1], lambda scope: key_text(wanted_there(scope)))
    wanted = key_text(match[3] if match[2] is None else match[2])
    return _by_key(match[1], lambda _: wanted)


def _names(start: Get, names: tuple[str, ...]) -> Get:
    """The plain case, without a call for each step."""
    if len(names) == 1:
        only = names[0]

        if start is _item:

            def get_own(scope: Scope) -> Any:
                value = scope.item
                value = value.get(only) if type(value) is dict else None
                return None if value == "" else value

            return get_own

        def get_one(scope: Scope) -> Any:
            value = start(scope)
            value = value.get(only) if type(value) is dict else None
            return None if value == "" else value

        return get_one

    def get(scope: Scope) -> Any:
        value = start(scope)
        for name in names:
            if type(value) is dict:
                value = value.get(name)
            else:
                return None
        return None if value == "" else value

    return get


def _chain(steps: tuple[Any, ...]) -> _Step:
    if _All in steps:
        at = steps.index(_All)
        before, after = _chain(steps[:at]), _chain(steps[at + 1 :])
        flat = _All in steps[at + 1 :]

        def each(value: Any, scope: Scope) -> Any:
            items = before(value, scope)
            if type(items) is not list:
                return None
            found = [_present(after(item, scope)) for item in items]
            if flat:
                return [one for many in found for one in (many if type(many) is list else [many])]
            return found

        return each

    def walk(value: Any, scope: Scope) -> Any:
        for step in steps:
            if value is None:
                return None
            value = step(value, scope)
        return value

    return walk


def _present(value: Any) -> Any:
    return None if value == "" else value


def _by_name(name: str) -> _Step:
    return lambda value, _: value.get(name) if type(value) is dict else None


def _by_index(index: int) -> _Step:
    def step(value: Any, _: Scope) -> Any:
        return value[index] if type(value) is list and -len(value) <= index < len(value) else None

    return step


def _by_context(name: Get) -> _Step:
    def step(value: Any, scope: Scope) -> Any:
        wanted = name(scope)
        return value.get(wanted) if type(value) is dict and isinstance(wanted, str) else None

    return step


def _by_value(wanted: str) -> _Step:
    def step(value: Any, _: Scope) -> Any:
        if type(value) is not dict:
            return None
        return next((name for name, held in value.items() if key_text(held) == wanted), None)

    return step


def _by_key(key: str, wanted: Callable[[Scope], str | None]) -> _Step:
    """The first item of a list by the text under `key`; the list is looked through once a record."""

    def step(value: Any, scope: Scope) -> Any:
        if type(value) is not list:
            return None
        index = scope.index.get((id(value), key))
        if index is None:
            index = {}
            for item in value:
                found = key_text(item.get(key)) if type(item) is dict else None
                if found is not None:
                    index.setdefault(found, item)
            scope.index[id(value), key] = index
        text = wanted(scope)
        return None if text is None else index.get(text)

    return step
