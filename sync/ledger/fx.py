"""Amounts in the reporting currency: which table's rate holds for a day, and the entries that follow. Pure.

The rule is that of Polish accounting and VAT (VAT act art. 31a(1), PIT act art. 11a(1)): the average rate of
the last working day before the day of the order. A refund takes the rate of its sale (VAT act art. 31b), so
that a full refund brings every account back to exactly zero. A working day of a bank is one with a table.

What an order is worth is booked beside it, in entries of the kind ``fx`` that balance on their own: the
accounts of the order under ``Converted:<currency>:``, in the reporting currency.

>>> factor([Rate("nbp", "213/A/NBP/2026", date(2026, 11, 2), "EUR", "PLN", Decimal("4.25"), 7, b"")], "EUR", "PLN")
(Fraction(17, 4), (Rate(...),))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from math import floor
from zoneinfo import ZoneInfo

from mappings.currencies import exponent
from sync.ledger import accounts, rules
from sync.ledger.rates import Used, said

GAP_MAX = timedelta(days=10)
"""No bank is shut for longer: an older table means that tables are missing."""


@dataclass(frozen=True, slots=True)
class Setting:
    """`rates`: the connector whose tables hold. `currency`: the reporting currency.
    `zone`: the workspace's, whose business days ask for a rate."""

    rates: str
    currency: str
    zone: ZoneInfo


@dataclass(frozen=True, slots=True)
class Rate:
    """What one unit of `base` is worth in `quote` by `table` of `source` (a connector), from `day` on."""

    source: str
    table: str
    day: date
    base: str
    quote: str
    rate: Decimal
    evidence_id: int
    evidence_sha256: bytes


@dataclass(frozen=True, slots=True)
class Worth:
    """How an order's minor units become those of `currency`, and by which rates."""

    currency: str
    per_minor: Fraction
    rates: tuple[Rate, ...]


def _used(rate: Rate) -> Used:
    return Used(
        rate.base,
        rate.day.isoformat(),
        rate.evidence_sha256.hex(),
        rate.quote,
        f"{rate.rate:f}",
        rate.source,
        rate.table,
    )


def factor(rates: Sequence[Rate], source: str, target: str) -> tuple[Fraction, tuple[Rate, ...]] | None:
    """What one unit of `source` is worth in `target` by one table, exactly; None if it does not say.

    A table quotes every currency against its own; two others are converted through that one.
    """
    if source == target:
        return Fraction(1), ()
    direct = _direct(rates, source, target)
    if direct is not None:
        return direct
    for home in sorted({rate.quote for rate in rates} | {rate.base for rate in rates}):
        first, second = _direct(rates, source, home), _direct(rates, home, target)
        if first is not None and second is not None:
            return first[0] * second[0], first[1] + second[1]
    return None


def _direct(rates: Sequence[Rate], source: str, target: str) -> tuple[Fraction, tuple[Rate, ...]] | None:
    for rate in rates:
        if rate.rate <= 0:
            continue
        if (rate.base, rate.quote) == (source, target):
            return Fraction(rate.rate), (rate,)
        if (rate.quote, rate.base) == (source, target):
            return 1 / Fraction(rate.rate), (rate,)
    return None


def worth(rates: Sequence[Rate], source: str, target: str) -> Worth | None:
    found = factor(rates, source, target)
    if found is None:
        return None
    scale = Fraction(10) ** (exponent(target) - exponent(source))
    return Worth(target, found[0] * scale, found[1])


def rounded(amount: Fraction) -> int:
    """To the nearest whole, a half away from zero (VAT act art. 106e(11): half a grosz counts as one)."""
    whole = floor(abs(amount) + Fraction(1, 2))
    return whole if amount >= 0 else -whole


def convert(balances: Mapping[str, int], per_minor: Fraction) -> dict[str, int]:
    """`balances` (they sum to zero, revenue against the rest) in the other currency, summing to zero as well.

    Revenue is rounded; the rest is shared out so that it comes to the same: whole units first, then one by one
    to the largest remainders, of equal ones to the earlier account.
    """
    rest = {account: n for account, n in sorted(balances.items()) if not account.startswith("Revenue:")}
    exact = {account: n * per_minor for account, n in rest.items()}
    total = rounded(sum(exact.values(), Fraction(0)))
    parts = {account: floor(amount) for account, amount in exact.items()}
    by_remainder = sorted(exact, key=lambda account: parts[account] - exact[account])
    for account in by_remainder[: total - sum(parts.values())]:
        parts[account] += 1
    for account in balances:
        if account.startswith("Revenue:"):
            parts[account] = -total
    return parts


def conversions(order: Sequence[rules.Draft], worth: Worth) -> list[rules.Draft]:
    """The entries that convert an order's own: what each changes of the order's state, converted.

    It is the state that is converted and not the single entry, so rounding never adds up: after a full refund
    the state is empty, and so is its conversion.
    """
    state: dict[str, int] = {}
    before: dict[str, int] = {}
    found: list[rules.Draft] = []
    for draft in order:
        for account, amount in draft.postings:
            state[account] = state.get(account, 0) + amount
        after = convert(state, worth.per_minor)
        moved = {
            accounts.converted(draft.currency, account): after.get(account, 0) - before.get(account, 0)
            for account in {**before, **after}
        }
        before = after
        found.append(_entry(draft, rules.tidy(moved), worth))
    return [draft for draft in found if draft.postings]


def _entry(draft: rules.Draft, postings: rules.Postings, worth: Worth) -> rules.Draft:
    rates = tuple(_used(rate) for rate in worth.rates)
    return replace(
        draft,
        kind="fx",
        part=f"{rules.FX}{draft.part}",
        currency=worth.currency,
        postings=postings,
        reason=said(rates),
        evidence_id=worth.rates[0].evidence_id if worth.rates else None,
        evidence_sha256=worth.rates[0].evidence_sha256 if worth.rates else None,
        rate=rates,
    )
