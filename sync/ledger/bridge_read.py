"""Reads what the bridge needs of each order: as the shop shows it, as it is booked, by which clicks it came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection

from connectors.contract import ControlItem
from mappings.currencies import exponent
from sync.attribute import store as attribution
from sync.attribute.rules import Policy
from sync.attribute.step import is_sale, touchpoints
from sync.ledger import bridge, rules
from sync.ledger import bridge_store as store
from sync.ledger import differences as diff
from sync.report.period import Period

CLICK_WINDOW = timedelta(days=7)
"""The longest click window by which platforms claim unless told otherwise (Meta: 7d_click)."""
CLICKS = frozenset({"ad_click", "form", "visit"})
BATCH = 2_000


@dataclass(frozen=True, slots=True)
class ShopDays:
    """A shop's orders, and the instants between which its own days of the period lie."""

    items: Iterable[ControlItem]
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Told:
    """A bridge, and what stands beside it: the platforms that claim, those that claim nothing, claims in other
    currencies, and each platform's claims and credit."""

    bridge: bridge.Bridge
    silent: tuple[str, ...]
    other_currencies: dict[str, int]
    by_platform: dict[str, dict[str, int]]


def read(
    connection: Connection,
    shops: Mapping[str, ShopDays],
    *,
    period: Period,
    currency: str,
    policy: Policy,
    zone: ZoneInfo,
) -> Told:
    """The bridge of a period in one currency. Orders of the period are held in memory."""
    named = store.claims(connection, since=period.since, until=period.until)
    mine = [
        bridge.Claim(row.connector, row.campaign_id, row.day.isoformat(), row.orders, row.amount, row.viewed)
        for row in named
        if row.currency == currency
    ]
    platforms = sorted({row.connector for row in named})
    others: dict[str, int] = {}
    for row in named:
        if row.currency != currency:
            others[row.currency] = others.get(row.currency, 0) + row.amount
    spenders = store.spenders(connection, since=period.since, until=period.until)
    orders: dict[str, bridge.Order] = {}
    for connector, days in shops.items():
        for item in days.items:
            order = _shown(connector, item, days, period, currency, policy, zone)
            orders[order.ref] = order
    ads = sorted({*platforms, *spenders})
    _add_booked(connection, orders, sorted(shops), ads, period=period, currency=currency)
    by_platform = _add_credited(connection, orders, sorted(shops), ads, period=period, currency=currency)
    _add_clicks(connection, orders, sorted(shops), platforms, period, currency, policy, zone)
    for claim in mine:
        of = by_platform.setdefault(claim.platform, {"credited_minor": 0})
        for name, value in (
            ("claimed_orders", claim.orders),
            ("claimed_minor", claim.amount),
            ("claimed_view_minor", claim.viewed),
        ):
            of[name] = of.get(name, 0) + value
    built = bridge.build(
        sorted(orders.values(), key=lambda o: (len(o.ref), o.ref)), mine, platforms=platforms
    )
    silent = tuple(name for name in spenders if name not in platforms)
    return Told(built, silent, others, by_platform)


def _shown(
    connector: str,
    item: ControlItem,
    days: ShopDays,
    period: Period,
    currency: str,
    policy: Policy,
    zone: ZoneInfo,
) -> bridge.Order:
    shown = diff.shown(item, policy, zone)
    exact = diff.amount(item.total, shown.currency)[1] if shown.currency else None
    face = rules.minor(exact, exponent(currency)) if exact is not None else 0
    if shown.currency == currency:
        face = shown.gross or 0
    at = shown.created_at
    return bridge.Order(
        ref=f"{connector}:{shown.order_id}",
        shown=face,
        shown_same=shown.currency == currency,
        in_shop_days=at is not None and days.since <= at < days.until,
        in_days=_within(shown.day, period),
        counted=item.counted,
        sold=shown.sold,
        placed=face if shown.currency == currency else 0,
    )


def _within(day: date | None, period: Period) -> bool:
    return day is not None and period.since <= day < period.until


