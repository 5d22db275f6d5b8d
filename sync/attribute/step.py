"""The attribution: orders that changed, or whose person's touches did → credits."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection

from sync.attribute import campaigns, rules, store
from sync.ledger import accounts
from sync.store import canonical

BATCH = 2_000


def attribute(connection: Connection, policy: rules.Policy) -> int:
    """Take one batch of orders; returns how many it took (0: nothing is left to do)."""
    taken = canonical.take(connection, step="attribute", kinds=["order"], limit=BATCH)
    if not taken:
        return 0
    refs = [(row.connector, row.ref) for row in taken]
    orders = store.read_orders(connection, refs)
    sold = {ref: row for ref, row in orders.items() if is_sale(row.status, policy)}
    persons = sorted({row.person_id for row in sold.values() if row.person_id})
    leads = store.persons_with_leads(connection, persons)
    nearby = _nearby(connection, sold, policy)
    made = {}
    for ref, row in sold.items():
        revenue = revenue_minor(row, policy)
        found = rules.attribute(
            revenue,
            row.occurred_at,
            nearby[ref],
            policy,
            has_lead=row.person_id in leads,
            has_identity=row.identified,
        )
        made[ref] = (row.person_id, revenue, [(accounts.of_credit(c), c) for c in found])
    moved = store.replace_credits(connection, refs, made, policy_version=policy.version)
    # Who lost an order, or gained one that stays booked as it is, is not named by the booking.
    canonical.note(connection, step="push", kind="person", refs=sorted(moved))
    by_connector: dict[str, list[str]] = {}
    for connector, order_id in refs:
        by_connector.setdefault(connector, []).append(order_id)
    for connector, order_ids in by_connector.items():
        canonical.note(connection, step="book", kind="order", connector=connector, refs=order_ids)
    return len(taken)


def _nearby(
    connection: Connection, sold: Mapping[store.Ref, Any], policy: rules.Policy
) -> dict[store.Ref, Sequence[rules.Touchpoint]]:
    """By order the touches in its lookback; where there is none, all of its person, to say why."""
    known = store.known_campaigns(connection)
    lookback = timedelta(days=policy.lookback_days)
    spans: dict[str, tuple[datetime, datetime]] = {}
    for row in sold.values():
        if row.person_id:
            since, until = spans.get(row.person_id, store.EVER[::-1])
            at = row.occurred_at
            spans[row.person_id] = (min(since, at - lookback), max(until, at))
    read = partial(_read_touchpoints, connection, known, policy)
    touches = read(spans)
    found = {
        ref: between(touches.get(row.person_id, ()), row.occurred_at - lookback, row.occurred_at)
        for ref, row in sold.items()
    }
    bare = {row.person_id for ref, row in sold.items() if row.person_id and not found[ref]}
    ever = read(dict.fromkeys(sorted(bare), store.EVER))
    return {ref: near or ever.get(sold[ref].person_id, ()) for ref, near in found.items()}


def _read_touchpoints(
    connection: Connection,
    known: campaigns.Lookup,
    policy: rules.Policy,
    spans: Mapping[str, tuple[datetime, datetime]],
) -> dict[str, list[rules.Touchpoint]]:
    rows = store.read_touches(connection, spans, kinds=policy.touches)
    return {person: touchpoints(of_person, known) for person, of_person in rows.items()}


def between(
    touches: Sequence[rules.Touchpoint], since: datetime, until: datetime
) -> Sequence[rules.Touchpoint]:
    """Those of `touches`, which stand by time, from `since` to `until`."""
    first = bisect_left(touches, since, key=_at)
    return touches[first : bisect_right(touches, until, lo=first, key=_at)]


def _at(touch: rules.Touchpoint) -> datetime:
    return touch.at


def is_sale(status: str, policy: rules.Policy) -> bool:
    """A refunded order was a sale; what was given back is booked by its refunds, never by its status."""
    return status in policy.paid_statuses or status == "refunded"


def revenue_minor(order: Any, policy: rules.Policy) -> int:
    """What of the order's gross total counts as revenue, in minor units."""
    amount: int = order.total_minor
    if not policy.tax_included:
        amount -= order.tax_minor
    if not policy.shipping_included:
        amount -= order.shipping_minor
        if policy.tax_included:
            amount -= order.shipping_tax_minor
    return amount


def touchpoints(rows: Sequence[Any], known: campaigns.Lookup) -> list[rules.Touchpoint]:
    return [
        rules.Touchpoint(
            connector=row.connector,
            id=row.external_id,
            at=row.occurred_at,
            kind=row.kind,
            campaign=campaigns.key_of(row, known),
            direct=bool(row.direct),
        )
        for row in rows
    ]
