"""`verify` after a real sync: all is right; whoever tampers with the books is found, and what is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from connectors.sandbox.server import Server
from connectors.sandbox.state import Doc
from sync import work
from sync.cli import look
from sync.workspace import Workspace

TABLES = ("entries", "postings", "evidence", "heads", "credits", "orders")


@pytest.fixture
def booked(workspace: Workspace) -> Workspace:
    summary = work.sync(workspace, [c.name for c in workspace.config.connectors])
    assert [run.status for run in summary.runs] == ["done"] * len(summary.runs)
    return workspace


def _wrong(workspace: Workspace, *, offline: bool = True) -> dict[str, str]:
    """The checks that failed and what each names."""
    return {c.name: c.wrong for c in look.run_checks(workspace, offline=offline) if not c.ok}


@pytest.fixture
def tamper(booked: Workspace) -> Callable[..., list[tuple[object, ...]]]:
    """Runs statements as a superuser who has switched off what would refuse them."""

    def run(*statements: str) -> list[tuple[object, ...]]:
        found: list[tuple[object, ...]] = []
        with booked.engine.begin() as connection:
            for table in TABLES:
                connection.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
            for statement in statements:
                result = connection.execute(sa.text(statement))
                if result.returns_rows:
                    found += [tuple(row) for row in result]
            for table in TABLES:
                connection.execute(sa.text(f"ALTER TABLE {table} ENABLE TRIGGER ALL"))
        return found

    return run


Tamper = Callable[..., list[tuple[object, ...]]]
SOME = "(SELECT id FROM entries ORDER BY id OFFSET 7 LIMIT 1)"


def test_all_is_right_after_a_sync(booked: Workspace) -> None:
    checks = look.run_checks(booked, offline=False)
    assert {c.name: c.wrong for c in checks if not c.ok} == {}
    assert {c.name for c in checks} == {
        "chain",
        "evidence",
        "orders booked",
        "spend booked",
        "credits complete",
        "control total of shop",
    }
    assert all(c.checked > 0 for c in checks)


def test_verify_says_the_same_again(booked: Workspace) -> None:
    first = look.run_checks(booked, offline=False)
    assert look.run_checks(booked, offline=False) == first


def test_a_changed_amount(booked: Workspace, tamper: Tamper) -> None:
    tamper(f"UPDATE postings SET amount_minor = amount_minor + 1 WHERE entry_id = {SOME} AND line = 0")
    assert _wrong(booked)["chain"] == "entry 8 does not balance"


def test_a_changed_amount_that_balances(booked: Workspace, tamper: Tamper) -> None:
    tamper(f"UPDATE postings SET amount_minor = amount_minor * 2 WHERE entry_id = {SOME}")
    assert _wrong(booked)["chain"] == "entry 8 was changed after it was booked"


def test_credit_moved_to_another_campaign(booked: Workspace, tamper: Tamper) -> None:
    tamper(
        "UPDATE postings SET account = account || 'x' WHERE (entry_id, line) ="
        " (SELECT entry_id, line FROM postings WHERE account LIKE 'Credit:%' ORDER BY entry_id LIMIT 1)"
    )
    assert "was changed after it was booked" in _wrong(booked)["chain"]


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
def test_a_changed_field(booked: Workspace, tamper: Tamper, change: str) -> None:
    tamper(f"UPDATE entries SET {change} WHERE id = {SOME}")
    assert _wrong(booked)["chain"] == "entry 8 was changed after it was booked"


def test_a_removed_entry(booked: Workspace, tamper: Tamper) -> None:
    [(subject,)] = tamper(
        "DELETE FROM postings WHERE entry_id = 8", "DELETE FROM entries WHERE id = 8 RETURNING subject"
    )
    wrong = _wrong(booked)
    assert wrong["chain"] == "entry 8 is missing"
    kind = str(subject).partition(":")[0]
    assert str(subject) in wrong["orders booked" if kind == "order" else "spend booked"]


def test_a_removed_last_entry(booked: Workspace, tamper: Tamper) -> None:
    """The chain of what is left is whole: that something is missing is seen by what should be booked."""
    [(subject,)] = tamper(
        "DELETE FROM postings WHERE entry_id = (SELECT max(id) FROM entries)",
        "DELETE FROM entries WHERE id = (SELECT max(id) FROM entries) RETURNING subject",
    )
    wrong = _wrong(booked)
    assert "chain" not in wrong
    assert str(subject) in "".join(wrong.values())


def test_a_swapped_hash(booked: Workspace, tamper: Tamper) -> None:
    tamper(
        "UPDATE entries SET hash = (SELECT hash FROM entries WHERE id = 9) WHERE id = 8",
    )
    assert _wrong(booked)["chain"] == "entry 8 was changed after it was booked"


def test_a_broken_link(booked: Workspace, tamper: Tamper) -> None:
    tamper("UPDATE entries SET prev_hash = sha256('x') WHERE id = 8")
    assert _wrong(booked)["chain"] == "entry 8 is not sealed to entry 7"


def test_an_edited_vendors_record(booked: Workspace, tamper: Tamper) -> None:
    [(id,)] = tamper(
        "UPDATE evidence SET body = body || ' ' WHERE id = (SELECT max(id) FROM evidence) RETURNING id"
    )
    assert _wrong(booked) == {"evidence": f"evidence {id} was changed after it was fetched"}


def test_a_removed_credit(booked: Workspace, tamper: Tamper) -> None:
    [(order_id,)] = tamper(
        "DELETE FROM credits WHERE (connector, order_id) = (SELECT connector, order_id FROM credits"
        " WHERE campaign IS NOT NULL ORDER BY order_id LIMIT 1) RETURNING order_id"
    )
    try:
        wrong = _wrong(booked)
    except Exception as error:
        pytest.fail(f"verify must name what is wrong, not fail: {error!r}")
    assert f"order:{order_id}" in wrong["orders booked"]


def test_an_order_that_nobody_booked(booked: Workspace, tamper: Tamper) -> None:
    """Known, attributed, and its booking lost together with everything that follows it in the journal."""
    [(subject,)] = tamper(
        "CREATE TEMP TABLE lost ON COMMIT DROP AS SELECT id FROM entries WHERE id >="
        " (SELECT max(id) FROM entries WHERE part = 'sale')",
        "DELETE FROM postings WHERE entry_id IN (SELECT id FROM lost)",
        "DELETE FROM entries WHERE id IN (SELECT id FROM lost) AND part = 'sale' RETURNING subject",
    )
    assert "lacks an entry" in _wrong(booked)["orders booked"]
    assert str(subject).startswith("order:")


def test_an_edit_in_the_shop_that_was_not_pulled(booked: Workspace, sandbox: Server) -> None:
    order = _an_order(sandbox)
    total = f"{float(order.body['total']) + 1:.2f}"
    sandbox.state.put(
        "woocommerce",
        "order",
        [
            Doc(
                order.id,
                {**order.body, "total": total},
                order.at,
                order.changed,
                order.parent,
                order.number,
            )
        ],
    )
    wrong = _wrong(booked, offline=False)
    assert set(wrong) == {"control total of shop"}
    assert f"order {order.id}: the shop says {total} PLN" in wrong["control total of shop"]
    assert _wrong(booked) == {}


def test_an_order_gone_from_the_shop(booked: Workspace, sandbox: Server) -> None:
    order = _an_order(sandbox)
    sandbox.state.delete("woocommerce", "order", order.id)
    wrong = _wrong(booked, offline=False)
    assert wrong == {
        "control total of shop": f"order {order.id} is booked, but the shop does not show it as sold"
    }


def _an_order(sandbox: Server) -> Doc:
    docs, _ = sandbox.state.select("woocommerce", "order")
    return next(doc for doc in docs if doc.body["status"] == "completed")
