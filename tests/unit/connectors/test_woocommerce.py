"""WooCommerce at its edges: a list sorted by a moving time, old and odd shops, plain http, rights."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import httpx
import pydantic
import pytest

from connectors.contract import Auditable, ControlItem, Cursor, Page, Source, Window
from connectors.errors import ConnectorError
from connectors.shops import woocommerce

DATA = Path(__file__).parents[2] / "data" / "vendors" / "woocommerce"
SHOP = "https://shop.example"
API = f"{SHOP}/wp-json/wc/v3"
KEY, SECRET = "ck_made_up", "cs_made_up"
SINCE = datetime(2026, 11, 1, tzinfo=UTC)
UNTIL = datetime(2026, 12, 1, 12, 0, 5, 700000, tzinfo=UTC)
WINDOW = Window(SINCE, UNTIL)


def error(status: int, code: str, **data) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "message": "…", "data": {"status": status, **data}})


@pytest.fixture
def make(context):
    def build(**options):
        values = {"base_url": SHOP, "consumer_key": KEY, "consumer_secret": SECRET, **options}
        return woocommerce.WooCommerce(woocommerce.Options.model_validate(values), context("shop"))

    return build


def ids(pages: list[Page]) -> list[str]:
    return [record.external_id for page in pages for record in page.records]


def text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S")


def utc(value: str) -> datetime:
    assert "Z" not in value
    return datetime.fromisoformat(value).replace(tzinfo=UTC)


class Shop:
    """Orders as the vendor lists them: strict bounds, whole seconds, page numbers over the list as it is now."""

    def __init__(self, changed: dict[int, datetime], **behaviour) -> None:
        self.changed = dict(changed)
        self.created = dict(changed)
        self.status = dict.fromkeys(changed, "processing")
        self.hpos = behaviour.get("hpos", True)
        self.sorts = behaviour.get("sorts", True)
        self.knows_modified = behaviour.get("knows_modified", True)
        self.filters = behaviour.get("filters", True)
        self.after_page = lambda _: None
        self.calls: list[dict[str, str]] = []

    def orders(self, request: httpx.Request) -> httpx.Response:
        query = dict(request.url.params)
        self.calls.append(query)
        assert query.get("dates_are_gmt") == "true"
        if query["orderby"] == "modified" and not self.knows_modified:
            return error(400, "rest_invalid_param", params={"orderby": "orderby is not one of date, id."})
        found = [one for one in self.changed if self._matches(one, query)]
        found.sort(key=lambda one: (self.changed[one], one) if query["orderby"] == "modified" else one)
        if query["orderby"] == "modified" and not self.sorts:
            found.sort(reverse=True)
        size, page = int(query["per_page"]), int(query["page"])
        rows = found[(page - 1) * size : page * size]
        headers = {"X-WP-Total": str(len(found)), "X-WP-TotalPages": str(math.ceil(len(found) / size))}
        answer = httpx.Response(200, headers=headers, json=[self.row(one) for one in rows])
        self.after_page(rows)
        return answer

    def row(self, one: int) -> dict:
        return {
            "id": one,
            "status": self.status[one],
            "currency": "PLN",
            "total": "10.00",
            "date_created_gmt": text(self.created[one]),
            "date_modified_gmt": text(self.changed[one]),
            "refunds": [],
        }

    def _matches(self, one: int, query: dict[str, str]) -> bool:
        trashed = self.status[one] == "trash"
        if trashed if query["status"] == "any" and not self.hpos else False:
            return False
        if query["status"] == "trash" and not trashed:
            return False
        if not self.filters:
            return True
        changed, created = (times[one].replace(microsecond=0) for times in (self.changed, self.created))
        return all(
            holds(utc(query[name]))
            for name, holds in (
                ("modified_after", lambda bound: changed > bound),
                ("modified_before", lambda bound: changed < bound),
                ("after", lambda bound: created > bound),
                ("before", lambda bound: created < bound),
            )
            if name in query
        )


def serve(vendor, shop: Shop) -> Shop:
    vendor.get(f"{API}/orders").mock(side_effect=shop.orders)
    return shop


def test_it_is_a_source_and_auditable(make):
    assert isinstance(make(), Source)
    assert isinstance(make(), Auditable)
    assert woocommerce.CONNECTOR.source is woocommerce.WooCommerce
    assert {stream.name: stream.full for stream in woocommerce.CONNECTOR.streams} == {
        "orders": False,
        "refunds": False,
        "products": False,
        "contacts": True,
    }


# orders


def test_orders_keep_their_bytes(vendor, make, sample):
    """The sample is not sorted by change, so the connector reads by id; the bytes are the same."""
    body = sample("real_10.3.6_orders")
    rows = json.loads(body)
    vendor.get(f"{API}/orders", params={"status": "any"}).mock(return_value=httpx.Response(200, content=body))
    vendor.get(f"{API}/orders", params={"status": "trash"}).mock(return_value=httpx.Response(200, json=[]))
    records = [record for page in make().read("orders", WINDOW) for record in page.records]
    assert [record.external_id for record in records] == [str(row["id"]) for row in rows]
    assert all(record.body in body for record in records)
    assert [json.loads(record.body) for record in records] == rows
    assert [record.version for record in records] == [utc(row["date_modified_gmt"]) for row in rows]


@pytest.mark.parametrize("per_page", [1, 3, 7, 50])
def test_every_order_comes_once_whatever_the_page(vendor, make, per_page):
    shop = serve(vendor, Shop({n: SINCE + timedelta(seconds=n // 5) for n in range(1, 45)}))
    pages = list(make(per_page=per_page).read("orders", WINDOW))
    assert sorted(map(int, ids(pages))) == sorted(shop.changed)
    assert pages[-1].said == 44
    times = [page.cursor.at for page in pages if page.cursor]
    assert times == sorted(times)
    assert times[-1] == max(shop.changed.values())


def test_the_bounds_are_strict_and_in_whole_seconds(vendor, make):
    changed = {
        1: SINCE - timedelta(seconds=1),
        2: SINCE,
        3: UNTIL.replace(microsecond=0),
        4: UNTIL + timedelta(1),
    }
    shop = serve(vendor, Shop(changed))
    assert ids(list(make().read("orders", WINDOW))) == ["2", "3"]
    assert shop.calls[-1]["modified_after"] == "2026-10-31T23:59:59"
    assert shop.calls[-1]["modified_before"] == "2026-12-01T12:00:06"


def test_orders_that_change_while_they_are_read_do_not_hide_others(vendor, make):
    """Each page's rows are changed again at once, which takes them out of the window and moves all up."""
    shop = serve(vendor, Shop({n: SINCE + timedelta(minutes=n) for n in range(1, 60)}))
    once: set[int] = set()

    def change(rows: list[int]) -> None:
        for one in rows[:3]:
            if one not in once:
                once.add(one)
                shop.changed[one] = UNTIL + timedelta(hours=1)

    shop.after_page = change
    pages = list(make(per_page=10).read("orders", WINDOW))
    assert sorted(map(int, ids(pages))) == list(range(1, 60))
    assert len(once) > 10
    assert pages[-1].said <= 59


