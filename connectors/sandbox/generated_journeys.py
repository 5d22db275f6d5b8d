"""What the invented shop's people do: leads, mails, the salespeople's verdicts, orders. Pure, from a seed.

Everybody has a random generator of his or her own, so one person's journey does not depend on the others.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from connectors.sandbox.generated_world import (
    CATALOGUE,
    INFO_EMAIL,
    REASONS,
    Mailing,
    Person,
    World,
)
from connectors.sandbox.marketing_documents import SITE, Ad, Change
from connectors.sandbox.shop_documents import Buyer, Goods

STAGE, STATUS, REASON = "lifecyclestage", "hs_lead_status", "rejection_reason"
_WEB_ORIGINS = (
    ("organic_search", ""),
    ("referral", "referral/partner-blog"),
    ("partner", "partner/expo"),
    ("", ""),
)


@dataclass(frozen=True, slots=True)
class FormLead:
    at: datetime
    ad: Ad | None
    consent: bool


@dataclass(frozen=True, slots=True)
class WebLead:
    at: datetime
    origin: str
    campaign: str


@dataclass(frozen=True, slots=True)
class Mail:
    """What a member did with one mailing: at most one open, click, bounce, unsubscribe."""

    mailing: Mailing
    opened: datetime | None = None
    clicked: datetime | None = None
    bounced: datetime | None = None
    left: datetime | None = None


@dataclass(frozen=True, slots=True)
class Purchase:
    """An order in the shop. `returned` is "", "full", "lines" or "amount", with its time."""

    at: datetime
    status: str
    buyer: Buyer
    basket: tuple[tuple[Goods, int], ...]
    origin: dict[str, str]
    paid: datetime | None
    completed: datetime | None
    currency: str
    returned: str = ""
    returned_at: datetime | None = None


@dataclass(slots=True)
class Journey:
    """One person's all. `member_at` is the time of the sign-up, `changes` the CRM's history, oldest first."""

    person: Person
    forms: list[FormLead] = field(default_factory=list)
    web: list[WebLead] = field(default_factory=list)
    member_at: datetime | None = None
    mails: list[Mail] = field(default_factory=list)
    crm_at: datetime | None = None
    changes: dict[str, list[Change]] = field(default_factory=dict)
    orders: list[Purchase] = field(default_factory=list)


def journey(person: Person, world: World, seed: int) -> Journey:
    """What `person` did between the world's start and today; nothing lies later."""
    chance = random.Random(f"{seed}|did|{person.number}")  # noqa: S311
    span = (world.today - world.start).total_seconds()
    first = world.start + timedelta(seconds=int(chance.random() * span * 0.97) + 3600)
    path = Journey(person)
    way = chance.random()
    if way < 0.40:
        _fills_forms(path, world, chance, first)
    elif way < 0.60:
        path.member_at = first
    elif way < 0.82:
        origin, campaign = chance.choice(_WEB_ORIGINS)
        path.web.append(WebLead(first, origin, campaign))
    if path.member_at is None and way < 0.82 and chance.random() < 0.3:
        path.member_at = first + timedelta(hours=chance.randint(1, 400))
    _reads_mails(path, world, chance)
    ready = first
    if (path.forms or path.web) and chance.random() < 0.6:
        ready = _is_worked(path, world, chance, first)
    _orders(path, world, chance, ready, sure=way >= 0.82 or person.email == INFO_EMAIL)
    _cut(path, world.today)
    return path


def _fills_forms(path: Journey, world: World, chance: random.Random, first: datetime) -> None:
    ad = None if chance.random() < 0.08 else chance.choice(world.ads)
    path.forms.append(FormLead(first, ad, chance.random() < 0.8))
    if chance.random() < 0.2:
        later = first + timedelta(hours=chance.randint(30, 1400))
        path.forms.append(FormLead(later, chance.choice(world.ads), consent=True))


