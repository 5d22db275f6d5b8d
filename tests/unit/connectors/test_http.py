"""The shared client against a real server on loopback: retry, bounds, redirects, redaction, pacing."""

from __future__ import annotations

import gzip
import logging
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import msgspec
import pytest
from structlog.testing import CapturingLogger, capture_logs

from connectors._pace import LONGEST_WAIT_S, Pacer
from connectors.errors import ConnectorError
from connectors.http import Answer, Http, HttpSettings, Problem, default_classify, retry_after_s

SECRET = "s3cr3t-value"


@dataclass
class Reply:
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Vendor:
    """Gives the replies in turn, the last one for good; a callable reply writes to the socket itself."""

    def __init__(self) -> None:
        self.replies: list[Reply | Callable[[BaseHTTPRequestHandler], None]] = [Reply()]
        self.seen: list[Seen] = []
        self.at_once = 0
        self.most_at_once = 0
        self.takes_s = 0.0
        self._lock = threading.Lock()
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                vendor.answer(self)

            do_GET = do_POST = _any

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        with self._lock:
            headers = {name.lower(): value for name, value in handler.headers.items()}
            self.seen.append(Seen(handler.command, handler.path, headers, body))
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self.takes_s)
        try:
            if callable(reply):
                reply(handler)
                return
            handler.send_response(reply.status)
            for name, value in reply.headers.items():
                handler.send_header(name, value)
            handler.send_header("content-length", str(len(reply.body)))
            handler.end_headers()
            handler.wfile.write(reply.body)
        except OSError:
            pass  # the client hung up, which is what some tests want
        finally:
            with self._lock:
                self.at_once -= 1


@pytest.fixture
def vendor():
    vendor = Vendor()
    yield vendor
    vendor.server.shutdown()
    vendor.server.server_close()


@pytest.fixture
def other():
    vendor = Vendor()
    yield vendor
    vendor.server.shutdown()
    vendor.server.server_close()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def client(vendor, waits):
    opened: list[Http] = []

    def make(**settings) -> Http:
        opened.append(Http(HttpSettings(**{"base_url": vendor.url, **settings}), sleep=waits.append))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def answer(body: bytes, status: int = 200, **headers: str) -> Answer:
    return Answer(status, httpx.Headers(headers), body, "/things")


# addresses


def test_paths_are_relative_to_the_base_and_params_join_the_query(vendor, client):
    http = client(base_url=f"{vendor.url}/shop/api/")
    http.get("/orders?a=1", {"b": "x y+z", "none": None})
    http.post("orders", {"é": 1})
    assert vendor.seen[0].target == "/shop/api/orders?a=1&b=x+y%2Bz"
    assert vendor.seen[1].method == "POST"
    assert vendor.seen[1].target == "/shop/api/orders"
    assert vendor.seen[1].headers["content-type"] == "application/json"
    assert vendor.seen[1].body == '{"é":1}'.encode()


def test_a_link_to_the_same_host_is_followed_and_keeps_its_query(vendor, client):
    client().get(f"{vendor.url}/next?after=abc", {"limit": 2})
    assert vendor.seen[0].target == "/next?after=abc&limit=2"


@pytest.mark.parametrize("path", ["https://evil.example/x", "http://127.0.0.1:1/x", "http://u:p@{host}/x"])
def test_a_link_to_another_host_is_not_followed(vendor, client, path):
    with pytest.raises(ConnectorError, match="another host") as error:
        client().get(path.format(host=vendor.url.removeprefix("http://")))
    assert error.value.kind == "protocol"
    assert vendor.seen == []


def test_credentials_do_not_follow_a_redirect(vendor, other, client):
    vendor.replies = [Reply(302, headers={"location": f"{other.url}/steal?q=1"})]
    with pytest.raises(ConnectorError, match=r"redirects to http://127\.0\.0\.1; credentials") as error:
        client(auth=httpx.BasicAuth("u", SECRET)).get("x")
    assert error.value.kind == "config"
    assert len(vendor.seen) == 1
    assert other.seen == []


