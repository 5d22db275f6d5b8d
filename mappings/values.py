"""Compiles one field of a mapping to a function from scope to the canonical value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from mappings import conditions, functions, normalise, sources, zones
from mappings.functions import Convert, Evaluate, Options, Target
from mappings.paths import Scope, key_text
from mappings.spec import Located, Report, line_of, plain
from mappings.unfit import Unfit, shape

_SOURCES = (*sources.KINDS, "all", "is", "each")
_CUTS = ("map", "otherwise", "url_param", "click", "split")
_FUNCTION_OPTIONS = ("as", "zone", "currency", "region", "decimal_comma")
_OPTIONS = (*_CUTS, *_FUNCTION_OPTIONS, *sources.EXTRAS, "default", "lenient", "when", "fields")
_FLAGS = ("lenient", "skip_empty", "negate", "decimal_comma")


@dataclass(frozen=True, slots=True)
class Field:
    """A compiled field. `exact` names the field that takes what is finer than money's minor unit."""

    name: str
    evaluate: Evaluate
    required: bool
    path: str
    line: int | None
    source: str
    money: bool = False
    exact: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """What a field's parts are compiled for, and where it stands. `currency`: the record's own, for money."""

    target: Target
    where: str
    report: Report
    line: int | None
    currency: Evaluate | None = None


def compile_field(node: Any, place: Place) -> Evaluate:
    """A function from scope to the value of the field, None if there is none. Mistakes go to the report."""
    where, report = place.where, place.report
    spec = Located({"path": node}, line=place.line) if isinstance(node, str) else node
    if not isinstance(spec, Mapping):
        here = Located({}, line=place.line)
        report.add(here, None, where, "must be a path or a mapping of options")
        return sources.nothing
    report.names(spec, where, (*_SOURCES, *_OPTIONS), what="option")
    for flag in _FLAGS:
        if not isinstance(spec.get(flag, False), bool):
            report.add(spec, flag, where, f"{flag} must be true or false")
    used = [name for name in _SOURCES if name in spec]
    if len(used) != 1:
        report.add(spec, None, where, f"needs exactly one of: {', '.join(_SOURCES)}")
        return sources.nothing
    evaluate = _by_source(used[0], spec, place)
    if "when" not in spec:
        return evaluate
    holds = conditions.compile_condition(spec["when"], f"{where}.when", report, owner=(spec, "when"))
    return lambda scope: evaluate(scope) if holds(scope) else None


def _by_source(name: str, spec: Mapping[Any, Any], place: Place) -> Evaluate:
    target, where, report = place.target, place.where, place.report
    if name == "is":
        if target.type is not bool:
            report.add(spec, name, where, "is: gives true or false, which this field is not")
        return conditions.compile_condition(spec["is"], f"{where}.is", report, owner=(spec, "is"))
    if name == "each" or target.item is not None:
        return _records(spec, place)
    if name in {"first", "all"} and isinstance(spec[name], list):
        if name == "all" and not target.many:
            report.add(spec, name, where, "all: gives a list, which this field is not", "use first:")
        inherited = {key: value for key, value in spec.items() if key not in {name, "when", "default"}}
        alternatives = [
            compile_field(
                Located(
                    {**inherited, **(part if isinstance(part, Mapping) else {"path": part})},
                    origin=part if isinstance(part, Mapping) else spec,
                    line=place.line,
                ),
                place,
            )
            for part in spec[name]
        ]
        found = _first(alternatives) if name == "first" else _all(alternatives)
        return _with_default(found, spec, place)
    source = {key: value for key, value in spec.items() if key in {name, *sources.EXTRAS}}
    raw = sources.compile_source(Located(source, origin=spec, line=place.line), where, report)
    convert, alone = _pipeline(spec, place)
    path, lenient = sources.describe(spec), spec.get("lenient") is True

    def evaluate(scope: Scope) -> Any:
        value = None
        try:
            value = raw(scope)
            if alone is not None:
                return None if value is None else alone(value)
            return convert(value, scope)
        except Unfit as unfit:
            unfit.path, unfit.got = path, unfit.got or shape(value)
            if not lenient:
                raise
            scope.notes.append((target.name, unfit))
            return None

    return _with_default(evaluate, spec, place)


def _first(alternatives: list[Evaluate]) -> Evaluate:
    return lambda scope: next(
        (value for one in alternatives if (value := one(scope)) is not None and value != ()), None
    )


