"""The sandbox's WooCommerce over loopback HTTP, signed by another implementation of OAuth 1.0a (Authlib)."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import uvicorn
from authlib.oauth1 import ClientAuth
from starlette.applications import Starlette
from starlette.routing import Mount

from connectors.sandbox import woocommerce, woocommerce_oauth
from connectors.sandbox.accounts import WOO_KEY, WOO_SECRET
from connectors.sandbox.state import Doc, State

DAY = 86_400
# 2026-01-01T00:00:00Z and a shop three hours behind.
T0 = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
STATUSES = ("completed", "processing", "pending", "trash")


class Signed(httpx.Auth):
    """Signs each request; `query` puts the parameters into the URL instead of the header."""

    def __init__(self, *, secret: str = WOO_SECRET, key: str = WOO_KEY, **options: Any) -> None:
        self.signer = ClientAuth(key, secret, **options)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        url, headers, _ = self.signer.sign(request.method, str(request.url), {}, b"")
        request.url = httpx.URL(url)
        if "Authorization" in headers:
            request.headers["Authorization"] = headers["Authorization"]
        yield request


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def order_doc(number: int) -> Doc:
    """Order n is made on day n and changed on day 100 - n, so that the two orders differ."""
    at, changed = T0 + number * DAY, T0 + (100 - number) * DAY
    body = {
        "id": number,
        "status": STATUSES[number % len(STATUSES)],
        "total": f"{number}.00",
        "date_created_gmt": stamp(at),
        "date_modified_gmt": stamp(changed),
        "billing": {"email": f"buyer{number}@example.com", "city": "São Paulo"},
    }
    return Doc(str(number), body, at=at, changed=changed)


def refund_doc(number: int, order: int) -> Doc:
    at = T0 + number * DAY
    body = {"id": number, "parent_id": order, "date_created_gmt": stamp(at), "amount": "1.00"}
    return Doc(str(number), body, at=at, changed=at, parent=str(order))


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> State:
    state = State(tmp_path_factory.mktemp("shop") / "state.db")
    state.put("woocommerce", "order", [order_doc(number) for number in range(1, 26)])
    state.put("woocommerce", "refund", [refund_doc(101, 4), refund_doc(102, 8), refund_doc(103, 4)])
    state.put("woocommerce", "product", [Doc("7", {"id": 7, "name": "Mug"}, at=T0, changed=T0 + DAY)])
    state.put(
        "woocommerce",
        "customer",
        [Doc(str(n), {"id": n, "email": "a@b.example"}, at=T0, changed=T0) for n in (3, 1)],
    )
    zone = {"value": "America/Sao_Paulo"}
    state.put("woocommerce", "setting", [Doc("timezone", zone, at=T0, changed=T0)])
    return state


@pytest.fixture(scope="module")
def url(state: State) -> Iterator[str]:
    site = Starlette(routes=[Mount("/woocommerce", woocommerce.app(state))])
    server = uvicorn.Server(uvicorn.Config(site, log_level="error", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/woocommerce/wp-json/wc/v3"
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, auth=Signed()) as client:
        yield client


def ids(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json()]


# authentication


def test_basic_is_refused_over_plain_http(url: str) -> None:
    listed = httpx.get(f"{url}/orders", auth=(WOO_KEY, WOO_SECRET))
    single = httpx.get(f"{url}/orders/1", params={"consumer_key": WOO_KEY, "consumer_secret": WOO_SECRET})

    assert (listed.status_code, single.status_code) == (401, 401)
    assert listed.json() == {
        "code": "woocommerce_rest_cannot_view",
        "message": "Sorry, you cannot list resources.",
        "data": {"status": 401},
    }
    assert single.json()["code"] == "woocommerce_rest_cannot_view"


@pytest.mark.parametrize("place", ["HEADER", "QUERY"])
@pytest.mark.parametrize("method", ["HMAC-SHA1", "HMAC-SHA256"])
def test_signed_requests_are_answered(url: str, place: str, method: str) -> None:
    ClientAuth.register_signature_method("HMAC-SHA256", _sha256)
    auth = Signed(signature_type=place, signature_method=method)

    answer = httpx.get(
        f"{url}/orders",
        params={"per_page": 2, "_fields": "id,billing.email", "search": "ü &=%20+"},
        auth=auth,
    )

    assert len(ids(answer)) == 2


def _sha256(client: ClientAuth, request: Any) -> str:
    from authlib.oauth1.rfc5849.signature import generate_signature_base_string

    return woocommerce_oauth.signature(
        generate_signature_base_string(request), client.client_secret, "HMAC-SHA256"
    )


def test_signature_of_a_worked_example() -> None:
    # RFC 5849, 3.4.1.1: the base string of its example request, double parameters and odd characters included.
    parameters = [
        ("b5", "=%3D"),
        ("a3", "a"),
        ("c@", ""),
        ("a2", "r b"),
        ("oauth_consumer_key", "9djdj82h48djs9d2"),
        ("oauth_token", "kkk9d7dh3k39sjv7"),
        ("oauth_signature_method", "HMAC-SHA1"),
        ("oauth_timestamp", "137131201"),
        ("oauth_nonce", "7d8f3e4a"),
        ("c2", ""),
        ("a3", "2 q"),
        ("realm", "Example"),
        ("oauth_signature", "bYT5CMsGcbgUdFHObYMEfcx6bsw="),
    ]

    assert woocommerce_oauth.base_string("post", "http://example.com/request", parameters) == (
        "POST&http%3A%2F%2Fexample.com%2Frequest&a2%3Dr%2520b%26a3%3D2%2520q%26a3%3Da%26b5%3D%253D%25253D%26c%2540"
        "%3D%26c2%3D%26oauth_consumer_key%3D9djdj82h48djs9d2%26oauth_nonce%3D7d8f3e4a%26oauth_signature_method"
        "%3DHMAC-SHA1%26oauth_timestamp%3D137131201%26oauth_token%3Dkkk9d7dh3k39sjv7"
    )


@pytest.mark.parametrize(
    ("auth", "code", "message"),
    [
        (Signed(secret="wrong"), "woocommerce_rest_authentication_error", "signature does not match"),
        (Signed(key="ck_other"), "woocommerce_rest_authentication_error", "Consumer key is invalid."),
        (
            Signed(signature_method="PLAINTEXT"),
            "woocommerce_rest_authentication_error",
            "signature method is invalid",
        ),
    ],
)
def test_a_wrong_signature_is_refused(url: str, auth: Signed, code: str, message: str) -> None:
    answer = httpx.get(f"{url}/orders", auth=auth)

    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert message in answer.json()["message"]


def test_a_signature_holds_for_its_own_request_only(url: str) -> None:
    request = httpx.Request("GET", f"{url}/orders?per_page=1")
    signed = next(Signed().auth_flow(request))

    answer = httpx.get(f"{url}/orders?per_page=2", headers=signed.headers)

    assert answer.status_code == 401
    assert "signature does not match" in answer.json()["message"]


def test_a_nonce_counts_once(url: str) -> None:
    signed = next(Signed().auth_flow(httpx.Request("GET", f"{url}/orders?per_page=1")))

    with httpx.Client() as client:
        assert client.send(signed).status_code == 200
        again = client.send(signed)

    assert again.status_code == 401
    assert "nonce has already been used" in again.json()["message"]


@pytest.mark.parametrize(("seconds", "status"), [(-1000, 401), (-800, 200), (800, 200), (1000, 401)])
def test_a_timestamp_counts_for_15_minutes(
    url: str, monkeypatch: pytest.MonkeyPatch, seconds: int, status: int
) -> None:
    moment = int(time.time()) + seconds
    monkeypatch.setattr("authlib.oauth1.rfc5849.client_auth.generate_timestamp", lambda: str(moment))

    answer = httpx.get(f"{url}/orders", params={"per_page": 1}, auth=Signed())

    assert answer.status_code == status
    assert status == 200 or answer.json()["message"] == "Invalid timestamp."


def test_missing_parameters_are_named(url: str) -> None:
    answer = httpx.get(f"{url}/orders", params={"oauth_consumer_key": WOO_KEY, "oauth_nonce": "x"})

    assert answer.status_code == 401
    assert answer.json()["code"] == "woocommerce_rest_authentication_missing_parameter"
    assert "oauth_timestamp" in answer.json()["message"]


# lists


def test_pages_say_how_many_there_are_and_link_to_each_other(client: httpx.Client) -> None:
    answer = client.get("/orders", params={"orderby": "id", "order": "asc", "per_page": 10, "page": 2})

    assert ids(answer) == list(range(11, 21))
    assert (answer.headers["X-WP-Total"], answer.headers["X-WP-TotalPages"]) == ("25", "3")
    assert {rel: parse_qs(urlsplit(link["url"]).query)["page"] for rel, link in answer.links.items()} == {
        "prev": ["1"],
        "next": ["3"],
    }
    assert ids(client.get(answer.links["next"]["url"])) == [21, 22, 23, 24, 25]


def test_the_ends_of_a_list(client: httpx.Client) -> None:
    first, last, beyond = (client.get("/orders", params={"page": page}) for page in (1, 3, 9))

    assert ids(first) == list(range(25, 15, -1))
    assert set(first.links) == {"next"}
    assert set(last.links) == {"prev"}
    assert ids(beyond) == []
    assert "page=3" in beyond.links["prev"]["url"]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"orderby": "date", "order": "asc"}, [1, 2, 3]),
        ({"orderby": "modified", "order": "asc"}, [25, 24, 23]),
        ({"orderby": "modified"}, [1, 2, 3]),
        ({"orderby": "id"}, [25, 24, 23]),
        ({"include": "5,9,2", "orderby": "include"}, [5, 9, 2]),
        ({"include": "5,9,2,999"}, [9, 5, 2]),
    ],
)
def test_orders_come_in_the_order_asked_for(
    client: httpx.Client, params: dict[str, str], expected: list[int]
) -> None:
    assert ids(client.get("/orders", params={**params, "per_page": 3})) == expected


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"after": "2026-01-24T00:00:00"}, [25, 24]),
        ({"after": "2026-01-23T23:59:59"}, [25, 24]),
        ({"after": "2026-01-23T21:00:00"}, [25, 24]),
        ({"after": "2026-01-23T20:59:59"}, [25, 24, 23]),
        ({"after": "2026-01-24T00:00:00", "dates_are_gmt": "true"}, [25, 24]),
        ({"after": "2026-01-23T23:59:59", "dates_are_gmt": "true"}, [25, 24, 23]),
        ({"before": "2026-01-03T00:00:00", "dates_are_gmt": "true"}, [1]),
        ({"before": "2026-01-03T00:00:01", "dates_are_gmt": "1"}, [2, 1]),
        ({"modified_after": "2026-04-09T00:00:00", "dates_are_gmt": "true"}, [1]),
        ({"modified_after": "2026-04-08T23:59:59", "dates_are_gmt": "true"}, [2, 1]),
        ({"modified_before": "2026-03-18T00:00:00", "dates_are_gmt": "true"}, [25]),
        ({"modified_before": "2026-03-18T00:00:01", "dates_are_gmt": "true"}, [25, 24]),
        # An offset is ignored: the shop's own zone holds.
        ({"after": "2026-01-23T21:00:00Z"}, [25, 24]),
        ({"after": "2026-01-23T21:00:00%2B09:00"}, [25, 24]),
    ],
)
def test_date_filters_are_strict_and_local_unless_told(
    client: httpx.Client, params: dict[str, str], expected: list[int]
) -> None:
    query = "&".join(f"{name}={value}" for name, value in params.items())

    answer = client.get(f"/orders?{query}")

    assert ids(answer) == expected
    assert answer.headers["X-WP-Total"] == str(len(expected))


def test_a_record_changed_within_a_second_counts_as_of_that_second(
    client: httpx.Client, state: State
) -> None:
    doc = order_doc(77)
    state.put("woocommerce", "order", [Doc(doc.id, doc.body, at=doc.at, changed=T0 + 200 * DAY + 0.7)])
    second, next_second = stamp(T0 + 200 * DAY), stamp(T0 + 200 * DAY + 1)
    asked = {"dates_are_gmt": "true", "include": "77"}
    try:
        assert ids(client.get("/orders", params={**asked, "modified_after": second})) == []
        assert ids(client.get("/orders", params={**asked, "modified_before": next_second})) == [77]
        assert ids(client.get("/orders", params={**asked, "modified_before": second})) == []
    finally:
        state.delete("woocommerce", "order", "77")


@pytest.mark.parametrize(
    ("status", "total"),
    [(None, 25), ("any", 25), ("trash", 6), ("completed", 6), ("completed,processing", 13), ("refunded", 0)],
)
def test_status_any_holds_the_trash(client: httpx.Client, status: str | None, total: int) -> None:
    answer = client.get("/orders", params={"per_page": 5, **({"status": status} if status else {})})

    assert answer.headers["X-WP-Total"] == str(total)
    assert len(ids(answer)) == min(5, total)
    if status not in (None, "any"):
        assert {row["status"] for row in answer.json()} <= set(status.split(","))


def test_fields_cut_the_answer(client: httpx.Client) -> None:
    answer = client.get("/orders", params={"_fields": "id, billing.email", "include": "4"})

    assert answer.json() == [{"id": 4, "billing": {"email": "buyer4@example.com"}}]


@pytest.mark.parametrize(
    ("path", "params", "wrong", "words"),
    [
        ("orders", {"orderby": "total"}, "orderby", "orderby is not one of date, id, include, modified."),
        ("refunds", {"orderby": "modified"}, "orderby", "orderby is not one of date, id, include."),
        ("orders", {"order": "up"}, "order", "order is not one of asc, desc."),
        ("orders", {"per_page": "101"}, "per_page", "between 1 (inclusive) and 100 (inclusive)"),
        ("orders", {"per_page": "0"}, "per_page", "between 1 (inclusive) and 100 (inclusive)"),
        ("orders", {"page": "0"}, "page", "greater than or equal to 1"),
        ("orders", {"page": "two"}, "page", "page is not of type integer."),
        ("orders", {"status": "sold"}, "status", "status[0] is not one of any, trash"),
        ("orders", {"include": "4,x"}, "include", "include[1] is not of type integer."),
        ("orders", {"modified_after": "yesterday"}, "modified_after", "Invalid date."),
        ("orders", {"after": "2026-02-30T00:00:00"}, "after", "Invalid date."),
        ("orders", {"after": "2026-02-03T00:00:00", "dates_are_gmt": "yes"}, "dates_are_gmt", "boolean"),
    ],
)
def test_a_wrong_parameter_is_named(
    client: httpx.Client, path: str, params: dict[str, str], wrong: str, words: str
) -> None:
    answer = client.get(path, params=params)

    body = answer.json()
    assert (answer.status_code, body["code"]) == (400, "rest_invalid_param")
    assert body["message"] == f"Invalid parameter(s): {wrong}"
    assert body["data"]["status"] == 400
    assert list(body["data"]["params"]) == list(body["data"]["details"]) == [wrong]
    assert words in body["data"]["params"][wrong]


# single records, refunds, products, customers


def test_one_order(client: httpx.Client, state: State) -> None:
    body = client.get("/orders/4").json()

    links = body.pop("_links")
    assert body == order_doc(4).body
    assert links["self"] == [{"href": "https://shop.example/wp-json/wc/v3/orders/4"}]


def test_what_is_not_there(client: httpx.Client) -> None:
    missing, unknown, written = client.get("/orders/999"), client.get("/baskets"), client.post("/orders")

    assert missing.status_code == 404
    assert missing.json() == {
        "code": "woocommerce_rest_shop_order_invalid_id",
        "message": "Invalid ID.",
        "data": {"status": 404},
    }
    for answer in (unknown, written):
        assert (answer.status_code, answer.json()["code"]) == (404, "rest_no_route")


def test_refunds_of_one_order_do_not_name_it(client: httpx.Client) -> None:
    listed, of_order = client.get("/refunds"), client.get("/orders/4/refunds")

    assert [(row["id"], row["parent_id"]) for row in listed.json()] == [(103, 4), (102, 8), (101, 4)]
    assert ids(of_order) == [103, 101]
    assert of_order.headers["X-WP-Total"] == "2"
    assert all("parent_id" not in row for row in of_order.json())
    assert of_order.json()[0]["_links"] == listed.json()[0]["_links"]


def test_refunds_are_filtered_by_creation(client: httpx.Client) -> None:
    bounds = {"after": stamp(T0 + 101 * DAY), "before": stamp(T0 + 103 * DAY), "dates_are_gmt": "true"}

    assert ids(client.get("/refunds", params=bounds)) == [102]


def test_products_and_customers(client: httpx.Client) -> None:
    changed = {"modified_after": stamp(T0 + DAY - 1), "dates_are_gmt": "true", "orderby": "modified"}

    assert ids(client.get("/products", params=changed)) == [7]
    assert ids(client.get("/products", params={**changed, "modified_after": stamp(T0 + DAY)})) == []
    assert ids(client.get("/customers", params={"role": "all"})) == [1, 3]
    # Customers have no filter by date: one that is sent changes nothing.
    assert ids(client.get("/customers", params={"modified_after": "2030-01-01T00:00:00"})) == [1, 3]


def test_a_shop_without_a_zone_is_on_utc(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    state.put("woocommerce", "order", [order_doc(1)])
    site = woocommerce.app(state)
    server = uvicorn.Server(uvicorn.Config(site, log_level="error", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        base = f"http://127.0.0.1:{listener.getsockname()[1]}/wp-json/wc/v3"
        with httpx.Client(base_url=base, auth=Signed()) as client:
            assert ids(client.get("/orders", params={"after": stamp(T0 + DAY - 1)})) == [1]
            assert ids(client.get("/orders", params={"after": stamp(T0 + DAY)})) == []
        server.should_exit = True
        thread.join(10)
