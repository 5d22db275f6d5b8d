"""Olist's orders and products as documents of the sandbox's WooCommerce."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from connectors.sandbox import shop_documents as documents
from connectors.sandbox.olist_data import CURRENCY, ZONE, ZONE_NAME, Olist, Place, Product, SellerOrder
from connectors.sandbox.shop_documents import Buyer, Goods, Sale, Shop
from connectors.sandbox.state import Doc

FIRST_ORDER = 10_001
_SHOP = Shop(currency=CURRENCY, zone=ZONE, vat=0)
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
    first: dict[str, tuple[datetime, int]] = {}
    for order in olist.orders:
        for item in order.items:
            first.setdefault(item.product, (order.purchased, item.price))
    categories = {name: 1 + place for place, name in enumerate(sorted({p.category for p in olist.products}))}
    for number, product in enumerate(olist.products, start=1):
        stocked, cents = first.get(product.id, (_OPENED, 0))
        name = product.category.replace("_", " ")
        category = {"id": categories[product.category], "name": name, "slug": name.replace(" ", "-")}
        yield documents.product_doc(
            _goods(number, product, cents),
            stocked,
            _SHOP,
            slug=f"produto-{product.id}",
            priced=product.id in first,
            weight=product.weight_g,
            categories=[category] if name else [],
        )


def order_docs(olist: Olist) -> Iterator[Doc]:
    """One order per (order, seller), numbered by the time of purchase."""
    emails = {deal.seller: f"{deal.lead}@example.com" for deal in olist.deals}
    products = {product.id: (number, product) for number, product in enumerate(olist.products, start=1)}
    item_number = 1
    for number, order in enumerate(olist.orders, start=FIRST_ORDER):
        email = emails.get(order.seller, f"{order.seller}@example.net")
        yield _order(
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


def _modified(order: SellerOrder) -> datetime:
    times = (order.purchased, order.approved, order.shipped, order.delivered)
    return max(moment for moment in times if moment is not None)


def _completed(order: SellerOrder) -> datetime | None:
    if order.status != "completed":
        return None
    return order.delivered or order.shipped or order.approved


def _order(
    number: int,
    order: SellerOrder,
    *,
    email: str,
    seller: Place,
    customer: Place,
    products: Mapping[str, tuple[int, Product]],
    first_item: int,
) -> Doc:
    """The order as any shop has it, with Olist's parties and ids, and its own row of numbers for the lines."""
    sale = Sale(
        number,
        order.status,
        order.purchased,
        Buyer("", "", email),
        basket=[(_goods(*products[item.product], item.price), 1) for item in order.items],
        shipping=sum(item.freight for item in order.items),
        paid=order.approved,
        completed=_completed(order),
        modified=_modified(order),
    )
    doc = documents.order_doc(sale, _SHOP)
    lines = doc.body["line_items"]
    freight = {"id": first_item + len(lines), "method_title": "Frete", "tax_status": "none"}
    return documents.with_fields(
        doc,
        order_key=f"wc_order_{order.order}_{order.seller}",
        billing={**_address(seller), "email": email, "phone": ""},
        shipping={**_address(customer), "phone": ""},
        payment_method=order.payment,
        payment_method_title=_METHODS.get(order.payment, order.payment),
        meta_data=[
            {"id": 2 * number, "key": "_olist_order_id", "value": order.order},
            {"id": 2 * number + 1, "key": "_olist_seller_id", "value": order.seller},
        ],
        line_items=[{**line, "id": id} for id, line in enumerate(lines, start=first_item)],
        shipping_lines=[{**line, **freight} for line in doc.body["shipping_lines"]],
    )


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


def _goods(number: int, product: Product, cents: int) -> Goods:
    """The data has no names: the category and the first characters of the id stand in."""
    name = f"{product.category.replace('_', ' ') or 'produto'} {product.id[:8]}"
    return Goods(number, name, product.id, cents)
