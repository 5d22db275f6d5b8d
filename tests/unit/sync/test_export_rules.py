"""What an export checks before it is handed out, and what its cells and texts do with what does not fit."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import openpyxl
import pytest

from sync.export import flat, rules, text, xlsx

AT = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
ZONE = ZoneInfo("Europe/Warsaw")
ENTRY = rules.Entry(
    id=1,
    kind="sale",
    connector="shop",
    subject="order:1",
    part="sale",
    generation=1,
    currency="KWD",
    happened_at=AT,
    business_day=date(2026, 3, 29),
    posted_on=date(2026, 3, 29),
    booked_at=AT,
    policy_version=1,
    reason="order paid",
    author="leadledger",
    reverses=None,
    evidence_id=1,
    evidence_sha256=bytes(32),
    hash=bytes(32),
    rate=None,
    accounts=("Revenue:Shop:shop", "Unattributed:no lead"),
    amounts=(-1, 1),
)


def export(entries: Sequence[rules.Entry], **cover: Any) -> rules.Export:
    debit = sum(a for e in entries for a in e.amounts if a > 0)
    total = rules.Total("KWD", len(entries), 2 * len(entries), debit, -debit)
    balances = [
        rules.Balance("Revenue:Shop:shop", "KWD", 0, 0, -debit),
        rules.Balance("Unattributed:no lead", "KWD", 0, debit, 0),
    ]
    made = rules.Cover(
        workspace="Shop",
        note="",
        asked="2026-03",
        since=date(2026, 3, 1),
        until=date(2026, 4, 1),
        zone=ZONE.key,
        currency="PLN",
        exported_at=AT,
        seal_entry=len(entries),
        seal_hash=bytes(32),
        policies=[],
        totals=[total],
    )
    return rules.Export(replace(made, **cover), balances, lambda: iter(entries))


REPORTS = xlsx.Reports(
    campaigns={
        "currency": "PLN",
        "campaigns": [],
        "no_campaign": dict.fromkeys((*xlsx.PEOPLE, "spend_minor", "revenue_minor"), 0)
        | {"cost_per_won_minor": None, "roas": None},
        "total": dict.fromkeys((*xlsx.PEOPLE, "spend_minor", "credited_minor"), 0),
        "unattributed": {"reasons": {}},
        "other_currencies": {},
    },
    funnel=dict.fromkeys(("leads", "mql", "sql", "won", "rejected", "lost", "recycled"), 0)
    | {"rejected_reasons": {}, "median_seconds": {}},
)


def workbook(found: rules.Export) -> Any:
    out = io.BytesIO()
    xlsx.write(found, out, reports=REPORTS, zone=ZONE)
    return openpyxl.load_workbook(out)


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (-5, "KWD", "-0.005"),
        (0, "PLN", "0.00"),
        (-100, "JPY", "-100"),
        (123456, "PLN", "1234.56"),
        (1, "CLF", "0.0001"),
    ],
)
def test_amounts_have_the_decimals_of_their_currency(amount: int, currency: str, shown: str) -> None:
    assert rules.amount_text(amount, currency) == shown


def test_entries_that_do_not_come_to_the_totals_are_not_exported() -> None:
    totals = [rules.Total("KWD", 2, 4, 2, -2)]
    for entries in ([ENTRY], [ENTRY] * 3, [ENTRY, replace(ENTRY, amounts=(-2, 2))], []):
        counted = rules.Counted(entries)
        list(counted)
        with pytest.raises(rules.Torn):
            counted.check(totals)
    whole = rules.Counted([ENTRY, ENTRY])
    list(whole)
    whole.check(totals)
    with pytest.raises(rules.Torn, match="entry 1 sums to 1"):
        list(rules.Counted([replace(ENTRY, amounts=(-1, 2))]))


def test_accounts_that_do_not_come_to_the_totals_are_not_exported() -> None:
    totals = [rules.Total("KWD", 1, 2, 5, -5)]
    whole = [rules.Balance("A", "KWD", 7, 5, 0), rules.Balance("B", "KWD", -7, 0, -5)]
    rules.check_balances(whole, totals)
    for broken in (replace(whole[0], opening_minor=8), replace(whole[0], debit_minor=6)):
        with pytest.raises(rules.Torn):
            rules.check_balances([broken, whole[1]], totals)


def test_the_journal_goes_on_in_another_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx, "ROWS_MAX", 5)
    entries = [replace(ENTRY, id=number) for number in range(1, 6)]
    made = workbook(export(entries))
    sheets = [made[name] for name in ("journal", "journal 2", "journal 3")]
    rows = [row for sheet in sheets for row in sheet.iter_rows(min_row=2, max_col=2, values_only=True)]
    assert rows == [(entry.id, line) for entry in entries for line in (0, 1)]
    assert {sheet["A1"].value for sheet in sheets} == {"entry"}


def test_a_cell_holds_no_number_that_it_would_round_and_no_text_is_lost_silently() -> None:
    huge = 9_007_199_254_740_993  # 2**53 + 1
    entry = replace(ENTRY, amounts=(-huge, huge), reason="=1+1" + "x" * 40_000)
    made = workbook(export([entry]))
    [head, first, _] = made["journal"].iter_rows(values_only=True)
    row = dict(zip(head, first, strict=True))
    assert row["amount"] == f"-{huge // 1000}.{huge % 1000}"
    assert row["amount_minor"] == f"-{huge}"
    assert row["reason"].startswith("=1+1")
    assert row["reason"].endswith(xlsx.CUT)
    assert len(row["reason"]) == xlsx.TEXT_MAX


def test_times_of_the_workbook_are_the_workspaces_own() -> None:
    made = workbook(export([ENTRY, replace(ENTRY, id=2, happened_at=AT.replace(hour=1))]))
    head, *rows = made["journal"].iter_rows(values_only=True)
    at = head.index("happened_at")
    assert [row[at] for row in rows[::2]] == [datetime(2026, 3, 29, 1, 30), datetime(2026, 3, 29, 3, 30)]


def test_what_a_vendor_wrote_stays_on_its_line() -> None:
    nasty = 'a"b\\c\r\n2026-01-01 open Assets:X\t; | , \u2028'
    found = export([replace(ENTRY, reason=nasty, subject="order:a\n    X  1 PLN")], workspace='My "shop"\n')
    beans = list(text.beancount(found))
    assert not any(set(line) & set("\r\n\u2028") for line in beans)
    assert not any(line.startswith("2026-01-01") for line in beans)
    ledger = list(text.hledger(found))
    assert not any(set(line) & set("\r\n\u2028") for line in ledger)
    [head] = [line for line in ledger if "(1)" in line]
    assert ";" not in head
    assert head.count("|") == 1


def test_csv_puts_a_quote_before_what_is_a_formula_to_a_spreadsheet() -> None:
    out = io.BytesIO()
    flat.write_csv(export([replace(ENTRY, reason="=1+1", part="@x", author="-a")]), out)
    line = out.getvalue().decode().splitlines()[1]
    assert ",'=1+1," in line
    assert ",'@x," in line
    assert ",'-a," in line
    assert ",-0.001,-1," in line
