"""What ran, what is late, what failed and what to do; what is set aside; what waits to be pushed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.store.tables import ignored_keys, outbox, quarantine, runs, schedules

LATE = timedelta(minutes=2)

# The last run of each kind of a connector, the worst of them first: a push that went well hides no failed pull.
_LAST = sa.text(
    """
    SELECT DISTINCT ON (connector) connector, kind, status, error, hint
      FROM (SELECT DISTINCT ON (connector, sort) *
              FROM (SELECT *, CASE kind WHEN 'push' THEN 'push' ELSE 'pull' END AS sort
                      FROM runs WHERE status <> 'queued') sorted
             ORDER BY connector, sort, id DESC) last
     ORDER BY connector, array_position(ARRAY['running', 'failed', 'abandoned', 'partial', 'done'], status), id
    """
)
_SUCCESS = sa.text(
    """
    SELECT connector, max(finished_at) AS at FROM runs
     WHERE status IN ('done', 'partial') AND (kind <> 'push' OR connector NOT IN (
               SELECT connector FROM runs WHERE kind IN ('pull', 'sync')))
     GROUP BY 1
    """
)
_FRESH = sa.text(
    "SELECT connector, max(started_at) AS at FROM runs"
    " WHERE status IN ('done', 'partial') AND kind IN ('pull', 'sync') GROUP BY 1"
)


def status(connection: Connection, connectors: list[str], *, now: datetime) -> list[dict[str, Any]]:
    """One row a connector: last success, next run, how far behind its data is, what is wrong, what to do.

    ``lag_s`` is how old the data may be, in seconds: the age of the begin of the last pull that succeeded.
    """
    last = {row.connector: row for row in connection.execute(_LAST)}
    success = {row.connector: row.at for row in connection.execute(_SUCCESS)}
    lag = {row.connector: row.at for row in connection.execute(_FRESH)}
    planned = {row.connector: row for row in connection.execute(sa.select(schedules))}
    aside = _count_by(connection, quarantine.c.connector, quarantine.c.dropped_at.is_(None))
    refused = _count_by(connection, outbox.c.destination, outbox.c.status == "refused")
    pending = _count_by(connection, outbox.c.destination, outbox.c.status == "pending")
    waits = {
        row.connector: row.waits_for
        for row in connection.execute(
            sa.select(runs.c.connector, runs.c.waits_for).where(runs.c.status == "queued")
        )
    }
    rows = []
    for name in connectors:
        run, plan = last.get(name), planned.get(name)
        due = plan.next_due_at if plan else None
        rows.append(
            {
                "connector": name,
                "state": run.status if run else "never run",
                "last_success": success.get(name),
                "next_run": due,
                "late": bool(due and due < now - LATE),
                "lag_s": round((now - lag[name]).total_seconds()) if name in lag else None,
                "quarantined": aside.get(name, 0),
                "push_pending": pending.get(name, 0),
                "push_refused": refused.get(name, 0),
                "waits_for": waits.get(name),
                "error": run.error if run else None,
                "todo": _todo(name, run, late=bool(due and due < now - LATE), aside=aside, refused=refused),
            }
        )
    return rows


def _count_by(
    connection: Connection, column: sa.ColumnElement[str], condition: sa.ColumnElement[bool]
) -> dict[str, int]:
    rows = connection.execute(sa.select(column, sa.func.count()).where(condition).group_by(column))
    return {row[0]: row[1] for row in rows}


def _todo(name: str, run: Any, *, late: bool, aside: dict[str, int], refused: dict[str, int]) -> str | None:
    if run is None:
        return f"leadledger sync {name}"
    if run.status in ("failed", "abandoned") and run.hint:
        return str(run.hint)
    if late:
        return "start `leadledger up`: no scheduler is running"
    if aside.get(name):
        return f"leadledger quarantine list {name}"
    if refused.get(name):
        return "leadledger report pushes"
    return str(run.hint) if run.hint else None


def list_runs(connection: Connection, *, connector: str | None, limit: int) -> list[dict[str, Any]]:
    """The latest runs, newest first."""
    statement = sa.select(runs).order_by(runs.c.id.desc()).limit(limit)
    if connector:
        statement = statement.where(runs.c.connector == connector)
    return [
        {
            "run": row.id,
            "connector": row.connector,
            "kind": row.kind,
            "status": row.status,
            "due_at": row.due_at,
            "started_at": row.started_at,
            "finished_at": row.finished_at,
            "counts": row.counts,
            "cursors": row.cursors,
            "waits_for": row.waits_for,
            "error": row.error,
            "todo": row.hint,
        }
        for row in connection.execute(statement)
    ]


def list_ignored_keys(connection: Connection) -> list[dict[str, Any]]:
    """The identity keys that join nobody, each with why. Values are personal data: callers mask them."""
    rows = connection.execute(
        sa.select(ignored_keys).order_by(ignored_keys.c.key_kind, ignored_keys.c.key_value)
    )
    return [{"kind": r.key_kind, "value": r.key_value, "why": r.why} for r in rows]


def has_runs(connection: Connection, connector: str) -> bool:
    return (
        connection.execute(sa.select(runs.c.id).where(runs.c.connector == connector).limit(1)).first()
        is not None
    )


def list_pushes(connection: Connection, *, status: str | None) -> list[dict[str, Any]]:
    """What is in the outbox, of one status or all: for whom, what should be there, and why it is not.

    E-mail addresses are personal data: callers mask them.
    """
    statement = sa.select(outbox).order_by(outbox.c.destination, outbox.c.status, outbox.c.person_id)
    if status is not None:
        statement = statement.where(outbox.c.status == status)
    return [
        {
            "destination": row.destination,
            "person": row.person_id,
            "email": row.email,
            "remote_id": row.remote_id,
            "status": row.status,
            "tries": row.tries,
            "reason": row.reason,
            "desired": row.desired,
            "accepted": row.accepted,
        }
        for row in connection.execute(statement)
    ]


def pending_work(connection: Connection) -> dict[str, int]:
    """How many records wait for each step (0 everywhere after a finished sync)."""
    rows = connection.execute(sa.text("SELECT step, count(*) AS waiting FROM pending GROUP BY 1"))
    return {row.step: row.waiting for row in rows}
