"""The pull's tables: evidence, heads, cursors, quarantine. One page is one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection, Engine

from connectors.contract import Cursor
from sync.ledger import logs
from sync.pull import rules
from sync.store import db
from sync.store.tables import CANONICAL, cursors, evidence, heads, quarantine

_TEXTS = postgresql.ARRAY(sa.Text)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a raw record is set aside: the first field that was wrong, and all of them in words."""

    external_id: str
    evidence_id: int
    field: str
    reason: str
    problems: tuple[str, ...]


def any_of(column: sa.ColumnElement[Any], values: Sequence[str]) -> sa.ColumnElement[bool]:
    return column == sa.any_(sa.cast(list(values), _TEXTS))


def read_cursor(connection: Connection, connector: str, stream: str) -> tuple[Cursor | None, str | None]:
    """The stored cursor and the fingerprint of the mapping that made what is there now."""
    row = connection.execute(
        sa.select(cursors.c.at, cursors.c.state, cursors.c.mapped_with).where(
            cursors.c.connector == connector, cursors.c.stream == stream
        )
    ).first()
    if row is None:
        return None, None
    known = Cursor(at=row.at, state=row.state) if row.at or row.state else None
    return known, row.mapped_with


def write_cursor(
    connection: Connection,
    *,
    connector: str,
    stream: str,
    cursor: Cursor | None,
    mapped_with: str,
    run_id: int,
) -> None:
    """Store where `stream` goes on; without a cursor only the mapping's fingerprint is noted.

    The time can only go forward, whatever order writers come in.
    """
    insert = postgresql.insert(cursors).values(
        connector=connector,
        stream=stream,
        at=cursor.at if cursor else None,
        state=dict(cursor.state) if cursor else {},
        mapped_with=mapped_with,
        run_id=run_id,
    )
    changes: dict[str, Any] = {"mapped_with": insert.excluded.mapped_with}
    if cursor is not None:
        changes |= {
            "at": sa.func.greatest(cursors.c.at, insert.excluded.at),
            "state": insert.excluded.state,
            "run_id": insert.excluded.run_id,
            "moved_at": sa.func.now(),
        }
    connection.execute(insert.on_conflict_do_update(index_elements=["connector", "stream"], set_=changes))


def read_heads(
    connection: Connection, connector: str, stream: str, external_ids: Sequence[str]
) -> dict[str, rules.Head]:
    rows = connection.execute(
        sa.select(heads.c.external_id, heads.c.digest, heads.c.version, heads.c.deleted).where(
            heads.c.connector == connector,
            heads.c.stream == stream,
            any_of(heads.c.external_id, external_ids),
        )
    )
    return {r.external_id: rules.Head(bytes(r.digest), r.version, r.deleted) for r in rows}


def has_heads(connection: Connection, connector: str, stream: str) -> bool:
    found = sa.select(heads.c.external_id).where(heads.c.connector == connector, heads.c.stream == stream)
    return connection.execute(found.limit(1)).first() is not None


_KNOWN = sa.text(
    """
    SELECT e.external_id, e.digest, e.id
      FROM evidence e
      JOIN unnest(CAST(:ids AS text[]), CAST(:digests AS bytea[])) AS n (external_id, digest)
     USING (external_id, digest)
     WHERE e.connector = :connector AND e.stream = :stream
    """
)
_NEXT_IDS = sa.text(
    "SELECT nextval(pg_get_serial_sequence('evidence', 'id')) FROM generate_series(1, :count) ORDER BY 1"
)


