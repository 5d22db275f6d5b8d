"""How an amount was shared out, told as it was done: the exact share, its whole units, who got a unit left over. Pure.

>>> [(s.exact, s.whole, s.extra) for s in told(100, [1, 1, 1])]
[(Fraction(100, 3), 33, 1), (Fraction(100, 3), 33, 0), (Fraction(100, 3), 33, 0)]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sync.attribute.rules import shares


@dataclass(frozen=True, slots=True)
class Share:
    """One share, in minor units. `exact` = `whole` + `rest`; `extra` is the unit it got of those left over, with
    the sign of the amount; `rank` its place among the rests, 1 for the largest."""

    weight: int
    weights_in_all: int
    exact: Fraction
    whole: int
    rest: Fraction
    rank: int
    extra: int
    why: str

    @property
    def amount(self) -> int:
        return self.whole + self.extra

    def as_json(self) -> dict[str, Any]:
        """Fractions as text, ``10000/3``."""
        return {
            "weight": self.weight,
            "weights_in_all": self.weights_in_all,
            "exact_minor": str(self.exact),
            "whole_minor": self.whole,
            "rest_minor": str(self.rest),
            "rank_of_rest": self.rank,
            "extra_minor": self.extra,
            "why": self.why,
        }


def told(amount: int, weights: Sequence[int]) -> list[Share]:
    """The shares of `amount` (minor units, of either sign) by `weights`, each with why it is not its exact share.

    They are those of `sync.attribute.rules.shares`: that is asserted. Raises ValueError as that does.
    """
    booked = shares(amount, weights)
    total, sign = sum(weights), -1 if amount < 0 else 1
    exact = [Fraction(amount * weight, total) for weight in weights]
    whole = [sign * (abs(amount) * weight // total) for weight in weights]
    rests = [e - w for e, w in zip(exact, whole, strict=True)]
    order = sorted(range(len(weights)), key=lambda i: (-abs(rests[i]), i))
    ranks = {place: rank for rank, place in enumerate(order, 1)}
    left = abs(amount - sum(whole))
    found = []
    for place, weight in enumerate(weights):
        extra = sign if ranks[place] <= left else 0
        why = _why(rests, place, ranks[place], left)
        found.append(Share(weight, total, exact[place], whole[place], rests[place], ranks[place], extra, why))
    assert [share.amount for share in found] == booked, "the shares told are not those that are booked"
    return found


def _why(rests: Sequence[Fraction], place: int, rank: int, left: int) -> str:
    if not left:
        return "it comes out even" if not rests[place] else ""
    tied = [i for i, rest in enumerate(rests) if abs(rest) == abs(rests[place])]
    units = "the one unit left over" if left == 1 else f"one of the {left} units left over"
    if rank <= left:
        by = "by place: an equal remainder goes to the earlier" if len(tied) > 1 else "by its remainder"
        return f"got {units}, {by} ({_ordinal(rank)} of {len(rests)})"
    if not rests[place]:
        return "it comes out even"
    behind = " by place" if len(tied) > 1 else ""
    return f"rounded down: {_ordinal(rank)} of {len(rests)}{behind}, {left} left over"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def taken_back(
    held: Mapping[str, int], taken: Mapping[str, int], *, aside: frozenset[str]
) -> dict[str, Share] | None:
    """How a refund came out of what its sale held, by account, both in minor units.

    In proportion to what was left everywhere; else (the shop gave the split of `aside`, tax and shipping) in
    proportion to what was left elsewhere. Accounts that a split or the excess decided are not in the answer. None:
    neither explains it.
    """
    for spared in (frozenset[str](), aside):
        open_ = {account: amount for account, amount in held.items() if amount > 0 and account not in spared}
        by_rule = {account: taken.get(account, 0) for account in open_}
        amount = sum(by_rule.values())
        if amount <= 0 or not open_:
            continue
        found = dict(zip(open_, told(amount, list(open_.values())), strict=True))
        if all(found[account].amount == by_rule[account] for account in open_):
            return found
    return None
