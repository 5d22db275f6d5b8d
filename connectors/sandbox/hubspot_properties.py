"""The simulated HubSpot's contact properties: those every account has, own ones, and what a value may be."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from connectors.sandbox.hubspot_wire import Call, Refusal, batch, milliseconds, row_error
from connectors.sandbox.state import Doc, State

STAGES = (
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
    "other",
)
LEAD_STATUSES = (
    "NEW",
    "OPEN",
    "IN_PROGRESS",
    "OPEN_DEAL",
    "UNQUALIFIED",
    "ATTEMPTED_TO_CONTACT",
    "CONNECTED",
    "BAD_TIMING",
)
DEFAULT_GROUP = "contactinformation"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_EMAIL = re.compile(r"[^@\s,;]+@[^@\s,;.]+(\.[^@\s,;.]+)+")
_TEXTS = (
    "email phone mobilephone firstname lastname company country city zip website jobtitle found_by"
    " rejection_reason hs_additional_emails hs_google_click_id hs_facebook_click_id"
)
_READ_ONLY_TEXTS = (
    "hs_object_id hs_merged_object_ids hs_calculated_merged_vids hs_all_contact_vids hs_object_source"
    " hs_object_source_id hs_object_source_label hs_email_optout hs_marketable_status hs_analytics_source"
    " hs_analytics_source_data_1 hs_analytics_source_data_2 hs_latest_source hs_latest_source_data_1"
    " hs_latest_source_data_2 hs_analytics_first_url hs_analytics_last_url hs_pipeline hs_legal_basis"
)
_READ_ONLY_TIMES = (
    "createdate lastmodifieddate hs_lastmodifieddate hs_analytics_first_timestamp hs_latest_source_timestamp"
)


def definition(
    name: str, *, type: str = "string", field_type: str = "text", read_only: bool = False, **more: Any
) -> dict[str, Any]:
    """A property as the API shows it."""
    return {
        "name": name,
        "label": name.replace("_", " ").capitalize(),
        "type": type,
        "fieldType": field_type,
        "description": "",
        "groupName": DEFAULT_GROUP,
        "options": [],
        "displayOrder": -1,
        "calculated": False,
        "externalOptions": False,
        "hasUniqueValue": name == "email",
        "hidden": False,
        "formField": True,
        "dataSensitivity": "non_sensitive",
        "modificationMetadata": {
            "archivable": True,
            "readOnlyDefinition": False,
            "readOnlyValue": read_only,
        },
    } | more


def _options(values: Iterable[str]) -> list[dict[str, Any]]:
    return [
        {"label": value, "value": value, "displayOrder": place, "hidden": False}
        for place, value in enumerate(values)
    ]


_DEFAULTS: dict[str, dict[str, Any]] = (
    {name: definition(name) for name in _TEXTS.split()}
    | {name: definition(name, read_only=True) for name in _READ_ONLY_TEXTS.split()}
    | {
        name: definition(name, type="datetime", field_type="date", read_only=True)
        for name in _READ_ONLY_TIMES.split()
    }
    | {
        "lifecyclestage": definition(
            "lifecyclestage", type="enumeration", field_type="radio", options=_options(STAGES)
        ),
        "hs_lead_status": definition(
            "hs_lead_status", type="enumeration", field_type="radio", options=_options(LEAD_STATUSES)
        ),
        # Its options are the owners, which the vendor keeps outside the property.
        "hubspot_owner_id": definition(
            "hubspot_owner_id", type="enumeration", field_type="select", externalOptions=True
        ),
    }
)


def definitions(state: State) -> dict[str, dict[str, Any]]:
    """Every property by name: the account's own ones over the vendor's."""
    own, _ = state.select("hubspot", "property")
    return _DEFAULTS | {doc.id: definition(doc.id) | doc.body for doc in own}


def option_values(known: Mapping[str, dict[str, Any]], name: str) -> list[str]:
    """An enumeration's internal names in their order."""
    options = sorted(known[name]["options"], key=lambda option: option.get("displayOrder", 0))
    return [str(option["value"]) for option in options]


def faults(known: Mapping[str, dict[str, Any]], properties: Mapping[str, str]) -> list[dict[str, Any]]:
    """What is wrong with the values of one row, in the form of the vendor's `errors`; [] when nothing is."""
    found = []
    for name, value in properties.items():
        wrong = _fault(known, name, value)
        if wrong is not None:
            message, code = wrong
            found.append({"message": message, "code": code, "context": {"propertyName": [name]}})
    return found


def summary(found: Iterable[Mapping[str, Any]]) -> str:
    """The message the vendor puts above `faults`, which repeats them as JSON text."""
    quoted = [
        {
            "isValid": False,
            "message": fault["message"],
            "error": fault["code"],
            "name": fault["context"]["propertyName"][0],
        }
        for fault in found
    ]
    return f"Property values were not valid: {json.dumps(quoted, separators=(',', ':'))}"


def _fault(known: Mapping[str, dict[str, Any]], name: str, value: str) -> tuple[str, str] | None:
    if name not in known:
        return f'Property "{name}" does not exist', "PROPERTY_DOESNT_EXIST"
    property = known[name]
    if property["modificationMetadata"]["readOnlyValue"]:
        return f"{name} is a read only property; its value cannot be set.", "READ_ONLY_VALUE"
    if value == "":
        return None
    if name == "email" and not _EMAIL.fullmatch(value):
        return f"Email address {value} is invalid", "INVALID_EMAIL"
    return _fault_of_type(known, property, value)


