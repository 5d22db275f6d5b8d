"""A shop on loopback that costs next to nothing, in a process of its own: WooCommerce-shaped orders of 3.7 kB.

``python -m sync.bench.shop ORDERS SEED`` serves until its input ends, and prints its port first. It knows the
list of orders by time of change (`modified_after`, `modified_before`, `page`, `per_page`), an empty trash, and
``POST /change?count=N``, which changes every so-and-so-manieth order so that N have a new time.
"""

from __future__ import annotations

import bisect
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connectors.sandbox import shop_documents as documents

API = "/wp-json/wc/v3"
START = datetime(2020, 1, 1, tzinfo=UTC)
TEMPLATES = 50
EVERY_S = 61
_MARKS = {
    b"900000007": b"%(id)d",
    b"2019-01-01T00:00:00": b"%(created)s",
    b"2019-06-01T00:00:00": b"%(modified)s",
    b"buyer@bench.example": b"b%(buyer)d@bench.example",
    b"31415.92": b"%(total)d.%(cents)02d",
}


def _template(chance: random.Random) -> bytes:
    """An order with marks where orders differ, as a bytes template."""
    shop = documents.Shop("PLN", ZoneInfo("UTC"), 23)
    goods = [documents.Goods(n, f"Product {n} of the bench", f"SKU-{n:05}", 4900 + n) for n in range(100)]
    basket = [(chance.choice(goods), chance.randint(1, 3)) for _ in range(2)]
    created = datetime(2019, 1, 1, tzinfo=UTC)
    origin = {
        "source_type": "utm",
        "utm_source": chance.choice(["google", "meta", "newsletter"]),
        "utm_medium": "cpc",
        "utm_campaign": f"campaign {chance.randint(1, 40)}",
        "session_entry": f"https://shop.example/?utm_medium=cpc&gclid=Bench-{chance.randrange(10**9)}",
        "session_start_time": "2019-01-01 00:00:00",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Safari/537.36",
    }
    sale = documents.Sale(
        number=900000007,
        status=chance.choice(["processing", "completed", "completed", "cancelled"]),
        created=created,
        buyer=documents.Buyer("Jan", "Kowalski", "buyer@bench.example", phone="+48600100200"),
        basket=basket,
        shipping=1500,
        modified=datetime(2019, 6, 1, tzinfo=UTC),
        origin=origin,
    )
    body = documents.order_doc(sale, shop).body
    body["id"] = 900000007
    body["total"] = "31415.92"
    body["customer_note"] = "a note of the buyer, as long as it makes 3.7 kB in all " * 10
    text = msgspec.json.encode(body).replace(b"%", b"%%")
    for mark, slot in _MARKS.items():
        text = text.replace(mark, slot)
    return text


class Shop:
    """The orders, sorted by time of change; an order is its number and when it changed, in seconds."""

    def __init__(self, count: int, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - data of a measurement
        self._templates = [_template(chance) for _ in range(TEMPLATES)]
        self._rows = [(at * EVERY_S, at) for at in range(count)]
        self._count = count
        self._now = count * EVERY_S

    def change(self, count: int) -> None:
        """`count` orders, spread over all, have changed, each a second after the one before."""
        step = max(1, self._count // count)
        chosen = set(range(0, step * count, step))
        kept = [row for row in self._rows if row[1] not in chosen]
        self._rows = kept + [(self._now + place, at) for place, at in enumerate(sorted(chosen), 1)]
        self._now += count + 3600

    def page(self, after: datetime, before: datetime, page: int, per_page: int) -> tuple[bytes, int]:
        """The bytes of a page (numbered from 1) and how many orders the list has."""
        first = bisect.bisect_right(self._rows, ((after - START).total_seconds(), self._count))
        last = bisect.bisect_left(self._rows, ((before - START).total_seconds(), -1))
        chosen = self._rows[first:last][(page - 1) * per_page : page * per_page]
        return b"[" + b",".join(self._order(*row) for row in chosen) + b"]", max(0, last - first)

    def _order(self, modified_s: int, at: int) -> bytes:
        stamp = (START + timedelta(seconds=modified_s)).isoformat()[:19].encode()
        created = (START + timedelta(seconds=at * EVERY_S)).isoformat()[:19].encode()
        return self._templates[at % TEMPLATES] % {
            b"id": at + 1,
            b"created": created,
            b"modified": stamp,
            b"buyer": at // 3,
            b"total": 50 + at % 900,
            b"cents": at % 100,
        }


def application(shop: Shop) -> Starlette:
    def orders(request: Request) -> Response:
        asked = request.query_params
        if asked.get("status") == "trash":
            return Response(
                b"[]", media_type="application/json", headers={"X-WP-Total": "0", "X-WP-TotalPages": "0"}
            )
        per_page = int(asked.get("per_page", "100"))
        body, total = shop.page(
            _time(asked.get("modified_after", "2000-01-01T00:00:00")),
            _time(asked.get("modified_before", "2100-01-01T00:00:00")),
            int(asked.get("page", "1")),
            per_page,
        )
        pages = -(-total // per_page)
        headers = {"X-WP-Total": str(total), "X-WP-TotalPages": str(pages)}
        return Response(body, media_type="application/json", headers=headers)

    def change(request: Request) -> Response:
        shop.change(int(request.query_params["count"]))
        return JSONResponse({})

    async def list_orders(request: Request) -> Response:
        return orders(request)

    async def change_orders(request: Request) -> Response:
        return change(request)

    return Starlette(
        routes=[
            Route(f"{API}/orders", list_orders),
            Route("/change", change_orders, methods=["POST"]),
        ]
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@contextmanager
def serving(count: int, seed: int) -> Iterator[str]:
    """The address of a shop with `count` orders, in a process of its own."""
    command = [sys.executable, "-m", "sync.bench.shop", str(count), str(seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def main(count: int, seed: int) -> None:
    config = uvicorn.Config(application(Shop(count, seed)), port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    print(socket.getsockname()[1], flush=True)  # noqa: T201 - read by `serving`
    threading.Thread(target=_until_input_ends, args=(server,), daemon=True).start()
    server.run(sockets=[socket])


def _until_input_ends(server: uvicorn.Server) -> None:
    sys.stdin.read()
    server.should_exit = True


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
