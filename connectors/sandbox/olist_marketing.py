"""Olist's leads as documents of the sandbox's Meta and Mailchimp, and as a CSV of web-form leads.

Spend is simulated: Olist published none. Ids, e-mail addresses and URLs are invented as well.
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from connectors.sandbox import marketing_documents as marketing
from connectors.sandbox.accounts import MAILCHIMP_LIST, META_ACCOUNT, META_FORM, META_PAGE, META_TOKEN
from connectors.sandbox.olist_data import CURRENCY, MAILCHIMP_ORIGIN, META_ORIGINS, ZONE, ZONE_NAME, Lead
from connectors.sandbox.shop_documents import with_fields
from connectors.sandbox.state import Doc

LEADS_CSV_COLUMNS = ("lead_id", "email", "created", "origin", "landing_page", "campaign")
_FIRST_CAMPAIGN = 120_200_000_300_001
_FIRST_ADSET = 120_200_000_400_001
_FIRST_AD = 120_200_000_500_001
_FIRST_LEAD = 700_000_000_000_001
_SPEND_PER_LEAD = (800, 2500)  # cents, simulated
_SEND_BEFORE_CLICK = timedelta(minutes=1)


def of_meta(leads: tuple[Lead, ...]) -> tuple[Lead, ...]:
    return tuple(lead for lead in leads if lead.origin in META_ORIGINS)


def of_mailchimp(leads: tuple[Lead, ...]) -> tuple[Lead, ...]:
    return tuple(lead for lead in leads if lead.origin == MAILCHIMP_ORIGIN)


def of_the_web_form(leads: tuple[Lead, ...]) -> tuple[Lead, ...]:
    return tuple(
        lead for lead in leads if lead.origin not in META_ORIGINS and lead.origin != MAILCHIMP_ORIGIN
    )


def meta_docs(leads: tuple[Lead, ...], *, seed: int) -> dict[str, list[Doc]]:
    """Documents by kind for the leads of Meta: one account, page and form, a campaign per landing page."""
    first = _first_contacts(leads)
    places = {name: place for place, name in enumerate(sorted(first))}
    opened = min(first.values(), default=datetime(2017, 1, 1, tzinfo=UTC))
    account = {
        "id": META_ACCOUNT,
        "account_id": META_ACCOUNT.removeprefix("act_"),
        "account_status": 1,
        "name": "Olist (simulated spend)",
        "currency": CURRENCY,
        "timezone_name": ZONE_NAME,
        "timezone_offset_hours_utc": -3,
        "created_time": marketing.meta_time(opened, ZONE),
    }
    page = {"id": META_PAGE, "name": "Olist", "access_token": f"{META_TOKEN}-of-the-page"}
    return {
        "account": [marketing.doc(META_ACCOUNT, account, opened)],
        "page": [marketing.doc(META_PAGE, page, opened)],
        "form": [marketing.doc(META_FORM, _form(leads, opened), opened, parent=META_PAGE)],
        "campaign": [
            marketing.meta_campaign(_FIRST_CAMPAIGN + place, name, first[name], ZONE)
            for name, place in places.items()
        ],
        "lead": [
            _meta_lead(number, lead, places[lead.campaign])
            for number, lead in enumerate(leads, start=_FIRST_LEAD)
        ],
        "insight": list(_insights(leads, places, seed)),
    }


def mailchimp_docs(leads: tuple[Lead, ...]) -> dict[str, list[Doc]]:
    """Documents by kind for the leads of Mailchimp: a member, and one click at the time of the sign-up."""
    first = _first_contacts(leads)
    recipients = Counter(lead.campaign for lead in leads)
    opened = min(first.values(), default=datetime(2017, 1, 1, tzinfo=UTC)) - timedelta(days=1)
    campaigns = [
        _mailing(number, name, first[name] - _SEND_BEFORE_CLICK, recipients[name])
        for number, name in enumerate(sorted(first), start=1)
    ]
    return {
        "list": [marketing.doc(MAILCHIMP_LIST, _list(opened, len(leads), len(campaigns)), opened)],
        "campaign": campaigns,
        "member": [_member(number, lead) for number, lead in enumerate(leads, start=1)],
        "activity": [_click(lead) for lead in leads],
    }


def write_leads_csv(leads: tuple[Lead, ...], path: Path) -> None:
    """Write the web form's leads; `created` is local to São Paulo, `campaign` empty where none is known."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(LEADS_CSV_COLUMNS)
        for lead in leads:
            created = f"{lead.day.isoformat()} 00:00:00"
            writer.writerow([lead.id, lead.email, created, lead.origin, lead.landing_page, lead.campaign])


