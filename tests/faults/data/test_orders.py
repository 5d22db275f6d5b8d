"""Orders and refunds that come twice, in the wrong order, too large, or go away and come back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.sandbox.state import Fault
from tests.faults.data.shop import (
    ANNA,
    NEW,
    ORDERS,
    REFUNDS,
    answers_with,
    booked,
    order,
    pulled,
    put,
    refund,
    revenue,
    set_aside,
    wrong,
)

NUMBER = 90001
LATER, LATEST = NEW + timedelta(hours=1), NEW + timedelta(hours=2)
CREDITED = """
    SELECT e.subject, e.part, e.business_day, p.account, sum(p.amount_minor)::bigint AS amount
      FROM entries e JOIN postings p ON p.entry_id = e.id
     GROUP BY 1, 2, 3, 4 HAVING sum(p.amount_minor) <> 0 ORDER BY 1, 2, 3, 4
"""


def entries(world: Any, id: int = NUMBER) -> list[tuple[str, str]]:
    """Kind and part of every entry of an order, oldest first."""
    rows = world.rows("SELECT kind, part FROM entries WHERE subject = :s ORDER BY id", s=f"order:{id}")
    return [tuple(row) for row in rows]


def persons(world: Any) -> dict[str, str]:
    """By order: whose it is."""
    return dict(map(tuple, world.rows("SELECT external_id, person_id FROM members WHERE kind = 'order'")))


def swept(world: Any) -> dict[str, dict[str, int]]:
    """Sync the shop and look in its whole history for what it deleted; the run's counts by stream."""
    [run] = world.sync("shop", pushes=False, sweep=True).runs
    assert run.status == "done", (run.errors, run.problems)
    counts: dict[str, dict[str, int]] = run.counts
    return counts


def test_an_order_shown_several_times_counts_once_as_its_newest(synced: Any) -> None:
    old, new = order(NUMBER, "10.00"), order(NUMBER, "12.00", modified=LATER)
    other = order(NUMBER + 1, "7.00")
    put(synced, new, other)
    answers_with(synced, path=ORDERS)  # the trash
    answers_with(synced, old.body, old.body, other.body, old.body, new.body, new.body, total=2)
    assert pulled(synced)["orders"]["new"] == 2
    assert synced.state.faults("woocommerce") == []
    assert (revenue(synced, NUMBER), revenue(synced, NUMBER + 1)) == (1200, 700)
    assert entries(synced) == [("sale", "sale")]
    pulled(synced)
    assert entries(synced) == [("sale", "sale")]
    assert wrong(synced) == {}


def test_a_refund_shown_several_times_is_booked_once(synced: Any) -> None:
    sold = order(NUMBER, "100.00")
    back = refund(95001, sold, "30.00")
    put(synced, sold)
    put(synced, back, kind="refund")
    answers_with(synced, back.body, path=REFUNDS)  # whether the shop knows this list
    answers_with(synced, back.body, back.body, back.body, path=REFUNDS, total=1)
    assert pulled(synced)["refunds"]["new"] == 1
    assert synced.state.faults("woocommerce") == []
    assert entries(synced) == [("sale", "sale"), ("refund", "refund:95001")]
    assert revenue(synced, NUMBER) == 7000
    assert wrong(synced) == {}


def test_a_row_that_stands_twice_in_a_file_is_one_lead(synced: Any) -> None:
    with synced.leads_csv.open("a", encoding="utf-8") as file:
        for created in ("2025-06-01 10:00:00", "2025-06-02 10:00:00", "2025-06-02 10:00:00"):
            file.write(f"web-twice,twice@example.com,{created},partner,contact,partner/expo\n")
    [run] = synced.sync("web", pushes=False).runs
    assert (run.status, run.counts["leads"]["new"]) == ("done", 1)
    found = synced.row("SELECT occurred_at FROM leads WHERE external_id = 'web-twice'")
    assert found.occurred_at.isoformat() == "2025-06-02T08:00:00+00:00", "the row that stands last"
    assert synced.value("SELECT count(*) FROM touches WHERE external_id = 'web-twice'") == 1
    assert wrong(synced) == {}


