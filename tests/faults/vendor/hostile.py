"""A vendor on a bad day: a proxy on loopback before the sandbox, which spoils the answers it is told to.

All that is not spoiled is the sandbox's own answer, so a sync through the proxy works as without it. A spoil is
a function of an `Exchange`: it may ask the vendor or not, and writes to the socket what it likes.
"""

from __future__ import annotations

import gzip
import http.client
import json
import re
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

HOST = "127.0.0.1"
JSON = {"Content-Type": "application/json"}
PART = 64 * 1024


@dataclass(frozen=True)
class Call:
    """What was asked."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    target: str


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Exchange:
    """One call and the way back to who made it. `sent` counts the bytes of the body that left."""

    call: Call
    last: Reply | None
    wire: BaseHTTPRequestHandler
    vendor: int
    sent: int = 0

    def ask(self) -> Reply:
        """The vendor's own answer."""
        vendor = http.client.HTTPConnection(HOST, self.vendor, timeout=30)
        try:
            vendor.request(self.call.method, self.call.target, self.call.body, dict(self.call.headers))
            answer = vendor.getresponse()
            headers = {k: v for k, v in answer.headers.items() if k.lower() not in ("content-length", "date")}
            return Reply(answer.status, headers, answer.read())
        finally:
            vendor.close()

    def answer(self, reply: Reply, *, length: int | None = None) -> None:
        """Send a reply whole; `length` is what it says of its body where that is not true."""
        self.begin(reply.status, {**reply.headers, "Content-Length": str(length or len(reply.body))})
        self.write(reply.body)

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.wire.send_response_only(status)
        for name, value in headers.items():
            self.wire.send_header(name, value)
        self.wire.end_headers()

    def write(self, part: bytes) -> None:
        self.wire.wfile.write(part)
        self.sent += len(part)

    def chunk(self, part: bytes) -> None:
        """One chunk of a body whose length nobody knows; an empty one ends it."""
        self.write(b"%x\r\n%s\r\n" % (len(part), part))

    def hang_up(self) -> None:
        self.wire.close_connection = True

    def wait_for_the_end(self) -> None:
        """Say nothing until the other side hangs up."""
        self.wire.rfile.read(1)
        self.hang_up()


Spoil = Callable[[Exchange], None]


@dataclass
class Rule:
    """Spoil the answers to paths that match, `times` of them (None: until healed) after the first `after`."""

    path: re.Pattern[str]
    spoil: Spoil
    times: int | None
    after: int
    query: Mapping[str, str]
    used: int = 0

    def takes(self, call: Call) -> bool:
        if not self.path.search(call.path) or any(call.query.get(k) != v for k, v in self.query.items()):
            return False
        if self.after:
            self.after -= 1
            return False
        if self.times is not None and self.used >= self.times:
            return False
        self.used += 1
        return True


class Hostile:
    """The proxy in threads of this process: a context manager with `url`.

    `calls` are all that came, `spoiled` those whose answers were spoiled. Without a vendor behind it, it is a
    host that answers everything with an empty object.
    """

    def __init__(self, vendor: int | None = None) -> None:
        self.vendor = vendor
        self.calls: list[Call] = []
        self.spoiled: list[Exchange] = []
        self._rules: list[Rule] = []
        self._last: dict[str, Reply] = {}
        self._guard = threading.Lock()
        self._server = ThreadingHTTPServer((HOST, 0), _handler(self))
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port: int = self._server.server_address[1]
        self.url = f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def spoil(
        self, path: str, spoil: Spoil, *, times: int | None = None, after: int = 0, **query: str
    ) -> Rule:
        """Spoil answers to a path (a regular expression) and, where given, to these values of the query."""
        rule = Rule(re.compile(path), spoil, times, after, query)
        self._rules.append(rule)
        return rule

    def heal(self) -> None:
        self._rules.clear()

    def asked(self, path: str) -> list[Call]:
        return [call for call in self.calls if re.search(path, call.path)]

    def serve(self, call: Call, wire: BaseHTTPRequestHandler) -> None:
        with self._guard:
            self.calls.append(call)
            rule = next((rule for rule in self._rules if rule.takes(call)), None)
            last = self._last.get(call.path)
        exchange = Exchange(call, last, wire, self.vendor or 0)
        if rule is not None:
            self.spoiled.append(exchange)
            rule.spoil(exchange)
            return
        reply = exchange.ask() if self.vendor else Reply(200, JSON, b"{}")
        self._last[call.path] = reply
        exchange.answer(reply)


