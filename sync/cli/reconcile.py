"""The command that ties the books to the shop: ledger reconcile."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import sqlalchemy as sa
import typer
from sqlalchemy.engine import Connection

from connectors.contract import NAMED_MAX, Auditable, Findable
from sync import runs, work
from sync.attribute import store as attribution_store
from sync.attribute.rules import Policy
from sync.cli import output
from sync.cli.reports import parse_period
from sync.cli.runtime import ConfigOption, Exit, FormatOption, known_connectors, opened, wrong
from sync.ledger import reconcile as reconciling
from sync.ledger import reconcile_facts
from sync.ledger.reconcile import Reconciled
from sync.ledger.reconcile_shop import Shop, batches
from sync.report.period import Period
from sync.rulebook import policy_of
from sync.store.tables import CANONICAL
from sync.workspace import Connected, Workspace, start_of

NAMED_COLUMNS = ("connector", "subject", "kind", "day", "shop", "journal", "cause", "todo")


def register(app: typer.Typer) -> None:
    app.command()(reconcile)


def reconcile(
    period: Annotated[
        str, typer.Option("--period", "-p", help="2026-10, 2026-Q3, 2026 or 2026-10-01..2026-10-15.")
    ],
    connectors: Annotated[
        list[str] | None, typer.Option("--connector", help="Only these shops. [default: all]")
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Read what differs again, by its ids, book it, and compare anew."),
    ] = False,
    config: ConfigOption = None,
    form: FormatOption = output.Format.table,
) -> None:
    """Compare each shop's orders and refunds of a period with the journal, and name every difference.

    It exits with 0 when there is none, and with 5 when there are.

    Example: leadledger ledger reconcile --period 2026-10 --connector shop
    """
    asked = parse_period(period)
    with opened(config) as workspace:
        names = known_connectors(workspace, connectors)
        found = shops(workspace, names, asked, named=period.strip())
        if not found:
            raise wrong("None of these connectors is a shop whose orders can be counted.")
        if repair and any(result["differences"] for result in found):
            for result in found:
                _repair(workspace, result)
            work.derive(workspace)
            found = shops(workspace, names, asked, named=period.strip())
        language = workspace.config.workspace.language
    if form is output.Format.json:
        output.print_json(found)
    elif form is output.Format.csv:
        output.print_csv(_csv_rows(found))
    else:
        for result in found:
            _print(result, language)
    if any(result["differences"] for result in found):
        raise typer.Exit(Exit.unproven)


def shops(
    workspace: Workspace,
    names: Sequence[str],
    period: Period | None,
    *,
    named: str,
    until: date | None = None,
) -> list[Reconciled]:
    """Reconcile those of `names` that are shops. Without a `period`: all days of each shop before `until`."""
    found: list[Reconciled] = []
    for name in names:
        if workspace.declared(name).source is None:
            continue
        with workspace.connected(name) as connected:
            source = connected.source()
            if not isinstance(source, Auditable):
                continue
            with workspace.engine.begin() as connection:
                days = period or _all_days(connection, name, until, workspace)
                if days is None:
                    continue
                found.append(
                    reconciling.reconcile(
                        connection,
                        Shop(name, source, _streams(connected), start_of(connected.config, workspace.zone)),
                        period=days,
                        named=named if period else f"{days.since}..{days.until - timedelta(days=1)}",
                        policy=policy_in_force(workspace, connection),
                        zone=workspace.zone,
                        now=datetime.now(UTC),
                        say=workspace.say,
                    )
                )
    return found


def _all_days(
    connection: Connection, connector: str, until: date | None, workspace: Workspace
) -> Period | None:
    """From the shop's first order that is known; None where there is none."""
    order = CANONICAL["order"]
    first: datetime | None = connection.execute(
        sa.select(sa.func.min(order.c.occurred_at)).where(order.c.connector == connector)
    ).scalar()
    if first is None or until is None:
        return None
    since = first.astimezone(workspace.zone).date()
    return Period(since, until) if since < until else None


