"""`verify` after a real sync: all is right; whoever tampers with the books is found, and what is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from connectors.sandbox.generated import generate
from connectors.sandbox.server import Server
from connectors.sandbox.state import Doc, State
from sync import work
from sync.cli import demo, look
from sync.config import load
from sync.ledger import verify as verifying
from sync.workspace import Opened, Workspace

Tamper = Callable[..., tuple[list[Any], dict[str, str]]]
TABLES = ("entries", "postings", "evidence", "heads", "credits", "orders")
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def synced(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, Server]]:
    """One sync for all these tests: none of them leaves a trace in its books."""
    folder = tmp_path_factory.mktemp("verify")
    state = folder / demo.SANDBOX / demo.STATE
    generate(state, leads_csv=folder / demo.SANDBOX / demo.LEADS_CSV, seed=1, people=60, today=NOW)
    admin = sa.make_url(postgres).set(database="postgres")
    url = admin.set(database="verified").render_as_string(hide_password=False)
    with psycopg.connect(admin.render_as_string(hide_password=False), autocommit=True) as server:
        server.execute("CREATE DATABASE verified TEMPLATE leadledger")
    with Server(state) as vendors:
        path = demo.write_config(folder, vendors.port, olist=False).path
        path.write_text(path.read_text().replace("database: embedded", f'database: "{url}"'))
        with Opened(load(path)) as workspace:
            summary = work.sync(workspace, [c.name for c in workspace.config.connectors])
            assert [run.status for run in summary.runs] == ["done"] * len(summary.runs)
            yield workspace, vendors


@pytest.fixture
def booked(synced: tuple[Workspace, Server]) -> Workspace:
    return synced[0]


@pytest.fixture
def shop(synced: tuple[Workspace, Server]) -> Iterator[State]:
    """The vendors' documents; an order that a test changes is put back."""
    state = synced[1].state
    before = _an_order(state)
    yield state
    state.put("woocommerce", "order", [before])


def _wrong(workspace: Workspace, *, offline: bool) -> dict[str, str]:
    """The checks that failed and what each names."""
    return {c.name: c.wrong for c in look.run_checks(workspace, offline=offline) if not c.ok}


@pytest.fixture
def tamper(booked: Workspace) -> Tamper:
    """Runs statements as a superuser who has switched off what would refuse them, and verifies; gives what
    the statements returned and the checks that failed. Nothing of it is committed."""

    def run(*statements: str) -> tuple[list[Any], dict[str, str]]:
        found: list[Any] = []
        with booked.engine.connect() as connection:
            for table in TABLES:
                connection.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
            for statement in statements:
                result = connection.execute(sa.text(statement))
                if result.returns_rows:
                    found += [row[0] for row in result]
            checks = verifying.verify(
                connection,
                booked.rules.policy(1),
                zone=booked.zone,
                now=datetime.now(UTC),
                shops={},
                say=lambda _: None,
                trust=look.trust_of(booked, connection, []),
            )
            connection.rollback()
        return found, {c.name: c.wrong for c in checks if not c.ok}

    return run


SOME = "(SELECT id FROM entries ORDER BY id OFFSET 7 LIMIT 1)"


def test_all_is_right_after_a_sync(booked: Workspace) -> None:
    checks = look.run_checks(booked, offline=False)
    assert {c.name: c.wrong for c in checks if not c.ok} == {}
    assert {c.name for c in checks} == {
        "chain",
        "heads",
        "evidence",
        "policies",
        "periods",
        "mapping",
        "orders booked",
        "spend booked",
        "credits complete",
        "control total of shop",
    }
    assert all(c.checked > 0 for c in checks if c.name != "periods"), "no period is closed yet"


def test_verify_says_the_same_again(booked: Workspace) -> None:
    first = look.run_checks(booked, offline=False)
    assert look.run_checks(booked, offline=False) == first


def test_a_changed_amount(tamper: Tamper) -> None:
    _, wrong = tamper(
        f"UPDATE postings SET amount_minor = amount_minor + 1 WHERE entry_id = {SOME} AND line = 0"
    )
    assert wrong["chain"] == "entry 8 does not balance"


def test_a_changed_amount_that_balances(tamper: Tamper) -> None:
    _, wrong = tamper(f"UPDATE postings SET amount_minor = amount_minor * 2 WHERE entry_id = {SOME}")
    assert wrong["chain"] == "entry 8 was changed after it was booked"


def test_credit_moved_to_another_campaign(tamper: Tamper) -> None:
    _, wrong = tamper(
        "UPDATE postings SET account = account || 'x' WHERE (entry_id, line) ="
        " (SELECT entry_id, line FROM postings WHERE account LIKE 'Credit:%' ORDER BY entry_id LIMIT 1)"
    )
    assert "was changed after it was booked" in wrong["chain"]
    assert "lacks an entry: reattribution" in wrong["orders booked"]


