"""The refunds of a period, by their own date, beside the journal's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from connectors.contract import Refundable
from mappings import normalise
from mappings.currencies import exponent
from sync.attribute.step import is_sale
from sync.ledger import differences as diff
from sync.ledger import reconcile_facts as facts_store
from sync.ledger import reconcile_store as store
from sync.ledger import store as journal
from sync.ledger.differences import Facts
from sync.ledger.reconcile_shop import DIFFERENCES_MAX, Asked, batches, revenue, say_money, shown_elsewhere


def copy(asked: Asked, source: Refundable, since: datetime, until: datetime) -> None:
    """In batches, because the currency of a refund is that of its order."""
    count = 0
    for batch in batches(source.control_refunds(since, until)):
        order_ids = {normalise.text(refund.order_id) or "" for refund in batch}
        currencies = store.currencies(asked.connection, asked.shop.connector, sorted(order_ids))
        rows = []
        for refund in batch:
            order_id = normalise.text(refund.order_id) or ""
            currency = currencies.get(order_id)
            minor, exact = diff.amount(refund.amount, currency or "XXX")
            day = refund.created_at.astimezone(asked.zone).date() if refund.created_at else None
            whole = currency is not None and exact is not None and exact == _major(minor, currency)
            rows.append(
                (
                    normalise.text(refund.external_id) or "",
                    order_id,
                    day,
                    refund.created_at,
                    currency,
                    minor if currency else None,
                    whole,
                    exact,
                )
            )
        count += store.copy_refunds(asked.connection, rows, first=count)


def _major(minor: int | None, currency: str) -> Decimal | None:
    return None if minor is None else Decimal(minor).scaleb(-exponent(currency), context=normalise.EXACT)


def compare(asked: Asked) -> tuple[list[dict[str, Any]], list[str]]:
    """The differences of refunds by their own date; and the refunds of what is no sale, which are none."""
    found = store.different_refunds(
        asked.connection,
        since=asked.period.since,
        until=asked.period.until,
        limit=DIFFERENCES_MAX + 1,
    )
    rows: list[dict[str, Any]] = []
    no_sale: list[str] = []
    for batch in batches(found):
        known = facts_store.facts(
            asked.connection,
            asked.shop.connector,
            "refund",
            [row.id for row in batch],
            streams=asked.shop.streams["refund"],
        )
        subjects = sorted({(asked.shop.connector, f"order:{row.order_id}") for row in batch})
        live = journal.read_booked(asked.connection, subjects).live
        sold = _sold(asked, sorted({row.order_id for row in batch if not row.is_booked}))
        for row in batch:
            entries = live.get((asked.shop.connector, f"order:{row.order_id}"), [])
            booked = next((e for e in entries if e.part == f"refund:{row.id}"), None)
            if not row.is_booked and booked is None and not sold.get(row.order_id, True):
                no_sale.append(row.id)
                continue
            rows += _refund_rows(asked, row, booked, known[row.id], order_is_booked=bool(entries))
    return rows, no_sale


def _sold(asked: Asked, ids: Sequence[str]) -> dict[str, bool]:
    """Whether these orders are sales: as the shop shows them, or else by their records."""
    sold: dict[str, bool] = {}
    refs = [(asked.shop.connector, id_) for id_ in ids]
    for (_, id_), order in journal.read_orders(asked.connection, refs).items():
        sold[id_] = is_sale(order.status, asked.policy)
    sold |= store.shown_sold(asked.connection, ids)
    unseen = [id_ for id_ in ids if id_ not in store.shown_sold(asked.connection, ids)]
    return sold | {id_: s.sold for id_, s in (shown_elsewhere(asked, unseen) or {}).items()}


def _refund_rows(
    asked: Asked, row: Any, booked: Any, facts: Facts, *, order_is_booked: bool
) -> Iterator[dict[str, Any]]:
    kinds: list[diff.Kind] = []
    b_day: date | None = row.b_day
    b_amount, b_currency = row.b_amount, row.b_currency
    if not row.is_booked and booked is not None:
        b_day = booked.happened_at.astimezone(asked.zone).date()
        b_amount, b_currency = revenue(booked), booked.currency
    if not row.is_shown:
        kinds.append("missing there")
    elif b_amount is None:
        if _is_booked_as_nothing(row, facts):
            return
        kinds.append("missing here")
    else:
        if row.amount is None or abs(row.amount - b_amount) > (0 if row.exact else 1):
            kinds.append("refunds")
        if row.day != b_day:
            kinds.append("day")
    for kind in kinds:
        cause, todo = diff.why_refund(
            kind,
            row.created_at,
            facts,
            asked.commands,
            order_is_booked=order_is_booked,
            order_id=row.order_id,
        )
        by_day = kind == "day"
        yield diff.row(
            kind,
            f"refund {row.id} of order {row.order_id}",
            order_id=row.order_id,
            refund_id=row.id,
            day=row.day or b_day,
            currency=row.currency or b_currency or "",
            shop=_text(row.day) if by_day else _say_or_nothing(row.is_shown, row.amount, row.currency),
            journal=_text(b_day) if by_day else _say_or_nothing(b_amount is not None, b_amount, b_currency),
            cause=cause,
            todo=todo,
        )


def _is_booked_as_nothing(row: Any, facts: Facts) -> bool:
    """Of refunds finer than their currency, one may be booked with the others of its order, and as nothing itself."""
    return facts.held is not None and not row.exact and row.amount is not None and abs(row.amount) <= 1


def _text(day: date | None) -> str:
    return day.isoformat() if day else "no day"


def _say_or_nothing(there: bool, minor: int | None, currency: str | None) -> str:
    return say_money(minor, currency) if there else "nothing"
