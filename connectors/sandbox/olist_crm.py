"""Olist's closed deals as documents of the sandbox's HubSpot: what sales accepted, by whom and when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from connectors.sandbox.olist_data import Deal
from connectors.sandbox.state import Doc

STAGE = "salesqualifiedlead"
FOUND_BY = "found_by"
# Owners, users and contacts are numbered apart, so that one taken for another is not found.
_FIRST_OWNER = 1_000_000_001
_FIRST_USER = 2_000_000_001
_FIRST_CONTACT = 10_000_000_001
_BEFORE_ALL_DEALS = datetime(2017, 1, 1, tzinfo=UTC)


def hubspot_docs(deals: tuple[Deal, ...]) -> dict[str, list[Doc]]:
    """Documents by kind: a contact a deal, an owner for each who closed (sr) or found (sdr) one.

    `found_by` of a contact holds Olist's id of the sdr.
    """
    sellers = {deal.sr for deal in deals}
    people = sorted(sellers | {deal.sdr for deal in deals})
    places = {person: place for place, person in enumerate(people)}
    opened = min((deal.won for deal in deals), default=_BEFORE_ALL_DEALS)
    return {
        "owner": [
            _doc(
                str(_FIRST_OWNER + place),
                _owner(place, person, "Sales" if person in sellers else "Finder", opened),
                opened,
            )
            for person, place in places.items()
        ],
        "contact": [
            _doc(str(number), _contact(number, deal, places[deal.sr]), deal.won)
            for number, deal in enumerate(deals, start=_FIRST_CONTACT)
        ],
    }


def _doc(id: str, body: dict[str, Any], at: datetime) -> Doc:
    return Doc(id, body, at=at.timestamp(), changed=at.timestamp())


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _owner(place: int, person: str, role: str, opened: datetime) -> dict[str, Any]:
    user = _FIRST_USER + place
    return {
        "id": str(_FIRST_OWNER + place),
        "email": f"{person}@example.com",
        "type": "PERSON",
        "firstName": role,
        "lastName": person[:8],
        "userId": user,
        "userIdIncludingInactive": user,
        "createdAt": _iso(opened),
        "updatedAt": _iso(opened),
        "archived": False,
        "teams": [],
    }


def _contact(number: int, deal: Deal, sr: int) -> dict[str, Any]:
    won = _iso(deal.won)
    user = _FIRST_USER + sr
    return {
        "properties": {
            "hs_object_id": str(number),
            "email": f"{deal.lead}@example.com",
            "lifecyclestage": STAGE,
            "hubspot_owner_id": str(_FIRST_OWNER + sr),
            FOUND_BY: deal.sdr,
            "createdate": won,
            "lastmodifieddate": won,
        },
        "history": {
            "lifecyclestage": [
                {
                    "value": STAGE,
                    "timestamp": won,
                    "sourceType": "CRM_UI",
                    "sourceId": f"userId:{user}",
                    "updatedByUserId": user,
                }
            ]
        },
        "archived": False,
    }
