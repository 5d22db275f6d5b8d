"""The command that leads from the shop's total to the platforms' claims to the ledger's credit: ledger bridge."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta
from typing import Annotated, Any

import typer

from connectors.contract import Auditable, Totalled
from connectors.errors import ConnectorError
from mappings import normalise
from mappings.unfit import Unfit
from sync.cli import output
from sync.cli.reconcile import policy_in_force
from sync.cli.reports import parse_period
from sync.cli.runtime import ConfigOption, FormatOption, known_connectors, opened, wrong
from sync.ledger import bridge_read
from sync.ledger.bridge_read import ShopDays
from sync.ledger.reconcile import MARGIN
from sync.report.period import Period
from sync.workspace import Workspace


def register(app: typer.Typer) -> None:
    app.command()(bridge)


def bridge(
    period: Annotated[
        str, typer.Option("--period", "-p", help="2026-10, 2026-Q3, 2026 or 2026-10-01..2026-10-15.")
    ],
    connectors: Annotated[
        list[str] | None, typer.Option("--connector", help="Only these shops. [default: all]")
    ] = None,
    currency: Annotated[
        str | None, typer.Option("--currency", help="[default: the workspace's]", show_default=False)
    ] = None,
    line: Annotated[str | None, typer.Option("--line", help="List the orders of this line.")] = None,
    config: ConfigOption = None,
    form: FormatOption = output.Format.table,
) -> None:
    """Lead from the shops' own total to what the ad platforms claim to what the ledger credits to them.

    Each line is a cause and opens to its orders; what nothing explains is the residual.

    Example: leadledger ledger bridge --period 2026-10 --line "no match"
    """
    asked = parse_period(period)
    with opened(config) as workspace:
        code = _currency(currency or workspace.rules.currency)
        names = known_connectors(workspace, connectors)
        told, zones = _told(workspace, names, asked, code)
        language = workspace.config.workspace.language
    found = bridge_read.as_dict(told, period=asked, currency=code) | {"shop_days": zones}
    if line is not None:
        _print_line(found, line, form, language)
    elif form is output.Format.json:
        output.print_json(found)
    elif form is output.Format.csv:
        output.print_csv([{k: v for k, v in row.items() if k != "opened"} for row in found["lines"]])
    else:
        _print(found, language)


def _currency(text: str) -> str:
    try:
        return normalise.currency_code(text)
    except Unfit as unfit:
        raise wrong(f"--currency {text}: {unfit.wrong}; {unfit.right}") from None


def _told(
    workspace: Workspace, names: list[str], period: Period, currency: str
) -> tuple[bridge_read.Told, dict[str, str]]:
    zones: dict[str, str] = {}
    shops: dict[str, ShopDays] = {}
    wide = Period(period.since - MARGIN, period.until + MARGIN)
    with ExitStack() as stack:
        for name in names:
            if workspace.declared(name).source is None:
                continue
            source = stack.enter_context(workspace.connected(name)).source()
            if isinstance(source, Auditable):
                since, until, zones[name] = _shop_days(source, period, workspace)
                items = source.control_items(*wide.bounds(workspace.zone))
                shops[name] = ShopDays(items, since, until)
        if not shops:
            raise wrong("None of these connectors is a shop whose orders can be counted.")
        with workspace.engine.connect() as connection:
            told = bridge_read.read(
                connection,
                shops,
                period=period,
                currency=currency,
                policy=policy_in_force(workspace, connection),
                zone=workspace.zone,
            )
    return told, zones


def _shop_days(source: Any, period: Period, workspace: Workspace) -> tuple[Any, Any, str]:
    """When the shop's own days begin and end, and how that is known."""
    since, until = period.bounds(workspace.zone)
    if not isinstance(source, Totalled):
        return since, until, "taken as the workspace's: this kind of shop does not tell its own"
    try:
        days = list(source.control_days(period.since, period.until - timedelta(days=1)))
    except ConnectorError as error:
        return since, until, f"taken as the workspace's: {error.message}"
    if not days:
        return since, until, "taken as the workspace's: the shop did not tell its own"
    return min(day.since for day in days), max(day.until for day in days), "as the shop tells them"


def _print(found: dict[str, Any], language: str) -> None:
    currency = found["currency"]

    def money(amount: int) -> str:
        return output.money(amount, currency, language)

    cells: list[list[Any]] = [["the shop's own total", money(found["shop_minor"]), "", ""]]
    section = "to the claims"
    for row in found["lines"]:
        if row["section"] != section:
            section = row["section"]
            cells.append(["what the platforms claim", money(found["claimed_minor"]), "", ""])
        cells.append([f"  {row['line']}", money(row["amount_minor"]), row["orders"] or "", row["says"]])
    cells.append(["the ledger's credit to them", money(found["credited_minor"]), "", ""])
    columns = ["", currency, "opens to", ""]
    output.table(f"{found['since']} to before {found['until']}", columns, cells, right=(1, 2))
    for name, of in found["platforms"].items():
        output.line(
            f"{name}: claims {money(of.get('claimed_minor', 0))} {currency} of {of.get('claimed_orders', 0):,} orders,"
            f" {money(of.get('claimed_view_minor', 0))} of it only seen; credited"
            f" {money(of['credited_minor'])} {currency}"
        )
    for name in found["claim_nothing"]:
        output.line(f"{name}: spent, and claims nothing")
    for code, amount in found["claims_in_other_currencies"].items():
        output.line(f"claims in {code}, not in this bridge: {output.money(amount, code, language)} {code}")
    for name, words in found["shop_days"].items():
        output.line(f"{name}: its days are {words}")
    output.line(f"Residual: {money(found['residual_minor'])} {currency}")


def _print_line(found: dict[str, Any], name: str, form: output.Format, language: str) -> None:
    row = next((row for row in found["lines"] if row["line"] == name), None)
    if row is None:
        raise wrong(f"There is no line {name!r}: {', '.join(row['line'] for row in found['lines'])}.")
    if form is output.Format.json:
        output.print_json(row)
    elif form is output.Format.csv:
        output.print_csv(row["opened"] or [{"ref": "", "amount_minor": ""}])
    else:
        currency = found["currency"]
        cells = [
            [opened["ref"], output.money(opened["amount_minor"], currency, language)]
            for opened in row["opened"]
        ]
        cells.append(["in all", output.money(row["amount_minor"], currency, language)])
        output.table(f"{name}: {row['says']}", ["", currency], cells, right=(1,))
