"""What sales does in a change: it accepts a new contact and rejects one it had."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from connectors.sandbox import hubspot_properties
from connectors.sandbox import marketing_documents as marketing
from connectors.sandbox.change_lines import masked
from connectors.sandbox.state import Doc, State

ACCEPTED, REJECTED = "salesqualifiedlead", "UNQUALIFIED"
REASON = "rejection_reason"
REASONS = ("no budget", "wrong product", "not reachable", "competitor")
_RECENT = 400
_CLOSED = ("UNQUALIFIED", "BAD_TIMING")
_BEFORE = timedelta(seconds=3)
"""How long before `now` the contact was made, or its status set, so that the order of the entries is plain."""


def change_contacts(state: State, *, now: datetime, chance: random.Random, email: str) -> list[str]:
    """Accept a new contact with this address and reject an existing one; a line each.

    Raises
    ------
    ValueError
        There is no salesperson, or nobody is left to reject.
    """
    owners = [doc.body for doc in state.select("hubspot", "owner")[0] if doc.body.get("userId")]
    if not owners:
        raise ValueError("the sandbox's CRM has no owner: fill it first")
    open_ones = [doc for doc in _newest(state) if _is_open(doc)]
    if not open_ones:
        raise ValueError("the sandbox's CRM has no contact left to reject: fill it afresh")
    rejected = chance.choice(open_ones)
    return [
        _accept(state, now=now, email=email, owner=chance.choice(owners)),
        _reject(
            state, rejected, now=now, reason=chance.choice(REASONS), user=chance.choice(owners)["userId"]
        ),
    ]


def _accept(state: State, *, now: datetime, email: str, owner: dict[str, str]) -> str:
    number = state.next_number("hubspot", "contact")
    made = now - _BEFORE
    user = int(owner["userId"])
    stages = [
        marketing.Change("lead", made, user, "CRM_UI"),
        marketing.Change("marketingqualifiedlead", made + _BEFORE / 3, user, "CRM_UI"),
        marketing.Change(ACCEPTED, now, user, "CRM_UI"),
    ]
    properties = {"email": email, "hubspot_owner_id": owner["id"]}
    contact = marketing.contact(number, made, properties, {"lifecyclestage": stages})
    state.put("hubspot", "contact", [contact])
    return f"contact {number}: new, {ACCEPTED} by user {user}, {masked(email)}"


def _reject(state: State, contact: Doc, *, now: datetime, reason: str, user: str) -> str:
    changes = {"hs_lead_status": marketing.Change(REJECTED, now - _BEFORE, int(user), "CRM_UI")}
    said = ""
    if REASON in hubspot_properties.definitions(state):
        changes[REASON] = marketing.Change(reason, now, int(user), "CRM_UI")
        said = f" ({reason})"
    else:
        changes["hs_lead_status"] = marketing.Change(REJECTED, now, int(user), "CRM_UI")
    state.put("hubspot", "contact", [marketing.changed_contact(contact, changes)])
    return f"contact {contact.id}: {REJECTED}{said} by user {user}"


def _newest(state: State) -> list[Doc]:
    return state.select("hubspot", "contact", order="at", descending=True, limit=_RECENT)[0]


def _is_open(contact: Doc) -> bool:
    """Whether sales may still decide on a contact."""
    properties = contact.body["properties"]
    return (
        not contact.body.get("archived")
        and properties.get("lifecyclestage") != "customer"
        and properties.get("hs_lead_status") not in _CLOSED
    )
