"""One address with ten thousand orders: a till, a reseller, a test account that nobody took out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.faults.data.shop import ANNA, NEW, campaigns, order, pulled, put, refund, wrong

FIRST, MANY = 100_000, 10_000


def entries_of_many(world: Any) -> int:
    found: int = world.value(
        "SELECT count(*) FROM entries WHERE connector = 'shop' AND subject ~ '^order:[0-9]{6}$'"
    )
    return found


def test_ten_thousand_orders_of_one_address_are_one_person(synced: Any) -> None:
    before = campaigns(synced)["total"]
    with synced.leads_csv.open("a", encoding="utf-8") as file:
        file.write(f"web-many,{ANNA},2025-06-01 10:00:00,partner,contact,partner/expo\n")
    docs = [
        order(FIRST + n, f"{n % 97 + 1}.{n % 100:02d}", at=NEW + timedelta(seconds=n)) for n in range(MANY)
    ]
    put(synced, *docs)
    summary = synced.sync("shop", "web", pushes=False)
    assert [run.status for run in summary.runs] == ["done", "done"]
    assert summary.runs[0].counts["orders"]["new"] == MANY
    gross = sum((n % 97 + 1) * 100 + n % 100 for n in range(MANY))

    [row] = synced.rows(
        "SELECT count(*), count(DISTINCT person_id) FROM members WHERE kind = 'order' AND length(external_id) = 6"
    )
    assert tuple(row) == (MANY, 1)
    total = campaigns(synced)["total"]
    assert total["revenue_minor"] - before["revenue_minor"] == gross
    assert total["orders"] - before["orders"] == MANY
    assert total["won"] - before["won"] == 1, "people are counted, not orders"
    assert entries_of_many(synced) == MANY
    assert wrong(synced) == {}

    # One order more, and a refund: nothing of the others is booked again.
    late = NEW + timedelta(seconds=MANY + 10)
    put(synced, order(FIRST + MANY, "1.00", at=late))
    put(synced, refund(999_001, docs[0], "0.50", at=late), kind="refund")
    counts = pulled(synced)
    assert counts["orders"]["new"] == 1
    assert entries_of_many(synced) == MANY + 2
    assert campaigns(synced)["total"]["revenue_minor"] - before["revenue_minor"] == gross + 50
    assert wrong(synced) == {}

    # The CRM learns of the person once, with all of it.
    pushed = synced.sync("crm")
    assert [run.status for run in pushed.runs] == ["done", "done"]
    [sent] = [fields for _, fields in synced.writes() if fields.get("email") == ANNA]
    assert (sent["leadledger_orders"], sent["leadledger_revenue"]) == (
        str(MANY + 1),
        f"{(gross + 50) / 100:.2f}",
    )
