"""What a WooCommerce shop holds now: the ids of orders and refunds, and whether one of them was deleted.

A shop says nothing of what was deleted for good: it is only missing from its lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from connectors.contract import Held, Ids, RawRecord
from connectors.errors import ConnectorError
from connectors.http import Http
from connectors.shops import woocommerce_wire as wire

Numbered = Callable[[str, Mapping[str, Any]], Iterator[wire.Rows]]
"""All pages of a list sorted by id; a page may come again (`WooCommerce._numbered`)."""

# `any` holds the trash in a shop with the newer order tables (HPOS), and not in others.
STATUSES = ("any", "trash")


def created(since: datetime, until: datetime) -> dict[str, Any]:
    """The query for what was created within the window, sorted by id."""
    return {
        "after": wire.stamp(wire.after(since)),
        "before": wire.stamp(wire.before(until)),
        "dates_are_gmt": "true",
        "orderby": "id",
        "order": "asc",
    }


def ids(numbered: Numbered, stream: str, since: datetime, until: datetime) -> Iterator[Ids]:
    """The ids of all orders or refunds created within the window; complete where the shop's own count of each
    list is reached."""
    params = {**created(since, until), "_fields": "id"}
    lists = [{**params, "status": status} for status in STATUSES] if stream == "orders" else [params]
    for query in lists:
        yield from _counted(numbered(f"/{stream}", query), stream)
    yield Ids((), complete=True)


def _counted(pages: Iterator[wire.Rows], stream: str) -> Iterator[Ids]:
    """The ids of one list. Raises `ConnectorError` unless the list was read whole by the shop's own count."""
    count, last_id, total = 0, -1, None
    for rows in pages:
        if any(not row.id.isdecimal() for row in rows.rows):
            raise ConnectorError("protocol", f"a list of {stream} holds one without an id")
        numbers = [int(row.id) for row in rows.rows]
        fresh = sorted({number for number in numbers if number > last_id})  # a page may come again
        count, last_id, total = count + len(fresh), max([last_id, *fresh]), rows.total
        yield Ids([str(number) for number in numbers])
    if total is None or count < total:
        raise ConnectorError(
            "protocol",
            f"the list of {stream} came with {count} ids, and the shop says"
            f" {'not how many there are' if total is None else total}: what is missing proves nothing",
            hint="Nothing was taken back; the next run asks again.",
        )


def gone(http: Http, stream: str, held: Held) -> RawRecord | None:
    """The shop's own word that it no longer has this order or refund, or None where it has it."""
    parent = _order_of(held) if stream == "refunds" else None
    if not held.external_id.isdecimal() or (stream == "refunds" and parent is None):
        return None
    path = f"/orders/{parent}/refunds/{held.external_id}" if parent else f"/orders/{held.external_id}"
    answer = http.get(path, {"_fields": "id"})
    if answer.status < 400:
        return None
    if not wire.says_gone(answer):
        problem = wire.problem_of(answer)
        assert problem is not None
        raise ConnectorError(problem.kind, problem.message, hint=problem.hint, status=answer.status)
    return RawRecord(held.external_id, answer.body, context=held.context, deleted=True)


class _Refund(msgspec.Struct):
    parent_id: Any = None


def _order_of(held: Held) -> str | None:
    """The id of the order to which a refund belongs."""
    found = held.context.get("order_id")
    if found is None:
        try:
            found = msgspec.json.decode(held.body, type=_Refund).parent_id
        except msgspec.DecodeError:
            return None
    return str(found) if str(found).isdecimal() and str(found) != "0" else None
