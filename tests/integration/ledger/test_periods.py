"""Closed periods: their figures never change; what becomes known later counts on the first open day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from sync.ledger import closing, store
from sync.report import known
from sync.report.campaigns import campaigns
from sync.report.period import parse
from tests.integration.ledger.books import NOW, Books, Fact, at, lead, order, refund, rules, spend, touch

ANNA = "anna@example.com"
MAY, JUNE = date(2026, 5, 1), date(2026, 6, 1)
STREAMS = [("shop", "orders"), ("shop", "refunds"), ("ads", "spend")]


def open_things(books: Books) -> list[closing.Obstacle]:
    with books.engine.connect() as connection:
        return closing.obstacles(
            connection,
            since=store.closed_until(connection),
            until=JUNE,
            today=books.now.astimezone(books.rules.zone).date(),
            money_streams=STREAMS,
        )


def close(books: Books, until: date = JUNE, name: str = "2026-05") -> dict[str, Any]:
    with books.engine.begin() as connection:
        store.lock(connection)
        return closing.close(
            connection,
            name=name,
            since=store.closed_until(connection),
            until=until,
            reconciled={},
            why="signed",
            author="anna of finance",
            zone=books.rules.zone,
            now=books.now,
        )


def restate(books: Books, *orders: str, why: str = "tagged wrong") -> list[closing.Move]:
    with books.engine.begin() as connection:
        store.lock(connection)
        return closing.restate(
            connection,
            [("shop", id_) for id_ in orders],
            books.rules.policy(1),
            why=why,
            author="anna of finance",
            zone=books.rules.zone,
            now=books.now,
        )


def figures(books: Books, period: str = "2026-05") -> dict[str, Any]:
    """The money of a period, as the report has it."""
    with known.snapshot(books.engine) as connection:
        found = campaigns(connection, parse(period), books.rules.zone, "PLN")
    rows = {row["key"]: (row["revenue_minor"], row["spend_minor"]) for row in found["campaigns"]}
    names = (
        "credited_minor",
        "unattributed_minor",
        "revenue_minor",
        "shop_gross_minor",
        "spend_minor",
        "orders",
    )
    return {"campaigns": rows, **{name: found["total"][name] for name in names}}


def day_of(number: int, hour: int = 12) -> str:
    """A moment of June 2026, as text."""
    return datetime(2026, 6, number, hour, tzinfo=UTC).isoformat()


@pytest.fixture
def may(books: Books) -> Books:
    """May with an order of 100.00 credited to c1, one of 50.00 of nobody, spend of 12.34; it is 2 June."""
    books.now = NOW + timedelta(days=1)
    books.told(
        touch("t1", day=1, email=ANNA, campaign_id="c1"),
        lead("l1", day=1, email=ANNA, campaign_id="c1"),
        order("o1", "100.00", day=5, email=ANNA, version=1),
        order("o2", "50.00", day=6, email="nobody@example.com", version=1),
        spend("s1", "12.34", day=7, campaign="c1", version=1),
    )
    with books.engine.begin() as connection:  # the outbox is sent
        connection.execute(sa.text("UPDATE outbox SET status = 'acknowledged', accepted = desired"))
    return books


MAY_FIGURES = {
    "campaigns": {"ads:c1": (10000, 1234)},
    "credited_minor": 10000,
    "unattributed_minor": 5000,
    "revenue_minor": 15000,
    "shop_gross_minor": 15000,
    "spend_minor": 1234,
    "orders": 2,
}


@pytest.fixture
def closed(may: Books) -> Books:
    assert open_things(may) == []
    close(may)
    may.now += timedelta(days=10)
    return may


def everything_holds(books: Books) -> None:
    assert set(books.verify().values()) == {""}
    assert figures(books) == MAY_FIGURES


@pytest.mark.parametrize(
    ("later", "june"),
    [
        pytest.param(
            refund("r1", "o1", "40.00", day=20),
            {"campaigns": {"ads:c1": (-4000, 0)}, "revenue_minor": -4000, "unattributed_minor": 0},
            id="a refund of May that is learnt in June",
        ),
        pytest.param(
            order("o1", "130.00", day=5, email=ANNA, version=2),
            {"campaigns": {"ads:c1": (3000, 0)}, "revenue_minor": 3000, "unattributed_minor": 0},
            id="an edited amount",
        ),
        pytest.param(
            order("o1", "100.00", day=5, email=ANNA, version=2, status="cancelled"),
            {"campaigns": {"ads:c1": (-10000, 0)}, "revenue_minor": -10000, "unattributed_minor": 0},
            id="a cancellation",
        ),
        pytest.param(
            spend("s1", "12.50", day=7, campaign="c1", version=2),
            {"campaigns": {"ads:c1": (0, 16)}, "revenue_minor": 0, "unattributed_minor": 0},
            id="spend that the platform restates",
        ),
        pytest.param(
            order("o3", "7.00", day=31, email=ANNA, version=1),
            {"campaigns": {"ads:c1": (700, 0)}, "revenue_minor": 700, "unattributed_minor": 0},
            id="an order of May that comes late",
        ),
    ],
)
def test_what_becomes_known_later_counts_on_the_first_open_day(
    closed: Books, later: Fact, june: dict[str, Any]
) -> None:
    last = closed.ask("SELECT max(id) FROM entries")[0][0]
    closed.told(later)
    everything_holds(closed)
    found = figures(closed, "2026-06")
    assert {name: found[name] for name in june} == june
    booked = closed.ask("SELECT posted_on, business_day < posted_on FROM entries WHERE id > :id", id=last)
    assert booked
    assert set(booked) == {(JUNE, True)}


def test_a_refund_refers_to_its_sale_and_a_correction_to_what_it_replaces(closed: Books) -> None:
    sale = closed.ask("SELECT id FROM entries WHERE subject = 'order:o1'")[0][0]
    closed.told(refund("r1", "o1", "40.00", day=20))
    closed.told(order("o1", "130.00", day=5, email=ANNA, version=2))
    assert closed.ask(
        "SELECT kind, part, reverses, refers_to FROM entries WHERE subject = 'order:o1' AND id > :id ORDER BY id",
        id=sale,
    ) == [
        ("refund", "refund:r1", None, sale),
        ("correction", "sale", sale, None),
        ("sale", "sale", None, sale),
    ]


def test_late_evidence_moves_no_credit_of_a_closed_period(closed: Books) -> None:
    closed.told(touch("t2", day=4, email=ANNA, campaign_id="c2"))
    everything_holds(closed)
    assert figures(closed, "2026-06")["campaigns"] == {}


def test_a_restatement_moves_it_in_the_open_period_with_its_reason(closed: Books) -> None:
    closed.told(touch("t2", day=4, email=ANNA, campaign_id="c2"))
    moves = restate(closed, "o1")
    assert {(m.account, m.amount_minor, m.posted_on) for m in moves} == {
        ("Credit:Campaign:ads:c1", -10000, JUNE),
        ("Credit:Campaign:ads:c2", 10000, JUNE),
    }
    everything_holds(closed)
    assert figures(closed, "2026-06")["campaigns"] == {"ads:c1": (-10000, 0), "ads:c2": (10000, 0)}
    rows = closed.ask("SELECT DISTINCT reason, author FROM entries WHERE kind = 'reattribution'")
    assert rows == [("tagged wrong", "anna of finance")]
    assert restate(closed, "o1") == []
    closed.derive()
    assert restate(closed, "o1") == []


def test_an_order_of_an_open_period_is_moved_by_late_evidence_as_ever(closed: Books) -> None:
    june = {"occurred_at": day_of(3), "status": "completed", "currency": "PLN", "total_minor": "9.00"}
    closed.told(Fact("order", "o9", {**june, "email": ANNA}, version=1))
    closed.told(
        Fact(
            "touch",
            "t9",
            {"occurred_at": day_of(2), "kind": "form", "email": ANNA, "campaign_id": "c9"},
            "ads",
        )
    )
    assert figures(closed, "2026-06")["campaigns"] == {"ads:c9": (900, 0)}
    everything_holds(closed)


def test_what_is_restated_stays_where_it_was_put_when_the_next_period_closes(closed: Books) -> None:
    closed.told(order("o1", "130.00", day=5, email=ANNA, version=2))
    june = figures(closed, "2026-06")
    closed.now = datetime(2026, 7, 2, tzinfo=UTC)
    close(closed, date(2026, 7, 1), "2026-06")
    closed.told(order("o1", "90.00", day=5, email=ANNA, version=3))
    everything_holds(closed)
    assert figures(closed, "2026-06") == june
    assert figures(closed, "2026-07")["campaigns"] == {"ads:c1": (-4000, 0)}


def test_the_database_itself_keeps_a_closed_period_closed(closed: Books) -> None:
    for statement in (
        "UPDATE periods SET until = '2026-05-01'",
        "DELETE FROM periods",
        "TRUNCATE periods",
    ):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            closed.do(statement)
    with pytest.raises(sa.exc.DBAPIError, match="in a period that is closed"):
        closed.do(
            """
            INSERT INTO entries (id, kind, connector, subject, part, generation, currency, happened_at, business_day,
                                 posted_on, booked_at, reason, author, prev_hash, hash)
            SELECT id + 1, 'sale', 'shop', 'order:x', 'sale', 1, 'PLN', happened_at, '2026-05-31', '2026-05-31',
                   booked_at, 'x', 'x', hash, hash FROM entries ORDER BY id DESC LIMIT 1
            """
        )
    with pytest.raises(sa.exc.DBAPIError, match="before the entry before it"):
        closed.do(
            """
            INSERT INTO entries (id, kind, connector, subject, part, generation, currency, happened_at, business_day,
                                 posted_on, booked_at, reason, author, prev_hash, hash)
            SELECT id + 1, 'sale', 'shop', 'order:x', 'sale', 1, 'PLN', happened_at, '2026-06-01', '2026-06-01',
                   booked_at - interval '1 second', 'x', 'x', hash, hash FROM entries ORDER BY id DESC LIMIT 1
            """
        )


def test_the_close_is_an_entry_over_the_figures_it_was_closed_on(may: Books) -> None:
    body = close(may)
    assert body["accounts"] == {
        "Credit:Campaign:ads:c1 PLN": "10000",
        "Payable:ads PLN": "-1234",
        "Revenue:Shop:shop PLN": "-15000",
        "Spend:Campaign:ads:c1 PLN": "1234",
        "Unattributed:no lead PLN": "5000",
    }
    ((kind, subject, author, reason, digest),) = may.ask(
        "SELECT kind, subject, author, reason, encode(evidence_sha256, 'hex') FROM entries ORDER BY id DESC LIMIT 1"
    )
    with may.engine.connect() as connection:
        (row,) = closing.closed(connection)
    assert (kind, subject, author, reason) == ("close", "period:2026-05", "anna of finance", "signed")
    assert (row["period"], row["until"], row["sha256"]) == ("2026-05", JUNE, digest)
    assert set(may.verify().values()) == {""}


def test_each_policy_is_an_entry(may: Books) -> None:
    may.rules = rules(model="first")
    may.derive()
    found = may.ask("SELECT subject, policy_version FROM entries WHERE kind = 'policy' ORDER BY id")
    assert found == [("policy:1", 1), ("policy:2", 2)]


def test_nothing_is_closed_while_something_is_open(may: Books) -> None:
    may.do("INSERT INTO pending (step, kind, ref) VALUES ('book', 'order', 'o1')")
    may.do("UPDATE outbox SET status = 'refused', reason = 'no'")
    may.do(
        """
        INSERT INTO quarantine (connector, stream, external_id, evidence_id, field, reason, problems, run_id)
        SELECT connector, stream, 'bad', id, 'total_minor', 'x', '[]', 1 FROM evidence WHERE stream = 'orders' LIMIT 1
        """
    )
    assert [(o.what, o.todo) for o in open_things(may)] == [
        ("1 records wait for the step book", "leadledger sync"),
        ("1 records of shop/orders are set aside", "leadledger quarantine list shop"),
        ("1 contacts with revenue of the period are refused for crm", "leadledger report pushes"),
    ]


def test_a_period_that_is_not_over_is_not_closed(may: Books) -> None:
    may.now = datetime(2026, 5, 31, 12, tzinfo=UTC)
    assert [o.what for o in open_things(may)] == ["the period ends on 2026-06-01, which is still to come"]


def test_a_period_is_closed_once(closed: Books) -> None:
    assert [o.what for o in open_things(closed)] == ["all days before 2026-06-01 are closed already"]


def test_an_adjustment_moves_an_amount_by_hand(closed: Books) -> None:
    with closed.engine.begin() as connection:
        store.lock(connection)
        given = {
            "amount": 150,
            "currency": "PLN",
            "happened_at": datetime.fromisoformat(at(7)),
            "why": "ticket 812",
            "author": "anna",
            "zone": closed.rules.zone,
            "now": closed.now,
        }
        with pytest.raises(closing.UnknownAccount, match="Nobody"):
            closing.adjust(connection, debit="Nobody:knows", credit="Unattributed:no lead", **given)
        closing.adjust(connection, debit="Credit:Campaign:ads:c1", credit="Unattributed:no lead", **given)
    everything_holds(closed)
    found = figures(closed, "2026-06")
    assert (found["credited_minor"], found["unattributed_minor"]) == (150, -150)
