"""The exports' SQL: one period of the journal, read a batch at a time from one snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.export import rules
from sync.ledger import rates
from sync.report.period import EVER, Period
from sync.store.tables import policies

BATCH = 2_000

# Two snapshots of one export could tell two stories: all of it is read from one.
_SNAPSHOT = sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

_SPAN = sa.text("SELECT min(posted_on) AS first, max(posted_on) AS last FROM entries")

_BALANCES = sa.text(
    """
    SELECT * FROM (
        SELECT p.account COLLATE "C" AS account, e.currency,
               coalesce(sum(p.amount_minor) FILTER (WHERE e.posted_on < :since), 0)::bigint AS opening_minor,
               coalesce(sum(p.amount_minor) FILTER (WHERE e.posted_on >= :since AND p.amount_minor > 0), 0)
                   ::bigint AS debit_minor,
               coalesce(sum(p.amount_minor) FILTER (WHERE e.posted_on >= :since AND p.amount_minor < 0), 0)
                   ::bigint AS credit_minor
          FROM entries e JOIN postings p ON p.entry_id = e.id
         WHERE e.posted_on < :until
         GROUP BY 1, 2
    ) held
     WHERE opening_minor <> 0 OR debit_minor <> 0 OR credit_minor <> 0
     ORDER BY 1, 2
    """
)

_TOTALS = sa.text(
    """
    SELECT e.currency, count(DISTINCT e.id) AS entries, count(p.line) AS postings,
           coalesce(sum(p.amount_minor) FILTER (WHERE p.amount_minor > 0), 0)::bigint AS debit_minor,
           coalesce(sum(p.amount_minor) FILTER (WHERE p.amount_minor < 0), 0)::bigint AS credit_minor
      FROM entries e JOIN postings p ON p.entry_id = e.id
     WHERE e.posted_on >= :since AND e.posted_on < :until
     GROUP BY 1 ORDER BY 1
    """
)

_ENTRIES = sa.text(
    """
    SELECT e.id, e.kind, e.connector, e.subject, e.part, e.generation, e.currency, e.happened_at,
           e.business_day, e.posted_on, e.booked_at, e.policy_version, e.reason, e.author, e.reverses, e.evidence_id,
           e.evidence_sha256, e.hash, e.rate, coalesce(lines.accounts, '{}') AS accounts,
           coalesce(lines.amounts, '{}') AS amounts
      FROM entries e CROSS JOIN LATERAL (
           SELECT array_agg(p.account ORDER BY p.line) AS accounts,
                  array_agg(p.amount_minor ORDER BY p.line) AS amounts
             FROM postings p WHERE p.entry_id = e.id) lines
     WHERE e.posted_on >= :since AND e.posted_on < :until
     ORDER BY e.posted_on, e.id
    """
)

_POLICIES = sa.text(
    """
    SELECT DISTINCT policy_version FROM entries
     WHERE policy_version IS NOT NULL AND posted_on >= :since AND posted_on < :until
    """
)


def begin_snapshot(connection: Connection) -> None:
    """From here on the connection's transaction sees the books as they are now. Its first statement."""
    connection.execute(_SNAPSHOT)


def span(connection: Connection, period: Period, *, today: date) -> Period:
    """The days that `period` comes to: without one, from the first entry's to the last one's."""
    if period != EVER:
        return period
    first, last = connection.execute(_SPAN).one()
    return Period(first or today, (last or today) + timedelta(days=1))


def read_balances(connection: Connection, days: Period) -> list[rules.Balance]:
    """Every account that held something at the begin or was posted to in these days, by name."""
    rows = connection.execute(_BALANCES, {"since": days.since, "until": days.until})
    return [rules.Balance(*row) for row in rows]


def read_totals(connection: Connection, days: Period) -> list[rules.Total]:
    rows = connection.execute(_TOTALS, {"since": days.since, "until": days.until})
    return [rules.Total(*row) for row in rows]


def read_policies(connection: Connection, days: Period) -> list[rules.Policy]:
    """The versions of the policy that the entries of these days were booked by."""
    used = connection.scalars(_POLICIES, {"since": days.since, "until": days.until}).all()
    rows = connection.execute(
        sa.select(policies).where(policies.c.version.in_(used)).order_by(policies.c.version)
    )
    return [rules.Policy(r.version, r.valid_from, bytes(r.sha256), r.body) for r in rows]


def stream_entries(connection: Connection, days: Period) -> Iterator[rules.Entry]:
    """The entries that count on these days, oldest day first, `BATCH` of them in memory at a time."""
    statement = _ENTRIES.execution_options(yield_per=BATCH)
    with connection.execute(statement, {"since": days.since, "until": days.until}) as rows:
        for row in rows:
            used = rates.stored(row.rate)
            said = None if used is None else rates.said(used)
            yield rules.Entry(**{**row._mapping, "rate": said})
