"""Olist's leads as documents of the sandbox's Meta and Mailchimp, and as a CSV of web-form leads.

Spend is simulated: Olist published none. Ids, e-mail addresses and URLs are invented as well.
"""

from __future__ import annotations

import csv
import hashlib
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from connectors.sandbox.accounts import MAILCHIMP_LIST, META_ACCOUNT, META_FORM, META_PAGE, META_TOKEN
from connectors.sandbox.olist_data import CURRENCY, MAILCHIMP_ORIGIN, META_ORIGINS, ZONE, ZONE_NAME, Lead
from connectors.sandbox.olist_shop import money
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
        "created_time": _meta_local(opened),
    }
    page = {"id": META_PAGE, "name": "Olist", "access_token": f"{META_TOKEN}-of-the-page"}
    return {
        "account": [_doc(META_ACCOUNT, account, opened)],
        "page": [_doc(META_PAGE, page, opened)],
        "form": [_doc(META_FORM, _form(leads, opened), opened, parent=META_PAGE)],
        "campaign": [
            _doc(
                str(_FIRST_CAMPAIGN + place),
                _meta_campaign(name, place, first[name]),
                first[name],
                parent=META_ACCOUNT,
            )
            for name, place in places.items()
        ],
        "lead": [
            _doc(str(number), _meta_lead(number, lead, places[lead.campaign]), lead.at, parent=META_FORM)
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
        _doc(
            _hex10(name),
            _mailchimp_campaign(number, name, first[name] - _SEND_BEFORE_CLICK, recipients[name]),
            first[name] - _SEND_BEFORE_CLICK,
        )
        for number, name in enumerate(sorted(first), start=1)
    ]
    return {
        "list": [_doc(MAILCHIMP_LIST, _list(opened, len(leads), len(campaigns)), opened)],
        "campaign": campaigns,
        "member": [
            _doc(
                f"{MAILCHIMP_LIST}:{_md5(lead.email)}", _member(number, lead), lead.at, parent=MAILCHIMP_LIST
            )
            for number, lead in enumerate(leads, start=1)
        ],
        "activity": [
            _doc(
                f"{_hex10(lead.campaign)}:{_md5(lead.email)}",
                _activity(lead),
                lead.at,
                parent=_hex10(lead.campaign),
            )
            for lead in leads
        ],
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


def _doc(id: str, body: dict[str, Any], at: datetime, *, parent: str = "") -> Doc:
    return Doc(id, body, at=at.timestamp(), changed=at.timestamp(), parent=parent)


def _meta_utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S%z")


def _meta_local(moment: datetime) -> str:
    return moment.astimezone(ZONE).strftime("%Y-%m-%dT%H:%M:%S%z")


def _form(leads: tuple[Lead, ...], opened: datetime) -> dict[str, Any]:
    return {
        "id": META_FORM,
        "name": "Venda na Olist",
        "status": "ACTIVE",
        "locale": "pt_BR",
        "leads_count": len(leads),
        "organic_leads_count": 0,
        "expired_leads_count": 0,
        "created_time": _meta_utc(opened),
        "questions": [{"id": "1001", "key": "email", "label": "E-mail", "type": "EMAIL"}],
        "privacy_policy_url": "https://shop.example/privacy",
    }


def _meta_campaign(name: str, place: int, started: datetime) -> dict[str, Any]:
    return {
        "id": str(_FIRST_CAMPAIGN + place),
        "account_id": META_ACCOUNT.removeprefix("act_"),
        "name": name,
        "objective": "OUTCOME_LEADS",
        "buying_type": "AUCTION",
        "status": "ACTIVE",
        "configured_status": "ACTIVE",
        "effective_status": "ACTIVE",
        "created_time": _meta_local(started),
        "start_time": _meta_local(started),
        "updated_time": _meta_local(started),
    }


def _ad(name: str, place: int) -> dict[str, str]:
    """The names and ids that a lead and a row of insights share: one ad set and one ad a campaign."""
    return {
        "ad_id": str(_FIRST_AD + place),
        "ad_name": f"{name} ad",
        "adset_id": str(_FIRST_ADSET + place),
        "adset_name": f"{name} ad set",
        "campaign_id": str(_FIRST_CAMPAIGN + place),
        "campaign_name": name,
    }


def _meta_lead(number: int, lead: Lead, place: int) -> dict[str, Any]:
    return {
        "id": str(number),
        "created_time": _meta_utc(lead.at),
        **_ad(lead.campaign, place),
        "form_id": META_FORM,
        "is_organic": False,
        "platform": "fb",
        "field_data": [{"name": "email", "values": [lead.email]}],
    }


def _insights(leads: tuple[Lead, ...], places: Mapping[str, int], seed: int) -> Iterator[Doc]:
    """Simulated spend, impressions and clicks: a row for each campaign and day that brought leads."""
    account = META_ACCOUNT.removeprefix("act_")
    for (day, name), count in sorted(Counter((lead.day, lead.campaign) for lead in leads).items()):
        # One generator a row, so that a row does not depend on the others.
        chance = random.Random(f"{seed}|{day}|{name}")  # noqa: S311
        spend = sum(chance.randint(*_SPEND_PER_LEAD) for _ in range(count))
        clicks = sum(chance.randint(5, 25) for _ in range(count))
        impressions = clicks * chance.randint(40, 120)
        body = {
            "account_id": account,
            "account_currency": CURRENCY,
            **_ad(name, places[name]),
            "spend": money(spend),
            "impressions": str(impressions),
            "clicks": str(clicks),
            "reach": str(impressions * 2 // 3),
            "date_start": day.isoformat(),
            "date_stop": day.isoformat(),
        }
        yield _doc(f"{day}|{account}|{body['ad_id']}", body, _midnight_utc(day), parent=META_ACCOUNT)


def _midnight_utc(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")


def _md5(text: str) -> str:
    return hashlib.md5(text.lower().encode(), usedforsecurity=False).hexdigest()


def _hex10(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _list(opened: datetime, members: int, campaigns: int) -> dict[str, Any]:
    return {
        "id": MAILCHIMP_LIST,
        "web_id": 1,
        "name": "Olist",
        "permission_reminder": "You signed up on our page for sellers.",
        "date_created": _iso(opened),
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


def _member(number: int, lead: Lead) -> dict[str, Any]:
    signed_up = _iso(lead.at)
    return {
        "id": _md5(lead.email),
        "email_address": lead.email,
        "unique_email_id": _hex10(lead.email),
        "contact_id": _md5(f"contact {lead.id}"),
        "full_name": "",
        "web_id": number,
        "email_type": "html",
        "status": "subscribed",
        "consents_to_one_to_one_messaging": True,
        "merge_fields": {"FNAME": "", "LNAME": ""},
        "interests": {},
        "stats": {"avg_open_rate": 0, "avg_click_rate": 1},
        "ip_signup": "",
        "timestamp_signup": signed_up,
        "ip_opt": "",
        "timestamp_opt": signed_up,
        "member_rating": 2,
        "last_changed": signed_up,
        "language": "pt",
        "vip": False,
        "email_client": "",
        "location": {
            "latitude": 0,
            "longitude": 0,
            "gmtoff": 0,
            "dstoff": 0,
            "country_code": "",
            "timezone": "",
            "region": "",
        },
        "source": "Embed Form",
        "tags_count": 0,
        "tags": [],
        "list_id": MAILCHIMP_LIST,
    }


def _mailchimp_campaign(number: int, name: str, sent: datetime, recipients: int) -> dict[str, Any]:
    return {
        "id": _hex10(name),
        "web_id": number,
        "type": "regular",
        "create_time": _iso(sent - timedelta(hours=1)),
        "archive_url": "",
        "status": "sent",
        "emails_sent": recipients,
        "send_time": _iso(sent),
        "content_type": "template",
        "recipients": {
            "list_id": MAILCHIMP_LIST,
            "list_is_active": True,
            "list_name": "Olist",
            "segment_text": "",
            "recipient_count": recipients,
        },
        "settings": {"title": name, "subject_line": "Venda na Olist", "from_name": "Olist", "to_name": ""},
        "tracking": {"opens": True, "html_clicks": True, "text_clicks": False, "google_analytics": ""},
        "delivery_status": {"enabled": False},
    }


def _activity(lead: Lead) -> dict[str, Any]:
    """What one recipient did: a click that led to the page where he or she signed up."""
    url = f"https://shop.example/lp/{lead.landing_page[:8]}"
    return {
        "campaign_id": _hex10(lead.campaign),
        "list_id": MAILCHIMP_LIST,
        "list_is_active": True,
        "email_id": _md5(lead.email),
        "email_address": lead.email,
        "activity": [{"action": "click", "timestamp": _iso(lead.at), "url": url, "ip": "192.0.2.1"}],
    }
