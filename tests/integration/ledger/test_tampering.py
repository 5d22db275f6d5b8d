"""Every manipulation with full rights on the database is found, and the first wrong thing named.

The tamperer is a superuser who has switched the triggers off. Where it helps him he knows how the books are made: he
chains the entries anew, makes the tree anew, and in the worst case has the signing key too. He does not reach the
heads that are kept outside.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Connection

from connectors.sandbox.generated import generate
from connectors.sandbox.server import Server
from sync import work
from sync.cli import demo, look
from sync.config import load
from sync.ledger import heads, merkle, rules, seal, store
from sync.ledger import verify as verifying
from sync.pull.step import Plan
from sync.workspace import Opened, Workspace

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
WITNESS = "ledger:\n  witness:\n    - file: kept/heads.jsonl\n"
# A period from before the first order, closed between the two syncs.
CLOSED = """
    INSERT INTO periods (until, since, name, body, sha256, closed_at)
    VALUES ('1999-01-01', NULL, '1998', '{}', sha256('{}'), now())
"""
LATER = "timestamptz '2030-01-01'"


@pytest.fixture(scope="module")
def workspace(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Books of two syncs, each sealed, with a witness; a test leaves no trace in them."""
    folder = tmp_path_factory.mktemp("tampered")
    (folder / "kept").mkdir()
    state = folder / demo.SANDBOX / demo.STATE
    generate(state, leads_csv=folder / demo.SANDBOX / demo.LEADS_CSV, seed=1, people=25, today=NOW)
    admin = sa.make_url(postgres).set(database="postgres")
    url = admin.set(database="tampered").render_as_string(hide_password=False)
    with psycopg.connect(admin.render_as_string(hide_password=False), autocommit=True) as server:
        server.execute("CREATE DATABASE tampered TEMPLATE leadledger")
    with Server(state) as vendors:
        path = demo.write_config(folder, vendors.port, olist=False).path
        text = path.read_text().replace("database: embedded", f'database: "{url}"')
        path.write_text(text + WITNESS)
        with Opened(load(path)) as opened:
            names = [c.name for c in opened.config.connectors]
            work.sync(opened, names)
            with opened.engine.begin() as connection:
                connection.execute(sa.text(CLOSED))
            docs, _ = vendors.state.select("woocommerce", "order")
            order = next(doc for doc in docs if doc.body["status"] == "completed")
            later = NOW + timedelta(minutes=30)
            changed = {**order.body, "status": "cancelled", "date_modified_gmt": f"{later:%Y-%m-%dT%H:%M:%S}"}
            vendors.state.put(
                "woocommerce", "order", [replace(order, body=changed, changed=later.timestamp())]
            )
            work.sync(opened, names)
            yield opened


class Tamperer:
    """Full rights on the database. What he does is undone at the end of the test."""

    def __init__(self, connection: Connection, workspace: Workspace, plans: list[Plan]) -> None:
        self.connection = connection
        self.plans = plans
        self.workspace = workspace
        self.key = workspace.signing_key()
        self.size = store.head(connection)[0]
        [self.first, *_] = seal.read_heads(connection)
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))

    def do(self, *statements: str) -> None:
        for statement in statements:
            assert self.connection.execute(sa.text(statement)).rowcount, f"nothing was changed: {statement}"

    def ask(self, statement: str) -> Any:
        return self.connection.execute(sa.text(statement)).scalar()

    def chain_anew(self) -> None:
        """Give every entry the hashes that it would have if it had been booked so."""
        before = rules.GENESIS
        for entry in list(store.stream(self.connection)):
            made = rules.seal(entry.fields, entry.postings, before)
            before = made.hash
            self.connection.execute(
                sa.text("UPDATE entries SET prev_hash = :prev, hash = :hash WHERE id = :id"),
                {"prev": made.prev_hash, "hash": made.hash, "id": entry.fields["id"]},
            )

    def grow_anew(self) -> None:
        """Make the tree that the entries would have."""
        self.do("DELETE FROM seal_tiles")
        leaves = list(store.between(self.connection, 0, store.LAST))
        for tile in merkle.Frontier().add(leaves):
            self.connection.execute(
                sa.text("INSERT INTO seal_tiles VALUES (:height, :number, :hashes)"),
                {"height": tile.height, "number": tile.index, "hashes": b"".join(tile.hashes)},
            )

    def sign_anew(self, key: Ed25519PrivateKey) -> None:
        """Sign one head over what the books are now, in place of all that there are."""
        at = self.first.head.sealed_at
        self.do("DELETE FROM seals")
        seal.seal(self.connection, key, now=at)

    def verify(self) -> dict[str, str]:
        """The checks that failed, and what each names."""
        checks = verifying.verify(
            self.connection,
            self.workspace.rules.policy(1),
            zone=self.workspace.zone,
            now=datetime.now(UTC),
            shops={},
            say=lambda _: None,
            plans=self.plans,
            trust=look.trust_of(self.workspace, self.connection, []),
        )
        return {check.name: check.wrong for check in checks if not check.ok}


