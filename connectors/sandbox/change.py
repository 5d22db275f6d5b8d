"""Makes something happen in the sandbox, so that the next sync has something to bring.

Every record it touches is stamped with the time of the change, which is what incremental reads look at.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from connectors.sandbox import marketing_documents as marketing
from connectors.sandbox import shop_changes
from connectors.sandbox import shop_documents as shop
from connectors.sandbox.accounts import META_ACCOUNT
from connectors.sandbox.state import Doc, State

CRM_STAGE = "salesqualifiedlead"
_BEFORE_SALES = ("lead", "marketingqualifiedlead")
_RECENT = 400
"""How many of the newest records are looked at for one to change."""
_RESTATED_WITHIN = timedelta(days=28)
_SPEND = (2000, 9000)


@dataclass(slots=True)
class _Scene:
    """What one change works with. `lines` collects what was done."""

    state: State
    now: datetime
    chance: random.Random
    shop: shop.Shop
    lines: list[str] = field(default_factory=list)

    @property
    def today(self) -> date:
        return self.now.astimezone(self.shop.zone).date()

    def done(self, line: str) -> None:
        self.lines.append(line)


def change(
    state: Path, *, leads_csv: Path, seed: int | None = None, now: datetime | None = None
) -> list[str]:
    """Make new leads, orders, edits, refunds, CRM decisions and restated spend in a filled sandbox.

    Parameters
    ----------
    state : the sandbox's SQLite file; a server may be running on it
    leads_csv : the web form's file; a line is appended
    seed : what is chosen; None chooses anew each time
    now : the time of all of it, aware; the real time when None

    Returns
    -------
    list of str
        What was done, a line each, with the vendor's ids.

    Raises
    ------
    ValueError
        The sandbox holds nothing to change; then nothing was changed.
    OSError
        `leads_csv` is not there.
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    chance = random.Random(seed)  # noqa: S311
    sandbox = State(state)
    header, number = _web_form(leads_csv)
    with sandbox.writing():
        scene = _Scene(sandbox, moment, chance, _shop_of(sandbox))
        ad = _some_ad(scene)
        leads = [_new_form_lead(scene, ad) for _ in range(2)]
        subscriber = _new_member_with_a_click(scene)
        visitor = _web_lead(scene, number)
        for buyer in (leads[0], subscriber, visitor["email"]):
            _new_order(scene, buyer)
        _new_order(scene, f"stranger.{int(moment.timestamp())}@example.net", from_search=True)
        _changed_orders(scene)
        _sales_decisions(scene, leads[1])
        _spend(scene, ad)
    with leads_csv.open("a", encoding="utf-8", newline="") as file:
        csv.DictWriter(file, header, extrasaction="ignore", lineterminator="\n").writerow(visitor)
    return scene.lines


def _shop_of(state: State) -> shop.Shop:
    """The shop's zone, currency and rate of tax, as its documents have them."""
    orders, _ = state.select("woocommerce", "order", order="at", descending=True, limit=1)
    account = state.get("meta", "account", META_ACCOUNT)
    zone = state.get("woocommerce", "setting", "timezone")
    if not orders or account is None or zone is None:
        raise ValueError("the sandbox is empty: fill it first")
    taxes = orders[0].body["tax_lines"]
    return shop.Shop(
        currency=account.body["currency"],
        zone=ZoneInfo(zone.body["value"]),
        vat=int(taxes[0]["rate_percent"]) if taxes else 0,
    )


def _recent(scene: _Scene, vendor: str, kind: str, *, by_change: bool = False) -> list[Doc]:
    docs, _ = scene.state.select(
        vendor, kind, order="changed" if by_change else "at", descending=True, limit=_RECENT
    )
    return docs


def _some_ad(scene: _Scene) -> marketing.Ad:
    """An ad that brought one of the newest leads."""
    bodies = [doc.body for doc in _recent(scene, "meta", "lead") if doc.body.get("ad_id")]
    if not bodies:
        raise ValueError("the sandbox has no lead of an ad: fill it first")
    body = scene.chance.choice(bodies)
    return marketing.Ad(
        id=int(body["ad_id"]),
        name=body["ad_name"],
        adset=int(body["adset_id"]),
        campaign=int(body["campaign_id"]),
        campaign_name=body["campaign_name"],
    )


def _new_form_lead(scene: _Scene, ad: marketing.Ad) -> str:
    number = scene.state.next_number("meta", "lead")
    email = f"lead.{number}@example.com"
    scene.state.put("meta", "lead", [marketing.meta_lead(number, scene.now, ad, {"email": email})])
    scene.done(f"meta: new lead {number} of campaign {ad.campaign_name}, {email}")
    return email


