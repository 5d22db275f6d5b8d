"""The SQL that asks what is known of an order or refund that differs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.ledger.differences import Facts, Held

_HELD_ORDERS = sa.text(
    """
    SELECT external_id AS id, occurred_at, status, currency, total_minor, tax_minor, shipping_minor
      FROM orders WHERE connector = :connector AND external_id = ANY(CAST(:ids AS text[]))
    """
)
_HELD_REFUNDS = sa.text(
    """
    SELECT external_id AS id, occurred_at, '' AS status, '' AS currency, CAST(NULL AS bigint) AS total_minor,
           CAST(NULL AS bigint) AS tax_minor, CAST(NULL AS bigint) AS shipping_minor
      FROM refunds WHERE connector = :connector AND external_id = ANY(CAST(:ids AS text[]))
    """
)
_RAW = sa.text(
    """
    SELECT n.id, h.version, coalesce(h.deleted, false) AS deleted, q.id AS quarantined, q.field, q.dropped_at,
           q.dropped_why
      FROM unnest(CAST(:ids AS text[])) AS n (id)
      LEFT JOIN heads h ON h.connector = :connector AND h.stream = ANY(CAST(:streams AS text[]))
                       AND h.external_id = n.id
      LEFT JOIN quarantine q ON q.connector = :connector AND q.stream = ANY(CAST(:streams AS text[]))
                            AND q.external_id = n.id
    """
)
_WAITING = sa.text(
    """
    SELECT DISTINCT ON (ref) ref AS id, step FROM pending
     WHERE step <> 'push' AND kind = :kind AND connector = :connector AND ref = ANY(CAST(:ids AS text[]))
     ORDER BY ref, id
    """
)
# Not the cursor: where nothing changed for long, it stands long before what was read.
_READ_UNTIL = sa.text(
    """
    SELECT max(started_at) FROM runs
     WHERE connector = :connector AND kind = 'pull' AND status IN ('done', 'partial')
    """
)


def facts(
    connection: Connection, connector: str, kind: str, ids: Sequence[str], *, streams: Sequence[str]
) -> dict[str, Facts]:
    """What is known of these orders or refunds (`kind`), which come from `streams`."""
    of = {"connector": connector, "ids": list(ids)}
    held = {
        row.id: Held(
            row.occurred_at, row.status, row.currency, row.total_minor, row.tax_minor, row.shipping_minor
        )
        for row in connection.execute(_HELD_ORDERS if kind == "order" else _HELD_REFUNDS, of)
    }
    waiting = {row.id: row.step for row in connection.execute(_WAITING, of | {"kind": kind})}
    read_until: datetime | None = connection.execute(_READ_UNTIL, {"connector": connector}).scalar()
    found: dict[str, Facts] = {}
    for row in connection.execute(_RAW, of | {"streams": list(streams)}):
        aside = None if row.quarantined is None else (row.quarantined, row.dropped_why or row.field)
        found[row.id] = Facts(
            held=held.get(row.id),
            set_aside=aside if row.dropped_at is None else None,
            dropped=aside if row.dropped_at is not None else None,
            deleted=row.deleted,
            version=row.version,
            read_until=read_until,
            waits_for=waiting.get(row.id),
        )
    return found


_REFUNDS_OF = sa.text(
    """
    SELECT external_id FROM refunds
     WHERE connector = :connector AND order_id = ANY(CAST(:ids AS text[])) ORDER BY external_id
    """
)


def refunds_of(connection: Connection, connector: str, order_ids: Sequence[str]) -> list[str]:
    """The refunds of these orders of which there is a record."""
    found = connection.execute(_REFUNDS_OF, {"connector": connector, "ids": list(order_ids)})
    return list(found.scalars())
