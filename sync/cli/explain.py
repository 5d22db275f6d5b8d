"""The command that opens a figure: leadledger explain WHAT."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from sqlalchemy.engine import Connection

from sync.cli import explain_text, output
from sync.cli.reports import parse_instant, parse_period
from sync.cli.runtime import AsOfOption, ConfigOption, PeriodOption, opened, wrong
from sync.report import explain as explain_order
from sync.report import explain_account, explain_campaign, journal, known, page, unrolled
from sync.report.explain_what import LISTED_MAX, Subject, find
from sync.report.period import Period
from sync.store.known import latest
from sync.workspace import Workspace

IN_MEMORY_MAX_BYTES = 8 * 1024 * 1024  # beyond that, what is to be printed waits in a temporary file
THEN = (
    "Entries, credits and policy are those that were known at that time; the order, its person, their records and "
    "the refunds are shown as they are now."
)


class Form(StrEnum):
    """How it is told."""

    text = "text"
    json = "json"
    html = "html"


class Kind(StrEnum):
    """What WHAT is, where it may be several things."""

    order = "order"
    account = "account"
    campaign = "campaign"


def explain(
    what: Annotated[
        str,
        typer.Argument(
            help="An order (its id or number, or connector:id), an account (with a colon at its end all below it), "
            "or a campaign (its name, or connector:id)."
        ),
    ],
    config: ConfigOption = None,
    period: PeriodOption = None,
    as_of: AsOfOption = None,
    kind: Annotated[Kind | None, typer.Option("--kind", help="What it is, where it may be several.")] = None,
    body: Annotated[
        bool, typer.Option("--body/--no-body", help="An order with the vendor's bytes, or without.")
    ] = True,
    top: Annotated[
        int, typer.Option("--top", min=1, help="So many rows of each list in text; json and html have all.")
    ] = 50,
    form: Annotated[
        Form,
        typer.Option("--format", "-f", help="html is one page that any browser prints, or saves as PDF."),
    ] = Form.text,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write json or html to this file, for you alone to read."),
    ] = None,
) -> None:
    """Open a figure: an order down to the vendor's bytes, an account to its entries, a campaign to its orders.

    Example: leadledger explain shop:17

    Example: leadledger explain "Unattributed:no lead" --period 2026-05

    Example: leadledger explain "Spring sale" --period 2026-05 --format html --out spring.html
    """
    if out is not None and form is Form.text:
        raise wrong("--out takes --format json or --format html; text goes to the terminal")
    asked = parse_period(period)
    with ExitStack() as stack:
        spool = stack.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY_MAX_BYTES))
        with opened(config) as workspace, known.snapshot(workspace.engine) as connection:
            at = parse_instant(as_of, workspace.zone)
            subject = _one(find(connection, what, kind=kind.value if kind else None), what, kind)
            if subject.kind == "order" and period is not None:
                raise wrong("An order is explained as a whole: leave --period out.")
            found = _heading(workspace, connection, subject, period, at)
            found |= _explained(workspace, connection, subject, asked, at)
            zone, language = workspace.zone, workspace.config.workspace.language
            # What reads the books ends while they are open; it is printed once no line of progress stands there.
            if form is Form.text:
                found |= {
                    name: explain_text.first(rows, top) for name, rows in found.items() if _is_list(rows)
                }
            elif out is None:
                spool.writelines(_written(found, form, zone, language, with_body=body))
            else:
                _write(_written(found, form, zone, language, with_body=body), out)
        if form is Form.text:
            explain_text.show(found, zone, language, with_body=body)
        elif out is None:
            spool.seek(0)
            shutil.copyfileobj(spool, sys.stdout.buffer)
            sys.stdout.flush()
        else:
            output.note(f"Wrote {out}.")


def _one(subjects: list[Subject], what: str, kind: Kind | None) -> Subject:
    """The one that is meant, or the end of the command with what it may be."""
    if not subjects:
        raise wrong(
            f"There is no {kind.value if kind else 'order, account or campaign'} {what!r}. Try an order's id, its "
            "number or connector:id, an account such as 'Unattributed:no lead' or 'Revenue:', a campaign's name "
            "or connector:id as `leadledger report campaigns --format csv` has them."
        )
    if len(subjects) == 1:
        return subjects[0]
    for subject in subjects[:LISTED_MAX]:
        called = f" ({subject.called})" if subject.called else ""
        output.complain(f"  {subject.kind} {subject.name}{called}")
    if len(subjects) > LISTED_MAX:
        output.complain(f"  and {len(subjects) - LISTED_MAX} more")
    several = len({subject.kind for subject in subjects}) > 1
    raise wrong(
        f"{what!r} may be any of these: say which, by its full name{' or with --kind' if several else ''}."
    )


def _heading(
    workspace: Workspace, connection: Connection, subject: Subject, period: str | None, at: datetime | None
) -> dict[str, Any]:
    """What stands above everything that is explained: whose, what, as of when, and the entry that pins it."""
    known_at = at or latest(connection)
    return {
        "workspace": workspace.config.workspace.name,
        "asked": f"{subject.kind} {subject.name}",
        "called": subject.called,
        "period": period,
        "as_of": known_at.astimezone(workspace.zone).isoformat() if known_at else None,
        "timezone": str(workspace.zone),
        "head": journal.head(connection, at),
        "note": workspace.config.workspace.note,
    }


def _explained(
    workspace: Workspace, connection: Connection, subject: Subject, period: Period, at: datetime | None
) -> dict[str, Any]:
    if subject.kind == "account":
        return explain_account.explain(connection, subject.name, period, as_of=at)
    if subject.kind == "campaign":
        return explain_campaign.explain(
            connection, subject.name, period, workspace.zone, workspace.rules.currency, as_of=at
        )
    connector, _, order_id = subject.name.partition(":")
    found = explain_order.explain(connection, connector, order_id, as_of=at)
    booked, order = found["entries"], found["order"]
    currency = (
        order["currency"] if order else (booked or [{"currency": workspace.rules.currency}])[0]["currency"]
    )
    return found | {"currency": currency, "then": THEN if at else ""}


def _is_list(value: Any) -> bool:
    return isinstance(value, Iterator)


def _written(
    found: dict[str, Any], form: Form, zone: ZoneInfo, language: str, *, with_body: bool
) -> Iterable[bytes]:
    if form is Form.html:
        written = page.html(
            found | {"with_body": with_body},
            money=lambda amount, currency: f"{output.money(amount, currency, language)} {currency}",
            time=lambda text: explain_text.when(text, zone),
        )
        return (text.encode() for text in written)
    return unrolled.json(found if with_body else _without_bodies(found))


def _without_bodies(value: Any) -> Any:
    """The same without the vendors' bytes, which may name people; hashes stay."""
    if isinstance(value, dict):
        return {name: _without_bodies(inner) for name, inner in value.items() if name != "body"}
    if isinstance(value, list):
        return [_without_bodies(inner) for inner in value]
    return value


def _write(parts: Iterable[bytes], out: Path) -> None:
    """All of it or nothing: what fails half way leaves no half page behind, and an older one as it was. The file is
    the user's alone: it may name people."""
    begun = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        with open(begun, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        begun.replace(out)
    except OSError as error:
        raise wrong(f"{out} cannot be written: {error.strerror}. Name a file in a folder of yours.") from None
    finally:
        begun.unlink(missing_ok=True)