def test_orders_that_leave_one_second_do_not_hide_others(vendor, make):
    """A bulk edit gives hundreds of orders one second: there only page numbers go on."""
    shop = serve(vendor, Shop(dict.fromkeys(range(1, 61), SINCE + timedelta(hours=1))))
    left: list[int] = []

    def change(rows: list[int]) -> None:
        if rows and rows[0] > 1 and len(left) < 3:
            left.append(rows[0])
            shop.changed[rows[0]] = UNTIL + timedelta(hours=1)

    shop.after_page = change
    found = ids(list(make(per_page=10).read("orders", WINDOW)))
    assert set(map(int, found)) == set(range(1, 61))
    assert len(left) == 3


def test_the_trash_is_read_before_the_cursor_moves(vendor, make):
    """Without HPOS `any` leaves out the trash."""
    shop = Shop({n: SINCE + timedelta(minutes=n) for n in range(1, 6)}, hpos=False)
    shop.status[3] = "trash"
    serve(vendor, shop)
    pages = list(make().read("orders", WINDOW))
    assert ids(pages) == ["3", "1", "2", "4", "5"]
    assert pages[0].cursor is None
    assert pages[-1].cursor == Cursor(at=shop.changed[5])


def test_a_shop_that_hides_rows_is_found_out(vendor, make):
    """What the shop counts and what comes differ: the count is asked once more and told."""
    shop = Shop({n: SINCE + timedelta(minutes=n) for n in range(1, 6)})

    def orders(request: httpx.Request) -> httpx.Response:
        answer = shop.orders(request)
        return httpx.Response(200, headers=answer.headers, json=[r for r in answer.json() if r["id"] != 4])

    vendor.get(f"{API}/orders").mock(side_effect=orders)
    pages = list(make().read("orders", WINDOW))
    assert ids(pages) == ["1", "2", "3", "5"]
    assert pages[-1].said == 5


