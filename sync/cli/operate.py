"""Commands that work: sync, up, worker, push, backfill."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Annotated, Any

import typer

from mappings.spec import nearest
from sync import logs, runs, schedule, work
from sync.cli import output
from sync.cli.runtime import ConfigOption, Exit, FormatOption, known_connectors, opened, wrong
from sync.pull import backfill as backfills
from sync.pull import rules
from sync.push import store as push_store
from sync.workspace import Workspace, chosen_streams

Names = Annotated[list[str] | None, typer.Argument(help="Connectors of the config; none: all.")]


def register(app: typer.Typer) -> None:
    for command in (sync, up, worker, push, backfill):
        app.command(rich_help_panel="Run")(command)


def sync(
    connectors: Names = None,
    config: ConfigOption = None,
    no_push: Annotated[bool, typer.Option("--no-push", help="Pull and book only.")] = False,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Look in the whole history for what vendors deleted for good.")
    ] = False,
    form: FormatOption = output.Format.table,
) -> None:
    """Pull, match, attribute, book and push once, now, in the foreground.

    Examples: leadledger sync   |   leadledger sync shop meta   |   leadledger sync shop --sweep
    """
    with opened(config) as workspace:
        names = known_connectors(workspace, connectors)
        if sweep and not any(
            s.swept for name in names for s in chosen_streams(workspace.config.connector(name))
        ):
            raise wrong("None of these connectors has a stream that can be swept; a shop has.")
        summary = work.sync(workspace, names, pushes=not no_push, sweep=sweep)
    _print_summary(summary, form)
    raise typer.Exit(exit_code(summary.runs, summary.busy))


def exit_code(done: list[runs.Run], busy: list[str]) -> Exit:
    if any(run.status == "failed" for run in done):
        return Exit.failed
    if busy:
        return Exit.busy
    return Exit.partial if any(run.status == "partial" for run in done) else Exit.done


def _print_summary(summary: work.Summary, form: output.Format) -> None:
    rows = [
        {
            "run": run.id,
            "connector": run.connector,
            "kind": run.kind,
            "status": run.status,
            "stream": stream,
            **{name: counts.get(name, 0) for name in ("fetched", "new", "changed", "quarantined")},
            **{name: counts.get(name, 0) for name in ("sent", "accepted", "refused", "retry", "withdrawn")},
        }
        for run in summary.runs
        for stream, counts in (run.counts.items() or [("", {})])
    ]
    if form is output.Format.json:
        output.print_json(
            {"runs": rows, "steps": summary.steps, "busy": summary.busy, "problems": summary.problems}
        )
        return
    for problem in summary.problems:
        output.complain(logs.mask(problem))
    if form is output.Format.csv:
        output.print_csv(rows)
        return
    output.table(
        "",
        ["connector", "", "status", "stream", "what came of it"],
        [[r["connector"], r["kind"], r["status"], r["stream"], _words(r)] for r in rows],
    )
    for run in summary.runs:
        for what, todo in run.errors:
            output.complain(logs.mask(f"{run.connector}: {what}"))
            output.note(f"  {todo}")
        for what in run.problems:
            output.note(f"{run.connector}: {what}")
    for name in summary.busy:
        output.complain(f"{name}: another process is running it; this sync left it alone.")


def _words(row: dict[str, Any]) -> str:
    names = ("new", "changed", "withdrawn", "quarantined", "accepted", "refused", "retry")
    return rules.shape({name: row[name] for name in names})


def up(
    config: ConfigOption = None,
    workers: Annotated[int, typer.Option(min=1, max=32, help="Runs at the same time.")] = 4,
) -> None:
    """Run scheduler and worker until stopped (Ctrl-C or SIGTERM).

    Example: leadledger up
    """
    _serve(config, workers=workers, scheduler=True)


def worker(
    config: ConfigOption = None,
    workers: Annotated[int, typer.Option(min=1, max=32, help="Runs at the same time.")] = 4,
) -> None:
    """Run a worker only: more machines against the same database.

    Example: leadledger worker --workers 8
    """
    _serve(config, workers=workers, scheduler=False)


def _serve(config: Any, *, workers: int, scheduler: bool) -> None:
    with opened(config) as workspace:
        if scheduler and not any(c.schedule for c in workspace.config.connectors):
            raise wrong("No connector has a schedule: write one, as in schedule: '*/15 * * * *'.")
        schedule.serve(workspace, scheduler=scheduler, workers=workers, say=output.note)
    output.note("down")


def push(
    destinations: Names = None,
    config: ConfigOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print exactly what would be sent.")] = False,
    refused: Annotated[bool, typer.Option("--refused", help="Try refused records again too.")] = False,
    form: FormatOption = output.Format.table,
) -> None:
    """Send what differs to the destinations.

    Examples: leadledger push --dry-run   |   leadledger push crm --refused
    """
    with opened(config) as workspace:
        names = [n for n in known_connectors(workspace, destinations) if n in work.destinations(workspace)]
        if destinations and not names:
            raise wrong(f"No push rule writes to {', '.join(destinations)}.")
        if dry_run:
            _preview(workspace, names, form, refused=refused)
            return
        work.derive(workspace)
        if refused:
            with workspace.engine.begin() as connection:
                for name in names:
                    push_store.retry_refused(connection, name)
        done, busy = [], []
        for name in names:
            try:
                done.append(work.push(workspace, name))
            except runs.Busy:
                busy.append(name)
        problems = work.seal(workspace).problems
    _print_summary(work.Summary(runs=done, busy=busy, problems=problems), form)
    raise typer.Exit(exit_code(done, busy))


def _preview(workspace: Workspace, names: list[str], form: output.Format, *, refused: bool) -> None:
    rows = [
        {
            "destination": name,
            "method": request.method,
            "path": request.path,
            "records": len(request.keys),
            "body": request.body,
        }
        for name, request in work.preview(workspace, names, refused=refused)
    ]
    if form is output.Format.json:
        output.print_json(rows)
        return
    if form is output.Format.csv:
        output.print_csv(rows)
        return
    output.line(f"{len(rows)} calls would be made.")
    for row in rows:
        output.line(f"{row['destination']}: {row['method']} {row['path']} ({row['records']} records)")
        output.print_json(row["body"])


def backfill(
    connector: Annotated[str, typer.Argument(help="A connector of the config.")],
    since: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")],
    until: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day.")] = None,
    streams: Annotated[list[str] | None, typer.Option("--stream", help="Only these streams.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Read slices that are done once more.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the slices only.")] = False,
    config: ConfigOption = None,
) -> None:
    """Read a range of days again, in slices that resume where they stopped; the live cursor stays.

    Example: leadledger backfill shop --from 2024-01-01 --to 2024-03-31
    """
    with opened(config) as workspace:
        [name] = known_connectors(workspace, [connector])
        zone = workspace.zone
        start = datetime.combine(since.date(), time(), zone)
        last: date = until.date() if until else datetime.now(zone).date()
        end = min(datetime.combine(last + timedelta(days=1), time(), zone), datetime.now(zone))
        if start >= end:
            raise wrong("--from must be before --to, and not in the future.")
        _known_streams(workspace, name, streams or [])
        if dry_run:
            for at, to in rules.slices(start, end, days=backfills.SLICE_DAYS):
                output.line(f"{output.local(at, zone)} to {output.local(to, zone)}")
            return
        run, done, count = work.backfill(
            workspace,
            name,
            since=start,
            until=end,
            streams=streams or [],
            again=again,
        )
        work.derive(workspace)
        problems = work.seal(workspace).problems
    _print_summary(work.Summary(runs=[run], problems=problems), output.Format.table)
    output.line(f"{done} of {count} slices are done." + ("" if done == count else " Run it again to go on."))
    raise typer.Exit(exit_code([run], []))


def _known_streams(workspace: Workspace, connector: str, names: list[str]) -> None:
    """Ends the command when the connector does not read one of these streams."""
    known = [stream.name for stream in chosen_streams(workspace.config.connector(connector))]
    for name in names:
        if name not in known:
            raise wrong(f"{connector} reads no stream {name!r}; {nearest(name, known)}")
