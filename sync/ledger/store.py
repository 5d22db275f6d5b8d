"""The journal's SQL. Entries are only ever inserted, under one lock, each sealed to the one before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from sync.attribute.store import Ref, named
from sync.ledger import encoding, merkle, rates, rules, tree
from sync.store import db, known
from sync.store.tables import CANONICAL, attributions, credits, entries, evidence, periods, policies

ENTRY_COLUMNS = tuple(c.name for c in entries.c)
LAST = 2**63 - 1
SEALED_COLUMNS = tuple(c for c in ENTRY_COLUMNS if c not in ("prev_hash", "hash"))


def head(connection: Connection) -> tuple[int, bytes]:
    """The last entry's id and hash; (0, 32 zero bytes) for an empty journal."""
    row = connection.execute(
        sa.select(entries.c.id, entries.c.hash).order_by(entries.c.id.desc()).limit(1)
    ).first()
    return (row.id, bytes(row.hash)) if row else (0, rules.GENESIS)


_LIVE = sa.text(
    """
    WITH named AS (
        SELECT * FROM unnest(CAST(:connectors AS text[]), CAST(:subjects AS text[])) AS n (connector, subject)
    ), mine AS (
        SELECT e.*, min(e.booked_at) OVER (PARTITION BY e.connector, e.subject, e.part) AS first_booked_at,
               count(*) FILTER (WHERE e.reverses IS NULL)
                   OVER (PARTITION BY e.connector, e.subject, e.part) AS generations
          FROM entries e JOIN named USING (connector, subject)
    )
    SELECT m.id, m.connector, m.subject, m.kind, m.part, m.currency, m.happened_at, m.policy_version,
           m.first_booked_at, m.generations, m.posted_on, m.rate,
           (m.reverses IS NULL AND NOT EXISTS (SELECT FROM entries r WHERE r.reverses = m.id)) AS live,
           (SELECT array_agg(p.account ORDER BY p.line) FROM postings p WHERE p.entry_id = m.id) AS accounts,
           (SELECT array_agg(p.amount_minor ORDER BY p.line) FROM postings p WHERE p.entry_id = m.id) AS amounts
      FROM mine m WHERE m.reverses IS NULL
     ORDER BY m.id
    """
)


@dataclass(frozen=True, slots=True)
class Booked:
    """What the journal has of some subjects (connector, ``order:ID`` or ``spend:ID``).

    `live` is what is in force, oldest first; `generations` how many entries each part has had so far;
    `last_sales` the latest sale of an order, in force or not.
    """

    live: dict[Ref, list[rules.Live]]
    generations: dict[tuple[str, str, str], int]
    last_sales: dict[Ref, rules.Live]


def read_booked(connection: Connection, subjects: Sequence[Ref]) -> Booked:
    found = Booked({}, {}, {})
    rows = connection.execute(
        _LIVE, {"connectors": [s[0] for s in subjects], "subjects": [s[1] for s in subjects]}
    )
    for row in rows:
        found.generations[(row.connector, row.subject, row.part)] = row.generations
        entry = rules.Live(
            id=row.id,
            kind=row.kind,
            part=row.part,
            currency=row.currency,
            happened_at=row.happened_at,
            postings=tuple(zip(row.accounts, row.amounts, strict=True)),
            policy_version=row.policy_version,
            first_booked_at=row.first_booked_at,
            posted_on=row.posted_on,
            rate=rates.stored(row.rate),
        )
        if row.live:
            found.live.setdefault((row.connector, row.subject), []).append(entry)
        if row.part == "sale":
            found.last_sales[(row.connector, row.subject)] = entry
    return found


def read_credits(connection: Connection, refs: Sequence[Ref]) -> dict[Ref, list[tuple[str, int]]]:
    rows = connection.execute(
        sa.select(credits.c.connector, credits.c.order_id, credits.c.account, credits.c.amount_minor)
        .where(named(credits, refs, id_column="order_id"))
        .order_by(credits.c.connector, credits.c.order_id, credits.c.line)
    )
    found: dict[Ref, list[tuple[str, int]]] = {}
    for row in rows:
        found.setdefault((row.connector, row.order_id), []).append((row.account, row.amount_minor))
    return found


def read_attributions(connection: Connection, refs: Sequence[Ref]) -> dict[Ref, sa.Row[Any]]:
    rows = connection.execute(sa.select(attributions).where(named(attributions, refs, id_column="order_id")))
    return {(r.connector, r.order_id): r for r in rows}


def _with_evidence(kind: str) -> sa.Select[Any]:
    table = CANONICAL[kind]
    return sa.select(table, evidence.c.sha256).join(evidence, evidence.c.id == table.c.evidence_id)


def read_orders(connection: Connection, refs: Sequence[Ref]) -> dict[Ref, sa.Row[Any]]:
    rows = connection.execute(_with_evidence("order").where(named(CANONICAL["order"], refs)))
    return {(r.connector, r.external_id): r for r in rows}


def read_refunds(connection: Connection, refs: Sequence[Ref]) -> dict[Ref, list[sa.Row[Any]]]:
    table = CANONICAL["refund"]
    found: dict[Ref, list[sa.Row[Any]]] = {}
    for row in connection.execute(_with_evidence("refund").where(named(table, refs, id_column="order_id"))):
        found.setdefault((row.connector, row.order_id), []).append(row)
    return found


