"""Pages become transactions: nothing is lost or turned around, and an error keeps what came before it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.contract import Cursor, Page, RawRecord
from connectors.errors import ConnectorError
from sync.pull import pages

START = datetime(2026, 1, 1, tzinfo=UTC)


def page(first: int, count: int, *, size: int = 2, **more: object) -> Page:
    records = [RawRecord(str(n), b"x" * size) for n in range(first, first + count)]
    return Page(records, **more)  # type: ignore[arg-type]


def ids(page: Page) -> list[str]:
    return [record.external_id for record in page.records]


@given(st.lists(st.integers(0, 700), max_size=12))
def test_all_records_come_once_and_in_order(sizes: list[int]) -> None:
    given_ = [page(1000 * at, size) for at, size in enumerate(sizes)]
    found = list(pages.batches(given_, clock=lambda: 0.0))
    assert [i for one in found for i in ids(one)] == [i for one in given_ for i in ids(one)]
    assert all(len(one.records) >= pages.RECORDS for one in found[:-1])
    assert all(len(one.records) < pages.RECORDS + 700 for one in found)


def test_cursor_and_count_are_the_last_ones_said() -> None:
    at = [START + timedelta(days=n) for n in range(2)]
    given_ = [
        page(0, 1, cursor=Cursor(at=at[0], state={"token": "a"}), said=9),
        page(1, 1, cursor=Cursor(at=at[1]), said=8),
        page(2, 1),
    ]
    [found] = pages.batches(given_)
    assert found.cursor == Cursor(at=at[1], state={"token": "a"})
    assert found.said == 8


def test_an_error_comes_after_what_came_before_it() -> None:
    def broken() -> Iterator[Page]:
        yield page(0, 3)
        raise ConnectorError("vendor", "down")

    found = pages.batches(broken())
    assert ids(next(found)) == ["0", "1", "2"]
    with pytest.raises(ConnectorError, match="down"):
        next(found)


def test_large_pages_and_slow_ones_are_not_put_together() -> None:
    large = [page(n, 1, size=pages.BYTES) for n in range(3)]
    assert [len(one.records) for one in pages.batches(large, clock=lambda: 0.0)] == [1, 1, 1]
    ticks = iter(range(0, 1000, int(pages.WAIT_S)))
    slow = [page(n, 1) for n in range(3)]
    assert [len(one.records) for one in pages.batches(slow, clock=lambda: next(ticks))] == [1, 1, 1]
