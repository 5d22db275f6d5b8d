"""Orders in another currency are booked in the reporting currency by the bank's table, once it is read."""

from __future__ import annotations

import csv
import json
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import beancount.loader
import pytest

from connectors.sandbox.state import Doc
from sync.ledger import fx
from tests.integration.flow import test_export as exported
from tests.integration.flow.conftest import World

# Orders in euro and yen, and in a currency that the bank does not quote; the refunds stand in their rows.
MARKET = """
  - name: market
    type: files
    from: 2024-06-01
    options:
      path: market.jsonl
      stream: orders
      id: id
    mapping:
      orders:
        - kind: order
          fields:
            external_id: id
            occurred_at: at
            status: status
            currency: currency
            total_minor: total
        - kind: refund
          each: refunds
          fields:
            external_id: {join: [^.id, id], with: "-"}
            order_id: ^.id
            occurred_at: at
            amount: amount
"""
ORDERS: tuple[tuple[str, str, str, str], ...] = (
    ("MONDAY", "2025-03-03T09:00:00Z", "EUR", "100.01"),
    ("SUNDAY", "2025-03-02T09:00:00Z", "EUR", "0.01"),
    ("NEWYEAR", "2025-01-01T12:00:00Z", "EUR", "59.99"),
    ("NIGHT", "2025-03-03T23:30:00Z", "EUR", "10.00"),  # the fourth in Warsaw
    ("YEN", "2025-03-05T09:00:00Z", "JPY", "15000"),
    ("DINAR", "2025-03-05T09:00:00Z", "KWD", "1.001"),
)
BANK = """
  - name: {name}
    type: {name}
    from: 2024-06-01
    options:
      base_url: {url}/{name}

ledger:
  rates: {name}

identity:
"""


@pytest.fixture
def world(synced: World) -> World:
    """The synced shop, whose config now names the Polish bank; its tables are not read yet."""
    add_bank(synced, "nbp")
    return synced


def add_bank(world: World, name: str) -> None:
    add_market(world)
    name_bank(world, name)


def add_market(world: World) -> None:
    world.edit(("\nidentity:\n", MARKET + "\nidentity:\n"))
    trade(world)
    world.sync("market", pushes=False)


def name_bank(world: World, name: str) -> None:
    world.edit(("\nidentity:\n", BANK.format(name=name, url=world.server.url)))


