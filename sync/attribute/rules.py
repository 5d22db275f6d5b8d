"""Attribution: how an order's revenue is shared among the touches that led to it. Pure, in integers.

Weights are integers, shares come by the largest remainder, so that credits sum to the revenue exactly and the
same input gives the same output on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

Model = Literal["first", "last", "last_non_direct", "linear", "time_decay", "position"]
SCALE = 1_000_000  # weights of models that are not whole numbers, in millionths

NO_PERSON = "no identity"
NO_LEAD = "no lead"
NO_CAMPAIGN = "no campaign known"
OUTSIDE = "touch outside the lookback"
AFTER = "touch after the order"
DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class Policy:
    """What decides about credit. `lookback_days` and `half_life_days` in days, position shares in percent."""

    version: int
    model: Model
    lookback_days: int
    half_life_days: float = 7.0
    first_share: float = 0.4
    last_share: float = 0.4
    touches: frozenset[str] = frozenset()
    tax_included: bool = True
    shipping_included: bool = True
    paid_statuses: tuple[str, ...] = ("processing", "completed")
    settle_after_days: int | None = None


@dataclass(frozen=True, slots=True)
class Touchpoint:
    """A touch as attribution sees it. `campaign` None: it names no campaign that is known."""

    connector: str
    id: str
    at: datetime
    kind: str
    campaign: str | None
    direct: bool = False


@dataclass(frozen=True, slots=True)
class Credit:
    """A share of an order's revenue, in minor units: to a campaign, or unattributed with a reason."""

    amount_minor: int
    campaign: str | None = None
    reason: str | None = None
    touch: Touchpoint | None = field(default=None)


def shares(amount: int, weights: Sequence[int]) -> list[int]:
    """Split `amount` (minor units, of either sign) by `weights`: sums to it exactly, largest remainder first.

    Equal remainders go to the earlier place. Raises ValueError when no weight is positive.
    """
    total = sum(weights)
    if total <= 0 or min(weights) < 0:
        raise ValueError("weights must not be negative and at least one must be positive")
    sign = -1 if amount < 0 else 1
    parts = [divmod(abs(amount) * weight, total) for weight in weights]
    result = [whole for whole, _ in parts]
    left = abs(amount) - sum(result)
    by_rest = sorted(range(len(parts)), key=lambda i: (-parts[i][1], i))
    for i in by_rest[:left]:
        result[i] += 1
    return [sign * part for part in result]


def attribute(
    revenue_minor: int,
    ordered_at: datetime,
    touchpoints: Sequence[Touchpoint],
    policy: Policy,
    *,
    has_lead: bool,
    has_identity: bool = True,
) -> list[Credit]:
    """The credits of one order: they sum to `revenue_minor` exactly.

    Counted are touches of the policy's kinds, not after the order and not before its lookback. A share that
    falls to a touch without a known campaign stays unattributed, and says why.
    """
    counted = [t for t in touchpoints if t.kind in policy.touches]
    usable = sorted(
        (t for t in counted if ordered_at - timedelta(days=policy.lookback_days) <= t.at <= ordered_at),
        key=lambda t: (t.at, t.connector, t.id),
    )
    if not usable:
        reason = _why_none(counted, ordered_at, has_lead=has_lead, has_identity=has_identity)
        return [Credit(revenue_minor, reason=reason)]
    chosen = weights(usable, ordered_at, policy)
    paths = [(t, w) for t, w in zip(usable, chosen, strict=True) if w > 0]
    amounts = shares(revenue_minor, [w for _, w in paths])
    return [_credit(amount, touch) for amount, (touch, _) in zip(amounts, paths, strict=True)]


def _credit(amount: int, touch: Touchpoint) -> Credit:
    if touch.campaign is not None:
        return Credit(amount, campaign=touch.campaign, touch=touch)
    return Credit(amount, reason=DIRECT if touch.direct else NO_CAMPAIGN, touch=touch)


def _why_none(
    counted: Sequence[Touchpoint], ordered_at: datetime, *, has_lead: bool, has_identity: bool
) -> str:
    if not has_identity:
        return NO_PERSON
    named = [t for t in counted if t.campaign is not None]
    if any(t.at <= ordered_at for t in named):
        return OUTSIDE
    if named:
        return AFTER
    return NO_CAMPAIGN if has_lead or counted else NO_LEAD


def weights(usable: Sequence[Touchpoint], ordered_at: datetime, policy: Policy) -> list[int]:
    """One weight a touch, oldest first, by the policy's model."""
    count = len(usable)
    match policy.model:
        case "first":
            return [1] + [0] * (count - 1)
        case "last":
            return [0] * (count - 1) + [1]
        case "last_non_direct":
            led = [i for i, t in enumerate(usable) if not t.direct]
            chosen = led[-1] if led else count - 1
            return [int(i == chosen) for i in range(count)]
        case "linear":
            return [1] * count
        case "time_decay":
            return [_decay(ordered_at - t.at, policy.half_life_days) for t in usable]
        case "position":
            return _by_position(count, round(policy.first_share * SCALE), round(policy.last_share * SCALE))


def _decay(age: timedelta, half_life_days: float) -> int:
    """Half the weight for each half-life before the order; never nothing, so that every touch has its share."""
    halvings = age / timedelta(days=half_life_days)
    return max(1, round(SCALE * float(0.5**halvings)))


def _by_position(count: int, first: int, last: int) -> list[int]:
    """The shares of the first and the last touch, the rest in equal parts between; of two, both by their share."""
    if count == 1:
        return [1]
    if count == 2:
        return [first, last] if first + last else [1, 1]
    middle = SCALE - first - last
    # Scaled by the number of middle touches, so that all weights stay whole.
    inner = count - 2
    return [first * inner, *[middle] * inner, last * inner]
