"""Validation with pydantic, its errors told in our words and at their place in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import pydantic

from mappings.spec import nearest
from sync import config_yaml
from sync.config_yaml import Mistakes, Where

Model = type[pydantic.BaseModel]
_QUOTED = re.compile(r"'([^']*)'")
_SAID = {
    "string_type": ("must be text", "put it in quotes"),
    "int_type": ("must be a whole number", ""),
    "int_parsing": ("must be a whole number", ""),
    "int_from_float": ("must be a whole number", ""),
    "float_type": ("must be a number", ""),
    "float_parsing": ("must be a number", ""),
    "decimal_parsing": ("must be a number", ""),
    "bool_type": ("must be true or false", ""),
    "bool_parsing": ("must be true or false", ""),
    "date_type": ("must be a date", "as in 2024-01-31"),
    "date_parsing": ("must be a date", "as in 2024-01-31"),
    "date_from_datetime_parsing": ("must be a date", "as in 2024-01-31"),
    "date_from_datetime_inexact": ("must be a date without a time", "as in 2024-01-31"),
    "model_type": ("must be a mapping of names to values", ""),
    "model_attributes_type": ("must be a mapping of names to values", ""),
    "dict_type": ("must be a mapping of names to values", ""),
    "tuple_type": ("must be a list", "as in [a, b]"),
    "list_type": ("must be a list", "as in [a, b]"),
}


def validate(value: Any, raw: Any, model: Model, where: Where, found: Mistakes) -> pydantic.BaseModel | None:
    """The options as the connector's own type, or None and mistakes. `raw` still has the references."""
    options = {} if value is None else value
    note_secrets(model, raw, found, where)
    try:
        return model.model_validate(options)
    except pydantic.ValidationError as error:
        note(error, model, found, where)
    return None


def note_secrets(model: Model, raw: Any, found: Mistakes, where: Where) -> None:
    """Add a mistake for each secret (by its type) that stands in clear in `raw`, which has the references."""
    for path, text in _secrets(model, {} if raw is None else raw):
        if not config_yaml.is_reference(text) and not found.is_broken((*where, *path)):
            if isinstance(text, str) and len(text) >= 4:
                found.secrets.add(text)
            found.add((*where, *path), "a secret must not stand here in clear", "write ${env:…} or ${file:…}")


def note(error: pydantic.ValidationError, model: Model, found: Mistakes, where: Where) -> None:
    """Add pydantic's errors about the value at `where`, one mistake each; none of them shows the value."""
    for each in error.errors(include_url=False):
        is_key = each["loc"][-1:] == ("[key]",)
        loc = each["loc"][:-1] if is_key else each["loc"]
        place = (*where, *loc)
        kind = each["type"]
        follows = kind in {"value_error", "mistakes"} and found.is_broken_inside(place)
        if follows or found.is_broken(place):
            continue
        context: Mapping[str, Any] = each.get("ctx") or {}
        if kind == "mistakes":
            for at, problem, fix in context["found"]:
                found.add((*place, *at), problem, fix, key=bool(at))
        elif kind == "extra_forbidden":
            name = str(loc[-1])
            known = _names(model, loc[:-1])
            found.add(place, f"unknown key {name!r}", nearest(name, known) if known else "", key=True)
        elif kind == "missing":
            found.add(place[:-1], f"{place[-1]}: is missing", "", key=True)
        elif kind in {"literal_error", "enum"}:
            options = _QUOTED.findall(str(context.get("expected", "")))
            given = each["input"]
            is_safe = isinstance(given, str) and given not in found.secrets and len(given) < 100
            shown = f"unknown value {given!r}" if is_safe else "unknown value"
            found.add(place, shown, nearest(str(given) if is_safe else "", options), key=is_key)
        else:
            problem, fix = _SAID.get(kind, (each["msg"].removeprefix("Value error, "), ""))
            found.add(place, problem[:1].lower() + problem[1:], fix, key=is_key)


def _secrets(model: Model, value: Any, path: Where = ()) -> Iterator[tuple[Where, Any]]:
    """Where the options hold secrets by their types, with what is written there."""
    if not isinstance(value, Mapping):
        return
    for name, field in model.model_fields.items():
        key = next((key for key in (field.alias, name) if key in value), None)
        if key is not None:
            yield from _secrets_in(field.annotation, value[key], (*path, key))


def _secrets_in(annotation: Any, value: Any, path: Where) -> Iterator[tuple[Where, Any]]:
    if value is None:
        return
    if annotation in (pydantic.SecretStr, pydantic.SecretBytes):
        yield path, value
    elif isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        yield from _secrets(annotation, value, path)
    else:
        for inner in get_args(annotation):
            if isinstance(value, list):
                for at, item in enumerate(value):
                    yield from _secrets_in(inner, item, (*path, at))
            elif isinstance(value, Mapping) and not _is_model(inner):
                for key, item in value.items():
                    yield from _secrets_in(inner, item, (*path, str(key)))
            else:
                yield from _secrets_in(inner, value, path)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel)


def _names(model: Model, place: Where) -> list[str]:
    """The keys that are known at `place` of a model."""
    at: Any = model
    for part in place:
        at = _inner(at, part)
    inside = _model_in(at)
    return [field.alias or name for name, field in inside.model_fields.items()] if inside else []


def _inner(annotation: Any, part: str | int) -> Any:
    """The type of an item, a value or a field."""
    model = _model_in(annotation) if isinstance(part, str) else None
    if model is not None:
        for name, field in model.model_fields.items():
            if part in (name, field.alias):
                return field.annotation
    return annotation


def _model_in(annotation: Any) -> Model | None:
    """The model that an annotation is or holds (optional, a list of it, a mapping to it)."""
    if _is_model(annotation):
        model: Model = annotation
        return model
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
