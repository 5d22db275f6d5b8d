"""Commands that report: report funnel, campaigns, identity."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from sync import logs
from sync.cli import output
from sync.cli.runtime import (
    AsOfOption,
    ConfigOption,
    FormatOption,
    PeriodOption,
    jsonable,
    opened,
    wrong,
)
from sync.report import campaigns as campaign_report
from sync.report import difference, known, operations, period
from sync.report import funnel as funnel_report

app = typer.Typer(no_args_is_help=True, help="The same figures for marketing, sales and finance.")
STEPS = {
    "lead_to_mql": "lead → MQL",
    "mql_to_sql": "MQL → SQL",
    "sql_to_won": "SQL → won",
    "lead_to_won": "lead → won",
    "mql_to_rejected": "MQL → rejected",
}


def parse_period(text: str | None) -> period.Period:
    try:
        return period.parse(text)
    except ValueError as error:
        raise wrong(str(error)) from None


def parse_instant(text: str | None, zone: ZoneInfo) -> datetime | None:
    """The time of `--as-of`; one that cannot be read, or has not come yet, ends the command."""
    if text is None:
        return None
    try:
        found = known.instant(text, zone)
    except ValueError as error:
        raise wrong(str(error)) from None
    if found > datetime.now(UTC):
        raise wrong(f"{text!r} is still to come: nobody knows yet what will be known then")
    return found


def _dated(found: dict[str, Any]) -> dict[str, Any]:
    """The report with its time as text."""
    return found | {"as_of": found["as_of"].isoformat() if found["as_of"] else None}


@app.command()
def funnel(
    config: ConfigOption = None,
    period: PeriodOption = None,
    as_of: AsOfOption = None,
    form: FormatOption = output.Format.table,
) -> None:
    """How many people reached each stage, who was rejected and why, how long each step took.

    Example: leadledger report funnel --period 2018-03
    """
    asked = parse_period(period)
    with opened(config) as workspace, known.snapshot(workspace.engine) as connection:
        at = parse_instant(as_of, workspace.zone)
        found = _dated(funnel_report.funnel(connection, asked, workspace.zone, as_of=at))
        found["note"] = workspace.config.workspace.note
    if form is output.Format.json:
        output.print_json(found)
    elif form is output.Format.csv:
        output.print_csv([found])
    else:
        print_funnel(found)


def print_funnel(found: dict[str, Any]) -> None:
    leads = found["leads"]
    stages = ["leads", "mql", "sql", "won", "rejected", "lost", "recycled"]
    rows = [
        [s.upper() if s in ("mql", "sql") else s, f"{found[s]:,}", _share(found[s], leads)] for s in stages
    ]
    output.table("Funnel", ["stage", "people", "of leads"], rows, right=(1, 2))
    if found["rejected_reasons"]:
        rows = [[reason, f"{count:,}"] for reason, count in found["rejected_reasons"].items()]
        output.table("Rejected, by reason", ["reason", "people"], rows, right=(1,))
    medians = [[STEPS[n], output.duration(s)] for n, s in found["median_seconds"].items() if s is not None]
    output.table("Median time", ["step", "time"], medians, right=(1,))


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


@app.command()
def campaigns(
    config: ConfigOption = None,
    period: PeriodOption = None,
    as_of: AsOfOption = None,
    top: Annotated[
        int | None, typer.Option("--top", min=1, help="The best so many, and the rest summed.")
    ] = None,
    form: FormatOption = output.Format.table,
) -> None:
    """Each campaign: spend, leads, MQL, SQL, won, revenue, cost per won lead, ROAS; the rest by reason.

    Example: leadledger report campaigns --period 2018 --top 15
    """
    asked = parse_period(period)
    with opened(config) as workspace, known.snapshot(workspace.engine) as connection:
        currency, language = workspace.rules.currency, workspace.config.workspace.language
        at = parse_instant(as_of, workspace.zone)
        found = _dated(campaign_report.campaigns(connection, asked, workspace.zone, currency, as_of=at))
        found["note"] = workspace.config.workspace.note
    if form is output.Format.json:
        output.print_json(found)
    elif form is output.Format.csv:
        output.print_csv(found["campaigns"])
    else:
        print_campaigns(found, language=language, top=top)


def print_campaigns(found: dict[str, Any], *, language: str, top: int | None) -> None:
    currency = found["currency"]

    def money(amount: int | None) -> str:
        return output.money(amount, currency, language)

    def cells(name: str, source: str, row: dict[str, Any]) -> list[Any]:
        roas = "–" if row["roas"] is None else f"{row['roas']:.2f}"
        return [
            name,
            source,
            money(row["spend_minor"]),
            f"{row['leads']:,}",
            f"{row['mql']:,}",
            f"{row['sql']:,}",
            f"{row['won']:,}",
            f"{row['rejected']:,}",
            money(row["revenue_minor"]),
            money(row["cost_per_won_minor"]),
            roas,
        ]

    listed = found["campaigns"]
    best, rest = (listed, []) if top is None else (listed[:top], listed[top:])
    rows = [cells(r["campaign"], r["source"], r) for r in best]
    if rest:
        rows.append(cells(f"{len(rest)} more campaigns", "", _summed(rest)))
    nobody = found["no_campaign"]
    if nobody["leads"]:
        rows.append(cells("no campaign known", "", nobody))
    columns = ["campaign", "source", "spend", "leads", "MQL", "SQL", "won", "rejected"]
    columns += ["revenue", "cost per won", "ROAS"]
    note = f" ({found['note']})" if found.get("note") else ""
    title = f"Campaigns, amounts in {currency}{note}"
    output.table(title, columns, rows, right=range(2, 11), whole=(0, 1))
    print_rest(found, language=language)


def _summed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = ("spend_minor", "leads", "mql", "sql", "won", "rejected", "revenue_minor")
    total = {name: sum(row[name] for row in rows) for name in names}
    return total | campaign_report.ratios(total["revenue_minor"], total["spend_minor"], total["won"])


def print_rest(found: dict[str, Any], *, language: str) -> None:
    """The unattributed rest with its reasons, and how all of it ties to the shop's total."""
    currency, total, rest = found["currency"], found["total"], found["unattributed"]

    def money(amount: int) -> str:
        return output.money(amount, currency, language)

    rows = [[f"credited to campaigns ({currency})", "", money(total["credited_minor"])]]
    rows += [
        [f"unattributed: {reason}", f"{row['orders']:,}", money(row["revenue_minor"])]
        for reason, row in rest["reasons"].items()
    ]
    rows.append(["revenue in all", f"{total['orders']:,}", money(total["revenue_minor"])])
    rows.append(["the journal's gross, less refunds", "", money(total["shop_gross_minor"])])
    for other, sums in found["other_currencies"].items():
        if sums["converted_minor"]:
            own = output.money(sums["revenue_minor"], other, language)
            rows.append([f"of it, from {own} {other}", "", money(sums["converted_minor"])])
            left, amount = sums["unconverted_orders"], sums["unconverted_minor"]
            if left:
                said = f"not in it: {other} without a rate (leadledger verify)"
                rows.append([said, f"{left:,}", output.money(amount, other, language)])
        else:
            rows.append([f"beside it, in {other}", "", output.money(sums["revenue_minor"], other, language)])
    output.table("Revenue", ["", "orders", "amount"], rows, right=(1, 2))


