"""Whole flows from a state that is synced already: one sync a process, copied for each test that needs it."""

from __future__ import annotations

import itertools
import json
import logging
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import structlog
from psycopg import sql
from sqlalchemy.engine import Engine
from typer.testing import CliRunner

from connectors.sandbox.generated import generate
from connectors.sandbox.server import Server
from connectors.sandbox.state import Fault, State
from sync import work
from sync.cli import demo, look
from sync.cli.main import app
from sync.config import Config, load
from sync.ledger import keys
from sync.ledger.verify import Check
from sync.store import db
from sync.store.tables import entries
from sync.workspace import Opened, Workspace

AS_OF = datetime(2025, 6, 1, 12, tzinfo=UTC)
SINCE = "2024-06-01"
PEOPLE = 60
AT_ONCE = {"Retry-After": "0"}
_numbers = itertools.count(1)


@dataclass
class Printed:
    """What a command ended with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class World:
    """A workspace folder, the vendors behind it and its database."""

    folder: Path
    server: Server
    url: str
    engine: Engine = field(repr=False)

    @property
    def state(self) -> State:
        return self.server.state

    @property
    def leads_csv(self) -> Path:
        return self.folder / demo.SANDBOX / demo.LEADS_CSV

    @property
    def config(self) -> Config:
        return load(self.folder / "leadledger.yaml")

    def config_text(self) -> str:
        return (self.folder / "leadledger.yaml").read_text()

    def edit(self, *changes: tuple[str, str]) -> None:
        """Replace texts of the config, each of which must be there once."""
        path = self.folder / "leadledger.yaml"
        text = self.config_text()
        for before, after in changes:
            assert text.count(before) == 1, before
            text = text.replace(before, after)
        path.write_text(text)

    @contextmanager
    def opened(self) -> Iterator[Workspace]:
        with Opened(self.config) as workspace:
            yield workspace

    def sync(self, *names: str, pushes: bool = True, sweep: bool = False) -> work.Summary:
        """Sync the named connectors, or all."""
        with self.opened() as workspace:
            chosen = list(names) or [c.name for c in workspace.config.connectors]
            return work.sync(workspace, chosen, pushes=pushes, sweep=sweep)

    def run(self, *arguments: str) -> Printed:
        """A command of `leadledger`, in this process."""
        root = logging.getLogger()
        before, level = root.handlers[:], root.level
        try:
            env = {"LEADLEDGER_CONFIG": str(self.folder / "leadledger.yaml"), "LEADLEDGER_LOG_LEVEL": "error"}
            result = CliRunner(env=env).invoke(app, list(arguments))
        finally:
            root.handlers[:], root.level = before, level
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Printed(result.exit_code, result.stdout, result.stderr)

    def fault(self, vendor: str, path: str, status: int, *, body: str = "", times: int = 1) -> None:
        """The vendor's next answers on a path, which a client may ask for again at once."""
        self.state.inject(Fault(vendor, path, status, dict(AT_ONCE), body, times))

    def rows(self, statement: str, **values: Any) -> list[sa.Row[Any]]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text(statement), values))

    def row(self, statement: str, **values: Any) -> sa.Row[Any]:
        [found] = self.rows(statement, **values)
        return found

    def value(self, statement: str, **values: Any) -> Any:
        return self.row(statement, **values)[0]

    def head(self) -> tuple[int, bytes]:
        """The journal's last entry and its hash."""
        with self.engine.connect() as connection:
            row = connection.execute(
                sa.select(entries.c.id, entries.c.hash).order_by(entries.c.id.desc()).limit(1)
            ).one()
        return row.id, bytes(row.hash)

    def verify(self) -> list[Check]:
        """The checks that are not right."""
        with self.opened() as workspace:
            return [check for check in look.run_checks(workspace, offline=False) if not check.ok]

    def writes(self) -> list[tuple[str, dict[str, Any]]]:
        """What the CRM accepted, oldest first."""
        return self.state.writes("hubspot")

    def canonical(self) -> dict[str, list[tuple[Any, ...]]]:
        """What came of all streams, by table, without what differs from one fetch to the next."""
        kinds = ("leads", "touches", "campaigns", "spend", "orders", "refunds", "products", "contacts")
        return {kind: sorted(map(_stable, self.rows(f"SELECT * FROM {kind}"))) for kind in (*kinds, "owners")}