def test_an_older_version_that_comes_later_changes_nothing(synced: Any) -> None:
    # Both lie within the minutes that a run reads again.
    old = order(NUMBER, "10.00", modified=LATER - timedelta(minutes=5))
    put(synced, order(NUMBER, "12.00", modified=LATER))
    pulled(synced)
    head = synced.head()
    answers_with(synced, path=ORDERS)
    answers_with(synced, old.body)
    assert pulled(synced)["orders"]["older"] == 1
    assert synced.state.faults("woocommerce") == []
    assert synced.head() == head
    assert revenue(synced, NUMBER) == 1200
    assert wrong(synced) == {}


@pytest.mark.parametrize(
    "names", [("shop", "crm", "meta", "newsletter", "web"), ("meta", "web", "newsletter", "crm", "shop")]
)
def test_orders_before_their_leads_end_in_the_same_books(
    fresh: Any, synced_once: Any, names: tuple[str, ...]
) -> None:
    for name in names:
        assert [run.status for run in fresh.sync(name, pushes=False).runs] == ["done"]
    assert fresh.rows(CREDITED) == synced_once.rows(CREDITED)
    assert fresh.canonical() == synced_once.canonical()
    assert wrong(fresh) == {}


def test_refunds_before_their_orders_wait_for_them(fresh: Any, synced_once: Any) -> None:
    fresh.fault("woocommerce", ORDERS, 401, times=1)
    assert [run.status for run in fresh.sync("shop", pushes=False).runs] == ["failed"]
    assert fresh.value("SELECT count(*) FROM refunds") > 0
    assert fresh.value("SELECT count(*) FROM orders") == 0
    assert fresh.value("SELECT count(*) FROM entries WHERE part <> 'policy'") == 0
    assert {run.status for run in fresh.sync(pushes=False).runs} == {"done"}
    assert fresh.rows(CREDITED) == synced_once.rows(CREDITED)
    assert wrong(fresh) == {}


def test_a_refund_larger_than_its_order_shows_what_is_beyond_it(synced: Any) -> None:
    sold = order(NUMBER, "100.00")
    put(synced, sold)
    put(synced, refund(95001, sold, "130.00"), kind="refund")
    pulled(synced)
    assert booked(synced, NUMBER) == {
        "Revenue:Shop:shop": 3000,
        "Unattributed:refund exceeds the sale": -3000,
    }
    [row] = [
        r
        for r in synced.run("report", "campaigns", "--period", "2025-06", "--format", "json")
        .json["unattributed"]["reasons"]
        .items()
        if r[0].startswith("refund")
    ]
    assert row == ("refund exceeds the sale", {"revenue_minor": -3000, "orders": 1})
    assert wrong(synced) == {}

    put(synced, order(NUMBER, "150.00", modified=LATER))
    pulled(synced)
    assert revenue(synced, NUMBER) == 2000
    assert "Unattributed:refund exceeds the sale" not in booked(synced, NUMBER)
    assert wrong(synced) == {}


def test_a_refund_of_an_amount_alone_is_taken_from_all_that_is_left(synced: Any) -> None:
    """The policy leaves tax and shipping out of revenue; the refund does not say what it is for."""
    synced.edit(
        ("revenue: {tax: included, shipping: included}", "revenue: {tax: excluded, shipping: excluded}")
    )
    sold = order(NUMBER, "123.00", total_tax="23.00", shipping_total="10.00", shipping_tax="2.30")
    put(synced, sold)
    pulled(synced)
    whole = booked(synced, NUMBER)
    assert sum(whole.values()) == 0
    assert (whole["Revenue:Shop:shop"], whole["Tax:Shop:shop"], whole["Shipping:Shop:shop"]) == (
        -12300,
        2300,
        1000,
    )
    put(synced, refund(95001, sold, "41.00"), kind="refund")
    pulled(synced)
    assert booked(synced, NUMBER)["Revenue:Shop:shop"] == -8200
    assert booked(synced, NUMBER)["Tax:Shop:shop"] == 1533
    put(synced, refund(95002, sold, "82.00", at=LATER), kind="refund")
    pulled(synced)
    assert booked(synced, NUMBER) == {}
    assert wrong(synced) == {}


