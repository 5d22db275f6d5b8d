"""WooCommerce at its edges: a list that moves while it is read, older shops, plain http, a firewall's pages."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pydantic
import pytest
import respx

from connectors.contract import Auditable, Context, Page, Source, Window
from connectors.errors import ConnectorError
from connectors.http import Http
from connectors.sandbox.woocommerce_oauth import base_string, signature
from connectors.shops import woocommerce

DATA = Path(__file__).parents[2] / "data" / "vendors" / "woocommerce"
HOST = "https://shop.example"
API = f"{HOST}/wp-json/wc/v3"
KEY, SECRET = "ck_of_a_test", "cs_of_a_test"
START = datetime(2026, 7, 1, tzinfo=UTC)
END = datetime(2026, 8, 1, 12, 0, 5, tzinfo=UTC)
WINDOW = Window(START, END)
SECOND = timedelta(seconds=1)


def sample(name: str) -> bytes:
    return (DATA / f"{name}.json").read_bytes()


def wordpress(status: int, code: str, message: str = "Sorry.", **data: object) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "message": message, "data": {"status": status, **data}})


def refused(param: str) -> httpx.Response:
    return wordpress(400, "rest_invalid_param", params={param: f"{param} is not one of date, id."})


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def vendor():
    with respx.mock(assert_all_called=False) as router:
        yield router


@pytest.fixture
def make(waits):
    clients: list[Http] = []

    def factory(settings):
        clients.append(Http(settings, sleep=waits.append))
        return clients[-1]

    def build(**options):
        context = Context("shop", ZoneInfo("Europe/Warsaw"), Path(), factory)
        asked = {"base_url": HOST, "consumer_key": KEY, "consumer_secret": SECRET, **options}
        return woocommerce.WooCommerce(woocommerce.Options.model_validate(asked), context)

    yield build
    for client in clients:
        client.close()


def ids(pages: list[Page]) -> list[int]:
    return [int(record.external_id) for page in pages for record in page.records]


class Shop:
    """One list as the vendor gives it: strict bounds in whole seconds, page numbers over what is there now."""

    def __init__(self, vendor, path: str = "orders") -> None:
        self.rows: dict[int, dict[str, object]] = {}
        self.asked: list[dict[str, str]] = []
        self.before_call: Callable[[int], None] = lambda number: None
        self.sorts_by_change = True
        self.filters = True
        vendor.get(f"{API}/{path}").mock(side_effect=self.answer)

    def put(self, id: int, changed: datetime, **more: object) -> None:
        text = changed.strftime("%Y-%m-%dT%H:%M:%S")
        created = self.rows.get(id, {}).get("date_created_gmt", text)
        self.rows[id] = {"id": id, "date_created_gmt": created, "date_modified_gmt": text, **more}

    def answer(self, request: httpx.Request) -> httpx.Response:
        asked = dict(request.url.params)
        self.asked.append(asked)
        self.before_call(len(self.asked))
        if asked.get("orderby") == "modified" and not self.sorts_by_change:
            return refused("orderby")
        rows = [row for row in self.rows.values() if self._fits(row, asked)]
        name = {"modified": "date_modified_gmt", "id": "id"}.get(asked.get("orderby", "date"), "id")
        rows.sort(key=lambda row: (row[name], row["id"]), reverse=asked.get("order", "desc") == "desc")
        size = int(asked.get("per_page", 10))
        first = (int(asked.get("page", 1)) - 1) * size
        headers = {"X-WP-Total": str(len(rows)), "X-WP-TotalPages": str(-(-len(rows) // size))}
        return httpx.Response(200, json=rows[first : first + size], headers=headers)

    def _fits(self, row: dict[str, object], asked: dict[str, str]) -> bool:
        if (row.get("status") == "trash") != (asked.get("status") == "trash"):
            return False
        if not self.filters:
            return True
        assert asked.get("dates_are_gmt") == "true" or not {"after", "modified_after"} & asked.keys()
        for name, field in (("", "date_created_gmt"), ("modified_", "date_modified_gmt")):
            after, before = asked.get(f"{name}after"), asked.get(f"{name}before")
            for bound in (after, before):
                assert bound is None or re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", bound)
            if (after and not row[field] > after) or (before and not row[field] < before):
                return False
        return True


# authentication and options


def test_is_a_source_and_can_be_audited(make):
    assert isinstance(make(), Source)
    assert isinstance(make(), Auditable)


@pytest.mark.parametrize(
    "wrong",
    [{"base_url": "shop.example"}, {"per_page": 101}, {"per_page": 0}, {"other": 1}, {"base_url": ""}],
)
def test_wrong_options_are_refused(wrong):
    asked = {"base_url": HOST, "consumer_key": KEY, "consumer_secret": SECRET, **wrong}
    with pytest.raises(pydantic.ValidationError) as caught:
        woocommerce.Options.model_validate(asked)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("address", [HOST, f"{HOST}/", f"{API}", f"{API}/"])
def test_the_shops_root_may_be_written_with_or_without_the_api(make, vendor, address):
    shop = Shop(vendor, "customers")
    list(make(base_url=address).read("contacts", WINDOW))
    assert len(shop.asked) == 1


def test_https_is_basic(make, vendor):
    Shop(vendor, "customers")
    list(make().read("contacts", WINDOW))
    told = vendor.calls[0].request.headers["authorization"].removeprefix("Basic ")
    assert base64.b64decode(told).decode() == f"{KEY}:{SECRET}"
    assert KEY not in str(vendor.calls[0].request.url)


def test_plain_http_is_signed_anew_each_time_and_the_secret_does_not_travel(make, vendor):
    """The signature is checked by the sandbox's code, which shares none with the connector."""
    plain = "http://shop.example/blog/wp-json/wc/v3/customers"
    vendor.get(plain).mock(side_effect=[httpx.Response(503), httpx.Response(200, json=[])])
    list(make(base_url="http://shop.example/blog").read("contacts", WINDOW))
    nonces = set()
    for call in vendor.calls:
        request = call.request
        header = request.headers["authorization"]
        assert header.startswith("OAuth ")
        assert SECRET not in header + str(request.url)
        parts = {
            name: str(httpx.QueryParams(f"v={text}")["v"])
            for name, text in re.findall(r'(\w+)="([^"]*)"', header)
        }
        nonces.add(parts["oauth_nonce"])
        text = base_string("GET", plain, [*request.url.params.multi_items(), *parts.items()])
        assert parts["oauth_signature"] == signature(text, SECRET, parts["oauth_signature_method"])
        assert parts["oauth_consumer_key"] == KEY
    assert len(nonces) == 2


