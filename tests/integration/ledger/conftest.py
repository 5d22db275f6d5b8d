"""Books of the test's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from sync.store.tables import metadata
from tests.integration.ledger.books import Books


@pytest.fixture
def books(engine: Engine) -> Books:
    # Nothing here is about a crash of the server: it need not wait for the disk.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = engine.dialect.identifier_preparer.quote(engine.url.database or "")
        connection.execute(sa.text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    engine.dispose()
    return Books(engine)


@pytest.fixture
def new_books(books: Books) -> Callable[[], Books]:
    """Gives empty books: what was in them before is deleted behind the triggers' back."""

    def emptied() -> Books:
        with books.engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
            for table in metadata.tables.values():
                connection.execute(sa.delete(table))
        return Books(books.engine)

    return emptied