def _all(alternatives: list[Evaluate]) -> Evaluate:
    return lambda scope: tuple(dict.fromkeys(item for one in alternatives for item in one(scope) or ()))


def _with_default(evaluate: Evaluate, spec: Mapping[Any, Any], place: Place) -> Evaluate:
    if "default" not in spec:
        return evaluate
    bare = {key: value for key, value in spec.items() if key in {"as", "zone", "currency"}}
    convert, _ = _pipeline(bare, place)
    default = sources.compile_source({"const": spec["default"]}, place.where, place.report)

    def with_default(scope: Scope) -> Any:
        value = evaluate(scope)
        return convert(default(scope), scope) if value is None else value

    return with_default


def _pipeline(spec: Mapping[Any, Any], place: Place) -> tuple[Convert, Callable[[Any], Any] | None]:
    """From the raw value to the canonical one: map, cut, split, normalise, check. Where that is a single
    function of the value, it comes along bare."""
    steps: list[Convert] = []
    if "url_param" in spec:
        parameter = str(spec["url_param"])
        steps.append(lambda value, _: normalise.url_param(value, parameter))
    if "click" in spec:
        kind = str(spec["click"])
        steps.append(lambda value, _: normalise.click_id(value, kind))
    if "split" in spec:
        between = str(spec["split"]) or ";"
        steps.append(lambda value, _: value.split(between) if isinstance(value, str) else value)
    steps.append(_function(spec, place))
    if place.target.allowed:
        steps.append(_allowed(place.target.allowed))
    if place.target.name == "amount":
        steps.append(lambda value, _: normalise.given_back(value))

    def convert(value: Any, scope: Scope) -> Any:
        for step in steps:
            if value is None:
                return None
            value = step(value, scope)
        return value

    if "map" not in spec:
        bare = _bare(spec, place) if len(steps) == 1 else None
        return convert, bare
    lookup = _lookup(spec, place)
    mapped, takes_none = _map(spec, lookup), "null" in lookup

    def convert_mapped(value: Any, scope: Scope) -> Any:
        return None if value is None and not takes_none else convert(mapped(value, scope), scope)

    return convert_mapped, None


def _map_key(key: Any) -> str:
    return key_text(key) or "null"


def _lookup(spec: Mapping[Any, Any], place: Place) -> dict[str, Any]:
    table = place.report.mapping(spec["map"], f"{place.where}.map", owner=spec, key="map")
    return {_map_key(key): plain(value) for key, value in table.items()}


def _map(spec: Mapping[Any, Any], lookup: Mapping[str, Any]) -> Convert:
    given, otherwise = "otherwise" in spec, plain(spec.get("otherwise"))
    right = f"add it to map: (known: {', '.join(sorted(lookup))}) or say otherwise: keep"

    def convert(value: Any, _: Scope) -> Any:
        text = _map_key(value)
        if text in lookup:
            return lookup[text]
        if not given:
            raise Unfit("a value that the map does not know", right[:300])
        return value if otherwise == "keep" else otherwise

    return convert


def _allowed(values: tuple[str, ...]) -> Convert:
    def convert(value: Any, _: Scope) -> Any:
        if value not in values:
            raise Unfit("not one of the values of this field", f"it must be one of {', '.join(values)}")
        return value

    return convert


def _function_name(spec: Mapping[Any, Any], target: Target) -> Any:
    given = spec.get("as")
    if given is not None:
        return given
    return "text" if "click" in spec and target.many else target.default_as


def _bare(spec: Mapping[Any, Any], place: Place) -> Callable[[Any], Any] | None:
    """The field's function, if it takes the value as it is and nothing else."""
    function = functions.FUNCTIONS.get(str(_function_name(spec, place.target)))
    if function is None or (place.target.many and not function.whole):
        return None
    return function.alone


def _function(spec: Mapping[Any, Any], place: Place) -> Convert:
    target, where, report = place.target, place.where, place.report
    name = _function_name(spec, target)
    if not isinstance(name, str) or name not in functions.FUNCTIONS:
        report.unknown(spec, "as", where, what="function", name=str(name), known=functions.FUNCTIONS)
        return lambda value, _: value
    if not functions.fits(target, name):
        usable = [one for one in functions.FUNCTIONS if functions.fits(target, one)]
        report.add(spec, "as", where, f"as: {name} gives no value for this field", f"use {', '.join(usable)}")
    function = functions.FUNCTIONS[name]
    options = Options(
        currency=_option(spec, "currency", place) or place.currency,
        region=_option(spec, "region", place),
        zone=zones.compile_zone(spec, where, report),
        decimal_comma=spec.get("decimal_comma") is True,
    )
    convert = function.make(options)
    return (
        _many(convert, target.name, lenient=spec.get("lenient") is True)
        if target.many and not function.whole
        else convert
    )