@pytest.fixture(scope="module")
def plans(workspace: Workspace) -> Iterator[list[Plan]]:
    with ExitStack() as stack:
        names = [c.name for c in workspace.config.connectors]
        connected = [stack.enter_context(workspace.connected(name)) for name in names]
        yield [each.plan() for each in connected if each.is_source]


@pytest.fixture
def tamperer(workspace: Workspace, plans: list[Plan]) -> Iterator[Tamperer]:
    with workspace.engine.connect() as connection:
        yield Tamperer(connection, workspace, plans)
        connection.rollback()


def test_books_that_nobody_touched_are_right(tamperer: Tamperer) -> None:
    found = seal.read_heads(tamperer.connection)
    assert [signed.head.number for signed in found] == [1, 2]
    assert 16 < found[0].head.size < found[1].head.size == tamperer.size
    assert tamperer.ask("SELECT count(*) FROM deliveries") > 0
    assert tamperer.verify() == {}


def test_chaining_and_growing_anew_without_a_change_changes_nothing(tamperer: Tamperer) -> None:
    """The tamperer's own tools make what we made; what he is found by is what he changed."""
    before = tamperer.ask("SELECT sha256(string_agg(hashes, NULL ORDER BY height, number)) FROM seal_tiles")
    tamperer.chain_anew()
    tamperer.grow_anew()
    after = tamperer.ask("SELECT sha256(string_agg(hashes, NULL ORDER BY height, number)) FROM seal_tiles")
    assert (before, tamperer.verify()) == (after, {})


DOUBLED = "UPDATE postings SET amount_minor = amount_minor * 2 WHERE entry_id = 8"
REMOVED = (
    "DELETE FROM postings WHERE entry_id = 8",
    "DELETE FROM entries WHERE id = 8",
    "UPDATE postings SET entry_id = 1 - entry_id WHERE entry_id > 8",
    "UPDATE postings SET entry_id = -entry_id WHERE entry_id < 0",
    "UPDATE entries SET id = 1 - id WHERE id > 8",
    "UPDATE entries SET id = -id WHERE id < 0",
)
SWAPPED = (
    "UPDATE postings SET entry_id = CASE entry_id WHEN 8 THEN 9 ELSE 8 END, line = line + 100 * (entry_id - 7)"
    " WHERE entry_id IN (8, 9)",
    "UPDATE postings SET line = line % 100 WHERE entry_id IN (8, 9)",
    "UPDATE entries SET id = -id WHERE id IN (8, 9)",
    "UPDATE entries SET id = CASE id WHEN -8 THEN 9 ELSE 8 END WHERE id IN (-8, -9)",
)
MOVED = "UPDATE entries SET business_day = business_day + 31 WHERE id = 8"
REWOUND = "UPDATE entries SET booked_at = booked_at - interval '90 days' WHERE id <= 8"