def _streams(connected: Connected) -> dict[str, list[str]]:
    plan = connected.plan()
    return {
        kind: [s.name for s in plan.streams if kind in plan.mapping.kinds(s.name)]
        for kind in ("order", "refund")
    }


def policy_in_force(workspace: Workspace, connection: Connection) -> Policy:
    last = attribution_store.last_policy(connection)
    return workspace.rules.policy(1) if last is None else policy_of(last.version, last.body)


def _repair(workspace: Workspace, result: Reconciled) -> runs.Run | None:
    """Read the orders and refunds that differ again, and all refunds of the orders whose refunds differ."""
    name = result["connector"]
    rows = [row for row in result["differences"] if row["order_id"] is not None]
    with workspace.connected(name) as connected:
        source = connected.source()
        if not isinstance(source, Findable):
            output.note(f"{name} shows no single orders: see what to do for each difference.")
            return None
        streams = _streams(connected)
        of_orders = sorted({row["order_id"] for row in rows})
        given_back = sorted({row["order_id"] for row in rows if row["kind"] == "refunds"})
        refunds = {row["refund_id"] for row in rows if "refund_id" in row}
        for ids in batches(given_back, NAMED_MAX):
            refunds |= {id_ for item in source.control_named(ids) for id_ in item.refund_ids}
    with workspace.engine.connect() as connection:
        refunds |= set(reconcile_facts.refunds_of(connection, name, given_back))
    wanted = dict.fromkeys(streams["order"], of_orders)
    wanted |= {stream: sorted(refunds) for stream in streams["refund"]}
    run = work.reread(workspace, name, wanted)
    for error, hint in run.errors:
        output.complain(f"{name}: {error}. {hint}")
    return run


def _csv_rows(found: Sequence[Reconciled]) -> list[dict[str, Any]]:
    """A line a difference; without any, the columns alone."""
    rows = [
        {"connector": result["connector"]} | {name: row[name] for name in NAMED_COLUMNS[1:]}
        for result in found
        for row in result["differences"]
    ]
    return rows or [dict.fromkeys(NAMED_COLUMNS, "")]


def _print(result: Reconciled, language: str) -> None:
    last = (date.fromisoformat(result["until"]) - timedelta(days=1)).isoformat()
    output.heading(f"{result['connector']}, {result['since']} to {last}")
    road = result["road"]
    output.line(f"orders: {road['orders']}")
    output.line(f"refunds: {road['refunds']}")
    output.line(f"the shop's own totals: {road['own_totals']}")
    cells = []
    for currency, sides in reconciling.sums(result).items():
        for side in ("shop", "journal"):
            amounts = [
                output.money(sides[side][name], currency, language) for name in reconciling.AMOUNTS[1:]
            ]
            cells.append([currency, side, f"{sides[side]['orders']:,}", *amounts])
    columns = ["", "", "orders", "gross", "tax", "shipping", "refunds", "given back"]
    output.table("Totals", columns, cells, right=tuple(range(2, 8)))
    for line in result["restated"]:
        for name, words in (
            ("later_minor", "of it counts in a later period, because this one was closed"),
            ("earlier_minor", "of earlier days counts in this period besides"),
        ):
            if line[name]:
                amount = output.money(line[name], line["currency"], language)
                output.line(f"{amount} {line['currency']} {words}")
    if result["free_orders"]:
        output.line(f"{result['free_orders']:,} orders cost nothing and have no entry")
    rows = result["differences"]
    if not rows:
        output.line("No difference.")
        return
    output.table(
        "Differences",
        ["", "what", "day", "shop", "journal", "why", "what to do"],
        [[r["subject"], r["kind"], r["day"], r["shop"], r["journal"], r["cause"], r["todo"]] for r in rows],
    )
    more = "" if result["complete"] else " and more"
    output.line(f"{len(rows):,}{more} differences.")
