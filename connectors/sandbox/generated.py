"""Fills the sandbox with an invented shop, which has what Olist lacks.

Several touches a person, spend by day, refunds of each kind, rejections with reasons, recycled leads, several
salespeople, phones and addresses that people share, repeat buyers, orders without an address. Everything comes
from the seed and the day; nobody in it exists.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from connectors.sandbox import generated_world as given
from connectors.sandbox import marketing_documents as marketing
from connectors.sandbox import shop_changes
from connectors.sandbox import shop_documents as shop
from connectors.sandbox.accounts import MAILCHIMP_LIST, META_ACCOUNT, META_FORM, META_PAGE, META_TOKEN
from connectors.sandbox.generated_journeys import Journey, Purchase, journey
from connectors.sandbox.generated_world import SHOP, World
from connectors.sandbox.olist_marketing import LEADS_CSV_COLUMNS
from connectors.sandbox.state import Doc, State

NAME = "Sandbox shop"
_FIRST_POST = 10_001
_FIRST_FORM_LEAD = 700_000_000_000_001
_FIRST_CONTACT = 30_001
_CLICKED_WITHIN = timedelta(days=7)
_EUR_OF_PLN = 4
"""A price in EUR is that in PLN through this: near enough for an invented shop."""


def generate(
    state: Path,
    *,
    leads_csv: Path,
    today: datetime,
    seed: int = 1,
    people: int = 600,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Write the shop's past months into `state` and its web form's leads to `leads_csv`.

    Parameters
    ----------
    state : the sandbox's SQLite file, made where it is not there
    today : the end of what has happened, with a time zone; the same seed and time give the same documents
    progress : told of each step in words

    Raises
    ------
    ValueError
        `today` has no time zone.
    """
    world = given.world(today.replace(microsecond=0))
    paths = [journey(person, world, seed) for person in given.people(people, seed)]
    contents = {
        "woocommerce": _shop_docs(paths, world),
        "meta": _meta_docs(paths, world, seed),
        "mailchimp": _mailchimp_docs(paths, world),
        "hubspot": _hubspot_docs(paths, world),
    }
    sandbox = State(state)
    with sandbox.writing():
        for vendor, kinds in contents.items():
            for kind, docs in kinds.items():
                sandbox.put(vendor, kind, docs)
                if progress and len(docs) > 1:
                    progress(f"{vendor}: {len(docs):,} {kind} records")
    _write_leads_csv(paths, leads_csv)


def _shop_docs(paths: Sequence[Journey], world: World) -> dict[str, list[Doc]]:
    # Orders and refunds share one row of numbers, as posts of the shop do.
    posts = sorted(
        [(order.at, path.person.number, "", order) for path in paths for order in path.orders]
        + [
            (order.returned_at, path.person.number, order.returned, order)
            for path in paths
            for order in path.orders
            if order.returned_at
        ],
        key=lambda post: post[:3],
    )
    orders: dict[tuple[int, datetime], Doc] = {}
    refunds: list[Doc] = []
    for number, (at, who, returned, order) in enumerate(posts, start=_FIRST_POST):
        key = (who, order.at)
        if returned:
            refund, orders[key] = _refund(orders[key], returned, number, at)
            refunds.append(refund)
        else:
            orders[key] = _order(number, order)
    customers = {
        order.buyer.customer: shop.customer_doc(
            replace(order.buyer, email=path.person.email), path.orders[0].at, SHOP
        )
        for path in paths
        for order in path.orders
        if order.buyer.customer
    }
    start = world.start.timestamp()
    return {
        "setting": [Doc("timezone", {"value": given.ZONE_NAME}, at=start, changed=start)],
        "product": [shop.product_doc(goods, world.start, SHOP) for goods in given.CATALOGUE],
        "order": list(orders.values()),
        "refund": refunds,
        "customer": [doc for _, doc in sorted(customers.items())],
    }