def _fault_of_type(
    known: Mapping[str, dict[str, Any]], property: Mapping[str, Any], value: str
) -> tuple[str, str] | None:
    name, kind = property["name"], property["type"]
    if kind == "enumeration" and not property["externalOptions"]:
        allowed = option_values(known, name)
        many = property["fieldType"] == "checkbox"
        wrong = [part for part in (value.split(";") if many else [value]) if part not in allowed]
        if wrong:
            return f"{wrong[0]} was not one of the allowed options: [{', '.join(allowed)}]", "INVALID_OPTION"
    if kind == "number" and not re.fullmatch(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", value):
        return f"{value} was not a valid number", "INVALID_INTEGER"
    if kind == "bool" and value not in {"true", "false"}:
        return f"{value} was not one of the allowed options: [true, false]", "INVALID_OPTION"
    if kind in {"date", "datetime"}:
        try:
            at = milliseconds(value)
        except Refusal as refusal:
            return str(refusal), "INVALID_DATE"
        if kind == "date" and at % 86_400_000:
            return f"{value} is at {at} which is not midnight UTC", "INVALID_DATE"
    return None


def list_properties(call: Call) -> Response:
    return JSONResponse({"results": list(definitions(call.state).values())})


def get_property(call: Call) -> Response:
    found = definitions(call.state).get(call.path["name"])
    if found is None:
        raise Refusal(404, f'Property "{call.path["name"]}" does not exist', category="OBJECT_NOT_FOUND")
    return JSONResponse(found)


def create_property(call: Call) -> Response:
    with call.state.writing():
        wanted = _checked(call.state, call.json())
        if wanted["name"] in definitions(call.state):
            raise Refusal(409, _exists(wanted["name"]), category="OBJECT_ALREADY_EXISTS")
        return JSONResponse(_store(call.state, wanted), 201)


def create_properties(call: Call) -> Response:
    """All new: 201; some known already: 207; none new: 409. A malformed one refuses the whole call."""
    started = time.time()
    with call.state.writing():
        inputs = call.json().get("inputs")
        if not isinstance(inputs, list) or not 1 <= len(inputs) <= 100:
            raise Refusal(400, "inputs must hold 1 to 100 properties")
        wanted = [_checked(call.state, row) for row in inputs]
        known = definitions(call.state)
        twice = [row["name"] for row in wanted if row["name"] in known]
        new = [row for row in wanted if row["name"] not in known]
        if not new:
            raise Refusal(409, _exists(twice[0]), category="OBJECT_ALREADY_EXISTS", context={"name": twice})
        results = [_store(call.state, row) for row in new]
    errors = [
        row_error(_exists(name), category="OBJECT_ALREADY_EXISTS", context={"name": [name]}) for name in twice
    ]
    return batch(results, errors, started=started, status=201)


def list_groups(call: Call) -> Response:
    own, _ = call.state.select("hubspot", "group")
    standard = _group(DEFAULT_GROUP, "Contact information")
    return JSONResponse({"results": [standard, *(doc.body for doc in own)]})


def create_group(call: Call) -> Response:
    body = call.json()
    name, label = str(body.get("name", "")), str(body.get("label", ""))
    if not _NAME.fullmatch(name) or not label:
        raise Refusal(400, f"Property group needs a label and a valid name, was '{name}'")
    with call.state.writing():
        if _has_group(call.state, name):
            message = f"Property group '{name}' already exists"
            raise Refusal(409, message, category="OBJECT_ALREADY_EXISTS")
        now, group = time.time(), _group(name, label)
        call.state.put("hubspot", "group", [Doc(name, group, at=now, changed=now)])
    return JSONResponse(group, 201)


def _group(name: str, label: str) -> dict[str, Any]:
    return {"name": name, "label": label, "displayOrder": -1, "archived": False}


def _has_group(state: State, name: str) -> bool:
    return name == DEFAULT_GROUP or state.get("hubspot", "group", name) is not None


def _exists(name: str) -> str:
    return f"A property named '{name}' already exists."


def _checked(state: State, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise Refusal(400, "a property must be an object")
    missing = [key for key in ("name", "label", "groupName", "type", "fieldType") if not row.get(key)]
    if missing:
        raise Refusal(400, f"Property definition lacks {', '.join(missing)}")
    if not _NAME.fullmatch(row["name"]):
        message = f"Property name '{row['name']}': lower case letters, digits and _, a letter first"
        raise Refusal(400, message)
    if row["type"] not in {"string", "number", "bool", "date", "datetime", "enumeration"}:
        raise Refusal(400, f"Property type '{row['type']}' is not known")
    if not _has_group(state, row["groupName"]):
        raise Refusal(400, f"Property group '{row['groupName']}' does not exist")
    return row


def _store(state: State, row: dict[str, Any]) -> dict[str, Any]:
    now = time.time()
    body = definition(row["name"]) | row
    state.put("hubspot", "property", [Doc(row["name"], body, at=now, changed=now)])
    return body
