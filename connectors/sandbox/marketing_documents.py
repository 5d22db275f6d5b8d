"""Leads, spend, members, mailings and CRM contacts in the form in which Meta, Mailchimp and HubSpot show them.

Times are aware; money is in integer minor units until it is decimal text in a document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

from connectors.sandbox.accounts import MAILCHIMP_LIST, META_ACCOUNT, META_FORM
from connectors.sandbox.shop_documents import money
from connectors.sandbox.state import Doc

SITE = "https://shop.example"


@dataclass(frozen=True, slots=True)
class Ad:
    """One ad with its ad set and campaign."""

    id: int
    name: str
    adset: int
    campaign: int
    campaign_name: str

    def names(self) -> dict[str, str]:
        """What a lead and a row of insights share."""
        return {
            "ad_id": str(self.id),
            "ad_name": self.name,
            "adset_id": str(self.adset),
            "adset_name": f"{self.campaign_name} ad set",
            "campaign_id": str(self.campaign),
            "campaign_name": self.campaign_name,
        }


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a contact property's history. `user` 0 is not a person."""

    value: str
    at: datetime
    user: int = 0
    source: str = "AUTOMATION_PLATFORM"


def doc(
    id: str, body: dict[str, Any], at: datetime, *, changed: datetime | None = None, parent: str = ""
) -> Doc:
    return Doc(id, body, at=at.timestamp(), changed=(changed or at).timestamp(), parent=parent)


def meta_time(moment: datetime, zone: tzinfo) -> str:
    return moment.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S%z")


def meta_utc(moment: datetime) -> str:
    return meta_time(moment, UTC)


def meta_campaign(number: int, name: str, started: datetime, zone: tzinfo) -> Doc:
    stamp = meta_time(started, zone)
    body = {
        "id": str(number),
        "account_id": META_ACCOUNT.removeprefix("act_"),
        "name": name,
        "objective": "OUTCOME_LEADS",
        "buying_type": "AUCTION",
        "status": "ACTIVE",
        "configured_status": "ACTIVE",
        "effective_status": "ACTIVE",
        "created_time": stamp,
        "start_time": stamp,
        "updated_time": stamp,
    }
    return doc(str(number), body, started, parent=META_ACCOUNT)


def meta_lead(
    number: int, at: datetime, ad: Ad | None, answers: Mapping[str, str], *, consent: bool | None = True
) -> Doc:
    """A lead; without an ad it is organic. `answers` that are empty were not given.

    `consent` is whether the form's box was checked, None where the form has no box.
    """
    body: dict[str, Any] = {
        "id": str(number),
        "created_time": meta_utc(at),
        **(ad.names() if ad else {}),
        "form_id": META_FORM,
        "is_organic": ad is None,
        "platform": "fb" if number % 3 else "ig",
        "field_data": [{"name": name, "values": [text]} for name, text in answers.items() if text],
    }
    if consent is not None:
        box = {"checkbox_key": "consent_email", "is_checked": "1" if consent else ""}
        body["custom_disclaimer_responses"] = [box]
    return doc(str(number), body, at, parent=META_FORM)


def insight_id(day: date, ad: Ad) -> str:
    return f"{day}|{META_ACCOUNT.removeprefix('act_')}|{ad.id}"


@dataclass(frozen=True, slots=True)
class Claim:
    """The purchases that the platform puts down to an ad on a day, clicked and only viewed; minor units."""

    clicked: int = 0
    clicked_minor: int = 0
    viewed: int = 0
    viewed_minor: int = 0

    def fields(self) -> dict[str, Any]:
        """As a row of insights shows it; nothing claimed is no field at all."""
        if not self.clicked + self.viewed:
            return {}
        counts = {"value": str(self.clicked + self.viewed)}
        values = {"value": money(self.clicked_minor + self.viewed_minor)}
        if self.clicked:
            counts |= {"7d_click": str(self.clicked)}
            values |= {"7d_click": money(self.clicked_minor)}
        if self.viewed:
            counts |= {"1d_view": str(self.viewed)}
            values |= {"1d_view": money(self.viewed_minor)}
        return {
            "actions": [
                {"action_type": "link_click", "value": str(7 * (self.clicked + self.viewed))},
                {"action_type": "omni_purchase", **counts},
            ],
            "action_values": [{"action_type": "omni_purchase", **values}],
        }


