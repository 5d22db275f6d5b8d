"""A database that goes away in the middle of the work and comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from signal import SIGKILL, SIGQUIT, SIGTERM, Signals

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from tests.faults.own.conftest import Own, command, due, finished, running_rows, same_books, started
from tests.faults.vendor import hostile as bad
from tests.faults.vendor.checks import ends_as_undisturbed
from tests.faults.vendor.hostile import Hostile
from tests.integration.flow.conftest import World

CONNECTORS = {"crm", "meta", "newsletter", "shop", "web"}


@contextmanager
def held_up(world: World, table: str) -> Iterator[Callable[[], bool]]:
    """Lets nobody into `table`; gives whether somebody waits there."""
    connection = psycopg.connect(world.url)
    connection.execute(sql.SQL("LOCK TABLE {}").format(sql.Identifier(table)))
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = CAST(:name AS regclass) AND NOT granted"
    try:
        yield lambda: bool(world.value(waiting, name=table))
    finally:
        connection.close()


def assert_told(code: int, said: str) -> None:
    assert code == 3, said
    assert "The database cannot be used: " in said
    assert "Check that it runs" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("path", "number"), [(r"/wc/v3/orders$", SIGKILL), (r"/contacts/batch/", SIGQUIT)], ids=["pull", "push"]
)
def test_a_sync_whose_database_dies_says_so_and_the_next_one_goes_on(
    own: Own, vendors: Hostile, synced_once: World, path: str, number: Signals
) -> None:
    vendors.spoil(path, bad.meanwhile(partial(own.kill, number)), times=1)
    assert_told(*command(own.world, "sync"))
    assert vendors.spoiled
    own.start()
    ends_as_undisturbed(own.world, synced_once)
    assert running_rows(own.world) == 0


def test_a_sync_whose_database_dies_while_it_books_says_so_and_the_next_one_goes_on(
    own: Own, synced_once: World
) -> None:
    with held_up(own.world, "postings") as waits, started(own.world, "sync") as sync:
        sync.wait_until(waits)
        own.kill(SIGQUIT)
        assert_told(sync.wait(), sync.said)
    own.start()
    ends_as_undisturbed(own.world, synced_once)


def test_a_command_that_finds_no_database_says_so(own: Own) -> None:
    own.kill()
    assert_told(*command(own.world, "status"))


@pytest.mark.parametrize("embedded", [False, True], ids=["server", "embedded"])
def test_up_waits_for_a_database_that_went_away_and_goes_on(
    own: Own, vendors: Hostile, synced: World, embedded: bool
) -> None:
    """It starts an embedded one again by itself."""
    if embedded:
        own.embed()
    world = own.world
    vendors.spoil(r"/wc/v3/orders$", bad.meanwhile(own.kill), times=1)
    with started(world, "up") as up:
        up.wait_until(lambda: "up: press Ctrl-C" in up.said)
        up.wait_until(lambda: world.value("SELECT count(*) FROM schedules") == len(CONNECTORS))
        due(world)
        up.wait_until(lambda: "database_away" in up.said)
        if not embedded:
            own.start()
        up.wait_until(lambda: own.pid and answers(world))
        due(world)
        up.wait_until(lambda: finished(world) == CONNECTORS)
        up.send(SIGTERM)
        assert up.wait() == 0, up.said
        assert "Traceback" not in up.said
    own.start()
    same_books(world, synced)


def answers(world: World) -> bool:
    try:
        return bool(world.value("SELECT true"))
    except sa.exc.OperationalError:
        return False
