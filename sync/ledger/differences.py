"""What differs between an order as the shop shows it and as it is booked, why, and what repairs it. Pure.

>>> kinds(shown, booked)
('amount', 'tax')
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo

from connectors.contract import ControlItem
from mappings import normalise
from mappings.unfit import Unfit
from sync.attribute.rules import Policy
from sync.attribute.step import is_sale

Kind = Literal[
    "missing here",
    "missing there",
    "status",
    "currency",
    "amount",
    "tax",
    "shipping",
    "day",
    "refunds",
    "shop's own total",
]
HOURS_OF_A_ZONE = 14
"""No two clocks of the world are further apart than 26 hours, and none is more than 14 off UTC."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An order as the shop shows it. Amounts in minor units; None: not told, or not to be read (`gross`)."""

    order_id: str
    day: date | None
    created_at: datetime | None
    modified_at: datetime | None
    status: str
    sold: bool
    paid: bool
    currency: str
    gross: int | None
    tax: int | None
    shipping: int | None
    refunded: int | None


@dataclass(frozen=True, slots=True)
class Booked:
    """An order's sale in force, with all that was given back of it; amounts in minor units."""

    order_id: str
    day: date
    happened_at: datetime
    currency: str
    gross: int
    tax: int
    shipping: int
    refunded: int


@dataclass(frozen=True, slots=True)
class Held:
    """The record of an order or refund that the last sync left. `status` of a refund is ""."""

    happened_at: datetime
    status: str = ""
    currency: str = ""
    amount: int | None = None
    tax: int | None = None
    shipping: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What else is known of the id of a difference.

    `version` is the vendor's time of the last change that was read, `read_until` when the last sync began to read,
    `waits_for` the step that has still to take it, `elsewhere` the order where the shop shows it outside the days
    asked for; `asked` whether that was asked.
    """

    held: Held | None = None
    set_aside: tuple[int, str] | None = None
    dropped: tuple[int, str] | None = None
    deleted: bool = False
    version: datetime | None = None
    read_until: datetime | None = None
    waits_for: str | None = None
    elsewhere: Shown | None = None
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands that repair, for one connector and period. `start` is the config's ``from:``."""

    connector: str
    period: str
    start: datetime
    zone: ZoneInfo

    @property
    def sync(self) -> str:
        return f"leadledger sync {self.connector}"

    @property
    def reread(self) -> str:
        return f"leadledger ledger reconcile --period {self.period} --connector {self.connector} --repair"

    def backfill(self, at: datetime) -> str:
        day = at.astimezone(self.zone).date().isoformat()
        return f"leadledger backfill {self.connector} --from {day} --to {day}"


def amount(text: str | None, currency: str) -> tuple[int | None, Decimal | None]:
    """A vendor's amount in minor units, and exactly; (None, None) where it cannot be read."""
    if text is None:
        return None, None
    # An override of the mapping may read a comma: what cannot be read otherwise is.
    for decimal_comma in (False, True):
        try:
            minor = normalise.money(text, currency, decimal_comma=decimal_comma)
            exact = normalise.decimal(text, decimal_comma=decimal_comma)
        except Unfit:
            continue
        return (None, None) if minor is None else (minor[0], exact)
    return None, None


def shown(item: ControlItem, policy: Policy, zone: ZoneInfo) -> Shown:
    """The order as the mapping would read it."""
    try:
        currency = normalise.currency_code(item.currency)
    except Unfit:
        currency = ""
    return Shown(
        order_id=normalise.text(item.external_id) or "",
        day=item.created_at.astimezone(zone).date() if item.created_at else None,
        created_at=item.created_at,
        modified_at=item.modified_at,
        status=item.status,
        sold=is_sale(item.status, policy),
        paid=item.paid,
        currency=currency,
        gross=amount(item.total, currency)[0] if currency else None,
        tax=amount(item.tax, currency)[0] if currency else None,
        shipping=amount(item.shipping, currency)[0] if currency else None,
        refunded=amount(item.refunded, currency)[0] if currency else None,
    )


def kinds(shown: Shown | None, booked: Booked | None, held: Held | None = None) -> tuple[Kind, ...]:
    """In what the two differ; nothing where they agree. An order that costs nothing has no entry, and needs none."""
    if booked is None:
        if shown is None or (shown.sold and shown.gross == 0):
            return ()
        if not shown.sold:
            return ("status",) if shown.paid else ()
        return ("status",) if held is not None and held.status != shown.status else ("missing here",)
    if shown is None:
        return ("missing there",)
    if not shown.sold:
        return ("status",)
    found: list[Kind] = []
    if shown.currency != booked.currency:
        found.append("currency")
    if shown.gross != booked.gross:
        found.append("amount")
    if shown.tax is not None and shown.tax != booked.tax:
        found.append("tax")
    if shown.shipping is not None and shown.shipping != booked.shipping:
        found.append("shipping")
    if shown.day is not None and shown.day != booked.day:
        found.append("day")
    if shown.refunded is not None and shown.refunded != booked.refunded:
        found.append("refunds")
    return tuple(found)