def read_spend(connection: Connection, refs: Sequence[Ref]) -> dict[Ref, sa.Row[Any]]:
    rows = connection.execute(_with_evidence("spend").where(named(CANONICAL["spend"], refs)))
    return {(r.connector, r.external_id): r for r in rows}


def append(
    connection: Connection,
    drafts: Sequence[tuple[Ref, rules.Draft]],
    *,
    generations: Mapping[tuple[str, str, str], int],
    sales: Mapping[Ref, int] | None = None,
    zone: ZoneInfo,
    booked_at: datetime,
    author: str,
) -> int:
    """Book `drafts` ((connector, subject), draft) in this order; returns how many.

    `sales` are the sales in force by subject, to which refunds refer. The caller holds the journal's lock
    (`lock`) since before it read what is in force. What happened in a closed period counts on the first day
    that is open. Entries are booked in the order of time, whatever the clock shows, and after the last signed head:
    what was known at a time is always a beginning of the journal.
    """
    last_id, last_hash = head(connection)
    booked_at = known.next_time(connection, booked_at)
    first_open = closed_until(connection)
    had, sold = dict(generations), dict(sales or {})
    sealed: list[rules.Sealed] = []
    for (connector, subject), draft in drafts:
        part = (connector, subject, draft.part)
        if draft.reverses is None:
            generation = had[part] = had.get(part, 0) + 1
        else:
            generation = had[part]
        last_id += 1
        if draft.part == "sale" and draft.reverses is None:
            sold[connector, subject] = last_id
        refers_to = draft.refers_to
        if refers_to is None and draft.part.startswith("refund:") and draft.reverses is None:
            refers_to = sold.get((connector, subject))
        business_day = draft.happened_at.astimezone(zone).date()
        fields = {
            "id": last_id,
            "kind": draft.kind,
            "connector": connector,
            "subject": subject,
            "part": draft.part,
            "generation": generation,
            "currency": draft.currency,
            "happened_at": draft.happened_at,
            "business_day": business_day,
            "posted_on": max(business_day, first_open) if first_open else business_day,
            "booked_at": booked_at,
            "policy_version": draft.policy_version,
            "reason": draft.reason,
            "author": author,
            "reverses": draft.reverses,
            "refers_to": refers_to,
            "evidence_id": draft.evidence_id,
            "evidence_sha256": draft.evidence_sha256,
            "rate": draft.rate,
        }
        rules.tidy(dict(draft.postings))
        entry = rules.seal(fields, draft.postings, last_hash)
        last_hash = entry.hash
        sealed.append(entry)
    db.copy_rows(
        connection,
        "entries",
        [*SEALED_COLUMNS, "prev_hash", "hash"],
        ((*(e.fields[c] for c in SEALED_COLUMNS), e.prev_hash, e.hash) for e in sealed),
    )
    db.copy_rows(
        connection,
        "postings",
        ["entry_id", "line", "account", "amount_minor"],
        (
            (e.fields["id"], line, account, amount)
            for e in sealed
            for line, (account, amount) in enumerate(e.postings)
        ),
    )
    tree.grow(connection, last_id - len(sealed), [e.leaf for e in sealed], between=between)
    return len(sealed)


def unrecorded_policies(connection: Connection) -> list[sa.Row[Any]]:
    """The policies of which the journal has no entry, oldest first."""
    recorded = sa.exists().where(
        entries.c.connector == "", entries.c.subject == sa.func.concat("policy:", policies.c.version)
    )
    return list(connection.execute(sa.select(policies).where(~recorded).order_by(policies.c.version)))


def closed_until(connection: Connection) -> date | None:
    """The first day that is open; None when no period is closed."""
    found: date | None = connection.execute(sa.select(sa.func.max(periods.c.until))).scalar()
    return found


def lock(connection: Connection) -> None:
    """Only one writer at a time reads what is in force and books what follows from it."""
    db.lock_transaction(connection, "journal")


_ENTRIES_AFTER = sql.SQL("SELECT {} FROM entries WHERE id > %s AND id <= %s ORDER BY id LIMIT %s").format(
    sql.SQL(", ").join(map(sql.Identifier, ENTRY_COLUMNS))
)
_POSTINGS_BETWEEN = """
    SELECT entry_id, array_agg(account ORDER BY line), array_agg(amount_minor ORDER BY line)
      FROM postings WHERE entry_id > %s AND entry_id <= %s GROUP BY entry_id
"""


def between(connection: Connection, after: int, until: int) -> Iterator[bytes]:
    """The leaves of the entries ``after < id <= until``, made of the entries as they stand."""
    for entry in stream(connection, after=after, until=until):
        yield merkle.leaf_hash(encoding.canonical_bytes(entry.fields, entry.postings))


def stream(
    connection: Connection, *, after: int = 0, until: int = LAST, batch: int = 5_000
) -> Iterator[rules.Sealed]:
    """Every entry ``after < id <= until`` as it stands, in the order of the journal, in bounded memory."""
    raw = connection.connection.driver_connection
    assert raw is not None
    with raw.cursor(binary=True) as cursor:
        while rows := cursor.execute(_ENTRIES_AFTER, (after, until, batch)).fetchall():
            last = rows[-1][0]
            lines = {
                entry: tuple(zip(accounts, amounts, strict=True))
                for entry, accounts, amounts in cursor.execute(_POSTINGS_BETWEEN, (after, last))
            }
            for row in rows:
                fields = dict(zip(ENTRY_COLUMNS, row, strict=True))
                yield rules.Sealed(fields, lines.get(row[0], ()), fields["prev_hash"], fields["hash"])
            after = last
