"""The door of the exports: one period of the books into one file, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Engine

from sync.export import flat, rules, store, text, xlsx
from sync.ledger import store as journal
from sync.report.period import Period


class Form(StrEnum):
    """What an export may be written as."""

    csv = "csv"
    xlsx = "xlsx"
    parquet = "parquet"
    beancount = "beancount"
    hledger = "hledger"


class Exists(Exception):
    """There is a file of that name already."""


def export(
    engine: Engine,
    period: Period,
    *,
    form: Form,
    out: Path,
    overwrite: bool,
    workspace: str,
    note: str,
    asked: str,
    currency: str,
    zone: ZoneInfo,
    now: datetime,
) -> rules.Cover:
    """Write the entries that count in `period` to `out`; returns what stands on the cover.

    All is read from one snapshot. The file appears under its name once it is whole and its entries have come
    to the control totals; raises `rules.Torn` if they do not, and `Exists`.
    """
    with engine.connect() as connection:
        store.begin_snapshot(connection)
        days = store.span(connection, period, today=now.astimezone(zone).date())
        seal_entry, seal_hash = journal.head(connection)
        cover = rules.Cover(
            workspace=workspace,
            note=note,
            asked=asked,
            since=days.since,
            until=days.until,
            zone=zone.key,
            currency=currency,
            exported_at=now,
            seal_entry=seal_entry,
            seal_hash=seal_hash,
            policies=store.read_policies(connection, days),
            totals=store.read_totals(connection, days),
        )
        balances = store.read_balances(connection, days)
        rules.check_balances(balances, cover.totals)
        counted: list[rules.Counted] = []

        def entries() -> Iterator[rules.Entry]:
            counted.append(rules.Counted(store.stream_entries(connection, days)))
            return iter(counted[-1])

        found = rules.Export(cover, balances, entries)
        with _appearing(out, overwrite=overwrite) as file:
            if form is Form.xlsx:
                xlsx.write(
                    found, file, reports=xlsx.read_reports(connection, days, zone, currency), zone=zone
                )
            else:
                _WRITERS[form](found, file)
            for each in counted:
                each.check(cover.totals)
    return cover


_WRITERS: dict[Form, Callable[[rules.Export, BinaryIO], Any]] = {
    Form.csv: flat.write_csv,
    Form.parquet: flat.write_parquet,
    Form.beancount: lambda found, out: flat.write_lines(text.beancount(found), out),
    Form.hledger: lambda found, out: flat.write_lines(text.hledger(found), out),
}


@contextmanager
def _appearing(out: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """A file for this user alone that gets its name when the block ends well, and is gone if it does not.

    A process that is killed leaves ``.<name>.<letters>.part`` beside it, and never half a file of that name.
    """
    if out.exists() and not overwrite:
        raise Exists(f"{out} exists already: give another --out, or --overwrite")
    handle, name = tempfile.mkstemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(out)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