def keep_evidence(
    connection: Connection,
    *,
    connector: str,
    stream: str,
    records: Sequence[rules.Sealed],
    known: Collection[str],
    run_id: int,
    fetched_at: datetime,
) -> dict[str, int]:
    """Store evidence and make it the head of its raw record; returns evidence ids by external id.

    `known` are the external ids that have a head already. The caller's run is the connector's only one, so
    what is not there yet goes in by COPY, without a table between.
    """
    ids = _kept_before(connection, connector, stream, [r for r in records if r.raw.external_id in known])
    fresh = [r for r in records if r.raw.external_id not in ids]
    logs.writing(connection)
    numbers = connection.execute(_NEXT_IDS, {"count": len(fresh)}).scalars()
    ids |= zip((r.raw.external_id for r in fresh), numbers, strict=True)
    rows = (
        (
            ids[r.raw.external_id],
            connector,
            stream,
            r.raw.external_id,
            r.sha256,
            r.digest,
            r.raw.body,
            dict(r.raw.context),
            r.raw.version,
            fetched_at,
            run_id,
        )
        for r in fresh
    )
    db.copy_rows(connection, "evidence", [c.name for c in evidence.c], rows)
    _move_heads(
        connection, connector=connector, stream=stream, records=records, known=known, ids=ids, run_id=run_id
    )
    return ids


def _kept_before(
    connection: Connection, connector: str, stream: str, records: Sequence[rules.Sealed]
) -> dict[str, int]:
    """Evidence of records that are again as they once were."""
    if not records:
        return {}
    given = {
        "connector": connector,
        "stream": stream,
        "ids": [r.raw.external_id for r in records],
        "digests": [r.digest for r in records],
    }
    return {row.external_id: row.id for row in connection.execute(_KNOWN, given)}


def _move_heads(
    connection: Connection,
    *,
    connector: str,
    stream: str,
    records: Sequence[rules.Sealed],
    known: Collection[str],
    ids: Mapping[str, int],
    run_id: int,
) -> None:
    columns = ("connector", "stream", "external_id", "evidence_id", "digest", "version", "deleted", "run_id")

    def rows(*, moved: bool) -> Iterator[tuple[Any, ...]]:
        for r in records:
            id_ = r.raw.external_id
            if (id_ in known) is moved:
                yield connector, stream, id_, ids[id_], r.digest, r.raw.version, r.raw.deleted, run_id

    db.copy_rows(connection, "heads", columns, rows(moved=False))
    if known:
        with db.staged(connection, heads, columns, rows(moved=True)) as stage:
            connection.execute(
                sa.update(heads)
                .where(*(heads.c[c] == stage.c[c] for c in columns[:3]))
                .values({c: stage.c[c] for c in columns[3:]})
            )


_MOVE_VERSIONS = sa.text(
    """
    UPDATE heads h SET version = n.version
      FROM unnest(CAST(:ids AS text[]), CAST(:versions AS timestamptz[])) AS n (external_id, version)
     WHERE h.connector = :connector AND h.stream = :stream AND h.external_id = n.external_id
    """
)


def move_versions(
    connection: Connection, *, connector: str, stream: str, versions: Mapping[str, datetime]
) -> None:
    """Note that raw records which did not change are known as of a newer version: what the vendor held
    between the two and comes late is then older than they are."""
    if versions:
        connection.execute(
            _MOVE_VERSIONS,
            {
                "connector": connector,
                "stream": stream,
                "ids": list(versions),
                "versions": list(versions.values()),
            },
        )


def mark_deleted(
    connection: Connection, *, connector: str, stream: str, raw_ids: Sequence[str], run_id: int
) -> None:
    connection.execute(
        sa.update(heads)
        .where(
            heads.c.connector == connector,
            heads.c.stream == stream,
            any_of(heads.c.external_id, raw_ids),
        )
        .values(deleted=True, run_id=run_id)
    )


def set_aside(
    connection: Connection,
    *,
    connector: str,
    stream: str,
    raw_ids: Sequence[str],
    problems: Sequence[Problem],
    run_id: int,
) -> None:
    """Make the quarantine show exactly `problems` for these raw records."""
    bad = [p.external_id for p in problems]
    cured = sorted(set(raw_ids) - set(bad))
    if cured:
        connection.execute(
            sa.delete(quarantine).where(
                quarantine.c.connector == connector,
                quarantine.c.stream == stream,
                any_of(quarantine.c.external_id, cured),
            )
        )
    if not problems:
        return
    insert = postgresql.insert(quarantine).values(
        [
            {
                "connector": connector,
                "stream": stream,
                "external_id": p.external_id,
                "evidence_id": p.evidence_id,
                "field": p.field,
                "reason": p.reason,
                "problems": list(p.problems),
                "run_id": run_id,
            }
            for p in problems
        ]
    )
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["connector", "stream", "external_id"],
            set_={c: insert.excluded[c] for c in ("evidence_id", "field", "reason", "problems", "run_id")}
            | {"set_aside_at": sa.func.now(), "dropped_at": None, "dropped_why": None},
        )
    )


