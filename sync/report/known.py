"""What a report knows: one state of the books for all of its figures, and the time by which to ask for it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection, Engine

EVER = datetime(9999, 12, 31, tzinfo=UTC)


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A transaction that reads one state of the database, whatever is booked meanwhile."""
    with engine.connect() as connection:
        yield connection.execution_options(isolation_level="REPEATABLE READ")


def instant(text: str, zone: ZoneInfo) -> datetime:
    """``2026-10-31T23:59`` in the workspace's zone, or with an offset of its own; a day is its begin. UTC.

    Raises ValueError with what would be right.
    """
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text!r} is not a time: write 2026-10-31T23:59 or 2026-10-31T23:59:00+01:00"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
