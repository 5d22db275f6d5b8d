"""Runs syncs in children of a process that has imported everything: the imports are paid for once, not each time.

It has no threads, so that it may fork. An order comes as a line of JSON, its report goes back as one.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Self

import msgspec
import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from sync import logs, work
from sync.config import Config, load
from sync.store import db
from sync.workspace import Opened
from tests.faults.crash.points import Point, Watch

ROOT = Path(__file__).parents[3]
WITHIN_S = 60.0  # a sync that takes longer hangs
LEAVES_WITHIN_S = 30.0


class Order(msgspec.Struct):
    """Sync the workspace of this config; strike at the point."""

    config: str
    point: Point | None = None
    pushes: bool = True


class Report(msgspec.Struct):
    """What became of a sync. `counts` are its events by phase, `problems` what went wrong, in words; those of
    the database are apart. A child that was killed reports nothing."""

    killed: bool = False
    struck: bool = False
    hung: bool = False
    counts: dict[str, int] = {}
    problems: list[str] = []
    lost_database: list[str] = []


class Driver:
    """The process that forks, from the test's side."""

    def __init__(self, log: IO[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.crash.driver"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )

    def run(self, order: Order) -> Report:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=Report)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait(WITHIN_S)


def main() -> None:
    configs: dict[str, Config] = {}
    for line in sys.stdin:
        order = msgspec.json.decode(line, type=Order)
        if order.config not in configs:
            # Here too what every child would do again: this also imports what is imported late.
            configs[order.config] = load(Path(order.config))
            db.make_engine("postgresql://").dispose()
        assert threading.active_count() == 1
        report = _in_a_child(order, configs[order.config])
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.flush()


def _in_a_child(order: Order, config: Config) -> Report:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            os.write(writing, msgspec.json.encode(_sync(order, config)))
        finally:
            os._exit(0)
    os.close(writing)
    ended = bool(select.select([reading], [], [], WITHIN_S)[0])
    if not ended:
        os.kill(child, signal.SIGABRT)  # it says where it hangs
    with open(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if not ended:
        return Report(hung=True)
    if os.WIFSIGNALED(status):
        return Report(killed=True, struck=True)
    return msgspec.json.decode(said, type=Report) if said else Report(problems=["the child said nothing"])


def _sync(order: Order, config: Config) -> Report:
    """One whole sync, as the command makes it."""
    report = Report()
    try:
        with Opened(config) as workspace:
            logs.hide(workspace.secrets)
            _wait_until_alone(workspace.engine)
            watch = Watch(workspace.engine, order.point)
            try:
                names = [connector.name for connector in config.connectors]
                summary = work.sync(workspace, names, pushes=order.pushes)
            finally:
                report.struck, report.counts = watch.struck, dict(watch.counts)
    except (sa.exc.DBAPIError, psycopg.OperationalError) as error:
        report.lost_database.append(repr(error))
    except Exception as error:
        report.problems.append(repr(error))
    else:
        report.problems += [f"{name} is busy" for name in summary.busy]
        for run in summary.runs:
            (report.lost_database if watch.struck else report.problems).extend(what for what, _ in run.errors)
            report.problems += run.problems
    return report


def _wait_until_alone(engine: Engine) -> None:
    """Until the server has noticed that a killed client is gone: its locks would make connectors busy."""
    others = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )
    deadline = time.monotonic() + LEAVES_WITHIN_S
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while connection.execute(others).scalar() and time.monotonic() < deadline:
            time.sleep(0.01)


if __name__ == "__main__":
    logs.configure(form="json", level="error")
    faulthandler.enable()
    main()
