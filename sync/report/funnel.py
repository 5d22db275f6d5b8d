"""The funnel: how many people reached each stage, why others did not, how long each step took."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.report.period import Period
from sync.store import known

_FUNNEL = sa.text(
    """
    SELECT count(*) AS leads, count(mql_at) AS mql, count(sql_at) AS sql, count(won_at) AS won,
           count(rejected_at) AS rejected, count(lost_at) AS lost, count(recycled_at) AS recycled,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM mql_at - lead_at))
               FILTER (WHERE mql_at >= lead_at) AS lead_to_mql,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM sql_at - mql_at))
               FILTER (WHERE sql_at >= mql_at) AS mql_to_sql,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM won_at - sql_at))
               FILTER (WHERE won_at >= sql_at) AS sql_to_won,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM won_at - lead_at))
               FILTER (WHERE won_at >= lead_at) AS lead_to_won,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM rejected_at - mql_at))
               FILTER (WHERE rejected_at >= mql_at) AS mql_to_rejected
      FROM journeys_known(CAST(:as_of AS timestamptz)) WHERE lead_at >= :since AND lead_at < :until
    """
)

_REASONS = sa.text(
    """
    SELECT coalesce(rejected_reason, 'no reason given') AS reason, count(*) AS people
      FROM journeys_known(CAST(:as_of AS timestamptz))
     WHERE rejected_at IS NOT NULL AND lead_at >= :since AND lead_at < :until
     GROUP BY 1 ORDER BY 2 DESC, 1
    """
)
STEPS = ("lead_to_mql", "mql_to_sql", "sql_to_won", "lead_to_won", "mql_to_rejected")


def funnel(
    connection: Connection, period: Period, zone: ZoneInfo, *, as_of: datetime | None = None
) -> dict[str, Any]:
    """People whose first lead came within the period, by the stages they have reached since; with `as_of`, as it
    was known then.

    ``median_seconds`` holds, for each step, the median over those who took it in that order (None: nobody).
    """
    since, until = period.bounds(zone)
    bounds = {"since": since, "until": until, "as_of": as_of}
    row = connection.execute(_FUNNEL, bounds).one()
    counts = {
        name: getattr(row, name) for name in ("leads", "mql", "sql", "won", "rejected", "lost", "recycled")
    }
    medians = {name: getattr(row, name) for name in STEPS}
    return {
        "as_of": known.latest(connection) if as_of is None else as_of,
        **counts,
        "rejected_reasons": {r.reason: r.people for r in connection.execute(_REASONS, bounds)},
        "median_seconds": {name: None if s is None else round(float(s)) for name, s in medians.items()},
    }
