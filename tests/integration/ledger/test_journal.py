"""What the database itself refuses, whoever asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import psycopg
import pytest
import sqlalchemy as sa

from sync import pipeline
from sync.store import canonical, db
from tests.integration.ledger.books import NOW, Books, lead, order, touch

ANNA = "anna@example.com"


@pytest.fixture
def booked(books: Books) -> Books:
    books.told(
        lead("l1", day=1, email=ANNA, campaign_id="c1"),
        touch("l1", day=1, email=ANNA, campaign_id="c1"),
        order("o1", "100.00", day=5, email=ANNA),
    )
    assert books.balances() == {"Credit:Campaign:ads:c1": 10000, "Revenue:Shop:shop": -10000}
    return books


CHANGES = [
    f"{statement.format(table=table, column=column)}"
    for table, column in (("entries", "reason"), ("postings", "account"), ("policies", "version"))
    for statement in (
        "UPDATE {table} SET {column} = {column}",
        "DELETE FROM {table}",
        "TRUNCATE {table} CASCADE",
    )
]


@pytest.mark.parametrize("statement", CHANGES)
def test_no_change_of_what_is_booked(booked: Books, statement: str) -> None:
    before = booked.ask("SELECT * FROM entries"), booked.ask("SELECT * FROM postings")
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        booked.do(statement)
    assert (booked.ask("SELECT * FROM entries"), booked.ask("SELECT * FROM postings")) == before


def test_the_owner_of_the_table_is_refused_in_a_block_of_statements_too(booked: Books) -> None:
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        booked.do("DO $$ BEGIN DELETE FROM postings WHERE line = 1; END $$")


COPY_ENTRY = """
    INSERT INTO entries (id, kind, connector, subject, part, generation, currency, happened_at, business_day,
                         posted_on, booked_at, policy_version, reason, author, reverses, evidence_id,
                         evidence_sha256, prev_hash, hash)
    SELECT id + 1, kind, connector, subject, part, generation + :generation, currency, happened_at,
           business_day, posted_on, booked_at, policy_version, reason, author, CAST(:reverses AS bigint),
           evidence_id, evidence_sha256, prev_hash, hash
      FROM entries ORDER BY id DESC LIMIT 1
"""
UNBALANCED = [(3, 0, "A", 5), (3, 1, "B", -4)]  # after the policy and the sale


def test_inserted_postings_that_do_not_balance_are_refused(booked: Books) -> None:
    booked.do(COPY_ENTRY, generation=1, reverses=None)
    with pytest.raises(sa.exc.IntegrityError, match="does not balance"):
        booked.do("INSERT INTO postings VALUES (3, 0, 'A', 5), (3, 1, 'B', -4)")
    with pytest.raises(sa.exc.IntegrityError, match="does not balance"):
        booked.do("INSERT INTO postings VALUES (3, 0, 'A', 5)")


def test_copied_postings_that_do_not_balance_are_refused(booked: Books) -> None:
    booked.do(COPY_ENTRY, generation=1, reverses=None)
    columns = ["entry_id", "line", "account", "amount_minor"]
    with booked.engine.begin() as connection, pytest.raises(psycopg.Error, match="does not balance"):
        db.copy_rows(connection, "postings", columns, UNBALANCED)


@pytest.mark.parametrize("rows", ["(2, 7, 'A', 0)", "(2, 7, 'A', 5), (2, 8, 'B', -5)"])
def test_a_booked_entry_gets_no_further_postings(booked: Books, rows: str) -> None:
    with pytest.raises(sa.exc.DBAPIError, match="booked already"):
        booked.do(f"INSERT INTO postings VALUES {rows}")


def test_postings_of_no_entry_are_refused(booked: Books) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="entry_id"):
        booked.do("INSERT INTO postings VALUES (99, 0, 'A', 5), (99, 1, 'B', -5)")


def test_a_part_is_booked_once_a_generation(booked: Books) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="uq_entries_live_part"):
        booked.do(COPY_ENTRY, generation=0, reverses=None)


def test_an_entry_is_reversed_once(booked: Books) -> None:
    booked.do(COPY_ENTRY, generation=0, reverses=2)
    with pytest.raises(sa.exc.IntegrityError, match="uq_entries_reverses"):
        booked.do(COPY_ENTRY, generation=0, reverses=2)


def test_two_processes_book_once(books: Books) -> None:
    """Both are told of the same orders, both begin at once, over engines of their own."""
    orders = [order(f"o{n}", "10.00", day=1 + n % 20, email=f"p{n}@example.com") for n in range(40)]
    books.tell(*orders[:1])
    books.derive()
    for fact in orders[1:]:
        books.tell(fact)
    start = Barrier(2)

    def derive(_: int) -> None:
        engine = db.make_engine(books.engine.url.render_as_string(hide_password=False))
        try:
            start.wait()
            pipeline.derive(engine, books.rules, say=lambda _: None, now=NOW)
        finally:
            engine.dispose()

    for _ in range(3):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(derive, range(2)))
        with books.engine.begin() as connection:
            names = [fact.id for fact in orders]
            canonical.note(connection, step="book", kind="order", connector="shop", refs=names)
    counted = "SELECT count(*), count(DISTINCT subject), max(id) FROM entries WHERE part = 'sale'"
    assert books.ask(counted) == [(40, 40, 41)]
    assert set(books.verify().values()) == {""}
