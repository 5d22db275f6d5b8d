"""Opens a campaign: whom it brought, what it cost by day, which orders are credited to it and by which touch."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import groupby, islice
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mappings.currencies import EXPONENTS
from sync.attribute import campaigns as naming
from sync.attribute.store import known_campaigns
from sync.ledger import accounts
from sync.report import campaigns, journal, sharing
from sync.report.known import EVER
from sync.report.period import Period
from sync.store.tables import campaign_names

ORDERS_AT_ONCE = 200
STAGES = ("lead", "mql", "sql", "won", "rejected")

_COUNTS = sa.text(
    """
    SELECT count(*) AS leads, count(mql_at) AS mql, count(sql_at) AS sql, count(won_at) AS won,
           count(rejected_at) AS rejected
      FROM journeys_known(CAST(:as_of AS timestamptz))
     WHERE campaign = :campaign AND lead_at >= :since AND lead_at < :until
    """
)
_PEOPLE = sa.text(
    """
    SELECT person_id, stage, lead_at, mql_at, sql_at, won_at, rejected_at, rejected_reason
      FROM journeys_known(CAST(:as_of AS timestamptz))
     WHERE campaign = :campaign AND lead_at >= :since AND lead_at < :until
     ORDER BY lead_at, person_id COLLATE "C"
    """
)


def explain(
    connection: Connection,
    key: str,
    period: Period,
    zone: ZoneInfo,
    currency: str,
    *,
    as_of: datetime | None = None,
) -> dict[str, Any]:
    """The campaign `key` (``connector:id``) within the period, as known at `as_of`; it ties to `report campaigns`.

    ``totals`` has the figures of the report in `currency`, ``money`` the amounts by currency. ``people``, ``spend``
    (by day) and ``orders`` are iterators, to be read within this connection's transaction, which must see one
    state of the books. Amounts are in minor units.
    """
    since, until = period.bounds(zone)
    bounds = {"as_of": as_of, "campaign": key, "since": since, "until": until}
    known = known_campaigns(connection)
    counts = connection.execute(_COUNTS, bounds).one()._asdict()
    money = _money(connection, key, period, as_of)
    here = next((row for row in money if row["currency"] == currency), {})
    revenue, spent = here.get("revenue_minor", 0), here.get("spend_minor", 0)
    totals = counts | {"currency": currency, "revenue_minor": revenue, "spend_minor": spent}
    totals |= campaigns.ratios(revenue, spent, counts["won"])
    source, name = naming.display(key, known.names)
    return {
        "what": "campaign",
        "campaign": name,
        "source": source,
        "key": key,
        "names": _names(connection, key),
        "totals": totals,
        "money": money,
        "people": _people(connection, bounds),
        "spend": _spend(connection, key, period, as_of),
        "orders": _orders(connection, key, period, as_of, known),
    }


def _names(connection: Connection, key: str) -> list[dict[str, Any]]:
    connector, _, external_id = key.partition(":")
    names = campaign_names.c
    rows = connection.execute(
        sa.select(names.name, names.seen_at)
        .where(names.connector == connector, names.external_id == external_id)
        .order_by(names.seen_at, names.name)
    )
    return [{"name": row.name, "seen_at": row.seen_at.isoformat()} for row in rows]


def _of(root: str, key: str, period: Period, as_of: datetime | None) -> dict[str, Any]:
    """The campaign's account under `root`, and what it holds of other currencies in the reporting one."""
    account = accounts.campaign(root, key)
    converted = [accounts.converted(currency, account) for currency in EXPONENTS]
    return {"accounts": [account, *converted], "period": period, "as_of": as_of}


def _money(connection: Connection, key: str, period: Period, as_of: datetime | None) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for root, name in (("Credit", "revenue_minor"), ("Spend", "spend_minor")):
        for row in journal.sums(connection, **_of(root, key, period, as_of)):
            blank = {"currency": row.currency, "revenue_minor": 0, "spend_minor": 0}
            found.setdefault(row.currency, blank)[name] += int(row.moved)
    return [found[currency] for currency in sorted(found)]


def _people(connection: Connection, bounds: dict[str, Any]) -> Iterator[dict[str, Any]]:
    rows = connection.execute(_PEOPLE, bounds, execution_options={"yield_per": journal.ROWS_AT_ONCE})
    for row in rows:
        times = {f"{stage}_at": getattr(row, f"{stage}_at") for stage in STAGES}
        yield {
            "person": row.person_id,
            "stage": row.stage,
            **{name: at.isoformat() if at else None for name, at in times.items()},
            "rejected_reason": row.rejected_reason,
        }


def _spend(
    connection: Connection, key: str, period: Period, as_of: datetime | None
) -> Iterator[dict[str, Any]]:
    """By day it counts on and currency: the sum, and the entries, restated ones among them, with their evidence."""
    lines = journal.lines(connection, **_of("Spend", key, period, as_of))
    for day, of_day in groupby(lines, key=lambda line: line["posted_on"]):
        held: dict[str, list[dict[str, Any]]] = {}
        for line in of_day:
            held.setdefault(line["currency"], []).append(line)
        for currency, entries in sorted(held.items()):
            amount = sum(line["amount_minor"] for line in entries)
            yield {"posted_on": day, "currency": currency, "amount_minor": amount, "entries": entries}


def _orders(
    connection: Connection, key: str, period: Period, as_of: datetime | None, known: naming.Lookup
) -> Iterator[dict[str, Any]]:
    """By order what is credited to the campaign, by which entries and, as far as the sale stands so, by which touch
    and with what weight. An adjustment is no order, and stands by itself."""
    account = accounts.campaign("Credit", key)
    lines = journal.lines(connection, **_of("Credit", key, period, as_of), by_subject=True)
    subjects = (
        (subject, list(entries))
        for subject, entries in groupby(lines, key=lambda line: (line["connector"], line["subject"]))
    )
    while some := list(islice(subjects, ORDERS_AT_ONCE)):
        refs = {
            (connector, subject): (connector, subject.partition(":")[2])
            for (connector, subject), _ in some
            if subject.startswith("order:")
        }
        shared = sharing.read(connection, list(refs.values()), known=known, known_until=as_of or EVER)
        for subject, entries in some:
            yield from _of_subject(account, subject, entries, shared.get(refs.get(subject, ("", ""))))


def _of_subject(
    account: str, subject: tuple[str, str], entries: list[dict[str, Any]], shared: sharing.Shared | None
) -> Iterator[dict[str, Any]]:
    mine = [part for part in shared.parts if part["account"] == account] if shared else []
    for currency in sorted({line["currency"] for line in entries}):
        of_currency = [line for line in entries if line["currency"] == currency]
        as_sold = shared is not None and shared.currency == currency  # else it is the worth of what was sold
        yield {
            "connector": subject[0],
            "subject": subject[1],
            "currency": currency,
            "amount_minor": sum(line["amount_minor"] for line in of_currency),
            "person": shared.person if shared else None,
            "model": shared.model if shared else None,
            "policy_version": shared.policy_version if shared else None,
            "converted_from": sorted({c for c in map(_converted_from, of_currency) if c}),
            "order_revenue_minor": shared.revenue_minor if shared and as_sold else 0,
            "credits": [
                {"amount_minor": p["amount_minor"], "touch": p["touch"], "share": p["share"]}
                for p in (mine if as_sold else ())
            ],
            "held": shared.held if shared else "",
            "entries": of_currency,
        }


def _converted_from(line: dict[str, Any]) -> str | None:
    return accounts.unconverted(line["account"])[0]