def test_a_short_page_is_not_the_end(vendor, make):
    shop = Shop({n: SINCE + timedelta(minutes=n) for n in range(1, 31)})

    def orders(request: httpx.Request) -> httpx.Response:
        answer = shop.orders(request)
        headers = {name: answer.headers[name] for name in ("X-WP-Total", "X-WP-TotalPages")}
        return httpx.Response(200, headers=headers, json=[r for r in answer.json() if r["id"] != 4])

    vendor.get(f"{API}/orders").mock(side_effect=orders)
    assert len(set(ids(list(make(per_page=10).read("orders", WINDOW))))) == 29


@pytest.mark.parametrize("behaviour", ["knows_modified", "sorts", "filters"])
def test_shops_that_cannot_sort_by_change_are_read_by_id(vendor, make, behaviour):
    changed = {n: SINCE + timedelta(minutes=(n * 37) % 101) for n in range(1, 31)}
    changed |= {100: SINCE - timedelta(days=9), 101: UNTIL + timedelta(days=1)}
    shop = serve(vendor, Shop(changed, **{behaviour: False}))
    pages = list(make(per_page=7).read("orders", WINDOW))
    assert sorted(map(int, set(ids(pages)))) == list(range(1, 31))
    assert pages[-1].cursor == Cursor(at=max(shop.changed[n] for n in range(1, 31)))
    assert [page.cursor for page in pages[:-1] if page.cursor] == []


def test_an_order_deleted_meanwhile_does_not_hide_another(vendor, make):
    shop = serve(vendor, Shop({n: SINCE + timedelta(minutes=n) for n in range(1, 31)}, knows_modified=False))

    def delete(rows: list[int]) -> None:
        if 10 in rows:
            for one in (2, 5):
                shop.changed.pop(one, None)

    shop.after_page = delete
    found = set(map(int, ids(list(make(per_page=10).read("orders", WINDOW)))))
    assert found == set(range(1, 31))


def test_an_empty_shop_moves_no_cursor(vendor, make):
    serve(vendor, Shop({}))
    pages = list(make().read("orders", WINDOW))
    assert [page.cursor for page in pages] == [None]
    assert pages[0].said == 0


def test_an_item_of_another_shape_is_kept(vendor, make):
    body = b'[{"id":[],"date_modified_gmt":false}, 7]'
    vendor.get(f"{API}/orders", params={"status": "any"}).mock(return_value=httpx.Response(200, content=body))
    vendor.get(f"{API}/orders", params={"status": "trash"}).mock(return_value=httpx.Response(200, json=[]))
    records = list(make().read("orders", WINDOW))[-1].records
    assert [record.body for record in records] == [b'{"id":[],"date_modified_gmt":false}', b"7"]
    assert len({record.external_id for record in records}) == 2


