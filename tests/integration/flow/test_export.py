"""The books in other programs: each reads the file, finds that it balances, and says what the database says."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import beancount.loader
import duckdb
import openpyxl
import pytest
from beancount.core import data as beans
from beancount.core import inventory

from mappings.currencies import exponent
from sync.export import names
from tests.integration.flow.conftest import World, _copy

PERIOD = "2025-04..2025-05"
SINCE, UNTIL = date(2025, 4, 1), date(2025, 6, 1)
DAYS = "2025-04-01..2025-05-31"
WITHIN_S = 120
Balances = dict[tuple[str, str], int]

# Orders in yen (no decimals) and dinars (three), of campaigns whose names no other program takes as they are.
MARKET = """
  - name: market-x_2
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
            status: {const: completed}
            currency: currency
            total_minor: total
            email: email
        - kind: lead
          fields: &seen
            external_id: id
            occurred_at: seen
            email: email
            campaign_name: campaign
        - kind: touch
          fields:
            <<: *seen
            kind: {const: form}
        - kind: refund
          when: {path: refund, present: true}
          fields:
            external_id: id
            order_id: id
            occurred_at: refunded
            amount: refund
            reason: why
"""
CAMPAIGNS = ["=1+1;  x", "Łódź 100%", "a:b|c", "-", "日本 春"]


def market() -> Iterator[dict[str, Any]]:
    for number in range(40):
        day = f"{2 + number // 10:02d}-{1 + number % 28:02d}"
        currency, total = (
            ("JPY", f"{1000 + number}") if number % 2 else ("KWD", f"{number}.{number:03d}5"[:-1])
        )
        order = {
            "id": f"M{number}",
            "at": f"2025-{day}T22:30:00Z",  # the next day in Warsaw
            "seen": f"2025-{day}T08:00:00Z",
            "currency": currency,
            "total": total,
            "email": f"buyer{number}@example.com",
            "campaign": CAMPAIGNS[number % len(CAMPAIGNS)],
        }
        if number % 4 == 3:
            order |= {
                "refund": "77",
                "refunded": f"2025-{day}T22:45:00Z",
                "why": '=cmd|"x"\nnot\\liked; a, b',
            }
        yield order


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, postgres: str, synced_once: World) -> Iterator[World]:
    """The generated shop, synced, with orders in currencies of 0 and 3 decimals beside those of 2."""
    with _copy(synced_once, tmp_path_factory.mktemp("exported") / "world", postgres) as copied:
        copied.edit(("identity:\n", f"{MARKET.lstrip()}\nidentity:\n".replace("- name", "  - name", 1)))
        rows = "".join(json.dumps(row) + "\n" for row in market())
        (copied.folder / "market.jsonl").write_text(rows)
        summary = copied.sync("market-x_2", pushes=False)
        assert [run.status for run in summary.runs] == ["done"]
        assert not copied.value("SELECT count(*) FROM quarantine")
        yield copied


def export(world: World, form: str, out: Path, *more: str, days: str | None = DAYS) -> Path:
    asked = ["--period", days] if days else []
    done = world.run("export", "journal", "--as", form, "--out", str(out), *asked, *more)
    assert done.code == 0, done.err
    return out


def held(world: World, until: date) -> Balances:
    """What the database has on each account that the export of the period knows, in minor units."""
    rows = world.rows(
        """
        SELECT p.account, e.currency, sum(p.amount_minor)::bigint AS amount
          FROM entries e JOIN postings p ON p.entry_id = e.id WHERE e.posted_on < :until GROUP BY 1, 2
        """,
        until=until,
    )
    return {(row.account, row.currency): row.amount for row in rows}


def without_zeroes(balances: Balances) -> Balances:
    return {place: amount for place, amount in balances.items() if amount}


def minor(amount: Decimal, currency: str) -> int:
    scaled = amount.scaleb(exponent(currency))
    assert scaled == int(scaled)
    return int(scaled)


def test_the_books_have_what_makes_an_export_hard(world: World) -> None:
    before, after = held(world, SINCE), held(world, UNTIL)
    assert {currency for _, currency in after} == {"PLN", "EUR", "JPY", "KWD"}
    assert {currency for _, currency in without_zeroes(before)} >= {"PLN", "JPY", "KWD"}
    assert {c for (a, c), n in after.items() if n != before.get((a, c), 0)} >= {"PLN", "JPY", "KWD"}
    assert len([account for account, _ in after if account.startswith("Credit:Campaign:market-x_2:")]) >= 5


# beancount


@pytest.mark.parametrize("days", [DAYS, None], ids=["period", "all"])
def test_bean_check_accepts_it_and_the_balances_are_the_databases(
    world: World, tmp_path: Path, days: str | None
) -> None:
    file = export(world, "beancount", tmp_path / "books.beancount", days=days)
    check(str(Path(sys.executable).with_name("bean-check")), str(file))
    loaded, errors, _ = beancount.loader.load_file(str(file))
    assert errors == []
    sums = inventory_by_account(loaded)
    wanted = held(world, UNTIL if days else date.max)
    assert without_zeroes(sums) == without_zeroes(wanted)
    entries = [e for e in loaded if isinstance(e, beans.Transaction) and "opening" not in e.tags]
    since = SINCE if days else date.min
    hashes = world.rows(
        "SELECT id, hash FROM entries WHERE posted_on >= :since AND posted_on < :until"
        " AND kind NOT IN ('policy', 'close')",
        since=since,
        until=UNTIL if days else date.max,
    )
    assert {(int(e.meta["entry"]), e.meta["hash"]) for e in entries} == {(r.id, r.hash.hex()) for r in hashes}
    asserted = [e for e in loaded if isinstance(e, beans.Balance)]
    assert len(asserted) >= len(without_zeroes(wanted))


def inventory_by_account(loaded: list[Any]) -> Balances:
    sums: dict[str, inventory.Inventory] = {}
    for entry in loaded:
        for posting in entry.postings if isinstance(entry, beans.Transaction) else ():
            sums.setdefault(posting.account, inventory.Inventory()).add_position(posting)
    return {
        (names.from_beancount(account), position.units.currency): minor(
            position.units.number, position.units.currency
        )
        for account, positions in sums.items()
        for position in positions
    }


def test_bean_check_finds_one_minor_unit(world: World, tmp_path: Path) -> None:
    """Without it, the test above would prove little."""
    text = export(world, "beancount", tmp_path / "books.beancount").read_text()
    for currency, unit in (("PLN", "0.01"), ("KWD", "0.001"), ("JPY", "1")):
        lines = text.splitlines()
        at = next(
            i for i, line in enumerate(lines) if " balance " in line and line.endswith(f"~ 0 {currency}")
        )
        *head, amount, tilde, zero, last = lines[at].split(" ")
        lines[at] = " ".join([*head, str(Decimal(amount) + Decimal(unit)), tilde, zero, last])
        broken = tmp_path / "broken.beancount"
        broken.write_text("\n".join(lines))
        _, errors, _ = beancount.loader.load_file(str(broken))
        assert len(errors) == 1, currency


# hledger and ledger


def hledger() -> str:
    """The program; without it a test is left out, but never in continuous integration, which installs it."""
    found = shutil.which("hledger")
    if not found and not os.environ.get("CI"):
        pytest.skip("hledger is not installed: apt-get install hledger")
    assert found, "hledger is not installed: apt-get install hledger (.ci/run does)"
    return found


@pytest.mark.parametrize("days", [DAYS, None], ids=["period", "all"])
def test_hledger_accepts_it_and_the_balances_are_the_databases(
    world: World, tmp_path: Path, days: str | None
) -> None:
    file = export(world, "hledger", tmp_path / "books.journal", days=days)
    check(hledger(), "-f", str(file), "check", "--strict", "ordereddates")
    printed = check(hledger(), "-f", str(file), "balance", "--flat", "--empty", "--no-total", "-O", "csv")
    sums = {}
    for row in list(csv.reader(io.StringIO(printed)))[1:]:
        for amount in row[1].split(", "):
            if amount != "0":
                number, currency = amount.split(" ")
                sums[names.from_hledger(row[0]), currency] = minor(Decimal(number), currency)
    assert without_zeroes(sums) == without_zeroes(held(world, UNTIL if days else date.max))


def test_hledger_finds_one_minor_unit(world: World, tmp_path: Path) -> None:
    text = export(world, "hledger", tmp_path / "books.journal").read_text()
    head, equals, amount = text.rstrip().rpartition("= ")
    number, currency = amount.split(" ")
    unit = Decimal(1).scaleb(-exponent(currency))
    broken = tmp_path / "broken.journal"
    broken.write_text(f"{head}{equals}{Decimal(number) + unit} {currency}\n")
    done = subprocess.run(
        [hledger(), "-f", str(broken), "check"], capture_output=True, text=True, check=False, timeout=WITHIN_S
    )
    assert done.returncode != 0
    assert "balance assertion" in done.stderr


def check(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WITHIN_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# rows


def test_csv_has_a_line_for_each_posting_and_no_formula(world: World, tmp_path: Path) -> None:
    text = export(world, "csv", tmp_path / "books.csv").read_bytes().decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    sums: Balances = {}
    for row in rows:
        assert minor(Decimal(row["amount"]), row["currency"]) == int(row["amount_minor"])
        assert not any(
            cell.startswith(("=", "+", "@", "\t", "\r", "-"))
            for name, cell in row.items()
            if name not in ("amount", "amount_minor")
        )
        place = (row["account"], row["currency"])
        sums[place] = sums.get(place, 0) + int(row["amount_minor"])
    assert without_zeroes(sums) == without_zeroes(held(world, UNTIL))
    assert any(row["reason"].startswith("'=cmd") for row in rows)
    opening = {row["posted_on"] for row in rows if row["kind"] == "opening balances"}
    assert opening == {SINCE.isoformat()}


def test_parquet_is_typed_and_says_what_the_database_says(world: World, tmp_path: Path) -> None:
    file = str(export(world, "parquet", tmp_path / "books.parquet"))
    base = duckdb.connect()
    types = dict(
        base.execute(
            "SELECT column_name, column_type FROM (DESCRIBE FROM read_parquet(?))", [file]
        ).fetchall()
    )
    assert types["amount_minor"] == "BIGINT"
    assert types["amount"] == "DECIMAL(23,4)"
    assert types["business_day"] == "DATE"
    assert types["booked_at"] == "TIMESTAMP WITH TIME ZONE"
    rows = base.execute(
        "SELECT account, currency, sum(amount_minor)::BIGINT, sum(amount) FROM read_parquet(?) GROUP BY 1, 2",
        [file],
    ).fetchall()
    assert without_zeroes({(a, c): n for a, c, n, _ in rows}) == without_zeroes(held(world, UNTIL))
    assert all(minor(amount, currency) == n for _, currency, n, amount in rows)
    facts = dict(base.execute("SELECT key, value FROM parquet_kv_metadata(?)", [file]).fetchall())
    assert facts[b"leadledger.seal: its hash"].decode() == world.head()[1].hex()


# the workbook


@pytest.fixture(scope="module")
def workbook(world: World, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return openpyxl.load_workbook(export(world, "xlsx", tmp_path_factory.mktemp("xlsx") / "books.xlsx"))


def table(sheet: Any) -> list[dict[str, Any]]:
    head, *rows = sheet.iter_rows()
    columns = [cell.value for cell in head]
    return [dict(zip(columns, row, strict=True)) for row in rows]


def test_the_workbook_has_a_cover_and_a_sheet_a_report(world: World, workbook: Any) -> None:
    assert workbook.sheetnames == ["cover", "journal", "balances", "campaigns", "funnel", "unattributed"]
    cover = {row[0].value: [cell.value for cell in row[1:]] for row in workbook["cover"].iter_rows() if row}
    number, digest = world.head()
    assert cover["seal: last entry of the journal"][0] == str(number)
    assert cover["seal: its hash"][0] == digest.hex()
    assert cover["period"][0] == "2025-04-01..2025-05-31 (2025-04-01 to 2025-05-31, both included)"
    policy = world.row("SELECT * FROM policies ORDER BY version DESC LIMIT 1")
    assert policy.sha256.hex() in cover[f"attribution policy {policy.version}"][0]
    for currency in ("PLN", "JPY", "KWD"):
        row = world.row(
            """
            SELECT count(DISTINCT e.id), count(*), sum(p.amount_minor) FILTER (WHERE p.amount_minor > 0) AS debit
              FROM entries e JOIN postings p ON p.entry_id = e.id
             WHERE e.currency = :currency AND e.posted_on >= :since AND e.posted_on < :until
            """,
            currency=currency,
            since=SINCE,
            until=UNTIL,
        )
        entries, postings, debit, credit = cover[currency]
        assert (entries, postings) == (row[0], row[1])
        assert minor(Decimal(str(debit)), currency) == row.debit
        assert minor(Decimal(str(credit)), currency) == -row.debit


def test_cells_of_the_workbook_are_typed(world: World, workbook: Any) -> None:
    sums: Balances = {}
    for row in table(workbook["journal"]):
        amount, currency = row["amount"], row["currency"].value
        assert amount.data_type == "n"
        assert amount.number_format == {0: "#,##0", 2: "#,##0.00", 3: "#,##0.000"}[exponent(currency)]
        assert row["posted_on"].is_date
        assert isinstance(row["posted_on"].value, datetime)
        assert all(cell.data_type != "f" for cell in row.values())
        assert minor(Decimal(str(amount.value)), currency) == row["amount_minor"].value
        place = (row["account"].value, currency)
        sums[place] = sums.get(place, 0) + row["amount_minor"].value
    assert without_zeroes(sums) == without_zeroes(held(world, UNTIL))
    assert any(str(row["reason"].value).startswith("=cmd") for row in table(workbook["journal"]))
    closing = {
        (row["account"].value, row["currency"].value): minor(
            Decimal(str(row["closing"].value)), row["currency"].value
        )
        for row in table(workbook["balances"])
    }
    assert without_zeroes(closing) == without_zeroes(held(world, UNTIL))


def test_the_reports_of_the_workbook_are_those_of_the_command_line(world: World, workbook: Any) -> None:
    found = world.run("report", "campaigns", "--period", DAYS, "--format", "json").json
    rows = table(workbook["campaigns"])
    shown = {row["key"].value: row for row in rows if row["key"].value}
    assert set(shown) == {row["key"] for row in found["campaigns"]}
    for row in found["campaigns"]:
        cells = shown[row["key"]]
        assert minor(Decimal(str(cells["revenue"].value)), "PLN") == row["revenue_minor"]
        assert minor(Decimal(str(cells["spend"].value)), "PLN") == row["spend_minor"]
        assert cells["leads"].value == row["leads"]
    reasons = {
        row["reason"].value: (minor(Decimal(str(row["amount"].value)), "PLN"), row["orders"].value)
        for row in table(workbook["unattributed"])
        if row["currency"].value == "PLN" and row["amount"].value
    }
    assert reasons == {
        name: (row["revenue_minor"], row["orders"]) for name, row in found["unattributed"]["reasons"].items()
    }
    funnel = world.run("report", "funnel", "--period", DAYS, "--format", "json").json
    stages = {row[0].value: row[1].value for row in workbook["funnel"].iter_rows(min_row=2, max_row=8)}
    assert stages["leads"] == funnel["leads"]
    assert stages["won"] == funnel["won"]


# the command


def test_a_file_is_private_never_replaced_unasked_and_leaves_nothing_behind(
    world: World, tmp_path: Path
) -> None:
    file = export(world, "csv", tmp_path / "books.csv")
    assert file.stat().st_mode & 0o077 == 0
    before = file.read_bytes()
    again = world.run("export", "journal", "--as", "csv", "--out", str(file))
    assert again.code == 2
    assert "--overwrite" in again.err
    assert file.read_bytes() == before
    export(world, "csv", file, "--overwrite", days=None)
    assert file.read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["books.csv"]


def test_a_period_without_entries_is_its_balances(world: World, tmp_path: Path) -> None:
    days = "2025-06-20..2025-06-21"
    file = export(world, "beancount", tmp_path / "empty.beancount", days=days)
    loaded, errors, _ = beancount.loader.load_file(str(file))
    assert errors == []
    assert without_zeroes(inventory_by_account(loaded)) == without_zeroes(held(world, date(2025, 6, 22)))
    check(
        hledger(), "-f", str(export(world, "hledger", tmp_path / "e.journal", days=days)), "check", "--strict"
    )
    before = export(world, "beancount", tmp_path / "before.beancount", days="2001-01")
    assert beancount.loader.load_file(str(before))[1] == []
    check(
        hledger(),
        "-f",
        str(export(world, "hledger", tmp_path / "b.journal", days="2001-01")),
        "check",
        "--strict",
    )


def test_a_folder_that_is_not_there_is_named(world: World, tmp_path: Path) -> None:
    done = world.run("export", "journal", "--as", "csv", "--out", str(tmp_path / "no" / "books.csv"))
    assert done.code == 2
    assert str(tmp_path / "no") in done.err
