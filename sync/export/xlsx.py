"""The books of a period as a workbook: a cover, and a sheet for each report, every cell of its own type.

Rows go to disk as they are written, so the journal may be longer than memory and than one sheet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo

import xlsxwriter
from sqlalchemy.engine import Connection
from xlsxwriter.format import Format
from xlsxwriter.workbook import Workbook
from xlsxwriter.worksheet import Worksheet

from mappings.currencies import exponent
from sync.export import flat
from sync.export.rules import Balance, Cover, Export, amount_text
from sync.export.text import facts
from sync.ledger import accounts
from sync.report import campaigns as campaign_report
from sync.report import funnel as funnel_report
from sync.report.period import Period

ROWS_MAX = 1_048_576  # of a sheet (Excel specifications and limits)
TEXT_MAX = 32_767  # characters of a cell
DIGITS_MAX = 15  # what a number of a cell holds exactly
FIRST_DAY = date(1900, 3, 1)  # before it, Excel's calendar is not everybody's
CUT = " … (cut: too long for a cell)"
INFO = {
    "amount": 16,
    "account": 44,
    "reason": 32,
    "posted_on": 12,
    "business_day": 12,
    "happened_at": 20,
    "booked_at": 20,
}


@dataclass(frozen=True, slots=True)
class Reports:
    """The reports of the period, as the command line has them too."""

    campaigns: Mapping[str, Any]
    funnel: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Money:
    """An amount of a cell: a number with the decimals of its currency."""

    amount_minor: int
    currency: str


def read_reports(connection: Connection, days: Period, zone: ZoneInfo, currency: str) -> Reports:
    return Reports(
        campaign_report.campaigns(connection, days, zone, currency),
        funnel_report.funnel(connection, days, zone),
    )


def write(export: Export, out: BinaryIO, *, reports: Reports, zone: ZoneInfo) -> None:
    """Write the workbook. Times of day stand in the workspace's zone, which the cover names."""
    book = _Book(
        xlsxwriter.Workbook(out, {"constant_memory": True, "default_date_format": "yyyy-mm-dd"}), zone
    )
    book.made.set_properties(
        {"title": f"{export.cover.workspace} {export.cover.asked}", "created": export.cover.exported_at}
    )
    _cover(book, export.cover)
    _journal(book, export)
    _balances(book, export.balances)
    _campaigns(book, reports.campaigns)
    _funnel(book, reports.funnel)
    _unattributed(book, export.balances, reports.campaigns)
    book.made.close()


class _Book:
    """The workbook and the formats of its cells."""

    def __init__(self, made: Workbook, zone: ZoneInfo) -> None:
        self.made = made
        self.zone = zone
        self.bold = made.add_format({"bold": True})
        self.time = made.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self.day = made.add_format({"num_format": "yyyy-mm-dd"})
        self._money: dict[int, Format] = {}

    def money(self, currency: str) -> Format:
        digits = exponent(currency)
        if digits not in self._money:
            shown = "#,##0" + ("." + "0" * digits if digits else "")
            self._money[digits] = self.made.add_format({"num_format": shown})
        return self._money[digits]

    def sheet(self, name: str, columns: Sequence[str], widths: Mapping[str, int] | None = None) -> _Sheet:
        return _Sheet(self, self.made.add_worksheet(name), columns, widths or {})


class _Sheet:
    """A sheet that is written from its top to its end."""

    def __init__(
        self, book: _Book, made: Worksheet, columns: Sequence[str], widths: Mapping[str, int]
    ) -> None:
        self._book = book
        self._made = made
        self.rows = 0
        for index, column in enumerate(columns):
            made.set_column(index, index, widths.get(column, 18))
        if columns:
            made.freeze_panes(1, 0)
            self.head(columns)

    def head(self, names: Sequence[str]) -> None:
        for column, name in enumerate(names):
            self._made.write_string(self.rows, column, name, self._book.bold)
        self.rows += 1

    def row(self, *values: Any) -> None:
        for column, value in enumerate(values):
            self._cell(column, value)
        self.rows += 1

    def _cell(self, column: int, value: Any) -> None:
        place, made, book = (self.rows, column), self._made, self._book
        if value is None:
            return
        if isinstance(value, Money):
            amount = amount_text(value.amount_minor, value.currency)
            if len(amount.lstrip("-").replace(".", "")) <= DIGITS_MAX:
                made.write_number(*place, float(amount), book.money(value.currency))
            else:  # as text it is exact
                made.write_string(*place, amount)
        elif isinstance(value, datetime):
            made.write_datetime(*place, value.astimezone(book.zone).replace(tzinfo=None), book.time)
        elif isinstance(value, date) and value >= FIRST_DAY:
            made.write_datetime(*place, datetime(value.year, value.month, value.day), book.day)  # noqa: DTZ001
        elif isinstance(value, int | float) and len(str(value).strip("-")) <= DIGITS_MAX:
            made.write_number(*place, value)
        else:
            # Always a string: what begins with = is text of a vendor's, and no formula.
            text = str(value)
            made.write_string(*place, text if len(text) <= TEXT_MAX else text[: TEXT_MAX - len(CUT)] + CUT)


