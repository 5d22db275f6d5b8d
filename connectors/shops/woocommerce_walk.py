"""How to page a list that is sorted by a time which moves, without losing a row."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from connectors.shops.woocommerce_wire import SECOND, Row


class ModifiedWalk:
    """Where the next page of a list sorted by the time of change starts.

    Whoever changes meanwhile goes to the end, and all after it move up a row: a page number would skip one.
    So each page is followed by a new first page from the latest time seen; only within one second, as after
    an import, page numbers count on. There a row that leaves shows in the total, and a page is read again.

    `after` is strict: the list holds what changed later.
    """

    def __init__(self, after: datetime) -> None:
        self.after = after
        self.page = 1
        self.latest: datetime | None = None
        self._total: int | None = None
        self._seen: set[str] = set()  # ids at `latest`: only these can come again

    def fits(self, rows: Sequence[Row]) -> bool:
        """Whether the shop filtered and sorted as it was asked; some ignore what they do not know."""
        floor = self.after
        for row in rows:
            if row.modified_at is None:
                continue
            if row.modified_at <= self.after or row.modified_at < floor:
                return False
            floor = row.modified_at
        return True

    def moved_up(self, total: int | None) -> bool:
        """Whether rows left the list since the page before, so that this one may begin too late.

        Then the page before is the next to be read.
        """
        if self.page == 1 or total is None or self._total is None or total >= self._total:
            return False
        self._total = total
        self.page -= 1
        return True

    def step(self, rows: Sequence[Row], total: int | None) -> list[Row]:
        """Take a page, which must fit; returns its rows that did not come before."""
        fresh = [row for row in rows if row.modified_at != self.latest or row.id not in self._seen]
        highest = max((row.modified_at for row in rows if row.modified_at), default=self.latest)
        if highest != self.latest:
            self.latest, self._seen = highest, set()
        self._seen.update(row.id for row in rows if row.modified_at == self.latest)
        if self.latest and self.latest - SECOND > self.after:
            self.after, self.page, self._total = self.latest - SECOND, 1, None
        else:
            self.page += 1
            self._total = total
        return fresh
