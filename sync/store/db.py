"""One door to PostgreSQL: the engine, advisory locks, COPY."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa
from psycopg import sql
from psycopg.types.json import set_json_dumps, set_json_loads
from sqlalchemy.engine import Connection, Engine

from sync.store.tables import metadata

MANY = 1_000  # rows from which on the planner should know how many there are
LOCK_SPACE = 0x1EAD  # the first half of our two-part advisory lock keys


def _dumps(value: Any) -> bytes:
    return msgspec.json.encode(value)


set_json_dumps(_dumps)
set_json_loads(msgspec.json.decode)


def make_engine(url: str) -> Engine:
    """An engine for a libpq URL (``postgresql://…``), with dead peers noticed within a minute."""
    address = sa.make_url(url).set(drivername="postgresql+psycopg")
    return sa.create_engine(
        address,
        pool_size=8,
        max_overflow=16,
        pool_pre_ping=True,
        hide_parameters=True,  # they are personal data, and errors are stored and shown
        json_serializer=lambda value: _dumps(value).decode(),
        json_deserializer=msgspec.json.decode,
        connect_args={
            "connect_timeout": 30,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "options": "-c timezone=UTC -c application_name=leadledger",
        },
    )


class Database(Protocol):
    """What a step needs of an engine: transactions one after another."""

    def begin(self) -> AbstractContextManager[Connection]: ...

    def connect(self) -> AbstractContextManager[Connection]: ...


class _Rehearsed:
    """A `Database` whose transactions are parts of one that never commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        with self._connection.begin_nested():
            yield self._connection

    connect = begin


@contextmanager
def rehearsal(engine: Engine) -> Iterator[Database]:
    """Run steps and see what they would do: all that they write is gone at the end of the block.

    The locks they take are held until then.
    """
    with engine.connect() as connection, connection.begin() as transaction:
        try:
            yield _Rehearsed(connection)
        finally:
            transaction.rollback()


_TYPES = """
    SELECT attname, atttypid::int8 FROM pg_attribute
     WHERE attrelid = CAST(%s AS regclass) AND attnum > 0 AND NOT attisdropped
"""


def _types(connection: Connection, table: str, columns: Sequence[str]) -> list[int]:
    """The type ids of columns, asked for once a connection and table."""
    known: dict[str, dict[str, int]] = connection.info.setdefault("leadledger_types", {})
    if table not in known:
        raw = connection.connection.driver_connection
        assert raw is not None
        known[table] = dict(raw.execute(_TYPES, (f'"{table}"',)).fetchall())
    return [known[table][column] for column in columns]


def copy_rows(
    connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> int:
    """COPY `rows` into `table`; returns how many.

    In the binary format, since it is twice as fast: a value must be of its column's type (no text for a
    number), and of a jsonb column the value itself, not its JSON.
    """
    types = _types(connection, table, columns)
    raw = connection.connection.driver_connection
    assert raw is not None
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    count = 0
    with raw.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)
            count += 1
    return count


@cache
def _stage(table: str, columns: tuple[str, ...]) -> sa.Table:
    """The stage table of some columns: one object each, so that statements over it are compiled once."""
    return sa.Table(
        f"stage_{table}_{zlib.crc32(','.join(columns).encode()):08x}",
        sa.MetaData(),
        *[sa.Column(c, metadata.tables[table].c[c].type) for c in columns],
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DELETE ROWS",
    )


@contextmanager
def staged(
    connection: Connection, table: sa.Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> Iterator[sa.Table]:
    """A temporary copy of `table` with only `columns`, filled by COPY and emptied at the end of the block.

    It is made once a connection and columns, since a CREATE for every page would cost more than the page.
    """
    stage = _stage(table.name, tuple(columns))
    connection.execute(sa.schema.CreateTable(stage, if_not_exists=True))
    if copy_rows(connection, stage.name, columns, rows) >= MANY:
        analyze(connection, [stage.name])
    yield stage
    # Not in a finally: after an error the transaction is lost, and these rows with it.
    connection.execute(sa.delete(stage))


def analyze(connection: Connection, tables: Sequence[str]) -> None:
    """Give the planner new statistics of `tables`."""
    raw = connection.connection.driver_connection
    assert raw is not None
    names = sql.SQL(", ").join(map(sql.Identifier, tables))
    raw.execute(sql.SQL("ANALYZE {}").format(names))


def has_at_least(connection: Connection, table: str, count: int) -> bool:
    """Whether `table` has `count` rows or more; reads no more than that."""
    found = sa.select(sa.literal(1)).select_from(sa.table(table)).limit(count).subquery()
    return connection.execute(sa.select(sa.func.count()).select_from(found)).scalar_one() >= count


def json(value: Any) -> str:
    """JSON text for a parameter that is cast to jsonb."""
    return msgspec.json.encode(value).decode()


def lock_key(name: str) -> int:
    """The second half of an advisory lock key, from a name such as ``connector:shop``."""
    return zlib.crc32(name.encode()) - 2**31


def lock_transaction(connection: Connection, name: str) -> None:
    """Wait for `name`'s lock and hold it until the transaction ends."""
    connection.execute(
        sa.text("SELECT pg_advisory_xact_lock(:space, :key)"), {"space": LOCK_SPACE, "key": lock_key(name)}
    )


def lock_transaction_shared(connection: Connection, name: str) -> None:
    """The same beside others who hold it so too: it keeps only `lock_transaction` of that name waiting."""
    connection.execute(
        sa.text("SELECT pg_advisory_xact_lock_shared(:space, :key)"),
        {"space": LOCK_SPACE, "key": lock_key(name)},
    )


def try_lock_session(connection: Connection, name: str) -> bool:
    """Take `name`'s lock for as long as the connection lives; False when somebody else has it."""
    return bool(
        connection.execute(
            sa.text("SELECT pg_try_advisory_lock(:space, :key)"), {"space": LOCK_SPACE, "key": lock_key(name)}
        ).scalar_one()
    )


def unlock_session(connection: Connection, name: str) -> None:
    connection.execute(
        sa.text("SELECT pg_advisory_unlock(:space, :key)"), {"space": LOCK_SPACE, "key": lock_key(name)}
    )