@pytest.mark.parametrize(
    "url", ["http://shop.example", "ftp://shop.example", "shop.example", "https://u:p@h", "https://h/?k=v"]
)
def test_an_unsafe_base_is_refused_without_showing_it(url):
    with pytest.raises(ConnectorError) as error:
        Http(HttpSettings(base_url=url))
    assert error.value.kind == "config"
    assert "u:p" not in str(error.value)


# answers


def test_items_keep_their_exact_bytes():
    body = b'{"data": {"rows": [ {"b":1.0,\n"a" : "\\u00e4"} , 2]}, "x": 1}'
    assert [bytes(raw) for raw in answer(body).raw_items("data", "rows")] == [
        b'{"b":1.0,\n"a" : "\\u00e4"}',
        b"2",
    ]
    assert [bytes(raw) for raw in answer(b"[1.50]").raw_items()] == [b"1.50"]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"<!doctype html><p>anna@example.com", "HTML"),
        (b"", "nothing"),
        (b'[{"email": "anna@example.com"', "no valid JSON"),
        (b'"anna@example.com"', "another shape"),
        (b"\xff\xfe", "no valid JSON"),
    ],
)
def test_what_is_no_list_is_named_but_never_shown(body, what):
    with pytest.raises(ConnectorError, match=what) as error:
        answer(body).raw_items()
    assert error.value.kind == "protocol"
    assert "/things" in str(error.value)
    assert "anna" not in str(error.value)


def test_a_missing_key_is_named():
    with pytest.raises(ConnectorError, match="without 'data'"):
        answer(b'{"error": 1}').raw_items("data")


def test_decode_into_a_type():
    class Thing(msgspec.Struct):
        id: int

    assert answer(b'{"id": 3, "more": 4}').decode(Thing) == Thing(3)
    assert answer(b'{"id": 3}').decode() == {"id": 3}
    with pytest.raises(ConnectorError, match="another shape"):
        answer(b'{"id": "three"}').decode(Thing)


# retry


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 524])
def test_what_may_pass_is_tried_again(vendor, client, waits, status):
    vendor.replies = [Reply(status), Reply(status), Reply(200, b"[1]")]
    assert client().get("x").decode() == [1]
    assert len(vendor.seen) == 3
    assert len(waits) == 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "config"), (401, "credential"), (403, "scope"), (404, "config"), (409, "protocol")],
)
def test_what_cannot_succeed_is_not_tried_again(vendor, client, status, kind):
    vendor.replies = [Reply(status)]
    with pytest.raises(ConnectorError) as error:
        client().get("x")
    assert (error.value.kind, error.value.status) == (kind, status)
    assert len(vendor.seen) == 1


def test_tries_end_and_say_what_the_last_one_was(vendor, client, waits):
    vendor.replies = [Reply(503)]
    with pytest.raises(ConnectorError, match="/x answered 503") as error:
        client(retries=3, retry_base_s=1.0, retry_max_s=2.0).get("x")
    assert (error.value.kind, error.value.status) == ("vendor", 503)
    assert len(vendor.seen) == 4
    assert len(waits) == 3
    assert all(0 <= wait <= 2.0 for wait in waits)


def test_retry_after_is_honoured(vendor, client, waits):
    vendor.replies = [Reply(429, headers={"retry-after": "7"}), Reply()]
    client().get("x")
    assert waits[0] == 7.0


def test_a_vendor_that_asks_for_hours_is_left_to_the_next_run(vendor, client, waits):
    vendor.replies = [Reply(429, headers={"retry-after": str(int(LONGEST_WAIT_S) + 1)})]
    with pytest.raises(ConnectorError) as error:
        client().get("x")
    assert error.value.kind == "throttled"
    assert len(vendor.seen) == 1
    assert waits == []


