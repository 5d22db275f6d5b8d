"""Attribution: every grosz of an order's revenue is credited once, and the same in any order of arrival."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from types import SimpleNamespace
from typing import get_args

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sync.attribute import rules, step
from sync.attribute.rules import Policy, Touchpoint
from sync.ledger.rules import minor

ORDERED = datetime(2024, 3, 31, 12, tzinfo=UTC)
MODELS = get_args(rules.Model)
KINDS = frozenset({"ad_click", "form"})

amounts = st.integers(-(10**12), 10**12)
weight_lists = st.lists(st.integers(0, 10**9), min_size=1, max_size=12).filter(lambda ws: sum(ws) > 0)
touchpoints = st.lists(
    st.builds(
        Touchpoint,
        connector=st.sampled_from(["ads", "mail"]),
        id=st.integers(0, 99).map(str),
        at=st.integers(-60 * 86_400, 5 * 86_400).map(lambda s: ORDERED + timedelta(seconds=s))
        | st.sampled_from([ORDERED, ORDERED - timedelta(days=30)]),
        kind=st.sampled_from(["ad_click", "form", "email_open"]),
        campaign=st.none() | st.sampled_from(["ads:1", "ads:2", "mail:7"]),
        direct=st.booleans(),
    ),
    max_size=9,
    unique_by=lambda t: (t.connector, t.id),
)
policies = st.builds(
    lambda model, first, rest, half_life, lookback: Policy(
        version=1,
        model=model,
        lookback_days=lookback,
        half_life_days=half_life,
        first_share=first / 100,
        last_share=rest * (100 - first) // 100 / 100,
        touches=KINDS,
    ),
    st.sampled_from(MODELS),
    st.integers(0, 100),
    st.integers(0, 100),
    st.sampled_from([0.01, 1.0, 7.0, 30.0]),
    st.sampled_from([0, 1, 30, 90]),
)


def policy(model: rules.Model = "linear", **changes: object) -> Policy:
    return Policy(**{"version": 1, "model": model, "lookback_days": 30, "touches": KINDS} | changes)


def touch(id_: str, days_before: float, *, campaign: str | None = "ads:1", **more: object) -> Touchpoint:
    at = ORDERED - timedelta(days=days_before)
    return Touchpoint(
        **{"connector": "ads", "id": id_, "at": at, "kind": "form", "campaign": campaign} | more
    )


@given(amounts, weight_lists)
def test_shares_sum_exactly_and_lie_within_one_unit_of_the_exact_share(amount, weights):
    parts = rules.shares(amount, weights)
    assert sum(parts) == amount
    assert len(parts) == len(weights)
    for part, weight in zip(parts, weights, strict=True):
        exact = Fraction(amount * weight, sum(weights))
        assert abs(part - exact) < 1
        assert part * amount >= 0
        assert weight or part == 0


@given(amounts, weight_lists)
def test_shares_of_a_negative_amount_mirror_those_of_the_positive(amount, weights):
    assert rules.shares(-amount, weights) == [-part for part in rules.shares(amount, weights)]


@given(st.integers(0, 10**6), weight_lists)
def test_shares_give_the_units_left_over_to_the_largest_remainders_then_to_the_earlier_place(amount, weights):
    exact = [Fraction(amount * w, sum(weights)) for w in weights]
    floors = [int(e) for e in exact]
    ranked = sorted(range(len(weights)), key=lambda i: (-(exact[i] - floors[i]), i))
    winners = set(ranked[: amount - sum(floors)])
    assert rules.shares(amount, weights) == [f + (i in winners) for i, f in enumerate(floors)]


def test_equal_remainders_go_to_the_earlier_place():
    assert rules.shares(100, [1, 1, 1]) == [34, 33, 33]
    assert rules.shares(-101, [1, 1, 1]) == [-34, -34, -33]
    assert rules.shares(5, [1, 0, 1]) == [3, 0, 2]
    assert rules.shares(0, [3, 4]) == [0, 0]


@pytest.mark.parametrize("weights", [[], [0], [0, 0], [2, -1], [-1]])
def test_shares_refuse_weights_that_share_nothing(weights):
    with pytest.raises(ValueError, match="weights must not be negative"):
        rules.shares(100, weights)


@given(amounts, touchpoints, policies, st.booleans(), st.booleans())
def test_credits_sum_to_the_revenue_and_go_only_to_touches_that_count(
    revenue, touches, decided, has_lead, identified
):
    credits = rules.attribute(revenue, ORDERED, touches, decided, has_lead=has_lead, has_identity=identified)
    assert sum(c.amount_minor for c in credits) == revenue
    opens = ORDERED - timedelta(days=decided.lookback_days)
    eligible = [t for t in touches if t.kind in KINDS and opens <= t.at <= ORDERED]
    for credit in credits:
        assert (credit.campaign is None) != (credit.reason is None)
        if credit.touch is None:
            assert not eligible
            assert len(credits) == 1
        else:
            assert credit.touch in eligible
            assert credit.campaign == credit.touch.campaign
            assert credit.campaign or credit.reason == (
                "direct" if credit.touch.direct else rules.NO_CAMPAIGN
            )
    assert len({c.touch for c in credits}) == len(credits)


@given(amounts, touchpoints.flatmap(lambda ts: st.tuples(st.just(ts), st.permutations(ts))), policies)
def test_the_order_in_which_touches_arrive_does_not_matter(revenue, both, decided):
    one, other = both
    assert rules.attribute(revenue, ORDERED, one, decided, has_lead=True) == rules.attribute(
        revenue, ORDERED, other, decided, has_lead=True
    )


@given(touchpoints, policies)
def test_weights_agree_with_a_naive_reference(touches, decided):
    usable = sorted((t for t in touches if t.at <= ORDERED), key=lambda t: (t.at, t.connector, t.id))
    assume(usable)
    found = rules.weights(usable, ORDERED, decided)
    assert all(isinstance(w, int) and w >= 0 for w in found)
    total = sum(found)
    for weight, exact in zip(found, _reference(usable, decided), strict=True):
        assert abs(Fraction(weight, total) - exact) < Fraction(1, 100_000)


def _reference(usable: list[Touchpoint], decided: Policy) -> list[Fraction]:
    n = len(usable)
    plain = [Fraction(0)] * n
    match decided.model:
        case "first":
            plain[0] = Fraction(1)
        case "last":
            plain[-1] = Fraction(1)
        case "last_non_direct":
            led = [i for i in range(n) if not usable[i].direct]
            plain[max(led, default=n - 1)] = Fraction(1)
        case "linear":
            plain = [Fraction(1)] * n
        case "time_decay":
            ages = [(ORDERED - t.at) / timedelta(days=decided.half_life_days) for t in usable]
            plain = [max(Fraction(1, 10**6), Fraction(0.5**age)) for age in ages]
        case "position":
            first, last = (Fraction(round(s * 100), 100) for s in (decided.first_share, decided.last_share))
            plain = [(1 - first - last) / (n - 2) if n > 2 else Fraction(0)] * n
            plain[0], plain[-1] = first, last
            plain = [Fraction(1)] * n if n == 1 or not sum(plain) else plain
    return [p / sum(plain) for p in plain]


@example(days=30.0)
@given(st.floats(0, 30))
def test_half_a_life_is_half_a_weight(days):
    decided = policy("time_decay", half_life_days=7.0)
    old, new = rules.weights([touch("1", days + 7), touch("2", days)], ORDERED, decided)
    assert abs(new - 2 * old) <= 2


@pytest.mark.parametrize(
    ("model", "amounts_expected"),
    [
        ("first", {"1": 1000}),
        ("last", {"4": 1000}),
        ("last_non_direct", {"3": 1000}),
        ("linear", {"1": 250, "2": 250, "3": 250, "4": 250}),
        # Ages 21, 14, 7 and 0 days at a half-life of 7: 1/15, 2/15, 4/15, 8/15.
        ("time_decay", {"1": 67, "2": 133, "3": 267, "4": 533}),
        ("position", {"1": 400, "2": 100, "3": 100, "4": 400}),
    ],
)
def test_each_model_by_hand(model, amounts_expected):
    touches = [touch("1", 21), touch("2", 14), touch("3", 7), touch("4", 0, direct=True, campaign=None)]
    credits = rules.attribute(1000, ORDERED, touches, policy(model), has_lead=True)
    assert {c.touch.id: c.amount_minor for c in credits} == amounts_expected


def test_the_position_model_of_one_and_of_two_touches():
    def shared(*touches: Touchpoint, **changes: float) -> list[int]:
        credits = rules.attribute(999, ORDERED, touches, policy("position", **changes), has_lead=True)
        return [c.amount_minor for c in credits]

    one, two, three = touch("1", 3), touch("2", 2), touch("3", 1)
    assert shared(one) == [999]
    assert shared(one, two) == [500, 499]
    assert shared(one, two, first_share=0.6, last_share=0.2) == [749, 250]
    assert shared(one, two, first_share=0.0, last_share=0.0) == [500, 499]
    assert shared(one, two, three, first_share=0.0, last_share=0.0) == [999]
    assert shared(one, two, three, first_share=1.0, last_share=0.0) == [999]


@pytest.mark.parametrize(
    ("touches", "has_lead", "identified", "reason"),
    [
        ([], True, False, "no identity"),
        ([touch("1", 40)], True, False, "no identity"),
        ([], False, True, "no lead"),
        ([], True, True, "no campaign known"),
        ([touch("1", 1, kind="email_open")], True, True, "no campaign known"),
        ([touch("1", 31)], True, True, "touch outside the lookback"),
        ([touch("1", 31), touch("2", -1)], True, True, "touch outside the lookback"),
        ([touch("1", -1)], True, True, "touch after the order"),
        ([touch("1", 1, campaign=None)], True, True, "no campaign known"),
        ([touch("1", 1, campaign=None, direct=True)], True, True, "direct"),
    ],
)
def test_what_no_campaign_can_claim_says_why(touches, has_lead, identified, reason):
    credits = rules.attribute(500, ORDERED, touches, policy(), has_lead=has_lead, has_identity=identified)
    assert [(c.amount_minor, c.campaign, c.reason) for c in credits] == [(500, None, reason)]


def test_both_ends_of_the_lookback_count():
    on_edge, just_out = touch("1", 30), touch("2", 30 + 1 / 86_400)
    at_order, just_after = touch("3", 0), touch("4", -1 / 86_400)
    credits = rules.attribute(
        100, ORDERED, [on_edge, just_out, at_order, just_after], policy(), has_lead=True
    )
    assert {c.touch.id for c in credits} == {"1", "3"}


def test_last_non_direct_falls_back_to_the_last_when_all_are_direct():
    touches = [touch("1", 2, direct=True, campaign=None), touch("2", 1, direct=True, campaign=None)]
    credits = rules.attribute(100, ORDERED, touches, policy("last_non_direct"), has_lead=True)
    assert [(c.touch.id, c.reason) for c in credits] == [("2", "direct")]


@pytest.mark.parametrize(
    ("tax_included", "shipping_included", "revenue"),
    # 123.00 gross: 100.00 goods, 10.00 shipping and 13.00 tax (1.30 of it on the shipping).
    [(True, True, 12_300), (False, True, 11_000), (True, False, 11_170), (False, False, 10_000)],
)
def test_what_of_the_total_is_revenue(tax_included, shipping_included, revenue):
    order = SimpleNamespace(total_minor=12_300, tax_minor=1_300, shipping_minor=1_000, shipping_tax_minor=130)
    decided = policy(tax_included=tax_included, shipping_included=shipping_included)
    assert step.revenue_minor(order, decided) == revenue


def test_a_refunded_order_was_a_sale_a_cancelled_one_was_not():
    decided = policy(paid_statuses=("completed",))
    assert [step.is_sale(s, decided) for s in ("completed", "refunded", "cancelled", "processing")] == [
        True,
        True,
        False,
        False,
    ]


def test_touchpoints_take_their_campaign_from_what_is_known():
    known = step.campaigns.lookup([("meta", "17", "Spring")])
    row = SimpleNamespace(
        connector="mail", external_id="t1", occurred_at=ORDERED, kind="form", campaign_id=None,
        campaign_name=None, utm_source="news", utm_campaign="spring", utm_id=None, direct=None,
    )  # fmt: skip
    assert step.touchpoints([row], known) == [Touchpoint("mail", "t1", ORDERED, "form", "meta:17", False)]


def test_minor_units_round_half_to_even():
    from decimal import Decimal

    assert [minor(Decimal(x), 2) for x in ("1.005", "1.015", "-1.005", "12.3")] == [100, 102, -100, 1230]
    assert minor(Decimal("1234.5"), 0) == 1234
    assert minor(Decimal("1.2345"), 3) == 1234