@pytest.mark.parametrize(
    ("statements", "named", "first"),
    [
        ((DOUBLED,), "entry 8 was changed after it was booked", 8),
        (("UPDATE postings SET amount_minor = 1 WHERE entry_id = 8",), "entry 8 does not balance", None),
        (REMOVED, "entry 8 is not sealed to entry 7", 8),
        (REMOVED[:2], "entry 8 is missing", None),
        (SWAPPED, "entry 8 is not sealed to entry 7", 8),
        ((MOVED,), "entry 8 was changed after it was booked", 8),
        ((REWOUND,), "entry 1 was changed after it was booked", 1),
    ],
    ids=[
        "changed amount", "unbalanced", "removed and closed up", "removed", "swapped order", "moved period",
        "rewound clock",
    ],
)  # fmt: skip
def test_entries(tamperer: Tamperer, statements: tuple[str, ...], named: str, first: int | None) -> None:
    tamperer.do(*statements)
    assert tamperer.verify()["chain"] == named
    if first is None:
        return
    # He chains the entries anew, so that each follows the one before: the tree names the entry.
    tamperer.chain_anew()
    found = tamperer.verify()
    assert "chain" not in found
    assert found["heads"] == f"entry {first} is not the one that head 1 was signed over"
    # He makes the tree anew too: the signed heads enclose the entry.
    tamperer.grow_anew()
    size = tamperer.first.head.size
    assert tamperer.verify()["heads"] == (
        f"an entry between 1 and {size} is not the one that head 1 was signed over"
    )
    # He signs with a key of his own, which is not ours.
    with tamperer.connection.begin_nested() as attempt:
        tamperer.sign_anew(Ed25519PrivateKey.generate())
        assert "head 1 is signed with a key that is not ours" in tamperer.verify()["heads"]
        attempt.rollback()
    # He has our key: the database is whole, and only what is kept outside shows it.
    tamperer.sign_anew(tamperer.key)
    found = tamperer.verify()
    assert "heads" not in found
    assert found["heads kept outside"].startswith(
        f"an entry between 1 and {size} is not the one that head 1 was signed over ("
    )
    assert found["heads kept outside"].endswith("kept/heads.jsonl, line 1)")


def test_the_last_entries_are_removed(tamperer: Tamperer) -> None:
    last = tamperer.size
    tamperer.do(f"DELETE FROM postings WHERE entry_id = {last}", f"DELETE FROM entries WHERE id = {last}")
    assert tamperer.verify()["heads"] == f"entry {last} is missing: head 2 was signed over {last} entries"


def test_the_last_entries_are_removed_with_their_head(tamperer: Tamperer) -> None:
    first, last = tamperer.first.head.size, tamperer.size
    tamperer.do(
        f"DELETE FROM postings WHERE entry_id > {first}",
        f"DELETE FROM entries WHERE id > {first}",
        "DELETE FROM seal_copies WHERE number > 1",
        "DELETE FROM seals WHERE number > 1",
    )
    found = tamperer.verify()
    assert "heads" not in found
    assert (
        f"entry {first + 1} is missing: head 2 was signed over {last} entries" in found["heads kept outside"]
    )


def test_a_resealed_tail(tamperer: Tamperer) -> None:
    """The entries after the first head are others now, and our own key signed them."""
    first, last = tamperer.first.head.size, tamperer.size
    assert last == first + 1, "the second sync cancelled one order"
    tamperer.do(
        f"UPDATE postings SET amount_minor = amount_minor * 3 WHERE entry_id = {last}",
        "DELETE FROM seals WHERE number > 1",
    )
    tamperer.chain_anew()
    seal.seal(tamperer.connection, tamperer.key, now=datetime.now(UTC))
    found = tamperer.verify()
    assert not {"chain", "heads"} & set(found)
    assert f"entry {last} is not the one that head 2 was signed over (" in found["heads kept outside"]