# orders


def test_records_are_the_exact_bytes_with_their_version(make, vendor):
    raw = sample("real_10.3.6_orders")
    items = json.loads(raw)
    vendor.get(f"{API}/orders").mock(
        side_effect=lambda request: (
            httpx.Response(200, json=[])
            if request.url.params.get("status") == "trash"
            else httpx.Response(200, content=b"[" + b",".join(bodies) + b"]")
        )
    )
    items.sort(key=lambda item: item["date_modified_gmt"])
    bodies = [json.dumps(item, ensure_ascii=False, indent=1).encode() for item in items]
    window = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    records = [record for page in make().read("orders", window) for record in page.records]
    assert [record.body for record in records] == bodies
    assert [record.external_id for record in records] == [str(item["id"]) for item in items]
    assert [record.version for record in records] == [
        datetime.fromisoformat(item["date_modified_gmt"]).replace(tzinfo=UTC) for item in items
    ]


def test_the_window_holds_its_first_second_and_not_its_last(make, vendor):
    shop = Shop(vendor)
    for id, changed in enumerate([START - SECOND, START, END - SECOND, END], start=1):
        shop.put(id, changed)
    assert ids(list(make().read("orders", WINDOW))) == [2, 3]


@pytest.mark.parametrize("per_page", [1, 2, 3, 7, 100])
def test_every_order_comes_once_and_the_cursor_never_goes_ahead(make, vendor, per_page):
    shop = Shop(vendor)
    for id in range(1, 24):
        shop.put(id, START + timedelta(seconds=id // 3))
    pages = list(make(per_page=per_page).read("orders", WINDOW))
    assert sorted(ids(pages)) == list(range(1, 24))
    for number, page in enumerate(pages):
        if page.cursor is not None:
            later = [record.version for rest in pages[number + 1 :] for record in rest.records]
            assert all(version >= page.cursor.at for version in later)
    assert pages[-1].cursor.at == START + timedelta(seconds=7)
    assert {page.said for page in pages if page.said is not None} == {23}


def test_an_order_changed_meanwhile_makes_no_other_one_vanish(make, vendor):
    """It goes to the list's end, and all after it move up: page numbers would skip one at each change."""
    shop = Shop(vendor)
    for id in range(1, 31):
        shop.put(id, START + timedelta(minutes=id))

    def change(call: int) -> None:
        for id in (call, call + 1):
            shop.put(id, START + timedelta(days=1, seconds=call))

    shop.before_call = change
    pages = list(make(per_page=4).read("orders", WINDOW))
    assert set(ids(pages)) == set(range(1, 31))
    last = {record.external_id: record.version for page in pages for record in page.records}
    assert all(last[str(id)] >= START + timedelta(minutes=id) for id in range(1, 31))


def test_within_one_second_too_nothing_vanishes(make, vendor):
    """More orders than a page in one second, as after an import, and some of them change while it is read."""
    shop = Shop(vendor)
    for id in range(1, 26):
        shop.put(id, START + timedelta(hours=1))
    shop.put(30, START)
    shop.put(31, START + timedelta(hours=2))
    calls_with_page = iter([1, 2, 3])

    def change(call: int) -> None:
        if int(shop.asked[-1].get("page", 1)) > 1 and (id := next(calls_with_page, None)):
            shop.put(id, START + timedelta(days=1, seconds=call))

    shop.before_call = change
    pages = list(make(per_page=5).read("orders", WINDOW))
    assert set(ids(pages)) == {*range(1, 26), 30, 31}


def test_an_empty_read_moves_no_cursor(make, vendor):
    Shop(vendor)
    pages = list(make().read("orders", WINDOW))
    assert all(page.cursor is None and not page.records for page in pages)


def test_a_failed_read_keeps_what_was_proved(make, vendor):
    shop = Shop(vendor)
    for id in range(1, 9):
        shop.put(id, START + timedelta(minutes=id))

    def fail(call: int) -> None:
        if shop.asked[-1].get("modified_after", "") > "2026-07-01T00:02":
            raise httpx.ReadTimeout("too slow")

    shop.before_call = fail
    pages: list[Page] = []
    with pytest.raises(ConnectorError) as caught:
        pages += [page for page in _collected(make(per_page=3).read("orders", WINDOW), pages)]
    assert caught.value.kind == "vendor"
    assert ids(pages) == [1, 2, 3]
    assert START + timedelta(minutes=3) - SECOND <= pages[-1].cursor.at <= START + timedelta(minutes=3)


def _collected(pages, into: list[Page]):
    for page in pages:
        into.append(page)
    yield from ()


def test_a_shop_that_cannot_sort_by_change_is_read_by_id_and_moves_the_cursor_at_the_end(make, vendor):
    shop = Shop(vendor)
    shop.sorts_by_change = False
    for id in range(1, 12):
        shop.put(id, START + timedelta(minutes=20 - id))
    shop.put(12, END)
    pages = list(make(per_page=4).read("orders", WINDOW))
    assert ids(pages) == list(range(1, 12))
    cursors = [page.cursor for page in pages if page.cursor is not None]
    assert [cursor.at for cursor in cursors] == [START + timedelta(minutes=19)]
    assert pages[-1].cursor is cursors[0]


def test_a_shop_that_ignores_the_filter_does_not_make_an_endless_read(make, vendor):
    shop = Shop(vendor)
    shop.filters = False
    for id in range(1, 9):
        shop.put(id, START - timedelta(days=9 - id))
    try:
        pages = list(make(per_page=3).read("orders", WINDOW))
    except ConnectorError as error:
        assert error.kind == "protocol"
    else:
        assert ids(pages) == []
    assert len(shop.asked) < 20


def test_an_item_without_an_id_is_kept_for_the_quarantine(make, vendor):
    vendor.get(f"{API}/customers").respond(200, content=b'[{"id":7},{"name":"x"},3]')
    (page,) = make().read("contacts", WINDOW)
    keys = [record.external_id for record in page.records]
    assert keys[0] == "7"
    assert len({*keys, ""}) == 4
    assert [record.body for record in page.records] == [b'{"id":7}', b'{"name":"x"}', b"3"]


# refunds


def test_refunds_are_read_by_creation(make, vendor):
    raw = sample("real_10.3.6_refunds")
    route = vendor.get(f"{API}/refunds").respond(200, content=raw)
    window = Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    pages = list(make().read("refunds", window))
    items = json.loads(raw)
    assert ids(pages) == [item["id"] for item in items]
    assert pages[-1].cursor.at == max(
        datetime.fromisoformat(item["date_created_gmt"]).replace(tzinfo=UTC) for item in items
    )
    asked = route.calls[-1].request.url.params
    assert (asked["after"], asked["before"]) == ("2026-10-31T23:59:59", "2026-12-01T00:00:00")
    assert asked["dates_are_gmt"] == "true"


def test_a_shop_without_a_list_of_refunds_is_read_order_by_order(make, vendor):
    vendor.get(f"{API}/refunds").mock(return_value=wordpress(404, "rest_no_route"))
    shop = Shop(vendor)
    shop.put(13, START, refunds=[{"id": 20}], status="processing")
    shop.put(14, START, refunds=[], status="completed")
    shop.put(15, START, refunds=[], status="refunded")
    made = (START + timedelta(hours=3)).strftime("%Y-%m-%dT%H:%M:%S")
    for order, refund in ((13, 20), (15, 21)):
        vendor.get(f"{API}/orders/{order}/refunds").respond(
            200, json=[{"id": refund, "date_created_gmt": made, "amount": "5.00"}]
        )
    unasked = vendor.get(f"{API}/orders/14/refunds").respond(200, json=[])
    pages = list(make().read("refunds", WINDOW))
    records = [record for page in pages for record in page.records]
    assert {record.external_id: record.context["order_id"] for record in records} == {"20": "13", "21": "15"}
    assert pages[-1].cursor.at == START + timedelta(hours=3)
    assert all(page.cursor is None for page in pages[:-1])
    assert not unasked.called


# contacts, products and the control total


def test_contacts_are_all_customers_of_every_role(make, vendor):
    shop = Shop(vendor, "customers")
    for id in range(1, 8):
        shop.put(id, START - timedelta(days=300))
    pages = list(make(per_page=3).read("contacts", WINDOW))
    assert ids(pages) == list(range(1, 8))
    assert all(asked["role"] == "all" for asked in shop.asked)
    assert all(page.cursor is None for page in pages)
    assert {page.said for page in pages} == {7}


def test_products_are_read_by_change(make, vendor):
    shop = Shop(vendor, "products")
    for id in range(1, 6):
        shop.put(id, START + timedelta(hours=id))
    shop.put(9, START - SECOND)
    pages = list(make(per_page=2).read("products", WINDOW))
    assert ids(pages) == [1, 2, 3, 4, 5]
    assert pages[-1].cursor.at == START + timedelta(hours=5)


def test_control_items_are_every_order_created_in_the_window(make, vendor):
    shop = Shop(vendor)
    for id, created in enumerate(
        [START - SECOND, START, START + timedelta(days=1), END - SECOND, END], start=1
    ):
        shop.put(id, created, status="completed", currency="PLN", total=f"{id}.00")
    shop.put(3, END + timedelta(days=9), status="trash", currency="PLN", total="3.00")
    items = sorted(make(per_page=1).control_items(START, END), key=lambda item: int(item.external_id))
    assert [(item.external_id, item.total) for item in items if item.status != "trash"] == [
        ("2", "2.00"),
        ("4", "4.00"),
    ]
    assert all("email" not in asked["_fields"] for asked in shop.asked)


def test_a_deletion_while_the_control_items_are_read_hides_no_other_order(make, vendor):
    shop = Shop(vendor)
    for id in range(1, 21):
        shop.put(id, START + timedelta(hours=id), status="completed", currency="PLN", total="1.00")

    def delete(call: int) -> None:
        if call == 3:
            del shop.rows[1], shop.rows[2]

    shop.before_call = delete
    found = [int(item.external_id) for item in make(per_page=4).control_items(START, END)]
    assert sorted(found) == sorted(set(found))
    assert set(range(3, 21)) <= set(found)


# errors


@pytest.mark.parametrize(
    ("response", "kind", "tries"),
    [
        (wordpress(401, "woocommerce_rest_cannot_view"), "scope", 1),
        (
            wordpress(401, "woocommerce_rest_authentication_error", "Consumer key is invalid."),
            "credential",
            1,
        ),
        (wordpress(404, "rest_no_route"), "config", 1),
        (httpx.Response(404, text="<html>"), "config", 1),
        (httpx.Response(403, text="<html>Attention required"), "vendor", None),
        (httpx.Response(503, text="<html>Maintenance"), "vendor", None),
        (httpx.Response(429), "throttled", None),
        (httpx.Response(524), "vendor", None),
        (httpx.Response(200, text="<br /><b>Notice</b>: x in plug-in.php []"), "vendor", ...),
    ],
)
def test_errors_say_who_has_to_act(make, vendor, response, kind, tries):
    route = vendor.get(f"{API}/customers").mock(return_value=response)
    with pytest.raises(ConnectorError) as caught:
        list(make().read("contacts", WINDOW))
    assert caught.value.kind == kind
    if tries is None:
        assert route.call_count > 1
    elif tries is not ...:
        assert route.call_count == tries
    assert SECRET not in str(caught.value)


def test_retry_after_is_honoured(make, vendor, waits):
    vendor.get(f"{API}/customers").mock(
        side_effect=[httpx.Response(429, headers={"retry-after": "11"}), httpx.Response(200, json=[])]
    )
    list(make().read("contacts", WINDOW))
    assert max(waits) == pytest.approx(11, abs=0.5)


def test_check_names_what_may_not_be_read(make, vendor):
    for path in ("orders", "products"):
        vendor.get(f"{API}/{path}").respond(200, json=[])
    vendor.get(f"{API}/customers").mock(return_value=wordpress(403, "woocommerce_rest_cannot_view"))
    vendor.get(f"{API}/refunds").mock(return_value=wordpress(404, "rest_no_route"))
    findings = {finding.what: finding for finding in make().check()}
    assert [what for what, finding in findings.items() if not finding.ok] == ["read customers"]
    assert "9.0" in findings["read refunds"].hint
    assert all(call.request.method == "GET" for call in vendor.calls)


def test_an_unknown_stream_is_refused(make):
    with pytest.raises(ConnectorError):
        list(make().read("leads", WINDOW))