def _order(number: int, order: Purchase) -> Doc:
    divisor = _EUR_OF_PLN if order.currency == "EUR" else 1
    sale = shop.Sale(
        number=number,
        status=order.status,
        created=order.at,
        buyer=order.buyer,
        basket=[(replace(goods, gross=goods.gross // divisor), count) for goods, count in order.basket],
        shipping=given.SHIPPING // divisor,
        paid=order.paid,
        completed=order.completed,
        currency=order.currency,
        origin=order.origin,
    )
    return shop.order_doc(sale, SHOP)


def _refund(order: Doc, kind: str, number: int, at: datetime) -> tuple[Doc, Doc]:
    lines = order.body["line_items"]
    if kind == "full":
        gross = shop.order_gross(order)
        return shop_changes.refund_docs(
            order,
            number=number,
            at=at,
            gross=gross,
            reason="Zwrot",
            shop=SHOP,
            lines=lines,
            with_shipping=True,
        )
    if kind == "lines":
        back = lines[:1]
        gross = sum(shop.line_gross(line) for line in back)
        return shop_changes.refund_docs(
            order, number=number, at=at, gross=gross, reason="Uszkodzone", shop=SHOP, lines=back
        )
    gross = min(1000, shop.order_gross(order) // 3)
    return shop_changes.refund_docs(
        order, number=number, at=at, gross=gross, reason="Rabat po zakupie", shop=SHOP
    )


def _meta_docs(paths: Sequence[Journey], world: World, seed: int) -> dict[str, list[Doc]]:
    started = world.start
    account = {
        "id": META_ACCOUNT,
        "account_id": META_ACCOUNT.removeprefix("act_"),
        "account_status": 1,
        "name": NAME,
        "currency": SHOP.currency,
        "timezone_name": given.ZONE_NAME,
        "timezone_offset_hours_utc": 1,
        "created_time": marketing.meta_utc(started),
    }
    forms = sorted(
        ((form.at, path.person.number, form, path.person) for path in paths for form in path.forms),
        key=lambda row: row[:2],
    )
    form = {
        "id": META_FORM,
        "name": "Zapytanie",
        "status": "ACTIVE",
        "locale": "pl_PL",
        "leads_count": len(forms),
        "organic_leads_count": sum(row[2].ad is None for row in forms),
        "expired_leads_count": 0,
        "created_time": marketing.meta_utc(started),
        "questions": [
            {"id": "1001", "key": "email", "label": "E-mail", "type": "EMAIL"},
            {"id": "1002", "key": "full_name", "label": "Imię i nazwisko", "type": "FULL_NAME"},
            {"id": "1003", "key": "phone_number", "label": "Telefon", "type": "PHONE"},
        ],
        "privacy_policy_url": f"{marketing.SITE}/privacy",
    }
    campaigns = {ad.campaign: ad.campaign_name for ad in world.ads}
    return {
        "account": [marketing.doc(META_ACCOUNT, account, started)],
        "page": [
            marketing.doc(
                META_PAGE, {"id": META_PAGE, "name": NAME, "access_token": f"{META_TOKEN}-page"}, started
            )
        ],
        "form": [marketing.doc(META_FORM, form, started, parent=META_PAGE)],
        "campaign": [
            marketing.meta_campaign(number, name, started, SHOP.zone) for number, name in campaigns.items()
        ],
        "lead": [
            marketing.meta_lead(
                number,
                lead.at,
                lead.ad,
                {
                    "email": person.email,
                    "full_name": f"{person.first} {person.last}",
                    "phone_number": person.phone,
                },
                consent=lead.consent,
            )
            for number, (_, _, lead, person) in enumerate(forms, start=_FIRST_FORM_LEAD)
        ],
        "insight": list(_insights(paths, world, seed)),
    }


def _claims(paths: Sequence[Journey], world: World) -> dict[tuple[date, int], marketing.Claim]:
    """What the platform claims, by day and ad: an order within a week of the click, on the click's day, whatever
    became of the order; and every seventh other order as seen by somebody that day."""
    found: dict[tuple[date, int], marketing.Claim] = {}
    for path in paths:
        for order in path.orders:
            gross = sum(goods.gross * count for goods, count in order.basket) + given.SHIPPING
            if order.currency not in ("", SHOP.currency):
                continue
            at, ad = _click(path, order, world) or (order.at, world.ads[path.person.number % len(world.ads)])
            key = (at.astimezone(SHOP.zone).date(), ad.id)
            was = found.get(key, marketing.Claim())
            if _click(path, order, world):
                found[key] = replace(was, clicked=was.clicked + 1, clicked_minor=was.clicked_minor + gross)
            elif path.person.number % 7 == 0:
                found[key] = replace(was, viewed=was.viewed + 1, viewed_minor=was.viewed_minor + gross)
    return found


def _click(path: Journey, order: Purchase, world: World) -> tuple[datetime, marketing.Ad] | None:
    """The latest of a person's clicks and forms within the week before an order, with its ad."""
    clicks = [(f.at, f.ad) for f in path.forms if f.ad and timedelta(0) <= order.at - f.at <= _CLICKED_WITHIN]
    campaign = order.origin.get("utm_id")
    visited = next((ad for ad in world.ads if str(ad.campaign) == campaign), None)
    if visited is not None:
        began = datetime.fromisoformat(order.origin["session_start_time"]).replace(tzinfo=UTC)
        clicks.append((began, visited))
    return max(clicks, key=lambda click: click[0]) if clicks else None


def _insights(paths: Sequence[Journey], world: World, seed: int) -> Iterable[Doc]:
    """A row for each ad and day on which it was shown; one day in twenty it was not."""
    claims = _claims(paths, world)
    for day in given.days_between(world.start, world.today):
        for ad in world.ads:
            chance = random.Random(f"{seed}|spend|{day}|{ad.id}")  # noqa: S311
            if chance.random() < 0.05 and (day, ad.id) not in claims:
                continue
            clicks = chance.randint(4, 60)
            yield marketing.insight(
                day,
                ad,
                SHOP.currency,
                spend=chance.randint(1500, 9000),
                impressions=clicks * chance.randint(40, 120),
                clicks=clicks,
                claim=claims.get((day, ad.id)),
            )


def _mailchimp_docs(paths: Sequence[Journey], world: World) -> dict[str, list[Doc]]:
    # An office's address is one member, whoever signed up first.
    members = list(_one_an_address(path for path in paths if path.member_at))
    recipients = {
        mailing.number: sum(mail.mailing.number == mailing.number for path in members for mail in path.mails)
        for mailing in world.mailings
    }
    audience = {
        "id": MAILCHIMP_LIST,
        "web_id": 1,
        "name": NAME,
        "permission_reminder": "Zapis na stronie sklepu.",
        "date_created": marketing.mailchimp_time(world.start),
        "list_rating": 0,
        "email_type_option": False,
        "visibility": "prv",
        "double_optin": False,
        "has_welcome": False,
        "marketing_permissions": False,
        "modules": [],
        "stats": {"member_count": len(members), "unsubscribe_count": 0, "cleaned_count": 0},
    }
    docs: dict[str, list[Doc]] = {
        "list": [marketing.doc(MAILCHIMP_LIST, audience, world.start)],
        "member": [],
        "campaign": [
            marketing.mailing(
                mailing.title,
                mailing.sent,
                number=mailing.number,
                recipients=recipients[mailing.number],
                list_name=NAME,
            )
            for mailing in world.mailings
        ],
        "activity": [],
        "unsubscribe": [],
    }
    for path in members:
        _add_member(path, docs)
    return docs


def _add_member(path: Journey, docs: Mapping[str, list[Doc]]) -> None:
    person = path.person
    assert path.member_at is not None
    status, changed = "subscribed", path.member_at
    for mail in path.mails:
        campaign = marketing.short_id(mail.mailing.title)
        actions = []
        if mail.opened:
            actions.append(marketing.opened(mail.opened))
        if mail.clicked:
            actions.append(marketing.clicked(mail.clicked, mail.mailing.url))
        if mail.bounced:
            actions.append(marketing.bounced(mail.bounced))
            status, changed = "cleaned", mail.bounced
        if mail.left:
            docs["unsubscribe"].append(
                marketing.unsubscribe(campaign, person.email, mail.left, first=person.first, last=person.last)
            )
            status, changed = "unsubscribed", mail.left
        docs["activity"].append(marketing.activity(campaign, person.email, actions, sent=mail.mailing.sent))
    docs["member"].append(
        marketing.member(
            person.email,
            path.member_at,
            number=person.number,
            first=person.first,
            last=person.last,
            phone=person.phone,
            status=status,
            changed=changed,
        )
    )


def _hubspot_docs(paths: Sequence[Journey], world: World) -> dict[str, list[Doc]]:
    worked = sorted(
        _one_an_address(path for path in paths if path.crm_at),
        key=lambda path: (path.crm_at, path.person.number),
    )
    return {
        "owner": [
            marketing.owner(s.owner, s.user, s.first, s.last, world.start, left=s.left) for s in given.SELLERS
        ],
        "contact": [_contact(number, path) for number, path in enumerate(worked, start=_FIRST_CONTACT)],
    }


def _contact(number: int, path: Journey) -> Doc:
    person = path.person
    assert path.crm_at is not None
    properties = {
        "email": person.email,
        "firstname": person.first,
        "lastname": person.last,
        "phone": person.phone,
        "hubspot_owner_id": str(person.seller.owner),
    }
    return marketing.contact(number, path.crm_at, properties, path.changes)


def _one_an_address(paths: Iterable[Journey]) -> list[Journey]:
    """The first of those with the same e-mail address."""
    kept: dict[str, Journey] = {}
    for path in paths:
        kept.setdefault(path.person.email, path)
    return list(kept.values())


def _write_leads_csv(paths: Sequence[Journey], path: Path) -> None:
    rows = sorted(
        (
            lead.at,
            f"web-{journey.person.number:06d}",
            journey.person.email,
            lead.origin,
            lead.campaign,
        )
        for journey in paths
        for lead in journey.web
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(LEADS_CSV_COLUMNS)
        for at, id, email, origin, campaign in rows:
            created = at.astimezone(SHOP.zone).strftime("%Y-%m-%d %H:%M:%S")
            writer.writerow([id, email, created, origin, "contact", campaign])
