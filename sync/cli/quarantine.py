"""Commands for records that were set aside: quarantine list, show, retry, drop."""

from __future__ import annotations

from typing import Annotated

import typer
from sqlalchemy.engine import Connection

from sync import logs, work
from sync.cli import output
from sync.cli.runtime import ConfigOption, Exit, FormatOption, jsonable, known_connectors, opened, wrong
from sync.pull import quarantine as quarantines

app = typer.Typer(
    no_args_is_help=True, help="Records that could not be used, until somebody deals with them."
)
Ids = Annotated[list[int] | None, typer.Argument(help="Ids as listed; none: all.")]


@app.command("list")
def list_(
    connector: Annotated[str | None, typer.Argument(help="Only this connector's.")] = None,
    config: ConfigOption = None,
    form: FormatOption = output.Format.table,
) -> None:
    """List what is set aside, each with the field and the reason.

    Example: leadledger quarantine list shop
    """
    with opened(config) as workspace, workspace.engine.connect() as connection:
        known_connectors(workspace, [connector] if connector else None)
        rows = quarantines.list_set_aside(connection, connector=connector)
        zone = workspace.zone
    if form is output.Format.json:
        output.print_json(jsonable(rows))
    elif form is output.Format.csv:
        output.print_csv(rows)
    elif not rows:
        output.line("Nothing is set aside.")
    else:
        output.table(
            "",
            ["id", "connector", "stream", "record", "reason", "since"],
            [
                [
                    r["id"],
                    r["connector"],
                    r["stream"],
                    r["record"],
                    r["reason"],
                    output.local(r["set_aside_at"], zone),
                ]
                for r in rows
            ],
            right=(0,),
        )


@app.command()
def show(
    id: Annotated[int, typer.Argument(help="An id as listed.")],
    config: ConfigOption = None,
) -> None:
    """Show one record: every problem, and what the vendor sent.

    Example: leadledger quarantine show 3
    """
    with opened(config) as workspace, workspace.engine.connect() as connection:
        found = quarantines.show(connection, id)
    if found is None:
        raise wrong(f"There is no record {id} in quarantine.")
    output.print_json(jsonable([found])[0])


@app.command()
def retry(ids: Ids = None, config: ConfigOption = None) -> None:
    """Map records again, after the mapping or the config was mended.

    Example: leadledger quarantine retry 3 4
    """
    with opened(config) as workspace:
        with workspace.engine.connect() as connection:
            _must_be_set_aside(connection, ids or [])
            chosen = quarantines.chosen(connection, ids)
        count = sum(len(raw_ids) for streams in chosen.values() for raw_ids in streams.values())
        done, still = work.retry_quarantine(workspace, chosen)
        work.derive(workspace)
    failed = [(run.connector, *error) for run in done for error in run.errors]
    for name, what, todo in failed:
        output.complain(logs.mask(f"{name}: {what}"))
        output.note(f"  {todo}")
    if failed:
        raise typer.Exit(Exit.failed)
    output.line(f"{count - still} of {count} records were taken up; {still} stay set aside.")
    if still:
        raise typer.Exit(Exit.partial)


def _must_be_set_aside(connection: Connection, ids: list[int]) -> None:
    """Ends the command when one of the ids is not in the quarantine, or was dropped."""
    known = {row["id"] for row in quarantines.list_set_aside(connection, connector=None)}
    unknown = [str(id) for id in ids if id not in known]
    if unknown:
        raise wrong(f"Not set aside: {', '.join(unknown)}. See: leadledger quarantine list")


@app.command()
def drop(
    ids: Annotated[list[int], typer.Argument(help="Ids as listed.")],
    why: Annotated[str, typer.Option("--why", help="The reason, kept with the record.", prompt=True)],
    config: ConfigOption = None,
) -> None:
    """Give records up, with a reason; what the vendor sent is kept.

    Example: leadledger quarantine drop 3 --why "a test order"
    """
    with opened(config) as workspace, workspace.engine.begin() as connection:
        _must_be_set_aside(connection, ids)
        count = quarantines.drop(connection, ids, why=why)
    output.line(f"{count} dropped.")
