"""Why a figure is another one than it was: the entries that were booked between two times, and what they moved."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.report import funnel
from sync.report.period import Period

_ACCOUNTS = sa.text(
    """
    SELECT p.account, e.currency, sum(p.amount_minor) FILTER (WHERE e.booked_at <= :before) AS then_minor,
           sum(p.amount_minor) AS now_minor
      FROM entries e JOIN postings p ON p.entry_id = e.id
     WHERE e.posted_on >= :since AND e.posted_on < :until AND e.booked_at <= :after
     GROUP BY 1, 2
    HAVING sum(p.amount_minor) FILTER (WHERE e.booked_at > :before) <> 0
     ORDER BY p.account COLLATE "C", 2
    """
)
_ENTRIES = sa.text(
    """
    SELECT e.id, e.kind, e.connector, e.subject, e.part, e.currency, e.business_day, e.posted_on, e.booked_at,
           e.reason, e.author, e.reverses, e.refers_to,
           coalesce((SELECT json_object_agg(p.account, p.amount_minor ORDER BY p.line)
                       FROM postings p WHERE p.entry_id = e.id), '{}') AS postings
      FROM entries e
     WHERE e.posted_on >= :since AND e.posted_on < :until AND e.booked_at > :before AND e.booked_at <= :after
     ORDER BY e.id
    """
)
PEOPLE = ("leads", "mql", "sql", "won", "rejected", "lost", "recycled")


def diff(
    connection: Connection, period: Period, zone: ZoneInfo, *, before: datetime, after: datetime
) -> dict[str, Any]:
    """What changed in the figures of `period` between what was known at `before` and at `after`.

    ``accounts`` has each account that moved (`then_minor`, `now_minor`, their difference), ``entries`` every entry
    booked in between, which sum to these differences exactly, ``people`` the counts of the funnel at both times.
    """
    bounds = {"since": period.since, "until": period.until, "before": before, "after": after}
    then, now = (funnel.funnel(connection, period, zone, as_of=at) for at in (before, after))
    return {
        "before": before,
        "after": after,
        "accounts": [
            {
                "account": row.account,
                "currency": row.currency,
                "then_minor": int(row.then_minor or 0),
                "now_minor": int(row.now_minor),
                "moved_minor": int(row.now_minor - (row.then_minor or 0)),
            }
            for row in connection.execute(_ACCOUNTS, bounds)
        ],
        "people": {name: {"then": then[name], "now": now[name]} for name in PEOPLE},
        "entries": [dict(row._mapping) for row in connection.execute(_ENTRIES, bounds)],
    }
