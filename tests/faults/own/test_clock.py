"""A clock that jumps: forward by years and back again, and back before what was read already."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest
import sqlalchemy as sa

from sync import runs, schedule, work
from sync.pull import step as pulling
from sync.store.tables import schedules
from sync.workspace import Workspace
from tests.integration.flow.conftest import AS_OF, World

NOW = datetime(2026, 6, 1, 12, 0, 30, tzinfo=UTC)
FIVE = timedelta(minutes=5)
YEARS = timedelta(days=10 * 365)
CONNECTORS = ("crm", "meta", "newsletter", "shop", "web")


@pytest.fixture
def scheduled(fresh: World) -> Iterator[Workspace]:
    with fresh.opened() as workspace:
        with workspace.engine.begin() as connection:
            schedule.store_schedules(connection, workspace, now=NOW)
        yield workspace


def upcoming(workspace: Workspace) -> set[datetime]:
    with workspace.engine.connect() as connection:
        return set(connection.execute(sa.select(schedules.c.next_due_at)).scalars())


@pytest.mark.parametrize("catch_up", ["none", "one", "all"])
def test_a_clock_that_goes_back_queues_nothing_twice(scheduled: Workspace, catch_up: str) -> None:
    with scheduled.engine.begin() as connection:
        connection.execute(sa.update(schedules).values(catch_up=catch_up))
    queued = [
        due
        for step in (1, 2, 3, -2, -1, 0, 1, 2, 3, 4)
        for due in schedule.tick(scheduled.engine, now=NOW + step * FIVE)
    ]
    noon = NOW.replace(second=0)
    assert sorted(queued) == sorted((name, noon + n * FIVE) for name in CONNECTORS for n in range(-1, 5))


def test_a_clock_that_was_years_ahead_does_not_stop_the_schedule(scheduled: Workspace) -> None:
    ahead = schedule.tick(scheduled.engine, now=NOW + YEARS)
    assert len(ahead) == len(CONNECTORS)
    assert schedule.tick(scheduled.engine, now=NOW) == []
    assert upcoming(scheduled) == {NOW.replace(minute=5, second=0)}
    queued = schedule.tick(scheduled.engine, now=NOW + FIVE)
    assert sorted(name for name, _ in queued) == sorted(CONNECTORS)


def pulled(world: World, now: datetime) -> dict[str, list[tuple[str, str]]]:
    """A pull of every connector by a clock that shows `now`; returns what went wrong."""
    found = {}
    with world.opened() as workspace:
        for name in CONNECTORS:
            with (
                runs.begin(workspace.engine, connector=name, kind="pull", stop=Event()) as run,
                workspace.connected(name) as connected,
            ):
                pulling.pull(workspace.engine, run, connected.plan(), now=now, say=lambda _: None)
            found[name] = run.errors
    return {name: errors for name, errors in found.items() if errors}


def cursors(world: World) -> dict[str, datetime]:
    """By stream how far it was read; when it was last swept is no cursor."""
    rows = world.rows(
        "SELECT connector, stream, at FROM cursors WHERE at IS NOT NULL AND stream NOT LIKE '%(sweep)'"
    )
    return {f"{row.connector} {row.stream}": row.at for row in rows}


@pytest.mark.parametrize(
    "back", [timedelta(days=1), timedelta(days=200), YEARS], ids=["day", "months", "years"]
)
def test_a_clock_before_the_cursor_moves_no_cursor_back_and_fails_nothing(
    synced: World, synced_once: World, back: timedelta
) -> None:
    before = cursors(synced)
    assert len(before) > 4
    assert pulled(synced, AS_OF - back) == {}
    assert cursors(synced) == before
    with synced.opened() as workspace:
        work.derive(workspace)
    assert synced.verify() == []


def test_a_clock_years_ahead_moves_no_cursor_beyond_what_came(fresh: World, synced_once: World) -> None:
    assert pulled(fresh, datetime.now(UTC) + YEARS) == {}
    assert cursors(fresh) == cursors(synced_once)