def test_a_clock_that_was_rewound_for_new_entries(tamperer: Tamperer) -> None:
    """Booked properly, into the past: after what was sealed already."""
    draft = rules.Draft("sale", "sale", "PLN", NOW, (("A", 1), ("B", -1)), "order paid")
    last = tamperer.size
    store.append(
        tamperer.connection,
        [(("shop", "order:made-up"), draft)],
        generations={},
        zone=tamperer.workspace.zone,
        booked_at=NOW - timedelta(days=90),
        author="x",
    )
    assert "chain" not in tamperer.verify(), "our own booking never goes back, whatever the clock shows"
    tamperer.do(f"UPDATE entries SET booked_at = '2020-01-01' WHERE id = {last + 1}")
    tamperer.chain_anew()
    assert tamperer.verify()["chain"].startswith(
        f"entry {last + 1} says that it was booked at 2020-01-01T00:00:00.000000Z, but the books had a later time"
    )


# heads


def test_a_replaced_head(tamperer: Tamperer) -> None:
    forged = heads.sign(replace(tamperer.first.head, size=3), Ed25519PrivateKey.generate())
    tamperer.connection.execute(
        sa.text("UPDATE seals SET head = :head, signature = :signature WHERE number = 1"),
        {"head": forged.text, "signature": forged.signature},
    )
    assert tamperer.verify()["heads"] == "head 1 was changed after it was signed"


def test_a_head_that_the_thief_of_the_key_signed(tamperer: Tamperer) -> None:
    """The head before last is signed again with another time, and the last one to follow it."""
    one, two = seal.read_heads(tamperer.connection)
    earlier = heads.sign(replace(one.head, sealed_at=one.head.sealed_at - timedelta(days=1)), tamperer.key)
    later = heads.sign(replace(two.head, previous=earlier.hash), tamperer.key)
    for signed in (earlier, later):
        tamperer.connection.execute(
            sa.text("UPDATE seals SET head = :h, signature = :s, sealed_at = :at WHERE number = :n"),
            {
                "h": signed.text,
                "s": signed.signature,
                "at": signed.head.sealed_at,
                "n": signed.head.number,
            },
        )
    found = tamperer.verify()
    assert "heads" not in found
    assert found["heads kept outside"].startswith("head 1 was replaced in the database (")


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("DELETE FROM seals WHERE number = 1", "head 1 is missing"),
        (
            "UPDATE seals SET signature = sha512('x') WHERE number = 2",
            "head 2 was changed after it was signed",
        ),
        (
            "UPDATE seals SET head = replace(head, 'number', 'nummer')",
            "head 1 was changed after it was signed",
        ),
        (f"UPDATE seals SET sealed_at = {LATER} WHERE number = 2", "head 2 stands in the place of another"),
        ("UPDATE seals SET number = 3 WHERE number = 2", "head 2 is missing"),
    ],
)
def test_a_head_that_was_touched(tamperer: Tamperer, statement: str, named: str) -> None:
    tamperer.do(statement)
    assert tamperer.verify()["heads"] == named


def test_lines_of_the_witness_are_gone(tamperer: Tamperer) -> None:
    path = tamperer.workspace.config.folder / "kept" / "heads.jsonl"
    whole = path.read_text()
    try:
        path.write_text(whole.splitlines(keepends=True)[0])
        assert f"head 2 was copied to {path} and is not there" == tamperer.verify()["heads kept outside"]
        path.write_text(whole.replace('"size":', '"size": '))
        assert tamperer.verify() == {}, "white space between does not matter"
        path.write_text(whole.replace('"signature":"', '"signature":"00'))
        assert f"{path}, line 1: head 1 was changed" in tamperer.verify()["heads kept outside"]
        path.unlink()
        assert tamperer.verify()["heads kept outside"] == f"{path}: the file is not there"
    finally:
        path.write_text(whole)


# evidence, mapping, policies, pushes

AN_ORDER = "(SELECT evidence_id FROM entries WHERE part = 'sale' ORDER BY id LIMIT 1)"
A_TOUCH = (
    "(SELECT min(id) FROM evidence WHERE id NOT IN (SELECT evidence_id FROM entries WHERE evidence_id > 0))"
)


