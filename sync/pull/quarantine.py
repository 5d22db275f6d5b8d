"""Records that were set aside: shown, mapped again, or dropped with a reason."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.store.tables import evidence, quarantine


def list_set_aside(connection: Connection, *, connector: str | None) -> list[dict[str, Any]]:
    """What is set aside and not dropped, oldest first."""
    statement = sa.select(quarantine).where(quarantine.c.dropped_at.is_(None)).order_by(quarantine.c.id)
    if connector:
        statement = statement.where(quarantine.c.connector == connector)
    return [
        {
            "id": row.id,
            "connector": row.connector,
            "stream": row.stream,
            "record": row.external_id,
            "field": row.field,
            "reason": row.reason,
            "set_aside_at": row.set_aside_at,
        }
        for row in connection.execute(statement)
    ]


def show(connection: Connection, quarantine_id: int) -> dict[str, Any] | None:
    """One record whole: every problem, and the vendor's bytes."""
    row = connection.execute(
        sa.select(quarantine, evidence.c.body, evidence.c.sha256, evidence.c.fetched_at)
        .join(evidence, evidence.c.id == quarantine.c.evidence_id)
        .where(quarantine.c.id == quarantine_id)
    ).first()
    if row is None:
        return None
    return {
        "id": row.id,
        "connector": row.connector,
        "stream": row.stream,
        "record": row.external_id,
        "problems": row.problems,
        "evidence": row.evidence_id,
        "sha256": bytes(row.sha256).hex(),
        "fetched_at": row.fetched_at,
        "body": bytes(row.body).decode("utf-8", errors="replace"),
        "dropped_at": row.dropped_at,
        "dropped_why": row.dropped_why,
    }


def chosen(connection: Connection, ids: list[int] | None) -> dict[str, dict[str, list[str]]]:
    """The raw ids to map again, by connector and stream; None: all that is set aside."""
    statement = sa.select(quarantine).where(quarantine.c.dropped_at.is_(None))
    if ids:
        statement = statement.where(quarantine.c.id.in_(ids))
    found: dict[str, dict[str, list[str]]] = {}
    for row in connection.execute(statement.order_by(quarantine.c.id)):
        found.setdefault(row.connector, {}).setdefault(row.stream, []).append(row.external_id)
    return found


def drop(connection: Connection, ids: list[int], *, why: str) -> int:
    """Give up records, with a reason; they stay in the table and their evidence stays. Returns how many."""
    return connection.execute(
        sa.update(quarantine)
        .where(quarantine.c.id.in_(ids), quarantine.c.dropped_at.is_(None))
        .values(dropped_at=sa.func.now(), dropped_why=why)
    ).rowcount
