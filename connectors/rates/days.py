"""The days that a read of a bank's rates asks for. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from connectors.contract import Cursor, Window

BEFORE = timedelta(days=14)
"""So much before its begin the first read asks for: the rate of a day is that of a working day before it, and
no bank is shut for longer."""
OVERLAP = timedelta(days=10)
"""Read again at every run: a bank corrects a table within days."""
DAY = timedelta(days=1)


def spans(window: Window, zone: ZoneInfo, *, days_max: int) -> Iterator[tuple[date, date]]:
    """First and last day (both included) of each call, oldest first; no day after the window's last one, since
    a bank knows no rate of tomorrow and says so with an error."""
    since = window.since if window.cursor else window.since - BEFORE
    first = since.astimezone(zone).date()
    last = window.until.astimezone(zone).date()
    while first <= last:
        end = min(last, first + (days_max - 1) * DAY)
        yield first, end
        first = end + DAY


def cursor_after(last: date, window: Window, zone: ZoneInfo) -> Cursor:
    """The cursor once `last` was read: its end, or now, which is all that can be known of today."""
    end = datetime.combine(last + DAY, time(), zone).astimezone(UTC)
    return Cursor(at=min(end, window.until))
