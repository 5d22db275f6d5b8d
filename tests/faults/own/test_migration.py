"""Migrations that are killed, and upgrades of a database that holds data."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from importlib.resources import files
from signal import SIGKILL

import psycopg
import pytest
import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from psycopg import sql
from sqlalchemy.engine import Engine

from sync.ledger import keys, rules, store
from sync.store import db, schema
from tests.faults.own.conftest import assert_same, command, started
from tests.faults.vendor.checks import ends_as_undisturbed
from tests.integration.flow.conftest import World, _admin, _drop_database

REVISIONS = sorted(
    path.name[:4]
    for path in (files("sync.store") / "migrations" / "versions").iterdir()
    if path.name[:4].isdigit()
)
_numbers = itertools.count(1)


@pytest.fixture
def empty(fresh: World) -> Iterator[World]:
    """A world whose database holds nothing at all."""
    name = f"old_{next(_numbers)}"
    with psycopg.connect(_admin(fresh.url), autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    url = sa.make_url(fresh.url).set(database=name).render_as_string(hide_password=False)
    fresh.edit((f'database: "{fresh.url}"', f'database: "{url}"'))
    engine = db.make_engine(url)
    yield World(fresh.folder, fresh.server, url, engine)
    engine.dispose()
    _drop_database(url, name)


def tables(engine: Engine) -> list[str]:
    return sorted(sa.inspect(engine).get_table_names())


def revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def fill(world: World, source: World) -> None:
    """Copy the rows of `source` into the tables and columns that `world` has, and where its numbers stand."""
    with psycopg.connect(source.url) as old, psycopg.connect(world.url) as new:
        new.execute("SET session_replication_role = replica")  # neither triggers nor an order of tables
        for table in tables(world.engine):
            if table.startswith(("alembic_", "procrastinate_")):
                continue
            names = [column["name"] for column in sa.inspect(world.engine).get_columns(table)]
            columns = sql.SQL(", ").join(map(sql.Identifier, names))
            read = sql.SQL("COPY {} ({}) TO STDOUT").format(sql.Identifier(table), columns)
            write = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), columns)
            with old.cursor().copy(read) as rows, new.cursor().copy(write) as into:
                for row in rows:
                    into.write(row)
        for name, value in old.execute("SELECT sequencename, last_value FROM pg_sequences").fetchall():
            if value is not None and not name.startswith("procrastinate_"):
                new.execute("SELECT setval(%s::regclass, %s)", (name, value))


def kill_when_it_waits_for(world: World, lock: str) -> None:
    """Kill -9 a real process that migrates, at the statement that needs what `lock` holds."""
    with psycopg.connect(world.url) as other:
        other.execute(sql.SQL(lock))  # type: ignore[arg-type]
        with started(world, "status") as status:
            status.wait_until(
                lambda: (
                    world.value("SELECT count(*) FROM pg_locks WHERE NOT granted AND database IS NOT NULL")
                    or world.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                )
            )
            status.send(SIGKILL)
            assert status.wait() == -SIGKILL
        other.rollback()


def test_the_first_migration_killed_in_its_middle_leaves_nothing_and_the_next_start_does_it(
    empty: World, synced_once: World
) -> None:
    kill_when_it_waits_for(empty, "CREATE TABLE postings ()")
    assert tables(empty.engine) == []
    assert command(empty, "status")[0] == 0
    assert revision(empty.engine) == REVISIONS[-1]
    ends_as_undisturbed(empty, synced_once)


def test_an_upgrade_killed_in_its_middle_leaves_the_version_before_and_the_next_start_does_it(
    empty: World, synced: World
) -> None:
    schema.migrate(empty.engine, to="0003")
    fill(empty, synced)
    chain_as_then(empty, synced)
    before = tables(empty.engine)
    kill_when_it_waits_for(empty, "LOCK TABLE campaigns")
    assert revision(empty.engine) == "0003"
    assert tables(empty.engine) == before
    assert command(empty, "status")[0] == 0
    assert revision(empty.engine) == REVISIONS[-1]
    assert_same(empty, synced)


LATER = {"refers_to": None}
"""Fields of an entry that versions before 0005 did not know, so that they were no part of what is hashed."""


def chain_as_then(world: World, source: World) -> None:
    """Chain the copied entries as the version that `world` is at would have."""
    last = rules.GENESIS
    with source.engine.connect() as connection, psycopg.connect(world.url) as old:
        old.execute("SET session_replication_role = replica")
        for entry in store.stream(connection):
            fields = {**entry.fields, **LATER, "posted_on": entry.fields["business_day"]}
            sealed = rules.seal(fields, entry.postings, last)
            last = sealed.hash
            old.execute(
                "UPDATE entries SET prev_hash = %s, hash = %s WHERE id = %s",
                (sealed.prev_hash, sealed.hash, fields["id"]),
            )


def share_key(world: World, other: World) -> None:
    """The heads that were copied are signed with the other's key."""
    path = world.config.data_folder / keys.FILE
    path.parent.mkdir(exist_ok=True)
    shutil.copy(other.config.data_folder / keys.FILE, path)


@pytest.mark.parametrize("version", REVISIONS)
def test_an_upgrade_from_any_version_keeps_the_data_and_the_books(
    empty: World, synced: World, version: str
) -> None:
    schema.migrate(empty.engine, to=version)
    assert revision(empty.engine) == version
    fill(empty, synced)
    if version < "0005":
        chain_as_then(empty, synced)
    head = empty.head()
    share_key(empty, synced)
    assert command(empty, "verify", "--offline")[0] == 0
    assert revision(empty.engine) == REVISIONS[-1]
    assert empty.head() == head
    names = "SELECT connector, external_id, name FROM campaign_names ORDER BY 1, 2, 3"
    assert empty.rows(names) == synced.rows(names)
    assert command(empty, "sync")[0] == 0
    synced.sync()
    assert empty.head()[0] == synced.head()[0], "nothing is booked anew"