@app.command()
def diff(
    since: Annotated[str, typer.Option("--from", help="What was known then: 2026-10-31T23:59.")],
    until: Annotated[str, typer.Option("--to", help="What was known then.")],
    config: ConfigOption = None,
    period: PeriodOption = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Show so many entries; JSON has all.")] = 50,
    form: FormatOption = output.Format.table,
) -> None:
    """Why figures are other ones than they were: the accounts that moved, and the entries that moved them.

    Example: leadledger report diff --from 2026-10-31T23:59 --to 2026-11-15T12:00 --period 2026-10
    """
    asked = parse_period(period)
    with opened(config) as workspace, known.snapshot(workspace.engine) as connection:
        before, after = (parse_instant(text, workspace.zone) for text in (since, until))
        assert before is not None
        assert after is not None
        if before > after:
            raise wrong("--from must not be later than --to")
        found = difference.diff(connection, asked, workspace.zone, before=before, after=after)
        zone, language = workspace.zone, workspace.config.workspace.language
    entries = jsonable(found["entries"])
    if form is output.Format.json:
        output.print_json({**jsonable([found])[0], "entries": entries})
    elif form is output.Format.csv:
        output.print_csv(entries)
    else:
        _print_diff(found, zone, language, top=top)


def _print_diff(found: dict[str, Any], zone: ZoneInfo, language: str, *, top: int) -> None:
    moved = [row for row in found["accounts"] if row["moved_minor"]]
    if not found["entries"]:
        output.line("No entry was booked in between: every amount is what it was.")
    if moved:
        cells = [
            [row["account"], row["currency"]]
            + [
                output.money(row[name], row["currency"], language)
                for name in ("then_minor", "now_minor", "moved_minor")
            ]
            for row in moved
        ]
        output.table("Accounts", ["account", "", "then", "now", "moved"], cells, right=(2, 3, 4))
    people = [[name, n["then"], n["now"]] for name, n in found["people"].items() if n["then"] != n["now"]]
    if people:
        output.table("People", ["", "then", "now"], people, right=(1, 2))
    entries = found["entries"]
    if entries:
        rows = [
            [
                e["id"],
                e["kind"],
                f"{e['connector']} {e['subject']}".strip(),
                e["posted_on"],
                output.local(e["booked_at"], zone),
                e["reason"],
            ]
            for e in entries[:top]
        ]
        title = f"Entries, the first {top} of {len(entries):,}" if len(entries) > top else "Entries"
        output.table(title, ["entry", "kind", "of", "counts on", "booked", "why"], rows, right=(0,))


