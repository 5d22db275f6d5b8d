"""What happens in the shop in a change: new orders, an edit, refunds, a cancellation."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.sandbox import shop_changes
from connectors.sandbox import shop_documents as documents
from connectors.sandbox.change_lines import masked
from connectors.sandbox.shop_documents import Buyer, Goods, Sale, Shop
from connectors.sandbox.state import Doc, State

_RECENT = 400
_PAID = ("completed", "processing")
_ATTRIBUTION = "_wc_order_attribution_"
_CLICK_ID = re.compile(r"(gclid|fbclid|mc_eid)=[^&]*")
_VISIT = timedelta(minutes=12)


def change_orders(state: State, *, now: datetime, chance: random.Random, shop: Shop, lead: str) -> list[str]:
    """Three new paid orders, one of `lead`; then one edited, one partly and one fully refunded, one cancelled.

    The four are different orders, paid before and never refunded. Returns a line each.

    Raises
    ------
    ValueError
        The shop has no product with a price, or fewer than four such orders.
    """
    recent, _ = state.select("woocommerce", "order", order="at", descending=True, limit=_RECENT)
    untouched = [
        doc
        for doc in recent
        if doc.body["status"] in _PAID and not doc.body["refunds"] and doc.at < now.timestamp()
    ]
    if len(untouched) < 4:
        raise ValueError("the sandbox's shop has fewer than four paid orders: fill it first")
    edited, part, full, cancelled = chance.sample(untouched, 4)
    style = untouched[0].body
    origins = [origin for doc in recent if (origin := _origin(doc)).get("source_type") == "utm"]
    origin = chance.choice(origins) if origins else {}

    def new(email: str, who: str, origin: dict[str, str]) -> str:
        number = _next_post(state)
        goods = chance.choice(_goods(state))
        basket = [(goods, chance.randint(1, 2))]
        buyer = Buyer("", "", email or f"buyer.{number}@example.net", country=style["billing"]["country"])
        buyer = replace(buyer, city=style["billing"]["city"])
        sale = Sale(number, "processing", now, buyer, basket, shipping=_shipping(style), paid=now)
        sale = replace(sale, origin=_now_from(origin, number, now))
        order = _styled(documents.order_doc(sale, shop), style)
        state.put("woocommerce", "order", [order])
        campaign = f", utm campaign {origin['utm_campaign']}" if origin else ""
        return f"order {number}: new, {_amount(order)}, {who} {masked(buyer.email)}{campaign}"

    return [
        new(lead, "lead", {}),
        new("", "buyer not known", {}),
        new("", "buyer not known", origin),
        _edit(state, edited, now=now, shop=shop),
        _refund_a_part(state, part, now=now, shop=shop),
        _refund(
            state, full, documents.order_gross(full), full.body["line_items"], now=now, shop=shop, whole=True
        ),
        _cancel(state, cancelled, now=now, shop=shop),
    ]


def _goods(state: State) -> list[Goods]:
    found = [
        Goods(doc.body["id"], doc.body["name"], doc.body["sku"], documents.minor(doc.body["price"]))
        for doc in state.select("woocommerce", "product", limit=_RECENT)[0]
        if doc.body["price"]
    ]
    if not found:
        raise ValueError("the sandbox's shop has no product with a price: fill it first")
    return found


def _next_post(state: State) -> int:
    """Orders and refunds share one row of numbers, as posts of the shop."""
    return max(state.next_number("woocommerce", kind) for kind in ("order", "refund"))


def _origin(order: Doc) -> dict[str, str]:
    """The attribution that the shop noted with an order, without the prefix of its keys."""
    return {
        entry["key"].removeprefix(_ATTRIBUTION): entry["value"]
        for entry in order.body["meta_data"]
        if entry["key"].startswith(_ATTRIBUTION)
    }


def _now_from(origin: dict[str, str], number: int, now: datetime) -> dict[str, str]:
    """The same campaign's visit shortly before `now`, with a click id of its own."""
    if not origin:
        return {}
    entry = _CLICK_ID.sub(rf"\1=sandbox-change-{number}", origin.get("session_entry", ""))
    began = (now - _VISIT).astimezone(UTC)
    return origin | {"session_entry": entry, "session_start_time": f"{began:%Y-%m-%d %H:%M:%S}"}


def _shipping(style: dict[str, Any]) -> int:
    """What shipping came to, with its tax, in the order whose style is taken."""
    return documents.minor(style["shipping_total"]) + documents.minor(style["shipping_tax"])


def _styled(order: Doc, style: dict[str, Any]) -> Doc:
    """The order with the words that the shop uses for paying and shipping."""
    names = ("method_title", "method_id", "tax_status")
    used = {name: style["shipping_lines"][0][name] for name in names} if style["shipping_lines"] else {}
    body = {
        **order.body,
        "payment_method": style["payment_method"],
        "payment_method_title": style["payment_method_title"],
        "shipping_lines": [{**line, **used} for line in order.body["shipping_lines"]],
    }
    return replace(order, body=body)


def _amount(order: Doc) -> str:
    return f"{order.body['total']} {order.body['currency']}"


def _edit(state: State, order: Doc, *, now: datetime, shop: Shop) -> str:
    after = shop_changes.with_dearer_line(order, now, shop)
    state.put("woocommerce", "order", [after])
    return f"order {order.id}: edited, {order.body['total']} -> {_amount(after)}"


def _cancel(state: State, order: Doc, *, now: datetime, shop: Shop) -> str:
    after = shop_changes.modified(order, now, shop, status="cancelled")
    state.put("woocommerce", "order", [after])
    return f"order {order.id}: cancelled, {_amount(order)}"


def _refund_a_part(state: State, order: Doc, *, now: datetime, shop: Shop) -> str:
    """The first line comes back, or, where it is all there is, a third of the amount."""
    lines = order.body["line_items"][:1]
    gross = sum(documents.line_gross(line) for line in lines)
    if 0 < gross < documents.order_gross(order):
        return _refund(state, order, gross, lines, now=now, shop=shop)
    return _refund(state, order, documents.order_gross(order) // 3, (), now=now, shop=shop)


def _refund(
    state: State,
    order: Doc,
    gross: int,
    lines: Sequence[dict[str, Any]],
    *,
    now: datetime,
    shop: Shop,
    whole: bool = False,
) -> str:
    refund, after = shop_changes.refund_docs(
        order,
        number=_next_post(state),
        at=now,
        gross=gross,
        reason="Returned",
        shop=shop,
        lines=lines,
        with_shipping=whole,
    )
    state.put("woocommerce", "refund", [refund])
    state.put("woocommerce", "order", [after])
    kind = "full" if whole else "partial"
    return f"order {order.id}: {kind} refund {refund.id}, {refund.body['amount']} {order.body['currency']}"
