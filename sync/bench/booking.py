"""Book and chain entries, and verify the chain.

The floors COPY the same rows with a hash over each that holds the one before, and scan them again with SHA-256:
nothing is compared with what is in force, nothing balances, nobody else may write meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from sync.bench import history, measure
from sync.bench.attributing import POLICY
from sync.bench.place import Place
from sync.ledger import rules, step, store, walk
from sync.ledger.check import Check
from sync.store import db

ENTRIES, VERIFIED, CHUNK = 200_000, 1_000_000, 20_000
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ZONE = ZoneInfo("UTC")
SCANNED = (
    "COPY (SELECT * FROM entries ORDER BY id) TO STDOUT",
    "COPY (SELECT * FROM postings ORDER BY entry_id, line) TO STDOUT",
)
_CREDITED = (
    """
    INSERT INTO credits (connector, order_id, line, account, campaign, amount_minor)
    SELECT connector, external_id, 0, 'Credit:Campaign:ads:c1', 'ads:c1', total_minor FROM orders
    """,
    """
    INSERT INTO attributions (connector, order_id, person_id, policy_version, revenue_minor)
    SELECT connector, external_id, NULL, 1, total_minor FROM orders
    """,
    "ANALYZE credits, attributions",
)


def results(place: Place) -> Iterator[measure.Result]:
    entries = place.size(ENTRIES)
    place.say(f"book {entries:,} entries")

    def ours() -> float:
        with place.database() as engine:
            credited(engine, entries, place)
            return measure.timed(
                lambda: history.until_nothing(engine, lambda c: step.book(c, POLICY, zone=ZONE, now=NOW))
            )

    def floor() -> float:
        with place.database() as engine:
            credited(engine, entries, place)
            with engine.begin() as connection:
                connection.execute(sa.text("CREATE TABLE floor_entries (LIKE entries INCLUDING INDEXES)"))
                connection.execute(sa.text("CREATE TABLE floor_postings (LIKE postings INCLUDING INDEXES)"))
            return measure.timed(lambda: _copy(engine))

    yield measure.contest(
        f"book and chain {entries:,} entries",
        goal=2.0,
        floor=floor,
        ours=ours,
        rounds=place.rounds,
        against="the same rows read, hashed and written by COPY",
    )
    yield _verified(place)


def credited(engine: Engine, orders: int, place: Place) -> None:
    """Orders that are attributed and wait to be booked."""
    with engine.begin() as connection:
        history.make(connection, orders=orders, persons=place.size(50_000))
        for statement in _CREDITED:
            connection.execute(sa.text(statement))
        history.note(connection, "book", "order", table="orders")


_ROWS = """
    SELECT o.external_id, o.occurred_at, o.currency, o.total_minor, o.evidence_id, e.sha256, c.account
      FROM orders o JOIN evidence e ON e.id = o.evidence_id
      JOIN credits c ON c.connector = o.connector AND c.order_id = o.external_id
     ORDER BY o.occurred_at
"""


def _copy(engine: Engine) -> None:
    with engine.begin() as connection:
        entries, postings, last = [], [], b""
        for number, row in enumerate(connection.execute(sa.text(_ROWS)), 1):
            subject = f"order:{row.external_id}"
            text = f"{number} {subject} {row.currency} {row.occurred_at} {row.account} {row.total_minor}"
            before, last = last, hashlib.sha256(last + text.encode()).digest()
            entries.append(
                (
                    number, "sale", "shop", subject, "sale", 1, row.currency, row.occurred_at,
                    row.occurred_at.date(), NOW, 1, "order paid", "bench", None, row.evidence_id, row.sha256,
                    before, last,
                )
            )  # fmt: skip
            postings.append((number, 0, row.account, row.total_minor))
            postings.append((number, 1, "Revenue:Shop:shop", -row.total_minor))
        db.copy_rows(connection, "floor_entries", store.ENTRY_COLUMNS, entries)
        db.copy_rows(connection, "floor_postings", ("entry_id", "line", "account", "amount_minor"), postings)


def _verified(place: Place) -> measure.Result:
    count = place.size(VERIFIED)
    place.say(f"verify {count:,} entries")
    with place.database() as engine:
        journal(engine, count)

        def ours() -> float:
            with engine.connect() as connection:
                checked: list[Check] = []
                seconds = measure.timed(lambda: checked.append(walk.walk(connection, {}).check))
            assert checked[0].ok, checked[0].wrong
            assert checked[0].checked == count
            return seconds

        def floor() -> float:
            with engine.connect() as connection:
                return measure.timed(lambda: _scan(connection))

        return measure.contest(
            f"verify the chain of {count:,} entries",
            goal=2.0,
            floor=floor,
            ours=ours,
            rounds=place.rounds,
            against="scan + SHA-256",
        )


def journal(engine: Engine, count: int, *, sha256_of: Callable[[int], bytes] = lambda _: bytes(32)) -> None:
    """Book `count` sales, each on evidence of its own number with that hash."""
    for first in range(0, count, CHUNK):
        drafts = [
            (
                ("shop", f"order:{number}"),
                rules.Draft(
                    "sale", "sale", "PLN", NOW, (("Credit:Campaign:ads:c1", 100), ("Revenue:Shop:shop", -100)),
                    "order paid", 1, number, sha256_of(number),
                ),
            )
            for number in range(first + 1, min(first + CHUNK, count) + 1)
        ]  # fmt: skip
        with engine.begin() as connection:
            store.append(connection, drafts, generations={}, zone=ZONE, booked_at=NOW, author="bench")
    with engine.begin() as connection:
        db.analyze(connection, ("entries", "postings"))


def _scan(connection: Connection) -> None:
    raw = connection.connection.driver_connection
    assert raw is not None
    for rows in SCANNED:
        last = b""
        with raw.cursor() as cursor, cursor.copy(rows) as copy:
            for row in copy:
                last = hashlib.sha256(last + row).digest()
