"""A server that restarts itself, since a process of it was killed, is waited for, and can be stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import psycopg
import pytest

from sync.store import embedded_guard
from sync.store.embedded import Embedded
from tests.faults.crash.points import parent_of

STOPS_WITHIN_S = 50.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Embedded]:
    made = Embedded(tmp_path / "data")
    yield made
    made.remove()


def restarting(url: str) -> int:
    """Kill a process of the server, so that it restarts itself; returns the id of its main process."""
    with psycopg.connect(url, autocommit=True) as connection, suppress(psycopg.OperationalError):
        backend = connection.info.backend_pid
        postmaster = parent_of(backend)
        os.kill(backend, signal.SIGKILL)
        connection.execute("SELECT 1")  # it ends when the server knows that its process is gone
    return postmaster


def test_a_start_waits_while_the_server_restarts_itself(server: Embedded) -> None:
    url = server.start()
    for _ in range(3):
        restarting(url)
        with psycopg.connect(server.start()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_stop_while_the_server_restarts_itself_does_not_hang(server: Embedded) -> None:
    postmaster = restarting(server.start())
    stopping = Thread(target=server.stop)
    stopping.start()
    stopping.join(STOPS_WITHIN_S)
    hangs = stopping.is_alive()
    if hangs:
        os.kill(postmaster, signal.SIGQUIT)
        stopping.join()
    assert not hangs
    assert not server.running()


def test_the_guard_stops_a_server_that_restarts_itself(
    server: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_guard, "_FAST_STOP_S", 1.0)
    postmaster = restarting(server.start())
    data = Path(os.readlink(f"/proc/{postmaster}/cwd"))
    embedded_guard.stop(data / "postmaster.pid", postmaster)
    assert not server.running()