def test_retry_after_in_both_forms():
    now = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
    read = [
        retry_after_s(httpx.Headers({"retry-after": value}), now=now)
        for value in ("120", "Sun, 01 Mar 2026 12:01:30 GMT", "Sun, 01 Mar 2026 11:00:00 GMT", "soon", "")
    ]
    assert read == [120.0, 90.0, 0.0, None, None]
    assert retry_after_s(httpx.Headers({})) is None


def test_a_broken_connection_is_tried_again(vendor, client):
    def hang_up(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[1,")
        handler.close_connection = True

    vendor.replies = [hang_up, Reply(200, b"[1]")]
    assert client().get("x").decode() == [1]
    assert len(vendor.seen) == 2


def test_a_vendor_that_is_not_there(client):
    http = client(base_url="http://127.0.0.1:1", retries=1)
    with pytest.raises(ConnectorError, match=r"cannot connect to 127\.0\.0\.1") as error:
        http.get("x")
    assert error.value.kind == "vendor"


def test_a_wrong_certificate_is_no_matter_of_time(client, monkeypatch):
    tries = []

    def refuse(*_args, **_kwargs):
        tries.append(1)
        raise httpx.ConnectError("handshake") from ssl.SSLCertVerificationError("self-signed")

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", refuse)
    with pytest.raises(ConnectorError, match="certificate") as error:
        client(base_url="https://shop.example").get("x")
    assert error.value.kind == "config"
    assert len(tries) == 1


def test_no_answer_in_time(vendor, client):
    vendor.takes_s = 0.3
    with pytest.raises(ConnectorError, match="no answer in time"):
        client(timeout_s=0.05, retries=0).get("x")


def test_an_answer_that_drips_for_ever_is_given_up(vendor, client):
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.02)

    vendor.replies = [drip]
    started = time.monotonic()
    with pytest.raises(ConnectorError, match="no answer in time"):
        client(timeout_s=1.0, answer_s=0.1, retries=0).get("x")
    assert time.monotonic() - started < 1.0


def test_the_vendors_own_errors_are_read_by_its_connector(vendor, client, waits):
    def classify(answer: Answer) -> Problem | None:
        return Problem("throttled", "slower", retry=True, wait_s=3.0) if answer.status == 400 else None

    vendor.replies = [Reply(400), Reply(404, b"[]")]
    assert client(classify=classify).get("x").status == 404
    assert waits[0] == 3.0


# bounds


def test_an_answer_that_is_too_large_is_cut_while_it_comes(vendor, client):
    written = []

    def flood(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        for _ in range(2000):
            handler.wfile.write(b"x" * 65536)
            written.append(65536)

    vendor.replies = [flood]
    with pytest.raises(ConnectorError, match=r"/x answered more than 100,000 bytes") as error:
        client(max_body_bytes=100_000).get("x")
    assert error.value.kind == "too_large"
    assert len(vendor.seen) == 1
    assert sum(written) < 60_000_000


def test_the_bound_holds_for_what_is_unpacked(vendor, client):
    packed = gzip.compress(b"0" * 5_000_000)
    vendor.replies = [Reply(200, packed, {"content-encoding": "gzip"})]
    with pytest.raises(ConnectorError) as error:
        client(max_body_bytes=1_000_000).get("x")
    assert error.value.kind == "too_large"


def test_no_more_calls_at_once_than_allowed(vendor):
    vendor.takes_s = 0.05
    with Http(HttpSettings(base_url=vendor.url, parallel=2)) as http:
        threads = [threading.Thread(target=http.get, args=("x",)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(vendor.seen) == 8
    assert vendor.most_at_once == 2


# pace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds


def test_calls_leave_at_their_rate_after_a_burst():
    clock = Clock()
    pacer = Pacer(2.0, 3, clock=clock, sleep=clock.sleep)
    for _ in range(6):
        pacer.wait()
    assert clock.slept == [0.5, 0.5, 0.5]
    clock.now += 10
    clock.slept.clear()
    for _ in range(4):
        pacer.wait()
    assert clock.slept == [0.5]


def test_a_hold_delays_the_next_call_only():
    clock = Clock()
    pacer = Pacer(None, 1, clock=clock, sleep=clock.sleep)
    pacer.wait()
    pacer.hold(4)
    pacer.hold(2)
    pacer.wait()
    pacer.wait()
    assert clock.slept == [4]
    pacer.hold(10_000)
    pacer.wait()
    assert clock.slept == [4, LONGEST_WAIT_S]


def test_the_vendors_limit_headers_slow_the_next_call(vendor):
    clock = Clock()
    vendor.replies = [Reply(headers={"x-left": "0"}), Reply(headers={"x-left": "5"})]
    settings = HttpSettings(
        base_url=vendor.url, pace=lambda answer: 9.0 if answer.headers["x-left"] == "0" else 0.0
    )
    with Http(settings, clock=clock, sleep=clock.sleep) as http:
        for _ in range(3):
            http.get("x")
    assert clock.slept == [9.0]


def test_one_thread_that_is_throttled_holds_the_others(vendor):
    clock = Clock()
    vendor.replies = [Reply(429, headers={"retry-after": "30"}), Reply()]
    with Http(HttpSettings(base_url=vendor.url), clock=clock, sleep=lambda _: None) as http:
        http.get("x")
        held = http._pacer._next - clock.now
    assert held == 30.0


# what is told


def test_calls_are_logged_without_query_headers_and_body(vendor, client):
    vendor.replies = [Reply(503), Reply(200, b'{"email": "anna@example.com"}')]
    with capture_logs() as logs:
        client(headers={"X-Key": SECRET}).get("list/x", {"token": SECRET, "email": "anna@example.com"})
    calls = [entry for entry in logs if entry["event"] == "http_call"]
    assert [(c["method"], c["path"], c["status"], c["bytes"], c["try"]) for c in calls] == [
        ("GET", "/list/x", 503, 2, 1),
        ("GET", "/list/x", 200, 29, 2),
    ]
    assert all(isinstance(call["ms"], int) for call in calls)
    assert SECRET not in str(logs)
    assert "anna" not in str(logs)


def test_failed_and_cut_calls_are_logged_too(client, vendor):
    vendor.replies = [Reply(200, b"x" * 100)]
    with capture_logs() as logs:
        with pytest.raises(ConnectorError):
            client(max_body_bytes=10).get("x")
        with pytest.raises(ConnectorError):
            client(base_url="http://127.0.0.1:1", retries=0).get("x")
    assert [(entry["status"], entry.get("error")) for entry in logs] == [(200, None), (None, "ConnectError")]


def test_a_given_logger_and_user_agent_are_used(vendor):
    log = CapturingLogger()
    with Http(HttpSettings(base_url=vendor.url), user_agent="leadledger/test", log=log) as http:
        http.get("x")
    assert vendor.seen[0].headers["user-agent"] == "leadledger/test"
    assert [call.method_name for call in log.calls] == ["debug"]


def test_secrets_are_taken_out_of_errors_and_paths(vendor, client):
    def classify(answer: Answer) -> Problem | None:
        return Problem("config", f"bad key {SECRET}", f"look at {SECRET}")

    with capture_logs() as logs, pytest.raises(ConnectorError) as error:
        client(classify=classify, secrets=(SECRET, "")).get(f"x/{SECRET}")
    assert str(error.value) == "bad key [secret] look at [secret]"
    assert SECRET not in str(logs)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or error.value.__context__ is None


def test_the_libraries_below_do_not_log_addresses(vendor, client, caplog):
    caplog.set_level(logging.DEBUG)
    client().get("x", {"token": SECRET})
    assert SECRET not in caplog.text


def test_default_classify_lets_success_pass():
    assert default_classify(answer(b"", 204)) is None
