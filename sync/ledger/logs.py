"""The logs beside the journal that every signed head covers: evidence, deliveries, policies.

Each log is its rows in the order of their ids; the hash of a row is that of its canonical encoding (`heads`), and
a head holds what all rows come to: ``H(n) = SHA-256(H(n - 1) || row hash n)``, beginning with 32 zero bytes. A row
covers no personal data in clear, so that a bundle may hold it, and hold the hash of a delivery alone.

Ids are given out before their rows can be seen. Who writes evidence or deliveries holds `writing` until it
commits, and a head is made when nobody does: no row comes later with an id that the head has passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from sync.ledger import heads
from sync.store import db

LOCK = "sealed logs"
BATCH = 10_000


def writing(connection: Connection) -> None:
    """Hold until the transaction ends that ids of a log are being given out."""
    db.lock_transaction_shared(connection, LOCK)


def still(connection: Connection) -> None:
    """Wait until nobody writes to a log, and keep it so until the transaction ends."""
    db.lock_transaction(connection, LOCK)


class _Evidence(msgspec.Struct):
    """A row of evidence as it is hashed: these names, sorted."""

    connector: str
    digest: str
    fetched_at: str
    id: int
    run_id: int
    sha256: str
    stream: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A log in the database: the table, its id, and its columns in the order of `shape`'s arguments."""

    name: str
    id: str
    columns: tuple[str, ...]
    shape: Callable[..., Any]

    def rows(
        self, connection: Connection, *, after: int, until: int | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """The id and the canonical encoding of each row ``after < id <= until``, in order, in bounded memory."""
        raw = connection.connection.driver_connection
        assert raw is not None
        columns = sql.SQL(", ").join(map(sql.Identifier, self.columns))
        asked = sql.SQL(
            "SELECT {id}, {columns} FROM {table} WHERE {id} > %s AND {id} <= %s ORDER BY {id} LIMIT %s"
        )
        statement = asked.format(id=sql.Identifier(self.id), columns=columns, table=sql.Identifier(self.name))
        last = 2**63 - 1 if until is None else until
        encode = msgspec.json.Encoder(order="sorted").encode
        with raw.cursor(binary=True) as cursor:
            while rows := cursor.execute(statement, (after, last, BATCH)).fetchall():
                for row in rows:
                    yield row[0], encode(self.shape(*row[1:]))
                after = rows[-1][0]


def _evidence(*row: Any) -> _Evidence:
    connector, digest, fetched_at, id_, run_id, sha256, stream = row
    return _Evidence(connector, digest.hex(), heads.stamp(fetched_at), id_, run_id, sha256.hex(), stream)


def _policy(version: int, sha256: bytes, valid_from: Any) -> dict[str, Any]:
    return {"sha256": sha256.hex(), "valid_from": heads.stamp(valid_from), "version": version}


_DELIVERED = (
    "id", "destination", "person_id", "run_id", "remote_id", "sent", "shown", "outcome", "version", "reason",
    "sent_at", "answered_at",
)  # fmt: skip


def _delivery(*row: Any) -> dict[str, Any]:
    found = dict(zip(_DELIVERED, row, strict=True))
    for name in ("version", "sent_at", "answered_at"):
        found[name] = None if found[name] is None else heads.stamp(found[name])
    return found


ALL = (
    Kept("deliveries", "id", _DELIVERED, _delivery),
    Kept(
        "evidence",
        "id",
        ("connector", "digest", "fetched_at", "id", "run_id", "sha256", "stream"),
        _evidence,
    ),
    Kept("policies", "version", ("version", "sha256", "valid_from"), _policy),
)


def extended(connection: Connection, known: heads.Log, kept: Kept, *, until: int | None = None) -> heads.Log:
    """`known` with the rows that came after it (until that id)."""
    log = heads.Running(known)
    for id_, row in kept.rows(connection, after=known.last, until=until):
        log.add(id_, row)
    return log.log()


def last_ids(connection: Connection) -> dict[str, int]:
    """The last id of each log, 0 where it is empty."""
    columns = [
        sa.select(sa.func.coalesce(sa.func.max(sa.column(kept.id)), 0))
        .select_from(sa.table(kept.name))
        .scalar_subquery()
        .label(kept.name)
        for kept in ALL
    ]
    return dict(connection.execute(sa.select(*columns)).one()._mapping)
