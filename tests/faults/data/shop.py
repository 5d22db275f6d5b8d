"""Orders and refunds put into the sandbox's shop as a test needs them, and what came of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from connectors.sandbox import shop_documents as documents
from connectors.sandbox.shop_documents import Buyer, Goods, Sale, Shop
from connectors.sandbox.state import Doc, Fault

WARSAW = ZoneInfo("Europe/Warsaw")
SHOP = Shop("PLN", WARSAW, vat=23)
NEW = datetime(2025, 6, 2, 9, tzinfo=UTC)  # after all that the generated shop holds
ANNA = "anna.bad.data@example.com"
ORDERS = r"/wc/v3/orders$"
REFUNDS = r"/wc/v3/refunds$"


def order(
    number: int,
    total: Any = "100.00",
    *,
    at: datetime = NEW,
    modified: datetime | None = None,
    status: str = "completed",
    currency: str = "PLN",
    email: str = ANNA,
    **fields: Any,
) -> Doc:
    """A paid order whose total is `total` as the shop writes it; `fields` replace others of its body."""
    sale = Sale(
        number,
        status,
        at,
        Buyer("Anna", "Nowak", email),
        [(Goods(11, "Kubek ceramiczny", "MUG-1", 100_00), 1)],
        shipping=0,
        paid=at,
        modified=modified or max(at, NEW),
        currency=currency,
    )
    body = {
        **dict.fromkeys(("line_items", "shipping_lines", "tax_lines"), ()),
        **dict.fromkeys(("total_tax", "shipping_total", "shipping_tax", "cart_tax"), "0"),
        "total": total,
    }
    return documents.with_fields(documents.order_doc(sale, SHOP), **body | fields)


def refund(number: int, order: Doc, amount: Any, *, at: datetime = NEW, **fields: Any) -> Doc:
    """A refund that names an amount alone."""
    body = {
        "id": number,
        "parent_id": int(order.id),
        **documents.dates("created", at, WARSAW),
        "amount": amount,
        "reason": "",
        "refunded_by": 1,
        "refunded_payment": False,
        "meta_data": [],
        **{name: [] for name in ("line_items", "shipping_lines", "tax_lines", "fee_lines")},
        **fields,
    }
    return Doc(str(number), body, at=at.timestamp(), changed=at.timestamp(), parent=order.id)


def put(world: Any, *docs: Doc, kind: str = "order") -> None:
    world.state.put("woocommerce", kind, docs)


def answers_with(world: Any, *bodies: Any, path: str = ORDERS, total: int | None = None) -> None:
    """The shop's next answer on `path`. Its text is ASCII: what JSON can escape comes as an escape."""
    headers = {
        "X-WP-Total": str(len(bodies) if total is None else total),
        "X-WP-TotalPages": "1",
        "Content-Type": "application/json",
    }
    world.state.inject(Fault("woocommerce", path, 200, headers, json.dumps(list(bodies))))


def pulled(world: Any, status: str = "done") -> dict[str, dict[str, int]]:
    """Sync the shop alone; the run's counts by stream."""
    [run] = world.sync("shop", pushes=False).runs
    assert run.status == status, (run.errors, run.problems)
    counts: dict[str, dict[str, int]] = run.counts
    return counts


def booked(world: Any, order_id: str | int, *, part: str = "%") -> dict[str, int]:
    """What the journal holds of one order, by account, without accounts at zero."""
    rows = world.rows(
        "SELECT p.account, sum(p.amount_minor) AS amount FROM postings p JOIN entries e ON e.id = p.entry_id"
        " WHERE e.connector = 'shop' AND e.subject = :subject AND e.part LIKE :part"
        " GROUP BY 1 HAVING sum(p.amount_minor) <> 0 ORDER BY 1",
        subject=f"order:{order_id}",
        part=part,
    )
    return {row.account: int(row.amount) for row in rows}


def revenue(world: Any, order_id: str | int) -> int:
    return -booked(world, order_id).get("Revenue:Shop:shop", 0)


def set_aside(world: Any) -> list[tuple[str, str, str, str]]:
    """What is in quarantine: stream, record, field, reason."""
    rows = world.rows("SELECT stream, external_id, field, reason FROM quarantine ORDER BY 1, 2")
    return [tuple(row) for row in rows]


def wrong(world: Any) -> dict[str, str]:
    """The checks of `verify` that failed, and the first thing that each names."""
    return {check.name: check.wrong for check in world.verify()}


def campaigns(world: Any, period: str | None = None) -> Any:
    """The campaign report, over its command."""
    chosen = ["--period", period] if period else []
    printed = world.run("report", "campaigns", *chosen, "--format", "json")
    assert printed.code == 0, printed.err
    return printed.json
