"""What the journal must say of an order or a day's spend, and the entries that make it say so. Pure.

Amounts are integers of the currency's minor unit; every entry balances to zero. Nothing is ever changed: what
is no longer right is reversed, and what is right is booked anew, each with a reason.

>>> sale = Draft.of("sale", "sale", [("Revenue:Shop:shop", -100), ("Credit:Campaign:ads:1", 100)], ...)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import accumulate, pairwise
from typing import Any, Literal

from mappings.normalise import EXACT
from sync.attribute.rules import shares
from sync.ledger import accounts, merkle
from sync.ledger.encoding import canonical_bytes
from sync.ledger.rates import Used

Kind = Literal[
    "sale",
    "refund",
    "spend",
    "cancellation",
    "reattribution",
    "correction",
    "spend_correction",
    "adjustment",
    "policy",
    "close",
    "fx",
]
MEMOS = frozenset({"policy", "close"})  # entries without postings: a decision that the books rest on
Postings = tuple[tuple[str, int], ...]  # (account, amount_minor), by account
FX = "fx:"  # begins the part of an entry that converts another part of its order
EXCESS = "refund exceeds the sale"
GENESIS = bytes(32)


class Unbalanced(Exception):
    """An entry whose postings do not sum to zero: a defect of ours, nothing is booked."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry to be booked. `part` names what of its subject it books: ``sale``, ``refund:17``, ``spend``.

    `refers_to` is the entry that it stands in place of; a refund refers to its sale.
    """

    kind: Kind
    part: str
    currency: str
    happened_at: datetime
    postings: Postings
    reason: str
    policy_version: int | None = None
    evidence_id: int | None = None
    evidence_sha256: bytes | None = None
    reverses: int | None = None
    refers_to: int | None = None
    rate: tuple[Used, ...] | None = None


@dataclass(frozen=True, slots=True)
class Live:
    """An entry of the journal that is in force: neither reversed nor a reversal."""

    id: int
    kind: str
    part: str
    currency: str
    happened_at: datetime
    postings: Postings
    policy_version: int | None
    first_booked_at: datetime
    posted_on: date | None = None
    rate: tuple[Used, ...] | None = None


def tidy(postings: Mapping[str, int]) -> Postings:
    """Postings by account without zeroes. Raises `Unbalanced` when they do not sum to zero."""
    if sum(postings.values()) != 0:
        raise Unbalanced(f"postings sum to {sum(postings.values())}, not to zero")
    return tuple(sorted((account, amount) for account, amount in postings.items() if amount))


@dataclass(frozen=True, slots=True)
class Sale:
    """An order as the journal needs it. `credits` are (account, amount) and sum to the revenue."""

    connector: str
    currency: str
    happened_at: datetime
    gross: int
    tax: int  # zero where the policy counts it as revenue, as for shipping
    shipping: int
    credits: Sequence[tuple[str, int]]
    policy_version: int
    evidence_id: int
    evidence_sha256: bytes


@dataclass(frozen=True, slots=True)
class Refund:
    id: str
    happened_at: datetime
    amount: int
    tax: int | None
    shipping: int | None
    reason: str | None
    evidence_id: int
    evidence_sha256: bytes


def minor(amount: Decimal, exponent: int) -> int:
    """`amount` in minor units; what is finer is rounded half to even."""
    return int(amount.scaleb(exponent, context=EXACT).to_integral_value(rounding=ROUND_HALF_EVEN))


def minor_parts(amounts: Sequence[Decimal], exponent: int) -> list[int]:
    """`amounts` in minor units, rounded so that they sum to what their sum is rounded to: parts that are
    finer than the currency add up to the whole all the same."""
    sums = [minor(total, exponent) for total in accumulate(amounts, EXACT.add)]
    return [after - before for before, after in pairwise([0, *sums])]


def desired(sale: Sale | None, refunds: Sequence[Refund]) -> list[Draft]:
    """The entries an order must have in force: its sale, and each refund at its own date.

    Without a sale (not paid, cancelled, deleted, or not known yet) there are none: a refund waits for its
    order. What is refunded is taken from where the sale was credited, in proportion to what is left there,
    so that a full refund, in whatever parts, brings every account back to exactly zero.
    """
    if sale is None or sale.gross == 0:
        return []
    buckets: dict[str, int] = {}
    for account, amount in sale.credits:
        buckets[account] = buckets.get(account, 0) + amount
    aside = {accounts.tax(sale.connector): sale.tax, accounts.shipping(sale.connector): sale.shipping}
    buckets |= {account: amount for account, amount in aside.items() if amount}
    revenue = accounts.revenue(sale.connector)
    drafts = [
        Draft(
            "sale",
            "sale",
            sale.currency,
            sale.happened_at,
            tidy({revenue: -sale.gross, **buckets}),
            "order paid",
            sale.policy_version,
            sale.evidence_id,
            sale.evidence_sha256,
        )
    ]
    for refund in sorted(refunds, key=lambda r: (r.happened_at, r.id)):
        taken = _take_back(buckets, refund, sale)
        for account, amount in taken.items():
            buckets[account] = buckets.get(account, 0) - amount
        postings = {revenue: refund.amount, **{account: -amount for account, amount in taken.items()}}
        drafts.append(
            Draft(
                "refund",
                f"refund:{refund.id}",
                sale.currency,
                refund.happened_at,
                tidy(postings),
                refund.reason or "refund",
                sale.policy_version,
                refund.evidence_id,
                refund.evidence_sha256,
            )
        )
    return [draft for draft in drafts if draft.postings]


def _take_back(buckets: Mapping[str, int], refund: Refund, sale: Sale) -> dict[str, int]:
    """From which accounts a refund is taken. A known split of tax and shipping is followed as far as the
    sale has it; the rest, and a refund without a split, goes by what is left on each account. A split that
    the other accounts cannot bear gives way: only what exceeds the whole sale is booked as excess."""
    taken: dict[str, int] = {}
    left = refund.amount
    for account, known in (
        (accounts.tax(sale.connector), refund.tax),
        (accounts.shipping(sale.connector), refund.shipping),
    ):
        if known is not None and account in buckets:
            taken[account] = max(0, min(known, buckets[account], left))
            left -= taken[account]
    for spared in (frozenset(taken), frozenset[str]()):
        open_ = {a: n - taken.get(a, 0) for a, n in buckets.items() if a not in spared}
        open_ = {a: n for a, n in open_.items() if n > 0}
        fits = min(left, sum(open_.values()))
        if fits > 0:
            for account, part in zip(open_, shares(fits, list(open_.values())), strict=True):
                taken[account] = taken.get(account, 0) + part
            left -= fits
    if left > 0:
        taken[accounts.unattributed(EXCESS)] = left
    return taken


def keep_credits(sale: Sale, live: Live) -> Sale:
    """`sale` credited as its entry in force already is: a settled order's credits no longer move.

    With the same gross amount it stays as it is booked, tax and shipping included, whatever the policy says
    by now; a settled sale whose amount was edited is shared in the proportions it had.
    """
    booked = dict(live.postings)
    if live.currency == sale.currency and booked.get(accounts.revenue(sale.connector)) == -sale.gross:
        return replace(
            sale,
            credits=[(account, amount) for account, amount in live.postings if _is_credit(account)],
            tax=booked.get(accounts.tax(sale.connector), 0),
            shipping=booked.get(accounts.shipping(sale.connector), 0),
            policy_version=live.policy_version or sale.policy_version,
        )
    held = [(account, amount) for account, amount in live.postings if _is_credit(account)]
    wanted = sum(amount for _, amount in sale.credits)
    if live.currency != sale.currency or not held or wanted <= 0:
        return sale
    parts = shares(wanted, [amount for _, amount in held])
    credits = [(account, part) for (account, _), part in zip(held, parts, strict=True)]
    return replace(sale, credits=credits, policy_version=live.policy_version or sale.policy_version)


def _is_credit(account: str) -> bool:
    return account.startswith(("Credit:", "Unattributed:"))


def corrections(live: Sequence[Live], wanted: Sequence[Draft], *, why_gone: str) -> list[Draft]:
    """The entries that lead from what is in force to what should be: nothing, if it is so already."""
    targets = {draft.part: draft for draft in wanted}
    drafts: list[Draft] = []
    for entry in live:
        target = targets.pop(entry.part, None)
        if target is not None and _same(entry, target):
            continue
        kind, reason = _why(entry, target, why_gone)
        drafts.append(_reversal(entry, kind, reason))
        if target is not None:
            # An entry that converts says by which rate, whatever led to it.
            why = target.reason if target.kind == "fx" else reason
            drafts.append(replace(target, reason=why, refers_to=entry.id))
    return drafts + list(targets.values())


def _same(entry: Live, draft: Draft) -> bool:
    return (entry.currency, entry.happened_at, entry.postings, entry.rate) == (
        draft.currency,
        draft.happened_at,
        draft.postings,
        draft.rate,
    )


def _why(entry: Live, target: Draft | None, why_gone: str) -> tuple[Kind, str]:
    if entry.part == "spend":
        return (
            "spend_correction",
            "the platform restated its figure" if target else "the platform withdrew it",
        )
    if entry.part.startswith(FX):
        same_rate = target is None or entry.rate == target.rate
        return "correction", "what it converts changed" if same_rate else "another rate holds"
    if target is None:
        gone = "the shop withdrew the refund" if entry.part.startswith("refund:") else why_gone
        return "cancellation", gone
    if dict(entry.postings).get(_revenue_of(entry)) != dict(target.postings).get(_revenue_of(entry)):
        return "correction", "the shop edited the amount"
    if (entry.currency, entry.happened_at) != (target.currency, target.happened_at):
        return "correction", "the shop edited the date or the currency"
    return "reattribution", "evidence or policy changed who is credited"


def _revenue_of(entry: Live) -> str:
    return next((a for a, _ in entry.postings if a.startswith("Revenue:")), "")


def _reversal(entry: Live, kind: Kind, reason: str) -> Draft:
    return Draft(
        kind,
        entry.part,
        entry.currency,
        entry.happened_at,
        tuple((account, -amount) for account, amount in entry.postings),
        reason,
        entry.policy_version,
        reverses=entry.id,
        rate=entry.rate,
    )


def spend(
    *,
    connector: str,
    campaign_id: str,
    amount: int,
    currency: str,
    happened_at: datetime,
    evidence_id: int,
    evidence_sha256: bytes,
) -> list[Draft]:
    """The entry for what one campaign cost on one day; none for a day that cost nothing."""
    account = accounts.campaign("Spend", f"{connector}:{campaign_id}")
    postings = tidy({account: amount, accounts.payable(connector): -amount})
    if not postings:
        return []
    return [
        Draft(
            "spend",
            "spend",
            currency,
            happened_at,
            postings,
            "spend as reported",
            None,
            evidence_id,
            evidence_sha256,
        )
    ]


NO_CURRENCY = "XXX"  # ISO 4217


def memo(
    kind: Literal["policy", "close"],
    reason: str,
    *,
    happened_at: datetime,
    sha256: bytes,
    policy_version: int | None = None,
) -> Draft:
    """An entry without postings, for a decision that the books rest on; `sha256` is that of what was decided."""
    return Draft(kind, kind, NO_CURRENCY, happened_at, (), reason, policy_version, None, sha256)


@dataclass(frozen=True, slots=True)
class Sealed:
    """An entry as it stands in the journal: `fields` are hashed together with the hash before; `leaf` is its
    leaf in the Merkle tree, where it was worked out."""

    fields: Mapping[str, Any]
    postings: Postings
    prev_hash: bytes
    hash: bytes
    leaf: bytes = b""


def seal(fields: Mapping[str, Any], postings: Postings, prev_hash: bytes) -> Sealed:
    """The entry after the one whose hash is `prev_hash`, chained to it, with its leaf of the tree."""
    known = canonical_bytes(fields, postings)
    digest = hashlib.sha256(prev_hash + known).digest()
    return Sealed(fields, postings, prev_hash, digest, merkle.leaf_hash(known))
