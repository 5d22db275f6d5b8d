"""The JSON Schema of leadledger.yaml, for editors: completion, and the plainest mistakes while typing."""

from __future__ import annotations

import json
from typing import Any

import pydantic

from connectors import catalog
from sync.config_types import Document

_ANY_SCALAR = {"type": ["string", "number", "boolean"]}
_CONDITION = {"anyOf": [_ANY_SCALAR, {"type": "array", "items": _ANY_SCALAR}]}


def schema() -> dict[str, Any]:
    """The schema, with the options of every connector type that is installed."""
    made = Document.model_json_schema(by_alias=True)
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["title"] = "leadledger.yaml"
    definitions = made["$defs"]
    definitions["Condition"] = {"anyOf": [*_CONDITION["anyOf"], definitions["Condition"]]}
    for name in ("in", "not"):
        definitions["Condition"]["anyOf"][-1]["properties"][name] = _CONDITION
    value = definitions["PushValue"]
    names = value["properties"].pop("source")
    definitions["PushValue"] = {"anyOf": [names["anyOf"][0], value]}
    connector = definitions["ConnectorConfig"]
    types, _ = catalog.find()
    connector["properties"]["type"] = {"enum": sorted(types), "title": "Type"}
    branches = []
    for name, declared in sorted(types.items()):
        options = pydantic.TypeAdapter(declared.options).json_schema(ref_template=f"#/$defs/{name}.{{model}}")
        definitions.update({f"{name}.{inner}": part for inner, part in options.pop("$defs", {}).items()})
        definitions[f"{name}.options"] = options
        then: dict[str, Any] = {"properties": {"options": {"$ref": f"#/$defs/{name}.options"}}}
        if options.get("required"):
            then["required"] = ["options"]
        if declared.mapping is None:
            then["properties"]["mapping"] = {"additionalProperties": {"type": "array"}}
        branches.append({"if": {"properties": {"type": {"const": name}}}, "then": then})
    connector["allOf"] = branches
    return made


def text() -> str:
    """The schema as it stands in config/leadledger.schema.json."""
    return json.dumps(schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
