"""The booking: orders and spend whose desired entries may have changed → journal entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection

from mappings.currencies import exponent
from sync.attribute.rules import Policy
from sync.attribute.step import is_sale
from sync.attribute.store import Ref
from sync.ledger import fx, fx_plan, fx_store, rules, store
from sync.store import canonical

BATCH = 2_000
RATES_BATCH = 100_000
AUTHOR = "leadledger"


def book(
    connection: Connection,
    policy: Policy,
    *,
    zone: ZoneInfo,
    now: datetime,
    converting: fx.Setting | None = None,
) -> int:
    """Take one batch of orders and spend rows; returns how many it took (0: nothing is left to do).

    With `converting`, orders of another currency are booked in the reporting currency as well; one that has no
    rate yet waits in `pending` for it.
    """
    store.lock(connection)
    rates = canonical.take(connection, step="book", kinds=["rate"], limit=RATES_BATCH)
    if rates and converting:
        fx_store.note_concerned(connection, converting, [(row.connector, row.ref) for row in rates])
    taken = canonical.take(connection, step="book", kinds=["order", "spend"], limit=BATCH)
    if not taken:
        return len(rates)
    orders = [(row.connector, row.ref) for row in taken if row.kind == "order"]
    spends = [(row.connector, row.ref) for row in taken if row.kind == "spend"]
    sold = plan_orders(connection, orders, policy, now=now, converting=converting)
    spent = plan_spend(connection, spends, zone=zone)
    drafts = [*sold.drafts, *spent.drafts]
    if drafts:
        store.append(
            connection,
            drafts,
            generations=sold.generations | spent.generations,
            sales=sold.sales,
            zone=zone,
            booked_at=now,
            author=AUTHOR,
        )
    booked = {subject for subject, _ in drafts}
    found = store.read_attributions(
        connection, [ref for ref in orders if (ref[0], f"order:{ref[1]}") in booked]
    )
    persons = sorted({row.person_id for row in found.values() if row.person_id})
    canonical.note(connection, step="push", kind="person", refs=persons)
    note_unconverted(connection, sold)
    return len(taken) + len(rates)


def record_policies(connection: Connection, *, zone: ZoneInfo, now: datetime, why: str, author: str) -> None:
    """Book each policy that came into force and is not in the journal yet: what decides is on record, in its place
    among what it decided."""
    if not store.unrecorded_policies(connection):
        return
    store.lock(connection)
    drafts = [
        (
            ("", f"policy:{row.version}"),
            rules.memo(
                "policy",
                why or "the config says so",
                happened_at=row.valid_from,
                sha256=bytes(row.sha256),
                policy_version=row.version,
            ),
        )
        for row in store.unrecorded_policies(connection)
    ]
    store.append(connection, drafts, generations={}, zone=zone, booked_at=now, author=author)


@dataclass(frozen=True, slots=True)
class Planned:
    """Entries still to be booked, each with its subject, and how many entries each part has had so far.

    `waiting` are orders that changed since they were attributed, and are booked after that; `sales` the sales in
    force, by subject; `unconverted` the orders without a rate, and why.
    """

    drafts: list[tuple[Ref, rules.Draft]]
    generations: dict[tuple[str, str, str], int]
    waiting: list[Ref] = field(default_factory=list)
    sales: dict[Ref, int] = field(default_factory=dict)
    unconverted: dict[Ref, str] = field(default_factory=dict)


def note_unconverted(connection: Connection, planned: Planned) -> None:
    """Let the orders wait whose tables are not read yet."""
    for connector, order_id in (r for r, why in planned.unconverted.items() if why == fx_store.NOT_READ):
        canonical.note(connection, step="convert", kind="order", connector=connector, refs=[order_id])


def plan_orders(
    connection: Connection,
    refs: Sequence[Ref],
    policy: Policy,
    *,
    now: datetime,
    restate: bool = False,
    converting: fx.Setting | None = None,
) -> Planned:
    """The orders' entries still to be booked. Writes nothing, so that `verify` asks the same question.

    With `restate`, credits move also where they have settled.
    """
    if not refs:
        return Planned([], {})
    subjects = {ref: (ref[0], f"order:{ref[1]}") for ref in refs}
    booked = store.read_booked(connection, list(subjects.values()))
    orders = store.read_orders(connection, refs)
    refunds = store.read_refunds(connection, refs)
    credits = store.read_credits(connection, refs)
    versions = store.read_attributions(connection, refs)
    first_open = store.closed_until(connection)
    drafts: list[tuple[Ref, rules.Draft]] = []
    waiting: list[Ref] = []
    bank = fx_plan.bank_of(connection, converting, orders.values())
    unconverted: dict[Ref, str] = {}
    for ref in sorted(refs, key=lambda r: (_when(orders.get(r)), r)):
        order, in_force = orders.get(ref), booked.live.get(subjects[ref], [])
        sale = _sale(order, credits.get(ref, []), versions.get(ref), policy)
        if sale is not None and not _is_shared_out(sale):
            waiting.append(ref)
            continue
        last = booked.last_sales.get(subjects[ref])
        if (
            sale is not None
            and last is not None
            and not restate
            and _has_settled(last, sale, policy, now, first_open)
        ):
            sale = rules.keep_credits(sale, last)
        given_back = _refunds(refunds.get(ref, []), sale) if sale else []
        wanted = rules.desired(sale, given_back)
        own, converted = fx_plan.split(in_force)
        missing = rules.corrections(own, wanted, why_gone=_why_gone(order))
        worth, why = fx_plan.worth(bank, wanted)
        if why:
            unconverted[ref] = why
        missing += fx_plan.corrections(
            converted, wanted, worth, is_changed=bool(missing), is_known=bank is not None and not why
        )
        drafts += [(subjects[ref], draft) for draft in missing]
    sales = {s: entry.id for s, live in booked.live.items() for entry in live if entry.part == "sale"}
    return Planned(drafts, booked.generations, waiting, sales, unconverted)


def _is_shared_out(sale: rules.Sale) -> bool:
    """Whether the credits are those of the amount that the order has now. If it was edited since, its
    attribution is pending, and names it for booking again."""
    return sum(amount for _, amount in sale.credits) == sale.gross - sale.tax - sale.shipping


def _when(order: Any) -> float:
    return order.occurred_at.timestamp() if order is not None else 0.0


def _why_gone(order: Any) -> str:
    if order is None:
        return "the shop no longer has the order"
    return f"the shop set the order to {order.status}"


def _sale(order: Any, credits: list[tuple[str, int]], attributed: Any, policy: Policy) -> rules.Sale | None:
    if order is None or attributed is None or not is_sale(order.status, policy):
        return None
    return rules.Sale(
        connector=order.connector,
        currency=order.currency,
        happened_at=order.occurred_at,
        gross=order.total_minor,
        tax=_tax(order, policy),
        shipping=0 if policy.shipping_included else _shipping(order, policy),
        credits=credits,
        policy_version=attributed.policy_version,
        evidence_id=order.evidence_id,
        evidence_sha256=bytes(order.sha256),
    )


def _tax(order: Any, policy: Policy) -> int:
    return 0 if policy.tax_included else int(order.tax_minor)


def _shipping(order: Any, policy: Policy) -> int:
    tax = order.shipping_tax_minor if policy.tax_included else 0
    return int(order.shipping_minor + tax)


def _has_settled(
    entry: rules.Live, sale: rules.Sale, policy: Policy, now: datetime, first_open: date | None
) -> bool:
    """Whether later evidence no longer moves the credits of an order, whose latest sale is `entry`, also one that
    was cancelled in between: its time is over, or the period that it counts in is closed."""
    if first_open is not None and entry.posted_on is not None and entry.posted_on < first_open:
        return True
    if policy.settle_after_days is None:
        return False
    return now >= max(sale.happened_at, entry.first_booked_at) + timedelta(days=policy.settle_after_days)


def _refunds(rows: Sequence[Any], sale: rules.Sale) -> list[rules.Refund]:
    """In the order in which they are booked, which decides where a rest finer than the currency goes."""
    digits = exponent(sale.currency)
    rows = sorted(rows, key=lambda row: (row.occurred_at, row.external_id))
    amounts = rules.minor_parts([row.amount for row in rows], digits)
    return [
        rules.Refund(
            id=row.external_id,
            happened_at=row.occurred_at,
            amount=amount,
            tax=None if row.tax is None else rules.minor(row.tax, digits),
            shipping=None if row.shipping is None else rules.minor(row.shipping, digits),
            reason=row.reason,
            evidence_id=row.evidence_id,
            evidence_sha256=bytes(row.sha256),
        )
        for row, amount in zip(rows, amounts, strict=True)
    ]


def plan_spend(connection: Connection, refs: Sequence[Ref], *, zone: ZoneInfo) -> Planned:
    """The entries of spend rows still to be booked. The day is booked at its noon in the workspace's zone."""
    if not refs:
        return Planned([], {})
    subjects = {ref: (ref[0], f"spend:{ref[1]}") for ref in refs}
    booked = store.read_booked(connection, list(subjects.values()))
    rows = store.read_spend(connection, refs)
    drafts: list[tuple[Ref, rules.Draft]] = []
    for ref in sorted(refs):
        row = rows.get(ref)
        wanted = (
            rules.spend(
                connector=row.connector,
                campaign_id=row.campaign_id,
                amount=row.amount_minor,
                currency=row.currency,
                happened_at=datetime.combine(row.day, time(12), zone),
                evidence_id=row.evidence_id,
                evidence_sha256=bytes(row.sha256),
            )
            if row is not None
            else []
        )
        missing = rules.corrections(
            booked.live.get(subjects[ref], []), wanted, why_gone="the platform withdrew it"
        )
        drafts += [(subjects[ref], draft) for draft in missing]
    return Planned(drafts, booked.generations)