def _add_booked(
    connection: Connection,
    orders: dict[str, bridge.Order],
    shops: Sequence[str],
    platforms: Sequence[str],
    *,
    period: Period,
    currency: str,
) -> None:
    rows = store.sales(
        connection,
        shops=shops,
        platforms=platforms,
        currency=currency,
        since=period.since,
        until=period.until,
    )
    for row in rows:
        order = orders.get(row.ref, bridge.Order(row.ref, sold=True))
        if row.posted_on != row.business_day:
            orders[row.ref] = replace(order, elsewhere=True)
            continue
        orders[row.ref] = replace(
            order,
            gross=int(row.gross),
            tax=int(row.tax),
            shipping=int(row.shipping),
            credited=int(row.credited),
            to_others=int(row.to_others),
            unattributed=int(row.unattributed),
        )


def _add_credited(
    connection: Connection,
    orders: dict[str, bridge.Order],
    shops: Sequence[str],
    platforms: Sequence[str],
    *,
    period: Period,
    currency: str,
) -> dict[str, dict[str, int]]:
    """What else counts on the platforms' campaigns; returns the credit of each platform."""
    by_platform: dict[str, dict[str, int]] = {}
    rows = store.credited(
        connection,
        shops=shops,
        platforms=platforms,
        currency=currency,
        since=period.since,
        until=period.until,
    )
    sums: dict[str, tuple[int, int]] = {}
    for row in rows:
        amount, refunds = sums.get(row.ref, (0, 0))
        sums[row.ref] = (amount + row.amount, refunds + row.refunds)
        of = by_platform.setdefault(row.platform, {"credited_minor": 0})
        of["credited_minor"] += row.amount
    for ref, (amount, refunds) in sums.items():
        order = orders.get(ref, bridge.Order(ref))
        rest = amount - order.credited - refunds
        orders[ref] = replace(order, refunds=refunds, restated=rest)
    for ref, order in orders.items():
        if order.credited and ref not in sums:
            orders[ref] = replace(order, restated=-order.credited)
    return by_platform


def _add_clicks(
    connection: Connection,
    orders: dict[str, bridge.Order],
    shops: Sequence[str],
    platforms: Sequence[str],
    period: Period,
    currency: str,
    policy: Policy,
    zone: ZoneInfo,
) -> None:
    """The platforms that an order came by, and whether its person said no. An order placed after the period may
    have been clicked within it."""
    since, until = period.bounds(zone)
    rows = store.records(connection, shops=shops, since=since, until=until + CLICK_WINDOW)
    known = attribution.known_campaigns(connection)
    for at in range(0, len(rows), BATCH):
        batch = rows[at : at + BATCH]
        persons = _spans(batch)
        touches = attribution.read_touches(connection, persons, kinds=CLICKS)
        refused = store.refused(connection, sorted(persons))
        for row in batch:
            order = orders.get(row.ref)
            if order is None:
                order = bridge.Order(row.ref, sold=is_sale(row.status, policy))
            if not order.placed and row.currency == currency:
                order = replace(order, placed=row.total_minor)
            clicks: dict[str, datetime] = {}
            for touch in touchpoints(touches.get(row.person_id, ()), known):
                platform = (touch.campaign or "").partition(":")[0]
                if platform in platforms and row.occurred_at - CLICK_WINDOW <= touch.at <= row.occurred_at:
                    clicks[platform] = max(touch.at, clicks.get(platform, touch.at))
            latest = sorted(clicks.items(), key=lambda click: (-click[1].timestamp(), click[0]))
            found = tuple((name, _within(time.astimezone(zone).date(), period)) for name, time in latest)
            orders[row.ref] = replace(order, platforms=found, refused=row.person_id in refused)


def _spans(rows: Sequence[Any]) -> dict[str, tuple[datetime, datetime]]:
    """By person the span in which clicks may have led to one of its orders."""
    spans: dict[str, tuple[datetime, datetime]] = {}
    for row in rows:
        if row.person_id:
            since, until = spans.get(row.person_id, (row.occurred_at, row.occurred_at))
            spans[row.person_id] = (
                min(since, row.occurred_at - CLICK_WINDOW),
                max(until, row.occurred_at),
            )
    return spans


def as_dict(told: Told, *, period: Period, currency: str) -> dict[str, Any]:
    """JSON types only."""
    return {
        "since": period.since.isoformat(),
        "until": period.until.isoformat(),
        "currency": currency,
        **bridge.as_dict(told.bridge),
        "platforms": told.by_platform,
        "claim_nothing": list(told.silent),
        "claims_in_other_currencies": told.other_currencies,
    }
