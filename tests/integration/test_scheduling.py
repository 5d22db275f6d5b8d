"""Scheduled runs: each due time once, one run of a connector at a time, and a clean end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from sync import runs, schedule, work
from sync.config import Config
from sync.pull import step as pulling
from sync.pull import store as pull_store
from sync.store import db
from sync.store.tables import runs as run_table
from sync.store.tables import schedules
from sync.workspace import Workspace

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 6, 1, 12, 2, 30, tzinfo=UTC)
CONNECTORS = ["crm", "meta", "newsletter", "shop", "web"]


def _due(engine: Engine, at: datetime, *, catch_up: str = "one") -> None:
    """Every schedule is due at `at`."""
    with engine.begin() as connection:
        connection.execute(sa.update(schedules).values(next_due_at=at, catch_up=catch_up))


@pytest.fixture
def scheduled(workspace: Workspace) -> Workspace:
    with workspace.engine.begin() as connection:
        schedule.store_schedules(connection, workspace, now=NOW)
    return workspace


def _ask(engine: Engine, statement: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def _jobs(engine: Engine) -> int:
    return int(_ask(engine, "SELECT count(*) FROM procrastinate_jobs")[0][0])


def test_nothing_is_due_before_its_time(scheduled: Workspace) -> None:
    assert schedule.tick(scheduled.engine, now=NOW + timedelta(minutes=2)) == []
    assert _jobs(scheduled.engine) == 0


def test_a_due_time_is_queued_once(scheduled: Workspace) -> None:
    due = datetime(2026, 6, 1, 12, 5, tzinfo=UTC)
    queued = schedule.tick(scheduled.engine, now=due)
    assert sorted(queued) == [(name, due) for name in CONNECTORS]
    assert schedule.tick(scheduled.engine, now=due + timedelta(seconds=10)) == []
    assert _jobs(scheduled.engine) == len(CONNECTORS)
    rows = _ask(scheduled.engine, "SELECT connector, status, waits_for FROM runs ORDER BY connector")
    assert rows == [(name, "queued", "a free worker") for name in CONNECTORS]


def test_two_tickers_at_once_queue_once(scheduled: Workspace, database: str) -> None:
    _due(scheduled.engine, NOW)
    start = Barrier(2)

    def tick(_: int) -> int:
        engine = db.make_engine(database)
        try:
            start.wait()
            return len(schedule.tick(engine, now=NOW))
        finally:
            engine.dispose()

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(tick, range(2))) == len(CONNECTORS)
    assert _jobs(scheduled.engine) == len(CONNECTORS)


def test_a_due_time_that_has_its_run_is_not_queued_again(
    scheduled: Workspace,
) -> None:
    """As after a restore of the schedules alone: the run's row is the guard."""
    _due(scheduled.engine, NOW)
    schedule.tick(scheduled.engine, now=NOW)
    _due(scheduled.engine, NOW)
    assert schedule.tick(scheduled.engine, now=NOW) == []
    assert _jobs(scheduled.engine) == len(CONNECTORS)


def test_runs_are_unique_by_connector_and_due_time(scheduled: Workspace) -> None:
    statement = sa.insert(run_table).values(
        connector="shop", kind="sync", due_at=NOW, status="queued", fence=sa.func.gen_random_uuid()
    )
    with scheduled.engine.begin() as connection:
        connection.execute(statement)
    with pytest.raises(sa.exc.IntegrityError), scheduled.engine.begin() as connection:
        connection.execute(statement)


@pytest.mark.parametrize(("catch_up", "count"), [("none", 0), ("one", 1), ("all", 12)])
def test_what_was_missed(scheduled: Workspace, catch_up: str, count: int) -> None:
    """An hour's pause of a schedule of five minutes."""
    now = datetime(2026, 6, 1, 13, 3, tzinfo=UTC)
    _due(scheduled.engine, datetime(2026, 6, 1, 12, 5, tzinfo=UTC), catch_up=catch_up)
    queued = [at for name, at in schedule.tick(scheduled.engine, now=now) if name == "shop"]
    assert len(queued) == count
    if queued:
        assert queued[-1] == datetime(2026, 6, 1, 13, 0, tzinfo=UTC)
    upcoming = _ask(scheduled.engine, "SELECT DISTINCT next_due_at FROM schedules")
    assert upcoming == [(datetime(2026, 6, 1, 13, 5, tzinfo=UTC),)]


def test_the_second_run_of_a_connector_is_told_that_it_is_busy(engine: Engine, database: str) -> None:
    other = db.make_engine(database)
    with (
        runs.begin(engine, connector="shop", kind="pull", stop=Event()),
        pytest.raises(runs.Busy, match="shop"),
        runs.begin(other, connector="shop", kind="pull", stop=Event()),
    ):
        raise AssertionError("both ran")
    with runs.begin(other, connector="shop", kind="pull", stop=Event()) as run:
        assert run.connector == "shop"
    other.dispose()
    assert _ask(engine, "SELECT status FROM runs ORDER BY id") == [("done",), ("done",)]


def test_another_connector_is_not_held_up(engine: Engine) -> None:
    with (
        runs.begin(engine, connector="shop", kind="pull", stop=Event()),
        runs.begin(engine, connector="meta", kind="pull", stop=Event()) as second,
    ):
        assert second.connector == "meta"