@pytest.mark.parametrize(
    "change",
    [
        "reason = 'another'",
        "business_day = business_day + 1",
        "booked_at = booked_at + interval '1 second'",
        "evidence_id = 0",
        "author = 'somebody'",
    ],
)
def test_a_changed_field(tamper: Tamper, change: str) -> None:
    _, wrong = tamper(f"UPDATE entries SET {change} WHERE id = {SOME}")
    assert wrong["chain"] == "entry 8 was changed after it was booked"


def test_a_removed_entry(tamper: Tamper) -> None:
    [subject], wrong = tamper(
        "DELETE FROM postings WHERE entry_id = 8", "DELETE FROM entries WHERE id = 8 RETURNING subject"
    )
    assert wrong["chain"] == "entry 8 is missing"
    assert subject in wrong["orders booked" if subject.startswith("order:") else "spend booked"]


def test_a_removed_last_entry(tamper: Tamper) -> None:
    """The chain of what is left is whole: that something is missing is seen by what should be booked."""
    [subject], wrong = tamper(
        "DELETE FROM postings WHERE entry_id = (SELECT max(id) FROM entries)",
        "DELETE FROM entries WHERE id = (SELECT max(id) FROM entries) RETURNING subject",
    )
    assert "chain" not in wrong
    assert subject in "".join(wrong.values())


def test_a_swapped_hash(tamper: Tamper) -> None:
    _, wrong = tamper("UPDATE entries SET hash = (SELECT hash FROM entries WHERE id = 9) WHERE id = 8")
    assert wrong["chain"] == "entry 8 was changed after it was booked"


def test_a_broken_link(tamper: Tamper) -> None:
    _, wrong = tamper("UPDATE entries SET prev_hash = sha256('x') WHERE id = 8")
    assert wrong["chain"] == "entry 8 is not sealed to entry 7"


def test_an_edited_record_of_a_vendor(tamper: Tamper) -> None:
    [id], wrong = tamper(
        "UPDATE evidence SET body = body || ' '::bytea WHERE id = (SELECT max(id) FROM evidence) RETURNING id"
    )
    assert wrong == {"evidence": f"evidence {id} was changed after it was fetched"}


def test_a_removed_credit(tamper: Tamper) -> None:
    [order], wrong = tamper(
        "DELETE FROM credits WHERE (connector, order_id) = (SELECT connector, order_id FROM credits"
        " WHERE campaign IS NOT NULL ORDER BY order_id LIMIT 1) RETURNING order_id"
    )
    assert wrong["orders booked"].startswith(f"shop order:{order}: revenue ")
    assert wrong["orders booked"].endswith(", credits 0")


def test_an_order_that_nobody_booked(tamper: Tamper) -> None:
    """Known and attributed; its entries are gone from the journal."""
    subjects, wrong = tamper(
        "CREATE TEMP TABLE lost ON COMMIT DROP AS SELECT id FROM entries WHERE subject ="
        " (SELECT subject FROM entries WHERE part = 'sale' ORDER BY id DESC LIMIT 1)",
        "DELETE FROM postings WHERE entry_id IN (SELECT id FROM lost)",
        "DELETE FROM entries WHERE id IN (SELECT id FROM lost) RETURNING subject",
    )
    assert wrong["orders booked"] == f"shop {subjects[0]} lacks an entry: sale of sale (order paid)"


def test_an_order_whose_amount_is_another_now(tamper: Tamper) -> None:
    """As if the pull had changed the order and nobody had booked it."""
    [order], wrong = tamper(
        "UPDATE orders SET occurred_at = occurred_at + interval '1 day' WHERE external_id ="
        " (SELECT order_id FROM attributions ORDER BY order_id LIMIT 1) RETURNING external_id"
    )
    assert f"order:{order} lacks an entry: correction of sale" in wrong["orders booked"]


def test_an_edit_in_the_shop_that_was_not_pulled(booked: Workspace, shop: State) -> None:
    order = _an_order(shop)
    total = f"{Decimal(order.body['total']) + 1}"
    shop.put("woocommerce", "order", [replace(order, body={**order.body, "total": total})])
    wrong = _wrong(booked, offline=False)
    assert set(wrong) == {"control total of shop"}
    assert f"order {order.id}: the shop says {total} PLN" in wrong["control total of shop"]
    assert _wrong(booked, offline=True) == {}


def test_an_order_gone_from_the_shop(booked: Workspace, shop: State) -> None:
    order = _an_order(shop)
    shop.delete("woocommerce", "order", order.id)
    assert _wrong(booked, offline=False) == {
        "control total of shop": f"order {order.id} is booked, but the shop does not show it as sold"
    }


def _an_order(state: State) -> Doc:
    docs, _ = state.select("woocommerce", "order")
    return next(doc for doc in docs if doc.body["status"] == "completed")