def _cover(book: _Book, cover: Cover) -> None:
    sheet = book.sheet("cover", [])
    for column, width in enumerate((32, 70, 14, 18, 18)):
        sheet._made.set_column(column, column, width)
    for name, value in facts(cover):
        sheet.row(name, value)
    sheet.row()
    sheet.head(["control totals of the period", "entries", "postings", "debit", "credit"])
    for total in cover.totals:
        debit, credit = Money(total.debit_minor, total.currency), Money(total.credit_minor, total.currency)
        sheet.row(total.currency, total.entries, total.postings, debit, credit)


def _journal(book: _Book, export: Export) -> None:
    sheets = _sheets(book, "journal", flat.COLUMNS)
    sheet = next(sheets)
    for row in flat.rows(export):
        if sheet.rows == ROWS_MAX:
            sheet = next(sheets)
        row["amount"] = row["account"] and Money(row["amount_minor"], row["currency"])
        sheet.row(*(row[name] for name in flat.COLUMNS))


def _sheets(book: _Book, name: str, columns: Sequence[str]) -> Iterator[_Sheet]:
    number = 1
    while True:
        yield book.sheet(name if number == 1 else f"{name} {number}", columns, INFO)
        number += 1


def _balances(book: _Book, balances: Iterable[Balance]) -> None:
    sheet = book.sheet(
        "balances", ["account", "currency", "opening", "debit", "credit", "closing"], {"account": 48}
    )
    for held in balances:
        amounts = (held.opening_minor, held.debit_minor, held.credit_minor, held.closing_minor)
        sheet.row(held.account, held.currency, *(Money(amount, held.currency) for amount in amounts))


PEOPLE = ("leads", "mql", "sql", "won", "rejected")


def _campaigns(book: _Book, found: Mapping[str, Any]) -> None:
    currency = found["currency"]
    columns = ["campaign", "source", "key", "currency", "spend", *PEOPLE, "revenue", "cost per won", "ROAS"]
    sheet = book.sheet("campaigns", columns, {"campaign": 40, "key": 32})

    def line(name: str | None, row: Mapping[str, Any]) -> None:
        per_won = row["cost_per_won_minor"]
        sheet.row(
            name,
            row.get("source"),
            row.get("key"),
            currency,
            Money(row["spend_minor"], currency),
            *(row[each] for each in PEOPLE),
            Money(row["revenue_minor"], currency),
            None if per_won is None else Money(per_won, currency),
            row["roas"],
        )

    for row in found["campaigns"]:
        line(row["campaign"], row)
    line("no campaign known", found["no_campaign"])
    credited = found["total"]["credited_minor"]
    total = {**found["total"], "revenue_minor": credited}
    line(
        "total of the campaigns",
        total | campaign_report.ratios(credited, total["spend_minor"], total["won"]),
    )
    for other, sums in found["other_currencies"].items():
        spend, revenue = Money(sums["spend_minor"], other), Money(sums["revenue_minor"], other)
        sheet.row(
            "in its own currency, unattributed included",
            None,
            None,
            other,
            spend,
            *[None] * len(PEOPLE),
            revenue,
        )


def _funnel(book: _Book, found: Mapping[str, Any]) -> None:
    sheet = book.sheet("funnel", ["stage", "people", "of leads"])
    leads = found["leads"]
    for stage in ("leads", "mql", "sql", "won", "rejected", "lost", "recycled"):
        sheet.row(stage, found[stage], round(found[stage] / leads, 6) if leads else None)
    sheet.row()
    sheet.head(["rejected, by reason", "people"])
    for reason, people in found["rejected_reasons"].items():
        sheet.row(reason, people)
    sheet.row()
    sheet.head(["median time", "seconds"])
    for step, seconds in found["median_seconds"].items():
        sheet.row(step, seconds)


def _unattributed(book: _Book, balances: Iterable[Balance], found: Mapping[str, Any]) -> None:
    """What came to the accounts of the unattributed rest in the period; orders are counted in the reporting
    currency only, as in the report."""
    sheet = book.sheet("unattributed", ["reason", "currency", "orders", "amount"], {"reason": 48})
    moved: dict[tuple[str, str], int] = {}
    for held in balances:
        root, _, reason = accounts.unconverted(held.account)[1].partition(":")
        if root == "Unattributed":
            place = (accounts.unpart(reason), held.currency)
            moved[place] = moved.get(place, 0) + held.debit_minor + held.credit_minor
    for (reason, currency), amount in moved.items():
        orders = found["unattributed"]["reasons"].get(reason, {}).get("orders")
        ours = currency == found["currency"]
        sheet.row(reason, currency, orders if ours else None, Money(amount, currency))
