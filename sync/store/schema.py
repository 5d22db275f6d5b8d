"""Brings a database to this version's tables, once, however many processes start at the same time."""

from __future__ import annotations

from importlib.resources import as_file, files

import procrastinate
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine

from sync.store import db


class TooNew(Exception):
    """The database was written by a later version of leadledger."""


def migrate(engine: Engine, *, to: str = "head") -> bool:
    """Apply the migrations that are missing; returns whether there were any.

    All of them are one transaction: an interrupted upgrade leaves the database as it was. Raises `TooNew`
    when the database knows a migration that this version does not.
    """
    with as_file(files("sync.store") / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder))
        with engine.begin() as connection:
            db.lock_transaction(connection, "migrate")
            current = MigrationContext.configure(connection).get_current_revision()
            scripts = ScriptDirectory.from_config(config)
            known = {script.revision for script in scripts.walk_revisions()}
            if current is not None and current not in known:
                raise TooNew(
                    f"the database is at version {current}, which this leadledger does not know. "
                    "Install the newer version that wrote it."
                )
            if current == scripts.get_current_head() and to == "head":
                return False
            config.attributes["connection"] = connection
            command.upgrade(config, to)
            _queue_tables(connection)
    return True


def _queue_tables(connection: Connection) -> None:
    """Procrastinate's own tables, from the schema that its release carries."""
    known = connection.execute(sa.text("SELECT to_regclass('procrastinate_jobs')")).scalar()
    if known is None:
        schema = procrastinate.schema.SchemaManager.get_schema()
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.execute(schema)
