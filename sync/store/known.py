"""When something became known. One clock for all that reports are made of: it only goes forward."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

_LATEST = sa.text(
    """
    SELECT greatest((SELECT booked_at FROM entries ORDER BY id DESC LIMIT 1),
                    (SELECT max(known_at) FROM journey_log),
                    (SELECT sealed_at FROM seals ORDER BY number DESC LIMIT 1))
    """
)
_NEXT = sa.text(
    "SELECT greatest(CAST(:now AS timestamptz), CAST(:latest AS timestamptz) + interval '1 microsecond')"
)


def latest(connection: Connection) -> datetime | None:
    """When the latest that the books know became known; None for empty books."""
    found: datetime | None = connection.execute(_LATEST).scalar()
    return found


def next_time(connection: Connection, now: datetime) -> datetime:
    """The time for what becomes known next: later than all before it, whatever the clock shows.

    So what was known at a time never grows afterwards. The caller is the only writer (the pipeline's or the
    journal's lock).
    """
    after = latest(connection)
    if after is None:
        return now
    found: datetime = connection.execute(_NEXT, {"now": now, "latest": after}).scalar_one()
    return found
