"""From the shop's own total to what the ad platforms claim to what the ledger credits, line by line by cause. Pure.

    the shop's own total
      + lines → what the platforms should claim, by what is known of each order
      + residual → what they claim
      + lines → what the ledger credits to their campaigns

Every line is a sum over orders (or, for what was only viewed, over days of a campaign), so that it opens to them.
Amounts are minor units of one currency.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Section = Literal["to the claims", "to the credit"]


@dataclass(frozen=True, slots=True)
class Order:
    """One order as the bridge sees it.

    Attributes
    ----------
    ref : ``connector:id``.
    shown : what the shop shows it comes to, at face value whatever its currency; 0 where it shows none.
    shown_same : whether that is in the bridge's currency.
    in_shop_days : placed within the period, by days of the shop's own time zone. in_days : by business days.
    counted : the shop's own total counts it. sold : the policy does.
    gross : what its sale in force comes to, where it counts on its own day within the period; else 0.
    elsewhere : its sale is booked and counts in another period, since its own was closed.
    placed : what it came to when it was placed, for a platform that claims whatever was placed.
    platforms : those with a click within their window, the latest click first, each with whether that was on a
        day of the period.
    refused : its person said no.
    tax, shipping : what the policy leaves out of revenue of `gross`. credited : of the sale, to campaigns of the ad
        platforms; to_others : to other campaigns; unattributed : to none.
    refunds : what refunds of the period took back from the ad platforms' campaigns (below zero).
    restated : what else counts in the period on these campaigns: what is no longer in force, or came late.
    """

    ref: str
    shown: int = 0
    shown_same: bool = True
    in_shop_days: bool = False
    in_days: bool = False
    counted: bool = False
    sold: bool = False
    gross: int = 0
    elsewhere: bool = False
    placed: int = 0
    platforms: tuple[tuple[str, bool], ...] = ()
    refused: bool = False
    tax: int = 0
    shipping: int = 0
    credited: int = 0
    to_others: int = 0
    unattributed: int = 0
    refunds: int = 0
    restated: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """What a platform claims for a campaign on a day; `viewed` is part of `amount`."""

    platform: str
    campaign: str
    day: str
    orders: int
    amount: int
    viewed: int = 0


@dataclass(slots=True)
class Line:
    """A step of the bridge; `opened` are (order or claim, amount) that it sums."""

    name: str
    section: Section
    opened: list[tuple[str, int]] = field(default_factory=list)
    says: str = ""

    @property
    def amount(self) -> int:
        return sum(amount for _, amount in self.opened)

    def add(self, ref: str, amount: int) -> None:
        if amount:
            self.opened.append((ref, amount))


@dataclass(frozen=True, slots=True)
class Bridge:
    """`lines` lead from `shop` to `claimed` and on to `credited`; those named *residual* hold what nothing explains."""

    shop: int
    claimed: int
    credited: int
    lines: tuple[Line, ...]

    @property
    def residual(self) -> int:
        return sum(line.amount for line in self.lines if line.name in RESIDUALS)


RESIDUALS = ("residual", "residual of the credit")


def build(orders: Sequence[Order], claims: Sequence[Claim], *, platforms: Iterable[str]) -> Bridge:
    """`platforms` are those that claim anything at all."""
    shop = sum(order.shown for order in orders if order.counted and order.in_shop_days)
    claimed = sum(claim.amount for claim in claims)
    credited = sum(order.credited + order.refunds + order.restated for order in orders)
    there = _to_the_claims(orders, claims)
    if not set(platforms):
        for line in there:
            if line.name in ("date of touch", "unpaid orders", "double claims", "view-through"):
                line.says = "no platform claims anything"
    residual = Line("residual", "to the claims", says="what the platforms claim and nothing explains")
    residual.add("claims", claimed - shop - sum(line.amount for line in there))
    back = [_out(line) for line in [residual, *there] if line.name in _TAKEN_OUT]
    on = back + _to_the_credit(orders)
    rest = Line("residual of the credit", "to the credit", says="a fault of the bridge: the books balance")
    rest.add("books", credited - claimed - sum(line.amount for line in on))
    return Bridge(shop, claimed, credited, (*there, residual, *on, rest))


# The claims' own ways, which the ledger does not go: what led to the claims is taken out again.
_TAKEN_OUT = {
    "residual": "residual taken out",
    "view-through": "views are not credited",
    "double claims": "each order counts once",
    "unpaid orders": "only sales count",
    "date of touch": "date of order",
}


def _out(line: Line) -> Line:
    turned = [(ref, -amount) for ref, amount in line.opened]
    return Line(_TAKEN_OUT[line.name], "to the credit", turned)


def _to_the_claims(orders: Sequence[Order], claims: Sequence[Claim]) -> list[Line]:
    def line(name: str, amount_of: Callable[[Order], int], says: str) -> Line:
        found = Line(name, "to the claims", says=says)
        for order in orders:
            found.add(order.ref, amount_of(order))
        return found

    def counted_here(order: Order) -> int:
        return order.shown if order.counted and order.in_days else 0

    def sold_here(order: Order) -> int:
        return order.shown if order.sold and order.in_days else 0

    def same(order: Order) -> int:
        return sold_here(order) if order.shown_same else 0

    def now(order: Order) -> int:
        return 0 if order.elsewhere else same(order)

    def unclaimed(order: Order, *, refused: bool) -> int:
        return -order.gross if not order.platforms and order.refused is refused else 0

    viewed = Line("view-through", "to the claims", says="only seen, not clicked: the platform names no order")
    for claim in claims:
        viewed.add(f"{claim.platform}:{claim.campaign} {claim.day}", claim.viewed)
    return [
        line(
            "time zone",
            lambda o: counted_here(o) - (o.shown if o.counted and o.in_shop_days else 0),
            "days of the shop's time zone become days of the workspace's",
        ),
        line(
            "statuses",
            lambda o: sold_here(o) - counted_here(o),
            "what the shop counts and the policy does not, and the other way round",
        ),
        line("currency", lambda o: same(o) - sold_here(o), "the shop adds up all currencies as one"),
        line("closed before", lambda o: now(o) - same(o), "booked after its period was closed: counts later"),
        line("not reconciled", lambda o: o.gross - now(o), "see: leadledger ledger reconcile"),
        line("no consent", lambda o: unclaimed(o, refused=True), "no click is known, and the person said no"),
        line(
            "no match", lambda o: unclaimed(o, refused=False), "no click of a claiming platform in its window"
        ),
        line("date of touch", _by_touch, "a platform counts an order on the day of the click"),
        line("unpaid orders", _unpaid, "a platform claims what was placed, whatever became of it"),
        line("double claims", _double, "claimed by a second platform too"),
        viewed,
    ]


def _first_in_days(order: Order) -> bool:
    return bool(order.platforms) and order.platforms[0][1]


def _by_touch(order: Order) -> int:
    """Of a sale of the period clicked on another day, and of one of another day clicked in the period."""
    if not order.platforms or not (order.sold or order.gross):
        return 0
    mine = order.gross
    claimed = (order.gross or order.placed) if _first_in_days(order) else 0
    return claimed - mine


def _unpaid(order: Order) -> int:
    return order.placed if not order.sold and not order.gross and _first_in_days(order) else 0


def _double(order: Order) -> int:
    again = sum(in_days for _, in_days in order.platforms[1:])
    return again * (order.gross or order.placed)


def _to_the_credit(orders: Sequence[Order]) -> list[Line]:
    def line(name: str, amount_of: Callable[[Order], int], says: str) -> Line:
        found = Line(name, "to the credit", says=says)
        for order in orders:
            found.add(order.ref, amount_of(order))
        return found

    def of_claimed(order: Order, amount: int) -> int:
        return -amount if order.platforms else 0

    return [
        line("tax", lambda o: of_claimed(o, o.tax), "left out of revenue by the policy"),
        line("shipping", lambda o: of_claimed(o, o.shipping), "left out of revenue by the policy"),
        line("other campaigns", lambda o: of_claimed(o, o.to_others), "the model's share of other campaigns"),
        line("unattributed", lambda o: of_claimed(o, o.unattributed), "the model's share of no campaign"),
        line(
            "credited unclaimed",
            lambda o: 0 if o.platforms else o.credited,
            "credited by the ledger's lookback, outside the platform's window",
        ),
        line(
            "refunds", lambda o: o.refunds, "taken back on the day of the refund; platforms keep their claim"
        ),
        line("restated", lambda o: o.restated, "late or corrected entries that count in the period"),
    ]


def as_dict(bridge: Bridge) -> dict[str, Any]:
    """JSON types only."""
    return {
        "shop_minor": bridge.shop,
        "claimed_minor": bridge.claimed,
        "credited_minor": bridge.credited,
        "residual_minor": bridge.residual,
        "lines": [
            {
                "section": line.section,
                "line": line.name,
                "amount_minor": line.amount,
                "orders": len(line.opened),
                "says": line.says,
                "opened": [{"ref": ref, "amount_minor": amount} for ref, amount in line.opened],
            }
            for line in bridge.lines
        ],
    }