def _new_member_with_a_click(scene: _Scene) -> str:
    mailings = _recent(scene, "mailchimp", "campaign")
    if not mailings:
        raise ValueError("the sandbox has no mailing: fill it first")
    sent = mailings[0]
    number = scene.state.select("mailchimp", "member", limit=0)[1] + 1
    email = f"member.{number}@example.com"
    click = marketing.clicked(scene.now, f"{marketing.SITE}/news")
    body = {**sent.body, "emails_sent": sent.body["emails_sent"] + 1}
    scene.state.put("mailchimp", "member", [marketing.member(email, scene.now, number=number)])
    scene.state.put("mailchimp", "activity", [marketing.activity(sent.id, email, [click], sent=scene.now)])
    scene.state.put("mailchimp", "campaign", [Doc(sent.id, body, at=sent.at, changed=sent.changed)])
    scene.done(f"mailchimp: new member {email}, clicked in {sent.body['settings']['title']}")
    return email


def _web_form(path: Path) -> tuple[list[str], int]:
    """The columns of the web form's file, and the number of its next line."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        return header, sum(1 for _ in rows) + 1


def _web_lead(scene: _Scene, number: int) -> dict[str, str]:
    row = {
        "lead_id": f"web-new-{number:06d}",
        "email": f"web.{number}@example.com",
        "created": scene.now.astimezone(scene.shop.zone).strftime("%Y-%m-%d %H:%M:%S"),
        "origin": "referral",
        "landing_page": "contact",
        "campaign": "referral/partner-blog",
    }
    scene.done(f"web form: new lead {row['lead_id']}, {row['email']}")
    return row


def _next_post(scene: _Scene) -> int:
    """Orders and refunds share one row of numbers, as posts of the shop."""
    return max(scene.state.next_number("woocommerce", kind) for kind in ("order", "refund"))


def _new_order(scene: _Scene, email: str, *, from_search: bool = False) -> None:
    goods = [
        shop.Goods(doc.body["id"], doc.body["name"], doc.body["sku"], round(float(doc.body["price"]) * 100))
        for doc in scene.state.select("woocommerce", "product", limit=_RECENT)[0]
        if doc.body["price"]
    ]
    sale = shop.Sale(
        number=_next_post(scene),
        status="processing",
        created=scene.now,
        buyer=shop.Buyer("New", "Buyer", email),
        basket=[(scene.chance.choice(goods), scene.chance.randint(1, 3))],
        shipping=1500,
        paid=scene.now,
        origin=_search_visit(scene) if from_search else {},
    )
    order = shop.order_doc(sale, scene.shop)
    scene.state.put("woocommerce", "order", [order])
    scene.done(f"woocommerce: new order {order.id}, {_amount(order)}, of {email}")


def _search_visit(scene: _Scene) -> dict[str, str]:
    """The attribution of a visit through a paid search, as the shop notes it with an order."""
    click = f"sandbox-gclid-{int(scene.now.timestamp())}"
    query = f"utm_source=google&utm_medium=cpc&utm_campaign=search_brand&gclid={click}"
    return {
        "source_type": "utm",
        "utm_campaign": "search_brand",
        "utm_source": "google",
        "utm_medium": "cpc",
        "session_entry": f"{marketing.SITE}/?{query}",
        "session_start_time": f"{scene.now - timedelta(minutes=5):%Y-%m-%d %H:%M:%S}",
    }


def _amount(order: Doc) -> str:
    return f"{order.body['total']} {order.body['currency']}"


def _changed_orders(scene: _Scene) -> None:
    """One order edited, one partly and one fully refunded, one cancelled: four different ones."""
    orders = [
        doc
        for doc in _recent(scene, "woocommerce", "order")
        if doc.at < scene.now.timestamp()
        and doc.body["status"] in ("completed", "processing")
        and not doc.body["refunds"]
    ]
    if len(orders) < 4:
        raise ValueError("the sandbox has fewer than four paid orders: fill it first")
    edited, part, full, cancelled = scene.chance.sample(orders, 4)
    after = shop_changes.with_one_more(edited, scene.now, scene.shop)
    scene.state.put("woocommerce", "order", [after])
    scene.done(f"woocommerce: edited order {edited.id}, was {_amount(edited)}, is {_amount(after)}")
    lines = part.body["line_items"][:1]
    _refund(scene, part, sum(shop.line_gross(line) for line in lines), lines)
    _refund(scene, full, shop.order_gross(full), full.body["line_items"], with_shipping=True)
    stopped = shop_changes.modified(cancelled, scene.now, scene.shop, status="cancelled")
    scene.state.put("woocommerce", "order", [stopped])
    scene.done(f"woocommerce: cancelled order {cancelled.id}, {_amount(cancelled)}")


def _refund(
    scene: _Scene,
    order: Doc,
    gross: int,
    lines: Sequence[dict[str, Any]],
    *,
    with_shipping: bool = False,
) -> None:
    refund, after = shop_changes.refund_docs(
        order,
        number=_next_post(scene),
        at=scene.now,
        gross=gross,
        reason="Returned",
        shop=scene.shop,
        lines=lines,
        with_shipping=with_shipping,
    )
    scene.state.put("woocommerce", "refund", [refund])
    scene.state.put("woocommerce", "order", [after])
    kind = "full" if after.body["status"] == "refunded" else "partial"
    amount = f"{refund.body['amount']} {order.body['currency']}"
    scene.done(f"woocommerce: {kind} refund {refund.id} of order {order.id}, {amount}")


def _sales_decisions(scene: _Scene, email: str) -> None:
    """Sales accepts one contact and rejects another; whom it does not know yet it adds."""
    users = [doc.body["userId"] for doc in _recent(scene, "hubspot", "owner") if "userId" in doc.body]
    user = scene.chance.choice(users)
    known = [doc for doc in _recent(scene, "hubspot", "contact", by_change=True) if _open(doc)]
    waiting = [doc for doc in known if doc.body["properties"].get("lifecyclestage") in _BEFORE_SALES]
    accepted = scene.chance.choice(waiting) if waiting else _new_contact(scene, email)
    stage = {"lifecyclestage": marketing.Change(CRM_STAGE, scene.now, user, "CRM_UI")}
    scene.state.put("hubspot", "contact", [marketing.changed_contact(accepted, stage)])
    scene.done(f"hubspot: contact {accepted.id} is now {CRM_STAGE}, by user {user}")
    others = [doc for doc in known if doc.id != accepted.id]
    if not others:
        return
    rejected, reason = scene.chance.choice(others), "No budget"
    verdict = {
        "hs_lead_status": marketing.Change("UNQUALIFIED", scene.now, user, "CRM_UI"),
        "rejection_reason": marketing.Change(reason, scene.now, user, "CRM_UI"),
    }
    scene.state.put("hubspot", "contact", [marketing.changed_contact(rejected, verdict)])
    scene.done(f"hubspot: contact {rejected.id} is now UNQUALIFIED ({reason}), by user {user}")


def _open(contact: Doc) -> bool:
    """Whether sales may still decide on a contact."""
    properties = contact.body["properties"]
    return (
        not contact.body.get("archived")
        and properties.get("lifecyclestage") != "customer"
        and properties.get("hs_lead_status") not in ("UNQUALIFIED", "BAD_TIMING")
    )


def _new_contact(scene: _Scene, email: str) -> Doc:
    number = scene.state.next_number("hubspot", "contact")
    at = scene.now - timedelta(seconds=1)
    history = {"lifecyclestage": [marketing.Change("lead", at, source="FORM")]}
    scene.done(f"hubspot: new contact {number}, {email}")
    return marketing.contact(number, at, {"email": email}, history)


def _spend(scene: _Scene, ad: marketing.Ad) -> None:
    """Today's spend of the ad, and a correction of a day within the time in which Meta restates."""
    new = marketing.insight(
        scene.today,
        ad,
        scene.shop.currency,
        spend=scene.chance.randint(*_SPEND),
        impressions=scene.chance.randint(500, 4000),
        clicks=scene.chance.randint(5, 60),
    )
    old = scene.state.get("meta", "insight", new.id)
    scene.state.put("meta", "insight", [new])
    verb = "restated" if old else "new"
    scene.done(f"meta: {verb} spend of {scene.today}, ad {ad.id}: {new.body['spend']} {scene.shop.currency}")
    since = (scene.now - _RESTATED_WITHIN).timestamp()
    rows, _ = scene.state.select("meta", "insight", at_from=since, order="at", limit=_RECENT)
    earlier = [row for row in rows if row.body["date_start"] < scene.today.isoformat()]
    if not earlier:
        return
    row = scene.chance.choice(earlier)
    before = row.body["spend"]
    spend = shop.money(int(before.replace(".", "")) * 105 // 100 + 1)
    scene.state.put(
        "meta", "insight", [Doc(row.id, {**row.body, "spend": spend}, row.at, row.changed, row.parent)]
    )
    scene.done(
        f"meta: restated spend of {row.body['date_start']}, ad {row.body['ad_id']}: was {before}, is {spend}"
    )