def insight(
    day: date,
    ad: Ad,
    currency: str,
    *,
    spend: int,
    impressions: int,
    clicks: int,
    claim: Claim | None = None,
) -> Doc:
    """One ad's day; `spend` in minor units."""
    body = {
        "account_id": META_ACCOUNT.removeprefix("act_"),
        "account_currency": currency,
        **ad.names(),
        "spend": money(spend),
        "impressions": str(impressions),
        "clicks": str(clicks),
        "reach": str(impressions * 2 // 3),
        **(claim.fields() if claim else {}),
        "date_start": day.isoformat(),
        "date_stop": day.isoformat(),
    }
    return doc(insight_id(day, ad), body, datetime.combine(day, time(), UTC), parent=META_ACCOUNT)


def mailchimp_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")


def email_id(email: str) -> str:
    """Mailchimp's id of an address: the MD5 of its lower-case text."""
    return hashlib.md5(email.lower().encode(), usedforsecurity=False).hexdigest()


def short_id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def member(
    email: str,
    signed_up: datetime,
    *,
    number: int,
    first: str = "",
    last: str = "",
    phone: str = "",
    status: str = "subscribed",
    source: str = "Embed Form",
    changed: datetime | None = None,
) -> Doc:
    stamp = mailchimp_time(signed_up)
    body = {
        "id": email_id(email),
        "email_address": email,
        "unique_email_id": short_id(email.lower()),
        "contact_id": email_id(f"contact {email}"),
        "full_name": f"{first} {last}".strip(),
        "web_id": number,
        "email_type": "html",
        "status": status,
        "consents_to_one_to_one_messaging": True,
        "merge_fields": {"FNAME": first, "LNAME": last, "PHONE": phone, "ADDRESS": ""},
        "interests": {},
        "stats": {"avg_open_rate": 0, "avg_click_rate": 0},
        "ip_signup": "192.0.2.10",
        "timestamp_signup": stamp,
        "ip_opt": "192.0.2.10",
        "timestamp_opt": stamp,
        "member_rating": 2,
        "last_changed": mailchimp_time(changed or signed_up),
        "language": "pl",
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
        "source": source,
        "tags_count": 0,
        "tags": [],
        "list_id": MAILCHIMP_LIST,
    }
    return doc(f"{MAILCHIMP_LIST}:{email_id(email)}", body, signed_up, changed=changed, parent=MAILCHIMP_LIST)


def mailing(title: str, sent: datetime, *, number: int, recipients: int, list_name: str) -> Doc:
    """A campaign that was sent; its id comes from its title."""
    body = {
        "id": short_id(title),
        "web_id": number,
        "type": "regular",
        "create_time": mailchimp_time(sent - timedelta(hours=3)),
        "archive_url": "",
        "status": "sent",
        "emails_sent": recipients,
        "send_time": mailchimp_time(sent),
        "content_type": "template",
        "recipients": {
            "list_id": MAILCHIMP_LIST,
            "list_is_active": True,
            "list_name": list_name,
            "segment_text": "",
            "recipient_count": recipients,
        },
        "settings": {"title": title, "subject_line": title, "from_name": list_name, "to_name": ""},
        "tracking": {"opens": True, "html_clicks": True, "text_clicks": False, "google_analytics": title},
        "delivery_status": {"enabled": False},
    }
    return doc(short_id(title), body, sent)


def opened(at: datetime) -> dict[str, str]:
    return {"action": "open", "timestamp": mailchimp_time(at), "ip": "192.0.2.20"}


def clicked(at: datetime, url: str) -> dict[str, str]:
    return {"action": "click", "timestamp": mailchimp_time(at), "url": url, "ip": "192.0.2.20"}


def bounced(at: datetime) -> dict[str, str]:
    return {"action": "bounce", "type": "hard", "timestamp": mailchimp_time(at)}


def activity(campaign: str, email: str, actions: Sequence[Mapping[str, str]], *, sent: datetime) -> Doc:
    """What one recipient did with one mailing, in order of time."""
    inner = sorted(actions, key=lambda action: action["timestamp"])
    body = {
        "campaign_id": campaign,
        "list_id": MAILCHIMP_LIST,
        "list_is_active": True,
        "email_id": email_id(email),
        "email_address": email,
        "activity": inner,
    }
    newest = datetime.fromisoformat(inner[-1]["timestamp"]) if inner else sent
    return doc(f"{campaign}:{email_id(email)}", body, sent, changed=newest, parent=campaign)


def unsubscribe(campaign: str, email: str, at: datetime, *, first: str, last: str) -> Doc:
    body = {
        "email_id": email_id(email),
        "email_address": email,
        "merge_fields": {"FNAME": first, "LNAME": last},
        "vip": False,
        "timestamp": mailchimp_time(at),
        "reason": "NORMAL",
        "campaign_id": campaign,
        "list_id": MAILCHIMP_LIST,
        "list_is_active": True,
    }
    return doc(f"{campaign}:{email_id(email)}", body, at, parent=campaign)


def hubspot_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def entry(change: Change) -> dict[str, Any]:
    """One entry of a property's history as the API shows it."""
    shown: dict[str, Any] = {
        "value": change.value,
        "timestamp": hubspot_time(change.at),
        "sourceType": change.source,
    }
    if change.user:
        return shown | {"sourceId": f"userId:{change.user}", "updatedByUserId": change.user}
    return shown | {"sourceId": "enrollmentId:845210;actionExecutionIndex:0"}


def contact(
    number: int,
    created: datetime,
    properties: Mapping[str, str],
    changes: Mapping[str, Sequence[Change]],
) -> Doc:
    """A contact; each of `changes` (oldest first) ends in the property's value now."""
    moments = [created, *(change.at for row in changes.values() for change in row)]
    changed = max(moments)
    body = {
        "properties": {
            "hs_object_id": str(number),
            **{name: value or None for name, value in properties.items()},
            **{name: row[-1].value for name, row in changes.items() if row},
            "createdate": hubspot_time(created),
            "lastmodifieddate": hubspot_time(changed),
        },
        "history": {
            name: [entry(change) for change in reversed(row)] for name, row in changes.items() if row
        },
        "archived": False,
    }
    return doc(str(number), body, created, changed=changed)


def changed_contact(before: Doc, changes: Mapping[str, Change]) -> Doc:
    """The contact after one more change of each named property."""
    latest = max(change.at for change in changes.values())
    properties = {
        **before.body["properties"],
        **{name: change.value for name, change in changes.items()},
        "lastmodifieddate": hubspot_time(latest),
    }
    history = dict(before.body["history"])
    for name, change in changes.items():
        history[name] = [entry(change), *history.get(name, [])][:45]  # the vendor keeps no more
    body = {**before.body, "properties": properties, "history": history}
    return Doc(before.id, body, at=before.at, changed=latest.timestamp(), parent=before.parent)


def owner(number: int, user: int, first: str, last: str, since: datetime, *, left: bool = False) -> Doc:
    body = {
        "id": str(number),
        "email": f"{first}.{last}@shop.example".lower(),
        "type": "PERSON",
        "firstName": first,
        "lastName": last,
        # The user of a person who left is gone; only this name of it stays.
        **({} if left else {"userId": user}),
        "userIdIncludingInactive": user,
        "createdAt": hubspot_time(since),
        "updatedAt": hubspot_time(since),
        "archived": left,
        "teams": [],
    }
    return doc(str(number), body, since)
