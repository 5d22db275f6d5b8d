"""The simulated HubSpot's search of contacts: filters, one sort, offset paging, the 10,000-row wall.

Source: the vendor's page "Search the CRM". Archived contacts are never found; history is never given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse, Response

from connectors.sandbox.hubspot_contacts import view
from connectors.sandbox.hubspot_properties import definitions
from connectors.sandbox.hubspot_wire import Call, Refusal, milliseconds, whole
from connectors.sandbox.state import State

WALL = 10_000
MOST, BY_DEFAULT = 200, 10
MOST_CHARACTERS = 3000
MOST_GROUPS, MOST_FILTERS_A_GROUP, MOST_FILTERS = 5, 6, 18
_STAMPS = ("hs_object_id", "createdate", "lastmodifieddate")

Value = int | str | None
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "EQ": lambda held, wanted: held == wanted,
    "GT": lambda held, wanted: held > wanted,
    "GTE": lambda held, wanted: held >= wanted,
    "LT": lambda held, wanted: held < wanted,
    "LTE": lambda held, wanted: held <= wanted,
}


@dataclass(frozen=True, slots=True)
class _Filter:
    name: str
    operator: str
    wanted: tuple[Value, ...]

    def keeps(self, row: Mapping[str, Value]) -> bool:
        """A contact without a value passes no filter."""
        held = row.get(self.name)
        if held is None:
            return False
        if self.operator == "IN":
            return held in self.wanted
        return _COMPARE[self.operator](held, self.wanted[0])


def search(call: Call) -> Response:
    if len(call.raw.decode(errors="replace")) > MOST_CHARACTERS:
        raise Refusal(400, f"The request is over {MOST_CHARACTERS} characters")
    body = call.json()
    known = definitions(call.state)
    groups = _groups(body, known)
    sort, descending = _sort(body, known)
    limit = whole(body.get("limit", BY_DEFAULT), name="limit", most=MOST)
    start = _start(body.get("after"), limit)
    used = {rule.name for group in groups for rule in group} | {sort}
    rows = [
        row
        for row in _rows(call.state, known, used)
        if not groups or any(all(rule.keeps(row) for rule in group) for group in groups)
    ]
    # Those without a value come last upwards; the id makes the order one.
    rows.sort(key=lambda row: _place(row, sort), reverse=descending)
    ids = [str(row["hs_object_id"]) for row in rows[start : start + limit]]
    docs = call.state.get_many("hubspot", "contact", ids)
    names = body.get("properties") or []
    answer: dict[str, Any] = {
        "total": len(rows),
        "results": [view(docs[id], names) for id in ids if id in docs],
    }
    if len(rows) > start + limit:
        answer["paging"] = {"next": {"after": str(start + limit)}}
    return JSONResponse(answer)


def _place(row: Mapping[str, Value], name: str) -> tuple[bool, Any, Value]:
    held = row.get(name)
    return held is None, 0 if held is None else held, row["hs_object_id"]


def _rows(state: State, known: Mapping[str, dict[str, Any]], used: set[str]) -> list[dict[str, Value]]:
    """What the filters look at, of every contact that is not archived."""
    more = sorted(used - set(_STAMPS))
    with state.writing() as db:
        found = db.execute(
            "SELECT number, at, changed, CASE WHEN ? THEN json_extract(body, '$.properties') END FROM docs"
            " WHERE vendor='hubspot' AND kind='contact' AND NOT coalesce(json_extract(body, '$.archived'), 0)",
            (bool(more),),
        ).fetchall()
    rows = []
    for number, at, changed, text in found:
        row: dict[str, Value] = {
            "hs_object_id": number,
            "createdate": round(at * 1000),
            "lastmodifieddate": round(changed * 1000),
        }
        if more:
            held = json.loads(text)
            row |= {name: _typed(known[name], held.get(name)) for name in more}
        rows.append(row)
    return rows


def _typed(property: Mapping[str, Any], value: Any) -> Value:
    """Times as milliseconds, free text in lower case, an enumeration as it is; None for no value."""
    if value is None or value == "":
        return None
    if property["type"] in {"date", "datetime"}:
        return milliseconds(str(value))
    if property["type"] == "string":
        return str(value).lower()
    return str(value)


def _groups(body: dict[str, Any], known: Mapping[str, dict[str, Any]]) -> list[list[_Filter]]:
    given = body.get("filterGroups") or []
    if not isinstance(given, list) or len(given) > MOST_GROUPS:
        raise Refusal(400, f"filterGroups: at most {MOST_GROUPS}")
    groups = []
    for group in given:
        filters = group.get("filters") if isinstance(group, dict) else None
        if not isinstance(filters, list) or not 1 <= len(filters) <= MOST_FILTERS_A_GROUP:
            raise Refusal(400, f"a filter group holds 1 to {MOST_FILTERS_A_GROUP} filters")
        groups.append([_filter(rule, known) for rule in filters])
    if sum(map(len, groups)) > MOST_FILTERS:
        raise Refusal(400, f"at most {MOST_FILTERS} filters in all")
    return groups


def _filter(rule: Any, known: Mapping[str, dict[str, Any]]) -> _Filter:
    if not isinstance(rule, dict):
        raise Refusal(400, "a filter must be an object")
    name, operator = str(rule.get("propertyName", "")), str(rule.get("operator", ""))
    if name not in known:
        raise Refusal(400, f"There was a problem with the request: property {name} does not exist")
    if operator == "IN":
        values = rule.get("values")
        if not isinstance(values, list) or not values:
            raise Refusal(400, "IN needs values")
        # Given as it is: the vendor wants lower case here, and finds nothing otherwise.
        return _Filter(name, operator, tuple(_wanted(name, known[name], value) for value in values))
    if operator not in _COMPARE or "value" not in rule:
        raise Refusal(400, f"There was a problem with the request: operator {operator} or its value")
    wanted = _wanted(name, known[name], rule["value"])
    if known[name]["type"] == "string" and isinstance(wanted, str):
        wanted = wanted.lower()
    return _Filter(name, operator, (wanted,))


def _wanted(name: str, property: Mapping[str, Any], value: Any) -> Value:
    if name == "hs_object_id":
        return whole(value, name="hs_object_id", most=2**63) if str(value) != "0" else 0
    return milliseconds(str(value)) if property["type"] in {"date", "datetime"} else str(value)


def _sort(body: dict[str, Any], known: Mapping[str, dict[str, Any]]) -> tuple[str, bool]:
    """The one rule, or by createdate upwards."""
    given = body.get("sorts") or [{"propertyName": "createdate"}]
    if not isinstance(given, list) or len(given) != 1:
        raise Refusal(400, "sorts: one rule only")
    rule = {"propertyName": given[0]} if isinstance(given[0], str) else given[0]
    name, direction = str(rule.get("propertyName")), rule.get("direction", "ASCENDING")
    if name not in known or direction not in {"ASCENDING", "DESCENDING"}:
        raise Refusal(400, f"There was a problem with the request: sort by {name} {direction}")
    return name, direction == "DESCENDING"


def _start(after: Any, limit: int) -> int:
    text = str(after or 0)
    if not (text.isascii() and text.isdigit()):
        raise Refusal(400, f'Cannot deserialize value of type `int` from String "{text}"')
    if int(text) + limit > WALL:
        raise Refusal(400, f"The offset and limit go beyond the first {WALL} results")
    return int(text)
