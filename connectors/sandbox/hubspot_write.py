"""The simulated HubSpot's writes of contacts: batch create, update and upsert, and PATCH of one.

Source: the contacts guide and the error guide's part on multi-status answers. A row with a fault is listed in a
207 when every input has its own objectWriteTraceId; otherwise the whole call is refused and nothing is written.
`lifecyclestage` goes forward only: a lower stage is dropped without a word unless the value was cleared before.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from starlette.responses import JSONResponse, Response

from connectors.sandbox.accounts import HUBSPOT_APP_ID
from connectors.sandbox.hubspot_contacts import MISSING, addresses, by_email, find, shuffled, view
from connectors.sandbox.hubspot_properties import definitions, faults, option_values, summary
from connectors.sandbox.hubspot_wire import Call, Refusal, batch, iso, row_error, whole
from connectors.sandbox.state import Doc, State

MOST = 100
KEPT_VALUES = 45
_SHOWN = ("email", "lifecyclestage", "hs_object_source", "hs_object_source_id", "hs_object_source_label")


@dataclass(frozen=True, slots=True)
class _Row:
    """One input: the key it is found by, our caller's mark, and the values as text."""

    key: str
    trace: str | None
    properties: dict[str, str]


class _RowFault(Exception):
    """Why one row is not written; `whole` is the status and the body when the whole call falls with it."""

    def __init__(
        self, message: str, *, category: str, context: dict[str, list[str]] | None = None, **whole: Any
    ) -> None:
        super().__init__(message)
        self.category, self.context, self.whole = category, context or {}, whole

    def entry(self, row: _Row) -> dict[str, Any]:
        traced = {} if "ids" in self.context else {"objectWriteTraceId": [str(row.trace)]}
        return row_error(str(self), category=self.category, context=traced | self.context)

    def refusal(self) -> Refusal:
        whole: dict[str, Any] = {"status": 400} | self.whole
        return Refusal(whole.pop("status"), str(self), category=self.category, **whole)


class _Desk:
    """The contacts one call deals with, under the file's write lock; each accepted row is kept at once."""

    def __init__(self, state: State, rows: Iterable[_Row]) -> None:
        self.state = state
        self.known = definitions(state)
        self.stages = option_values(self.known, "lifecyclestage")
        self.now = round(time.time() * 1000) / 1000
        self._next = state.next_number("hubspot", "contact")
        emails = {row.properties.get("email", "").lower() for row in rows}
        emails |= {row.key.lower() for row in rows if "@" in row.key}
        self._by_email = by_email(state, sorted(emails - {""}))

    def holder(self, email: str) -> Doc | None:
        return self._by_email.get(email)

    def create(self, row: _Row) -> Doc:
        """Raises _RowFault when the values are wrong or the address is taken."""
        wanted = self._checked(({"email": row.key} if row.key else {}) | row.properties)
        if not any(wanted.get(name) for name in ("email", "firstname", "lastname")):
            raise _RowFault(
                "A contact needs an email, a firstname or a lastname", category="VALIDATION_ERROR"
            )
        taken = self.holder(wanted.get("email", ""))
        if taken is not None:
            raise _conflict(taken)
        if not wanted.get("lifecyclestage"):
            wanted["lifecyclestage"] = "lead"
        id, self._next = str(self._next), self._next + 1
        own = {
            "createdate": iso(self.now),
            "hs_object_id": id,
            "hs_object_source": "INTEGRATION",
            "hs_object_source_id": HUBSPOT_APP_ID,
            "hs_object_source_label": "INTEGRATION",
        }
        new = Doc(id, {"properties": own, "history": {}, "archived": False}, at=self.now, changed=self.now)
        return self._keep(new, wanted, row)

    def update(self, doc: Doc, row: _Row) -> Doc:
        """Raises _RowFault when the values are wrong or the address is another contact's."""
        wanted = self._checked(row.properties)
        email = wanted.get("email", "")
        taken = self.holder(email)
        if taken is not None and taken.id != doc.id:
            raise _conflict(taken)
        if email in addresses(doc):
            # One of the contact's own addresses, perhaps an additional one: the main one stays.
            del wanted["email"]
        held = doc.body["properties"].get("lifecyclestage") or ""
        stage = wanted.get("lifecyclestage", "")
        if stage and held in self.stages and self.stages.index(stage) < self.stages.index(held):
            del wanted["lifecyclestage"]
        return self._keep(doc, wanted, row)

    def _checked(self, properties: dict[str, str]) -> dict[str, str]:
        wrong = faults(self.known, properties)
        if wrong:
            raise _RowFault(summary(wrong), category="VALIDATION_ERROR", errors=wrong)
        wanted = dict(properties)
        if "email" in wanted:
            wanted["email"] = wanted["email"].lower()
        return wanted

    def _keep(self, doc: Doc, wanted: dict[str, str], row: _Row) -> Doc:
        properties: dict[str, Any] = dict(doc.body["properties"])
        history: dict[str, list[dict[str, Any]]] = dict(doc.body.get("history", {}))
        for name, value in wanted.items():
            if (properties.get(name) or "") == value:
                continue
            properties[name] = value or None
            entry = {
                "value": value,
                "timestamp": iso(self.now),
                "sourceType": "INTEGRATION",
                "sourceId": HUBSPOT_APP_ID,
                "sourceLabel": "INTEGRATION",
            }
            history[name] = [entry, *history.get(name, [])][:KEPT_VALUES]
        properties["lastmodifieddate"] = iso(self.now)
        kept = replace(doc, changed=self.now, body=doc.body | {"properties": properties, "history": history})
        self.state.put("hubspot", "contact", [kept])
        self.state.note_write("hubspot", doc.id, at=self.now, sent=dict(row.properties))
        others = {email: other for email, other in self._by_email.items() if other.id != kept.id}
        self._by_email = others | dict.fromkeys(addresses(kept), kept)
        return kept