def _reads_mails(path: Journey, world: World, chance: random.Random) -> None:
    if path.member_at is None:
        return
    for mailing in world.mailings:
        if mailing.sent <= path.member_at:
            continue
        fate = chance.random()
        opened = mailing.sent + timedelta(seconds=chance.randint(60, 200_000))
        if fate < 0.005:
            path.mails.append(Mail(mailing, bounced=mailing.sent + timedelta(seconds=5)))
            return
        if fate < 0.02:
            path.mails.append(Mail(mailing, opened=opened, left=opened + timedelta(seconds=40)))
            return
        clicked = opened + timedelta(seconds=chance.randint(5, 90)) if fate < 0.16 else None
        path.mails.append(Mail(mailing, opened=opened if fate < 0.5 else None, clicked=clicked))


def _is_worked(path: Journey, world: World, chance: random.Random, first: datetime) -> datetime:
    """Puts the person in the CRM; the time from which he or she may buy."""
    seller = path.person.seller.user
    at = first + timedelta(minutes=chance.randint(2, 90))
    path.crm_at = at
    stages = path.changes.setdefault(STAGE, [])
    statuses = path.changes.setdefault(STATUS, [])
    stages.append(Change("lead", at, source="FORM"))
    statuses.append(Change("NEW", at, source="FORM"))
    if chance.random() < 0.2:
        return at
    at += timedelta(minutes=chance.randint(30, 7000))
    stages.append(Change("marketingqualifiedlead", at))
    statuses.append(Change("IN_PROGRESS", at + timedelta(minutes=20), seller, "CRM_UI"))
    at += timedelta(minutes=chance.randint(60, 15_000))
    if chance.random() < 0.3:
        kind = chance.choice(("UNQUALIFIED", "BAD_TIMING"))
        statuses.append(Change(kind, at, seller, "CRM_UI"))
        reason = "not now" if kind == "BAD_TIMING" else chance.choice(REASONS)
        # People set the status first and say why in the next field, so the reason comes seconds later.
        said = at + timedelta(seconds=chance.randint(2, 25))
        path.changes[REASON] = [Change(reason, said, seller, "CRM_UI")]
        if kind == "UNQUALIFIED" or chance.random() < 0.3:
            return world.today if chance.random() < 0.8 else at
        at = _is_recycled(path, chance, at + timedelta(days=chance.randint(15, 45)), seller)
    stages.append(Change("salesqualifiedlead", at, seller, "CRM_UI"))
    statuses.append(Change("CONNECTED", at, seller, "CRM_UI"))
    if chance.random() < 0.4:
        stages.append(Change("opportunity", at + timedelta(hours=chance.randint(2, 200)), seller, "CRM_UI"))
    return at


def _is_recycled(path: Journey, chance: random.Random, at: datetime, seller: int) -> datetime:
    """Takes the stage back, which HubSpot allows only by clearing it first; the time of the new SQL."""
    path.changes[STAGE] += [
        Change("", at, seller, "CRM_UI"),
        Change("lead", at + timedelta(seconds=2), seller, "CRM_UI"),
        Change("marketingqualifiedlead", at + timedelta(days=2)),
    ]
    path.changes[STATUS].append(Change("OPEN", at + timedelta(seconds=3), seller, "CRM_UI"))
    path.changes[REASON].append(Change("", at + timedelta(seconds=3), seller, "CRM_UI"))
    return at + timedelta(days=2, hours=chance.randint(2, 90))


def _orders(path: Journey, world: World, chance: random.Random, ready: datetime, *, sure: bool) -> None:
    if not sure and chance.random() > (0.55 if path.crm_at else 0.3):
        return
    at = ready + timedelta(hours=chance.randint(1, 400))
    customer = path.person.number + 100 if chance.random() < 0.4 else 0
    while at < world.today:
        path.orders.append(_purchase(path, world, chance, at, customer))
        if chance.random() > 0.35:
            break
        at += timedelta(hours=chance.randint(200, 1500))


