"""The command itself, killed or stopped and started again, imports and all."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from connectors.sandbox.state import Fault
from tests.faults.crash import worlds
from tests.faults.crash.worlds import World

ROOT = Path(__file__).parents[3]
KILLS = 3
SEED = int(os.environ.get("LEADLEDGER_SEED", "20260601"))
BUSY = 4
STARTS_WITHIN_S = 0.8
SYNC_WITHIN_S = 120
UNDER_WAY = "SELECT count(*) FROM runs WHERE status IN ('queued', 'running')"


@pytest.fixture
def pair(postgres: str, tmp_path: Path) -> Iterator[tuple[World, World]]:
    """One that nothing disturbs, and its twin."""
    calm, other = tmp_path / "undisturbed", tmp_path / "other"
    worlds.furnish(calm)
    worlds.twin(other, calm)
    with ExitStack() as stack:
        urls = [
            stack.enter_context(worlds.own_database(postgres, f"{folder.name}_{time.monotonic_ns()}"))
            for folder in (calm, other)
        ]
        yield (
            stack.enter_context(worlds.opened(calm, urls[0], database=urls[0])),
            stack.enter_context(worlds.opened(other, urls[1], database=urls[1])),
        )


def start(world: World, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sync.cli.main", *command, "--config", str(world.config)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def sync(world: World) -> int:
    """A whole sync; returns the exit code."""
    with start(world, "sync") as process:
        said, _ = process.communicate(timeout=SYNC_WITHIN_S)
    assert process.returncode in (0, BUSY), said
    return process.returncode


def finish(world: World) -> None:
    """Sync until nothing is left: what was pushed comes back with the next pull."""
    for _ in range(2):
        until = time.monotonic() + SYNC_WITHIN_S
        # The server may need a moment to notice that a killed client is gone.
        while sync(world) == BUSY:
            assert time.monotonic() < until, "its connectors are busy for ever"


def test_a_sync_that_is_killed_and_started_again_ends_the_same(pair: tuple[World, World]) -> None:
    undisturbed, killed = pair
    began = time.monotonic()
    sync(undisturbed)
    takes_s = time.monotonic() - began
    sync(undisturbed)
    chance = random.Random(SEED)
    print(f"seed {SEED}, an undisturbed sync takes {takes_s:.1f} s")
    caught = 0
    for _ in range(KILLS):
        with start(killed, "sync") as process:
            try:
                process.communicate(timeout=chance.uniform(STARTS_WITHIN_S, STARTS_WITHIN_S + takes_s / 2))
            except subprocess.TimeoutExpired:
                process.kill()
                caught += 1
        assert process.returncode in (0, BUSY, -signal.SIGKILL)
    assert caught, "the kills came too late to meet a sync at work"
    finish(killed)
    expected, found = undisturbed.dump(), killed.dump()
    for name in worlds.DUMP:
        assert found[name] == expected[name], name
    assert expected["credits"]
    assert expected["outbox"]
    assert expected["pending"] == ""
    assert killed.ask("SELECT count(*), count(reverses) FROM entries") == undisturbed.ask(
        "SELECT count(*), count(reverses) FROM entries"
    )
    assert killed.contacts() == undisturbed.contacts()
    assert killed.told() == undisturbed.told()


def test_a_push_that_is_killed_sends_the_same_state_again(pair: tuple[World, World]) -> None:
    """What the CRM took and nobody noted."""
    undisturbed, killed = pair
    finish(undisturbed)
    with start(killed, "sync", "--no-push") as process:
        process.communicate(timeout=SYNC_WITHIN_S)
    assert process.returncode == 0
    pushed = False
    until = time.monotonic() + SYNC_WITHIN_S
    with start(killed, "push") as process:
        while not pushed and process.poll() is None and time.monotonic() < until:
            pushed = bool(killed.vendors.state.writes("hubspot"))
            time.sleep(0.002)
        process.kill()
    assert pushed
    finish(killed)
    assert killed.contacts() == undisturbed.contacts()
    assert killed.told() == undisturbed.told()
    assert killed.dump() == undisturbed.dump()


def test_a_sync_that_the_operator_stops_goes_on_later(pair: tuple[World, World]) -> None:
    undisturbed, stopped = pair
    sync(undisturbed)
    stopped.vendors.state.inject(Fault("woocommerce", "/orders", 429, headers={"Retry-After": "2"}))
    until = time.monotonic() + SYNC_WITHIN_S
    running = "SELECT count(*) FROM runs WHERE connector = 'shop' AND status = 'running'"
    with start(stopped, "sync") as process:
        while not stopped.ask(running)[0][0] and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)  # it waits for the shop by then
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert stopped.ask("SELECT status, error FROM runs WHERE connector = 'shop'") == [
        ("failed", "stopped by the operator")
    ]
    assert stopped.ask(UNDER_WAY) == [(0,)]
    assert sync(stopped) == 0
    assert stopped.dump()["subjects"] == undisturbed.dump()["subjects"]
