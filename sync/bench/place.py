"""Where a measurement happens: an embedded PostgreSQL of its own in a folder that goes away."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Engine

from sync.store import db, schema
from sync.store.embedded import Embedded

Say = Callable[[str], None]


@dataclass
class Place:
    """`scale` is the share of the full size that is measured, `rounds` how often."""

    folder: Path
    url: str
    scale: float
    rounds: int
    seed: int
    say: Say
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def size(self, full: int) -> int:
        return max(1, round(full * self.scale))

    @contextmanager
    def database(self) -> Iterator[Engine]:
        """A migrated database that nobody has used; dropped at the end."""
        name = sql.Identifier(text := f"bench_{next(self._numbers)}")
        admin = sa.make_url(self.url).set(database="postgres").render_as_string(hide_password=False)
        with psycopg.connect(admin, autocommit=True) as server:
            server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE leadledger").format(name))
        engine = db.make_engine(
            sa.make_url(self.url).set(database=text).render_as_string(hide_password=False)
        )
        try:
            yield engine
        finally:
            engine.dispose()
            with psycopg.connect(admin, autocommit=True) as server:
                server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@contextmanager
def opened(*, scale: float, rounds: int, seed: int, say: Say) -> Iterator[Place]:
    """Start the server, and take it away with all its data at the end."""
    with tempfile.TemporaryDirectory(prefix="leadledger-bench-") as folder:
        server = Embedded(Path(folder) / "data")
        try:
            url = server.start()
            engine = db.make_engine(url)
            schema.migrate(engine)
            engine.dispose()
            yield Place(Path(folder), url, scale, rounds, seed, say)
        finally:
            server.remove()
