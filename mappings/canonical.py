"""The canonical records: the same for all vendors.

All are frozen. Times are aware and in UTC; money is an integer of the currency's minor unit beside an ISO
4217 code, except in `Refund`, whose currency is that of its order and may not be known yet: there it is an
exact decimal. Text is normalised as `mappings.normalise` says; a value that is not there is None.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Literal

import msgspec

TouchKind = Literal["ad_click", "ad_view", "form", "email_open", "email_click", "visit", "call", "meeting"]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What every canonical record has: the vendor's id, unique in its connector and kind."""

    external_id: str


class Identified(Record, frozen=True, kw_only=True):
    """A record that says something about a person.

    `click_ids` are ``kind:value`` (``gclid:…``, ``fbclid:…``); `customer_id` is the shop's, `crm_id` the
    CRM's own id of the person, each unique in its connector only.
    """

    email: str | None = None
    phone: str | None = None
    full_name: str | None = None
    customer_id: str | None = None
    crm_id: str | None = None
    click_ids: tuple[str, ...] = ()


class Campaigned(Identified, frozen=True, kw_only=True):
    """A record that may say which campaign it comes from, by the vendor's id, a name, or utm parameters."""

    occurred_at: datetime
    campaign_id: str | None = None
    campaign_name: str | None = None
    utm_source: str | None = None
    utm_medium: str | None = None
    utm_campaign: str | None = None
    utm_id: str | None = None
    utm_content: str | None = None
    utm_term: str | None = None


class Lead(Campaigned, frozen=True, kw_only=True):
    """Somebody's interest: a form sent, a sign-up. `test` leads are kept and count nowhere."""

    source: str | None = None
    form_id: str | None = None
    product: str | None = None
    organic: bool | None = None
    consent: bool | None = None
    score: int | None = None
    test: bool = False


class Touch(Campaigned, frozen=True, kw_only=True):
    """One dated contact of a person with a campaign. `direct` is a visit that nothing led to."""

    kind: TouchKind
    direct: bool = False
    landing_url: str | None = None


class Campaign(Record, frozen=True, kw_only=True):
    name: str
    status: str | None = None
    channel: str | None = None
    started_at: datetime | None = None


class Spend(Record, frozen=True, kw_only=True):
    """What one campaign cost on one day (of the ad account's time zone), and the sales that the platform claims.

    `claimed_minor` is what the purchases come to that the platform puts down to that day, `claimed_view_minor` the
    part of it that was only seen and not clicked; None: the platform claims none, or does not say.
    """

    day: date
    campaign_id: str
    campaign_name: str | None = None
    currency: str
    amount_minor: int
    impressions: int | None = None
    clicks: int | None = None
    claimed_orders: int | None = None
    claimed_minor: int | None = None
    claimed_view_minor: int | None = None


class OrderLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line; amounts are text decimals in the order's currency, net of tax, tax beside."""

    product_id: str | None = None
    sku: str | None = None
    name: str | None = None
    quantity: str | None = None
    total: str | None = None
    tax: str | None = None


class Order(Identified, frozen=True, kw_only=True):
    """One order of a shop. `total_minor` is gross: tax and shipping included.

    `total_exact` is set only where the shop's figure is finer than the currency's minor unit allows; then
    `total_minor` is it rounded half to even.
    """

    number: str | None = None
    occurred_at: datetime
    paid_at: datetime | None = None
    modified_at: datetime | None = None
    status: str
    currency: str
    total_minor: int
    total_exact: Decimal | None = None
    tax_minor: int = 0
    shipping_minor: int = 0
    shipping_tax_minor: int = 0
    discount_minor: int = 0
    parent_id: str | None = None
    lines: tuple[OrderLine, ...] = ()


class Refund(Record, frozen=True, kw_only=True):
    """Money given back. Amounts are positive and gross; `tax` and `shipping` None: the split is unknown."""

    order_id: str
    occurred_at: datetime
    amount: Decimal
    tax: Decimal | None = None
    shipping: Decimal | None = None
    reason: str | None = None
    paid_back: bool | None = None


class Product(Record, frozen=True, kw_only=True):
    name: str
    sku: str | None = None
    category: str | None = None


class Contact(Identified, frozen=True, kw_only=True):
    """A person as a CRM, an e-mail platform or a shop knows them.

    `aliases` are former ids (merged records); `emails` further addresses.
    """

    emails: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    stage: str | None = None
    lead_status: str | None = None
    owner_id: str | None = None
    consent: bool | None = None
    consent_at: datetime | None = None
    tags: tuple[str, ...] = ()
    created_at: datetime | None = None
    modified_at: datetime | None = None


class StageChange(Record, frozen=True, kw_only=True):
    """A field of a person in the CRM took a value, at a time, by somebody.

    `field` is `stage`, `status` or `reason`; `value` None: it was cleared. `by_api` is true when a program
    wrote it, `source_id` which one.
    """

    crm_id: str
    occurred_at: datetime
    field: Literal["stage", "status", "reason"]
    value: str | None = None
    who: str | None = None
    by_api: bool = False
    source_id: str | None = None


class Owner(Record, frozen=True, kw_only=True):
    """A salesperson: `external_id` is the id by which stage changes name who did it."""

    owner_id: str | None = None
    name: str | None = None
    email: str | None = None
    active: bool = True


class Rate(Record, frozen=True, kw_only=True):
    """What one unit of `base` is worth in `quote` by a bank's table, as exact as the bank says it.

    `day` is the day from which the table counts, in the bank's own calendar; `table` its number or name.
    """

    table: str
    day: date
    base: str
    quote: str
    rate: Decimal


KINDS: dict[str, type[Record]] = {
    "lead": Lead,
    "touch": Touch,
    "campaign": Campaign,
    "spend": Spend,
    "order": Order,
    "refund": Refund,
    "product": Product,
    "contact": Contact,
    "stage_change": StageChange,
    "owner": Owner,
    "rate": Rate,
}