def _edit(evidence: str, *, hashes: bool) -> str:
    body = "replace(convert_from(body, 'UTF8'), '1', '2')::bytea"
    both = f", sha256 = sha256({body}), digest = sha256({body})" if hashes else ""
    return f"UPDATE evidence SET body = {body}{both} WHERE id = {evidence}"


@pytest.mark.parametrize("which", [AN_ORDER, A_TOUCH], ids=["order", "touch"])
def test_edited_evidence(tamperer: Tamperer, which: str) -> None:
    number = tamperer.ask(f"SELECT {which}")
    tamperer.do(_edit(which, hashes=False))
    found = tamperer.verify()
    assert found["evidence"] == f"evidence {number} was changed after it was fetched"


@pytest.mark.parametrize("which", [AN_ORDER, A_TOUCH], ids=["order", "touch"])
def test_edited_evidence_with_new_hashes(tamperer: Tamperer, which: str) -> None:
    number = tamperer.ask(f"SELECT {which}")
    tamperer.do(_edit(which, hashes=True))
    found = tamperer.verify()
    last = tamperer.first.head.log("evidence").last
    assert found["heads"] == f"evidence between 1 and {last}: one was changed, added or removed after head 1"
    if which == AN_ORDER:
        entry = tamperer.ask(f"SELECT min(id) FROM entries WHERE evidence_id = {number}")
        assert found["evidence"] == f"entry {entry} rests on evidence {number}, which has other bytes"


def test_evidence_whose_context_was_edited(tamperer: Tamperer) -> None:
    number = tamperer.ask("SELECT min(id) FROM evidence WHERE context <> '{}'")
    tamperer.do(f'UPDATE evidence SET context = context || \'{{"x": "y"}}\' WHERE id = {number}')
    assert tamperer.verify()["evidence"] == f"evidence {number} was changed after it was fetched"


@pytest.mark.parametrize(
    ("kind", "change", "field"),
    [
        ("order", "total_minor = total_minor + 1", "total_minor"),
        ("order", "occurred_at = occurred_at + interval '40 days'", "occurred_at"),
        ("spend", "amount_minor = amount_minor - 1", "amount_minor"),
        ("touch", "campaign_id = 'mine'", "campaign_id"),
        ("lead", "email = 'somebody@else.example'", "email"),
    ],
)
def test_an_edited_mapping_result(tamperer: Tamperer, kind: str, change: str, field: str) -> None:
    table = "spend" if kind == "spend" else {"touch": "touches"}.get(kind, f"{kind}s")
    where = "(connector, external_id) = (SELECT connector, external_id FROM {} ORDER BY 1, 2 LIMIT 1)"
    named = tamperer.ask(f"SELECT external_id FROM {table} ORDER BY connector, external_id LIMIT 1")
    tamperer.do(f"UPDATE {table} SET {change} WHERE {where.format(table)}")
    assert tamperer.verify()["mapping"].endswith(f" {kind} {named} is not what its evidence says: {field}")


SOLD = "(SELECT external_id FROM orders WHERE status = 'completed' ORDER BY external_id LIMIT 1)"


def test_a_deleted_order(tamperer: Tamperer) -> None:
    named = tamperer.ask(f"SELECT {SOLD}")
    tamperer.do(f"DELETE FROM orders WHERE external_id = {SOLD}")
    assert tamperer.verify()["mapping"] == f"shop order {named} is gone, but its evidence is there"


