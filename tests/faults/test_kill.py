"""A sync that is killed, at whatever moment, and started again ends as if nobody had disturbed it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from connectors.sandbox.generated import generate
from connectors.sandbox.server import Server
from connectors.sandbox.state import Fault
from sync.cli import demo
from sync.store import db

ROOT = Path(__file__).parents[2]
TODAY = datetime(2026, 6, 1, 12, tzinfo=UTC)
KILLS = int(os.environ.get("LEADLEDGER_KILLS", "12"))
SEED = int(os.environ.get("LEADLEDGER_SEED", "20260601"))
BUSY = 4
STARTS_WITHIN_S = 0.8
SYNC_WITHIN_S = 120

# Times of our own (when something was fetched, sent or booked) are not part of it, nor what depends on how
# the work fell into batches: the numbers of entries and evidence.
DUMP = {
    "balances": """
        SELECT p.account, e.currency, sum(p.amount_minor)::bigint FROM entries e
          JOIN postings p ON p.entry_id = e.id GROUP BY 1, 2 ORDER BY 1, 2""",
    "orders": """
        SELECT e.connector, e.subject, e.part, e.business_day::text, p.account, sum(p.amount_minor)::bigint
          FROM entries e JOIN postings p ON p.entry_id = e.id
         GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5""",
    "entries": "SELECT count(*), count(reverses) FROM entries",
    "credits": "SELECT * FROM credits ORDER BY connector, order_id, line",
    "journeys": "SELECT to_jsonb(j) FROM journeys j ORDER BY person_id",
    # The ids of stage changes hold the CRM's time of the change, which for our own writes is that of the test.
    "members": """
        SELECT * FROM members WHERE kind <> 'stage_change' ORDER BY kind, connector, external_id""",
    "outbox": """
        SELECT destination, person_id, email, remote_id, desired, accepted, status FROM outbox ORDER BY 1, 2""",
    "heads": """
        SELECT connector, stream, external_id, encode(digest, 'hex'), deleted FROM heads
         WHERE connector <> 'crm' ORDER BY 1, 2, 3""",
    "heads of the CRM": """
        SELECT connector, stream, external_id, deleted FROM heads WHERE connector = 'crm' ORDER BY 1, 2, 3""",
    "pending": "SELECT step, kind, ref FROM pending",
    "quarantine": "SELECT connector, stream, external_id FROM quarantine ORDER BY 1, 2, 3",
}


@dataclass
class World:
    """A folder with a config, vendors of its own and a database of its own."""

    folder: Path
    vendors: Server
    url: str

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "sync.cli.main",
                *command,
                "--config",
                str(self.folder / "leadledger.yaml"),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def sync(self) -> int:
        """A whole sync; returns the exit code."""
        with self.start("sync") as process:
            said, _ = process.communicate(timeout=SYNC_WITHIN_S)
        assert process.returncode in (0, BUSY), said
        return process.returncode

    def finish(self) -> None:
        """Sync until it is done: the server may need a moment to notice that a killed client is gone."""
        for _ in range(20):
            if self.sync() == 0:
                return
            time.sleep(0.2)
        raise AssertionError("a sync found its connectors busy for ever")

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql.SQL(statement)).fetchall()  # type: ignore[arg-type]

    def dump(self) -> dict[str, str]:
        return {
            name: "\n".join(json.dumps(row, sort_keys=True, default=str) for row in self.ask(statement))
            for name, statement in DUMP.items()
        }

    def contacts(self) -> dict[str, dict[str, str]]:
        """What the CRM holds of our fields, by e-mail address."""
        docs, _ = self.vendors.state.select("hubspot", "contact")
        return {
            str(doc.body["properties"].get("email")): {
                name: value
                for name, value in doc.body["properties"].items()
                if name.startswith("leadledger_") or name == "lifecyclestage"
            }
            for doc in docs
        }

    def written(self) -> set[tuple[str, str, str]]:
        """Every value that the CRM was ever given: e-mail address, field, value."""
        found = set()
        for id, sent in self.vendors.state.writes("hubspot"):
            doc = self.vendors.state.get("hubspot", "contact", id)
            assert doc is not None, f"a write to contact {id}, which is not there"
            found |= {(doc.body["properties"]["email"], name, value) for name, value in sent.items()}
        return found


@pytest.fixture
def worlds(postgres: str, tmp_path: Path) -> Iterator[tuple[World, World]]:
    """Two of them, alike to the byte."""
    first, second = tmp_path / "undisturbed", tmp_path / "killed"
    generate(
        first / demo.SANDBOX / demo.STATE,
        leads_csv=first / demo.SANDBOX / demo.LEADS_CSV,
        seed=1,
        people=60,
        today=TODAY,
    )
    shutil.copytree(first, second)
    with ExitStack() as stack:
        yield stack.enter_context(_world(first, postgres)), stack.enter_context(_world(second, postgres))


class _world(ExitStack):
    def __init__(self, folder: Path, postgres: str) -> None:
        super().__init__()
        self._folder, self._admin = folder, sa.make_url(postgres).set(database="postgres")

    def __enter__(self) -> World:  # type: ignore[override]
        super().__enter__()
        name = sql.Identifier(f"kill_{self._folder.name}_{os.getpid()}_{time.monotonic_ns()}")
        admin = self._admin.render_as_string(hide_password=False)
        with psycopg.connect(admin, autocommit=True) as server:
            server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE leadledger").format(name))
        self.callback(_drop, admin, name)
        url = self._admin.set(database=name.as_string().strip('"')).render_as_string(hide_password=False)
        vendors = self.enter_context(Server(self._folder / demo.SANDBOX / demo.STATE))
        path = demo.write_config(self._folder, vendors.port, olist=False).path
        text = path.read_text().replace("database: embedded", f'database: "{url}"')
        # Years in which nothing happened would make most of the time, and of the moments to be killed at.
        path.write_text(text.replace("from: 2016-01-01", "from: 2025-01-01"))
        return World(self._folder, vendors, url)


def _drop(admin: str, name: sql.Identifier) -> None:
    with psycopg.connect(admin, autocommit=True) as server:
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def test_killed_and_started_again(worlds: tuple[World, World]) -> None:
    undisturbed, killed = worlds
    began = time.monotonic()
    undisturbed.finish()
    takes_s = time.monotonic() - began
    undisturbed.finish()

    chance = random.Random(SEED)
    print(f"seed {SEED}, {KILLS} kills, an undisturbed sync takes {takes_s:.1f} s")
    caught = 0
    for _ in range(2 * KILLS):
        after_s = chance.uniform(STARTS_WITHIN_S, max(0.7 * takes_s, STARTS_WITHIN_S + 0.5))
        with killed.start("sync") as process:
            try:
                process.communicate(timeout=after_s)
            except subprocess.TimeoutExpired:
                process.kill()
                caught += 1
        assert process.returncode in (0, BUSY, -signal.SIGKILL)
        if caught == KILLS:
            break
    print(f"{caught} kills met a sync at work")
    assert caught >= KILLS // 2, "the kills came too late to meet a sync at work"
    killed.finish()
    killed.finish()

    expected, found = undisturbed.dump(), killed.dump()
    for name in DUMP:
        assert found[name] == expected[name], name
    assert expected["credits"]
    assert expected["outbox"]
    assert expected["pending"] == ""
    assert killed.contacts() == undisturbed.contacts()
    assert killed.written() <= undisturbed.written()
    assert killed.ask("SELECT count(*) FROM runs WHERE status IN ('queued', 'running')") == [(0,)]


def test_killed_while_it_pushes(worlds: tuple[World, World]) -> None:
    """What the CRM took and nobody noted is sent again: the same state."""
    undisturbed, killed = worlds
    for world in worlds:
        with world.start("sync", "--no-push") as process:
            assert process.wait(SYNC_WITHIN_S) == 0
    undisturbed.finish()
    undisturbed.finish()
    pushed = False
    deadline = time.monotonic() + SYNC_WITHIN_S
    with killed.start("push") as process:
        while not pushed and process.poll() is None and time.monotonic() < deadline:
            pushed = bool(killed.vendors.state.writes("hubspot"))
            time.sleep(0.002)
        process.kill()
    assert pushed
    killed.finish()
    killed.finish()
    assert killed.contacts() == undisturbed.contacts()
    assert killed.written() <= undisturbed.written()
    assert killed.dump()["outbox"] == undisturbed.dump()["outbox"]
    assert killed.dump()["journeys"] == undisturbed.dump()["journeys"]


def test_stopped_by_the_operator(worlds: tuple[World, World]) -> None:
    undisturbed, stopped = worlds
    undisturbed.finish()
    slow = Fault("woocommerce", "/orders", 429, headers={"Retry-After": "2"})
    stopped.vendors.state.inject(slow)
    engine = db.make_engine(stopped.url)
    deadline = time.monotonic() + SYNC_WITHIN_S
    with stopped.start("sync") as process:
        running = sa.text("SELECT count(*) FROM runs WHERE connector = 'shop' AND status = 'running'")
        at_work = False
        while not at_work and time.monotonic() < deadline:
            with engine.connect() as connection:
                at_work = bool(connection.execute(running).scalar())
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    engine.dispose()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert stopped.ask("SELECT status, error FROM runs WHERE connector = 'shop'") == [
        ("failed", "stopped by the operator")
    ]
    assert stopped.ask("SELECT count(*) FROM runs WHERE status IN ('queued', 'running')") == [(0,)]
    assert stopped.sync() == 0
    assert stopped.dump()["orders"] == undisturbed.dump()["orders"]
