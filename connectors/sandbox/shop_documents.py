"""Orders, refunds, customers and products in the form in which a WooCommerce 10.3.6 shows them.

Money is in integer minor units here and becomes decimal text in the documents. Prices are gross, as in a shop
whose catalogue is typed with tax; the documents' line totals are net, with the tax beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from connectors.sandbox.state import Doc

VERSION = "10.3.6"
SYMBOLS = {"PLN": "zł", "EUR": "€", "BRL": "R$"}
_NO_ADDRESS = dict.fromkeys(
    (
        "first_name",
        "last_name",
        "company",
        "address_1",
        "address_2",
        "city",
        "state",
        "postcode",
        "country",
        "phone",
    ),
    "",
)


@dataclass(frozen=True, slots=True)
class Shop:
    """What holds for all of a shop's documents. `vat` is the rate in whole percent."""

    currency: str
    zone: ZoneInfo
    vat: int


@dataclass(frozen=True, slots=True)
class Goods:
    """A product of the catalogue; `gross` is the price of one in minor units."""

    id: int
    name: str
    sku: str
    gross: int


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who stands in the billing address; `customer` is 0 for a guest."""

    first: str
    last: str
    email: str
    phone: str = ""
    country: str = "PL"
    city: str = "Warszawa"
    customer: int = 0


@dataclass(frozen=True, slots=True)
class Sale:
    """One order before it is a document. Times are aware; `origin` holds the attribution's keys and values."""

    number: int
    status: str
    created: datetime
    buyer: Buyer
    basket: Sequence[tuple[Goods, int]]
    shipping: int
    paid: datetime | None = None
    completed: datetime | None = None
    modified: datetime | None = None
    currency: str = ""
    origin: Mapping[str, str] = field(default_factory=dict)


def money(minor: int) -> str:
    """Minor units as decimal text: 4990 is "49.90"."""
    sign = "-" if minor < 0 else ""
    return f"{sign}{abs(minor) // 100}.{abs(minor) % 100:02d}"


def dates(name: str, moment: datetime | None, zone: ZoneInfo) -> dict[str, str | None]:
    """`date_<name>` in the shop's zone and `date_<name>_gmt` in UTC, both without offset."""
    if moment is None:
        return {f"date_{name}": None, f"date_{name}_gmt": None}
    pattern = "%Y-%m-%dT%H:%M:%S"
    return {
        f"date_{name}": moment.astimezone(zone).strftime(pattern),
        f"date_{name}_gmt": moment.astimezone(UTC).strftime(pattern),
    }


def with_fields(doc: Doc, **fields: Any) -> Doc:
    """The document with other values in its body; its times and the order of its fields stay."""
    return replace(doc, body={**doc.body, **fields})


def tax_within(gross: int, vat: int) -> int:
    """The tax in a gross amount of minor units, rounded half up."""
    return (2 * gross * vat + (100 + vat)) // (2 * (100 + vat))


def order_doc(sale: Sale, shop: Shop) -> Doc:
    """The order as a document; lines, shipping and their tax sum to its total exactly."""
    lines = [
        _line(sale.number * 10 + place, goods, quantity, shop.vat)
        for place, (goods, quantity) in enumerate(sale.basket)
    ]
    goods_gross = sum(goods.gross * quantity for goods, quantity in sale.basket)
    goods_tax = sum(tax_within(goods.gross * quantity, shop.vat) for goods, quantity in sale.basket)
    shipping_tax = tax_within(sale.shipping, shop.vat)
    changed = sale.modified or max(t for t in (sale.created, sale.paid, sale.completed) if t is not None)
    currency = sale.currency or shop.currency
    body = {
        "id": sale.number,
        "parent_id": 0,
        "status": sale.status,
        "currency": currency,
        "version": VERSION,
        "prices_include_tax": shop.vat > 0,
        **dates("created", sale.created, shop.zone),
        **dates("modified", changed, shop.zone),
        "discount_total": "0.00",
        "discount_tax": "0.00",
        "shipping_total": money(sale.shipping - shipping_tax),
        "shipping_tax": money(shipping_tax),
        "cart_tax": money(goods_tax),
        "total": money(goods_gross + sale.shipping),
        "total_tax": money(goods_tax + shipping_tax),
        "customer_id": sale.buyer.customer,
        "order_key": f"wc_order_sandbox{sale.number}",
        "billing": _billing(sale.buyer),
        "shipping": _NO_ADDRESS,
        "payment_method": "bacs",
        "payment_method_title": "Przelew",
        "transaction_id": "",
        "customer_ip_address": "",
        "customer_user_agent": "",
        "created_via": "checkout",
        "customer_note": "",
        **dates("completed", sale.completed, shop.zone),
        **dates("paid", sale.paid, shop.zone),
        "cart_hash": "",
        "number": str(sale.number),
        "meta_data": [
            {"id": sale.number * 20 + place, "key": f"_wc_order_attribution_{key}", "value": value}
            for place, (key, value) in enumerate(sale.origin.items())
        ],
        "line_items": lines,
        "tax_lines": tax_lines(sale.number * 10 + 8, goods_tax, shipping_tax, shop.vat),
        "shipping_lines": [_shipping_line(sale.number * 10 + 9, sale.shipping, shop.vat)],
        "fee_lines": [],
        "coupon_lines": [],
        "refunds": [],
        "payment_url": f"https://shop.example/checkout/order-pay/{sale.number}/?pay_for_order=true",
        "is_editable": sale.status in ("pending", "on-hold"),
        "needs_payment": sale.status in ("pending", "failed"),
        "needs_processing": True,
        "currency_symbol": SYMBOLS.get(currency, currency),
    }
    return Doc(str(sale.number), body, at=sale.created.timestamp(), changed=changed.timestamp())


