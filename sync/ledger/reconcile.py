"""The books of a period beside the shop's own totals, and each difference named order by order.

The shop is asked by another road than the order stream, for two days more on both sides, so that an order that is
booked on another day is found as that, and not as one that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection

from connectors.contract import ControlItem, Refundable
from sync.attribute.rules import Policy
from sync.ledger import differences as diff
from sync.ledger import reconcile_facts as facts_store
from sync.ledger import reconcile_refunds, reconcile_totals
from sync.ledger import reconcile_store as store
from sync.ledger import store as journal
from sync.ledger.differences import Booked, Commands, Shown
from sync.ledger.reconcile_shop import (
    DIFFERENCES_MAX,
    Asked,
    Shop,
    batches,
    revenue,
    say_money,
    shown_elsewhere,
)
from sync.report.period import Period

MARGIN = timedelta(days=2)
Say = Callable[[str], None]
Reconciled = dict[str, Any]
"""What came of it, JSON types only: connector, since, until, road, totals, free_orders, restated, differences,
and the last entry of the journal that it holds for."""


def reconcile(
    connection: Connection,
    shop: Shop,
    *,
    period: Period,
    named: str,
    policy: Policy,
    zone: ZoneInfo,
    now: datetime,
    say: Say,
) -> Reconciled:
    """Compare one shop with the journal. `named` is the period as commands write it.

    The caller's transaction is only read from, but for temporary tables that are gone at its end. Raises a
    `ConnectorError` when the shop cannot be asked.
    """
    asked = Asked(connection, shop, period, policy, zone, Commands(shop.connector, named, shop.start, zone))
    wide = Period(period.since - MARGIN, period.until + MARGIN)
    since, until = wide.bounds(zone)
    store.begin(connection)
    say(f"{shop.connector}: its orders of {named}")
    items = shop.source.control_items(since, until)
    count = store.copy_shown(connection, (_line(item, policy, zone) for item in items))
    by_refund = isinstance(shop.source, Refundable)
    if isinstance(shop.source, Refundable):
        say(f"{shop.connector}: its refunds of {named}")
        reconcile_refunds.copy(asked, shop.source, since, until)
    store.keep_last(connection)
    last_entry, _ = journal.head(connection)
    store.copy_booked(connection, shop.connector, since=wide.since, until=wide.until)
    refund_rows, no_sale = reconcile_refunds.compare(asked) if by_refund else ([], [])
    rows = _orders(asked, named_already={row["order_id"] for row in refund_rows}) + refund_rows
    own, own_rows = reconcile_totals.compare(
        connection, shop.source, period, today=now.astimezone(zone).date(), refunds=by_refund
    )
    rows += own_rows
    result: Reconciled = {
        "connector": shop.connector,
        "since": period.since.isoformat(),
        "until": period.until.isoformat(),
        "road": {
            "orders": f"a fresh count by day: {count:,} orders read by the time they were placed",
            "refunds": "read by their own date" if by_refund else "as the orders show them",
            "own_totals": own,
        },
        "totals": _totals(asked, no_sale),
        "free_orders": store.free_orders(connection, since=period.since, until=period.until),
        "restated": store.restated(connection, shop.connector, since=period.since, until=period.until),
        "differences": rows[:DIFFERENCES_MAX],
        "complete": len(rows) <= DIFFERENCES_MAX,
        "last_entry": last_entry,
    }
    store.end(connection)
    return result


def _line(item: ControlItem, policy: Policy, zone: ZoneInfo) -> tuple[Shown, bool, Decimal | None]:
    shown = diff.shown(item, policy, zone)
    exact = diff.amount(item.total, shown.currency)[1] if shown.currency else None
    return shown, item.counted, exact


def _orders(asked: Asked, *, named_already: set[str]) -> list[dict[str, Any]]:
    """The differences of orders. Those in what was given back are left out where the refund itself is named."""
    found = store.different(
        asked.connection,
        since=asked.period.since,
        until=asked.period.until,
        limit=DIFFERENCES_MAX + 1,
    )
    rows: list[dict[str, Any]] = []
    for batch in batches(found):
        ids = [id_ for id_, _, _ in batch]
        known = facts_store.facts(
            asked.connection, asked.shop.connector, "order", ids, streams=asked.shop.streams["order"]
        )
        elsewhere = shown_elsewhere(asked, [id_ for id_, shown, _ in batch if shown is None])
        booked_elsewhere = _booked_elsewhere(asked, [s for _, s, booked in batch if s and booked is None])
        for id_, in_days, booked_in_days in batch:
            facts, shown = known[id_], in_days
            if shown is None and elsewhere is not None:
                shown = elsewhere.get(id_)
                facts = replace(facts, asked=True, elsewhere=shown)
            booked = booked_in_days or booked_elsewhere.get(id_)
            for kind in diff.kinds(shown, booked, facts.held):
                if kind == "refunds" and id_ in named_already:
                    continue
                cause, todo = diff.why(kind, shown, booked, facts, asked.commands)
                rows.append(_order_row(kind, id_, shown, booked, cause, todo))
    return rows


def _booked_elsewhere(asked: Asked, shown: Sequence[Shown]) -> dict[str, Booked]:
    """The sales in force of these orders on other days than were asked for. What the journal does not hold as
    accounts of its own is taken as shown: it is the day that differs."""
    by_subject = {(asked.shop.connector, f"order:{s.order_id}"): s for s in shown}
    if not by_subject:
        return {}
    live = journal.read_booked(asked.connection, list(by_subject)).live
    found: dict[str, Booked] = {}
    for subject, entries in live.items():
        sale = next((entry for entry in entries if entry.part == "sale"), None)
        if sale is None:
            continue
        order = by_subject[subject]
        given_back = sum(revenue(entry) for entry in entries if entry.part.startswith("refund:"))
        found[order.order_id] = Booked(
            order_id=order.order_id,
            day=sale.happened_at.astimezone(asked.zone).date(),
            happened_at=sale.happened_at,
            currency=sale.currency,
            gross=-revenue(sale),
            tax=order.tax or 0,
            shipping=order.shipping or 0,
            refunded=given_back,
        )
    return found


def _order_row(
    kind: diff.Kind, id_: str, shown: Shown | None, booked: Booked | None, cause: str, todo: str
) -> dict[str, Any]:
    currency = (shown.currency if shown and shown.currency else None) or (booked.currency if booked else "")
    shop, book = _sides(kind, shown, booked)
    day = (shown.day if shown else None) or (booked.day if booked else None)
    return diff.row(
        kind,
        f"order {id_}",
        order_id=id_,
        day=day,
        currency=currency,
        shop=shop,
        journal=book,
        cause=cause,
        todo=todo,
    )


def _sides(kind: diff.Kind, shown: Shown | None, booked: Booked | None) -> tuple[str, str]:
    """What each side says of the matter of this difference."""
    there = here = "nothing"
    if shown is not None:
        values = {
            "amount": say_money(shown.gross, shown.currency),
            "tax": say_money(shown.tax, shown.currency),
            "shipping": say_money(shown.shipping, shown.currency),
            "refunds": say_money(shown.refunded, shown.currency),
            "currency": shown.currency or "no currency",
            "status": shown.status,
            "day": shown.day.isoformat() if shown.day else "no day",
        }
        there = values.get(kind, values["amount"])
    if booked is not None:
        values = {
            "amount": say_money(booked.gross, booked.currency),
            "tax": say_money(booked.tax, booked.currency),
            "shipping": say_money(booked.shipping, booked.currency),
            "refunds": say_money(booked.refunded, booked.currency),
            "currency": booked.currency,
            "day": booked.day.isoformat(),
        }
        here = values.get(kind, values["amount"])
    return there, here


def _totals(asked: Asked, no_sale: Sequence[str]) -> list[dict[str, Any]]:
    """By currency and day, what the shop and what the journal come to, in minor units."""
    found: dict[tuple[str, date], dict[str, Any]] = {}
    rows = store.totals(asked.connection, since=asked.period.since, until=asked.period.until, no_sale=no_sale)
    for row in rows:
        line = found.setdefault(
            (row.currency or "", row.day),
            {"currency": row.currency or "", "day": row.day.isoformat(), "shop": _none(), "journal": _none()},
        )
        line[row.side] = {
            "orders": row.orders,
            "gross_minor": row.gross,
            "tax_minor": row.tax,
            "shipping_minor": row.shipping,
            "refunds_minor": row.refunds,
            "refunded_minor": row.refunded,
        }
    return list(found.values())


AMOUNTS = ("orders", "gross_minor", "tax_minor", "shipping_minor", "refunds_minor", "refunded_minor")


def _none() -> dict[str, int]:
    return dict.fromkeys(AMOUNTS, 0)


def sums(result: Reconciled) -> dict[str, dict[str, dict[str, int]]]:
    """The totals of the whole period, by currency and side."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for line in result["totals"]:
        of = found.setdefault(line["currency"], {"shop": _none(), "journal": _none()})
        for side in ("shop", "journal"):
            for name in AMOUNTS:
                of[side][name] += line[side][name] or 0
    return found
