"""The same facts in whatever order they come end in the same books, journeys, persons and outbox."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.integration.ledger.books import (
    Books,
    Fact,
    campaign,
    contact,
    lead,
    order,
    refund,
    rules,
    spend,
    touch,
)

NewBooks = Callable[[], Books]
ANNA, BERT = "anna@example.com", "bert@example.com"
LEAD = lead("l1", day=1, email=ANNA, campaign_id="c1")
TOUCH = touch("l1", day=1, email=ANNA, campaign_id="c1")
NAMED = campaign("c1", "Spring")

# By name: facts, each set of them about one thing that may come early or late.
CASES: dict[str, Sequence[Fact]] = {
    "lead after its order": [order("o1", "100.00", day=5, email=ANNA), LEAD, TOUCH],
    "refund before its order": [
        LEAD,
        TOUCH,
        refund("r1", "o1", "30.01", day=6),
        order("o1", "100.00", day=5, email=ANNA),
    ],
    "touch after the booking": [
        LEAD,
        TOUCH,
        order("o1", "100.00", day=5, email=ANNA),
        touch("t2", day=3, email=ANNA, campaign_id="c2"),
    ],
    "edited order": [
        TOUCH,
        order("o1", "100.00", day=5, email=ANNA, version=1),
        order("o1", "80.00", day=5, email=ANNA, version=2),
        refund("r1", "o1", "80.00", day=7),
    ],
    "order that goes to another person": [
        LEAD,
        lead("l2", day=2, email=BERT, campaign_id="c2"),
        order("o0", "10.00", day=4, email=ANNA),
        order("o2", "10.00", day=4, email=BERT),
        order("o1", "100.00", day=5, email=ANNA, version=1),
        order("o1", "100.00", day=5, email=BERT, version=2),
    ],
    "order cancelled and restored": [
        TOUCH,
        LEAD,
        order("o1", "100.00", day=5, email=ANNA, version=1),
        order("o1", "100.00", day=5, email=ANNA, version=2, status="cancelled"),
        order("o1", "100.00", day=5, email=ANNA, version=3),
    ],
    "second order cancelled": [
        TOUCH,
        LEAD,
        order("o1", "100.00", day=5, email=ANNA),
        order("o2", "50.00", day=6, email=ANNA, version=1),
        order("o2", "50.00", day=6, email=ANNA, version=2, status="cancelled"),
    ],
    "order deleted and restored": [
        TOUCH,
        order("o1", "100.00", day=5, email=ANNA, version=1),
        Fact("order", "o1", version=2, deleted=True),
        order("o1", "100.00", day=5, email=ANNA, version=3),
        refund("r1", "o1", "10.00", day=6),
    ],
    "order deleted for good": [
        TOUCH,
        LEAD,
        order("o1", "100.00", day=5, email=ANNA, version=1),
        refund("r1", "o1", "10.00", day=6),
        Fact("order", "o1", version=2, deleted=True),
    ],
    "campaign after the touch that names it by utm": [
        lead("l1", day=1, email=ANNA, utm_source="ads", utm_campaign="spring"),
        touch("t1", day=1, email=ANNA, utm_source="ads", utm_campaign="spring"),
        order("o1", "100.00", day=5, email=ANNA),
        NAMED,
    ],
    "campaign after the lead that names it by its id": [LEAD, NAMED],
    "campaign that is renamed": [LEAD, NAMED, campaign("c1", "Summer", version=1)],
    "persons joined by a contact, and parted": [
        LEAD,
        TOUCH,
        order("o1", "100.00", day=5, phone="+48600100200"),
        order("o2", "20.00", day=6, email=ANNA),
        contact("77", email=ANNA, phone="+48600100200", version=1),
        contact("77", email=ANNA, phone="+48600100299", version=2),
    ],
    "persons joined by a contact": [
        LEAD,
        TOUCH,
        order("o1", "100.00", day=5, phone="+48600100200"),
        contact("77", email=ANNA, phone="+48600100200", version=1),
    ],
    "contact that gives a lead its address": [
        lead("l1", day=1, phone="+48600100200", campaign_id="c1"),
        contact("77", email=ANNA, phone="+48600100200", version=1),
    ],
    "spend restated": [
        spend("s1", "10.00", day=5, campaign="c1", version=1),
        spend("s1", "12.50", day=5, campaign="c1", version=2),
        spend("s1", "12.40", day=5, campaign="c1", version=3),
    ],
    "refund moved to another order": [
        TOUCH,
        order("o1", "100.00", day=5, email=ANNA),
        order("o2", "100.00", day=6, email=ANNA),
        refund("r1", "o1", "10.00", day=7, version=1),
        refund("r1", "o2", "10.00", day=7, version=2),
    ],
    "a phone that too many share": [
        *(touch(f"t{n}", day=2, phone="+48600100200", email=f"p{n}@example.com") for n in range(4)),
        order("o1", "100.00", day=5, phone="+48600100200"),
        lead("l1", day=1, email="p1@example.com", campaign_id="c1"),
    ],
}


def _orders(facts: Sequence[Fact]) -> list[list[Fact]]:
    """The facts as they stand, backwards, and each one last."""
    found = [list(facts), list(reversed(facts))]
    found += [[f for f in facts if f is not late] + [late] for late in facts]
    return list({tuple(map(id, facts)): facts for facts in found}.values())


@pytest.mark.parametrize("name", CASES)
def test_every_order_ends_the_same(new_books: NewBooks, name: str) -> None:
    books = new_books()
    books.told(*CASES[name])
    expected = books.dump()
    assert set(books.verify().values()) == {""}
    for facts in _orders(CASES[name]):
        books = new_books()
        for fact in facts:
            books.told(fact)
        assert books.dump() == expected, [(f.kind, f.id, f.version) for f in facts]
        assert set(books.verify().values()) == {""}


def test_cases_end_in_what_they_say(new_books: NewBooks) -> None:
    """The dumps are not the same merely because they are empty."""
    wanted = {
        "lead after its order": {"Credit:Campaign:ads:c1": 10000, "Revenue:Shop:shop": -10000},
        "refund before its order": {"Credit:Campaign:ads:c1": 6999, "Revenue:Shop:shop": -6999},
        "touch after the booking": {"Credit:Campaign:ads:c2": 10000, "Revenue:Shop:shop": -10000},
        "edited order": {},
        "order that goes to another person": {
            "Unattributed:no campaign known": 12000,
            "Revenue:Shop:shop": -12000,
        },
        "second order cancelled": {"Credit:Campaign:ads:c1": 10000, "Revenue:Shop:shop": -10000},
        "order deleted for good": {},
        "order deleted and restored": {"Credit:Campaign:ads:c1": 9000, "Revenue:Shop:shop": -9000},
        "persons joined by a contact": {"Credit:Campaign:ads:c1": 10000, "Revenue:Shop:shop": -10000},
        "persons joined by a contact, and parted": {
            "Credit:Campaign:ads:c1": 2000,
            "Unattributed:no lead": 10000,
            "Revenue:Shop:shop": -12000,
        },
        "spend restated": {"Spend:Campaign:ads:c1": 1240, "Payable:ads": -1240},
        "campaign after the touch that names it by utm": {
            "Credit:Campaign:ads:c1": 10000,
            "Revenue:Shop:shop": -10000,
        },
    }
    for name, balances in wanted.items():
        books = new_books()
        books.told(*CASES[name])
        assert books.balances() == balances, name


BY_NAME = [
    touch("t1", day=1, email=ANNA, utm_source="ads", utm_campaign="spring"),
    order("o1", "100.00", day=5, email=ANNA),
]
RENAMED = [campaign("c1", "Spring", version=1), campaign("c1", "Summer", version=2)]
GONE = [*RENAMED, Fact("campaign", "c1", version=3, deleted=True)]


@pytest.mark.parametrize("changes", [RENAMED, GONE], ids=["renamed", "deleted"])
def test_a_campaign_keeps_its_former_names_whenever_the_rest_comes(
    new_books: NewBooks, changes: Sequence[Fact]
) -> None:
    """The changes of the campaign come in their order; its lead and order before, between or after them."""
    for places in itertools.product(range(len(changes) + 1), repeat=2):
        books = new_books()
        books.told(lead("l1", day=1, email=ANNA, utm_source="ads", utm_campaign="spring"))
        for at in range(len(changes) + 1):
            for fact in (f for f, place in zip(BY_NAME, places, strict=True) if place == at):
                books.told(fact)
            if at < len(changes):
                books.told(changes[at])
        assert books.balances() == {"Credit:Campaign:ads:c1": 10000, "Revenue:Shop:shop": -10000}, places
        assert books.outbox()[ANNA]["campaign"] == "Summer"


def test_the_name_a_campaign_has_now_counts_before_one_that_another_had(new_books: NewBooks) -> None:
    taken_over = campaign("c2", "Spring", version=1)
    for facts in ([*RENAMED, taken_over, *BY_NAME], [*BY_NAME, *RENAMED, taken_over]):
        books = new_books()
        for fact in facts:
            books.told(fact)
        assert books.balances() == {"Credit:Campaign:ads:c2": 10000, "Revenue:Shop:shop": -10000}


def test_the_outbox_follows_what_is_no_longer_so(books: Books) -> None:
    for fact in CASES["second order cancelled"]:
        books.told(fact)
    held = books.outbox()[ANNA]
    assert (held["revenue"], held["orders"], held["stage"]) == ("100.00", "1", "won")


def test_an_undone_merge_is_told(books: Books) -> None:
    for fact in CASES["persons joined by a contact, and parted"]:
        books.told(fact)
    events = books.ask("SELECT kind, keys FROM person_events ORDER BY id")
    assert ("split", []) in events
    assert [keys for kind, keys in events if kind == "merge"] == [["email", "phone"]]


def test_nothing_is_booked_twice(books: Books) -> None:
    facts = list(itertools.chain(*CASES.values()))[:12]
    books.told(*facts)
    before = books.ask("SELECT count(*) FROM entries")
    books.told(*facts)
    assert books.ask("SELECT count(*) FROM entries") == before


STORY = [
    LEAD,
    TOUCH,
    touch("t2", day=4, email=ANNA, utm_source="mail", utm_campaign="autumn"),
    replace(campaign("c2", "Autumn"), connector="mail"),
    lead("l2", day=3, phone="+48600100200", campaign_id="c1"),
    order("o1", "100.03", day=5, email=ANNA, version=1),
    order("o1", "90.01", day=5, email=ANNA, version=2),
    order("o2", "49.99", day=6, phone="+48600100200", version=1),
    refund("r1", "o1", "30.00", day=7, version=1),
    contact("77", email=ANNA, phone="+48600100200", version=1),
    contact("77", email=ANNA, version=2),
    order("o3", "10.00", day=8, email=ANNA, version=1),
    order("o3", "10.00", day=8, email=ANNA, version=2, status="cancelled"),
    spend("s1", "12.00", day=5, campaign="c1", version=1),
    spend("s1", "13.00", day=5, campaign="c1", version=2),
]


_EXPECTED: dict[str, Any] = {}


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(facts=st.permutations(STORY), model=st.sampled_from(["last", "linear", "position"]), data=st.data())
def test_any_order_ends_the_same(
    new_books: NewBooks, facts: list[Fact], model: str, data: st.DataObject
) -> None:
    stops = data.draw(st.lists(st.booleans(), min_size=len(facts), max_size=len(facts)))
    books = new_books()
    if model not in _EXPECTED:
        books.rules = rules(model=model)
        books.told(*STORY)
        _EXPECTED[model] = books.dump()
        books = new_books()
    books.rules = rules(model=model)
    for fact, stop in zip(facts, stops, strict=True):
        books.tell(fact)
        if stop:
            books.derive()
    books.derive()
    assert books.dump() == _EXPECTED[model]
    assert set(books.verify().values()) == {""}
