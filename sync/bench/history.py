"""Makes a history in the database by SQL alone: records that were pulled long ago, with a seed.

Persons are numbered; each has an e-mail address, some touches and some orders. Everything is a function of the
record's number and the seed, so that two makings are alike.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.store import db
from sync.store.tables import pending

_EVIDENCE = """
    INSERT INTO evidence (connector, stream, external_id, sha256, digest, body, context, fetched_at, run_id)
    SELECT 'shop', 'orders', n::text, sha256(n::text::bytea), sha256(n::text::bytea), convert_to('{}', 'UTF8'),
           '{}', now(), 0
      FROM generate_series(1::bigint, :orders) AS n
"""
_HEADS = """
    INSERT INTO heads (connector, stream, external_id, evidence_id, digest, version, deleted, run_id)
    SELECT connector, stream, external_id, id, digest, NULL, false, 0 FROM evidence
"""
_ORDERS = """
    INSERT INTO orders (connector, stream, raw_id, evidence_id, external_id, occurred_at, status, currency,
                        total_minor, tax_minor, shipping_minor, shipping_tax_minor, discount_minor, email,
                        click_ids, lines)
    SELECT 'shop', 'orders', e.external_id, e.id, e.external_id,
           timestamptz '2022-01-01' + n * interval '7 minutes', 'completed', 'PLN',
           1000 + n * 37 % 90000, 0, 0, 0, 0, 'p' || n * 7919 % :persons || '@bench.example', '{}', '[]'
      FROM evidence e, LATERAL (SELECT e.external_id::bigint AS n) AS number
     WHERE e.connector = 'shop' AND e.stream = 'orders'
"""
_TOUCHES = """
    INSERT INTO touches (connector, stream, raw_id, evidence_id, external_id, occurred_at, kind, direct, email, phone,
                         campaign_id, click_ids)
    SELECT 'ads', 'touches', n::text, 1, n::text,
           timestamptz '2022-01-01' + n * 104729 % 700001 * interval '1 minute', 'visit', false,
           'p' || n * 6700417 % :persons || '@bench.example',
           CASE WHEN n % :with_phone = 0 THEN '+48' || 500000000 + n * 6700417 % :persons END,
           'c' || n % 40, '{}'
      FROM generate_series(1::bigint, :touches) AS n
"""
_MEMBERS = """
    INSERT INTO members (kind, connector, external_id, person_id)
    SELECT kind, connector, external_id, 'p_' || split_part(email, '@', 1)
      FROM (SELECT 'order' AS kind, connector, external_id, email FROM orders
             UNION ALL SELECT 'touch', connector, external_id, email FROM touches) AS r
"""
_SIGHTINGS = """
    INSERT INTO sightings (kind, connector, external_id, key_kind, key_value)
    SELECT 'order', connector, external_id, 'email', email FROM orders
     UNION ALL SELECT 'touch', connector, external_id, 'email', email FROM touches
"""
_PULLED = (_EVIDENCE, _HEADS, _ORDERS, _TOUCHES)
_MATCHED = (_MEMBERS, _SIGHTINGS)
_ALL = ("evidence", "heads", "orders", "touches", "members", "sightings")


def make(
    connection: Connection,
    *,
    orders: int = 0,
    touches: int = 0,
    persons: int = 1,
    with_phone: int = 10**9,
    matched: bool = True,
) -> None:
    """`orders` and `touches` of `persons`, pulled (and matched); every `with_phone`-th touch shows a phone too."""
    values = {"orders": orders, "touches": touches, "persons": persons, "with_phone": with_phone}
    for statement in (*_PULLED, *(_MATCHED if matched else ())):
        asked = sa.text(statement)
        connection.execute(asked, {name: values[name] for name in asked._bindparams})
    db.analyze(connection, _ALL)


def note(connection: Connection, step: str, kind: str, *, table: str, limit: int | None = None) -> None:
    """Name all records of a canonical table (or the first `limit`) for a step, as the pull would have."""
    records = sa.table(table, sa.column("connector"), sa.column("external_id"))
    chosen = sa.select(sa.literal(step), sa.literal(kind), records.c.connector, records.c.external_id)
    connection.execute(
        sa.insert(pending).from_select(
            ["step", "kind", "connector", "ref"], chosen.order_by(records.c.external_id).limit(limit)
        )
    )


def until_nothing(engine: sa.Engine, take: Callable[[Connection], int]) -> int:
    """Call a step batch by batch, each in its transaction, until nothing is left; returns what it took."""
    total = 0
    while True:
        with engine.begin() as connection:
            took = take(connection)
        if not took:
            return total
        total += took
