"""Stopped by the operator or the system at any moment, also where a vendor's answer does not come."""

from __future__ import annotations

import os
import random
import subprocess
import time
from signal import SIGINT, SIGTERM, Signals

import pytest

from tests.faults.own.conftest import Command, Own, due, same_books, started
from tests.faults.vendor import hostile as bad
from tests.faults.vendor.hostile import Hostile
from tests.integration.flow.conftest import World

SEED = int(os.environ.get("LEADLEDGER_SEED", "20260601"))
STOPS = int(os.environ.get("LEADLEDGER_STOPS", "4"))
HARMLESS = {
    0,
    130,
    -SIGINT,
}  # a shell shows 130 for the last too, which is Python's own at its very begin and end


def interrupted_at_random(world: World, verb: str, chance: random.Random, *, within_s: float) -> Command:
    """A command that gets a Ctrl-C at some moment of its life."""
    with started(world, verb) as command:
        try:
            command.process.wait(chance.uniform(0.05, within_s))
        except subprocess.TimeoutExpired:
            command.send(SIGINT)
        command.wait()
        return command


@pytest.mark.parametrize("verb", ["sync", "up"])
def test_ctrl_c_at_any_moment_is_no_crash_and_loses_nothing(own: Own, synced: World, verb: str) -> None:
    """Also while it starts its database."""
    own.embed()
    chance = random.Random(f"{SEED} {verb}")
    print(f"seed {SEED}, {STOPS} stops of {verb}")
    with started(own.world, "status") as whole:
        began = time.monotonic()
        assert whole.wait() == 0
        start_s = time.monotonic() - began
    for _ in range(STOPS):
        own.stop()
        command = interrupted_at_random(own.world, verb, chance, within_s=4 * start_s)
        assert command.process.returncode in HARMLESS, command.said
        assert "Traceback" not in command.said
        assert "Exception ignored" not in command.said
        own.start()
        assert own.world.rows("SELECT connector FROM runs WHERE status = 'running'") == []
        if verb == "up":
            due(own.world)
    same_books(own.world, synced)


@pytest.mark.parametrize(("verb", "number", "code"), [("up", SIGTERM, 0), ("sync", SIGINT, 130)])
def test_a_vendor_that_never_answers_does_not_hold_the_end_up(
    own: Own, vendors: Hostile, synced: World, verb: str, number: Signals, code: int
) -> None:
    vendors.spoil(r"/wc/v3/orders$", bad.silence)
    quick = "from sync import process; process.STOP_WITHIN_S = 1.0; from sync.cli.start import main; main()"
    with started(own.world, verb, program=["-c", quick]) as command:
        if verb == "up":
            command.wait_until(lambda: own.world.value("SELECT count(*) FROM schedules"))
            due(own.world)
        command.wait_until(lambda: vendors.spoiled)
        command.send(number)
        assert command.wait() == code, command.said
        assert "Something still hangs and is left alone." in command.said
        assert "Traceback" not in command.said
    vendors.heal()
    same_books(own.world, synced)