def _purchase(path: Journey, world: World, chance: random.Random, at: datetime, customer: int) -> Purchase:
    basket = tuple((goods, chance.randint(1, 3)) for goods in chance.sample(CATALOGUE, chance.randint(1, 3)))
    age = world.today - at
    fate = chance.random()
    paid = at + timedelta(minutes=chance.randint(1, 600))
    completed = paid + timedelta(hours=chance.randint(12, 72))
    order = Purchase(
        at=at,
        status="completed",
        buyer=_buyer(path.person, chance, customer),
        basket=basket,
        origin=_origin(path, world, chance, at),
        paid=paid,
        completed=completed,
        currency="EUR" if chance.random() < 0.025 else "",
    )
    if paid >= world.today or fate < 0.05:
        return replace(order, status="pending", paid=None, completed=None)
    if fate < 0.10:
        return replace(order, status="cancelled", paid=None if fate < 0.07 else paid, completed=None)
    if fate < 0.12:
        return replace(order, status="failed", paid=None, completed=None)
    if fate < 0.14:
        return replace(order, status="trash", completed=None)
    if completed >= world.today or age < timedelta(days=6):
        return replace(order, status="processing", completed=None)
    returned_at = completed + timedelta(hours=chance.randint(24, 500))
    if fate < 0.21 and returned_at < world.today:
        return replace(order, returned=chance.choice(("full", "lines", "amount")), returned_at=returned_at)
    return order


def _buyer(person: Person, chance: random.Random, customer: int) -> Buyer:
    """The person as typed at the checkout: another case, another address with the same phone, or none."""
    email, way = person.email, chance.random()
    if way < 0.02:
        email = ""
    elif way < 0.06 and person.phone.startswith("+485"):
        email = f"private.{person.number}@example.org"
    elif way < 0.15:
        email = email.title()
    return Buyer(person.first, person.last, email, person.local_phone, customer=customer)


def _origin(path: Journey, world: World, chance: random.Random, at: datetime) -> dict[str, str]:
    """The attribution that the shop noted with an order; {} where its script did not run."""
    way = chance.random()
    visit = at - timedelta(minutes=chance.randint(3, 40))
    rest = {
        "session_start_time": f"{visit.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        "session_pages": str(chance.randint(1, 12)),
        "session_count": "1",
        "device_type": chance.choice(("Desktop", "Mobile")),
    }
    token = f"{path.person.number}-{int(at.timestamp())}"
    if way < 0.22:
        campaign = chance.choice(world.search)
        return _utm("google", "cpc", campaign, f"gclid=sandbox-gclid-{token}") | rest
    if way < 0.36:
        ad = chance.choice(world.ads)
        found = _utm("facebook", "paid_social", ad.campaign_name, f"fbclid=sandbox-fbclid-{token}")
        return found | {"utm_id": str(ad.campaign)} | rest
    read = [mail.mailing for mail in path.mails if mail.clicked and mail.clicked < at]
    if way < 0.50 and read:
        return _utm("newsletter", "email", read[-1].title, "mc_eid=sandbox") | rest
    if way < 0.66:
        organic = {"source_type": "organic", "utm_source": "google", "utm_medium": "organic"}
        return organic | {"session_entry": f"{SITE}/"} | rest
    if way < 0.72:
        referral = {
            "source_type": "referral",
            "referrer": "https://blog.example/",
            "utm_source": "blog.example",
        }
        return referral | {"session_entry": f"{SITE}/"} | rest
    if way < 0.90:
        return {"source_type": "typein", "utm_source": "(direct)", "session_entry": f"{SITE}/"} | rest
    return {}


def _utm(source: str, medium: str, campaign: str, click: str) -> dict[str, str]:
    entry = (
        f"{SITE}/?utm_source={source}&utm_medium={medium}&utm_campaign={campaign.replace(' ', '+')}&{click}"
    )
    return {
        "source_type": "utm",
        "utm_campaign": campaign,
        "utm_source": source,
        "utm_medium": medium,
        "session_entry": entry.replace("|", "%7C"),
    }


def _cut(path: Journey, today: datetime) -> None:
    """Take away what would lie in the future."""
    path.forms = [form for form in path.forms if form.at < today]
    if path.member_at and path.member_at >= today:
        path.member_at = None
    path.mails = [_seen(mail, today) for mail in path.mails]
    if path.crm_at and path.crm_at >= today:
        path.crm_at, path.changes = None, {}
    path.changes = {
        name: [change for change in row if change.at < today] for name, row in path.changes.items()
    }


def _seen(mail: Mail, today: datetime) -> Mail:
    def past(moment: datetime | None) -> datetime | None:
        return moment if moment and moment < today else None

    return Mail(mail.mailing, past(mail.opened), past(mail.clicked), past(mail.bounced), past(mail.left))
