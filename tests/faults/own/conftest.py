"""A world with a database server of the test's own, which may be filled, stopped and killed, and real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.sandbox.server import Server
from sync.cli import demo
from sync.store import db, embedded_cluster, schema
from sync.store.embedded import Embedded
from sync.store.embedded_place import Place
from sync.store.tables import schedules
from tests.faults.vendor import checks
from tests.faults.vendor.hostile import Hostile
from tests.integration.flow.conftest import (
    SINCE,
    World,
    _copy_sandbox,
    _quiet,
    fresh,
    shop,
    synced,
    synced_once,
)

__all__ = ["_quiet", "fresh", "shop", "synced", "synced_once"]

ROOT = Path(__file__).parents[3]
WITHIN_S = 120.0
PROGRAM = ("-m", "sync.cli.start")


@dataclass
class Command:
    """A `leadledger` of its own, and what it said so far."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(WITHIN_S)

    def wait_until(self, condition: Callable[[], Any]) -> None:
        wait_until(lambda: condition() or self.process.poll() is not None, self)
        assert self.process.poll() is None, self.said


def wait_until(condition: Callable[[], Any], command: Command | None = None) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, command.said if command else "it never happened"
        time.sleep(0.02)


@contextmanager
def started(
    world: World, *arguments: str, program: Sequence[str] = PROGRAM, **environment: str
) -> Iterator[Command]:
    """A command as the shell starts it; killed at the end if it still runs."""
    log = world.folder / f"{arguments[0]}-{time.monotonic_ns()}.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [sys.executable, *program, *arguments],
            env=os.environ
            | {"LEADLEDGER_CONFIG": str(world.folder / "leadledger.yaml"), "PYTHONPATH": str(ROOT)}
            | environment,
            cwd=world.folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield Command(process, log)
        finally:
            process.kill()


def command(world: World, *arguments: str, **environment: str) -> tuple[int, str]:
    """A command to its end: its exit code, and all that it said."""
    with started(world, *arguments, **environment) as running:
        return running.wait(), running.said


@dataclass
class Own:
    """The server of a world. `world.url` reaches it as long as it runs."""

    world: World
    server: Embedded = field(repr=False)

    @property
    def place(self) -> Place:
        place = self.server._place()
        assert place is not None
        return place

    @property
    def pid(self) -> int | None:
        """The postmaster's, while it runs."""
        found = embedded_cluster.find(self.place)
        return found.pid if found else None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """The whole server, at once; SIGQUIT is `pg_ctl stop -m immediate`."""
        pid = self.pid
        assert pid is not None
        os.kill(pid, number)
        wait_until(lambda: self.pid is None)
        self.world.engine.dispose()

    def stop(self) -> None:
        """In order, for the next command to start."""
        self.world.engine.dispose()
        self.server.stop(force=True)

    def start(self) -> None:
        assert self.server.start() == self.world.url

    def embed(self) -> None:
        """Let the config say that the database is embedded, instead of naming the server."""
        self.world.edit((f'database: "{self.world.url}"', "database: embedded"))


@contextmanager
def own_world(folder: Path, sandbox: Path) -> Iterator[Own]:
    """A world in `folder` in which nothing has run yet, with vendors as in `sandbox`."""
    _copy_sandbox(sandbox, folder / demo.SANDBOX)
    server = Embedded(folder / "data")
    url = server.start()
    engine = db.make_engine(url)
    try:
        schema.migrate(engine)
        with Server(folder / demo.SANDBOX / demo.STATE) as vendors:
            demo.write_config(folder, vendors.port, olist=False)
            path = folder / "leadledger.yaml"
            text = path.read_text().replace("database: embedded", f'database: "{url}"')
            path.write_text(text.replace("from: 2016-01-01", f"from: {SINCE}"))
            yield Own(World(folder, vendors, url, engine), server)
    finally:
        engine.dispose()
        server.stop(force=True)
        server.remove()


@pytest.fixture
def own(tmp_path: Path, shop: Path) -> Iterator[Own]:
    with own_world(tmp_path / "own", shop) as made:
        yield made


@pytest.fixture
def vendors(own: Own) -> Iterator[Hostile]:
    """The proxy before the vendors: what happens while a page is on its way can be told to it."""
    with Hostile(own.world.server.port) as hostile:
        path = own.world.folder / "leadledger.yaml"
        path.write_text(path.read_text().replace(own.world.server.url, hostile.url))
        yield hostile


def running_rows(world: World) -> int:
    return int(world.value("SELECT count(*) FROM runs WHERE status = 'running'"))


def same_books(world: World, undisturbed: World) -> None:
    """After a sync each, both hold the same: for worlds that pushed and pulled in another order."""
    for each in (world, undisturbed):
        assert {run.status for run in each.sync().runs} == {"done"}
    for name, statement in checks.DERIVED.items():
        if name != "heads":
            assert (name, checks.texts(world, statement)) == (name, checks.texts(undisturbed, statement))
    assert world.verify() == []
    assert checks.crm(world) == checks.crm(undisturbed)
    assert running_rows(world) == 0


def due(world: World) -> None:
    """Every connector that has a schedule is to be run now."""
    with world.engine.begin() as connection:
        connection.execute(sa.update(schedules).values(next_due_at=datetime.now(UTC)))


def finished(world: World) -> set[str]:
    """The connectors of which a run is done."""
    return {row.connector for row in world.rows("SELECT connector FROM runs WHERE status = 'done'")}


def assert_same(world: World, other: World) -> None:
    """Both hold the same, as far as their own times and numbers go."""
    assert world.canonical() == other.canonical()
    for name, statement in checks.DERIVED.items():
        assert (name, checks.texts(world, statement)) == (name, checks.texts(other, statement))
    assert world.verify() == []