def line_gross(line: Mapping[str, Any]) -> int:
    """What a line of an order comes to with its tax, in minor units."""
    return minor(line["total"]) + minor(line["total_tax"])


def order_gross(order: Doc) -> int:
    """The order's total in minor units."""
    return minor(order.body["total"])


def customer_doc(buyer: Buyer, created: datetime, shop: Shop) -> Doc:
    body: dict[str, Any] = {
        "id": buyer.customer,
        **dates("created", created, shop.zone),
        **dates("modified", created, shop.zone),
        "email": buyer.email,
        "first_name": buyer.first,
        "last_name": buyer.last,
        "role": "customer",
        "username": f"customer{buyer.customer}",
        "billing": _billing(buyer),
        "shipping": _NO_ADDRESS,
        "is_paying_customer": True,
        "avatar_url": "",
        "meta_data": [],
    }
    return Doc(str(buyer.customer), body, at=created.timestamp(), changed=created.timestamp())


def product_doc(
    goods: Goods,
    stocked: datetime,
    shop: Shop,
    *,
    slug: str = "",
    priced: bool = True,
    weight: str | None = None,
    categories: Sequence[Mapping[str, Any]] = (),
) -> Doc:
    """A simple product.

    `slug` is made of the id where it is empty; without a price nobody can buy it; `weight` is in the shop's unit,
    and its field is left out when None.
    """
    slug = slug or f"product-{goods.id}"
    price = money(goods.gross) if priced else ""
    body: dict[str, Any] = {
        "id": goods.id,
        "name": goods.name,
        "slug": slug,
        "permalink": f"https://shop.example/product/{slug}/",
        **dates("created", stocked, shop.zone),
        **dates("modified", stocked, shop.zone),
        "type": "simple",
        "status": "publish",
        "featured": False,
        "catalog_visibility": "visible",
        "description": "",
        "short_description": "",
        "sku": goods.sku,
        "price": price,
        "regular_price": price,
        "sale_price": "",
        "on_sale": False,
        "purchasable": priced,
        "virtual": False,
        "tax_status": "taxable" if shop.vat else "none",
        "tax_class": "",
        "manage_stock": False,
        "stock_quantity": None,
        **({} if weight is None else {"weight": weight}),
        "parent_id": 0,
        "categories": list(categories),
        "tags": [],
        "images": [],
        "attributes": [],
        "variations": [],
        "meta_data": [],
        "stock_status": "instock",
        "global_unique_id": "",
    }
    return Doc(str(goods.id), body, at=stocked.timestamp(), changed=stocked.timestamp())


def minor(text: str) -> int:
    """Minor units of a decimal text with two places, as `money` writes it."""
    return int(text.replace(".", ""))


def _billing(buyer: Buyer) -> dict[str, str]:
    return {
        **_NO_ADDRESS,
        "first_name": buyer.first,
        "last_name": buyer.last,
        "city": buyer.city,
        "country": buyer.country,
        "email": buyer.email,
        "phone": buyer.phone,
    }


def tax_entries(tax: int, vat: int) -> list[dict[str, Any]]:
    return [{"id": 1, "total": money(tax), "subtotal": money(tax)}] if vat else []


def _line(id: int, goods: Goods, quantity: int, vat: int) -> dict[str, Any]:
    gross = goods.gross * quantity
    tax = tax_within(gross, vat)
    return {
        "id": id,
        "name": goods.name,
        "product_id": goods.id,
        "variation_id": 0,
        "quantity": quantity,
        "tax_class": "",
        "subtotal": money(gross - tax),
        "subtotal_tax": money(tax),
        "total": money(gross - tax),
        "total_tax": money(tax),
        "taxes": tax_entries(tax, vat),
        "meta_data": [],
        "sku": goods.sku,
        "global_unique_id": "",
        "price": (gross - tax) / quantity / 100,  # a JSON number in the vendor's answers, for people only
        "image": {"id": "", "src": ""},
        "parent_name": None,
    }


def _shipping_line(id: int, gross: int, vat: int) -> dict[str, Any]:
    tax = tax_within(gross, vat)
    return {
        "id": id,
        "method_title": "Kurier",
        "method_id": "flat_rate",
        "instance_id": "",
        "total": money(gross - tax),
        "total_tax": money(tax),
        "taxes": tax_entries(tax, vat),
        "tax_status": "taxable",
        "meta_data": [],
    }


def tax_lines(id: int, goods_tax: int, shipping_tax: int, vat: int) -> list[dict[str, Any]]:
    if not vat:
        return []
    return [
        {
            "id": id,
            "rate_code": "PL-VAT-1",
            "rate_id": 1,
            "label": "VAT",
            "compound": False,
            "tax_total": money(goods_tax),
            "shipping_tax_total": money(shipping_tax),
            "rate_percent": vat,
            "meta_data": [],
        }
    ]
