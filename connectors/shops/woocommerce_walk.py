"""How to page a list that is sorted by a time which moves, without losing a row."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from connectors.shops.woocommerce_wire import SECOND, Row


class ModifiedWalk:
    """Where the next page of a list sorted by the time of change starts.

    Whoever changes meanwhile goes to the end, and all after it move up a row: a page number would skip one.
    So each page is followed by a new first page from the latest time seen. A second with more rows than a
    page, as after an import, is read as a list of its own, up to `before`, sorted by id, and by page numbers:
    there a row that leaves shows in the total, and a page is read again.

    `after` and `before` are strict; without `before` the list goes to the end of the window.
    """

    def __init__(self, after: datetime) -> None:
        self.after = after
        self.before: datetime | None = None
        self.page = 1
        self.latest: datetime | None = None
        self.repeats = False
        self._total: int | None = None
        self._seen: set[str] = set()  # ids at `latest`: only these can come again
        self._before: set[str] = set()  # ids of the page before, where this one follows it by its number

    def fits(self, rows: Sequence[Row]) -> bool:
        """Whether the shop filtered and sorted as it was asked; some ignore what they do not know."""
        floor = self.after + SECOND
        for row in rows:
            if row.modified_at is None:
                continue
            if row.modified_at < floor:
                return False
            floor = row.modified_at
        return True

    def shows_again(self, rows: Sequence[Row]) -> bool:
        """Whether a page that was asked for by its number is the one before it."""
        return bool(rows) and {row.id for row in rows} <= self._before

    def step(self, rows: Sequence[Row], total: int | None, *, last: bool) -> list[Row]:
        """Take a page, which must fit; returns its rows that did not come before. `last` ends its list.

        `repeats` then says whether rows left the list since the page before, so that this one may have begun
        too late: the page before is the next to be read, whatever the shop says of the end.
        """
        fresh = [row for row in rows if row.modified_at != self.latest or row.id not in self._seen]
        highest = max((row.modified_at for row in rows if row.modified_at), default=self.latest)
        if highest != self.latest:
            self.latest, self._seen = highest, set()
        self._seen.update(row.id for row in rows if row.modified_at == self.latest)
        shorter = total is not None and self._total is not None and total < self._total
        self.repeats = self.page > 1 and shorter
        self._total = total
        page = self.page
        self._go_on(last=last)
        self._before = {row.id for row in rows} if self.page > page else set()
        return fresh

    def _go_on(self, *, last: bool) -> None:
        if self.repeats:
            self.page -= 1
        elif self.latest and self.latest - SECOND > self.after:
            self._go(self.latest - SECOND, None)
        elif self.before is not None and last:
            self._go(self.after + SECOND, None)
        elif self.before is None and self.latest == self.after + SECOND:
            self._go(self.after, self.latest + SECOND)
        else:
            self.page += 1

    def _go(self, after: datetime, before: datetime | None) -> None:
        self.after, self.before, self.page, self._total = after, before, 1, None