def _option(spec: Mapping[Any, Any], name: str, place: Place) -> Evaluate | None:
    """An option that is itself a source, such as the currency of money."""
    if name not in spec:
        return None
    return sources.compile_source(spec[name], f"{place.where}.{name}", place.report, owner=spec, key=name)


def _many(convert: Convert, name: str, *, lenient: bool) -> Convert:
    def many(value: Any, scope: Scope) -> Any:
        found: dict[Any, None] = {}
        for item in value if isinstance(value, list) else [value]:
            try:
                one = convert(item, scope) if item is not None else None
            except Unfit as unfit:
                unfit.got = shape(item)
                if not lenient:
                    raise
                scope.notes.append((name, unfit))
                continue
            if one is not None:
                found[one] = None
        return tuple(found)

    return many


def _records(spec: Mapping[Any, Any], place: Place) -> Evaluate:
    """Nested records, such as the lines of an order."""
    target, where, report = place.target, place.where, place.report
    if target.item is None or "each" not in spec:
        report.add(spec, None, where, "each: with fields: makes lines, and only lines are made so")
        return sources.nothing
    item, items = target.item, sources.compile_source(spec["each"], where, report, owner=spec, key="each")
    fields = compile_fields(spec.get("fields"), item, f"{where}.fields", report, owner=spec)

    def evaluate(scope: Scope) -> Any:
        found = items(scope)
        if not isinstance(found, list):
            return None
        return tuple(item(**_nested(fields, scope.inside(one), at)) for at, one in enumerate(found))

    return evaluate


def _nested(fields: list[Field], scope: Scope, at: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in fields:
        try:
            value = field.evaluate(scope)
        except Unfit as unfit:
            unfit.inside = f"{at}.{field.name}"
            raise
        if value is not None:
            values[field.name] = value
    return values


def compile_fields(
    node: Any,
    record: type[msgspec.Struct],
    where: str,
    report: Report,
    *,
    owner: Any = None,
    overrides: Mapping[str, Any] | None = None,
    override_report: Report | None = None,
) -> list[Field]:
    """The fields of one record. An override takes the place of a field, or takes it away when it is null."""
    fields = report.mapping(node, where, owner=owner, key="fields")
    wanted = functions.targets(record)
    places: dict[str, tuple[Any, Any, Report]] = {
        str(name): (fields, fields[name], report) for name in fields
    }
    for name, spec in (overrides or {}).items():
        places[name] = (overrides, spec, override_report or report)
    places = {name: place for name, place in places.items() if place[1] is not None}
    currency: Evaluate | None = None
    if "currency" in wanted and "currency" in places:
        holder, spec, near = places["currency"]
        currency = compile_field(
            spec, Place(wanted["currency"], f"{where}.currency", near, line_of(holder, "currency"))
        )
    compiled = []
    for name, (holder, spec, near) in places.items():
        if name not in wanted:
            near.unknown(holder, name, where, what="field", name=name, known=wanted)
            continue
        evaluate = currency if name == "currency" else None
        if evaluate is None:
            place = Place(wanted[name], f"{where}.{name}", near, line_of(holder, name), currency)
            evaluate = compile_field(spec, place)
        compiled.append(_field(wanted, name, spec, evaluate, (line_of(holder, name), near.name)))
    for name, target in wanted.items():
        if target.required and name not in places:
            report.add(fields, None, where, f"the field {name!r} is required and not mapped")
    return compiled


def _field(
    wanted: Mapping[str, Target], name: str, spec: Any, evaluate: Evaluate, at: tuple[int | None, str]
) -> Field:
    target, exact = wanted[name], name.removesuffix("_minor") + "_exact"
    money = target.default_as == "money"
    return Field(
        name,
        evaluate,
        target.required,
        sources.describe(spec),
        *at,
        money=money,
        exact=exact if money and exact in wanted else None,
    )