# refunds


def test_refunds_come_by_creation(vendor, make, sample):
    body = sample("real_10.3.6_refunds")
    route = vendor.get(f"{API}/refunds").mock(
        return_value=httpx.Response(200, content=body, headers={"X-WP-Total": "3", "X-WP-TotalPages": "1"})
    )
    pages = list(make().read("refunds", WINDOW))
    assert ids(pages) == ["20", "19", "18"]
    assert pages[0].cursor is None
    assert pages[-1].cursor == Cursor(at=datetime(2026, 11, 23, 19, 4, 30, tzinfo=UTC))
    assert pages[-1].said == 3
    assert all(record.body in body and record.context == {} for record in pages[0].records)
    query = route.calls[-1].request.url.params
    assert (query["after"], query["before"]) == ("2026-10-31T23:59:59", "2026-12-01T12:00:06")
    assert query["dates_are_gmt"] == "true"
    assert woocommerce.CONNECTOR.streams[1].overlap == timedelta(days=90)


def test_older_shops_tell_refunds_order_by_order(vendor, make, sample):
    vendor.get(f"{API}/refunds").mock(return_value=error(404, "rest_no_route"))
    orders = [
        {"id": 13, "status": "processing", "refunds": []},
        {"id": 15, "status": "processing", "refunds": [{"id": 18, "total": "-24.48"}]},
        {"id": 14, "status": "refunded", "refunds": []},
    ]
    route = vendor.get(f"{API}/orders").mock(return_value=httpx.Response(200, json=orders))
    body = sample("real_10.3.6_order_refunds")
    vendor.get(f"{API}/orders/15/refunds").mock(return_value=httpx.Response(200, content=body))
    vendor.get(f"{API}/orders/14/refunds").mock(return_value=httpx.Response(200, json=[]))
    pages = list(make().read("refunds", WINDOW))
    records = [record for page in pages for record in page.records]
    assert [(record.external_id, record.context) for record in records] == [("18", {"order_id": "15"})]
    assert pages[-1].cursor == Cursor(at=datetime(2026, 11, 23, 19, 4, 30, tzinfo=UTC))
    assert route.calls[0].request.url.params["modified_after"] == "2026-10-31T23:59:59"


# products, contacts


def test_products_come_by_change(vendor, make, sample):
    body = sample("real_10.3.6_products")
    rows = json.loads(body)
    vendor.get(f"{API}/products").mock(return_value=httpx.Response(200, content=body))
    pages = list(make().read("products", WINDOW))
    assert sorted(set(ids(pages))) == sorted(str(row["id"]) for row in rows)
    assert pages[-1].cursor.at == max(utc(row["date_modified_gmt"]) for row in rows)


def test_contacts_are_all_roles_without_a_cursor(vendor, make):
    customers = [{"id": n, "email": f"c{n}@example.com"} for n in range(1, 26)]

    def answer(request: httpx.Request) -> httpx.Response:
        query = request.url.params
        assert (query["role"], query["orderby"], query["order"]) == ("all", "id", "asc")
        size, page = int(query["per_page"]), int(query["page"])
        headers = {"X-WP-Total": "25", "X-WP-TotalPages": str(math.ceil(25 / size))}
        return httpx.Response(200, headers=headers, json=customers[(page - 1) * size : page * size])

    vendor.get(f"{API}/customers").mock(side_effect=answer)
    pages = list(make(per_page=10).read("contacts", WINDOW))
    assert ids(pages) == [str(n) for n in range(1, 26)]
    assert {page.cursor for page in pages} == {None}
    assert pages[-1].said == 25


# the control total


