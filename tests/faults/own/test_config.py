"""A config that is changed while a process works by the one before."""

from __future__ import annotations

from signal import SIGTERM
from typing import Any

from tests.faults.own.conftest import command, due, started
from tests.faults.vendor.checks import DERIVED, texts
from tests.integration.flow.conftest import World

FAILED = "SELECT error FROM runs WHERE connector = 'ledger' AND status = 'failed'"


def books(world: World) -> list[str]:
    return texts(world, DERIVED["credits"]) + texts(world, DERIVED["balances"])


def policies(world: World) -> list[Any]:
    return [row.model for row in world.rows("SELECT body->>'model' AS model FROM policies ORDER BY version")]


def test_a_scheduler_with_an_older_policy_does_not_turn_the_books_back_and_asks_for_a_restart(
    synced: World,
) -> None:
    with started(synced, "up") as up:
        up.wait_until(lambda: synced.value("SELECT count(*) FROM schedules"))
        synced.edit(("model: last", "model: linear"))
        assert command(synced, "sync")[0] == 0
        changed = books(synced)
        assert policies(synced) == ["last", "linear"]
        due(synced)
        up.wait_until(lambda: synced.rows(FAILED))
        up.send(SIGTERM)
        assert up.wait() == 0, up.said
    assert "restart it" in synced.rows(FAILED)[0].error
    assert policies(synced) == ["last", "linear"]
    assert books(synced) == changed
    code, said = command(synced, "status", "--format", "json")
    assert code == 0
    assert "restart it" in said
    with started(synced, "up") as again:
        again.wait_until(lambda: "up: press Ctrl-C" in again.said)
        due(synced)
        again.wait_until(
            lambda: synced.rows("SELECT 1 FROM runs WHERE connector = 'ledger' AND status = 'done'")
        )
        again.send(SIGTERM)
        assert again.wait() == 0, again.said
    assert books(synced) == changed
    assert synced.verify() == []
