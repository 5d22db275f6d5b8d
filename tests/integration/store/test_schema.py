"""The migrations: from empty to exactly the tables that the code speaks of, and never half-way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from psycopg import sql
from sqlalchemy.engine import Connection, Engine

from sync.store import db, schema
from sync.store.tables import metadata

REVISIONS = tuple(f"{number:04d}" for number in range(1, 9))
_numbers = itertools.count(1)


@pytest.fixture
def empty(postgres: str) -> Iterator[Engine]:
    """A database with nothing in it."""
    name = f"empty_{next(_numbers)}"
    admin = sa.make_url(postgres).set(database="postgres").render_as_string(hide_password=False)
    with psycopg.connect(admin, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    made = db.make_engine(sa.make_url(postgres).set(database=name).render_as_string(hide_password=False))
    yield made
    made.dispose()
    with psycopg.connect(admin, autocommit=True) as server:
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _is_ours(name: str | None, kind: str, names: object) -> bool:
    return not (kind == "table" and (name or "").startswith(("procrastinate_", "alembic_")))


def _differences(connection: Connection) -> list[object]:
    options = {"compare_type": True, "compare_server_default": True, "include_name": _is_ours}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def _objects(engine: Engine) -> list[tuple[object, ...]]:
    """Everything that stands in the database: relations, functions, triggers."""
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                """
                SELECT 'relation', relname::text, relkind::text FROM pg_class
                 WHERE relnamespace = 'public'::regnamespace
                UNION ALL
                SELECT 'function', proname::text, '' FROM pg_proc WHERE pronamespace = 'public'::regnamespace
                UNION ALL
                SELECT 'trigger', tgname::text, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal
                ORDER BY 1, 2, 3
                """
            )
        )
        return [tuple(row) for row in rows]


def test_from_empty_to_the_tables_of_the_code(empty: Engine) -> None:
    assert schema.migrate(empty) is True
    with empty.connect() as connection:
        assert _differences(connection) == []
        assert connection.execute(sa.text("SELECT count(*) FROM procrastinate_jobs")).scalar() == 0


def test_the_comparison_would_see_a_difference(empty: Engine) -> None:
    schema.migrate(empty)
    with empty.begin() as connection:
        connection.execute(sa.text("ALTER TABLE runs DROP COLUMN hint"))
    with empty.connect() as connection:
        assert len(_differences(connection)) == 1


def test_twice_is_once(empty: Engine) -> None:
    schema.migrate(empty)
    before = _objects(empty)
    assert schema.migrate(empty) is False
    assert _objects(empty) == before


@pytest.mark.parametrize("revision", REVISIONS)
def test_from_every_version_upwards(empty: Engine, postgres: str, revision: str) -> None:
    schema.migrate(empty, to=revision)
    with empty.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == revision
    schema.migrate(empty)
    with empty.connect() as connection:
        assert _differences(connection) == []
    newest = db.make_engine(postgres)
    assert _objects(empty) == _objects(newest)
    newest.dispose()


def test_every_version_is_tried_here() -> None:
    from importlib.resources import files

    folder = files("sync.store") / "migrations" / "versions"
    known = sorted(path.name[:4] for path in folder.iterdir() if path.name[:4].isdigit())
    assert known == list(REVISIONS)


def test_an_interrupted_migration_leaves_the_database_as_it_was(
    empty: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(connection: Connection) -> None:
        assert connection.execute(sa.text("SELECT to_regclass('entries')")).scalar() is not None
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(schema, "_queue_tables", interrupted)
        with pytest.raises(KeyboardInterrupt):
            schema.migrate(empty)
    assert _objects(empty) == []
    assert schema.migrate(empty) is True


def test_an_interrupted_upgrade_keeps_the_version_before(
    empty: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema.migrate(empty, to="0001")
    before = _objects(empty)

    def interrupted(connection: Connection) -> None:
        raise ConnectionError("the machine went down")

    monkeypatch.setattr(schema, "_queue_tables", interrupted)
    with pytest.raises(ConnectionError):
        schema.migrate(empty)
    assert _objects(empty) == before


def test_a_newer_database_is_refused(empty: Engine) -> None:
    schema.migrate(empty)
    with empty.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    before = _objects(empty)
    with pytest.raises(schema.TooNew, match="9999"):
        schema.migrate(empty)
    assert _objects(empty) == before


def test_many_processes_at_once_migrate_once(empty: Engine) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: schema.migrate(empty), range(4)))
    assert sorted(results) == [False, False, False, True]
