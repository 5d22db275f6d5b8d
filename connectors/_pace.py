"""When the next call may leave: the rate limit of one client, shared by its threads, and the wait of a retry."""

from __future__ import annotations

import email.utils
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Lock

import httpx

LONGEST_WAIT_S = 300.0
"""A vendor that asks for more is left alone until the next run."""


def retry_after_s(headers: httpx.Headers, *, now: datetime | None = None) -> float | None:
    """Seconds of a Retry-After header, in either form of RFC 9110 (10.2.3); None when there is none."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())


class Pacer:
    """A token bucket: `per_second` calls, of which `burst` may leave at once.

    `clock` gives seconds that never go back, `sleep` waits for seconds.
    """

    def __init__(
        self,
        per_second: float | None,
        burst: int,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._gap_s = 1 / per_second if per_second else 0.0
        self._burst = burst
        self._clock = clock
        self._sleep = sleep
        self._lock = Lock()
        self._next = clock() - self._gap_s * (burst - 1)

    def wait(self) -> None:
        """Take a token, waiting for it if need be."""
        with self._lock:
            now = self._clock()
            self._next = max(self._next, now - self._gap_s * (self._burst - 1))
            pause_s = self._next - now
            self._next += self._gap_s
        if pause_s > 0:
            self._sleep(pause_s)

    def hold(self, seconds: float) -> None:
        """No call leaves within the next `seconds`, because the vendor asked for it."""
        if seconds > 0:
            with self._lock:
                self._next = max(self._next, self._clock() + min(seconds, LONGEST_WAIT_S))