def test_a_job_of_a_connector_at_work_is_given_up_with_a_reason(
    scheduled: Workspace,
) -> None:
    _due(scheduled.engine, NOW)
    schedule.tick(scheduled.engine, now=NOW)
    [(run_id,)] = _ask(scheduled.engine, "SELECT id FROM runs WHERE connector = 'shop'")
    with runs.begin(scheduled.engine, connector="shop", kind="pull", stop=Event()):
        schedule.run_queued(scheduled, run_id)
    [(status, error, waits)] = _ask(
        scheduled.engine, f"SELECT status, error, waits_for FROM runs WHERE id = {run_id}"
    )
    assert (status, waits) == ("abandoned", None)
    assert "still being run at its due time" in error


def test_a_queued_run_is_done_once(scheduled: Workspace) -> None:
    _due(scheduled.engine, NOW)
    schedule.tick(scheduled.engine, now=NOW)
    [(run_id,)] = _ask(scheduled.engine, "SELECT id FROM runs WHERE connector = 'web'")
    for _ in range(2):
        schedule.run_queued(scheduled, run_id)
    assert _ask(scheduled.engine, "SELECT id, status FROM runs WHERE connector = 'web'") == [(run_id, "done")]


def _pull_that_is_taken_over(workspace: Workspace, connector: str) -> None:
    """A pull whose run others give up before its first page."""
    with (
        runs.begin(workspace.engine, connector=connector, kind="pull", stop=Event()) as run,
        workspace.connected(connector) as connected,
    ):
        with workspace.engine.begin() as connection:
            connection.execute(
                sa.update(run_table).where(run_table.c.id == run.id).values(fence=sa.func.gen_random_uuid())
            )
        pulling.pull(workspace.engine, run, connected.plan(), now=NOW, say=lambda _: None)


def test_a_run_that_was_taken_over_commits_no_page(workspace: Workspace) -> None:
    with pytest.raises(runs.Fenced):
        _pull_that_is_taken_over(workspace, "web")
    assert _ask(workspace.engine, "SELECT count(*) FROM evidence") == [(0,)]
    assert _ask(workspace.engine, "SELECT count(*) FROM leads") == [(0,)]
    with workspace.engine.connect() as connection:
        assert pull_store.read_cursor(connection, "web", "leads") == (None, None)
    # Nor does it close a row that is not its own any more.
    assert _ask(workspace.engine, "SELECT status FROM runs") == [("running",)]


def test_its_successor_names_it_as_abandoned_and_does_the_work(workspace: Workspace) -> None:
    with pytest.raises(runs.Fenced):
        _pull_that_is_taken_over(workspace, "web")
    assert work.pull(workspace, "web").status == "done"
    assert [row[0] for row in _ask(workspace.engine, "SELECT status FROM runs ORDER BY id")] == [
        "abandoned",
        "done",
    ]


def _children(pid: int) -> set[int]:
    """All processes below `pid`."""
    below: dict[int, set[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        below.setdefault(int(fields[1]), set()).add(int(stat.parent.name))
    found: set[int] = set()
    todo = {pid}
    while todo:
        todo = set().union(*(below.get(p, set()) for p in todo)) - found
        found |= todo
    return found


def _wait_for(condition: Callable[[], bool], *, within_s: float, else_say: Callable[[], Any]) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, else_say()
        time.sleep(0.1)


def test_up_runs_what_is_due_and_stops_when_told(config: Config, engine: Engine, tmp_path: Path) -> None:
    config.path.write_text(config.path.read_text().replace('"*/5 * * * *"', '"* * * * *"'))
    command = [sys.executable, "-m", "sync.cli.main", "up", "--config", str(config.path)]
    # The schedules are there and due before it starts, as after a pause.
    with engine.begin() as connection:
        connection.execute(
            sa.insert(schedules),
            [
                {
                    "connector": name,
                    "cron": "* * * * *",
                    "timezone": "Europe/Warsaw",
                    "catch_up": "one",
                    "next_due_at": datetime.now(UTC) - timedelta(minutes=3),
                }
                for name in CONNECTORS
            ],
        )
    finished = "SELECT count(DISTINCT connector) FROM runs WHERE status = 'done' AND due_at IS NOT NULL"
    booked = "SELECT count(*) FROM entries WHERE part = 'sale'"
    said = tmp_path / "up.log"

    def state() -> str:
        rows = _ask(engine, "SELECT connector, kind, due_at::text, status, error FROM runs ORDER BY id")
        return said.read_text() + "\n".join(map(str, rows))

    with (
        said.open("w") as log,
        subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            _wait_for(lambda: _ask(engine, finished) == [(len(CONNECTORS),)], within_s=90, else_say=state)
            _wait_for(lambda: _ask(engine, booked)[0][0] > 0, within_s=30, else_say=state)
            below = _children(process.pid)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(40)
            took_s = time.monotonic() - began
        finally:
            process.kill()
    assert process.returncode == 0, state()
    assert took_s < 20, took_s
    assert "Traceback" not in said.read_text(), state()
    assert not [pid for pid in below if os.path.exists(f"/proc/{pid}")]
    assert _ask(engine, "SELECT count(*) FROM runs WHERE status = 'running'") == [(0,)]
    # Nobody is left in the database.
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    engine.dispose()
    _wait_for(lambda: _ask(engine, others) == [(0,)], within_s=10, else_say=lambda: "somebody is")


def test_a_job_whose_run_is_gone_is_left_alone(workspace: Workspace) -> None:
    schedule.run_queued(workspace, 4711)
    assert _ask(workspace.engine, "SELECT count(*) FROM runs") == [(0,)]