def _stable(row: sa.Row[Any]) -> tuple[str, ...]:
    return tuple(f"{name}={value}" for name, value in row._mapping.items() if name != "evidence_id")


def _admin(url: str) -> str:
    return sa.make_url(url).set(database="postgres").render_as_string(hide_password=False)


def _copy_database(url: str, *, template: str, name: str) -> str:
    with psycopg.connect(_admin(url), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)


def _drop_database(url: str, name: str) -> None:
    with psycopg.connect(_admin(url), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _copy_sandbox(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    shutil.copy(source / demo.LEADS_CSV, target)
    with (
        closing(sqlite3.connect(source / demo.STATE)) as before,
        closing(sqlite3.connect(target / demo.STATE)) as after,
    ):
        before.backup(after)


@contextmanager
def _world(folder: Path, postgres: str, *, sandbox: Path, template: str) -> Iterator[World]:
    """The vendors of `sandbox` and the database `template`, both copied, and a config over them."""
    name = f"flow_{next(_numbers)}"
    url = _copy_database(postgres, template=template, name=name)
    _copy_sandbox(sandbox, folder / demo.SANDBOX)
    engine = db.make_engine(url)
    try:
        with Server(folder / demo.SANDBOX / demo.STATE) as server:
            demo.write_config(folder, server.port, olist=False)
            path = folder / "leadledger.yaml"
            text = path.read_text().replace("database: embedded", f'database: "{url}"')
            path.write_text(text.replace("from: 2016-01-01", f"from: {SINCE}"))
            yield World(folder, server, url, engine)
    finally:
        engine.dispose()
        _drop_database(postgres, name)


@contextmanager
def _copy(world: World, folder: Path, postgres: str) -> Iterator[World]:
    template = sa.make_url(world.url).database
    assert template is not None
    world.engine.dispose()  # nobody may be connected to a database that is copied
    with _world(folder, postgres, sandbox=world.folder / demo.SANDBOX, template=template) as copied:
        key = copied.config.data_folder / keys.FILE
        key.parent.mkdir()
        shutil.copy(world.config.data_folder / keys.FILE, key)  # the heads of the copy are signed with it
        yield copied


@pytest.fixture(autouse=True)
def _quiet(_logs_as_before: None) -> None:
    """What a failing test of this folder prints should be its own, not hundreds of calls."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a generated sandbox to which nobody has written yet."""
    folder = tmp_path_factory.mktemp("shop") / demo.SANDBOX
    generate(folder / demo.STATE, leads_csv=folder / demo.LEADS_CSV, seed=1, people=PEOPLE, today=AS_OF)
    return folder


@pytest.fixture(scope="session")
def synced_once(tmp_path_factory: pytest.TempPathFactory, postgres: str, shop: Path) -> Iterator[World]:
    """A world after its first sync. It is what others are copied from: nobody works in it."""
    folder = tmp_path_factory.mktemp("synced")
    with _world(folder, postgres, sandbox=shop, template="leadledger") as world:
        summary = world.sync()
        assert [run.status for run in summary.runs] == ["done"] * 6
        yield world


@pytest.fixture
def fresh(tmp_path: Path, postgres: str, shop: Path) -> Iterator[World]:
    """A world in which nothing has run yet."""
    with _world(tmp_path / "fresh", postgres, sandbox=shop, template="leadledger") as world:
        yield world


@pytest.fixture
def synced(tmp_path: Path, postgres: str, synced_once: World) -> Iterator[World]:
    """A world of the test's own, just after its first sync."""
    with _copy(synced_once, tmp_path / "synced", postgres) as world:
        yield world


@pytest.fixture(scope="module")
def readable(tmp_path_factory: pytest.TempPathFactory, postgres: str, synced_once: World) -> Iterator[World]:
    """A synced world for all tests of a module that only read."""
    with _copy(synced_once, tmp_path_factory.mktemp("readable") / "world", postgres) as world:
        yield world
