"""The days of an ad account: which ones a window touches, cut into calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from connectors.contract import Window
from connectors.errors import ConnectorError

HISTORY_MONTHS = 37
"""How far back insights go by default; the vendor refuses older days."""
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Days:
    """A range of days of the ad account's zone, both inclusive."""

    first: date
    last: date

    def halves(self) -> tuple[Days, Days]:
        """Both parts of a range of at least two days."""
        middle = self.first + (self.last - self.first) // 2
        return Days(self.first, middle), Days(middle + DAY, self.last)

    def months(self) -> Iterator[Days]:
        """By calendar month."""
        first = self.first
        while first <= self.last:
            following = (first.replace(day=1) + timedelta(days=31)).replace(day=1)
            yield Days(first, min(following - DAY, self.last))
            first = following


def within(window: Window, *, zone: ZoneInfo, now: datetime, months: int | None) -> Days:
    """The days that the window touches and the vendor still shows at `now`: the last `months` (None: all).

    Raises `ConnectorError` (config) when it shows none of them: an empty read would look as if all had been
    withdrawn.
    """
    first = window.since.astimezone(zone).date()
    last = max(first, (window.until - timedelta(microseconds=1)).astimezone(zone).date())
    oldest = first if months is None else _oldest(now.astimezone(zone).date(), months)
    if last < oldest:
        raise ConnectorError(
            "config",
            f"Meta shows spend of the last {months} months only",
            hint=f"Begin with {oldest} or later.",
        )
    return Days(max(first, oldest), last)


def _oldest(today: date, months: int) -> date:
    """Some days of margin: months differ in length, and the vendor's today may be a day after ours."""
    month = today.year * 12 + today.month - 1 - months
    return date(month // 12, month % 12 + 1, min(today.day, 28)) + 4 * DAY


def end_of(day: Any, zone: ZoneInfo) -> datetime | None:
    """The end of a ``YYYY-MM-DD`` in UTC; None when it is none."""
    try:
        following = date.fromisoformat(day) + DAY if isinstance(day, str) else None
    except ValueError:
        return None
    return datetime.combine(following, time(), zone).astimezone(UTC) if following else None
