"""The tree in the database: grown with the booking, whatever the batches; made later for books from before it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Connection, Engine

from sync.ledger import heads, merkle, rules, seal, store, tree, walk

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def book(connection: Connection, count: int, *, now: datetime = NOW) -> None:
    first = store.head(connection)[0]
    drafts = [
        (
            ("shop", f"order:{first + number}"),
            rules.Draft("sale", "sale", "PLN", NOW, (("A", number + 1), ("B", -number - 1)), "order paid"),
        )
        for number in range(count)
    ]
    store.append(connection, drafts, generations={}, zone=ZoneInfo("UTC"), booked_at=now, author="leadledger")


def leaves_of(connection: Connection) -> list[bytes]:
    return list(store.between(connection, 0, store.LAST))


def root_of(leaves: Sequence[bytes]) -> bytes:
    frontier = merkle.Frontier()
    frontier.add(leaves)
    return frontier.root()


def view(connection: Connection, size: int) -> tree.View:
    return tree.View(connection, size, between=store.between)


def assert_proven(connection: Connection, sizes: Sequence[int]) -> None:
    leaves = leaves_of(connection)
    for size in sizes:
        seen = view(connection, size)
        root = root_of(leaves[:size])
        assert seen.root() == root
        for index in {0, size // 3, size // 2, max(size - 2, 0), size - 1}:
            assert merkle.is_included(leaves[index], index, size, seen.inclusion(index), root)
        for old in {1, size // 2 or 1, size}:
            proof = seen.consistency(old)
            assert merkle.is_consistent(old, size, root_of(leaves[:old]), root, proof)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.integers(1, 150), min_size=1, max_size=6))
def test_any_batches_grow_the_same_tree(engine: Engine, batches: list[int]) -> None:
    with engine.connect() as connection:
        for count in batches:
            book(connection, count)
        total = sum(batches)
        stored = connection.execute(sa.text("SELECT count(*) FROM seal_tiles WHERE height = 0")).scalar()
        assert stored == total // merkle.WIDTH, "every whole tile is there, and no other"
        assert_proven(connection, sorted({1, total // 2 or 1, total}))
        assert walk.walk(connection, {total: NOW}).states[total][0] == root_of(leaves_of(connection))
        connection.rollback()


def test_proofs_over_several_heights(engine: Engine) -> None:
    with engine.connect() as connection:
        book(connection, 5_000)
        assert_proven(connection, [1, 16, 17, 255, 256, 257, 4_095, 4_096, 4_097, 5_000])
        heights = connection.execute(sa.text("SELECT height, count(*) FROM seal_tiles GROUP BY 1 ORDER BY 1"))
        assert [tuple(row) for row in heights] == [(0, 312), (1, 19), (2, 1)]


def test_a_proof_reads_no_more_than_the_path(engine: Engine) -> None:
    """Few rows, whatever the length of the journal: some tiles a height and the loose entries."""
    with engine.connect() as connection:
        book(connection, 4_500)
        read: list[int] = []

        def counted(connection: Connection, after: int, until: int) -> list[bytes]:
            found = list(store.between(connection, after, until))
            read.append(len(found))
            return found

        seen = tree.View(connection, 4_500, between=counted)
        seen.inclusion(1_234)
        assert sum(read) == 4_500 % merkle.WIDTH
        assert len(seen._tiles) <= 4


def test_books_from_before_the_tree_get_it_with_the_next_entry(engine: Engine) -> None:
    with engine.connect() as connection:
        book(connection, 700)
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        connection.execute(sa.text("DELETE FROM seal_tiles"))
        connection.execute(sa.text("SET LOCAL session_replication_role = origin"))
        assert_proven(connection, [3, 512, 700])
        book(connection, 1)
        stored = connection.execute(sa.text("SELECT height, count(*) FROM seal_tiles GROUP BY 1 ORDER BY 1"))
        assert [tuple(row) for row in stored] == [(0, 43), (1, 2)]
        assert_proven(connection, [701])


def test_a_journal_that_lost_entries_is_not_booked_on(engine: Engine) -> None:
    with engine.connect() as connection:
        book(connection, 40)
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        connection.execute(sa.text("DELETE FROM postings WHERE entry_id > 20"))
        connection.execute(sa.text("DELETE FROM entries WHERE id > 20"))
        connection.execute(sa.text("SET LOCAL session_replication_role = origin"))
        with pytest.raises(tree.Damaged, match="had 20 entries, but its tree was grown over 32"):
            book(connection, 1)


# heads


def test_a_head_is_signed_once_for_what_there_is(engine: Engine) -> None:
    with engine.connect() as connection:
        assert seal.seal(connection, KEY, now=NOW) is None, "nothing is booked"
        book(connection, 20)
        first = seal.seal(connection, KEY, now=NOW)
        assert first is not None
        assert first.is_genuine()
        assert (first.head.number, first.head.size, first.head.previous) == (1, 20, heads.NOTHING)
        assert first.head.root == root_of(leaves_of(connection))
        assert first.head.chain == store.head(connection)[1]
        assert seal.seal(connection, KEY, now=NOW + timedelta(days=1)) == first, "nothing came since"
        book(connection, 1)
        second = seal.seal(connection, KEY, now=NOW)
        assert second is not None
        assert (second.head.number, second.head.size, second.head.previous) == (2, 21, first.hash)


def test_time_never_goes_back(engine: Engine) -> None:
    with engine.connect() as connection:
        book(connection, 2)
        first = seal.seal(connection, KEY, now=NOW + timedelta(hours=1))
        book(connection, 1, now=NOW - timedelta(days=9))
        second = seal.seal(connection, KEY, now=NOW - timedelta(days=9))
        assert first is not None
        assert second is not None
        times = list(connection.execute(sa.text("SELECT booked_at FROM entries ORDER BY id")).scalars())
        later = NOW + timedelta(hours=1, microseconds=1)
        assert times == [NOW, NOW, later]
        assert (first.head.sealed_at, second.head.sealed_at) == (NOW + timedelta(hours=1), later)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("DELETE FROM entries WHERE id = 20", "head 1 was signed over 20 entries, and the journal has 19"),
        ("UPDATE entries SET reason = 'x' WHERE id = 18", "are not those that head 1 was signed over"),
        ("UPDATE seal_tiles SET hashes = sha512(hashes)", "is not there as it was written"),
    ],
)
def test_what_does_not_continue_the_last_head_is_not_signed(
    engine: Engine, statement: str, named: str
) -> None:
    with engine.connect() as connection:
        book(connection, 20)
        seal.seal(connection, KEY, now=NOW)
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        connection.execute(sa.text(statement))
        connection.execute(
            sa.text(
                "INSERT INTO policies VALUES (1, '{}', sha256('x'), now())"  # something to be signed
            )
        )
        with pytest.raises(tree.Damaged, match=named):
            seal.seal(connection, KEY, now=NOW)


def test_a_head_is_read_as_it_was_written_or_not_at_all(engine: Engine) -> None:
    with engine.connect() as connection:
        book(connection, 3)
        signed = seal.seal(connection, KEY, now=NOW)
        assert signed is not None
        assert heads.decode_line(signed.line()) == signed
        for text in (
            "",
            "[]",
            "{}",
            "null",
            signed.line()[:-1],
            signed.line().replace("root", "rot"),
            '{"head":1}',
        ):
            with pytest.raises(heads.Unreadable):
                heads.decode_line(text)
        altered = heads.decode_line(signed.line().replace('"size":3', '"size":2'))
        assert not altered.is_genuine()
