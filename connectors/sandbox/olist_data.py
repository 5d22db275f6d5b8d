"""Reads Olist's CSV files as the demo reads them: leads, deals, orders by seller, products, sellers.

The rules are those of the data's README: which source a lead comes from, its campaign, its e-mail, the status
of an order. Nothing here changes a figure.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

ZONE_NAME = "America/Sao_Paulo"
ZONE = ZoneInfo(ZONE_NAME)
CURRENCY = "BRL"
META_ORIGINS = frozenset({"social", "display", "paid_search", "other_publicities"})
MAILCHIMP_ORIGIN = "email"
_NO_CAMPAIGN = frozenset({"", "unknown"})
_STATUS = {
    "delivered": "completed",
    "shipped": "completed",
    "invoiced": "completed",
    "processing": "processing",
    "canceled": "cancelled",
    "unavailable": "failed",
}


@dataclass(frozen=True, slots=True)
class Lead:
    """One marketing qualified lead. `at` is the local midnight of its first contact."""

    id: str
    day: date
    landing_page: str
    origin: str

    @property
    def email(self) -> str:
        return f"{self.id}@example.com"

    @property
    def at(self) -> datetime:
        return datetime.combine(self.day, time(), ZONE).astimezone(UTC)

    @property
    def campaign(self) -> str:
        """`<origin>/<first 8 of the landing page>`, empty where the origin is not known."""
        return "" if self.origin in _NO_CAMPAIGN else f"{self.origin}/{self.landing_page[:8]}"


@dataclass(frozen=True, slots=True)
class Deal:
    """A lead that sales won as a seller: who found it (sdr), who closed it (sr), when (UTC)."""

    lead: str
    seller: str
    sdr: str
    sr: str
    won: datetime


@dataclass(frozen=True, slots=True)
class Item:
    """One item row; money in integer cents."""

    product: str
    price: int
    freight: int


@dataclass(frozen=True, slots=True)
class SellerOrder:
    """The items of one order that one seller sold. Times are UTC; `status` is the shop's word."""

    order: str
    seller: str
    customer: str
    status: str
    purchased: datetime
    approved: datetime | None
    shipped: datetime | None
    delivered: datetime | None
    payment: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Product:
    id: str
    category: str
    weight_g: str


@dataclass(frozen=True, slots=True)
class Place:
    city: str
    state: str
    postcode: str = ""


@dataclass(frozen=True, slots=True)
class Olist:
    """All that the sandbox takes from the files. Leads, deals and orders are in order of time, then of id."""

    leads: tuple[Lead, ...]
    deals: tuple[Deal, ...]
    orders: tuple[SellerOrder, ...]
    products: tuple[Product, ...]
    sellers: Mapping[str, Place]
    customers: Mapping[str, Place]


def read_olist(data: Path) -> Olist:
    """Read the folder. Raises OSError for a file that is not there, ValueError for one that does not fit."""
    leads = (
        Lead(
            row["mql_id"],
            date.fromisoformat(row["first_contact_date"]),
            row["landing_page_id"],
            row["origin"],
        )
        for row in _rows(data / "olist_marketing_qualified_leads_dataset.csv")
    )
    deals = (
        Deal(row["mql_id"], row["seller_id"], row["sdr_id"], row["sr_id"], _utc(row["won_date"]))
        for row in _rows(data / "olist_closed_deals_dataset.csv")
    )
    products = (
        Product(row["product_id"], row["product_category_name"], row["product_weight_g"])
        for row in _rows(data / "olist_products_slice.csv")
    )
    return Olist(
        leads=tuple(sorted(leads, key=lambda lead: (lead.day, lead.id))),
        deals=tuple(sorted(deals, key=lambda deal: (deal.won, deal.lead))),
        orders=tuple(_orders(data)),
        products=tuple(sorted(products, key=lambda product: product.id)),
        sellers={
            row["seller_id"]: Place(row["seller_city"], row["seller_state"], row["seller_zip_code_prefix"])
            for row in _rows(data / "olist_sellers_dataset.csv")
        },
        customers={
            row["customer_id"]: Place(row["customer_city"], row["customer_state"])
            for row in _rows(data / "olist_customers_slice.csv")
        },
    )


def _orders(data: Path) -> list[SellerOrder]:
    """One order per (order, seller) found in the items; orders without items are left out."""
    rows = {row["order_id"]: row for row in _rows(data / "olist_orders_slice.csv")}
    items: dict[tuple[str, str], list[tuple[int, Item]]] = {}
    for row in _rows(data / "olist_order_items_slice.csv"):
        item = Item(row["product_id"], _cents(row["price"]), _cents(row["freight_value"]))
        items.setdefault((row["order_id"], row["seller_id"]), []).append((int(row["order_item_id"]), item))
    payments: dict[str, tuple[int, str]] = {}
    for row in _rows(data / "olist_order_payments_slice.csv"):
        payment = (int(row["payment_sequential"]), row["payment_type"])
        payments[row["order_id"]] = min(payment, payments.get(row["order_id"], payment))
    orders = [
        _order(rows[order], seller, numbered, payments.get(order, (0, ""))[1])
        for (order, seller), numbered in items.items()
    ]
    return sorted(orders, key=lambda order: (order.purchased, order.order, order.seller))


def _order(
    row: Mapping[str, str], seller: str, numbered: list[tuple[int, Item]], payment: str
) -> SellerOrder:
    if row["order_status"] not in _STATUS:
        raise ValueError(f"order {row['order_id']}: no rule for the status {row['order_status']!r}")
    return SellerOrder(
        order=row["order_id"],
        seller=seller,
        customer=row["customer_id"],
        status=_STATUS[row["order_status"]],
        purchased=_utc(row["order_purchase_timestamp"]),
        approved=_utc_or_none(row["order_approved_at"]),
        shipped=_utc_or_none(row["order_delivered_carrier_date"]),
        delivered=_utc_or_none(row["order_delivered_customer_date"]),
        payment=payment,
        items=tuple(item for _, item in sorted(numbered, key=lambda pair: pair[0])),
    )


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            if None in row or None in row.values():
                raise ValueError(f"{path.name}, line {line}: the number of columns is not that of the header")
            yield row


def _cents(text: str) -> int:
    """Integer cents; raises ValueError for money finer than a cent."""
    cents = Decimal(text) * 100
    if cents != int(cents):
        raise ValueError(f"{text!r} is finer than a cent")
    return int(cents)


def _utc(text: str) -> datetime:
    """A local time of São Paulo in UTC. An hour that clocks showed twice is read as the first one."""
    return datetime.fromisoformat(text).replace(tzinfo=ZONE).astimezone(UTC)


def _utc_or_none(text: str) -> datetime | None:
    return _utc(text) if text else None