@pytest.mark.parametrize("hpos", [True, False])
def test_control_items_are_every_order_by_creation(vendor, make, hpos):
    created = {n: SINCE + timedelta(days=n) for n in range(1, 31)}
    shop = serve(vendor, Shop(created, hpos=hpos))
    shop.changed = dict.fromkeys(created, UNTIL + timedelta(days=5))
    shop.created |= {
        1: SINCE - timedelta(seconds=1),
        2: SINCE,
        30: UNTIL.replace(microsecond=0),
        29: UNTIL + timedelta(1),
    }
    shop.status[7] = "trash"
    shop.status[9] = "cancelled"
    items = list(make(per_page=10).control_items(SINCE, UNTIL))
    assert sorted(int(item.external_id) for item in items) == [n for n in range(2, 31) if n != 29]
    assert {item.external_id: item.status for item in items if item.status != "processing"} == {
        "7": "trash",
        "9": "cancelled",
    }
    assert items[0] == ControlItem(
        "2",
        "processing",
        "PLN",
        "10.00",
        created_at=SINCE,
        modified_at=shop.changed[2].replace(microsecond=0),
        refunded="0",
        counted=True,
    )
    assert {call["orderby"] for call in shop.calls} == {"id"}
    assert "billing" not in shop.calls[0]["_fields"]


def test_control_days_are_the_analytics_before_refunds(vendor, make):
    """What a WooCommerce 10.3.6 answered for three orders of 972.54 PLN, of which 393.47 were given back."""
    said = {
        "intervals": [
            {
                "date_start_gmt": "2026-11-22 23:00:00",
                "date_end_gmt": "2026-11-23 22:59:59",
                "subtotals": {"orders_count": 3, "total_sales": 579.0699999999999, "refunds": 393.47},
            }
        ]
    }
    route = vendor.get(url__regex=r".*/wp-json/wc-analytics/reports/revenue/stats.*")
    route.mock(return_value=httpx.Response(200, json=said))
    [day] = make().control_days(date(2026, 11, 23), date(2026, 11, 23))
    assert (day.since, day.until) == (
        datetime(2026, 11, 22, 23, tzinfo=UTC),
        datetime(2026, 11, 23, 23, tzinfo=UTC),
    )
    assert (day.orders, Decimal(day.refunds)) == (3, Decimal("393.47"))
    assert round(Decimal(day.gross), 4) == Decimal("972.54")
    query = vendor.calls[0].request.url.params
    assert (query["after"], query["before"]) == ("2026-11-23T00:00:00", "2026-11-23T23:59:59")


# credentials and rights


def test_https_sends_the_key_as_basic_auth(vendor, make):
    serve(vendor, Shop({}))
    list(make().read("orders", WINDOW))
    request = vendor.calls[0].request
    assert (
        base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
        == f"{KEY}:{SECRET}"
    )
    assert KEY not in str(request.url)


def test_keys_go_into_the_query_only_where_asked_for(vendor, make):
    serve(vendor, Shop({}))
    list(make(keys_in_query=True).read("orders", WINDOW))
    request = vendor.calls[0].request
    assert request.url.params["consumer_secret"] == SECRET
    assert "Authorization" not in request.headers
    assert request.url.params["status"] == "trash"


