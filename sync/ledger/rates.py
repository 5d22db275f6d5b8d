"""The rates of exchange that an entry was converted by, as it keeps them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec


class Used(msgspec.Struct, frozen=True):
    """A rate of exchange as an entry keeps it and as it is hashed: these names, sorted; all text.

    One unit of `base` is `rate` of `quote` by `table` of `source` (a connector), which counts from `day`.
    """

    base: str
    day: str
    evidence_sha256: str
    quote: str
    rate: str
    source: str
    table: str


def stored(value: Any) -> tuple[Used, ...] | None:
    """An entry's rates as they stand in the database (JSON), or as they were booked."""
    if value is None or isinstance(value, tuple):
        return value
    return msgspec.convert(value, tuple[Used, ...])


def said(rates: Iterable[Used]) -> str:
    """``1 EUR = 4.2512 PLN by 213/A/NBP/2026 of 2026-11-02 (nbp)``."""
    return ", ".join(f"1 {r.base} = {r.rate} {r.quote} by {r.table} of {r.day} ({r.source})" for r in rates)
