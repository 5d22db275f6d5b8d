"""What both halves of a reconciliation, orders and refunds, are given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection

from connectors.contract import NAMED_MAX, Auditable, Findable
from mappings.currencies import exponent
from sync.attribute.rules import Policy
from sync.ledger import differences as diff
from sync.ledger.differences import Commands, Shown
from sync.ledger.rules import Live
from sync.report.period import Period

T = TypeVar("T")
BATCH = 2_000
DIFFERENCES_MAX = 10_000
"""Most differences that are named; whether these are all is said."""


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop and how its records come to us. `streams` are those that become orders or refunds, by kind; `start` is
    the config's ``from:``."""

    connector: str
    source: Auditable
    streams: dict[str, list[str]]
    start: datetime


@dataclass(frozen=True, slots=True)
class Asked:
    connection: Connection
    shop: Shop
    period: Period
    policy: Policy
    zone: ZoneInfo
    commands: Commands


def batches(rows: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    left = iter(rows)
    while batch := list(islice(left, size)):
        yield batch


def shown_elsewhere(asked: Asked, ids: Sequence[str]) -> dict[str, Shown] | None:
    """Those of `ids` that the shop has outside the days asked for; None where it cannot be asked."""
    if not isinstance(asked.shop.source, Findable):
        return None
    found: dict[str, Shown] = {}
    for batch in batches(ids, NAMED_MAX):
        for item in asked.shop.source.control_named(batch):
            shown = diff.shown(item, asked.policy, asked.zone)
            found[shown.order_id] = shown
    return found


def revenue(entry: Live) -> int:
    return sum(amount for account, amount in entry.postings if account.startswith("Revenue:"))


def say_money(minor: int | None, currency: str | None) -> str:
    if minor is None or not currency:
        return "not to be read"
    return f"{Decimal(minor).scaleb(-exponent(currency)):,f} {currency}"