class SigningShop:
    """A plain-http shop on loopback that computes the OAuth signature by itself (RFC 5849, 3.4)."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.nonces: list[str] = []
        self.wire: list[str] = []
        shop = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                shop.check(self)
                first = len(shop.nonces) == 1
                body = b"[]"
                self.send_response(503 if first else 200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/woo"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def check(self, handler: BaseHTTPRequestHandler) -> None:
        sent = handler.headers["Authorization"]
        self.wire.append(handler.path + str(handler.headers))
        scheme, _, rest = sent.partition(" ")
        parts = [part.strip().partition("=") for part in rest.split(",")]
        oauth = {name: unquote(value.strip('"')) for name, _, value in parts}
        given = oauth.pop("oauth_signature")
        address = urlsplit(handler.path)
        pairs = sorted(
            (quote(name, safe="~"), quote(value, safe="~"))
            for name, value in [*parse_qsl(address.query, keep_blank_values=True), *oauth.items()]
        )
        base = "&".join(
            quote(piece, safe="~")
            for piece in (
                "GET",
                f"http://{handler.headers['Host']}{address.path}",
                "&".join(f"{name}={value}" for name, value in pairs),
            )
        )
        wanted = base64.b64encode(
            hmac.new(f"{SECRET}&".encode(), base.encode(), hashlib.sha1).digest()
        ).decode()
        if scheme != "OAuth" or given != wanted or oauth["oauth_consumer_key"] != KEY:
            self.problems.append(base)
        self.nonces.append(oauth["oauth_nonce"])


def test_plain_http_is_signed_and_never_sends_the_secret(make, waits):
    shop = SigningShop()
    try:
        list(make(base_url=shop.url).read("orders", WINDOW))
    finally:
        shop.server.shutdown()
        shop.server.server_close()
    assert shop.problems == []
    assert len(shop.nonces) == len(set(shop.nonces)) == 3  # a retry is signed afresh
    assert len(waits) == 1
    assert SECRET not in "".join(shop.wire)


def test_checks_each_right(vendor, make):
    vendor.get(f"{API}/orders").mock(return_value=httpx.Response(200, json=[{"id": 1}]))
    vendor.get(f"{API}/refunds").mock(return_value=error(404, "rest_no_route"))
    vendor.get(f"{API}/products").mock(return_value=error(401, "woocommerce_rest_cannot_view"))
    vendor.get(f"{API}/customers").mock(return_value=error(401, "woocommerce_rest_authentication_error"))
    findings = make().check()
    assert [(finding.what, finding.ok) for finding in findings] == [
        ("read orders", True),
        ("read refunds", True),
        ("read products", False),
        ("read customers", False),
    ]
    assert "order by order" in findings[1].hint
    assert "read right" in findings[2].hint
    assert "Make a new key" in findings[3].hint


@pytest.mark.parametrize(
    ("answer", "kind", "calls"),
    [
        (error(401, "woocommerce_rest_cannot_view"), "scope", 1),
        (error(401, "woocommerce_rest_authentication_error"), "credential", 1),
        (error(403, "woocommerce_rest_cannot_view"), "scope", 1),
        (error(404, "rest_no_route"), "config", 1),
        (httpx.Response(404, html="<h1>Not found</h1>"), "config", 1),
        (error(400, "rest_invalid_param", params={"status": "…"}), "protocol", 1),
        (httpx.Response(403, html="<h1>Attention required</h1>"), "vendor", 5),
        (httpx.Response(429), "throttled", 5),
        (httpx.Response(524, html="<h1>A timeout occurred</h1>"), "vendor", 5),
        (httpx.Response(200, text="<br />\n<b>Notice</b>: …[{}]"), "vendor", 5),
    ],
)
def test_errors_say_who_has_to_act(vendor, make, answer, kind, calls):
    route = vendor.get(f"{API}/orders").mock(return_value=answer)
    with pytest.raises(ConnectorError) as raised:
        list(make().read("orders", WINDOW))
    assert raised.value.kind == kind
    assert raised.value.hint
    assert route.call_count == calls


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "shop.example"},
        {"base_url": "http://shop.example", "keys_in_query": True},
        {"per_page": 101},
        {"unknown": 1},
    ],
)
def test_wrong_options_are_refused(make, options):
    with pytest.raises(pydantic.ValidationError) as raised:
        make(**options)
    assert SECRET not in str(raised.value)


def test_the_address_may_be_given_with_the_path_of_the_api():
    options = {"consumer_key": KEY, "consumer_secret": SECRET}
    for given in (SHOP, f"{SHOP}/", f"{API}/", API):
        assert woocommerce.Options.model_validate({"base_url": given, **options}).base_url == SHOP


def test_an_unknown_stream_is_named(make):
    with pytest.raises(ConnectorError, match="'leads'"):
        make().read("leads", WINDOW)