def test_an_order_in_the_trash_is_unbooked_and_booked_again_when_it_is_restored(synced: Any) -> None:
    sold = order(NUMBER, "100.00")
    put(synced, sold)
    put(synced, refund(95001, sold, "30.00"), kind="refund")
    pulled(synced)
    before = booked(synced, NUMBER)
    assert before["Revenue:Shop:shop"] == -7000

    put(synced, order(NUMBER, "100.00", status="trash", modified=LATER))
    pulled(synced)
    assert booked(synced, NUMBER) == {}
    assert entries(synced)[2:] == [("cancellation", "sale"), ("cancellation", "refund:95001")]
    reason = synced.value(
        "SELECT DISTINCT reason FROM entries WHERE kind = 'cancellation' AND part = 'sale' AND subject = :s",
        s=f"order:{NUMBER}",
    )
    assert reason == "the shop set the order to trash"
    assert wrong(synced) == {}

    put(synced, order(NUMBER, "100.00", modified=LATEST))
    pulled(synced)
    assert booked(synced, NUMBER) == before
    assert wrong(synced) == {}


def test_an_order_deleted_from_the_trash_leaves_nothing_booked(synced: Any) -> None:
    put(synced, order(NUMBER, "100.00"))
    pulled(synced)
    put(synced, order(NUMBER, "100.00", status="trash", modified=LATER))
    pulled(synced)
    synced.state.delete("woocommerce", "order", str(NUMBER))
    pulled(synced)
    assert booked(synced, NUMBER) == {}
    assert wrong(synced) == {}
    explained = synced.run("explain", f"shop:{NUMBER}")
    assert explained.code == 0
    assert "trash" in explained.out


def test_an_order_deleted_at_once_stays_booked_until_the_next_sweep_and_verify_names_it(synced: Any) -> None:
    put(synced, order(NUMBER, "100.00"), order(NUMBER + 1, "50.00"))
    put(synced, refund(95001, order(NUMBER), "30.00"), kind="refund")
    pulled(synced)
    synced.state.delete("woocommerce", "order", str(NUMBER))
    synced.state.delete("woocommerce", "refund", "95001")  # they go together
    pulled(synced)
    assert revenue(synced, NUMBER) == 7000
    assert wrong(synced) == {
        "control total of shop": f"order {NUMBER} is booked, but the shop does not show it as sold"
    }
    counts = swept(synced)
    assert (counts["orders"]["withdrawn"], counts["refunds"]["withdrawn"]) == (1, 1)
    assert booked(synced, NUMBER) == {}
    assert revenue(synced, NUMBER + 1) == 5000
    reason = (
        "SELECT DISTINCT reason FROM entries WHERE kind = 'cancellation' AND part = 'sale' AND subject = :s"
    )
    assert synced.value(reason, s=f"order:{NUMBER}") == "the shop no longer has the order"
    body = "SELECT convert_from(e.body, 'UTF8') FROM heads h JOIN evidence e ON e.id = h.evidence_id WHERE h.deleted"
    said = synced.value(f"{body} AND h.external_id = :id", id=str(NUMBER))
    assert "woocommerce_rest_shop_order_invalid_id" in said, "the shop's own word is the evidence"
    assert wrong(synced) == {}
    assert "withdrawn" not in swept(synced)["orders"]


def test_an_order_that_comes_back_from_a_backup_is_booked_again(synced: Any) -> None:
    put(synced, order(NUMBER, "100.00"))
    pulled(synced)
    synced.state.delete("woocommerce", "order", str(NUMBER))
    swept(synced)
    assert booked(synced, NUMBER) == {}
    put(synced, order(NUMBER, "100.00"))
    pulled(synced)
    assert revenue(synced, NUMBER) == 10000
    assert wrong(synced) == {}


