"""How an amount was shared is told as it was done: exact share, whole units, who got what was left over and why."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from sync.attribute import rules
from sync.report.rounding import taken_back, told

AMOUNTS = st.integers(-(10**12), 10**12)
WEIGHTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=8).filter(any)


@given(amount=AMOUNTS, weights=WEIGHTS)
def test_what_is_told_is_what_is_booked(amount: int, weights: list[int]) -> None:
    found = told(amount, weights)
    assert [share.amount for share in found] == rules.shares(amount, weights)
    assert sum((share.exact for share in found), Fraction()) == amount
    for share in found:
        assert share.exact == share.whole + share.rest == Fraction(amount * share.weight, sum(weights))
        assert abs(share.amount - share.exact) < 1
    got = [share.rank for share in found if share.extra]
    assert sorted(got) == list(range(1, len(got) + 1)), "the largest remainders got the units"


def test_the_odd_unit_goes_to_the_earliest_of_equal_remainders() -> None:
    first, second, third = told(10000, [1, 1, 1])
    assert (first.as_json()["exact_minor"], first.whole, first.extra) == ("10000/3", 3333, 1)
    assert (
        first.why == "got the one unit left over, by place: an equal remainder goes to the earlier (1st of 3)"
    )
    assert second.why == "rounded down: 2nd of 3 by place, 1 left over"
    assert third.extra == 0


def test_the_odd_unit_goes_to_the_largest_remainder() -> None:
    small, large = told(10, [1, 5])
    assert (small.rest, large.rest) == (Fraction(2, 3), Fraction(1, 3))
    assert small.why == "got the one unit left over, by its remainder (1st of 2)"
    assert large.why == "rounded down: 2nd of 2, 1 left over"


def test_what_comes_out_even_says_so() -> None:
    assert {share.why for share in told(100, [1, 3])} == {"it comes out even"}
    assert told(10, [1, 1, 1, 0])[3].why == "it comes out even"


SOLD = {"Credit:Campaign:ads:1": 3334, "Credit:Campaign:ads:2": 3333, "Tax:Shop:shop": 3333}
ASIDE = frozenset({"Tax:Shop:shop", "Shipping:Shop:shop"})


def test_a_refund_is_taken_in_proportion_to_what_is_left() -> None:
    taken = dict(zip(SOLD, rules.shares(5000, list(SOLD.values())), strict=True))
    found = taken_back(SOLD, taken, aside=ASIDE)
    assert found is not None
    assert {account: share.amount for account, share in found.items()} == taken
    assert found["Credit:Campaign:ads:1"].exact == Fraction(5000 * 3334, 10000)


def test_a_refund_whose_tax_the_shop_names_is_shared_without_it() -> None:
    taken = {"Tax:Shop:shop": 100, "Credit:Campaign:ads:1": 451, "Credit:Campaign:ads:2": 449}
    assert taken_back(SOLD, taken, aside=ASIDE) is None, "no rule takes it so"
    taken = {"Tax:Shop:shop": 100, "Credit:Campaign:ads:1": 450, "Credit:Campaign:ads:2": 450}
    found = taken_back(SOLD, taken, aside=ASIDE)
    assert found is not None
    assert set(found) == {"Credit:Campaign:ads:1", "Credit:Campaign:ads:2"}


def test_an_excess_is_no_share() -> None:
    taken = {**SOLD, "Unattributed:refund exceeds the sale": 700}
    found = taken_back(SOLD, taken, aside=ASIDE)
    assert found is not None
    assert set(found) == set(SOLD)
