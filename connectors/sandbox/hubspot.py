"""The simulated HubSpot: CRM API v3 of contacts, owners and properties, as far as it is documented.

Written from the vendor's documents only; it shares no code with the connector, so that each checks the other.
Where the vendor does not settle something, the stricter reading is taken.
"""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from connectors.sandbox import hubspot_contacts as contacts
from connectors.sandbox import hubspot_properties as properties
from connectors.sandbox import hubspot_write as write
from connectors.sandbox.accounts import HUBSPOT_PORTAL
from connectors.sandbox.hubspot_search import search
from connectors.sandbox.hubspot_wire import Call, Gate, Refusal, endpoint, error
from connectors.sandbox.state import State

CONTACTS = "/crm/v3/objects/contacts"
PROPERTIES = "/crm/v3/properties/contacts"


def app(state: State) -> ASGIApp:
    """The vendor over `state`; limits are counted in memory, for each app by itself."""
    contacts.prepare(state)
    routes = (
        ("GET", "/account-info/v3/details", account),
        ("GET", "/crm/v3/owners", owners),
        ("GET", CONTACTS, contacts.list_contacts),
        ("POST", f"{CONTACTS}/search", search),
        ("POST", f"{CONTACTS}/batch/read", contacts.read_contacts),
        ("POST", f"{CONTACTS}/batch/create", write.create_contacts),
        ("POST", f"{CONTACTS}/batch/update", write.update_contacts),
        ("POST", f"{CONTACTS}/batch/upsert", write.upsert_contacts),
        ("GET", f"{CONTACTS}/{{id}}", contacts.get_contact),
        ("PATCH", f"{CONTACTS}/{{id}}", write.patch_contact),
        ("GET", f"{PROPERTIES}/groups", properties.list_groups),
        ("POST", f"{PROPERTIES}/groups", properties.create_group),
        ("POST", f"{PROPERTIES}/batch/create", properties.create_properties),
        ("GET", PROPERTIES, properties.list_properties),
        ("POST", PROPERTIES, properties.create_property),
        ("GET", f"{PROPERTIES}/{{name}}", properties.get_property),
    )
    inner = Starlette(
        routes=[Route(path, endpoint(state, answer), methods=[method]) for method, path, answer in routes],
        exception_handlers={404: _no_route, 405: _no_route},
    )
    return Gate(inner)


def account(call: Call) -> Response:
    """What a connection test reads."""
    return JSONResponse(
        {
            "portalId": HUBSPOT_PORTAL,
            "accountType": "STANDARD",
            "timeZone": "US/Eastern",
            "companyCurrency": "USD",
            "additionalCurrencies": [],
            "utcOffset": "-05:00",
            "utcOffsetMilliseconds": -18_000_000,
            "uiDomain": "app.hubspot.com",
            "dataHostingLocation": "na1",
        }
    )


def owners(call: Call) -> Response:
    """The people who work there; with archived=true those who left, and only those."""
    limit = call.whole("limit", default=100, most=500)
    after = call.text("after", "0")
    if not (after.isascii() and after.isdigit()):
        raise Refusal(400, f"after {after} is not valid")
    archived, email = call.text("archived", "false") == "true", call.text("email")
    docs, _ = call.state.select("hubspot", "owner")
    found = [
        doc.body
        for doc in docs
        if bool(doc.body.get("archived")) == archived and email in ("", doc.body.get("email"))
    ]
    start = int(after)
    body: dict[str, Any] = {"results": found[start : start + limit]}
    if len(found) > start + limit:
        body["paging"] = {
            "next": {"after": str(start + limit), "link": f"?limit={limit}&after={start + limit}"}
        }
    return JSONResponse(body)


def _no_route(request: Request, problem: Exception) -> Response:
    return JSONResponse(error("resource not found", category="OBJECT_NOT_FOUND"), 404)
