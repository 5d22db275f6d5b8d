"""Pull: from a loopback shop to committed rows, evidence and mapping included; a delta; one of a long history.

The floor fetches the same pages with httpx, decodes them into typed rows with msgspec and COPYs these: no
evidence, no mapping that anybody could change, no cursor, no quarantine.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from sync import work
from sync.bench import measure, shop
from sync.bench.place import Place
from sync.config import load
from sync.store import db
from sync.workspace import Opened, Workspace

CONFIG = """\
workspace: {{name: Bench, timezone: UTC, currency: PLN}}
database: "{url}"
connectors:
  - name: shop
    type: woocommerce
    from: 2019-12-01
    streams: [orders]
    options: {{base_url: "{shop}", consumer_key: "${{env:BENCH}}", consumer_secret: "${{env:BENCH}}"}}
"""
PER_PAGE = 100
SECRET = "a secret of nobody"  # noqa: S105 - of a shop on loopback


class _Billing(msgspec.Struct):
    email: str | None = None
    phone: str | None = None
    first_name: str | None = None
    last_name: str | None = None


class _Order(msgspec.Struct):
    """What the floor takes of an order."""

    id: int
    number: str
    status: str
    currency: str
    date_created_gmt: datetime
    date_modified_gmt: datetime
    total: Decimal
    total_tax: Decimal
    shipping_total: Decimal
    discount_total: Decimal
    customer_id: int
    billing: _Billing

    def row(self) -> tuple[Any, ...]:
        who = self.billing
        return (
            self.id,
            self.number,
            self.status,
            self.currency,
            self.date_created_gmt.replace(tzinfo=UTC),
            self.date_modified_gmt.replace(tzinfo=UTC),
            self.total,
            self.total_tax,
            self.shipping_total,
            self.discount_total,
            self.customer_id,
            who.email,
            who.phone,
            f"{who.first_name} {who.last_name}",
        )


_COLUMNS = (
    "id bigint PRIMARY KEY, number text, status text, currency text, created_at timestamptz,"
    " modified_at timestamptz, total numeric, tax numeric, shipping numeric, discount numeric,"
    " customer_id bigint, email text, phone text, full_name text"
)
_NAMES = [column.split()[0] for column in _COLUMNS.split(", ")]
_DECODER = msgspec.json.Decoder(list[_Order])


def _rows(address: str, after: datetime) -> Iterator[tuple[Any, ...]]:
    page, pages = 1, 1
    with httpx.Client(base_url=address + shop.API) as client:
        while page <= pages:
            asked: dict[str, str | int] = {
                "modified_after": after.isoformat()[:19],
                "orderby": "modified",
                "page": page,
                "per_page": PER_PAGE,
            }
            answer = client.get("/orders", params=asked)
            pages = int(answer.headers["X-WP-TotalPages"])
            for order in _DECODER.decode(answer.content):
                yield order.row()
            page += 1


def _floor(engine: Engine, address: str, after: datetime, *, merge: bool) -> float:
    def fetch() -> None:
        with engine.begin() as connection:
            if not merge:
                connection.execute(sa.text(f"DROP TABLE IF EXISTS floor; CREATE TABLE floor ({_COLUMNS})"))
                db.copy_rows(connection, "floor", _NAMES, _rows(address, after))
                return
            connection.execute(sa.text("CREATE TEMP TABLE delta (LIKE floor) ON COMMIT DROP"))
            db.copy_rows(connection, "delta", _NAMES, _rows(address, after))
            connection.execute(sa.text("DELETE FROM floor USING delta WHERE floor.id = delta.id"))
            connection.execute(sa.text("INSERT INTO floor SELECT * FROM delta"))

    return measure.timed(fetch)


@contextmanager
def workspace(place: Place, engine: Engine, address: str, *, more: str = "") -> Iterator[Workspace]:
    """A workspace whose only connector is the shop."""
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    path = Path(place.folder) / "leadledger.yaml"
    path.write_text(CONFIG.format(url=url, shop=address) + more)
    with Opened(load(path, environ={"BENCH": SECRET})) as opened:
        yield opened


def _ours(opened: Workspace) -> float:
    def pull() -> None:
        run = work.pull(opened, "shop")
        assert run.status == "done", run.errors or run.problems

    return measure.timed(pull)


def results(place: Place) -> Iterator[measure.Result]:
    for full in (20_000, 100_000):
        count = place.size(full)
        place.say(f"pull {count:,} orders")
        with shop.serving(count, place.seed) as address:
            yield _whole(place, count, address)
    yield from _deltas(place)


def _whole(place: Place, count: int, address: str) -> measure.Result:
    def floor() -> float:
        with place.database() as engine:
            return _floor(engine, address, shop.START - timedelta(days=1), merge=False)

    def ours() -> float:
        with place.database() as engine, workspace(place, engine, address) as opened:
            seconds = _ours(opened)
            with engine.connect() as connection:
                held = connection.execute(sa.text("SELECT count(*) FROM orders")).scalar_one()
            assert held == count, f"{held} orders of {count} came"
            return seconds

    against = "httpx + msgspec + COPY of the typed rows"
    return measure.contest(
        f"pull {count:,} orders", goal=2.0, floor=floor, ours=ours, rounds=place.rounds, against=against
    )


def _deltas(place: Place) -> Iterator[measure.Result]:
    """The same number of changed orders in a history, and in one that is ten times as long."""
    changed = place.size(2_000)
    longer: list[float] = []
    shorter: list[float] = []
    for count, into in ((place.size(100_000), longer), (place.size(10_000), shorter)):
        place.say(f"pull {changed:,} changed of {count:,} orders")
        with shop.serving(count, place.seed) as address, place.database() as engine:
            floors = _delta_rounds(place, engine, address, changed, into)
        if into is longer:
            yield measure.Result(
                f"pull {changed:,} changed of {count:,} orders",
                floor_s := statistics.median(floors),
                ours_s := statistics.median(into),
                ours_s / floor_s,
                2.0,
                "×",
                "httpx + msgspec + COPY of the changed rows, merged",
            )
    yield measure.compared(
        "the same delta in a history of ten times the length",
        goal=1.25,
        whole_s=statistics.median(shorter),
        ours_s=statistics.median(longer),
        against="the same delta in a tenth of the history",
    )


def _delta_rounds(place: Place, engine: Engine, address: str, changed: int, into: list[float]) -> list[float]:
    floors = []
    with workspace(place, engine, address) as opened:
        _floor(engine, address, shop.START - timedelta(days=1), merge=False)
        _ours(opened)
        for _ in range(place.rounds):
            with engine.connect() as connection:
                latest = connection.execute(sa.text("SELECT max(modified_at) FROM floor")).scalar_one()
            httpx.post(f"{address}/change", params={"count": changed}).raise_for_status()
            floors.append(_floor(engine, address, latest.astimezone(UTC), merge=True))
            into.append(_ours(opened))
    return floors
