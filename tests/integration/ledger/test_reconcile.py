"""`ledger reconcile` over the sandbox's HTTP: nothing after a sync; then each kind of difference, with its cause."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from connectors.contract import ControlItem
from connectors.sandbox import shop_changes
from connectors.sandbox.shop_documents import Shop, dates, minor, money
from connectors.sandbox.state import Doc, Fault
from sync.ledger import reconcile_store
from sync.ledger.reconcile import reconcile
from sync.ledger.reconcile_shop import Shop as Connected
from sync.report.period import parse
from tests.integration.flow.conftest import AS_OF, World, shop, synced, synced_once

__all__ = ["shop", "synced", "synced_once"]  # fixtures

Items = Callable[[list[ControlItem]], list[ControlItem]]
PERIOD = "2024-06-01..2025-06-01"
WARSAW = Shop("PLN", ZoneInfo("Europe/Warsaw"), 23)
REPAIR = f"leadledger ledger reconcile --period {PERIOD} --connector shop --repair"
CHANGED = ("changed in the shop since the last sync", "leadledger sync shop")


def reconciled(world: World, *more: str, code: int | None = None, period: str = PERIOD) -> dict[str, Any]:
    printed = world.run("ledger", "reconcile", "--period", period, "--format", "json", *more)
    [result] = printed.json
    assert printed.code == (5 if result["differences"] else 0)
    assert code is None or printed.code == code
    return dict(result)


def differences(world: World) -> list[dict[str, Any]]:
    return list(reconciled(world)["differences"])


def only(world: World) -> dict[str, Any]:
    [row] = differences(world)
    return row


def why(row: dict[str, Any]) -> tuple[str, str]:
    return row["cause"], row["todo"]


def a_sale(world: World, *, refunded: bool = False) -> Doc:
    """A sale in the middle of the period."""
    docs, _ = world.state.select("woocommerce", "order", order="at")
    found = [
        doc
        for doc in docs
        if doc.body["status"] == "completed"
        and bool(doc.body["refunds"]) is refunded
        and doc.at < (AS_OF - timedelta(days=40)).timestamp()
    ]
    return found[len(found) // 2]


def put(world: World, order: Doc, *, silently: bool = False, **fields: Any) -> Doc:
    """The order with other fields; `silently`: its time of change stays."""
    if silently:
        after = replace(order, body={**order.body, **fields})
    else:
        after = shop_changes.modified(order, datetime.now(UTC), WARSAW, **fields)
    world.state.put("woocommerce", "order", [after])
    return after


def another(world: World, order: Doc, number: int, at: datetime, *, changed: datetime | None = None) -> Doc:
    """A copy of the order under another number, placed at another time."""
    moment = changed or at
    body = {
        **order.body,
        "id": number,
        "number": str(number),
        **dates("created", at, WARSAW.zone),
        **dates("modified", moment, WARSAW.zone),
    }
    doc = Doc(str(number), body, at=at.timestamp(), changed=moment.timestamp())
    world.state.put("woocommerce", "order", [doc])
    return doc


def behind_the_triggers(world: World, *statements: str) -> None:
    with world.engine.begin() as connection:
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            connection.execute(sa.text(statement))


# no difference


def test_nothing_differs_after_a_sync(synced: World) -> None:
    result = reconciled(synced, code=0)
    assert result["differences"] == []
    assert result["road"]["own_totals"].startswith("used: on each of 366 days")
    assert result["last_entry"] == synced.head()[0]
    docs, _ = synced.state.select("woocommerce", "order")
    sold = [doc for doc in docs if doc.body["status"] in ("completed", "processing", "refunded")]
    assert sum(line["shop"]["orders"] for line in result["totals"]) == len(sold)
    for name, field in (
        ("gross_minor", "total"),
        ("tax_minor", "total_tax"),
        ("shipping_minor", "shipping_total"),
    ):
        whole = sum(minor(doc.body[field]) for doc in sold)
        assert sum(line["shop"][name] for line in result["totals"]) == whole
    given_back = sum(minor(doc.body["amount"]) for doc in synced.state.select("woocommerce", "refund")[0])
    assert given_back > 0
    for name in ("refunds_minor", "refunded_minor"):
        assert sum(line["shop"][name] for line in result["totals"]) == given_back
    assert all(line["shop"] == line["journal"] for line in result["totals"])
    assert {line["currency"] for line in result["totals"]} >= {"PLN"}


def test_what_is_printed(synced: World) -> None:
    printed = synced.run("ledger", "reconcile", "--period", PERIOD)
    assert printed.code == 0
    assert "No difference." in printed.out
    printed = synced.run("ledger", "reconcile", "--period", PERIOD, "--format", "csv")
    assert printed.out.splitlines()[0] == "connector,subject,kind,day,shop,journal,cause,todo"
    put(synced, a_sale(synced), status="cancelled")
    printed = synced.run("ledger", "reconcile", "--period", PERIOD)
    assert printed.code == 5
    assert "1 differences." in printed.out
    printed = synced.run("ledger", "reconcile", "--period", PERIOD, "--format", "csv")
    assert "changed in the shop since the last sync" in printed.out.splitlines()[1]


def test_a_connector_that_is_no_shop(synced: World) -> None:
    printed = synced.run("ledger", "reconcile", "--period", PERIOD, "--connector", "meta")
    assert printed.code == 2
    assert "None of these connectors is a shop" in printed.err


def test_only_the_period_is_compared(synced: World) -> None:
    order = a_sale(synced)
    synced.state.delete("woocommerce", "order", order.id)
    day = datetime.fromtimestamp(order.at, WARSAW.zone).date()
    before, after = day - timedelta(days=1), day + timedelta(days=1)
    assert reconciled(synced, period=f"{before}..{before}")["differences"] == []
    assert reconciled(synced, period=f"{after}..{after}")["differences"] == []
    assert len(reconciled(synced, period=str(day))["differences"]) == 1


# the shop's own totals


def test_analytics_that_have_not_run_are_not_used(synced: World) -> None:
    synced.state.put("woocommerce", "setting", [Doc("analytics_until", {"value": 0}, at=0, changed=0)])
    result = reconciled(synced, code=0)
    assert result["road"]["own_totals"].startswith("not used: on the day from")
    assert "they count 0 orders, and the shop shows 1" in result["road"]["own_totals"]


def test_analytics_that_are_refused_are_not_used(synced: World) -> None:
    synced.fault("woocommerce", "/wp-json/wc-analytics/", 403, body='{"code": "rest_forbidden"}')
    assert reconciled(synced, code=0)["road"]["own_totals"].startswith("not used: ")


def test_analytics_whose_count_agrees_and_whose_money_does_not(synced: World) -> None:
    order = a_sale(synced)
    day = datetime.fromtimestamp(order.at, WARSAW.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    orders = [
        doc
        for doc in synced.state.select("woocommerce", "order")[0]
        if day.timestamp() <= doc.at < (day + timedelta(days=1)).timestamp()
        and doc.body["status"] != "cancelled"
    ]
    gross = sum(minor(doc.body["total"]) for doc in orders)
    start, last = day.astimezone(UTC), (day + timedelta(days=1, seconds=-1)).astimezone(UTC)
    said = {
        "intervals": [
            {
                "date_start_gmt": f"{start:%Y-%m-%d %H:%M:%S}",
                "date_end_gmt": f"{last:%Y-%m-%d %H:%M:%S}",
                "subtotals": {"orders_count": len(orders), "total_sales": gross / 100 + 0.01, "refunds": 0},
            }
        ]
    }
    synced.state.inject(Fault("woocommerce", "/wp-json/wc-analytics/", 200, {}, json.dumps(said)))
    [row] = reconciled(synced, period=f"{day:%Y-%m-%d}", code=5)["differences"]
    assert row["kind"] == "shop's own total"
    assert row["subject"] == f"gross of the day from {start:%Y-%m-%d %H:%M} UTC"
    assert row["cause"] == "the shop's own totals are behind its orders"


# orders


def test_an_order_placed_since_the_last_sync(synced: World) -> None:
    order = another(synced, a_sale(synced), 99_001, AS_OF - timedelta(days=60), changed=datetime.now(UTC))
    row = only(synced)
    assert (row["kind"], row["subject"]) == ("missing here", "order 99001")
    assert (row["shop"], row["journal"]) == (f"{Decimal(order.body['total']):,f} PLN", "nothing")
    assert why(row) == CHANGED
    synced.sync("shop", pushes=False)
    assert differences(synced) == []


def test_an_order_that_the_sync_passed_and_its_repair(synced: World) -> None:
    another(synced, a_sale(synced), 99_001, AS_OF - timedelta(days=60))
    row = only(synced)
    assert row["kind"] == "missing here"
    assert why(row) == ("the sync passed its time of change without seeing it", REPAIR)
    synced.sync("shop", pushes=False)
    assert only(synced) == row, "the cursor does not show it"
    assert reconciled(synced, "--repair", code=0)["differences"] == []
    assert synced.verify() == []


def test_an_order_before_the_first_day_of_the_config(synced: World) -> None:
    at = datetime(2024, 5, 31, 12, tzinfo=UTC)
    another(synced, a_sale(synced), 99_001, at)
    [row] = reconciled(synced, period="2024-05")["differences"]
    assert why(row) == (
        "placed before the first day that the config reads (from:)",
        "leadledger backfill shop --from 2024-05-31 --to 2024-05-31",
    )


def test_a_deleted_order_and_its_repair(synced: World) -> None:
    order = a_sale(synced)
    synced.state.delete("woocommerce", "order", order.id)
    row = only(synced)
    assert (row["kind"], row["order_id"], row["shop"]) == ("missing there", order.id, "nothing")
    assert why(row) == ("deleted for good in the shop: it is not in its trash either", REPAIR)
    assert reconciled(synced, "--repair", code=0)["differences"] == []
    reasons = synced.rows(
        "SELECT reason FROM entries WHERE subject = :s AND reverses IS NOT NULL", s=f"order:{order.id}"
    )
    assert [row.reason for row in reasons] == ["the shop no longer has the order"]
    body = synced.value(
        "SELECT body FROM evidence WHERE external_id = :id ORDER BY id DESC LIMIT 1", id=order.id
    )
    assert b"woocommerce_rest_shop_order_invalid_id" in bytes(body)
    assert synced.verify() == []
    synced.sync("shop", pushes=False)
    assert differences(synced) == []


@pytest.mark.parametrize("status", ["trash", "cancelled"])
def test_an_order_that_is_no_sale_any_more(synced: World, status: str) -> None:
    order = put(synced, a_sale(synced), status=status)
    row = only(synced)
    assert (row["kind"], row["order_id"], row["shop"]) == ("status", order.id, status)
    assert why(row) == CHANGED


def test_an_order_trashed_without_a_trace(synced: World) -> None:
    put(synced, a_sale(synced), silently=True, status="trash")
    assert why(only(synced)) == ("put into the shop's trash without its time of change moving", REPAIR)
    assert reconciled(synced, "--repair", code=0)["differences"] == []


def test_a_paid_status_that_the_policy_does_not_know(synced: World) -> None:
    order = a_sale(synced)
    put(synced, order, status="shipped")
    synced.sync("shop", pushes=False)
    row = only(synced)
    assert (row["kind"], row["journal"]) == ("status", "nothing")
    assert why(row) == (
        "paid in the shop, and its status 'shipped' is not among paid_statuses of the policy",
        "add it to paid_statuses in the config, then: leadledger sync shop",
    )


@pytest.mark.parametrize(
    ("kind", "field"), [("amount", "total"), ("tax", "total_tax"), ("shipping", "shipping_total")]
)
@pytest.mark.parametrize("silently", [False, True])
def test_an_edited_amount(synced: World, kind: str, field: str, silently: bool) -> None:
    order = a_sale(synced)
    dearer = money(minor(order.body[field]) + 1)
    put(synced, order, silently=silently, **{field: dearer})
    rows = differences(synced)
    [row] = [r for r in rows if r["order_id"]]
    assert (row["kind"], row["order_id"]) == (kind, order.id)
    assert (row["shop"], row["journal"]) == (
        f"{Decimal(dearer):,f} PLN",
        f"{Decimal(order.body[field]):,f} PLN",
    )
    if silently:
        assert row["cause"].startswith("edited in the shop without its time of change moving")
        assert reconciled(synced, "--repair", code=0)["differences"] == []
    else:
        assert why(row) == CHANGED


def test_another_currency(synced: World) -> None:
    order = put(synced, a_sale(synced), currency="EUR")
    row = only(synced)
    assert (row["kind"], row["order_id"], row["shop"], row["journal"]) == ("currency", order.id, "EUR", "PLN")
    assert why(row) == CHANGED


def test_an_amount_that_cannot_be_read(synced: World) -> None:
    """It is set aside when it is read; what was booked of it stays."""
    order = put(synced, a_sale(synced), total="a lot")
    synced.sync("shop", pushes=False)
    [row] = [row for row in differences(synced) if row["order_id"]]
    number = synced.value("SELECT id FROM quarantine WHERE external_id = :id", id=order.id)
    assert (row["kind"], row["shop"]) == ("amount", "not to be read")
    assert why(row) == (
        f"set aside in quarantine as {number}: total_minor",
        f"leadledger quarantine show {number}",
    )


def test_a_new_order_in_quarantine_and_one_dropped(synced: World) -> None:
    order = a_sale(synced)
    doc = another(synced, order, 99_001, AS_OF - timedelta(days=60), changed=datetime.now(UTC))
    put(synced, doc, currency="???")
    synced.sync("shop", pushes=False)
    put(synced, doc)  # right again in the shop, and not read yet
    row = only(synced)
    number = synced.value("SELECT id FROM quarantine WHERE external_id = '99001'")
    assert row["kind"] == "missing here"
    assert row["cause"] == f"set aside in quarantine as {number}: currency"
    assert synced.run("quarantine", "drop", str(number), "--why", "a test").code == 0
    assert why(only(synced)) == (f"dropped from quarantine as {number}: a test", REPAIR)
    assert reconciled(synced, "--repair", code=0)["differences"] == []


def test_a_mapping_that_reads_another_time_zone(synced: World) -> None:
    """An order placed half an hour before midnight in Warsaw counts on the next day when that is read as UTC."""
    at = datetime(2025, 3, 10, 23, 30, tzinfo=WARSAW.zone)
    order = another(synced, a_sale(synced), 99_001, at, changed=datetime.now(UTC))
    synced.edit(
        (
            "    type: woocommerce\n",
            "    type: woocommerce\n    mapping:\n      orders:\n        order:\n"
            "          occurred_at: {path: date_created, zone: America/New_York}\n",
        )
    )
    synced.sync("shop", pushes=False)
    [row] = [r for r in differences(synced) if r["order_id"] == order.id]
    assert (row["kind"], row["shop"], row["journal"]) == ("day", "2025-03-10", "2025-03-11")
    assert row["cause"] == "booked +5 h off the shop's time: the mapping reads it in another time zone"
    assert row["todo"].startswith("set zone: of occurred_at in the mapping of shop")


def test_a_day_at_the_edge_of_the_period_is_named_as_such(synced: World) -> None:
    """Placed on the last day of March in the shop, booked on the first of April: both months name the day."""
    at = datetime(2025, 3, 31, 23, 30, tzinfo=WARSAW.zone)
    order = another(synced, a_sale(synced), 99_001, at, changed=datetime.now(UTC))
    synced.sync("shop", pushes=False)
    behind_the_triggers(
        synced,
        "UPDATE entries SET business_day = '2025-04-01', posted_on = '2025-04-01',"
        f" happened_at = happened_at + interval '1 hour' WHERE subject = 'order:{order.id}'",
    )
    for month in ("2025-03", "2025-04"):
        [row] = reconciled(synced, period=month)["differences"]
        assert (row["kind"], row["shop"], row["journal"]) == ("day", "2025-03-31", "2025-04-01")
        assert "booked +1 h off the shop's time" in row["cause"]


def test_an_order_booked_far_away_is_not_missing(synced: World) -> None:
    order = a_sale(synced)
    behind_the_triggers(
        synced,
        "UPDATE entries SET business_day = business_day - 30, posted_on = posted_on - 30,"
        f" happened_at = happened_at - interval '30 days' WHERE subject = 'order:{order.id}'",
    )
    assert only(synced)["kind"] == "day"
    day = datetime.fromtimestamp(order.at, WARSAW.zone).date()
    for there, shown in ((day, str(day)), (day - timedelta(days=30), str(day))):
        [row] = reconciled(synced, period=str(there))["differences"]
        assert (row["kind"], row["shop"], row["journal"]) == ("day", shown, str(day - timedelta(days=30)))


def test_a_journal_that_was_tampered_with(synced: World) -> None:
    order = a_sale(synced)
    behind_the_triggers(
        synced,
        "UPDATE postings SET amount_minor = amount_minor * 2 WHERE entry_id ="
        f" (SELECT id FROM entries WHERE subject = 'order:{order.id}' AND part = 'sale')",
    )
    row = only(synced)
    assert row["kind"] == "amount"
    assert why(row) == ("the journal differs from the record it was booked from", "leadledger verify")


def test_a_journal_that_lacks_an_entry(synced: World) -> None:
    order = a_sale(synced)
    entry = f"(SELECT id FROM entries WHERE subject = 'order:{order.id}')"
    behind_the_triggers(
        synced,
        f"DELETE FROM postings WHERE entry_id IN {entry}",
        f"DELETE FROM entries WHERE id IN {entry}",
    )
    row = only(synced)
    assert row["kind"] == "missing here"
    assert why(row) == ("its record is here, and no entry: the journal lacks it", "leadledger verify")


def test_an_order_that_waits_for_a_step(synced: World) -> None:
    order = a_sale(synced)
    entry = f"(SELECT id FROM entries WHERE subject = 'order:{order.id}')"
    behind_the_triggers(
        synced,
        f"DELETE FROM postings WHERE entry_id IN {entry}",
        f"DELETE FROM entries WHERE id IN {entry}",
        f"INSERT INTO pending (step, kind, connector, ref) VALUES ('book', 'order', 'shop', '{order.id}')",
    )
    assert why(only(synced)) == ("read, and waits for the step book", "leadledger sync")


# refunds


def refund(world: World, order: Doc, *, at: datetime, changed: bool = True) -> str:
    number = world.state.next_number("woocommerce", "refund") + 50_000
    made, after = shop_changes.refund_docs(
        order, number=number, at=at, gross=100, reason="Returned", shop=WARSAW
    )
    world.state.put("woocommerce", "refund", [made])
    world.state.put("woocommerce", "order", [after if changed else replace(after, changed=order.changed)])
    return str(number)


def test_a_refund_since_the_last_sync(synced: World) -> None:
    order = a_sale(synced)
    number = refund(synced, order, at=datetime.now(UTC))
    row = only(synced)
    assert (row["kind"], row["subject"]) == ("refunds", f"order {order.id}"), (
        "its own day is not in the period"
    )
    assert why(row) == CHANGED
    today = f"{datetime.now(WARSAW.zone):%Y-%m-%d}"
    [row] = reconciled(synced, period=today)["differences"]
    assert (row["kind"], row["subject"]) == ("missing here", f"refund {number} of order {order.id}")
    assert why(row) == ("given back since the last sync", "leadledger sync shop")
    synced.sync("shop", pushes=False)
    assert reconciled(synced, period=today, code=0)["differences"] == []
    assert differences(synced) == []


def test_a_refund_that_the_sync_passed(synced: World) -> None:
    """In the period, and named by itself: the order is not named besides."""
    order = a_sale(synced)
    refund(synced, order, at=AS_OF - timedelta(days=30))
    row = only(synced)
    assert row["kind"] == "missing here"
    assert why(row) == ("the sync passed it without seeing it", REPAIR)
    assert reconciled(synced, "--repair", code=0)["differences"] == []


def test_a_refund_deleted_in_the_shop(synced: World) -> None:
    [made, *_], _ = synced.state.select("woocommerce", "refund", limit=1)
    synced.state.delete("woocommerce", "refund", made.id)
    row = only(synced)
    assert (row["kind"], row["refund_id"], row["shop"]) == ("missing there", made.id, "nothing")
    assert why(row) == ("deleted in the shop: it does not show this refund any more", REPAIR)
    order = synced.state.get("woocommerce", "order", made.parent)
    assert order is not None
    left = [r for r in order.body["refunds"] if r["id"] != int(made.id)]
    put(synced, order, refunds=left, status="completed")
    assert reconciled(synced, "--repair", code=0)["differences"] == []
    assert synced.verify() == []


def test_a_refund_of_another_amount(synced: World) -> None:
    [made, *_], _ = synced.state.select("woocommerce", "refund", limit=1)
    amount = money(minor(made.body["amount"]) - 1)
    synced.state.put("woocommerce", "refund", [replace(made, body={**made.body, "amount": amount})])
    [row] = [row for row in differences(synced) if row["order_id"]]
    assert (row["kind"], row["refund_id"]) == ("refunds", made.id)
    assert row["cause"].startswith("edited in the shop")


def test_a_refund_of_what_is_no_sale_is_no_difference(synced: World) -> None:
    docs, _ = synced.state.select("woocommerce", "order", order="at")
    order = next(doc for doc in docs if doc.body["status"] == "cancelled")
    refund(synced, order, at=AS_OF - timedelta(days=30))
    result = reconciled(synced, code=0)
    assert all(line["shop"] == line["journal"] for line in result["totals"])


def test_refunds_that_an_order_does_not_show_are_asked_for(synced: World) -> None:
    """Some versions leave `refunds` empty where the status says refunded."""
    docs, _ = synced.state.select("woocommerce", "order")
    order = next(doc for doc in docs if doc.body["status"] == "refunded")
    put(synced, order, silently=True, refunds=[])
    assert differences(synced) == []


def test_refunds_finer_than_their_currency(synced: World) -> None:
    """Shops write yen with decimals: two refunds of 0.60 are one yen in all, and the second is booked as nothing."""
    order = another(synced, a_sale(synced), 99_001, AS_OF - timedelta(days=60))
    for name in ("total_tax", "shipping_total", "shipping_tax"):
        order = put(synced, order, **{name: "0.00"})
    order = put(synced, order, currency="JPY", total="1000.20", line_items=[], shipping_lines=[])
    for number in (60_001, 60_002):
        made, order = shop_changes.refund_docs(
            order, number=number, at=AS_OF - timedelta(days=30), gross=60, reason="", shop=WARSAW
        )
        synced.state.put("woocommerce", "refund", [made])
        synced.state.put("woocommerce", "order", [replace(order, changed=datetime.now(UTC).timestamp())])
    assert reconciled(synced, "--repair", code=0)["differences"] == []
    booked = synced.rows("SELECT part FROM entries WHERE subject = 'order:99001' ORDER BY part")
    assert [row.part for row in booked] == ["refund:60001", "sale"]
    lines = [line for line in reconciled(synced)["totals"] if line["currency"] == "JPY"]
    assert [line["shop"]["gross_minor"] for line in lines if line["shop"]["orders"]] == [1000]
    behind_the_triggers(
        synced,
        "UPDATE postings SET amount_minor = amount_minor * 3 WHERE entry_id ="
        " (SELECT id FROM entries WHERE part = 'refund:60001')",
    )
    assert {row["kind"] for row in differences(synced)} == {"refunds"}


def of_a_plain_shop(world: World, items: Items, *, period: str = PERIOD) -> dict[str, Any]:
    """What comes of a shop that shows its orders by creation and nothing else, each list of them as `items` makes
    it."""

    class Plain:
        def __init__(self, source: Any) -> None:
            self.source = source

        def control_items(self, since: datetime, until: datetime) -> Iterator[ControlItem]:
            yield from items(list(self.source.control_items(since, until)))

    with (
        world.opened() as workspace,
        workspace.connected("shop") as connected,
        workspace.engine.begin() as connection,
    ):
        return reconcile(
            connection,
            Connected("shop", Plain(connected.source()), {"order": ["orders"], "refund": ["refunds"]}, AS_OF),
            period=parse(period),
            named=period,
            policy=workspace.rules.policy(1),
            zone=workspace.zone,
            now=AS_OF,
            say=workspace.say,
        )


def test_what_came_last_is_how_the_shop_shows_it(synced: World) -> None:
    """An order that moves in the list while it is read comes twice."""
    order = a_sale(synced)

    def moving(items: list[ControlItem]) -> list[ControlItem]:
        stale = [replace(item, status="cancelled") for item in items if item.external_id == order.id]
        return [*stale, *items]

    result = of_a_plain_shop(synced, moving)
    assert result["differences"] == []
    assert result["road"]["own_totals"] == "not used: this kind of shop gives none"
    assert result["road"]["refunds"] == "as the orders show them"


def test_a_shop_that_shows_no_single_orders(synced: World) -> None:
    """A day at the edge of the period is named all the same; what is gone may be on another day."""
    order = a_sale(synced)
    day = datetime.fromtimestamp(order.at, WARSAW.zone).date()

    gone = of_a_plain_shop(
        synced, lambda items: [i for i in items if i.external_id != order.id], period=str(day)
    )
    [row] = gone["differences"]
    assert row["kind"] == "missing there"
    assert row["cause"] == "deleted in the shop, or placed on another day there"
    behind_the_triggers(
        synced,
        "UPDATE entries SET business_day = business_day + 1, posted_on = posted_on + 1"
        f" WHERE subject = 'order:{order.id}'",
    )
    next_day = day + timedelta(days=1)
    [row] = [
        row
        for row in of_a_plain_shop(synced, list, period=str(next_day))["differences"]
        if row["order_id"] == order.id
    ]
    assert (row["kind"], row["shop"], row["journal"]) == ("day", str(day), str(next_day))
    assert row["cause"] == "booked while the workspace had another time zone"


def test_a_refund_of_another_period_that_the_sync_passed(synced: World) -> None:
    """Only the order shows it: its own day is not in the period. The order names the refunds to read."""
    order = a_sale(synced)
    refund(synced, order, at=AS_OF - timedelta(days=20))
    day = f"{datetime.fromtimestamp(order.at, WARSAW.zone):%Y-%m-%d}"
    [row] = reconciled(synced, period=day)["differences"]
    assert (row["kind"], row["subject"]) == ("refunds", f"order {order.id}")
    assert reconciled(synced, "--repair", period=day, code=0)["differences"] == []
    assert differences(synced) == []


# closing


def test_a_difference_stands_in_the_way_of_closing(synced: World) -> None:
    order = a_sale(synced)
    put(synced, order, silently=True, total=money(minor(order.body["total"]) + 1))
    printed = synced.run("ledger", "close", "2025-05", "--why", "a test")
    assert printed.code == 1
    assert "differences from shop's own orders" in " ".join(printed.out.split())
    assert synced.value("SELECT count(*) FROM periods") == 0


def test_a_close_keeps_what_the_shop_said(synced: World) -> None:
    printed = synced.run("ledger", "close", "2025-05", "--why", "a test")
    assert printed.code == 0, printed.out
    body = synced.value("SELECT body FROM periods")
    kept = body["reconciled"]["shop"]
    assert kept["differences"] == []
    assert kept["last_entry"] == body["last_entry"]
    assert sum(line["shop"]["orders"] for line in kept["totals"]) > 0
    # What is learnt later of a closed day counts later, and is found with the day on which it happened.
    order = a_sale(synced)
    put(synced, order, total=money(minor(order.body["total"]) + 500))
    assert why(only(synced)) == CHANGED
    synced.sync("shop", pushes=False)
    closed = reconciled(synced, code=0, period="2024-06-01..2025-05-31")
    assert closed["restated"] == [{"currency": "PLN", "later_minor": 500, "earlier_minor": 0}]
    assert all(line["shop"] == line["journal"] for line in closed["totals"])
    after = reconciled(synced, code=0, period="2025-06")
    assert after["restated"] == [{"currency": "PLN", "later_minor": 0, "earlier_minor": 500}]


TEN_YEARS = (
    """
    INSERT INTO entries (id, kind, connector, subject, part, generation, currency, happened_at, business_day, posted_on,
                         booked_at, reason, author, prev_hash, hash)
    SELECT 1000000 + n, 'sale', 'shop', 'order:old' || n, CASE WHEN n % 10 = 0 THEN 'refund:' || n ELSE 'sale' END, 1,
           'PLN', date '2014-01-01' + n / 10, date '2014-01-01' + n / 10, date '2014-01-01' + n / 10, now(), '', '',
           '', ''
      FROM generate_series(1, 36500) AS n
    """,
    """
    INSERT INTO postings (entry_id, line, account, amount_minor)
    SELECT 1000000 + n, line, 'Revenue:Shop:shop', 1 - 2 * line
      FROM generate_series(1, 36500) AS n, generate_series(0, 1) AS line
    """,
    "ANALYZE entries, postings",
)


def test_the_cost_is_that_of_the_period(synced: World) -> None:
    """In a journal of ten years, a month is found by its indexes: no step reads all of it."""
    behind_the_triggers(synced, *TEN_YEARS)
    named = {
        "connector": "shop",
        "since": "2025-03-01",
        "until": "2025-04-01",
        "revenue": "Revenue:Shop:shop",
        "tax": "Tax:Shop:shop",
        "shipping": "Shipping:Shop:shop",
    }
    with synced.engine.connect() as connection:
        reconcile_store.begin(connection)
        for statement in (
            reconcile_store._BOOK_ORDERS,
            reconcile_store._BOOK_REFUNDS,
            reconcile_store._ELSEWHERE,
        ):
            lines = connection.execute(sa.text(f"EXPLAIN {statement.text}"), named)
            plan = "\n".join(line[0] for line in lines)
            assert "ix_entries_late" in plan, plan
            assert "ix_entries_posted_on" in plan, plan
            assert "Seq Scan on entries" not in plan, plan
            assert "Seq Scan on postings" not in plan, plan
        connection.rollback()
