"""What the command line prints: money to the last minor unit, times people can read, CSV that is safe to open."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.currencies import exponent
from sync.cli import output

NOW = datetime(2024, 3, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("minor", "currency", "language", "text"),
    [
        (123_456_789, "PLN", "en", "1,234,567.89"),
        (123_456_789, "PLN", "pl", "1\N{NO-BREAK SPACE}234\N{NO-BREAK SPACE}567,89"),
        (123_456, "PLN", "de", "1.234,56"),
        (5, "PLN", "en", "0.05"),
        (0, "PLN", "en", "0.00"),
        (-123_456, "PLN", "en", "-1,234.56"),
        (1_234, "JPY", "en", "1,234"),
        (1_234, "KWD", "en", "1.234"),
        (1_234, "HUF", "en", "12.34"),
        (None, "PLN", "en", "–"),
    ],
)
def test_money(minor, currency, language, text):
    assert output.money(minor, currency, language) == text


@given(st.integers(-(10**15), 10**15), st.sampled_from(["PLN", "EUR", "JPY", "KWD", "CLF"]))
def test_money_loses_no_minor_unit(minor, currency):
    text = output.money(minor, currency, "en")
    assert Decimal(text.replace(",", "")).scaleb(exponent(currency)) == minor


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0 s"),
        (42.4, "42 s"),
        (89, "89 s"),
        (90, "2 min"),
        (1020, "17 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (18_720, "5.2 h"),
        (172_800, "2.0 days"),
        (1_071_360, "12.4 days"),
        (-42, "-42 s"),
    ],
)
def test_duration(seconds, text):
    assert output.duration(seconds) == text


def test_ago():
    assert output.ago(None, NOW) == "never"
    assert output.ago(NOW - timedelta(minutes=17), NOW) == "17 min ago"
    assert output.ago(NOW + timedelta(hours=5), NOW) == "in 5.0 h"
    assert output.ago(NOW, NOW) == "0 s ago"


def test_local_times():
    warsaw = ZoneInfo("Europe/Warsaw")
    assert output.local(NOW, warsaw) == "2024-03-31 14:00"
    assert output.local(NOW - timedelta(hours=12), warsaw) == "2024-03-31 01:00"
    assert output.local(date(2024, 3, 31), warsaw) == "2024-03-31"
    assert output.local(None, warsaw) == "–"


def printed_csv(rows: list[dict[str, object]], capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    output.print_csv(rows)
    text = capsys.readouterr().out
    assert text.endswith("\r\n")
    return list(csv.reader(io.StringIO(text, newline="")))


def test_csv(capsys):
    rows = [
        {
            "name": 'a "b", c\nd',
            "amount": -5,
            "at": NOW,
            "day": date(2024, 3, 31),
            "none": None,
            "in": {"x": [1]},
        },
        {"amount": Decimal("1.50"), "name": "żółw", "in": ["a", Decimal(1)]},
    ]
    assert printed_csv(rows, capsys) == [
        ["name", "amount", "at", "day", "none", "in"],
        ['a "b", c\nd', "-5", "2024-03-31T12:00:00+00:00", "2024-03-31", "", '{"x":[1]}'],
        ["żółw", "1.50", "", "", "", '["a","1"]'],
    ]


def test_csv_of_nothing(capsys):
    output.print_csv([])
    assert capsys.readouterr().out == "\r\n"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_that_a_spreadsheet_would_run_gets_a_quote(start, capsys):
    (_, (cell,)) = printed_csv([{"name": f"{start}HYPERLINK()"}], capsys)
    assert cell == f"'{start}HYPERLINK()"


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_csv_gives_back_what_was_written(text):
    cell = output._csv_cell(text)
    out = io.StringIO()
    csv.writer(out).writerow([cell])
    (row,) = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert row == [cell]
    assert cell in (text, "'" + text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


def test_json(capfdbinary, monkeypatch):
    output.print_json({"name": "Żółw", "at": NOW, "amount": Decimal("1.50"), "minor": 10**17})
    text = capfdbinary.readouterr().out
    assert text.endswith(b"}\n")
    assert json.loads(text) == {
        "name": "Żółw",
        "at": "2024-03-31T12:00:00Z",
        "amount": "1.50",
        "minor": 10**17,
    }


def test_a_table_shows_every_cell_as_it_is(capsys):
    output.table("Runs", ["name", "count"], [["[bold]x[/bold]", 12], [None, -3]], right=[1])
    text = capsys.readouterr().out
    assert "[bold]x[/bold]" in text
    lines = [line for line in text.splitlines() if line.strip()]
    assert lines[0].strip() == "Runs"
    assert lines[1].split() == ["name", "count"]
    assert lines[-1].rstrip().endswith("-3")
    assert len({len(line.rstrip()) for line in (lines[-1], lines[-2])}) == 1
