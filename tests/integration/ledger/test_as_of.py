"""What was known at a time is what a report said at that time, whatever came since."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync.report import known
from sync.report.campaigns import campaigns
from sync.report.difference import diff
from sync.report.funnel import funnel
from sync.report.period import EVER, parse
from tests.integration.ledger.books import Books, Fact, contact, lead, order, refund, rules, spend, touch

ANNA, BEN = "anna@example.com", "ben@example.com"
STAGE = {"crm_id": "7", "field": "stage", "value": "sql", "occurred_at": "2026-05-08T12:00:00Z"}
STEPS: list[Fact] = [
    lead("l1", day=1, email=ANNA, campaign_id="c1"),
    touch("t1", day=1, email=ANNA, campaign_id="c1"),
    order("o1", "100.00", day=9, email=ANNA, version=1),
    spend("s1", "12.34", day=7, campaign="c1", version=1),
    contact("7", version=1, email=ANNA, crm_id="7"),
    Fact("stage_change", "7|sql", STAGE, connector="crm", version=1),
    touch("t2", day=5, email=ANNA, campaign_id="c2"),
    refund("r1", "o1", "30.00", day=20),
    spend("s1", "13.00", day=7, campaign="c1", version=2),
    lead("l2", day=3, email=BEN, campaign_id="c2"),
    order("o2", "55.00", day=9, email=BEN, version=1),
    Fact("lead", "l1", connector="ads", version=9, deleted=True),
]


def report(books: Books, as_of: datetime | None = None, period: str | None = None) -> dict[str, Any]:
    asked = parse(period)
    with known.snapshot(books.engine) as connection:
        return {
            "funnel": funnel(connection, asked, books.rules.zone, as_of=as_of),
            "campaigns": campaigns(connection, asked, books.rules.zone, "PLN", as_of=as_of),
        }


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(order_of_arrival=st.permutations(range(len(STEPS))))
def test_a_report_as_of_a_time_is_the_report_of_that_time(
    new_books: Any, order_of_arrival: list[int]
) -> None:
    books = new_books()
    saved = []
    for number, at in enumerate(order_of_arrival):
        books.now += timedelta(hours=1)
        if number == 6:
            books.rules = rules(model="first")
        books.told(STEPS[at])
        saved.append(report(books))
    for then in saved:
        time = then["funnel"]["as_of"]
        assert time is not None
        assert report(books, as_of=time) == then


def test_before_the_first_entry_nothing_was_known(books: Books) -> None:
    books.told(*STEPS[:3])
    found = report(books, as_of=datetime(2020, 1, 1, tzinfo=UTC))
    assert found["funnel"]["leads"] == 0
    assert found["campaigns"]["total"]["revenue_minor"] == 0


def test_a_clock_that_goes_back_changes_nothing_that_was_known(books: Books) -> None:
    books.told(*STEPS[:4])
    then = report(books)
    books.now -= timedelta(days=3)
    books.told(*STEPS[4:])
    assert report(books, as_of=then["funnel"]["as_of"]) == then
    assert report(books)["funnel"]["as_of"] > then["funnel"]["as_of"]


def test_a_difference_is_explained_to_the_minor_unit(books: Books) -> None:
    books.told(*STEPS[:4])
    before = report(books)
    books.now += timedelta(hours=1)
    books.told(*STEPS[4:])
    after = report(books)
    with known.snapshot(books.engine) as connection:
        found = diff(
            connection,
            EVER,
            books.rules.zone,
            before=before["funnel"]["as_of"],
            after=after["funnel"]["as_of"],
        )
    explained: dict[str, int] = {}
    for entry in found["entries"]:
        for account, amount in entry["postings"].items():
            explained[account] = explained.get(account, 0) + amount
    moved = {row["account"]: row["moved_minor"] for row in found["accounts"]}
    assert {a: n for a, n in explained.items() if n} == {a: n for a, n in moved.items() if n}
    assert moved["Credit:Campaign:ads:c2"] == 7000
    assert moved["Unattributed:no campaign known"] == 5500
    assert moved["Revenue:Shop:shop"] == 3000 - 5500
    assert found["people"]["leads"] == {"then": 1, "now": 1}
    assert {entry["kind"] for entry in found["entries"]} >= {
        "reattribution",
        "refund",
        "sale",
        "spend_correction",
    }


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", ""])
def test_a_time_that_cannot_be_read_is_refused(books: Books, text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        known.instant(text, books.rules.zone)


def test_a_time_is_one_of_the_workspaces_zone(books: Books) -> None:
    assert known.instant("2026-05-31T23:59", books.rules.zone) == datetime(2026, 5, 31, 21, 59, tzinfo=UTC)
    assert known.instant("2026-05-31T23:59Z", books.rules.zone) == datetime(2026, 5, 31, 23, 59, tzinfo=UTC)