def _first_contacts(leads: tuple[Lead, ...]) -> dict[str, datetime]:
    """The first contact of each campaign (UTC)."""
    first: dict[str, datetime] = {}
    for lead in leads:
        first[lead.campaign] = min(lead.at, first.get(lead.campaign, lead.at))
    return first


def _form(leads: tuple[Lead, ...], opened: datetime) -> dict[str, Any]:
    return {
        "id": META_FORM,
        "name": "Venda na Olist",
        "status": "ACTIVE",
        "locale": "pt_BR",
        "leads_count": len(leads),
        "organic_leads_count": 0,
        "expired_leads_count": 0,
        "created_time": marketing.meta_utc(opened),
        "questions": [{"id": "1001", "key": "email", "label": "E-mail", "type": "EMAIL"}],
        "privacy_policy_url": "https://shop.example/privacy",
    }


def _ad(name: str, place: int) -> marketing.Ad:
    """One ad set and one ad a campaign."""
    return marketing.Ad(
        id=_FIRST_AD + place,
        name=f"{name} ad",
        adset=_FIRST_ADSET + place,
        campaign=_FIRST_CAMPAIGN + place,
        campaign_name=name,
    )


def _meta_lead(number: int, lead: Lead, place: int) -> Doc:
    """All came on Facebook, and the form asked for no consent."""
    answers = {"email": lead.email}
    doc = marketing.meta_lead(number, lead.at, _ad(lead.campaign, place), answers, consent=None)
    return with_fields(doc, platform="fb")


def _insights(leads: tuple[Lead, ...], places: Mapping[str, int], seed: int) -> Iterator[Doc]:
    """Simulated spend, impressions and clicks: a row for each campaign and day that brought leads."""
    for (day, name), count in sorted(Counter((lead.day, lead.campaign) for lead in leads).items()):
        # One generator a row, so that a row does not depend on the others.
        chance = random.Random(f"{seed}|{day}|{name}")  # noqa: S311
        spend = sum(chance.randint(*_SPEND_PER_LEAD) for _ in range(count))
        clicks = sum(chance.randint(5, 25) for _ in range(count))
        impressions = clicks * chance.randint(40, 120)
        yield marketing.insight(
            day, _ad(name, places[name]), CURRENCY, spend=spend, impressions=impressions, clicks=clicks
        )


def _list(opened: datetime, members: int, campaigns: int) -> dict[str, Any]:
    return {
        "id": MAILCHIMP_LIST,
        "web_id": 1,
        "name": "Olist",
        "permission_reminder": "You signed up on our page for sellers.",
        "date_created": marketing.mailchimp_time(opened),
        "list_rating": 0,
        "email_type_option": False,
        "visibility": "prv",
        "double_optin": False,
        "has_welcome": False,
        "marketing_permissions": False,
        "modules": [],
        "stats": {
            "member_count": members,
            "unsubscribe_count": 0,
            "cleaned_count": 0,
            "campaign_count": campaigns,
            "merge_field_count": 2,
        },
    }


def _member(number: int, lead: Lead) -> Doc:
    return with_fields(
        marketing.member(lead.email, lead.at, number=number),
        contact_id=marketing.email_id(f"contact {lead.id}"),
        merge_fields={"FNAME": "", "LNAME": ""},
        stats={"avg_open_rate": 0, "avg_click_rate": 1},
        ip_signup="",
        ip_opt="",
        language="pt",
    )


def _mailing(number: int, name: str, sent: datetime, recipients: int) -> Doc:
    doc = marketing.mailing(name, sent, number=number, recipients=recipients, list_name="Olist")
    return with_fields(
        doc,
        create_time=marketing.mailchimp_time(sent - timedelta(hours=1)),
        settings={**doc.body["settings"], "subject_line": "Venda na Olist"},
        tracking={**doc.body["tracking"], "google_analytics": ""},
    )


def _click(lead: Lead) -> Doc:
    """What one recipient did: a click that led to the page where he or she signed up."""
    url = f"{marketing.SITE}/lp/{lead.landing_page[:8]}"
    click = {**marketing.clicked(lead.at, url), "ip": "192.0.2.1"}
    return marketing.activity(marketing.short_id(lead.campaign), lead.email, [click], sent=lead.at)
