"""The journal as rows, one a posting: CSV for a spreadsheet, Parquet for analytics."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any, BinaryIO

from mappings.currencies import EXPONENTS, exponent
from sync.export.rules import Cover, Entry, Export, amount_text
from sync.export.text import OPENING, control_totals, facts, stamp

BATCH = 10_000  # rows of a Parquet row group
DECIMALS = max(EXPONENTS.values())
# A cell that a spreadsheet would take for a formula gets a quote before it (OWASP, CSV injection).
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

COLUMNS = (
    "entry",
    "line",
    "posted_on",
    "business_day",
    "kind",
    "account",
    "currency",
    "amount",
    "amount_minor",
    "connector",
    "subject",
    "part",
    "generation",
    "happened_at",
    "booked_at",
    "policy_version",
    "reason",
    "author",
    "reverses",
    "evidence_id",
    "evidence_sha256",
    "hash",
    "rate",
)


def rows(export: Export) -> Iterator[dict[str, Any]]:
    """One a posting, by `COLUMNS`; what the accounts held at the begin first, as rows without an entry. A
    decision that the books rest on is a row without an account."""
    for line, held in enumerate(export.opening):
        yield dict.fromkeys(COLUMNS) | {
            "line": line,
            "posted_on": export.cover.since,
            "kind": OPENING,
            "account": held.account,
            "currency": held.currency,
            "amount_minor": held.opening_minor,
        }
    for entry in export.entries():
        yield from _lines(entry)


def _lines(entry: Entry) -> Iterator[dict[str, Any]]:
    of_entry = {
        "entry": entry.id,
        "posted_on": entry.posted_on,
        "business_day": entry.business_day,
        "kind": entry.kind,
        "currency": entry.currency,
        "connector": entry.connector,
        "subject": entry.subject,
        "part": entry.part,
        "generation": entry.generation,
        "happened_at": entry.happened_at,
        "booked_at": entry.booked_at,
        "policy_version": entry.policy_version,
        "reason": entry.reason,
        "author": entry.author,
        "reverses": entry.reverses,
        "evidence_id": entry.evidence_id,
        "evidence_sha256": None if entry.evidence_sha256 is None else bytes(entry.evidence_sha256).hex(),
        "hash": bytes(entry.hash).hex(),
        "rate": entry.rate,
    }
    if not entry.accounts:  # a decision: no account, no amount
        yield of_entry | dict.fromkeys(("line", "account", "amount_minor", "amount", "currency"))
    for line, (account, amount) in enumerate(zip(entry.accounts, entry.amounts, strict=True)):
        yield of_entry | {"line": line, "account": account, "amount_minor": amount}


def write_csv(export: Export, out: BinaryIO) -> None:
    """RFC 4180, UTF-8, times in UTC, amounts in the currency's decimals with a point."""
    text = io.TextIOWrapper(out, "utf-8", newline="", write_through=False)
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows(export):
        row["amount"] = row["account"] and amount_text(row["amount_minor"], row["currency"])
        writer.writerow([_cell(name, row[name]) for name in COLUMNS])
    text.flush()
    text.detach()


def _cell(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return stamp(value)
    # A negative amount is a number, and no text of anybody's.
    if isinstance(value, str) and name != "amount" and value.startswith(FORMULA_STARTS):
        return "'" + value
    return value


def write_parquet(export: Export, out: BinaryIO) -> None:
    """Typed columns; the facts of the cover are the file's key-value metadata (``leadledger.<name>``)."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = _schema(pa, export.cover)
    waiting = rows(export)
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        while batch := list(islice(waiting, BATCH)):
            for row in batch:
                row["amount"] = row["account"] and decimal_of(row["amount_minor"], row["currency"])
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))


def decimal_of(amount_minor: int, currency: str) -> Decimal:
    return Decimal(amount_minor).scaleb(-exponent(currency))


def _schema(pa: Any, cover: Cover) -> Any:
    whole, text, time = pa.int64(), pa.string(), pa.timestamp("us", tz="UTC")
    types = {
        "entry": whole,
        "line": pa.int32(),
        "posted_on": pa.date32(),
        "business_day": pa.date32(),
        "amount": pa.decimal128(19 + DECIMALS, DECIMALS),
        "amount_minor": whole,
        "generation": pa.int32(),
        "happened_at": time,
        "booked_at": time,
        "policy_version": pa.int32(),
        "reverses": whole,
        "evidence_id": whole,
    }
    required = {"posted_on", "kind"}
    fields = [pa.field(name, types.get(name, text), nullable=name not in required) for name in COLUMNS]
    said = (*facts(cover), *control_totals(cover))
    return pa.schema(fields, metadata={f"leadledger.{name}": value for name, value in said})


def write_lines(lines: Iterable[str], out: BinaryIO) -> None:
    for line in lines:
        out.write(line.encode("utf-8") + b"\n")
