"""How the command line speaks: tables, JSON or CSV on standard output; progress and messages on the other."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec
from babel.numbers import format_currency
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mappings.currencies import exponent

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)
WIDE = 120
# A cell that a spreadsheet would take for a formula gets a quote before it (OWASP, CSV injection).
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class Format(StrEnum):
    """How a list or report is printed."""

    table = "table"
    json = "json"
    csv = "csv"


def print_json(value: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2) + b"\n")
    sys.stdout.flush()


def print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows with the columns of the first; nested values as JSON; formulas made harmless."""
    out = io.StringIO()
    columns = list(rows[0]) if rows else []
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([_csv_cell(row.get(c)) for c in columns] for row in rows)
    sys.stdout.write(out.getvalue())


def _csv_cell(value: Any) -> Any:
    if isinstance(value, dict | list | tuple):
        return msgspec.json.encode(value, enc_hook=str).decode()
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    right: Sequence[int] = (),
    whole: Sequence[int] = (),
) -> None:
    """A table for people; columns whose index is in `right` are set right, those in `whole` never folded."""
    made = Table(
        title=title or None, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False
    )
    for index, column in enumerate(columns):
        made.add_column(
            column,
            justify="right" if index in right else "left",
            overflow="ellipsis" if index in whole else "fold",
            no_wrap=index in whole,
        )
    for row in rows:
        made.add_row(*["" if cell is None else escape(str(cell)) for cell in row])
    target = console if console.is_terminal else Console(width=WIDE, highlight=False, file=sys.stdout)
    target.print(made)


def line(text: str = "") -> None:
    console.print(escape(text), soft_wrap=True)


def heading(text: str) -> None:
    console.print(f"\n[bold]{escape(text)}[/bold]", soft_wrap=True)


def complain(text: str) -> None:
    errors.print(escape(text), style="red" if errors.is_terminal else None, soft_wrap=True)


def note(text: str) -> None:
    errors.print(escape(text), style="dim" if errors.is_terminal else None, soft_wrap=True)


def money(amount_minor: int | None, currency: str, language: str = "en") -> str:
    """An amount as the reader's language writes it, with the decimals of its currency."""
    if amount_minor is None:
        return "–"
    digits = exponent(currency)
    pattern = "#,##0" + ("." + "0" * digits if digits else "")
    amount = Decimal(amount_minor).scaleb(-digits)
    return format_currency(amount, currency, format=pattern, locale=language, currency_digits=False)


def duration(seconds: float | None) -> str:
    """``42 s``, ``17 min``, ``5.2 h``, ``12.4 days``."""
    if seconds is None:
        return "–"
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (172_800, "h", 3600)):
        if abs(seconds) < limit:
            value = seconds / size
            return f"{value:.0f} {unit}" if unit != "h" else f"{value:.1f} h"
    return f"{seconds / 86_400:.1f} days"


def ago(at: datetime | None, now: datetime) -> str:
    if at is None:
        return "never"
    passed: timedelta = now - at
    return (
        f"{duration(passed.total_seconds())} ago"
        if passed >= timedelta(0)
        else f"in {duration(-passed.total_seconds())}"
    )


def local(at: datetime | date | None, zone: Any) -> str:
    if at is None:
        return "–"
    if isinstance(at, datetime):
        return at.astimezone(zone).strftime("%Y-%m-%d %H:%M")
    return at.isoformat()


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A line that says what is being done: one that changes on a terminal, now and then one elsewhere."""
    if errors.is_terminal:
        with errors.status("starting …") as status:
            yield lambda text: status.update(escape(text))
        return
    last = [0.0]

    def say(text: str) -> None:
        if time.monotonic() - last[0] >= 5:
            last[0] = time.monotonic()
            errors.print(escape(text), soft_wrap=True)

    yield say
