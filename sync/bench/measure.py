"""What is measured and how: ours and its floor by turns, so that a noisy machine troubles both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Timed = Callable[[], float]
"""Does its work once and returns the seconds of the part that counts."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table.

    Attributes
    ----------
    part : what was done.
    floor_s, ours_s : seconds, the median of all rounds; None where only a value is measured.
    ratio : ours to floor; for a part without a floor the value itself, in `unit`.
    goal : the most that `ratio` may be.
    floor : what the floor was.
    """

    part: str
    floor_s: float | None
    ours_s: float | None
    ratio: float
    goal: float
    unit: str
    floor: str

    @property
    def met(self) -> bool:
        return self.ratio <= self.goal


@contextmanager
def stopwatch(into: list[float]) -> Iterator[None]:
    """Appends the seconds that the block took."""
    began = time.perf_counter()
    yield
    into.append(time.perf_counter() - began)


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def contest(part: str, *, goal: float, floor: Timed, ours: Timed, rounds: int, against: str) -> Result:
    """Run floor and ours by turns."""
    floors, times = [], []
    for _ in range(rounds):
        floors.append(floor())
        times.append(ours())
    floor_s, ours_s = statistics.median(floors), statistics.median(times)
    return Result(part, floor_s, ours_s, ours_s / floor_s, goal, "×", against)


def compared(part: str, *, goal: float, whole_s: float, ours_s: float, against: str) -> Result:
    """A part whose floor is another measurement of ours, such as the whole of what is now done in part."""
    return Result(part, whole_s, ours_s, ours_s / whole_s, goal, "×", against)


def value(part: str, *, goal: float, found: float, unit: str) -> Result:
    """A part that is measured as it is."""
    seconds = found if unit == "s" else None
    return Result(part, None, seconds, found, goal, unit, "")