def why(
    kind: Kind, shown: Shown | None, booked: Booked | None, facts: Facts, commands: Commands
) -> tuple[str, str]:
    """The likely cause of a difference of an order, and the command that repairs it."""
    aside = _set_aside(facts, commands)
    if aside is not None:
        return aside
    if facts.waits_for is not None:
        return f"read, and waits for the step {facts.waits_for}", "leadledger sync"
    if shown is None:
        return _gone(facts, commands)
    if _changed(shown.modified_at, facts):
        return "changed in the shop since the last sync", commands.sync
    if kind == "missing here":
        return _missing(shown, facts, commands)
    if kind == "status":
        return _status(shown, facts, commands)
    if kind == "day" and booked is not None:
        return _day(shown, booked, facts, commands)
    if kind == "amount" and shown.gross is None:
        return "what the shop shows cannot be read as an amount", f"leadledger check {commands.connector}"
    if kind == "refunds":
        return "the shop's orders and its refunds say different things", commands.reread
    if _as_held(kind, shown, facts.held):
        return "the journal differs from the record it was booked from", "leadledger verify"
    return "edited in the shop without its time of change moving, or read otherwise by the mapping", (
        commands.reread
    )


def _set_aside(facts: Facts, commands: Commands) -> tuple[str, str] | None:
    if facts.set_aside is not None:
        number, field = facts.set_aside
        return f"set aside in quarantine as {number}: {field}", f"leadledger quarantine show {number}"
    if facts.dropped is not None:
        number, reason = facts.dropped
        return f"dropped from quarantine as {number}: {reason}", commands.reread
    return None


def _changed(modified_at: datetime | None, facts: Facts) -> bool:
    return modified_at is not None and facts.version is not None and modified_at > facts.version


def _gone(facts: Facts, commands: Commands) -> tuple[str, str]:
    if facts.elsewhere is not None:
        day = facts.elsewhere.day.isoformat() if facts.elsewhere.day else "a day that cannot be read"
        return f"the shop shows it on {day} now", commands.reread
    if facts.asked:
        return "deleted for good in the shop: it is not in its trash either", commands.reread
    return "deleted in the shop, or placed on another day there", commands.reread


def _missing(shown: Shown, facts: Facts, commands: Commands) -> tuple[str, str]:
    at = shown.created_at
    if facts.deleted:
        return "the shop had deleted it, and shows it again", commands.reread
    if facts.held is not None:
        return "its record is here, and no entry: the journal lacks it", "leadledger verify"
    if at is not None and at < commands.start:
        return "placed before the first day that the config reads (from:)", commands.backfill(at)
    changed = shown.modified_at or at
    if changed is None or facts.read_until is None or changed >= facts.read_until:
        return "changed in the shop since the last sync", commands.sync
    if facts.version is not None:
        return "it was read, and the mapping makes no order of it", commands.reread
    return "the sync passed its time of change without seeing it", commands.reread


def _status(shown: Shown, facts: Facts, commands: Commands) -> tuple[str, str]:
    if not shown.sold and shown.paid:
        return (
            f"paid in the shop, and its status {shown.status!r} is not among paid_statuses of the policy",
            f"add it to paid_statuses in the config, then: {commands.sync}",
        )
    if shown.status == "trash":
        return "put into the shop's trash without its time of change moving", commands.reread
    if facts.held is not None and facts.held.status == shown.status:
        return f"the policy has another opinion of {shown.status!r} than when it was booked", commands.sync
    held = f", and here it is {facts.held.status!r}" if facts.held else ""
    return f"the shop shows it as {shown.status!r}{held}: its time of change did not move", commands.reread


def _day(shown: Shown, booked: Booked, facts: Facts, commands: Commands) -> tuple[str, str]:
    assert shown.created_at is not None, "its day was read from it"
    off = booked.happened_at - shown.created_at
    hours = off / timedelta(hours=1)
    if off == timedelta(0):
        return "booked while the workspace had another time zone", "it stays on the day it was booked on"
    if hours == int(hours) and abs(hours) <= HOURS_OF_A_ZONE:
        return (
            f"booked {hours:+.0f} h off the shop's time: the mapping reads it in another time zone",
            f"set zone: of occurred_at in the mapping of {commands.connector}, then: {commands.sync}",
        )
    return "its date was edited in the shop without its time of change moving", commands.reread


def _as_held(kind: Kind, shown: Shown, held: Held | None) -> bool:
    """Whether the record agrees with the shop, so that only the journal does not."""
    if held is None or held.currency != shown.currency:
        return False
    values = {
        "amount": (held.amount, shown.gross),
        "tax": (held.tax, shown.tax),
        "shipping": (held.shipping, shown.shipping),
    }
    one, other = values.get(kind, (0, 0))
    return one == other


def why_refund(
    kind: Kind,
    created_at: datetime | None,
    facts: Facts,
    commands: Commands,
    *,
    order_is_booked: bool,
    order_id: str,
) -> tuple[str, str]:
    """The likely cause of a difference of a refund, and the command that repairs it.

    A refund has no time of change: the stream is read again for the length of its overlap.
    """
    aside = _set_aside(facts, commands)
    if aside is not None:
        return aside
    if facts.waits_for is not None:
        return f"read, and waits for the step {facts.waits_for}", "leadledger sync"
    if kind == "missing there":
        return "deleted in the shop: it does not show this refund any more", commands.reread
    if kind == "missing here":
        if not order_is_booked:
            return f"its order {order_id} is not booked, so it has nothing to take back", commands.sync
        if facts.held is not None:
            return "its record is here, and no entry: the journal lacks it", "leadledger verify"
        if created_at is None or facts.read_until is None or created_at >= facts.read_until:
            return "given back since the last sync", commands.sync
        return "the sync passed it without seeing it", commands.reread
    return "edited in the shop, or read otherwise by the mapping", commands.reread


def row(kind: Kind, subject: str, **values: Any) -> dict[str, Any]:
    """A difference as it is shown and stored: JSON types only."""
    return {
        "kind": kind,
        "subject": subject,
        **{k: v.isoformat() if isinstance(v, date | datetime) else v for k, v in values.items()},
    }
