"""The sealing: what the books are now → one signed head, and proofs against it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from sync.ledger import heads, logs, store, tree
from sync.store import known as known_time
from sync.store.tables import seal_copies, seals

WAIT_MS = 20_000


def seal(connection: Connection, key: Ed25519PrivateKey, *, now: datetime) -> heads.Signed | None:
    """Sign a head over all that is booked, fetched, sent and in force, in the caller's transaction.

    Returns the last head where nothing came since; None for books without anything. Raises `tree.Damaged` rather
    than sign what does not continue the last head.
    """
    connection.execute(sa.text("SELECT set_config('lock_timeout', :wait, true)"), {"wait": str(WAIT_MS)})
    store.lock(connection)
    logs.still(connection)
    last = last_head(connection)
    size, chain = store.head(connection)
    known = [last.head.log(kept.name) if last else heads.Log(kept.name) for kept in logs.ALL]
    found = tuple(logs.extended(connection, log, kept) for log, kept in zip(known, logs.ALL, strict=True))
    if last and (size, found) == (last.head.size, tuple(known)):
        return last
    if not last and not size and not any(log.count for log in found):
        return None
    if last:
        _continues(connection, last.head, size)
    head = heads.Head(
        number=last.head.number + 1 if last else 1,
        size=size,
        root=tree.frontier_of(connection, size, between=store.between).root(),
        chain=chain,
        logs=found,
        sealed_at=max(now, known_time.latest(connection) or now),
        previous=last.hash if last else heads.NOTHING,
        key=heads.public_bytes(key),
    )
    signed = heads.sign(head, key)
    connection.execute(
        sa.insert(seals).values(
            number=head.number, head=signed.text, signature=signed.signature, sealed_at=head.sealed_at
        )
    )
    return signed


def _continues(connection: Connection, last: heads.Head, size: int) -> None:
    if size < last.size:
        raise tree.Damaged(
            f"head {last.number} was signed over {last.size} entries, and the journal has {size}: entries were "
            "removed outside leadledger. leadledger verify says which; restore the database from a backup."
        )
    if tree.frontier_of(connection, last.size, between=store.between).root() != last.root:
        raise tree.Damaged(
            f"the entries up to {last.size} are not those that head {last.number} was signed over: they were changed "
            "outside leadledger. leadledger verify says which; restore the database from a backup."
        )


def last_head(connection: Connection) -> heads.Signed | None:
    """Raises `heads.Unreadable` when the row holds none."""
    row = connection.execute(sa.select(seals).order_by(seals.c.number.desc()).limit(1)).first()
    return of_row(row) if row else None


def read_heads(connection: Connection, *, limit: int | None = None) -> list[heads.Signed]:
    """The last `limit` heads (or all), oldest first."""
    rows = connection.execute(sa.select(seals).order_by(seals.c.number.desc()).limit(limit)).all()
    return [of_row(row) for row in reversed(rows)]


def stream_rows(connection: Connection) -> Iterator[sa.Row[tuple[int, str, bytes, datetime]]]:
    """Every row of the heads as it stands, oldest first."""
    yield from connection.execute(sa.select(seals).order_by(seals.c.number)).yield_per(1_000)


def of_row(row: sa.Row[tuple[int, str, bytes, datetime]]) -> heads.Signed:
    """Raises `heads.Unreadable`."""
    return heads.Signed(heads.decode(row.head), row.head, bytes(row.signature))


def head_at(connection: Connection, number: int) -> heads.Signed | None:
    row = connection.execute(sa.select(seals).where(seals.c.number == number)).first()
    return of_row(row) if row else None


def read_copies(connection: Connection, numbers: Sequence[int]) -> dict[int, list[str]]:
    """By head the witnesses that have it."""
    found: dict[int, list[str]] = {}
    asked = sa.select(seal_copies).where(seal_copies.c.number.in_(numbers)).order_by(seal_copies.c.witness)
    for row in connection.execute(asked):
        found.setdefault(row.number, []).append(row.witness)
    return found


def last_copy(connection: Connection, witness: str) -> tuple[int, datetime] | None:
    """The newest head that a witness has, and when it was copied there."""
    row = connection.execute(
        sa.select(seal_copies.c.number, seal_copies.c.copied_at)
        .where(seal_copies.c.witness == witness)
        .order_by(seal_copies.c.number.desc())
        .limit(1)
    ).first()
    return (row.number, row.copied_at) if row else None


def note_copy(connection: Connection, witness: str, number: int, *, now: datetime) -> None:
    insert = postgresql.insert(seal_copies).values(witness=witness, number=number, copied_at=now)
    connection.execute(insert.on_conflict_do_nothing())
