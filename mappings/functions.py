"""The functions behind `as:`, and which of them a canonical field takes by default."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from mappings import normalise
from mappings.canonical import OrderLine
from mappings.paths import Scope

Evaluate = Callable[[Scope], Any]
Convert = Callable[[Any, Scope], Any]


@dataclass(frozen=True, slots=True)
class Options:
    """What a function may need besides the value: evaluated options of the field."""

    currency: Evaluate | None = None
    region: Evaluate | None = None
    zone: Evaluate | None = None
    decimal_comma: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """`gives` is the type of the result; `make` binds the options once. `alone` is the function itself, where
    it needs neither options nor scope: then a field may call it without a step between (the hot path)."""

    gives: type[Any]
    make: Callable[[Options], Convert]
    whole: bool = False  # takes a list as it is, not item by item
    alone: Callable[[Any], Any] | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A canonical field: what it wants.

    `type` of one value; `many` for a tuple of them; `allowed` for an enumeration; `item` for nested records.
    """

    name: str
    type: type[Any]
    default_as: str
    required: bool = False
    many: bool = False
    allowed: tuple[str, ...] = ()
    item: Any = None


def _plain(gives: type[Any], function: Callable[[Any], Any], *, whole: bool = False) -> Function:
    return Function(gives, lambda _: lambda value, scope: function(value), whole, function)


def _phone(options: Options) -> Convert:
    region = options.region

    def convert(value: Any, scope: Scope) -> Any:
        near = region(scope) if region else None
        return normalise.phone(value, near if isinstance(near, str) else scope.region)

    return convert


def _money(options: Options) -> Convert:
    currency, comma = options.currency, options.decimal_comma

    def convert(value: Any, scope: Scope) -> Any:
        return normalise.money(value, currency(scope) if currency else None, decimal_comma=comma)

    return convert


def _time(options: Options) -> Convert:
    zone = options.zone
    if zone is None:
        return lambda value, scope: normalise.time_iso(value)
    return lambda value, scope: normalise.time_iso(value, zone(scope))


def _epoch(per_second: int) -> Function:
    return _plain(datetime, lambda value: normalise.time_epoch(value, per_second=per_second))


def _with_comma(function: Callable[..., Any]) -> Callable[[Options], Convert]:
    return lambda options: lambda value, scope: function(value, decimal_comma=options.decimal_comma)


def _any_true(value: Any) -> bool | None:
    items = value if isinstance(value, list) else [value]
    return any(normalise.boolean(item) for item in items) if items else None


def _click_ids(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(found for item in items for found in normalise.click_ids(item)))


FUNCTIONS: Mapping[str, Function] = {
    "text": _plain(str, normalise.text),
    "html_text": _plain(str, normalise.html_text),
    "email": _plain(str, normalise.email),
    "phone": Function(str, _phone),
    "currency": _plain(str, normalise.currency_code),
    "decimal_text": Function(str, _with_comma(normalise.decimal_text)),
    "decimal": Function(Decimal, _with_comma(normalise.decimal)),
    "money": Function(int, _money),
    "int": _plain(int, normalise.integer),
    "bool": _plain(bool, normalise.boolean),
    "any_true": _plain(bool, _any_true, whole=True),
    "time": Function(datetime, _time),
    "epoch_s": _epoch(1),
    "epoch_ms": _epoch(1000),
    "date": _plain(date, normalise.day),
    "click_ids": _plain(tuple, _click_ids, whole=True),
}

_BY_NAME = {
    "email": "email",
    "emails": "email",
    "phone": "phone",
    "currency": "currency",
    "click_ids": "click_ids",
}
_BY_TYPE = {str: "text", int: "int", bool: "bool", datetime: "time", date: "date", Decimal: "decimal"}


def targets(record: type[msgspec.Struct]) -> dict[str, Target]:
    """The fields of a canonical record and what each wants."""
    return {field.name: _target(record, field) for field in msgspec.structs.fields(record)}


def _target(record: type[msgspec.Struct], field: msgspec.structs.FieldInfo) -> Target:
    kind, many = field.type, False
    allowed: tuple[str, ...] = ()
    if typing.get_origin(kind) in {types.UnionType, typing.Union}:
        kind = next(arg for arg in typing.get_args(kind) if arg is not type(None))
    if typing.get_origin(kind) is tuple:
        kind, many = typing.get_args(kind)[0], True
    if typing.get_origin(kind) is typing.Literal:
        kind, allowed = str, typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return Target(field.name, kind, "", field.required, many, (), kind)
    money = kind is int and field.name.endswith("_minor")
    numeral = kind is str and issubclass(record, OrderLine) and field.name in {"quantity", "total", "tax"}
    default = "money" if money else "decimal_text" if numeral else _BY_NAME.get(field.name, _BY_TYPE[kind])
    return Target(field.name, kind, default, field.required, many, allowed)


def fits(target: Target, name: str) -> bool:
    """Whether the function's result can be this field's value."""
    gives = FUNCTIONS[name].gives
    return gives is target.type or (gives is tuple and target.many and target.type is str)
