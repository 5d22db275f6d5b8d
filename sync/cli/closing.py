"""Commands that close the books and move what is closed: ledger close, periods, restate, adjust."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any

import typer
from sqlalchemy.engine import Connection

from mappings import normalise
from mappings.currencies import exponent
from mappings.unfit import Unfit
from sync import process
from sync.attribute.rules import Policy
from sync.attribute.store import Ref, last_policy
from sync.cli import output, reconcile
from sync.cli.reports import parse_period
from sync.cli.runtime import ConfigOption, Exit, FormatOption, jsonable, opened, wrong
from sync.ledger import closing, store
from sync.ledger.reconcile import Reconciled
from sync.report import explain
from sync.report.period import Period
from sync.rulebook import policy_of
from sync.workspace import Workspace

WhyOption = Annotated[str, typer.Option("--why", help="The reason, kept in the journal.", prompt=True)]
AuthorOption = Annotated[
    str | None, typer.Option("--author", help="Who decides it. [default: the user that runs this]")
]


def register(app: typer.Typer) -> None:
    for command in (close, periods, restate, adjust):
        app.command()(command)


def close(
    period: Annotated[str, typer.Argument(help="What to close: 2026-10, 2026-Q3 or 2026.")],
    why: WhyOption,
    author: AuthorOption = None,
    config: ConfigOption = None,
) -> None:
    """Close a period, and all before it, for good: its figures never change again.

    It refuses while something is open, and says what. What becomes known later counts on the first open day.

    Example: leadledger ledger close 2026-10 --why "signed by finance"
    """
    asked = parse_period(period)
    with opened(config) as workspace:
        found, body = close_period(
            workspace, asked, name=period.strip(), why=why, author=author or process.user()
        )
    if found:
        output.table("Open", ["what", "what to do"], [[o.what, o.todo] for o in found])
        output.complain(f"{period} was not closed.")
        raise typer.Exit(Exit.partial)
    output.line(said(asked, body))


def said(period: Period, body: dict[str, Any]) -> str:
    """What a close came to, in words."""
    return (
        f"Closed: every day before {period.until.isoformat()}, on {len(body['accounts']):,} accounts,"
        f" up to entry {body['last_entry']:,}."
    )


def close_period(
    workspace: Workspace, asked: Period, *, name: str, why: str, author: str
) -> tuple[list[closing.Obstacle], dict[str, Any]]:
    """Reconcile the shops and close; returns what stands against it, or else the figures it was closed on."""
    # Before the journal is locked, so that no shop that is slow to answer holds up the booking.
    shown = _reconciled(workspace, asked)
    reconciled: dict[str, Any] = {result["connector"]: result for result in shown}
    with workspace.engine.begin() as connection:
        store.lock(connection)
        now = datetime.now(UTC)
        since = store.closed_until(connection)
        found = closing.obstacles(
            connection,
            since=since,
            until=asked.until,
            today=now.astimezone(workspace.zone).date(),
            money_streams=_money_streams(workspace),
        )
        found += closing.unreconciled(connection, shown)
        if found:
            return found, {}
        body = closing.close(
            connection,
            name=name,
            since=since,
            until=asked.until,
            reconciled=reconciled,
            why=why,
            author=author,
            zone=workspace.zone,
            now=now,
        )
    return [], body


def _reconciled(workspace: Workspace, asked: Period) -> list[Reconciled]:
    """Each shop beside the journal, for all days that are to be closed."""
    with workspace.engine.connect() as connection:
        since = store.closed_until(connection)
    if since is not None and since >= asked.until:
        return []
    period = Period(since, asked.until) if since else None
    names = [connector.name for connector in workspace.config.connectors]
    last = asked.until - timedelta(days=1)
    return reconcile.shops(workspace, names, period, named=f"{since}..{last}", until=asked.until)


def _money_streams(workspace: Workspace) -> list[Ref]:
    found: list[tuple[str, str, frozenset[str]]] = []
    for connector in workspace.config.connectors:
        if workspace.declared(connector.name).source is None:
            continue
        with workspace.connected(connector.name) as connected:
            plan = connected.plan()
            found += [(connector.name, s.name, plan.mapping.kinds(s.name)) for s in plan.streams]
    return closing.money_streams(found)


def periods(config: ConfigOption = None, form: FormatOption = output.Format.table) -> None:
    """List the closed periods, with when, by whom and why.

    Example: leadledger ledger periods
    """
    with opened(config) as workspace, workspace.engine.connect() as connection:
        rows = closing.closed(connection)
        zone = workspace.zone
    if form is output.Format.json:
        output.print_json(jsonable(rows))
    elif form is output.Format.csv:
        output.print_csv(rows)
    elif not rows:
        output.line("No period is closed.")
    else:
        cells = [
            [r["period"], f"before {r['until']}", output.local(r["closed_at"], zone), r["author"], r["why"]]
            for r in rows
        ]
        output.table("", ["period", "closed", "when", "by", "why"], cells)


def restate(
    why: WhyOption,
    orders: Annotated[list[str] | None, typer.Argument(help="Orders, as `explain` takes them.")] = None,
    period: Annotated[str | None, typer.Option("--period", "-p", help="All orders that count in it.")] = None,
    author: AuthorOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would move.")] = False,
    config: ConfigOption = None,
    form: FormatOption = output.Format.table,
) -> None:
    """Credit orders anew by what is known now, although they have settled or their period is closed.

    The difference counts in the open period, and refers to what it stands in place of.

    Example: leadledger ledger restate --period 2026-09 --why "the March campaign was tagged wrong" --dry-run
    """
    if bool(orders) == (period is not None):
        raise wrong("Name the orders, or a --period: one of the two.")
    asked = None if period is None else parse_period(period)
    with opened(config) as workspace, workspace.engine.connect() as connection, connection.begin() as whole:
        store.lock(connection)
        moves = closing.restate(
            connection,
            _orders(connection, orders or [], asked),
            _policy(connection),
            why=why,
            author=author or process.user(),
            zone=workspace.zone,
            now=datetime.now(UTC),
            converting=workspace.rules.converting,
        )
        if dry_run:
            whole.rollback()
    _show_moves(moves, form, dry_run=dry_run)


def _orders(connection: Connection, orders: list[str], period: Period | None) -> list[Ref]:
    if period is not None:
        return closing.orders_of(connection, since=period.since, until=period.until)
    found: list[Ref] = []
    for order in orders:
        matches = explain.find_orders(connection, order)
        if len(matches) != 1:
            known = ", ".join(f"{connector}:{id_}" for connector, id_ in matches)
            raise wrong(f"{order!r} may be {known}" if matches else f"There is no order {order!r}.")
        found += matches
    return found


def _policy(connection: Connection) -> Policy:
    row = last_policy(connection)
    if row is None:
        raise wrong("There is no policy in force yet: run `leadledger sync` first.")
    return policy_of(row.version, row.body)


def _show_moves(moves: list[closing.Move], form: output.Format, *, dry_run: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "order": f"{m.connector}:{m.order_id}",
            "account": m.account,
            "currency": m.currency,
            "amount_minor": m.amount_minor,
            "posted_on": m.posted_on.isoformat(),
        }
        for m in moves
    ]
    if form is output.Format.json:
        output.print_json(rows)
    elif form is output.Format.csv:
        output.print_csv(rows)
    elif not rows:
        output.line("Nothing moves: the books say already what is known now.")
    else:
        cells = [
            [
                r["order"],
                r["account"],
                output.money(r["amount_minor"], r["currency"], "en"),
                r["currency"],
                r["posted_on"],
            ]
            for r in rows
        ]
        title = "What it would move" if dry_run else "Moved"
        output.table(title, ["order", "account", "amount", "", "counts on"], cells, right=(2,))


def adjust(
    debit: Annotated[str, typer.Option("--debit", help="The account that gains.")],
    credit: Annotated[str, typer.Option("--credit", help="The account that it is taken from.")],
    amount: Annotated[str, typer.Option("--amount", help="How much, such as 12.34.")],
    why: WhyOption,
    currency: Annotated[
        str | None, typer.Option("--currency", help="[default: the workspace's]", show_default=False)
    ] = None,
    on: Annotated[str | None, typer.Option("--on", help="The day it happened. [default: today]")] = None,
    author: AuthorOption = None,
    config: ConfigOption = None,
) -> None:
    """Book a correction by hand between two accounts, with a reason and an author.

    Example: leadledger ledger adjust --debit "Unattributed:no lead" --credit Tax:Shop:shop --amount 12.34 --why x
    """
    with opened(config) as workspace:
        code, minor = _amount(amount, currency or workspace.rules.currency)
        now = datetime.now(UTC)
        day = _day(on) if on else now.astimezone(workspace.zone).date()
        if debit == credit:
            raise wrong("Both accounts are the same: nothing would move.")
        with workspace.engine.begin() as connection:
            store.lock(connection)
            try:
                entry = closing.adjust(
                    connection,
                    debit=debit,
                    credit=credit,
                    amount=minor,
                    currency=code,
                    happened_at=datetime.combine(day, time(12), workspace.zone),
                    why=why,
                    author=author or process.user(),
                    zone=workspace.zone,
                    now=now,
                )
            except closing.UnknownAccount as error:
                raise wrong(
                    f"The books have no account {str(error)!r}; see: leadledger explain ORDER"
                ) from None
    output.line(
        f"Booked as entry {entry}: {output.money(minor, code, 'en')} {code} from {credit} to {debit}."
    )


def _amount(text: str, currency: str) -> tuple[str, int]:
    try:
        code = normalise.currency_code(currency)
        found = normalise.money(text, code)
    except Unfit as unfit:
        raise wrong(f"--amount {text}: {unfit.wrong}; {unfit.right}") from None
    if found is None or found[1] is not None or found[0] <= 0:
        digits = exponent(code)
        raise wrong(f"--amount {text}: it must be above zero, with at most {digits} decimals in {code}")
    return code, found[0]


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise wrong(f"--on {text}: it must be a day such as 2026-10-31") from None
