"""What happens to an order of the sandbox's shop after it was placed: edits, cancellation, refunds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from connectors.sandbox import shop_documents as documents
from connectors.sandbox.shop_documents import Shop
from connectors.sandbox.state import Doc


def modified(order: Doc, now: datetime, shop: Shop, **fields: Any) -> Doc:
    """The order with other fields, changed `now`."""
    body = {**order.body, **fields, **documents.dates("modified", now, shop.zone)}
    return Doc(order.id, body, at=order.at, changed=float(int(now.timestamp())))


def with_dearer_line(order: Doc, now: datetime, shop: Shop) -> Doc:
    """The order after the price of its first line was put up by a tenth, and by a minor unit at the least."""
    line, *others = order.body["line_items"]
    gross = documents.line_gross(line)
    gross += line["quantity"] * max(1, gross // line["quantity"] // 10)
    tax = documents.tax_within(gross, shop.vat)
    more, more_tax = gross - documents.line_gross(line), tax - documents.minor(line["total_tax"])
    goods_tax = documents.minor(order.body["cart_tax"]) + more_tax
    edited = {
        **line,
        "price": (gross - tax) / line["quantity"] / 100,
        **dict.fromkeys(("subtotal", "total"), documents.money(gross - tax)),
        **dict.fromkeys(("subtotal_tax", "total_tax"), documents.money(tax)),
        "taxes": documents.tax_entries(tax, shop.vat),
    }
    return modified(
        order,
        now,
        shop,
        line_items=[edited, *others],
        cart_tax=documents.money(goods_tax),
        total=documents.money(documents.order_gross(order) + more),
        total_tax=documents.money(documents.minor(order.body["total_tax"]) + more_tax),
        tax_lines=documents.tax_lines(
            int(order.id) * 10 + 8, goods_tax, documents.minor(order.body["shipping_tax"]), shop.vat
        ),
    )


def refund_docs(
    order: Doc,
    *,
    number: int,
    at: datetime,
    gross: int,
    reason: str,
    shop: Shop,
    lines: Sequence[Mapping[str, Any]] = (),
    with_shipping: bool = False,
) -> tuple[Doc, Doc]:
    """A refund of `gross` minor units, and the order as it stands after it.

    `lines` are lines of the order that come back as a whole, `with_shipping` its shipping as well; without
    either the refund names an amount alone. The order's own total stays, as in the shop.
    """
    shipping = order.body["shipping_lines"] if with_shipping else []
    items = [_returned(line, number * 10 + place) for place, line in enumerate(lines)]
    carried = [_returned(line, number * 10 + 9) for line in shipping]
    full = gross == documents.minor(order.body["total"]) + sum(
        documents.minor(r["total"]) for r in order.body["refunds"]
    )
    taxed = bool(items or carried) and shop.vat > 0
    body = {
        "id": number,
        "parent_id": int(order.id),
        **documents.dates("created", at, shop.zone),
        "amount": documents.money(gross),
        "reason": reason,
        "refunded_by": 1,
        "refunded_payment": False,
        "meta_data": [{"id": number * 20, "key": "_refund_type", "value": "full" if full else "partial"}],
        "line_items": items,
        "shipping_lines": carried,
        "tax_lines": documents.tax_lines(
            number * 10 + 8,
            sum(documents.minor(line["total_tax"]) for line in items),
            sum(documents.minor(line["total_tax"]) for line in carried),
            shop.vat,
        )
        if taxed
        else [],
        "fee_lines": [],
    }
    summary = {"id": number, "reason": reason, "total": documents.money(-gross)}
    status = "refunded" if full else order.body["status"]
    after = modified(order, at, shop, status=status, refunds=[summary, *order.body["refunds"]])
    return Doc(str(number), body, at=at.timestamp(), changed=at.timestamp(), parent=order.id), after


def _returned(line: Mapping[str, Any], id: int) -> dict[str, Any]:
    """A line of the order as it stands in a refund: the same with the signs turned."""
    turned: dict[str, Any] = {
        name: documents.money(-documents.minor(line[name]))
        for name in ("total", "total_tax", "subtotal", "subtotal_tax")
        if name in line
    }
    if "quantity" in line:
        turned["quantity"] = -line["quantity"]
    taxes = [{**tax, "total": turned["total_tax"], "subtotal": turned["total_tax"]} for tax in line["taxes"]]
    meta = [{"id": id * 2, "key": "_refunded_item_id", "value": str(line["id"])}]
    return {**line, **turned, "id": id, "taxes": taxes, "meta_data": meta}