def _handler(hostile: Hostile) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            target = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            query = {name: values[-1] for name, values in parse_qs(target.query).items()}
            call = Call(self.command, target.path, query, dict(self.headers), body, self.path)
            try:
                hostile.serve(call, self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # who asked has hung up, as it may

        do_GET = do_POST = do_PATCH = _serve

        def log_message(self, format: str, *args: Any) -> None:
            """A failing test's output is its own."""

    return Handler


# What can be wrong with an answer


def compact(value: Any) -> bytes:
    """JSON as the sandbox writes it, so that a record that is left alone keeps its bytes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def instead(status: int, body: Any = b"", **headers: str) -> Spoil:
    """Another answer; a body that is not bytes is sent as JSON. Header names are written with _ for -."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda exchange: exchange.answer(Reply(status, {**JSON, **named}, raw))


def changed(change: Callable[[Any], Any]) -> Spoil:
    """The vendor's own answer with another body: `change` may work on the decoded one, or give a new one."""

    def spoil(exchange: Exchange) -> None:
        reply = exchange.ask()
        body = reply.json
        new = change(body)
        exchange.answer(replace(reply, body=compact(body if new is None else new)))

    return spoil


def raw(change: Callable[[bytes], bytes]) -> Spoil:
    """The vendor's own answer with its bytes changed."""

    def spoil(exchange: Exchange) -> None:
        reply = exchange.ask()
        exchange.answer(replace(reply, body=change(reply.body)))

    return spoil


def meanwhile(happens: Callable[[], Any]) -> Spoil:
    """The vendor's own answer, after something has happened there."""

    def spoil(exchange: Exchange) -> None:
        happens()
        exchange.answer(exchange.ask())

    return spoil


def again(exchange: Exchange) -> None:
    """What was answered last on this path, whatever is asked now: a cache that knows no queries."""
    assert exchange.last is not None
    exchange.answer(exchange.last)


def lost(exchange: Exchange) -> None:
    """The vendor does what it was asked, and half of its answer comes; then the connection breaks."""
    reply = exchange.ask()
    exchange.answer(replace(reply, body=reply.body[: len(reply.body) // 2]), length=len(reply.body))
    exchange.hang_up()


def chunks_without_end(exchange: Exchange) -> None:
    """The vendor's whole body in chunks; the empty one that ends them never comes."""
    reply = exchange.ask()
    exchange.begin(reply.status, {**reply.headers, "Transfer-Encoding": "chunked"})
    exchange.chunk(reply.body)
    exchange.hang_up()


def silence(exchange: Exchange) -> None:
    """No answer at all."""
    exchange.wait_for_the_end()


def done_and_gone(exchange: Exchange) -> None:
    """The vendor does what it was asked, and hangs up without a word."""
    exchange.ask()
    exchange.hang_up()


def drip(exchange: Exchange) -> None:
    """A byte now and then, for ever: each comes in time, and the body never ends."""
    exchange.begin(200, {**JSON, "Transfer-Encoding": "chunked"})
    pause = threading.Event()
    while True:
        exchange.chunk(b" ")
        pause.wait(0.02)


def flood(size: int) -> Spoil:
    """A body of `size` bytes, of which none is kept here either."""

    def spoil(exchange: Exchange) -> None:
        exchange.begin(200, {**JSON, "Content-Length": str(size)})
        while exchange.sent < size:
            exchange.write(b" " * PART)

    return spoil


PACKED = {**JSON, "Content-Encoding": "gzip"}
GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"
"""A part of a packed body of which nothing comes: any number of them may follow each other."""


def _spaces(size: int) -> bytes:
    """A part of a packed body that becomes `size` spaces."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(b" " * size) + packer.flush(zlib.Z_FULL_FLUSH)


def _packed_without_end(part: bytes, *, pause_s: float = 0) -> Spoil:
    def spoil(exchange: Exchange) -> None:
        exchange.begin(200, {**PACKED, "Transfer-Encoding": "chunked"})
        exchange.chunk(GZIP_HEAD)
        pause = threading.Event()
        while True:
            exchange.chunk(part)
            pause.wait(pause_s)

    return spoil


packed_spaces = _packed_without_end(_spaces(4 * 1024 * 1024))
packed_nothing = _packed_without_end(EMPTY_BLOCK * 10_000)
packed_drip = _packed_without_end(EMPTY_BLOCK, pause_s=0.02)


def packed(exchange: Exchange) -> None:
    """The vendor's own answer, packed as it should be."""
    reply = exchange.ask()
    headers = {**reply.headers, "Content-Encoding": "gzip"}
    exchange.answer(replace(reply, headers=headers, body=gzip.compress(reply.body)))


def packed_wrongly(exchange: Exchange) -> None:
    """The end is missing, although the length is right."""
    exchange.answer(Reply(200, PACKED, gzip.compress(exchange.ask().body)[:-20]))


def packed_twice(exchange: Exchange) -> None:
    """200 MB in a few hundred bytes: what unpacks to little unpacks to much."""
    body = gzip.compress(gzip.compress(b" " * 200 * 1024 * 1024))
    exchange.answer(Reply(200, {**PACKED, "Content-Encoding": "gzip, gzip"}, body))