def test_a_refund_deleted_in_the_shop_is_taken_back_by_the_next_sweep(synced: Any) -> None:
    put(synced, order(NUMBER, "100.00"))
    put(synced, refund(95001, order(NUMBER), "30.00"), kind="refund")
    put(synced, refund(95002, order(NUMBER), "20.00"), kind="refund")
    pulled(synced)
    synced.state.delete("woocommerce", "refund", "95001")
    put(synced, order(NUMBER, "100.00", modified=LATER))
    assert swept(synced)["refunds"]["withdrawn"] == 1
    assert revenue(synced, NUMBER) == 8000
    assert entries(synced)[-1] == ("cancellation", "refund:95001")
    assert wrong(synced) == {}


def test_the_sweep_of_a_day_looks_at_the_last_months_and_once_a_day(synced: Any) -> None:
    recent = datetime.now(UTC) - timedelta(days=3)
    put(synced, order(NUMBER, "10.00"), order(NUMBER + 1, "20.00", at=recent))
    pulled(synced)
    for number in (NUMBER, NUMBER + 1):
        synced.state.delete("woocommerce", "order", str(number))
    pulled(synced)
    assert revenue(synced, NUMBER + 1) == 2000, "the first pull was less than a day ago"
    with synced.engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE cursors SET at = at - interval '1 day' WHERE stream LIKE '%(sweep)'")
        )
    assert pulled(synced)["orders"]["withdrawn"] == 1
    assert (revenue(synced, NUMBER), revenue(synced, NUMBER + 1)) == (1000, 0)
    last = synced.value("SELECT at FROM cursors WHERE stream = 'orders (sweep)'")
    assert datetime.now(UTC) - last < timedelta(minutes=10)
    swept(synced)
    assert revenue(synced, NUMBER) == 0, "an operator's looks at the whole history"
    assert wrong(synced) == {}


@pytest.mark.parametrize(
    "lie", ["no total", "a total beyond", "an empty list", "without ids", "html", "cut short"]
)
def test_a_list_that_is_not_proved_whole_takes_nothing_back(synced: Any, lie: str) -> None:
    put(synced, order(NUMBER, "100.00"))
    pulled(synced)
    synced.state.delete("woocommerce", "order", str(NUMBER))
    head = synced.head()
    count = synced.value("SELECT count(*) FROM orders")
    for _ in range(2):  # the pull's own lists, of what changed
        answers_with(synced, path=ORDERS)
    headers = {"X-WP-Total": str(count), "X-WP-TotalPages": "1", "Content-Type": "application/json"}
    body = "[]"
    if lie == "no total":
        del headers["X-WP-Total"]
    elif lie == "without ids":
        body = '[{"status": "completed"}]'
    elif lie == "html":
        headers, body = {"Content-Type": "text/html"}, "<html>"
    elif lie == "cut short":
        body = json.dumps([{"id": 1}])
    elif lie == "a total beyond":
        body = json.dumps([{"id": int(row[0])} for row in synced.rows("SELECT external_id FROM orders")][:-1])
    synced.state.inject(Fault("woocommerce", ORDERS, 200, headers, body, 5 if lie == "html" else 1))
    [run] = synced.sync("shop", pushes=False, sweep=True).runs
    assert run.status == "failed"
    assert [what.partition(":")[0] for what, _ in run.errors] == ["sweep of orders"]
    assert all(todo for _, todo in run.errors)
    assert synced.head() == head
    assert revenue(synced, NUMBER) == 10000
    assert swept(synced)["orders"]["withdrawn"] == 1


def test_what_a_list_lacks_and_the_shop_still_has_stays_booked(synced: Any) -> None:
    """A plug-in hides an order from lists, and their count goes along; asked for by itself it is there."""
    put(synced, order(NUMBER, "100.00"))
    pulled(synced)
    head = synced.head()
    for _ in range(2):
        answers_with(synced, path=ORDERS)
    rows = synced.rows("SELECT external_id FROM orders WHERE external_id <> :id", id=str(NUMBER))
    answers_with(synced, *[{"id": int(row[0])} for row in rows])
    assert "withdrawn" not in swept(synced)["orders"]
    assert synced.state.faults("woocommerce") == []
    assert synced.head() == head


