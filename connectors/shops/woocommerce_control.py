"""How WooCommerce is asked for control totals: orders by creation, refunds by their own date, days by its analytics.

`reports/sales` is not asked: with the newer order tables (HPOS) it answers 0.00 (observed in 10.3.6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from connectors.contract import (
    ControlDay,
    ControlItem,
    ControlRefund,
    Page,
    RawRecord,
    Window,
)
from connectors.errors import ConnectorError
from connectors.http import Answer
from connectors.shops import woocommerce_audit as audit
from connectors.shops import woocommerce_wire as wire

FIELDS = "id,status,currency,total,total_tax,shipping_total,refunds,date_created_gmt,date_modified_gmt,date_paid_gmt"
ANALYTICS = "/wp-json/wc-analytics/reports/revenue/stats"
# The statuses that the shop's analytics leave out unless somebody set it otherwise (WooCommerce > Analytics >
# Settings); if somebody did, its order count will not agree and its totals are not used.
UNCOUNTED = frozenset({"pending", "failed", "cancelled", "checkout-draft", "auto-draft", "trash"})
DAYS_A_CALL = 100


class Control:
    """Asks one shop. `get` makes one call, `numbered` walks a list by pages, `refund_pages` yields the refunds of
    a window, `refunds_of` those of an order; `root` is the shop's address."""

    def __init__(
        self,
        *,
        get: Callable[[str, Mapping[str, Any]], Answer],
        numbered: Callable[[str, Mapping[str, Any]], Iterator[wire.Rows]],
        refund_pages: Callable[[Window], Iterator[Page]],
        refunds_of: Callable[[str], list[wire.Row]],
        root: str,
    ) -> None:
        self._get = get
        self._numbered = numbered
        self._refund_pages = refund_pages
        self._refunds_of = refunds_of
        self._root = root

    def items(self, since: datetime, until: datetime) -> Iterator[ControlItem]:
        """Every order created within the window. `any` holds the trash in a shop with the newer order tables
        (HPOS), and not in others."""
        params = {**audit.created(since, until), "_fields": FIELDS}
        in_trash: set[str] = set()
        for status in audit.STATUSES:
            last_id = -1
            for rows in self._numbered("/orders", {**params, "status": status}):
                for row in rows.rows:
                    number = int(row.id) if row.id.isdecimal() else None
                    if number is not None:
                        if number <= last_id:
                            continue  # a page was read again
                        last_id = number
                    if row.id in in_trash or not wire.within(row.created_at, since, until):
                        continue
                    if row.item.status == "trash":
                        in_trash.add(row.id)
                    yield self._item(row)

    def _item(self, row: wire.Row) -> ControlItem:
        item, status = row.item, str(row.item.status)
        paid = wire.time_of(item.date_paid_gmt) is not None
        return ControlItem(
            row.id,
            status,
            str(item.currency),
            str(item.total),
            created_at=row.created_at,
            modified_at=row.modified_at,
            tax=_text(item.total_tax),
            shipping=_text(item.shipping_total),
            refunded=self._refunded(row),
            refund_ids=_ids(item.refunds),
            paid=paid and status not in UNCOUNTED and status != "on-hold",
            counted=status not in UNCOUNTED,
        )

    def _refunded(self, row: wire.Row) -> str | None:
        """An empty `refunds` proves nothing where the status says refunded: some versions leave it so."""
        shown = row.item.refunds
        if not isinstance(shown, list):
            return None
        if not shown and row.item.status == "refunded":
            return _sum([_text(refund.item.amount) for refund in self._refunds_of(row.id)])
        totals = [_text(one.get("total")) if isinstance(one, dict) else None for one in shown]
        found = _sum(totals)
        return None if found is None else str(abs(Decimal(found)))

    def refunds(self, since: datetime, until: datetime) -> Iterator[ControlRefund]:
        for page in self._refund_pages(Window(since, until)):
            for record in page.records:
                row = wire.row_of(msgspec.Raw(record.body))
                if wire.within(row.created_at, since, until):
                    order_id = record.context.get("order_id", row.item.parent_id)
                    yield ControlRefund(row.id, str(order_id), str(row.item.amount), row.created_at)

    def days(self, first: date, last: date) -> Iterator[ControlDay]:
        """What the shop's analytics say: days of its own time zone, sales net of what was refunded that day.

        They are filled by the shop's scheduled jobs, and 0 or old until those have run.
        """
        params = {
            "after": f"{first.isoformat()}T00:00:00",
            "before": f"{last.isoformat()}T23:59:59",
            "interval": "day",
            "order": "asc",
            "per_page": DAYS_A_CALL,
        }
        asked = (last - first).days + 1
        for page in range(1, -(-asked // DAYS_A_CALL) + 1):
            answer = self._get(self._root + ANALYTICS, {**params, "page": page})
            problem = wire.problem_of(answer)
            if problem is not None:
                raise ConnectorError(problem.kind, problem.message, hint=problem.hint, status=answer.status)
            yield from _days(answer)

    def named(self, ids: Sequence[str]) -> Iterator[ControlItem]:
        for row in self._orders_named(ids, FIELDS):
            if isinstance(row, wire.Row):
                yield self._item(row)

    def read_named(self, stream: str, ids: Sequence[str]) -> Page:
        if stream == "orders":
            rows = self._orders_named(ids, None)
        elif stream == "refunds":
            rows = self._refunds_named(ids)
        else:
            raise ConnectorError("config", f"woocommerce shows no named {stream}")
        return Page(
            [
                RawRecord(row.id, row.body, version=row.modified_at or row.created_at)
                if isinstance(row, wire.Row)
                else row
                for row in rows
            ]
        )

    def _orders_named(self, ids: Sequence[str], fields: str | None) -> Iterator[wire.Row | RawRecord]:
        """Each by itself where the list lacks it: an order whose status a plug-in took away is in no list."""
        params: dict[str, Any] = {"include": ",".join(ids), "orderby": "id", "order": "asc"}
        if fields is not None:
            params["_fields"] = fields
        shown: set[str] = set()
        for status in audit.STATUSES:
            for rows in self._numbered("/orders", {**params, "status": status}):
                for row in rows.rows:
                    if row.id in ids and row.id not in shown:
                        shown.add(row.id)
                        yield row
        for id_ in ids:
            if id_ not in shown:
                answer = self._get(f"/orders/{id_}", {} if fields is None else {"_fields": fields})
                problem = wire.problem_of(answer)
                if problem is None:
                    yield wire.row_of(msgspec.Raw(answer.body))
                elif wire.says_gone(answer):
                    yield RawRecord(id_, answer.body, deleted=True)
                else:
                    raise ConnectorError(
                        problem.kind, problem.message, hint=problem.hint, status=answer.status
                    )

    def _refunds_named(self, ids: Sequence[str]) -> Iterator[wire.Row | RawRecord]:
        for id_ in ids:
            answer = self._get("/refunds", {"include": id_})
            problem = wire.problem_of(answer)
            if problem is not None:
                raise ConnectorError(problem.kind, problem.message, hint=problem.hint, status=answer.status)
            rows = [wire.row_of(raw) for raw in answer.raw_items()]
            found = [row for row in rows if row.id == id_]
            yield found[0] if found else RawRecord(id_, answer.body, deleted=True)


class _Totals(msgspec.Struct):
    orders_count: int
    total_sales: Decimal
    refunds: Decimal


class _Interval(msgspec.Struct):
    date_start_gmt: str
    date_end_gmt: str
    subtotals: _Totals


class _Stats(msgspec.Struct):
    intervals: list[_Interval]


def _days(answer: Answer) -> Iterator[ControlDay]:
    try:
        found = msgspec.json.decode(answer.body, type=_Stats)
    except msgspec.DecodeError as error:
        raise ConnectorError("protocol", f"{answer.path} answered in another form than known") from error
    for each in found.intervals:
        since, last = _moment(each.date_start_gmt), _moment(each.date_end_gmt)
        if since is None or last is None:
            raise ConnectorError("protocol", f"{answer.path} names a day whose time cannot be read")
        totals = each.subtotals
        yield ControlDay(
            since=since,
            until=last + timedelta(seconds=1),
            orders=totals.orders_count,
            gross=f"{totals.total_sales + totals.refunds:f}",
            refunds=f"{totals.refunds:f}",
        )


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


def _text(value: Any) -> str | None:
    return (
        str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None
    )


def _ids(refunds: Any) -> tuple[str, ...]:
    shown = refunds if isinstance(refunds, list) else []
    return tuple(str(one["id"]) for one in shown if isinstance(one, dict) and one.get("id"))


def _sum(amounts: Sequence[str | None]) -> str | None:
    """The sum of decimal texts; None where one of them is none."""
    total = Decimal(0)
    for amount in amounts:
        try:
            total += Decimal(amount or "?")
        except ArithmeticError:
            return None
    return f"{total:f}"