def test_an_order_that_was_deleted_with_all_that_was_fetched_of_it(tamperer: Tamperer) -> None:
    named = tamperer.ask(f"SELECT {SOLD}")
    entry = tamperer.ask(f"SELECT min(id) FROM entries WHERE subject = 'order:{named}'")
    number = tamperer.ask(f"SELECT evidence_id FROM entries WHERE id = {entry}")
    tamperer.do(
        f"DELETE FROM orders WHERE external_id = '{named}'",
        f"DELETE FROM heads WHERE stream = 'orders' AND external_id = '{named}'",
        f"DELETE FROM evidence WHERE stream = 'orders' AND external_id = '{named}'",
    )
    found = tamperer.verify()
    assert found["evidence"] == f"entry {entry} rests on evidence {number}, which was removed"
    assert found["heads"].startswith("evidence between 1 and ")
    assert f"order:{named} lacks an entry: cancellation of sale" in found["orders booked"]


def test_an_order_that_was_made_up(tamperer: Tamperer) -> None:
    columns = tamperer.ask(
        "SELECT string_agg(column_name, ', ') FROM information_schema.columns WHERE table_name = 'orders'"
        " AND column_name NOT IN ('external_id', 'raw_id')"
    )
    tamperer.do(
        f"INSERT INTO orders (external_id, raw_id, {columns}) SELECT 'made-up', 'made-up', {columns}"
        f" FROM orders WHERE external_id = {SOLD}"
    )
    assert tamperer.verify()["mapping"] == "shop order made-up is there, but nothing was fetched of it"


def test_a_forged_policy(tamperer: Tamperer) -> None:
    forged = "jsonb_set(body, '{lookback_days}', '3650')"
    tamperer.do(f"UPDATE policies SET body = {forged} WHERE version = 1")
    assert tamperer.verify()["policies"] == "policy 1 was changed after it was put in force"
    body = tamperer.ask("SELECT body FROM policies WHERE version = 1")
    tamperer.connection.execute(
        sa.text("UPDATE policies SET sha256 = :sha256"),
        {"sha256": hashlib.sha256(heads.canonical(body)).digest()},
    )
    found = tamperer.verify()
    assert "policies" not in found
    assert found["heads"] == "policies between 1 and 1: one was changed, added or removed after head 1"
    tamperer.do("DELETE FROM policies")
    assert tamperer.verify()["policies"] == "policy 1, which entry 1 names, is gone"


@pytest.mark.parametrize(
    "statement",
    [
        'UPDATE deliveries SET sent = sent || \'{"revenue": "1"}\' WHERE id = 3',
        "UPDATE deliveries SET outcome = 'refused' WHERE id = 3",
        "UPDATE deliveries SET answered_at = answered_at - interval '1 day' WHERE id = 3",
        "DELETE FROM deliveries WHERE id = 3",
    ],
)
def test_a_rewritten_push(tamperer: Tamperer, statement: str) -> None:
    tamperer.do(statement)
    last = tamperer.first.head.log("deliveries").last
    assert tamperer.verify()["heads"] == (
        f"deliveries between 1 and {last}: one was changed, added or removed after head 1"
    )


def test_what_came_after_the_last_head_is_not_wrong(tamperer: Tamperer) -> None:
    tamperer.do(
        "INSERT INTO deliveries (destination, person_id, run_id, sent, outcome, sent_at, answered_at)"
        " VALUES ('crm', 'p', 1, '{}', 'accepted', now(), now())"
    )
    assert tamperer.verify() == {}


def test_the_database_itself_refuses_all_this(workspace: Workspace) -> None:
    """The triggers stop whoever has not switched them off: the application's own role too."""
    for table in ("entries", "postings", "policies", "seals", "seal_tiles", "seal_copies", "deliveries"):
        for statement in (f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
            with (
                workspace.engine.connect() as connection,
                pytest.raises(sa.exc.DBAPIError, match="append-only"),
            ):
                connection.execute(sa.text(statement))


def test_the_head_in_the_witness_is_what_ledger_heads_shows(workspace: Workspace) -> None:
    lines = (workspace.config.folder / "kept" / "heads.jsonl").read_text().splitlines()
    with workspace.engine.connect() as connection:
        assert lines == [signed.line() for signed in seal.read_heads(connection)]
    assert [json.loads(line)["head"]["number"] for line in lines] == [1, 2]