def read_bodies(
    connection: Connection,
    *,
    connector: str,
    stream: str,
    after: str,
    limit: int,
    only: Sequence[str] | None = None,
) -> list[sa.Row[Any]]:
    """The latest evidence of a stream's raw records, by external id after `after`, to map it again."""
    statement = (
        sa.select(
            heads.c.external_id, heads.c.evidence_id, heads.c.deleted, evidence.c.body, evidence.c.context
        )
        .join(evidence, evidence.c.id == heads.c.evidence_id)
        .where(heads.c.connector == connector, heads.c.stream == stream, heads.c.external_id > after)
        .order_by(heads.c.external_id)
        .limit(limit)
    )
    if only is not None:
        statement = statement.where(any_of(heads.c.external_id, only))
    return list(connection.execute(statement))


def own_writes(connection: Connection, connector: str, versions: Mapping[str, datetime | None]) -> set[str]:
    """Of raw records (external id → the vendor's time of change): those whose last change is a push of ours.

    They are our own write coming back; a change by anybody else since then has another time.
    """
    rows = connection.execute(
        sa.text(
            """
            SELECT DISTINCT n.external_id
              FROM unnest(CAST(:ids AS text[]), CAST(:versions AS timestamptz[])) AS n (external_id, version)
              JOIN deliveries d ON d.destination = :connector AND d.remote_id = n.external_id
               AND d.version = n.version
            """
        ),
        {"connector": connector, "ids": list(versions), "versions": list(versions.values())},
    )
    return set(rows.scalars())


_LISTING = "CREATE TEMPORARY TABLE listed (external_id text PRIMARY KEY)"
_LIST = "INSERT INTO listed SELECT unnest(CAST(:ids AS text[])) ON CONFLICT DO NOTHING"


@contextmanager
def listing(engine: Engine) -> Iterator[Connection]:
    """A connection of its own with an empty list of ids, in which each statement stands for itself: a list is
    read from a vendor, which takes its time."""
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(sa.text(_LISTING))
        try:
            yield connection
        finally:
            connection.invalidate()  # the list goes with the session


def list_ids(connection: Connection, ids: Sequence[str]) -> None:
    if ids:
        connection.execute(sa.text(_LIST), {"ids": list(ids)})


def missing(
    connection: Connection, *, connector: str, stream: str, since: datetime, until: datetime, limit: int
) -> tuple[int, int, list[str]]:
    """Of the records of a stream that are held and happened within the window: how many there are, how many of
    them are not in the `listing`, and the ids of those, at most `limit`."""
    table = next(table for table in CANONICAL.values() if table.name == stream)
    db.analyze(connection, ["listed"])
    held = (
        sa.select(table.c.raw_id)
        .where(
            table.c.connector == connector,
            table.c.stream == stream,
            table.c.occurred_at >= since,
            table.c.occurred_at < until,
        )
        .distinct()
        .subquery()
    )
    listed = sa.table("listed", sa.column("external_id"))
    shown = sa.select(sa.literal(1)).where(listed.c.external_id == held.c.raw_id).exists()
    number = sa.func.count()
    counts = connection.execute(sa.select(number, number.filter(~shown)).select_from(held)).one()
    absent = sa.select(held.c.raw_id).where(~shown).order_by(held.c.raw_id).limit(limit)
    return *counts, list(connection.execute(absent).scalars())


def spend_within(
    connection: Connection, *, connector: str, stream: str, since: date, until: date
) -> dict[str, date]:
    """The spend rows whose day lies in the half-open range: raw id and day."""
    table = CANONICAL["spend"]
    rows = connection.execute(
        sa.select(table.c.raw_id, table.c.day).where(
            table.c.connector == connector,
            table.c.stream == stream,
            table.c.day >= since,
            table.c.day < until,
        )
    )
    return {row.raw_id: row.day for row in rows}
