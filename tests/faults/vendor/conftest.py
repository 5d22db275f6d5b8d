"""A world that has not synced yet and reaches its vendors only through a proxy that can spoil what they say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sync.workspace import Connected
from tests.faults.vendor.hostile import Hostile
from tests.integration.flow.conftest import World, _quiet, fresh, shop, synced, synced_once

pytest.register_assert_rewrite("tests.faults.vendor.checks")

PACE_S_MAX = 1.0

__all__ = ["_quiet", "fresh", "shop", "synced", "synced_once"]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a connector wanted to wait, in order. Only the pace between two calls is really kept."""
    noted: list[float] = []
    wait = Connected._sleep

    def short(self: Connected, seconds: float) -> None:
        noted.append(seconds)
        if seconds < PACE_S_MAX:
            wait(self, seconds)

    monkeypatch.setattr(Connected, "_sleep", short)
    return noted


@pytest.fixture
def vendors(fresh: World, waits: list[float]) -> Iterator[Hostile]:
    """The proxy before the vendors of `fresh`, whose config leads to it."""
    with Hostile(fresh.server.port) as hostile:
        path = fresh.folder / "leadledger.yaml"
        path.write_text(fresh.config_text().replace(fresh.server.url, hostile.url))
        yield hostile


@pytest.fixture
def other() -> Iterator[Hostile]:
    """Another host, which notes what it is asked and with which headers."""
    with Hostile() as hostile:
        yield hostile
