"""WooCommerce's lists move while they are read: every order must come, and no cursor may go ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
import respx

from connectors.contract import Context, Page, Window
from connectors.errors import ConnectorError
from connectors.http import Http
from connectors.shops import woocommerce

HOST = "https://shop.example"
API = f"{HOST}/wp-json/wc/v3"
START = datetime(2026, 7, 1, tzinfo=UTC)
END = datetime(2026, 8, 1, 12, 0, 5, tzinfo=UTC)
WINDOW = Window(START, END)
SECOND = timedelta(seconds=1)


class Shop:
    """The orders as the vendor lists them: strict bounds in whole seconds, page numbers over what is there now.

    Orders of the same second come in an order of the database's own: the newest id first.
    """

    def __init__(self) -> None:
        self.changed: dict[int, datetime] = {}
        self.asked: list[dict[str, str]] = []
        self.before_call: Callable[[int], None] = lambda number: None

    def answer(self, request: httpx.Request) -> httpx.Response:
        asked = dict(request.url.params)
        if asked.get("status") == "trash":
            return httpx.Response(200, json=[], headers={"X-WP-Total": "0", "X-WP-TotalPages": "0"})
        self.asked.append(asked)
        self.before_call(len(self.asked))
        after, before = asked["modified_after"], asked.get("modified_before", "9")
        rows = [
            {"id": id, "date_modified_gmt": text}
            for id, time in self.changed.items()
            if after < (text := time.strftime("%Y-%m-%dT%H:%M:%S")) < before
        ]
        if asked["orderby"] == "modified":
            rows.sort(key=lambda row: (row["date_modified_gmt"], -row["id"]))
        else:
            rows.sort(key=lambda row: row["id"])
        size = int(asked["per_page"])
        first = (int(asked.get("page", 1)) - 1) * size
        headers = {"X-WP-Total": str(len(rows)), "X-WP-TotalPages": str(-(-len(rows) // size))}
        return httpx.Response(200, json=rows[first : first + size], headers=headers)


@pytest.fixture
def shop():
    shop = Shop()
    with respx.mock() as router:
        router.get(f"{API}/orders").mock(side_effect=shop.answer)
        yield shop


@pytest.fixture
def read():
    clients: list[Http] = []

    def factory(settings):
        clients.append(Http(settings, sleep=lambda seconds: None))
        return clients[-1]

    def start(per_page: int) -> Iterator[Page]:
        keys = {
            "base_url": HOST,
            "consumer_key": "ck_test",
            "consumer_secret": "cs_test",
            "per_page": per_page,
        }
        context = Context("shop", ZoneInfo("Europe/Warsaw"), Path(), factory)
        options = woocommerce.Options.model_validate(keys)
        return woocommerce.WooCommerce(options, context).read("orders", WINDOW)

    yield start
    for client in clients:
        client.close()


def collect(pages: Iterator[Page], into: list[Page]) -> None:
    """Keeps what came before an error."""
    for page in pages:
        into.append(page)


def ids(pages: list[Page]) -> list[int]:
    return [int(record.external_id) for page in pages for record in page.records]


@pytest.mark.parametrize("per_page", [1, 2, 3, 7, 100])
def test_every_order_comes_once_and_no_cursor_goes_ahead(shop, read, per_page):
    shop.changed = {id: START + timedelta(seconds=id // 3) for id in range(1, 24)}
    pages = list(read(per_page))
    assert sorted(ids(pages)) == list(range(1, 24))
    for number, page in enumerate(pages):
        if page.cursor is not None:
            later = [record.version for rest in pages[number + 1 :] for record in rest.records]
            assert all(version >= page.cursor.at for version in later)
    assert pages[-1].cursor.at == START + timedelta(seconds=7)


def test_orders_changed_meanwhile_make_no_other_one_vanish(shop, read):
    """They go to the list's end, and all after them move up: page numbers would skip one at each change."""
    shop.changed = {id: START + timedelta(minutes=id) for id in range(1, 31)}

    def change(call: int) -> None:
        if call < 30:
            shop.changed |= {id: START + timedelta(days=1, seconds=call) for id in (call, call + 1)}

    shop.before_call = change
    pages = list(read(4))
    assert set(ids(pages)) == set(range(1, 31))
    last = {int(record.external_id): record.version for page in pages for record in page.records}
    assert last == shop.changed


@pytest.mark.parametrize("later", [START + timedelta(days=1), END + timedelta(days=1)])
def test_within_one_second_none_vanishes_either(shop, read, later):
    """More orders than a page in one second, as after an import, of which some change while it is read.

    They go to the end of the list, or out of the window: either way others move up.
    """
    shop.changed = {id: START + timedelta(hours=1) for id in range(1, 26)}
    shop.changed |= {30: START, 31: START + timedelta(hours=2)}
    left = [25, 24, 23, 1]

    def change(call: int) -> None:
        if int(shop.asked[-1].get("page", 1)) > 1 and left:
            shop.changed[left.pop(0)] = later

    shop.before_call = change
    found = ids(list(read(5)))
    stayed = {id for id, time in shop.changed.items() if time < END}
    assert stayed <= set(found)
    assert left == []


def test_a_read_that_fails_keeps_what_was_proved(shop, read):
    shop.changed = {id: START + timedelta(minutes=id) for id in range(1, 9)}

    def fail(call: int) -> None:
        if call > 1:
            raise httpx.ReadTimeout("too slow")

    shop.before_call = fail
    pages: list[Page] = []
    with pytest.raises(ConnectorError) as caught:
        collect(read(3), pages)
    assert caught.value.kind == "vendor"
    assert ids(pages) == [1, 2, 3]
    assert START + timedelta(minutes=3) - SECOND <= pages[-1].cursor.at <= START + timedelta(minutes=3)
