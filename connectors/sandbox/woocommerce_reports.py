"""The sandbox shop's own totals: what its analytics and its older sales report answer.

The analytics (wc-analytics/reports/revenue/stats) count the orders placed on a day of the shop's zone, and take
off what was refunded on that day; money is JSON floats. They are filled by scheduled jobs: what changed after the
document ("setting", "analytics_until") is not in them yet. The sales report answers 0.00, as in a WooCommerce
10.3.6 with the newer order tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from connectors.sandbox import shop_documents as documents
from connectors.sandbox.state import Doc, State

VENDOR = "woocommerce"
EXCLUDED = frozenset({"pending", "failed", "cancelled", "checkout-draft", "auto-draft", "trash"})


def revenue_stats(
    state: State, zone: ZoneInfo, *, first: date, last: date, page: int, per_page: int
) -> tuple[dict[str, Any], int]:
    """The answer for the days from `first` to `last`, and how many days there are."""
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    until = state.get(VENDOR, "setting", "analytics_until")
    known_until = float(until.body["value"]) if until else float("inf")
    intervals = [_interval(state, zone, day, known_until) for day in days]
    shown = intervals[(page - 1) * per_page : page * per_page]
    totals = {
        name: sum(interval["subtotals"][name] for interval in intervals)
        for name in ("orders_count", "gross_sales", "total_sales", "refunds", "taxes", "shipping")
    }
    return {"totals": totals, "intervals": shown}, len(days)


def _interval(state: State, zone: ZoneInfo, day: date, known_until: float) -> dict[str, Any]:
    start = datetime.combine(day, time(), zone)
    end = datetime.combine(day + timedelta(days=1), time(), zone)
    begins, ends = start.timestamp(), end.timestamp() - 1
    orders = [
        doc
        for doc in state.select(VENDOR, "order", at_from=begins, at_to=ends)[0]
        if doc.body["status"] not in EXCLUDED and doc.changed <= known_until
    ]
    refunds = [
        doc
        for doc in state.select(VENDOR, "refund", at_from=begins, at_to=ends)[0]
        if doc.changed <= known_until
    ]
    given_back = sum(documents.minor(doc.body["amount"]) for doc in refunds)
    gross, tax, shipping = (_sum(orders, name) for name in ("total", "total_tax", "shipping_total"))
    last = end - timedelta(seconds=1)
    return {
        "interval": day.isoformat(),
        "date_start": f"{start:%Y-%m-%d %H:%M:%S}",
        "date_start_gmt": f"{start.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        "date_end": f"{last:%Y-%m-%d %H:%M:%S}",
        "date_end_gmt": f"{last.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        "subtotals": {
            "orders_count": len(orders),
            "gross_sales": (gross - tax - shipping) / 100,
            "total_sales": (gross - given_back) / 100,
            "refunds": given_back / 100,
            "taxes": (tax + _taken_back(refunds, "line_items", "total_tax")) / 100,
            "shipping": (shipping + _taken_back(refunds, "shipping_lines", "total")) / 100,
            "segments": [],
        },
    }


def _sum(docs: Sequence[Doc], name: str) -> int:
    return sum(documents.minor(doc.body[name]) for doc in docs)


def _taken_back(refunds: Sequence[Doc], lines: str, name: str) -> int:
    """What the lines of refunds take back (below zero)."""
    return sum(documents.minor(line[name]) for doc in refunds for line in doc.body.get(lines, ()))


def sales(first: date, last: date) -> list[Mapping[str, Any]]:
    """One report, of nothing."""
    empty = {"sales": "0.00", "orders": 0, "items": 0, "tax": "0.00", "shipping": "0.00", "discount": "0.00"}
    totals = {
        (first + timedelta(days=n)).isoformat(): empty | {"customers": 0}
        for n in range((last - first).days + 1)
    }
    return [
        {
            "total_sales": "0.00",
            "net_sales": "0.00",
            "average_sales": "0.00",
            "total_orders": 0,
            "total_items": 0,
            "total_tax": "0.00",
            "total_shipping": "0.00",
            "total_refunds": 0,
            "total_discount": "0.00",
            "totals_grouped_by": "day",
            "totals": totals,
        }
    ]
