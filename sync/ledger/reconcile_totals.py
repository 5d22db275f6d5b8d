"""A shop's own totals by day, where it has any that can be trusted: a total counts only if its order count agrees."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.engine import Connection

from connectors.contract import ControlDay, Totalled
from connectors.errors import ConnectorError
from sync.ledger import differences as diff
from sync.ledger import reconcile_store as store
from sync.report.period import Period

PLACES = Decimal("0.0001")
"""Shops add up floats: what is finer than this is their dust, and no currency has more decimals."""


def compare(
    connection: Connection, source: Any, period: Period, *, today: date, refunds: bool
) -> tuple[str, list[dict[str, Any]]]:
    """Which road was taken, in words, and the days on which the shop's own total differs from its orders.

    The orders and `refunds` (where the shop shows them by date) stand in the temporary tables.
    """
    if not isinstance(source, Totalled):
        return "not used: this kind of shop gives none", []
    last = min(period.until - timedelta(days=1), today)
    if last < period.since:
        return "not used: the period is still to come", []
    try:
        days = list(source.control_days(period.since, last))
    except ConnectorError as error:
        return f"not used: {error.message}", []
    if not days:
        return "not used: the shop gives none for these days", []
    rows: list[dict[str, Any]] = []
    for day in days:
        counted = store.counted(connection, day.since, day.until)
        if counted.orders != day.orders:
            return (
                f"not used: on the day from {day.since:%Y-%m-%d %H:%M} UTC they count {day.orders:,} orders, and"
                f" the shop shows {counted.orders:,}",
                [],
            )
        if not counted.unreadable:
            rows += _differs(day, "gross", day.gross, counted.gross)
        if refunds:
            rows += _differs(day, "refunds", day.refunds, store.given_back(connection, day.since, day.until))
    return f"used: on each of {len(days):,} days the shop's own count of orders agrees", rows


def _differs(day: ControlDay, what: str, own: str, shown: Decimal) -> list[dict[str, Any]]:
    theirs, listed = Decimal(own).quantize(PLACES), shown.quantize(PLACES)
    if theirs == listed:
        return []
    return [
        diff.row(
            "shop's own total",
            f"{what} of the day from {day.since:%Y-%m-%d %H:%M} UTC",
            order_id=None,
            day=day.since.date(),
            currency="",
            shop=f"{theirs.normalize():,f} by its own total, {listed.normalize():,f} by its list",
            journal="compared order by order",
            cause="the shop's own totals are behind its orders",
            todo="let the shop's scheduled jobs run, then ask again",
        )
    ]
