"""Puts the pages of a vendor together until they are worth a transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce

from connectors.contract import Cursor, Page
from connectors.errors import ConnectorError

RECORDS = 1_000
BYTES = 8 * 1024 * 1024
WAIT_S = 2.0
"""So slow a vendor's pages are committed one by one: nobody waits for a thousand records to see some."""


def batches(pages: Iterable[Page], *, clock: Callable[[], float] = time.monotonic) -> Iterator[Page]:
    """Pages as one page, in their order; what came before a `ConnectorError` is handed on before it."""
    held: list[Page] = []
    since = clock()
    try:
        for page in pages:
            held.append(page)
            if _is_enough(held) or clock() - since >= WAIT_S:
                yield _joined(held)
                held, since = [], clock()
    except ConnectorError:
        if held:
            yield _joined(held)
        raise
    if held:
        yield _joined(held)


def _is_enough(pages: Sequence[Page]) -> bool:
    records = [record for page in pages for record in page.records]
    return len(records) >= RECORDS or sum(len(record.body) for record in records) >= BYTES


def _joined(pages: Sequence[Page]) -> Page:
    return Page(
        [record for page in pages for record in page.records],
        cursor=reduce(_later, (page.cursor for page in pages)),
        said=next((page.said for page in reversed(pages) if page.said is not None), None),
    )


def _later(one: Cursor | None, next_: Cursor | None) -> Cursor | None:
    """Both as one: a page that says nothing of the time or the state leaves them as they are."""
    if one is None or next_ is None:
        return next_ or one
    times = [cursor.at for cursor in (one, next_) if cursor.at is not None]
    return Cursor(at=max(times, default=None), state=next_.state or one.state)
