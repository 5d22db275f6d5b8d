"""Olist's orders and products as documents of the sandbox's WooCommerce."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from connectors.sandbox.olist_data import CURRENCY, ZONE, ZONE_NAME, Olist, Place, Product, SellerOrder
from connectors.sandbox.state import Doc

FIRST_ORDER = 10_001
VERSION = "10.3.6"
_METHODS = {
    "credit_card": "Cartão de crédito",
    "boleto": "Boleto",
    "debit_card": "Cartão de débito",
    "voucher": "Vale",
    "": "",
}
# The shop opened before Olist's first order (2016-09).
_OPENED = datetime(2016, 9, 1, 3, 0, tzinfo=UTC)


def setting_docs() -> Iterator[Doc]:
    """The store's time zone, which the API reads local date filters in."""
    stamp = _OPENED.timestamp()
    yield Doc("timezone", {"value": ZONE_NAME}, at=stamp, changed=stamp)


def product_docs(olist: Olist) -> Iterator[Doc]:
    """One simple product each. Olist gives a category and a weight; time and price are those of its first sale."""
    first: dict[str, tuple[datetime, str]] = {}
    for order in olist.orders:
        for item in order.items:
            first.setdefault(item.product, (order.purchased, money(item.price)))
    categories = {name: 1 + place for place, name in enumerate(sorted({p.category for p in olist.products}))}
    for number, product in enumerate(olist.products, start=1):
        stocked, price = first.get(product.id, (_OPENED, ""))
        body = _product(number, product, categories[product.category], stocked=stocked, price=price)
        yield Doc(str(number), body, at=stocked.timestamp(), changed=stocked.timestamp())


def order_docs(olist: Olist) -> Iterator[Doc]:
    """One order per (order, seller), numbered by the time of purchase."""
    emails = {deal.seller: f"{deal.lead}@example.com" for deal in olist.deals}
    products = {product.id: (number, product) for number, product in enumerate(olist.products, start=1)}
    item_number = 1
    for number, order in enumerate(olist.orders, start=FIRST_ORDER):
        email = emails.get(order.seller, f"{order.seller}@example.net")
        body = _order(
            number,
            order,
            email=email,
            seller=olist.sellers.get(order.seller, Place("", "")),
            customer=olist.customers.get(order.customer, Place("", "")),
            products=products,
            first_item=item_number,
        )
        # One number for each item, and one for the shipping line, from the same row of numbers.
        item_number += len(order.items) + 1
        yield Doc(str(number), body, at=order.purchased.timestamp(), changed=_modified(order).timestamp())


def money(cents: int) -> str:
    """Cents as the API's decimal string: 4990 is "49.90"."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def _modified(order: SellerOrder) -> datetime:
    times = (order.purchased, order.approved, order.shipped, order.delivered)
    return max(moment for moment in times if moment is not None)


def _completed(order: SellerOrder) -> datetime | None:
    if order.status != "completed":
        return None
    return order.delivered or order.shipped or order.approved


def _dates(name: str, moment: datetime | None) -> dict[str, str | None]:
    """`date_<name>` in the store's zone and `date_<name>_gmt` in UTC, both without offset."""
    if moment is None:
        return {f"date_{name}": None, f"date_{name}_gmt": None}
    pattern = "%Y-%m-%dT%H:%M:%S"
    return {
        f"date_{name}": moment.astimezone(ZONE).strftime(pattern),
        f"date_{name}_gmt": moment.astimezone(UTC).strftime(pattern),
    }


