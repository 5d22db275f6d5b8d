"""A settled order: later evidence no longer moves its credits; what the shop edits is booked all the same."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.integration.ledger.books import NOW, Books, Fact, order, refund, rules, touch

ANNA = "anna@example.com"
DAYS = 30


@pytest.fixture
def settled(books: Books) -> Books:
    """An order of 100.00, a third to c1 and two thirds to c2 (by linear touches), settled since a minute."""
    books.rules = rules(model="linear", settle_after_days=DAYS)
    books.told(
        touch("t1", day=1, email=ANNA, campaign_id="c1"),
        touch("t2", day=2, email=ANNA, campaign_id="c2"),
        touch("t3", day=3, email=ANNA, campaign_id="c2"),
        order("o1", "100.00", day=5, email=ANNA, version=1),
    )
    assert books.balances() == SHARED
    books.now = NOW + timedelta(days=DAYS, minutes=1)
    return books


SHARED = {
    "Credit:Campaign:ads:c1": 3334,
    "Credit:Campaign:ads:c2": 6666,
    "Revenue:Shop:shop": -10000,
}
LATE = touch("t4", day=4, email=ANNA, campaign_id="c9")


def test_late_evidence_moves_nothing(settled: Books) -> None:
    settled.told(LATE)
    assert settled.balances() == SHARED
    assert settled.ask("SELECT count(*) FROM entries WHERE subject = 'order:o1'") == [(1,)]
    assert set(settled.verify().values()) == {""}


def test_until_then_it_does(settled: Books) -> None:
    settled.now = NOW + timedelta(days=DAYS) - timedelta(minutes=1)
    settled.told(LATE)
    assert settled.balances() == {
        "Credit:Campaign:ads:c1": 2500,
        "Credit:Campaign:ads:c2": 5000,
        "Credit:Campaign:ads:c9": 2500,
        "Revenue:Shop:shop": -10000,
    }


def test_an_edited_amount_is_shared_as_before(settled: Books) -> None:
    settled.told(LATE, order("o1", "200.00", day=5, email=ANNA, version=2))
    assert settled.balances() == {
        "Credit:Campaign:ads:c1": 6668,
        "Credit:Campaign:ads:c2": 13332,
        "Revenue:Shop:shop": -20000,
    }
    of_order = "SELECT kind, reverses, refers_to FROM entries WHERE subject = 'order:o1' ORDER BY id"
    assert settled.ask(of_order) == [("sale", None, None), ("correction", 2, None), ("sale", None, 2)]
    assert set(settled.verify().values()) == {""}


def test_a_refund_is_taken_from_where_it_was_credited(settled: Books) -> None:
    settled.told(LATE, refund("r1", "o1", "50.00", day=30))
    assert settled.balances() == {
        "Credit:Campaign:ads:c1": 1667,
        "Credit:Campaign:ads:c2": 3333,
        "Revenue:Shop:shop": -5000,
    }


def test_another_policy_does_not_reach_back(settled: Books) -> None:
    settled.rules = rules(model="first", settle_after_days=DAYS)
    settled.derive()
    assert settled.ask("SELECT max(version) FROM policies") == [(2,)]
    assert settled.balances() == SHARED


def test_a_cancelled_order_leaves_nothing(settled: Books) -> None:
    settled.told(order("o1", "100.00", day=5, email=ANNA, version=2, status="cancelled"))
    assert settled.balances() == {}


def test_an_order_that_comes_late_has_its_own_time_to_settle(settled: Books) -> None:
    """It settles so many days after it was first booked, not after it was placed."""
    settled.told(order("o2", "30.00", day=6, email=ANNA))
    settled.told(LATE)
    assert settled.balances()["Credit:Campaign:ads:c9"] == 750


def test_without_a_limit_nothing_settles(settled: Books) -> None:
    settled.rules = rules(model="linear")
    settled.now = NOW + timedelta(days=3650)
    settled.told(LATE, Fact("touch", "t1", connector="ads", version=9, deleted=True))
    assert settled.balances() == {
        "Credit:Campaign:ads:c2": 6667,
        "Credit:Campaign:ads:c9": 3333,
        "Revenue:Shop:shop": -10000,
    }