@app.command()
def identity(config: ConfigOption = None, form: FormatOption = output.Format.table) -> None:
    """The identity keys that join nobody, because too many people share them, each with why.

    Example: leadledger report identity
    """
    with opened(config) as workspace, workspace.engine.connect() as connection:
        rows = operations.list_ignored_keys(connection)
    shown = [{**row, "value": _masked(row["kind"], row["value"])} for row in rows]
    if form is output.Format.json:
        output.print_json(shown)
    elif form is output.Format.csv:
        output.print_csv(shown)
    elif not shown:
        output.line("Every identity key joins records.")
    else:
        output.table("", ["kind", "key", "why"], [[r["kind"], r["value"], r["why"]] for r in shown])


class PushStatus(StrEnum):
    """What a row of the outbox may be."""

    refused = "refused"
    pending = "pending"
    acknowledged = "acknowledged"
    superseded = "superseded"


@app.command()
def pushes(
    status: Annotated[PushStatus, typer.Option("--status", help="Which rows.")] = PushStatus.refused,
    config: ConfigOption = None,
    form: FormatOption = output.Format.table,
) -> None:
    """What was refused by a destination, or waits to be sent, each with the reason.

    Example: leadledger report pushes --status pending
    """
    with opened(config) as workspace, workspace.engine.connect() as connection:
        rows = operations.list_pushes(connection, status=status.value)
    shown = [
        {**row, "email": logs.mask(row["email"]), "reason": logs.mask(row["reason"] or "")} for row in rows
    ]
    if form is output.Format.json:
        output.print_json(shown)
    elif form is output.Format.csv:
        output.print_csv(shown)
    elif not shown:
        output.line(f"Nothing is {status.value}.")
    else:
        cells = [[r["destination"], r["email"], r["remote_id"], r["tries"], r["reason"]] for r in shown]
        output.table(f"{status.value}", ["destination", "e-mail", "its id there", "tries", "reason"], cells)
        if status is PushStatus.refused:
            output.note("Once the cause is mended: leadledger push --refused")


def _masked(kind: str, value: str) -> str:
    if kind == "email":
        return logs.mask(value)
    return f"…{value[-4:]}" if kind == "phone" else value