def create_contacts(call: Call) -> Response:
    """POST batch/create: 201; an address that is taken is a CONFLICT."""
    body = call.json()
    rows = [_row(input, key=_email_of(input)) for input in _inputs(body)]
    _no_twice(row.key for row in rows if row.key)
    return _write(call, rows, _Desk.create, status=201)


def update_contacts(call: Call) -> Response:
    """POST batch/update: by record id only."""
    inputs = _inputs(call.json())
    if any(input.get("idProperty") not in (None, "hs_object_id") for input in inputs):
        raise Refusal(400, "Unable to perform update/upsert by non-unique 0-1 property")
    rows = [_row(input, key=_id_of(input)) for input in inputs]
    _no_twice(row.key for row in rows)

    def update(desk: _Desk, row: _Row) -> Doc:
        doc = desk.state.get("hubspot", "contact", row.key)
        if doc is None or doc.body.get("archived"):
            raise _RowFault(MISSING, category="OBJECT_NOT_FOUND", context={"ids": [row.key]})
        return desk.update(doc, row)

    return _write(call, rows, update)


def upsert_contacts(call: Call) -> Response:
    """POST batch/upsert by email; each result says whether the contact is new."""
    inputs = _inputs(call.json())
    if any(input.get("idProperty") != "email" for input in inputs):
        raise Refusal(400, "Unable to perform update/upsert by non-unique 0-1 property")
    rows = [_row(input, key=_id_of(input).lower()) for input in inputs]
    _no_twice(row.key for row in rows)
    created: set[str] = set()

    def upsert(desk: _Desk, row: _Row) -> Doc:
        doc = desk.holder(row.key)
        if doc is not None:
            return desk.update(doc, row)
        new = desk.create(row)
        created.add(new.id)
        return new

    return _write(call, rows, upsert, mark=lambda doc: {"new": doc.id in created})


def patch_contact(call: Call) -> Response:
    """PATCH of one contact, by id or by idProperty=email."""
    row = _row(call.json(), key=call.path["id"])
    with call.state.writing():
        doc = find(call)
        if doc is None:
            raise Refusal(404, "resource not found", category="OBJECT_NOT_FOUND")
        try:
            kept = _Desk(call.state, [row]).update(doc, row)
        except _RowFault as fault:
            raise fault.refusal() from fault
    return JSONResponse(view(kept, {*_SHOWN, *row.properties}))


def _write(
    call: Call,
    rows: list[_Row],
    act: Callable[[_Desk, _Row], Doc],
    *,
    status: int = 200,
    mark: Callable[[Doc], dict[str, Any]] = lambda _: {},
) -> Response:
    started = time.time()
    traces = {row.trace for row in rows}
    partial = None not in traces and len(traces) == len(rows)
    results, errors = [], []
    with call.state.writing():
        desk = _Desk(call.state, rows)
        for row in rows:
            try:
                kept = act(desk, row)
            except _RowFault as fault:
                if not partial:
                    raise fault.refusal() from fault
                errors.append(fault.entry(row))
            else:
                results.append(view(kept, {*_SHOWN, *row.properties}) | mark(kept))
    return batch(shuffled(results), errors, started=started, status=status)


def _conflict(taken: Doc) -> _RowFault:
    message = f"Contact already exists. Existing ID: {taken.id}"
    return _RowFault(message, category="CONFLICT", context={"existingId": [taken.id]}, status=409)


def _inputs(body: dict[str, Any]) -> list[dict[str, Any]]:
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(input, dict) for input in inputs):
        raise Refusal(400, "inputs must be a list of objects")
    whole(len(inputs), name="inputs", most=MOST)
    return inputs


def _row(input: dict[str, Any], *, key: str) -> _Row:
    given = input.get("properties")
    if not isinstance(given, dict):
        raise Refusal(400, "properties must be an object")
    trace = input.get("objectWriteTraceId")
    return _Row(
        key, None if trace is None else str(trace), {name: _text(value) for name, value in given.items()}
    )


def _text(value: Any) -> str:
    """Values are kept as text; null clears, as "" does (the vendor does not say: the stricter reading)."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _id_of(input: dict[str, Any]) -> str:
    if not input.get("id"):
        raise Refusal(400, "every input needs an id")
    return str(input["id"])


def _email_of(input: dict[str, Any]) -> str:
    given = input.get("properties")
    return str(given.get("email") or "").lower() if isinstance(given, dict) else ""


def _no_twice(keys: Iterable[str]) -> None:
    listed = sorted(key for key, times in Counter(keys).items() if times > 1)
    if listed:
        message = f"Duplicate IDs found in batch input: [{', '.join(listed)}]. IDs must be unique"
        raise Refusal(400, message, context={"ids": listed})
