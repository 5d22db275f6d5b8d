"""Commands that look: status, runs, verify; and explain, which has a module of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
import typer
from sqlalchemy.engine import Connection

from connectors.contract import Auditable, ControlItem
from connectors.errors import ConnectorError
from sync import work
from sync.attribute import store as attribution_store
from sync.attribute.rules import Policy
from sync.cli import explain, output
from sync.cli.runtime import ConfigOption, Exit, FormatOption, jsonable, known_connectors, opened, wrong
from sync.ledger import fx_store, heads, seal, verify_heads, witness
from sync.ledger import verify as verifying
from sync.pull import rules
from sync.report import operations
from sync.rulebook import policy_of
from sync.runs import LEDGER
from sync.store.tables import CANONICAL
from sync.workspace import Workspace


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Look")(status)
    app.command("runs", rich_help_panel="Look")(list_runs)
    app.command(rich_help_panel="Look")(explain.explain)
    app.command(rich_help_panel="Look")(verify)


def status(config: ConfigOption = None, form: FormatOption = output.Format.table) -> None:
    """What ran, what is late, what failed and what to do.

    Example: leadledger status
    """
    now = datetime.now(UTC)
    with opened(config) as workspace, workspace.engine.connect() as connection:
        names = [c.name for c in workspace.config.connectors]
        if operations.has_runs(connection, LEDGER):
            names.append(LEDGER)
        rows = operations.status(connection, names, now=now)
        waiting = operations.pending_work(connection)
        currency, converting = workspace.rules.currency, workspace.rules.converting
        unconverted = fx_store.read_unconverted(connection, currency) if converting else {}
        zone = workspace.zone
    if form is output.Format.json:
        output.print_json({"connectors": jsonable(rows), "waiting": waiting, "unconverted": unconverted})
        return
    if form is output.Format.csv:
        output.print_csv(rows)
        return
    output.table(
        "",
        [
            "connector",
            "state",
            "last success",
            "next run",
            "behind",
            "set aside",
            "to push",
            "refused",
            "what to do",
        ],
        [
            [
                r["connector"],
                r["state"],
                output.ago(r["last_success"], now),
                ("LATE " if r["late"] else "") + output.local(r["next_run"], zone),
                output.duration(r["lag_s"]),
                r["quarantined"] or "",
                r["push_pending"] or "",
                r["push_refused"] or "",
                r["todo"] or r["waits_for"],
            ]
            for r in rows
        ],
        right=(5, 6, 7),
    )
    if waiting:
        words = ", ".join(f"{step}: {count:,}" for step, count in waiting.items())
        output.note(f"Waiting for the next sync: {words}")
    for other, left in unconverted.items():
        amount = output.money(left["gross_minor"], other)
        output.note(
            f"Not booked in {currency}: {left['orders']:,} orders, {amount} {other}. Why: leadledger verify"
        )


def list_runs(
    connector: Annotated[str | None, typer.Argument(help="Only this connector's.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 20,
    config: ConfigOption = None,
    form: FormatOption = output.Format.table,
) -> None:
    """The latest runs, with counts, cursors, and what went wrong.

    Example: leadledger runs shop -n 5
    """
    with opened(config) as workspace, workspace.engine.connect() as connection:
        rows = operations.list_runs(connection, connector=connector, limit=limit)
        if connector and not rows:  # a connector that left the config keeps its runs
            known_connectors(workspace, [connector])
        zone = workspace.zone
    if form is output.Format.json:
        output.print_json(jsonable(rows))
        return
    if form is output.Format.csv:
        output.print_csv(rows)
        return
    output.table(
        "",
        ["run", "connector", "", "status", "started", "took", "what came of it", "error", "what to do"],
        [
            [
                r["run"],
                r["connector"],
                r["kind"],
                r["status"],
                output.local(r["started_at"], zone),
                _took(r),
                "; ".join(f"{stream}: {rules.shape(_shown(c))}" for stream, c in r["counts"].items()),
                r["error"] or r["waits_for"],
                r["todo"],
            ]
            for r in rows
        ],
        right=(0, 5),
    )


def _took(row: dict[str, Any]) -> str:
    if row["started_at"] is None or row["finished_at"] is None:
        return "–"
    return output.duration((row["finished_at"] - row["started_at"]).total_seconds())


def _shown(counts: dict[str, int]) -> dict[str, int]:
    return {k: v for k, v in counts.items() if k not in ("fetched", "unchanged", "sent")}


def verify(
    config: ConfigOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the shops.")] = False,
    since: Annotated[
        Path | None, typer.Option("--since", help="Heads kept elsewhere: the books must continue them.")
    ] = None,
    form: FormatOption = output.Format.table,
) -> None:
    """Check the books: chain, tree, signed heads, evidence, mapping, completeness, each shop's own total.

    Examples: leadledger verify   |   leadledger verify --offline --since heads.jsonl
    """
    kept = _kept_heads(since)
    with opened(config) as workspace:
        checks = run_checks(workspace, offline=offline, kept=kept)
    rows = [
        {
            "check": c.name,
            "checked": c.checked,
            "ok": c.ok,
            "found": c.found,
            "wrong": c.wrong,
            "todo": c.todo,
        }
        for c in checks
    ]
    if form is output.Format.json:
        output.print_json(rows)
    elif form is output.Format.csv:
        output.print_csv(rows)
    else:
        print_checks(checks)
    if not all(check.ok for check in checks):
        raise typer.Exit(Exit.unproven)


def _kept_heads(path: Path | None) -> list[witness.Kept]:
    if path is None:
        return []
    try:
        kept = witness.read(path)
    except (OSError, heads.Unreadable) as error:
        raise wrong(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if not kept:
        raise wrong(f"{path} holds no head.")
    return kept


def print_checks(checks: Iterable[verifying.Check]) -> None:
    output.table(
        "",
        ["check", "checked", "", "found", "what to do"],
        [[c.name, f"{c.checked:,}", "ok" if c.ok else "WRONG", c.wrong or c.found, c.todo] for c in checks],
        right=(1,),
    )


def run_checks(
    workspace: Workspace, *, offline: bool, kept: Sequence[witness.Kept] = ()
) -> list[verifying.Check]:
    """All checks of the workspace's books, with the heads of its witnesses and those that the caller `kept`. A
    shop that cannot be reached is a check that failed."""
    now = datetime.now(UTC)
    with ExitStack() as stack, workspace.engine.connect() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ")  # what comes meanwhile is not wrong
        shops: dict[str, Iterable[ControlItem]] = {}
        order = CANONICAL["order"]
        plans = []
        for connector in workspace.config.connectors:
            connected = stack.enter_context(workspace.connected(connector.name))
            if not connected.is_source:
                continue
            plans.append(connected.plan())
            if offline:
                continue
            source = connected.source()
            first = connection.execute(
                sa.select(sa.func.min(order.c.occurred_at)).where(order.c.connector == connector.name)
            ).scalar()
            if isinstance(source, Auditable) and first is not None:
                shops[connector.name] = source.control_items(first - timedelta(days=1), now)
        try:
            return verifying.verify(
                connection,
                _policy_in_force(workspace, connection),
                zone=workspace.zone,
                now=now,
                shops=shops,
                say=workspace.say,
                plans=plans,
                trust=trust_of(workspace, connection, kept),
                converting=workspace.rules.converting,
            )
        except ConnectorError as error:
            hint = f"{error.hint} Or leave the shops out: leadledger verify --offline.".strip()
            raise ConnectorError(error.kind, error.message, hint=hint) from error


def trust_of(
    workspace: Workspace, connection: Connection, kept: Sequence[witness.Kept]
) -> verify_heads.Trust:
    """Our keys, and the heads of the witnesses that were given any."""
    used = [w for w in work.witnesses_of(workspace) if w.path and seal.last_copy(connection, w.name)]
    return verify_heads.Trust(
        keys=workspace.trusted_keys(),
        outside=[*witness.read_all(used), *kept],
        witnesses={w.name: str(w.path) for w in used},
    )


def _policy_in_force(workspace: Workspace, connection: Connection) -> Policy:
    """The policy that the books follow; looking at them puts no other in force."""
    last = attribution_store.last_policy(connection)
    if last is None:
        return workspace.rules.policy(1)
    if last.body != workspace.rules.policy_body:
        output.note("The config's attribution policy is not in force yet: leadledger sync puts it in force.")
    return policy_of(last.version, last.body)
