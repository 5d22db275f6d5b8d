"""The logs beside the journal that every signed head covers: evidence, deliveries, policies, closed periods.

Each log is its rows in the order of their ids; the hash of a row is that of its canonical encoding (`heads`), and
a head holds what all rows come to: ``H(n) = SHA-256(H(n - 1) || row hash n)``, beginning with 32 zero bytes. A row
covers no personal data in clear, so that a bundle may hold it, and hold the hash of a delivery alone.

Ids are given out before their rows can be seen. Who writes evidence or deliveries holds `writing` until it
commits, and a head is made when nobody does: no row comes later with an id that the head has passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec
from sqlalchemy.engine import Connection

from sync.ledger import heads
from sync.store import db

LOCK = "sealed logs"
BATCH = 10_000
LAST = 2**63 - 1


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
    """A log in the database: its rows between two ids, the id first, and what is hashed of the rest of each."""

    name: str
    statement: bytes
    shape: Callable[..., Any]

    def rows(self, connection: Connection, *, after: int, until: int = LAST) -> Iterator[tuple[int, bytes]]:
        """The id and the canonical encoding of each row ``after < id <= until``, in order, in bounded memory."""
        raw = connection.connection.driver_connection
        assert raw is not None
        encode = msgspec.json.Encoder(order="sorted").encode
        with raw.cursor(binary=True) as cursor:
            while rows := cursor.execute(self.statement, (after, until, BATCH)).fetchall():
                for row in rows:
                    yield row[0], encode(self.shape(*row))
                after = rows[-1][0]


_EVIDENCE = b"""
    SELECT id, connector, digest, fetched_at, run_id, sha256, stream
      FROM evidence WHERE id > %s AND id <= %s ORDER BY id LIMIT %s
"""
_POLICIES = b"""
    SELECT version, sha256, valid_from FROM policies WHERE version > %s AND version <= %s ORDER BY version LIMIT %s
"""
_PERIODS = b"""
    SELECT until - DATE '1970-01-01', until, since, name, sha256, closed_at
      FROM periods WHERE until - DATE '1970-01-01' > %s AND until - DATE '1970-01-01' <= %s ORDER BY 1 LIMIT %s
"""
_DELIVERIES = b"""
    SELECT id, destination, person_id, run_id, remote_id, sent, shown, outcome, version, reason, sent_at, answered_at
      FROM deliveries WHERE id > %s AND id <= %s ORDER BY id LIMIT %s
"""


def _evidence(*row: Any) -> _Evidence:
    id_, connector, digest, fetched_at, run_id, sha256, stream = row
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


def _period(
    id_: int, until: date, since: date | None, name: str, sha256: bytes, closed_at: Any
) -> dict[str, Any]:
    """A closed period; its id is the day before which all is closed, counted from 1970."""
    return {
        "closed_at": heads.stamp(closed_at),
        "id": id_,
        "name": name,
        "sha256": sha256.hex(),
        "since": None if since is None else since.isoformat(),
        "until": until.isoformat(),
    }


ALL = (
    Kept("deliveries", _DELIVERIES, _delivery),
    Kept("evidence", _EVIDENCE, _evidence),
    Kept("periods", _PERIODS, _period),
    Kept("policies", _POLICIES, _policy),
)


def extended(connection: Connection, known: heads.Log, kept: Kept) -> heads.Log:
    """`known` with the rows that came after it."""
    log = heads.Running(known)
    for id_, row in kept.rows(connection, after=known.last):
        log.add(id_, row)
    return log.log()