def _order(
    number: int,
    order: SellerOrder,
    *,
    email: str,
    seller: Place,
    customer: Place,
    products: Mapping[str, tuple[int, Product]],
    first_item: int,
) -> dict[str, Any]:
    shipping = sum(item.freight for item in order.items)
    goods = sum(item.price for item in order.items)
    return {
        "id": number,
        "parent_id": 0,
        "status": order.status,
        "currency": CURRENCY,
        "version": VERSION,
        "prices_include_tax": False,
        **_dates("created", order.purchased),
        **_dates("modified", _modified(order)),
        "discount_total": "0.00",
        "discount_tax": "0.00",
        "shipping_total": money(shipping),
        "shipping_tax": "0.00",
        "cart_tax": "0.00",
        "total": money(goods + shipping),
        "total_tax": "0.00",
        "customer_id": 0,
        "order_key": f"wc_order_{order.order}_{order.seller}",
        "billing": {**_address(seller), "email": email, "phone": ""},
        "shipping": {**_address(customer), "phone": ""},
        "payment_method": order.payment,
        "payment_method_title": _METHODS.get(order.payment, order.payment),
        "transaction_id": "",
        "customer_ip_address": "",
        "customer_user_agent": "",
        "created_via": "checkout",
        "customer_note": "",
        **_dates("completed", _completed(order)),
        **_dates("paid", order.approved),
        "cart_hash": "",
        "number": str(number),
        "meta_data": [
            {"id": 2 * number, "key": "_olist_order_id", "value": order.order},
            {"id": 2 * number + 1, "key": "_olist_seller_id", "value": order.seller},
        ],
        "line_items": [
            _line(first_item + place, item.price, *products[item.product])
            for place, item in enumerate(order.items)
        ],
        "tax_lines": [],
        "shipping_lines": [_shipping_line(first_item + len(order.items), shipping)],
        "fee_lines": [],
        "coupon_lines": [],
        "refunds": [],
        "payment_url": f"https://shop.example/checkout/order-pay/{number}/?pay_for_order=true",
        "is_editable": False,
        "needs_payment": order.status == "failed",
        "needs_processing": True,
        "currency_symbol": "R$",
    }


def _address(place: Place) -> dict[str, str]:
    return {
        "first_name": "",
        "last_name": "",
        "company": "",
        "address_1": "",
        "address_2": "",
        "city": place.city,
        "state": place.state,
        "postcode": place.postcode,
        "country": "BR",
    }


def _line(id: int, cents: int, product_id: int, product: Product) -> dict[str, Any]:
    return {
        "id": id,
        "name": _name(product),
        "product_id": product_id,
        "variation_id": 0,
        "quantity": 1,
        "tax_class": "",
        "subtotal": money(cents),
        "subtotal_tax": "0.00",
        "total": money(cents),
        "total_tax": "0.00",
        "taxes": [],
        "meta_data": [],
        "sku": product.id,
        "global_unique_id": "",
        "price": cents / 100,  # a JSON number in the vendor's answers, for people only
        "image": {"id": "", "src": ""},
        "parent_name": None,
    }


def _shipping_line(id: int, cents: int) -> dict[str, Any]:
    return {
        "id": id,
        "method_title": "Frete",
        "method_id": "flat_rate",
        "instance_id": "",
        "total": money(cents),
        "total_tax": "0.00",
        "taxes": [],
        "tax_status": "none",
        "meta_data": [],
    }


def _name(product: Product) -> str:
    """The data has no names: the category and the first characters of the id stand in."""
    return f"{product.category.replace('_', ' ') or 'produto'} {product.id[:8]}"


def _product(
    number: int, product: Product, category: int, *, stocked: datetime, price: str
) -> dict[str, Any]:
    slug = f"produto-{product.id}"
    name = product.category.replace("_", " ")
    return {
        "id": number,
        "name": _name(product),
        "slug": slug,
        "permalink": f"https://shop.example/product/{slug}/",
        **_dates("created", stocked),
        **_dates("modified", stocked),
        "type": "simple",
        "status": "publish",
        "featured": False,
        "catalog_visibility": "visible",
        "description": "",
        "short_description": "",
        "sku": product.id,
        "price": price,
        "regular_price": price,
        "sale_price": "",
        "on_sale": False,
        "purchasable": price != "",
        "virtual": False,
        "tax_status": "none",
        "tax_class": "",
        "manage_stock": False,
        "stock_quantity": None,
        "weight": product.weight_g,
        "parent_id": 0,
        "categories": [{"id": category, "name": name, "slug": name.replace(" ", "-")}] if name else [],
        "tags": [],
        "images": [],
        "attributes": [],
        "variations": [],
        "meta_data": [],
        "stock_status": "instock",
        "global_unique_id": "",
    }
