"""The quarantine on the command line: what is set aside is listed, shown, mapped again, or given up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

UNREADABLE = "next Tuesday"
OVERRIDE = """    mapping:
      orders:
        order:
          paid_at: {first: ["meta_data[key=_paid_on].value", date_paid_gmt], zone: UTC}
    options:
      base_url: http"""


def paid_orders(world: Any) -> list[Any]:
    docs, _ = world.state.select("woocommerce", "order", order="changed", descending=True)
    return [doc for doc in docs if doc.body["status"] == "completed" and not doc.body["refunds"]]


@pytest.fixture
def aside(fresh: Any) -> tuple[Any, str, str]:
    """A world with two orders set aside, because of a time that nobody can read: the world and their ids."""
    first, second, *_ = paid_orders(fresh)
    for doc in (first, second):
        note = {"id": 1, "key": "_paid_on", "value": doc.body["date_paid_gmt"]}
        body = doc.body | {"date_paid_gmt": UNREADABLE, "meta_data": [*doc.body["meta_data"], note]}
        fresh.state.put("woocommerce", "order", [replace(doc, body=body)])
    assert [run.status for run in fresh.sync("shop", pushes=False).runs] == ["partial"]
    return fresh, first.id, second.id


def mend(world: Any) -> None:
    """Give the field another source in the config."""
    path = world.folder / "leadledger.yaml"
    text = path.read_text()
    before, shop = text.split("    type: woocommerce\n")
    path.write_text(
        before + "    type: woocommerce\n" + shop.replace("    options:\n      base_url: http", OVERRIDE, 1)
    )


def listed(world: Any, *arguments: str) -> Any:
    return world.run("quarantine", "list", *arguments, "--format", "json").json


def test_what_is_set_aside_is_listed_with_field_and_reason(aside: Any) -> None:
    world, *ids = aside
    rows = listed(world)
    assert [set(row) for row in rows] == [
        {"id", "connector", "stream", "record", "field", "reason", "set_aside_at"}
    ] * 2
    assert {row["record"] for row in rows} == set(ids)
    assert {(row["connector"], row["stream"], row["field"]) for row in rows} == {
        ("shop", "orders", "paid_at")
    }
    assert all("date_paid_gmt" in row["reason"] and UNREADABLE not in row["reason"] for row in rows)
    assert listed(world, "meta") == []
    table = world.run("quarantine", "list", "shop")
    assert all(id in table.out for id in ids)
    lines = world.run("quarantine", "list", "--format", "csv").out.splitlines()
    assert lines[0] == "id,connector,stream,record,field,reason,set_aside_at"
    assert len(lines) == 3
    unknown = world.run("quarantine", "list", "shoop")
    assert unknown.code == 2
    assert "shop" in unknown.err


def test_one_record_is_shown_with_the_vendors_bytes(aside: Any) -> None:
    world, *ids = aside
    [row] = [row for row in listed(world) if row["record"] == ids[0]]
    shown = world.run("quarantine", "show", str(row["id"])).json
    assert shown["record"] == ids[0]
    assert f'"date_paid_gmt":"{UNREADABLE}"' in shown["body"]
    assert len(shown["problems"]) >= 1
    assert shown["sha256"] == world.value(
        "SELECT encode(sha256, 'hex') FROM evidence WHERE id = :id", id=shown["evidence"]
    )
    assert world.run("quarantine", "show", "999").code == 2


def test_a_retry_without_a_cure_leaves_everything_set_aside(aside: Any) -> None:
    world, *_ = aside
    printed = world.run("quarantine", "retry")
    assert printed.code == 1
    assert "0 of 2 records were taken up; 2 stay set aside" in printed.out
    assert len(listed(world)) == 2


def test_a_retry_after_an_override_takes_the_record_up_and_books_it(aside: Any) -> None:
    world, one, other = aside
    assert world.rows("SELECT 1 FROM entries WHERE subject = :s", s=f"order:{one}") == []
    mend(world)
    [row] = [row for row in listed(world) if row["record"] == one]
    printed = world.run("quarantine", "retry", str(row["id"]))
    assert (printed.code, printed.out) == (0, "1 of 1 records were taken up; 0 stay set aside.\n")
    assert [row["record"] for row in listed(world)] == [other]
    gross = world.value("SELECT total_minor FROM orders WHERE external_id = :id", id=one)
    booked = world.value(
        "SELECT -sum(amount_minor) FROM postings p JOIN entries e ON e.id = p.entry_id"
        " WHERE e.subject = :s AND p.account LIKE 'Revenue:%'",
        s=f"order:{one}",
    )
    assert booked == gross > 0

    again = world.run("quarantine", "retry")
    assert again.code == 0
    assert listed(world) == []
    assert world.verify() == []
    assert world.run("quarantine", "retry").out == "0 of 0 records were taken up; 0 stay set aside.\n"


def test_a_mended_record_from_the_vendor_cures_itself(aside: Any) -> None:
    world, *_ = aside
    docs = paid_orders(world)
    later = max(doc.changed for doc in docs) + 60
    now = f"{datetime.fromtimestamp(later, UTC):%Y-%m-%dT%H:%M:%S}"
    for doc in docs:
        if doc.body["date_paid_gmt"] == UNREADABLE:
            body = doc.body | {"date_paid_gmt": doc.body["date_created_gmt"], "date_modified_gmt": now}
            world.state.put("woocommerce", "order", [replace(doc, body=body, changed=later)])
    assert [run.status for run in world.sync("shop", pushes=False).runs] == ["done"]
    assert listed(world) == []
    assert world.verify() == []


def test_a_dropped_record_is_gone_from_the_list_but_not_its_reason_and_evidence(aside: Any) -> None:
    world, one, other = aside
    [row] = [row for row in listed(world) if row["record"] == one]
    printed = world.run("quarantine", "drop", str(row["id"]), "--why", "a test order")
    assert (printed.code, printed.out) == (0, "1 dropped.\n")
    assert [left["record"] for left in listed(world)] == [other]
    shown = world.run("quarantine", "show", str(row["id"])).json
    assert shown["dropped_why"] == "a test order"
    assert UNREADABLE in shown["body"]
    assert world.run("quarantine", "drop", str(row["id"]), "--why", "again").code == 2
    mend(world)
    assert world.run("quarantine", "retry").out.startswith("1 of 1 records")
    assert world.rows("SELECT 1 FROM orders WHERE external_id = :id", id=one) == []


@pytest.mark.parametrize("command", [["retry", "999"], ["drop", "999", "--why", "x"]])
def test_an_id_that_is_not_in_quarantine_is_a_mistake(aside: Any, command: list[str]) -> None:
    world, *_ = aside
    printed = world.run("quarantine", *command)
    assert printed.code == 2
    assert "999" in printed.err
    assert len(listed(world)) == 2
