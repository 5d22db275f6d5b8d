"""The simulated HubSpot's contacts as they are read: one, a list, a batch, their history."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

from starlette.responses import JSONResponse, Response

from connectors.sandbox.hubspot_wire import Call, Refusal, batch, iso, row_error, whole
from connectors.sandbox.state import Doc, State

ALWAYS = ("createdate", "lastmodifieddate", "hs_object_id")
BY_DEFAULT = (*ALWAYS, "email", "firstname", "lastname")
MOST_READ, MOST_READ_WITH_HISTORY = 100, 50
MOST_LISTED, MOST_LISTED_WITH_HISTORY = 100, 50
MISSING = "Could not get some CONTACT objects, they may be deleted or not exist. Check that ids are valid."


def prepare(state: State) -> None:
    """Index the contacts' e-mails, which an upsert looks for."""
    with state.writing() as db:
        db.execute(
            "CREATE INDEX IF NOT EXISTS hubspot_email ON docs (lower(json_extract(body, '$.properties.email')))"
            " WHERE vendor='hubspot' AND kind='contact'"
        )
        db.execute(
            "CREATE INDEX IF NOT EXISTS hubspot_emails"
            " ON docs (json_extract(body, '$.properties.hs_additional_emails'))"
            " WHERE vendor='hubspot' AND kind='contact'"
            " AND json_extract(body, '$.properties.hs_additional_emails') <> ''"
        )


def by_email(state: State, emails: Sequence[str]) -> dict[str, Doc]:
    """Contacts that hold one of these lower-case addresses, as their own or an additional one; not archived."""
    with state.writing() as db:
        own = db.execute(
            "SELECT id FROM docs INDEXED BY hubspot_email WHERE vendor='hubspot' AND kind='contact'"
            " AND lower(json_extract(body, '$.properties.email')) IN (SELECT value FROM json_each(?))",
            (json.dumps(emails),),
        ).fetchall()
        more = db.execute(
            "SELECT id FROM docs INDEXED BY hubspot_emails WHERE vendor='hubspot' AND kind='contact'"
            " AND json_extract(body, '$.properties.hs_additional_emails') <> ''"
        ).fetchall()
        docs = state.get_many("hubspot", "contact", [row[0] for row in own + more])
    wanted, found = set(emails), dict[str, Doc]()
    for doc in docs.values():
        if not doc.body.get("archived"):
            found |= dict.fromkeys(addresses(doc) & wanted, doc)
    return found


def addresses(doc: Doc) -> set[str]:
    """All of a contact's addresses in lower case."""
    kept = doc.body["properties"]
    more = (kept.get("hs_additional_emails") or "").split(";")
    return {email.lower() for email in (kept.get("email") or "", *more) if email}


def view(doc: Doc, names: Iterable[str], history: Iterable[str] = ()) -> dict[str, Any]:
    """A contact with the properties asked for (the usual ones when none are), null where it has none."""
    kept = stamped(doc)
    shown = {name: kept.get(name) for name in sorted({*ALWAYS, *(list(names) or BY_DEFAULT)})}
    answer: dict[str, Any] = {"id": doc.id, "properties": shown}
    asked = list(history)
    if asked:
        logged = doc.body.get("history", {})
        answer["propertiesWithHistory"] = {name: logged[name] for name in asked if logged.get(name)}
    answer |= {
        "createdAt": kept["createdate"],
        "updatedAt": kept["lastmodifieddate"],
        "archived": bool(doc.body.get("archived")),
    }
    if answer["archived"]:
        answer["archivedAt"] = doc.body.get("archivedAt", kept["lastmodifieddate"])
    return answer


def stamped(doc: Doc) -> dict[str, str | None]:
    """All properties, the three the vendor sets among them."""
    kept: dict[str, str | None] = doc.body["properties"]
    own = {"createdate": iso(doc.at), "lastmodifieddate": iso(doc.changed), "hs_object_id": doc.id}
    return kept | {name: kept.get(name) or value for name, value in own.items()}


def list_contacts(call: Call) -> Response:
    """A page by ascending id; the cursor is the id the next page starts with."""
    history = call.names("propertiesWithHistory")
    limit = call.whole("limit", default=10, most=MOST_LISTED_WITH_HISTORY if history else MOST_LISTED)
    after = call.text("after", "0")
    if not (after.isascii() and after.isdigit()):
        raise Refusal(400, f'Cannot deserialize value of type `long` from String "{after}"')
    archived = call.text("archived", "false") == "true"
    found: list[Doc] = []
    start = int(after) - 1
    while len(found) <= limit:
        page, _ = call.state.select("hubspot", "contact", after_number=start, limit=limit + 1)
        found += [doc for doc in page if bool(doc.body.get("archived")) == archived]
        if len(page) <= limit:
            break
        start = page[-1].number or 0
    names = call.names("properties")
    body: dict[str, Any] = {"results": [view(doc, names, history) for doc in found[:limit]]}
    if len(found) > limit:
        cursor = found[limit].id
        body["paging"] = {"next": {"after": cursor, "link": f"?limit={limit}&after={cursor}"}}
    return JSONResponse(body)


def get_contact(call: Call) -> Response:
    doc = find(call)
    if doc is None:
        raise Refusal(404, "resource not found", category="OBJECT_NOT_FOUND")
    return JSONResponse(view(doc, call.names("properties"), call.names("propertiesWithHistory")))


def find(call: Call) -> Doc | None:
    """The contact of the path, by record id or, with idProperty=email, by address; None when archived."""
    key = call.path["id"]
    if call.text("idProperty") == "email":
        return by_email(call.state, [key.lower()]).get(key.lower())
    doc = call.state.get("hubspot", "contact", key)
    return None if doc is None or doc.body.get("archived") else doc


def read_contacts(call: Call) -> Response:
    """Rows come in no order worth relying on; ids that are not there are one error of a 207."""
    started, body = time.time(), call.json()
    history = _texts(body, "propertiesWithHistory")
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(row, dict) and row.get("id") for row in inputs):
        raise Refusal(400, "inputs must be a list of objects with an id")
    whole(len(inputs), name="inputs", most=MOST_READ_WITH_HISTORY if history else MOST_READ)
    keys = [str(row["id"]) for row in inputs]
    if body.get("idProperty") == "email":
        keys = [key.lower() for key in keys]
        found = by_email(call.state, keys)
    else:
        found = call.state.get_many("hubspot", "contact", keys)
        found = {key: doc for key, doc in found.items() if not doc.body.get("archived")}
    unique = list({found[key].id: found[key] for key in keys if key in found}.values())
    missing = [key for key in dict.fromkeys(keys) if key not in found]
    names = _texts(body, "properties")
    return batch(
        shuffled([view(doc, names, history) for doc in unique]),
        [row_error(MISSING, category="OBJECT_NOT_FOUND", context={"ids": missing})] if missing else [],
        started=started,
    )


def shuffled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Never the order they came in (two or more), and the same in each run."""
    return [*rows[1::2], *rows[::2]]


def _texts(body: dict[str, Any], name: str) -> list[str]:
    given = body.get(name) or []
    if not isinstance(given, list) or not all(isinstance(value, str) for value in given):
        raise Refusal(400, f"{name} must be a list of names")
    return given
