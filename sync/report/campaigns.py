"""Campaigns: what each cost, whom it brought, what became of them, and what the books credit to it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.attribute import campaigns as naming
from sync.attribute.store import known_campaigns
from sync.ledger import accounts, fx_store
from sync.report.known import EVER
from sync.report.period import Period
from sync.store import known

_PEOPLE = sa.text(
    """
    SELECT campaign, count(*) AS leads, count(mql_at) AS mql, count(sql_at) AS sql, count(won_at) AS won,
           count(rejected_at) AS rejected,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM sql_at - mql_at))
               FILTER (WHERE sql_at >= mql_at) AS mql_to_sql
      FROM journeys_known(CAST(:as_of AS timestamptz)) WHERE lead_at >= :since AND lead_at < :until GROUP BY 1
    """
)

_REASONS = sa.text(
    """
    SELECT campaign, coalesce(rejected_reason, 'no reason given') AS reason, count(*) AS people
      FROM journeys_known(CAST(:as_of AS timestamptz))
     WHERE rejected_at IS NOT NULL AND lead_at >= :since AND lead_at < :until
     GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2
    """
)

_BOOKS = sa.text(
    """
    SELECT p.account, e.currency, sum(p.amount_minor) AS amount
      FROM entries e JOIN postings p ON p.entry_id = e.id
     WHERE e.posted_on >= :since_day AND e.posted_on < :until_day
       AND e.booked_at <= :known_until
       AND (p.account LIKE 'Credit:%' OR p.account LIKE 'Spend:%' OR p.account LIKE 'Unattributed:%'
            OR p.account LIKE 'Revenue:%' OR p.account LIKE 'Tax:%' OR p.account LIKE 'Shipping:%'
            OR p.account LIKE 'Converted:%')
     GROUP BY 1, 2
    """
)

# An order counts under a reason while that account holds something of it.
_UNATTRIBUTED_ORDERS = sa.text(
    """
    SELECT account, count(*) AS orders FROM (
        SELECT regexp_replace(p.account, '^Converted:[A-Z]{3}:', '') AS account, e.connector, e.subject
          FROM entries e JOIN postings p ON p.entry_id = e.id
         WHERE p.account ~ '^(Converted:[A-Z]{3}:)?Unattributed:' AND e.currency = :currency
           AND e.posted_on >= :since_day AND e.posted_on < :until_day
           AND e.booked_at <= :known_until
         GROUP BY 1, 2, 3 HAVING sum(p.amount_minor) <> 0
    ) held GROUP BY 1
    """
)

# Counted once, although a model may leave shares of one order under several reasons.
_UNATTRIBUTED = sa.text(
    """
    SELECT count(DISTINCT (connector, subject)) FROM (
        SELECT e.connector, e.subject
          FROM entries e JOIN postings p ON p.entry_id = e.id
         WHERE p.account ~ '^(Converted:[A-Z]{3}:)?Unattributed:' AND e.currency = :currency
           AND e.posted_on >= :since_day AND e.posted_on < :until_day
           AND e.booked_at <= :known_until
         GROUP BY p.account, e.connector, e.subject HAVING sum(p.amount_minor) <> 0
    ) held
    """
)

_ORDERS = sa.text(
    """
    SELECT count(*) FROM (
        SELECT e.connector, e.subject FROM entries e JOIN postings p ON p.entry_id = e.id
         WHERE e.part IN ('sale', 'fx:sale') AND p.account ~ '^(Converted:[A-Z]{3}:)?Revenue:'
           AND e.currency = :currency
           AND e.posted_on >= :since_day AND e.posted_on < :until_day
           AND e.booked_at <= :known_until
         GROUP BY 1, 2 HAVING sum(p.amount_minor) <> 0
    ) sold
    """
)


def campaigns(
    connection: Connection, period: Period, zone: ZoneInfo, currency: str, *, as_of: datetime | None = None
) -> dict[str, Any]:
    """Every campaign with leads, spend or revenue in the period; the rest by reason; and the total.

    People count in the period of their first lead, under the campaign that brought them; revenue and spend in
    that of the day they count on, from the journal. With `as_of`, as it was known then; campaigns have the names
    they have now. Amounts are in minor units of `currency`, what was converted to it among them; what the books
    hold in other currencies is under ``other_currencies``: as it is, what of the sums above was converted from
    it, and how many orders are not.
    """
    since, until = period.bounds(zone)
    bounds: dict[str, Any] = {
        "since": since,
        "until": until,
        "since_day": period.since,
        "until_day": period.until,
    }
    bounds |= {"as_of": as_of, "known_until": as_of or EVER}
    named = known_campaigns(connection)
    rows: dict[str, dict[str, Any]] = {}
    people = {row.campaign: row for row in connection.execute(_PEOPLE, bounds)}
    for key in people:
        if key is not None:
            rows[key] = _blank(key, named)
    books = _books(connection, bounds, currency)
    for account, amount in books.items():
        if account.startswith(("Credit:", "Spend:")):
            key = accounts.campaign_key(account)
            row = rows.setdefault(key, _blank(key, named))
            row["revenue_minor" if account.startswith("Credit:") else "spend_minor"] += amount
    reasons = _reasons(connection, bounds)
    for key, row in rows.items():
        _fill(row, people.get(key), reasons.get(key, {}))
    listed = sorted(
        rows.values(), key=lambda r: (-r["revenue_minor"], -r["leads"], r["source"], r["campaign"])
    )
    unattributed = _unattributed(connection, books, bounds, currency)
    nobody = people.get(None)
    total = _total(listed, nobody, books, unattributed)
    total["orders"] = connection.execute(_ORDERS, bounds | {"currency": currency}).scalar_one()
    return {
        "as_of": known.latest(connection) if as_of is None else as_of,
        "currency": currency,
        "campaigns": listed,
        "no_campaign": _fill(_blank(None, named), nobody, reasons.get(None, {})),
        "unattributed": unattributed,
        "total": total,
        "other_currencies": _others(connection, bounds, currency),
    }


def _blank(key: str | None, named: naming.Lookup) -> dict[str, Any]:
    source, name = naming.display(key, named.names) if key else (None, None)
    return {"campaign": name, "source": source, "key": key, "revenue_minor": 0, "spend_minor": 0}


def _fill(row: dict[str, Any], people: Any, reasons: dict[str, int]) -> dict[str, Any]:
    for name in ("leads", "mql", "sql", "won", "rejected"):
        row[name] = getattr(people, name) if people is not None else 0
    median = people.mql_to_sql if people is not None else None
    row["median_mql_to_sql_s"] = None if median is None else round(float(median))
    row["rejected_reasons"] = reasons
    row |= ratios(row["revenue_minor"], row["spend_minor"], row["won"])
    return row


def ratios(revenue_minor: int, spend_minor: int, won: int) -> dict[str, int | float | None]:
    """Cost per won lead (minor units, rounded half to even) and return on ad spend; None without spend."""
    per_won = round(Decimal(spend_minor) / won) if won and spend_minor else None
    roas = round(float(Decimal(revenue_minor) / spend_minor), 4) if spend_minor > 0 else None
    return {"cost_per_won_minor": per_won, "roas": roas}


def _books(connection: Connection, bounds: dict[str, Any], currency: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in connection.execute(_BOOKS, bounds):
        if row.currency == currency and row.amount:
            account = accounts.unconverted(row.account)[1]
            found[account] = found.get(account, 0) + int(row.amount)
    return {account: amount for account, amount in found.items() if amount}


def _others(connection: Connection, bounds: dict[str, Any], currency: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    names = ("revenue_minor", "spend_minor", "converted_minor", "unconverted_orders", "unconverted_minor")
    for row in connection.execute(_BOOKS, bounds):
        origin, account = accounts.unconverted(row.account)
        root = account.partition(":")[0]
        other = origin or row.currency
        if other == currency or not row.amount or root not in ("Credit", "Unattributed", "Spend"):
            continue
        sums = found.setdefault(other, dict.fromkeys(names, 0))
        name = "converted_minor" if origin else "spend_minor" if root == "Spend" else "revenue_minor"
        sums[name] += int(row.amount) if not origin or row.currency == currency else 0
    asked = (bounds["since_day"], bounds["until_day"], bounds["known_until"])
    for other, left in fx_store.read_unconverted(connection, currency, *asked).items():
        sums = found.setdefault(other, dict.fromkeys(names, 0))
        sums["unconverted_orders"], sums["unconverted_minor"] = left["orders"], left["gross_minor"]
    return found


def _reasons(connection: Connection, bounds: dict[str, Any]) -> dict[str | None, dict[str, int]]:
    found: dict[str | None, dict[str, int]] = {}
    for row in connection.execute(_REASONS, bounds):
        found.setdefault(row.campaign, {})[row.reason] = row.people
    return found


def _unattributed(
    connection: Connection, books: dict[str, int], bounds: dict[str, Any], currency: str
) -> dict[str, Any]:
    rows = connection.execute(_UNATTRIBUTED_ORDERS, bounds | {"currency": currency})
    orders = {row.account: row.orders for row in rows}
    reasons = {
        accounts.unpart(account.partition(":")[2]): {
            "revenue_minor": amount,
            "orders": orders.get(account, 0),
        }
        for account, amount in sorted(books.items(), key=lambda item: -item[1])
        if account.startswith("Unattributed:")
    }
    return {
        "revenue_minor": sum(r["revenue_minor"] for r in reasons.values()),
        "orders": connection.execute(_UNATTRIBUTED, bounds | {"currency": currency}).scalar_one(),
        "reasons": reasons,
    }


def _total(
    listed: list[dict[str, Any]], nobody: Any, books: dict[str, int], unattributed: dict[str, Any]
) -> dict[str, Any]:
    total: dict[str, Any] = {
        name: sum(row[name] for row in listed) + (getattr(nobody, name) if nobody is not None else 0)
        for name in ("leads", "mql", "sql", "won", "rejected")
    }
    credited = sum(row["revenue_minor"] for row in listed)
    total["spend_minor"] = sum(row["spend_minor"] for row in listed)
    total["credited_minor"] = credited
    total["unattributed_minor"] = unattributed["revenue_minor"]
    total["revenue_minor"] = credited + unattributed["revenue_minor"]
    # Gross of all sales less refunds, as the journal has it: what the shop's own total is held against.
    total["shop_gross_minor"] = -sum(n for account, n in books.items() if account.startswith("Revenue:"))
    total |= ratios(total["revenue_minor"], total["spend_minor"], total["won"])
    return total
