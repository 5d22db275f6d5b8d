"""Which raw records a read has brought so far: a read of a long history brings millions."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

BUCKETS = 256


class Distinct:
    """Counts different texts in eight bytes each.

    What it keeps is their 64-bit hash: of a million texts two share one with a chance of one in thirty million.
    """

    def __init__(self) -> None:
        self._buckets = [array("q") for _ in range(BUCKETS)]
        self.added = 0

    def add(self, texts: Iterable[str]) -> None:
        for text in texts:
            number = hash(text)
            self._buckets[number % BUCKETS].append(number)
            self.added += 1

    def __len__(self) -> int:
        return sum(len(set(bucket)) for bucket in self._buckets)