@pytest.mark.parametrize(
    ("status", "code"), [(404, "rest_no_route"), (404, ""), (401, "x"), (500, "x"), (410, "x")]
)
def test_only_the_shops_own_word_that_an_order_is_gone_takes_it_back(
    synced: Any, status: int, code: str
) -> None:
    put(synced, order(NUMBER, "100.00"))
    pulled(synced)
    synced.state.delete("woocommerce", "order", str(NUMBER))
    body = json.dumps({"code": code, "message": "no", "data": {"status": status}}) if code else "<html>"
    synced.fault("woocommerce", rf"/orders/{NUMBER}$", status, body=body, times=5)
    [run] = synced.sync("shop", pushes=False, sweep=True).runs
    assert run.status == "failed"
    assert revenue(synced, NUMBER) == 10000


def test_a_shop_that_lacks_most_of_what_is_held_is_another_shop(synced: Any) -> None:
    docs, _ = synced.state.select("woocommerce", "order")
    assert len(docs) > 40
    head = synced.head()
    for doc in docs[: len(docs) // 2 + 1]:
        synced.state.delete("woocommerce", "order", doc.id)
    [run] = synced.sync("shop", pushes=False, sweep=True).runs
    assert run.status == "partial"
    assert "Is it still the same shop?" in run.problems[0]
    assert synced.head() == head


def test_a_sweep_is_asked_for_on_the_command_line(synced: Any) -> None:
    put(synced, order(NUMBER, "100.00"))
    pulled(synced)
    synced.state.delete("woocommerce", "order", str(NUMBER))
    done = synced.run("sync", "shop", "--sweep", "--no-push")
    assert done.code == 0, done.err
    assert "1 withdrawn" in done.out
    assert revenue(synced, NUMBER) == 0
    explained = synced.run("explain", f"shop:{NUMBER}")
    assert explained.code == 0
    assert "the shop no longer has the order" in explained.out
    refused = synced.run("sync", "meta", "--sweep")
    assert refused.code == 2
    assert "None of these connectors has a stream that can be swept" in refused.err


def test_an_order_edited_many_times_is_booked_as_it_is_last(synced: Any) -> None:
    for minutes, total in enumerate(("10.00", "12.50", "0.00", "8.00", "8.00")):
        put(synced, order(NUMBER, total, modified=NEW + timedelta(minutes=minutes)))
        pulled(synced)
        assert f"{revenue(synced, NUMBER) / 100:.2f}" == total
        assert wrong(synced) == {}
    kinds = [kind for kind, _ in entries(synced)]
    assert kinds == ["sale", "correction", "sale", "cancellation", "sale"]


def test_an_order_that_changes_currency_is_booked_in_the_new_one_alone(synced: Any) -> None:
    put(synced, order(NUMBER, "100.00"))
    pulled(synced)
    sold = order(NUMBER, "100.00", currency="EUR", modified=LATER)
    put(synced, sold)
    put(synced, refund(95001, sold, "40.00"), kind="refund")
    pulled(synced)
    rows = synced.rows(
        "SELECT e.currency, -sum(p.amount_minor) AS amount FROM postings p JOIN entries e ON e.id = p.entry_id"
        " WHERE e.subject = :s AND p.account LIKE 'Revenue:%' GROUP BY 1 ORDER BY 1",
        s=f"order:{NUMBER}",
    )
    assert {row.currency: int(row.amount) for row in rows} == {"EUR": 6000, "PLN": 0}
    assert wrong(synced) == {}


def test_an_order_that_goes_to_another_address_leaves_the_first_person(synced: Any) -> None:
    put(synced, order(NUMBER, "100.00"), order(NUMBER + 1, "50.00"))
    pulled(synced)
    before = persons(synced)
    assert before[str(NUMBER)] == before[str(NUMBER + 1)]
    put(synced, order(NUMBER, "100.00", email="other." + ANNA, modified=LATER))
    pulled(synced)
    now = persons(synced)
    assert now[str(NUMBER)] != now[str(NUMBER + 1)]
    assert set_aside(synced) == []
    assert wrong(synced) == {}
