"""What it costs when nothing is to be done, and how much memory a sync takes, whatever the history.

``python -m sync.bench.standing CONFIG`` syncs once and prints the bytes that the process held before and at most.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connectors.contract import Cursor
from sync import logs, work
from sync.bench import history, measure, pulling, shop
from sync.bench.place import Place
from sync.config import load
from sync.pull import store
from sync.workspace import Opened, Workspace

LONG, SHORT, SYNCED = 1_000_000, 10_000, 100_000
NOTHING_ROUNDS = 9  # each is a tenth of a second: one alone says little
MIB = 1024 * 1024
KIB = 1024


def results(place: Place) -> Iterator[measure.Result]:
    yield from _nothing_to_do(place)
    orders = place.size(SYNCED)
    place.say(f"memory of a first sync of {orders:,} orders")
    yield measure.value(
        f"memory above idle, first sync of {orders:,} orders",
        goal=80.0,
        found=_memory(place, orders),
        unit="MB",
    )


def _nothing_to_do(place: Place) -> Iterator[measure.Result]:
    took: dict[int, float] = {}
    for full in (SHORT, LONG):
        orders = place.size(full)
        place.say(f"nothing to do after {orders:,} orders")
        with (
            shop.serving(orders, place.seed) as address,
            place.database() as engine,
            pulling.workspace(place, engine, address) as opened,
        ):
            with engine.begin() as connection:
                history.make(connection, orders=orders, persons=place.size(280_000))
                _stands_at(connection, opened, orders)
            work.sync(opened, ["shop"])
            took[full] = statistics.median(
                measure.timed(lambda: work.sync(opened, ["shop"])) for _ in range(NOTHING_ROUNDS)
            )
    long, short = place.size(LONG), place.size(SHORT)
    yield measure.value(f"a sync with nothing to do, {long:,} orders", goal=2.0, found=took[LONG], unit="s")
    yield measure.compared(
        "the same, beside a hundredth of the history",
        goal=1.25,
        whole_s=took[SHORT],
        ours_s=took[LONG],
        against=f"a sync with nothing to do, {short:,} orders",
    )


def _stands_at(connection: Connection, opened: Workspace, orders: int) -> None:
    """The cursor as the pull of the history would have left it."""
    with opened.connected("shop") as connected:
        fingerprint = connected.plan().fingerprint("orders")
    at = shop.START + timedelta(seconds=(orders - 1) * shop.EVERY_S)
    store.write_cursor(
        connection,
        connector="shop",
        stream="orders",
        cursor=Cursor(at=at),
        mapped_with=fingerprint,
        run_id=0,
    )


def _memory(place: Place, orders: int) -> float:
    with (
        shop.serving(orders, place.seed) as address,
        place.database() as engine,
        pulling.workspace(place, engine, address) as opened,
    ):
        command = [sys.executable, "-m", "sync.bench.standing", str(opened.config.path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        before, most = map(int, done.stdout.split())
        with engine.connect() as connection:
            booked = connection.execute(sa.text("SELECT count(*) FROM attributions")).scalar_one()
    assert booked, "the sync attributed nothing"
    return (most - before) / MIB


def main(path: Path) -> None:
    logs.configure(form="text", level="error")
    with Opened(load(path, environ={"BENCH": pulling.SECRET})) as opened:
        before = _bytes("VmRSS")
        work.sync(opened, ["shop"])
        print(before, _bytes("VmHWM"))  # noqa: T201 - read by `_memory`


def _bytes(name: str) -> int:
    """A figure of this process's memory, as Linux tells it. (The most that `getrusage` tells holds what the
    process had that started this one.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * KIB for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
