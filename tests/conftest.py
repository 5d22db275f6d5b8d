"""What tests that touch data share: a real PostgreSQL, a fresh database each, the sandbox's vendors."""

from __future__ import annotations

import itertools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
import structlog
from psycopg import sql
from sqlalchemy.engine import Engine

from connectors.sandbox.generated import generate
from connectors.sandbox.server import Server
from sync.cli import demo
from sync.config import Config, load
from sync.store import db, schema
from sync.store.embedded import Embedded
from sync.workspace import Opened, Workspace

# A shell starts what runs in the background with Ctrl-C ignored, and the processes that tests start and
# interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TODAY = datetime(2026, 6, 1, 12, tzinfo=UTC)
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A command that a test runs in this process sets up the logs; the next test finds them as they were."""
    before = structlog.get_config()
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    structlog.configure(**before)
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for the whole session (one a worker process); gives the URL of its database `leadledger`."""
    server = Embedded(tmp_path_factory.mktemp("postgres"))
    url = server.start()
    engine = db.make_engine(url)
    schema.migrate(engine)
    engine.dispose()
    yield url
    server.remove()


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """The URL of a migrated database of the test's own."""
    name = f"test_{next(_numbers)}"
    admin = sa.make_url(postgres).set(database="postgres").render_as_string(hide_password=False)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE leadledger").format(sql.Identifier(name)))
    yield sa.make_url(postgres).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    made = db.make_engine(database)
    yield made
    made.dispose()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Server]:
    """The vendors with a small generated shop (60 people, seed 1, as of TODAY), served on loopback."""
    folder = tmp_path / demo.SANDBOX
    generate(folder / demo.STATE, leads_csv=folder / demo.LEADS_CSV, seed=1, people=60, today=TODAY)
    with Server(folder / demo.STATE) as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, sandbox: Server, database: str) -> Config:
    """The demo's config over `sandbox`, with the test's own database; its folder is `tmp_path`."""
    demo.write_config(tmp_path, sandbox.port, olist=False)
    path = tmp_path / "leadledger.yaml"
    path.write_text(path.read_text().replace("database: embedded", f'database: "{database}"'))
    return load(path)


@pytest.fixture
def workspace(config: Config) -> Iterator[Workspace]:
    with Opened(config) as opened:
        yield opened


@pytest.fixture
def reopen(config: Config) -> Callable[[Callable[[str], str]], Config]:
    """Edit the config's text and load it again."""

    def edit(change: Callable[[str], str]) -> Config:
        config.path.write_text(change(config.path.read_text()))
        return load(config.path)

    return edit
