"""Commands that hand the books to other programs: export journal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from sync.cli import output
from sync.cli.reports import parse_period
from sync.cli.runtime import ConfigOption, Exit, FormatOption, PeriodOption, opened, wrong
from sync.export import rules, step

app = typer.Typer(no_args_is_help=True, help="The books for other programs.")


@app.callback()
def _group() -> None:
    """A group, although it has one command."""


@app.command()
def journal(
    form: Annotated[step.Form, typer.Option("--as", help="For which program.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")],
    period: PeriodOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file if there is one already.")
    ] = False,
    config: ConfigOption = None,
    shown: FormatOption = output.Format.table,
) -> None:
    """Write the entries of a period, with opening and closing balances, and print the control totals.

    Example: leadledger export journal --period 2026-10 --as beancount --out books.beancount
    """
    asked = parse_period(period)
    if not out.parent.is_dir():
        raise wrong(f"{out.parent} is not a folder: make it, or give another --out.")
    with opened(config) as workspace:
        named = workspace.config.workspace
        workspace.say(f"writing {out}")
        try:
            cover = step.export(
                workspace.engine,
                asked,
                form=form,
                out=out,
                overwrite=overwrite,
                workspace=named.name,
                note=named.note or "",
                asked=period or "all",
                currency=workspace.rules.currency,
                zone=workspace.zone,
                now=datetime.now(UTC),
            )
        except step.Exists as error:
            raise wrong(str(error)) from None
        except OSError as error:
            output.complain(f"{out} cannot be written: {error.strerror}. Nothing was written.")
            raise typer.Exit(Exit.failed) from None
        except rules.Torn as error:
            output.complain(f"Nothing was written: {error}")
            raise typer.Exit(Exit.unproven) from None
        language = named.language
    _print(cover, out, shown, language)


def _print(cover: rules.Cover, out: Path, shown: output.Format, language: str) -> None:
    totals = [
        {
            "currency": total.currency,
            "entries": total.entries,
            "postings": total.postings,
            "debit_minor": total.debit_minor,
            "credit_minor": total.credit_minor,
        }
        for total in cover.totals
    ]
    if shown is output.Format.json:
        seal = {"entry": cover.seal_entry, "hash": cover.seal_hash.hex()}
        days = {"since": cover.since.isoformat(), "until": cover.until.isoformat()}
        output.print_json({"file": str(out), **days, "seal": seal, "totals": totals})
    elif shown is output.Format.csv:
        output.print_csv(totals)
    else:
        rows = [
            [
                total.currency,
                f"{total.entries:,}",
                f"{total.postings:,}",
                output.money(total.debit_minor, total.currency, language),
                output.money(total.credit_minor, total.currency, language),
            ]
            for total in cover.totals
        ]
        output.table("", ["currency", "entries", "postings", "debit", "credit"], rows, right=range(1, 5))
        output.line(f"Wrote {out}. The journal's last entry is {cover.seal_entry}, its hash")
        output.line(cover.seal_hash.hex())
