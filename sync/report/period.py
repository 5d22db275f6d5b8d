"""The period of a report: days of the workspace's calendar, from and until (exclusive)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_MONTHS = re.compile(r"(\d{4})-(\d{2})")
_QUARTERS = re.compile(r"(\d{4})-?Q([1-4])", re.IGNORECASE)
_YEARS = re.compile(r"\d{4}")
_RANGES = re.compile(r"(\d{4}-\d{2}-\d{2})\.\.(\d{4}-\d{2}-\d{2})")
_DAYS = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class Period:
    """`since` inclusive, `until` exclusive; a whole business day each, in the workspace's zone."""

    since: date
    until: date

    def bounds(self, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """The instants of its begin and end, in UTC: a day of a clock change has 23 or 25 hours."""
        begin, end = (datetime.combine(day, time(), zone) for day in (self.since, self.until))
        return begin.astimezone(UTC), end.astimezone(UTC)


EVER = Period(date(1970, 1, 1), date(9998, 1, 1))


def parse(text: str | None) -> Period:
    """``2018``, ``2018-Q1``, ``2018-03``, ``2018-03-09`` or ``2018-03-09..2018-04-15`` (both days included).

    None means ever. Raises ValueError with what would be right.
    """
    if text is None:
        return EVER
    try:
        found = _parse(text.strip())
    except (ValueError, OverflowError):
        found = None
    if found is None or found.since >= found.until:
        raise ValueError(
            f"{text!r} is not a period: write 2018, 2018-Q1, 2018-03, 2018-03-09 or 2018-03-09..2018-04-15"
        )
    return found


def _parse(text: str) -> Period | None:
    if match := _RANGES.fullmatch(text):
        first, last = (date.fromisoformat(day) for day in match.groups())
        return Period(first, last + timedelta(days=1))
    if _DAYS.fullmatch(text):
        day = date.fromisoformat(text)
        return Period(day, day + timedelta(days=1))
    if match := _QUARTERS.fullmatch(text):
        return _months(int(match[1]), int(match[2]) * 3 - 2, 3)
    if match := _MONTHS.fullmatch(text):
        return _months(int(match[1]), int(match[2]), 1)
    if _YEARS.fullmatch(text):
        return _months(int(text), 1, 12)
    return None


def _months(year: int, month: int, count: int) -> Period:
    end = month + count
    return Period(date(year, month, 1), date(year + (end - 1) // 12, (end - 1) % 12 + 1, 1))