def trade(world: World, **refunds: list[str]) -> None:
    """Write the market's file, with these refunds by order."""
    rows = [
        {
            "id": id,
            "at": at,
            "status": "completed",
            "currency": currency,
            "total": total,
            "refunds": [
                {"id": number, "at": "2025-04-01T09:00:00Z", "amount": amount}
                for number, amount in enumerate(refunds.get(id, []), start=1)
            ],
        }
        for id, at, currency, total in ORDERS
    ]
    (world.folder / "market.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def sales(world: World) -> list[Any]:
    """Sales in force in euro: order, day in Warsaw, gross in cents. One is the generated shop's own."""
    return world.rows(
        """
        SELECT e.connector, e.subject, e.business_day AS day, -p.amount_minor AS gross
          FROM entries e JOIN postings p ON p.entry_id = e.id AND p.account LIKE 'Revenue:%'
         WHERE e.part = 'sale' AND e.currency = 'EUR' AND e.reverses IS NULL
           AND NOT EXISTS (SELECT FROM entries r WHERE r.reverses = e.id)
         ORDER BY e.subject
        """
    )


def conversions(world: World, part: str = "fx:sale") -> dict[str, Any]:
    """Conversions in force, by order."""
    rows = world.rows(
        """
        SELECT e.*, -p.amount_minor AS gross FROM entries e
          JOIN postings p ON p.entry_id = e.id AND p.account LIKE 'Converted:EUR:Revenue:%'
         WHERE e.part = :part AND e.reverses IS NULL
           AND NOT EXISTS (SELECT FROM entries r WHERE r.reverses = e.id)
        """,
        part=part,
    )
    return {row.subject: row for row in rows}


def test_without_a_table_nothing_is_booked_and_it_is_said(world: World) -> None:
    before = world.head()
    world.sync("shop", pushes=False)
    orders = len(sales(world))
    assert orders >= 5
    assert not conversions(world)
    assert world.head() == before
    status = world.run("status", "--format", "json").json
    assert status["unconverted"]["EUR"]["orders"] == orders
    assert status["waiting"]["convert"] == orders + 2
    assert f"Not booked in PLN: {orders} orders" in world.run("status").err
    [check] = [
        c
        for c in world.run("verify", "--offline", "--format", "json").json
        if c["check"] == "orders converted"
    ]
    assert check["wrong"] == ""
    assert "not read up to its day yet" in check["found"]
    report = world.run("report", "campaigns", "--format", "json").json
    assert report["other_currencies"]["EUR"]["unconverted_orders"] == orders
    assert report["other_currencies"]["EUR"]["converted_minor"] == 0


def test_each_order_is_converted_by_the_table_of_the_last_working_day_before(world: World) -> None:
    report = world.run("report", "campaigns", "--format", "json").json
    world.sync("nbp", pushes=False)
    found = conversions(world)
    assert set(found) == {row.subject for row in sales(world)}
    for row in sales(world):
        entry = found[row.subject]
        [used] = entry.rate
        table = world.row(
            "SELECT * FROM rates WHERE base = 'EUR' AND day < :day ORDER BY day DESC LIMIT 1", day=row.day
        )
        assert (used["table"], used["day"], used["source"]) == (table.table, table.day.isoformat(), "nbp")
        assert table.table.endswith(f"/A/NBP/{table.day.year}")
        assert timedelta(days=1) <= row.day - table.day <= timedelta(days=5)
        assert entry.gross == fx.rounded(Fraction(row.gross) * Fraction(table.rate))
        assert entry.business_day == row.day
        proof = world.row("SELECT * FROM evidence WHERE id = :id", id=entry.evidence_id)
        assert (proof.connector, proof.stream, proof.external_id) == ("nbp", "rates", table.table)
        assert bytes(entry.evidence_sha256) == bytes(proof.sha256)
        assert used["evidence_sha256"] == bytes(proof.sha256).hex()
    after = world.run("report", "campaigns", "--format", "json").json
    converted = sum(net(world).values())
    for name in ("revenue_minor", "shop_gross_minor"):
        assert after["total"][name] - report["total"][name] == converted
    assert sum(sums["converted_minor"] for sums in after["other_currencies"].values()) == converted
    assert after["other_currencies"]["EUR"]["unconverted_orders"] == 0
    assert "of it, from" in world.run("report", "campaigns").out
    assert world.verify() == []
    assert not world.value("SELECT count(*) FROM pending WHERE step IN ('convert', 'book')")


def net(world: World) -> dict[str, int]:
    """The worth of each order's euro that is left, in grosz."""
    rows = world.rows(
        """
        SELECT e.subject, -sum(p.amount_minor)::bigint AS worth FROM entries e JOIN postings p ON p.entry_id = e.id
         WHERE p.account LIKE 'Converted:%:Revenue:%' GROUP BY 1
        """
    )
    return {row.subject: row.worth for row in rows}


def test_days_zones_and_decimals(world: World) -> None:
    """A Monday takes Friday's table, New Year's Day one of December, a yen is worth grosz; a dinar has no rate."""
    world.sync("nbp", pushes=False)
    found = conversions(world)
    days = {id: found[f"order:{id}"].rate[0]["day"] for id in ("MONDAY", "SUNDAY", "NEWYEAR", "NIGHT")}
    assert days == {
        "MONDAY": "2025-02-28",
        "SUNDAY": "2025-02-28",
        "NEWYEAR": "2024-12-31",
        "NIGHT": "2025-03-03",
    }
    yen = world.row("SELECT rate FROM rates WHERE base = 'JPY' AND day = '2025-03-04'").rate
    assert net(world)["order:YEN"] == fx.rounded(15000 * Fraction(yen) * 100)
    assert "order:DINAR" not in net(world)
    [check] = [
        c
        for c in world.run("verify", "--offline", "--format", "json").json
        if c["check"] == "orders converted"
    ]
    assert check["found"] == (
        "1 not booked in PLN; the first: market order:DINAR, as the bank's table does not have its currency"
    )


def test_a_second_sync_changes_nothing(world: World) -> None:
    world.sync("nbp", pushes=False)
    before = world.head()
    world.sync("nbp", "shop", pushes=False)
    assert world.head() == before


def test_a_full_refund_leaves_no_worth_behind(world: World) -> None:
    world.sync("nbp", pushes=False)
    trade(world, MONDAY=["33.33", "33.33"], YEN=["1"])
    world.sync("market", pushes=False)
    sale, back = conversions(world)["order:MONDAY"], conversions(world, "fx:refund:MONDAY-1")["order:MONDAY"]
    assert back.rate == sale.rate, "a refund takes the rate of its sale"
    assert back.business_day == date(2025, 4, 1)
    left = Fraction(10001 - 6666) * Fraction(sale.rate[0]["rate"])
    assert net(world)["order:MONDAY"] == fx.rounded(left)
    assert world.verify() == []
    trade(world, MONDAY=["33.33", "33.33", "33.35"], YEN=["1"])
    world.sync("market", pushes=False)
    assert net(world)["order:MONDAY"] == 0
    assert not world.rows(
        """
        SELECT p.account FROM entries e JOIN postings p ON p.entry_id = e.id
         WHERE e.subject = 'order:MONDAY' GROUP BY 1, e.currency HAVING sum(p.amount_minor) <> 0
        """
    )
    assert world.verify() == []


def test_a_table_that_the_bank_corrects_is_booked_as_a_correction(world: World) -> None:
    world.sync("nbp", pushes=False)
    order = sales(world)[0]
    before = conversions(world)[order.subject]
    [used] = before.rate
    day = date.fromisoformat(used["day"])
    world.state.put("nbp", "rates", [Doc(used["day"], {"EUR": "5.0000"}, at=0, changed=0)])
    done = world.run("backfill", "nbp", "--from", str(day), "--to", str(day + timedelta(days=1)))
    assert done.code == 0, done.err
    after = conversions(world)[order.subject]
    assert after.id != before.id
    assert after.gross == 5 * order.gross
    assert after.rate[0]["rate"] in ("5.0000", "5")
    back = world.row("SELECT * FROM entries WHERE reverses = :id", id=before.id)
    assert (back.kind, back.reason) == ("correction", "another rate holds")
    assert back.rate == before.rate
    assert world.verify() == []


def test_the_european_bank_converts_as_well(synced: World) -> None:
    add_bank(synced, "ecb")
    synced.sync("ecb", pushes=False)
    found = conversions(synced)
    assert set(found) == {row.subject for row in sales(synced)}
    assert all(entry.rate[0]["table"] == f"ECB {entry.rate[0]['day']}" for entry in found.values())
    assert synced.verify() == []


def test_a_table_in_quarantine_is_not_stepped_over(world: World) -> None:
    order = sales(world)[0]
    day = order.day - timedelta(days=1)
    while day.weekday() > 4:
        day -= timedelta(days=1)
    world.state.put("nbp", "rates", [Doc(str(day), {"EUR": '"none"'}, at=0, changed=0)])
    world.sync("nbp", pushes=False)
    assert world.value("SELECT count(*) FROM quarantine WHERE connector = 'nbp'") == 1
    assert not conversions(world)
    [check] = [
        c
        for c in world.run("verify", "--offline", "--format", "json").json
        if c["check"] == "orders converted"
    ]
    assert "in quarantine" in check["found"]


def test_conversions_balance_on_the_other_side_as_well(world: World, tmp_path: Path) -> None:
    world.sync("nbp", pushes=False)
    for form in ("beancount", "hledger", "csv"):
        exported.export(world, form, tmp_path / form, days=None)
    loaded, errors, _ = beancount.loader.load_file(str(tmp_path / "beancount"))
    assert errors == []
    held = exported.without_zeroes(exported.held(world, date.max))
    assert any(account.startswith("Converted:JPY:Unattributed:") for account, _ in held)
    assert exported.without_zeroes(exported.inventory_by_account(loaded)) == held
    exported.check(exported.hledger(), "-f", str(tmp_path / "hledger"), "check", "--strict", "ordereddates")
    assert "1 EUR = " in (tmp_path / "csv").read_text()


def test_a_rate_that_comes_after_the_close_counts_in_the_open_period(synced: World, tmp_path: Path) -> None:
    """And exports have it where it counts; decisions are rows without an amount."""
    add_market(synced)
    closed = synced.run("ledger", "close", "2025-03", "--why", "signed")
    assert closed.code == 0, closed.out + closed.err
    name_bank(synced, "nbp")
    synced.sync("nbp", pushes=False)
    late = {
        row.id
        for row in synced.rows("SELECT id FROM entries WHERE posted_on <> business_day AND kind = 'fx'")
    }
    assert late
    assert conversions(synced)["order:MONDAY"].posted_on == date(2025, 4, 1)
    for days, until in (("2025-03", date(2025, 4, 1)), ("2025-04", date(2025, 5, 1)), (None, date.max)):
        name = days or "all"
        file = exported.export(synced, "beancount", tmp_path / f"{name}.beancount", days=days)
        loaded, errors, _ = beancount.loader.load_file(str(file))
        assert errors == []
        held = exported.without_zeroes(exported.held(synced, until))
        assert exported.without_zeroes(exported.inventory_by_account(loaded)) == held
        numbers = {int(entry.meta["entry"]) for entry in loaded if "entry" in entry.meta}
        assert late & numbers == (set() if days == "2025-03" else late)
        journal = exported.export(synced, "hledger", tmp_path / name, days=days)
        exported.check(exported.hledger(), "-f", str(journal), "check", "--strict", "ordereddates")
    rows = list(
        csv.DictReader(exported.export(synced, "csv", tmp_path / "all.csv", days=None).open(newline=""))
    )
    [memo] = [row for row in rows if row["kind"] == "close"]
    assert (memo["account"], memo["amount"], memo["amount_minor"]) == ("", "", "")
    assert ", policy: policy:1 (" in (tmp_path / "all.beancount").read_text()
    for form in ("parquet", "xlsx"):
        exported.export(synced, form, tmp_path / f"all.{form}", days=None)
    assert synced.verify() == []


def test_orders_that_wait_for_a_rate_hold_a_close_up(world: World) -> None:
    world.sync("market", pushes=False)
    done = world.run("ledger", "close", "2025-03", "--why", "signed")
    assert done.code == 1
    assert "convert" in done.out + done.err


def test_an_edited_rate_is_found(world: World) -> None:
    world.sync("nbp", pushes=False)
    entry = conversions(world)[sales(world)[0].subject]
    with world.engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.exec_driver_sql(
            "UPDATE entries SET rate = jsonb_set(rate, '{0,rate}', '\"4.0000\"') WHERE id = %s", (entry.id,)
        )
    [wrong] = [check for check in world.verify() if check.name == "chain"]
    assert f"entry {entry.id} " in wrong.wrong


def test_a_config_that_names_no_bank_is_refused(world: World, tmp_path: Path) -> None:
    world.edit(("ledger:\n  rates: nbp", "ledger:\n  rates: shop"))
    done = world.run("status")
    assert done.code == 2
    assert "reads no rates of exchange; these do: market, nbp" in done.err.replace("\n", " ")
