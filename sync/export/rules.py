"""What an export of the journal consists of, and what it must come to. Pure.

An export is one period of the books, and balances on its own: what the accounts held at its begin, every entry
that counts in it, and what they held at its end. Amounts are integers of the currency's minor unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from mappings.currencies import exponent
from sync.ledger import rules as journal


class Torn(Exception):
    """The entries that were read do not come to the control totals: nothing is exported."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the journal; `business_day` is when it happened in the workspace's zone, `posted_on` the day it
    counts on. One without accounts is a decision that the books rest on."""

    id: int
    kind: str
    connector: str
    subject: str
    part: str
    generation: int
    currency: str
    happened_at: datetime
    business_day: date
    posted_on: date
    booked_at: datetime
    policy_version: int | None
    reason: str
    author: str
    reverses: int | None
    evidence_id: int | None
    evidence_sha256: bytes | None
    hash: bytes
    rate: str | None  # by which an entry of the kind fx was converted, in words
    accounts: Sequence[str]
    amounts: Sequence[int]


@dataclass(frozen=True, slots=True)
class Balance:
    """One account in one currency: before the period, what came on either side in it, and after it."""

    account: str
    currency: str
    opening_minor: int
    debit_minor: int
    credit_minor: int  # negative, as every credit

    @property
    def closing_minor(self) -> int:
        return self.opening_minor + self.debit_minor + self.credit_minor


@dataclass(frozen=True, slots=True)
class Total:
    """The control totals of one currency in the period."""

    currency: str
    entries: int
    postings: int
    debit_minor: int
    credit_minor: int


@dataclass(frozen=True, slots=True)
class Policy:
    """A version of the attribution policy that entries of the period were booked by."""

    version: int
    valid_from: datetime
    sha256: bytes
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cover:
    """What stands on an export's cover. The seal is the whole journal's last entry when it was read.

    `since` and `until` (exclusive) are business days of `zone`; `asked` is the period as it was asked for.
    """

    workspace: str
    note: str
    asked: str
    since: date
    until: date
    zone: str
    currency: str
    exported_at: datetime
    seal_entry: int
    seal_hash: bytes
    policies: Sequence[Policy]
    totals: Sequence[Total]


@dataclass(frozen=True, slots=True)
class Export:
    """`entries` reads them afresh, in the order of their business days, each time it is called."""

    cover: Cover
    balances: Sequence[Balance]
    entries: Callable[[], Iterator[Entry]]

    @property
    def opening(self) -> list[Balance]:
        return [balance for balance in self.balances if balance.opening_minor]


@dataclass(slots=True)
class _Sums:
    entries: int = 0
    postings: int = 0
    debit: int = 0
    credit: int = 0


@dataclass(slots=True)
class Counted:
    """Entries on their way into a file, counted: `check` afterwards says whether all of them came by."""

    entries: Iterable[Entry]
    _sums: dict[str, _Sums] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Entry]:
        for entry in self.entries:
            if not entry.accounts:
                if entry.kind not in journal.MEMOS:
                    raise Torn(f"entry {entry.id} has no postings: leadledger verify")
                yield entry
                continue
            if sum(entry.amounts) != 0:
                raise Torn(f"entry {entry.id} sums to {sum(entry.amounts)}, not to zero: leadledger verify")
            sums = self._sums.setdefault(entry.currency, _Sums())
            sums.entries += 1
            sums.postings += len(entry.amounts)
            sums.debit += sum(amount for amount in entry.amounts if amount > 0)
            sums.credit += sum(amount for amount in entry.amounts if amount < 0)
            yield entry

    def check(self, totals: Iterable[Total]) -> None:
        """Raises `Torn` unless what came by is what the totals say."""
        wanted = {t.currency: _Sums(t.entries, t.postings, t.debit_minor, t.credit_minor) for t in totals}
        if self._sums != wanted:
            raise Torn(f"read {self._sums}, but the control totals say {wanted}: leadledger verify")


def check_balances(balances: Iterable[Balance], totals: Iterable[Total]) -> None:
    """Raises `Torn` unless the accounts sum to zero before and after, and move by the control totals."""
    moved: dict[str, tuple[int, int]] = {}
    held: dict[str, int] = {}
    for balance in balances:
        debit, credit = moved.get(balance.currency, (0, 0))
        moved[balance.currency] = (debit + balance.debit_minor, credit + balance.credit_minor)
        held[balance.currency] = held.get(balance.currency, 0) + balance.opening_minor
    wanted = {total.currency: (total.debit_minor, total.credit_minor) for total in totals}
    for currency, sides in moved.items():
        if held[currency] or sides != wanted.get(currency, (0, 0)) or sum(sides):
            raise Torn(f"the accounts in {currency} do not come to the control totals: leadledger verify")


def amount_text(amount_minor: int, currency: str) -> str:
    """An amount in its currency's decimals with a point: ``-12.34``, ``500`` (JPY), ``0.005`` (KWD)."""
    digits = exponent(currency)
    whole, rest = divmod(abs(amount_minor), 10**digits)
    sign = "-" if amount_minor < 0 else ""
    return f"{sign}{whole}.{rest:0{digits}d}" if digits else f"{sign}{whole}"
