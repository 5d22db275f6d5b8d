"""Writes canonical records: COPY into a stage table, one merge; what changed is named for the next step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from mappings.canonical import KINDS, Record
from sync.store import db
from sync.store.tables import CANONICAL, ORIGIN, campaign_names, heads, pending

FIELDS: dict[str, tuple[str, ...]] = {
    kind: tuple(f.name for f in msgspec.structs.fields(record)) for kind, record in KINDS.items()
}


# Kinds that nothing is derived from: nobody waits for their changes.
_LOOKED_UP_ONLY = frozenset({"product", "owner"})
# Kinds that say nothing of a person and go past the match, to the step that wants them.
_STEPS = {"rate": "book"}


@dataclass(frozen=True, slots=True)
class Mapped:
    """A canonical record and where it comes from. `keep`: it stays when its raw record no longer shows it."""

    kind: str
    record: Record
    stream: str
    raw_id: str
    evidence_id: int
    keep: bool = False


def _values(item: Mapped, connector: str) -> list[Any]:
    values = msgspec.structs.astuple(item.record)
    return [
        connector,
        item.stream,
        item.raw_id,
        item.evidence_id,
        *(list(value) if type(value) is tuple else value for value in values),
    ]


def merge(
    connection: Connection,
    *,
    connector: str,
    stream: str,
    raw_ids: Sequence[str],
    mapped: Iterable[Mapped],
    kinds: Iterable[str],
    keeps: frozenset[str],
) -> dict[str, int]:
    """Make the canonical tables show exactly what these raw records were mapped to.

    `raw_ids` are all raw records of the batch, `kinds` all kinds their mapping can yield: rows of those raw
    records that are no longer among `mapped` go away, except of a kind in `keeps`. Every row that is new,
    different or gone is named in `pending` for the match step (a rate for the booking). Returns counts by kind
    of rows changed.
    """
    by_kind: dict[str, dict[str, Mapped]] = {kind: {} for kind in kinds}
    for item in mapped:
        by_kind[item.kind][item.record.external_id] = item
    counts: dict[str, int] = {}
    for kind, items in by_kind.items():
        gone = 0 if kind in keeps else _drop_gone(connection, kind, connector, stream, raw_ids, items)
        changed = _upsert(connection, kind, connector, list(items.values())) if items else 0
        if kind == "campaign" and changed:
            _keep_names(connection, connector, list(items))
        if gone or changed:
            counts[kind] = gone + changed
    return counts


def _drop_gone(
    connection: Connection,
    kind: str,
    connector: str,
    stream: str,
    raw_ids: Sequence[str],
    items: dict[str, Mapped],
) -> int:
    table = CANONICAL[kind]
    dropped = connection.execute(
        sa.delete(table)
        .where(
            table.c.connector == connector,
            table.c.stream == stream,
            table.c.raw_id == sa.any_(sa.cast(list(raw_ids), postgresql.ARRAY(sa.Text))),
            table.c.external_id != sa.all_(sa.cast(list(items), postgresql.ARRAY(sa.Text))),
        )
        .returning(table.c.external_id)
    ).scalars()
    return note(
        connection, step=_STEPS.get(kind, "match"), kind=kind, connector=connector, refs=list(dropped)
    )


def _upsert(connection: Connection, kind: str, connector: str, items: list[Mapped]) -> int:
    table = CANONICAL[kind]
    columns = (*ORIGIN, *FIELDS[kind])
    with db.staged(connection, table, columns, (_values(item, connector) for item in items)) as stage:
        insert = postgresql.insert(table).from_select(columns, sa.select(stage))
        data = [c for c in columns if c not in {"connector", "external_id", "evidence_id"}]
        old = sa.tuple_(*[table.c[c] for c in data])
        new = sa.tuple_(*[insert.excluded[c] for c in data])
        upsert = insert.on_conflict_do_update(
            index_elements=["connector", "external_id"],
            set_={c: insert.excluded[c] for c in columns if c not in {"connector", "external_id"}},
            where=old.is_distinct_from(new),
        ).returning(table.c.external_id)
        changed = list(connection.execute(upsert).scalars())
    return note(connection, step=_STEPS.get(kind, "match"), kind=kind, connector=connector, refs=changed)


def first_difference(
    connection: Connection,
    *,
    connector: str,
    stream: str,
    raw_ids: Sequence[str],
    mapped: Iterable[Mapped],
    kinds: Iterable[str],
    keeps: frozenset[str],
) -> str:
    """The first row of the canonical tables that is not what these raw records map to, in words; "" if none is.

    Of two raw records that make the same canonical record the last one counts, which its row names.
    """
    by_kind: dict[str, dict[tuple[str, str], Mapped]] = {kind: {} for kind in kinds}
    for item in mapped:
        by_kind[item.kind][item.record.external_id, item.raw_id] = item
    for kind, items in by_kind.items():
        table = CANONICAL[kind]
        columns = (*ORIGIN, *FIELDS[kind])
        with db.staged(connection, table, columns, (_values(i, connector) for i in items.values())) as stage:
            changed = connection.execute(_changed(table, stage)).first()
            added = (
                None
                if kind in keeps
                else connection.execute(_added(table, stage, connector, stream, raw_ids)).first()
            )
        if changed is not None:
            if changed.is_gone:
                return f"{connector} {kind} {changed.external_id} is gone, but its evidence is there"
            fields = ", ".join(changed.fields)
            return f"{connector} {kind} {changed.external_id} is not what its evidence says: {fields}"
        if added is not None:
            return f"{connector} {kind} {added.external_id} is there, but its evidence says nothing of it"
    return ""


def _changed(table: sa.Table, stage: sa.Table) -> sa.Select[Any]:
    data = [c.name for c in stage.c if c.name not in {*ORIGIN, "external_id"}]
    names: list[sa.ColumnElement[Any]] = [
        sa.case((table.c[c].is_distinct_from(stage.c[c]), sa.literal(c))) for c in data
    ]
    fields = sa.func.array_remove(postgresql.array(names), None)
    same = sa.and_(table.c.connector == stage.c.connector, table.c.external_id == stage.c.external_id)
    own = sa.and_(table.c.stream == stage.c.stream, table.c.raw_id == stage.c.raw_id)
    differs = sa.tuple_(*[table.c[c] for c in data]).is_distinct_from(sa.tuple_(*[stage.c[c] for c in data]))
    is_gone = table.c.external_id.is_(None)
    return (
        sa.select(stage.c.external_id, is_gone.label("is_gone"), fields.label("fields"))
        .select_from(stage.outerjoin(table, same))
        .where(sa.or_(is_gone, sa.and_(own, differs)))
        .order_by(stage.c.external_id)
        .limit(1)
    )


def _added(
    table: sa.Table, stage: sa.Table, connector: str, stream: str, raw_ids: Sequence[str]
) -> sa.Select[Any]:
    known = sa.exists().where(stage.c.external_id == table.c.external_id)
    return (
        sa.select(table.c.external_id)
        .where(
            table.c.connector == connector,
            table.c.stream == stream,
            table.c.raw_id == sa.any_(sa.cast(list(raw_ids), postgresql.ARRAY(sa.Text))),
            ~known,
        )
        .order_by(table.c.external_id)
        .limit(1)
    )


def first_unfounded(connection: Connection, kind: str, connector: str, stream: str) -> str | None:
    """The id of the first row of a kind whose raw record nobody ever fetched."""
    table = CANONICAL[kind]
    fetched = sa.exists().where(
        heads.c.connector == connector, heads.c.stream == stream, heads.c.external_id == table.c.raw_id
    )
    asked = sa.select(table.c.external_id).where(
        table.c.connector == connector, table.c.stream == stream, ~fetched
    )
    return connection.execute(asked.order_by(table.c.external_id).limit(1)).scalar()


def _keep_names(connection: Connection, connector: str, ids: Sequence[str]) -> None:
    """Remember what these campaigns are called: their links in the world keep that name when they lose it."""
    campaign = CANONICAL["campaign"]
    named = sa.select(campaign.c.connector, campaign.c.external_id, campaign.c.name).where(
        campaign.c.connector == connector,
        campaign.c.external_id == sa.any_(sa.cast(list(ids), postgresql.ARRAY(sa.Text))),
    )
    insert = postgresql.insert(campaign_names).from_select(["connector", "external_id", "name"], named)
    connection.execute(insert.on_conflict_do_nothing())


def note(connection: Connection, *, step: str, kind: str, connector: str = "", refs: Sequence[str]) -> int:
    """Name records in `pending` for `step`; returns how many there are."""
    if refs and kind not in _LOOKED_UP_ONLY:
        ref = sa.func.unnest(sa.cast(list(refs), postgresql.ARRAY(sa.Text))).column_valued("ref")
        connection.execute(
            sa.insert(pending).from_select(
                ["step", "kind", "connector", "ref"],
                sa.select(sa.literal(step), sa.literal(kind), sa.literal(connector), ref),
            )
        )
    return len(refs)


def take(connection: Connection, *, step: str, kinds: Sequence[str], limit: int) -> list[sa.Row[Any]]:
    """Take the oldest `limit` rows of `pending` for `step`: distinct (kind, connector, ref).

    They are deleted in the caller's transaction, so they are taken exactly when its results commit.
    """
    statement = sa.text(
        """
        WITH oldest AS (
            SELECT id FROM pending WHERE step = :step AND kind = ANY(:kinds) ORDER BY id LIMIT :limit
        ), gone AS (
            DELETE FROM pending USING oldest WHERE pending.id = oldest.id
            RETURNING pending.kind, pending.connector, pending.ref
        )
        SELECT DISTINCT kind, connector, ref FROM gone ORDER BY kind, connector, ref
        """
    )
    return list(connection.execute(statement, {"step": step, "kinds": list(kinds), "limit": limit}).all())
