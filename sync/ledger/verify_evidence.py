"""Checks what the entries rest on: evidence, policies, and what the mapping makes of the evidence now."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.ledger import heads, logs
from sync.ledger.check import RESTORE, Check
from sync.ledger.verify_heads import Reached
from sync.ledger.walk import Walk
from sync.pull import rules as pull_rules
from sync.pull import store as pull_store
from sync.pull.step import Plan
from sync.store import canonical
from sync.store.tables import periods, policies, quarantine

BATCH = 2_000
_BODIES = """
    SELECT id, connector, stream, sha256, digest, fetched_at, run_id, body, context
      FROM evidence WHERE id > %s ORDER BY id LIMIT %s
"""
_UNFOUNDED = sa.text(
    """
    SELECT e.id, e.evidence_id, v.id AS found FROM entries e LEFT JOIN evidence v ON v.id = e.evidence_id
     WHERE e.evidence_id IS NOT NULL AND v.sha256 IS DISTINCT FROM e.evidence_sha256
     ORDER BY e.id LIMIT 1
    """
)


def evidence(connection: Connection, wanted: Sequence[int]) -> tuple[Check, dict[int, heads.Log]]:
    """Every vendor's original still is what was fetched, and every entry's is there. Gives what the log comes to
    at the ids `wanted` as well: the bodies are read once."""
    reached, count, wrong = Reached("evidence", wanted), 0, ""
    [kept] = [kept for kept in logs.ALL if kept.name == "evidence"]
    encode = msgspec.json.Encoder(order="sorted").encode
    for id_, connector, stream, sha256, digest, fetched_at, run_id, body, context in _bodies(connection):
        count += 1
        known = hashlib.sha256(body).digest()
        whole = hashlib.sha256(known + encode(context)).digest() if context else known
        if not wrong and (known != sha256 or whole != digest):
            wrong = f"evidence {id_} was changed after it was fetched"
        reached.add(id_, encode(kept.shape(id_, connector, digest, fetched_at, run_id, sha256, stream)))
    if not wrong:
        row = connection.execute(_UNFOUNDED).first()
        if row is not None:
            what = "was removed" if row.found is None else "has other bytes"
            wrong = f"entry {row.id} rests on evidence {row.evidence_id}, which {what}"
    return Check("evidence", count, wrong, RESTORE if wrong else ""), reached.end()


def _bodies(connection: Connection) -> Iterator[tuple[Any, ...]]:
    raw = connection.connection.driver_connection
    assert raw is not None
    after = 0
    with raw.cursor(binary=True) as cursor:
        while rows := cursor.execute(_BODIES, (after, BATCH)).fetchall():
            yield from rows
            after = rows[-1][0]


def policy(connection: Connection, walked: Walk) -> Check:
    """Every policy still is what it was put in force as, and every entry's is there."""
    known = set()
    for row in connection.execute(sa.select(policies).order_by(policies.c.version)):
        known.add(row.version)
        if hashlib.sha256(heads.canonical(row.body)).digest() != bytes(row.sha256):
            wrong = f"policy {row.version} was changed after it was put in force"
            return Check("policies", len(known), wrong, RESTORE)
    for version, entry in sorted(walked.policies.items(), key=lambda each: each[1]):
        if version not in known:
            return Check(
                "policies", len(known), f"policy {version}, which entry {entry} names, is gone", RESTORE
            )
    return Check("policies", len(known))


def closed(connection: Connection) -> Check:
    """Every closed period still is what it was closed on."""
    count = 0
    for row in connection.execute(sa.select(periods).order_by(periods.c.until)):
        count += 1
        if hashlib.sha256(heads.canonical(row.body)).digest() != bytes(row.sha256):
            return Check("periods", count, f"period {row.name} was changed after it was closed", RESTORE)
    return Check("periods", count)


@dataclass(slots=True)
class _Mapped:
    """What the evidence of one batch maps to now, and of which raw records nothing can be said."""

    items: list[canonical.Mapped]
    settled: list[str]


def mapping(connection: Connection, plans: Iterable[Plan]) -> Check:
    """The canonical records are what the mapping makes of their evidence. A stream whose mapping changed since is
    left to the next sync, which maps it anew; so is what is set aside."""
    count, skipped = 0, []
    for plan in plans:
        for stream in plan.streams:
            _, mapped_with = pull_store.read_cursor(connection, plan.connector, stream.name)
            if mapped_with != plan.fingerprint(stream.name):
                if mapped_with is not None:
                    skipped.append(f"{plan.connector} {stream.name}")
                continue
            kinds, keeps = plan.mapping.kinds(stream.name), plan.mapping.keeps(stream.name)
            for mapped in _batches(connection, plan, stream.name):
                count += len(mapped.settled)
                wrong = canonical.first_difference(
                    connection,
                    connector=plan.connector,
                    stream=stream.name,
                    raw_ids=mapped.settled,
                    mapped=mapped.items,
                    kinds=kinds,
                    keeps=keeps,
                )
                if wrong:
                    return Check("mapping", count, wrong, RESTORE)
            for kind in kinds:
                made_up = canonical.first_unfounded(connection, kind, plan.connector, stream.name)
                if made_up is not None:
                    wrong = f"{plan.connector} {kind} {made_up} is there, but nothing was fetched of it"
                    return Check("mapping", count, wrong, RESTORE)
    found = f"mapped anew by the next sync: {', '.join(skipped)}" if skipped else ""
    return Check("mapping", count, found=found)


def _batches(connection: Connection, plan: Plan, stream: str) -> Iterator[_Mapped]:
    aside = set(
        connection.execute(
            sa.select(quarantine.c.external_id).where(
                quarantine.c.connector == plan.connector, quarantine.c.stream == stream
            )
        ).scalars()
    )
    after = ""
    while rows := pull_store.read_bodies(
        connection, connector=plan.connector, stream=stream, after=after, limit=BATCH
    ):
        mapped = _Mapped([], [])
        for row in rows:
            if row.external_id in aside:
                continue
            mapped.settled.append(row.external_id)
            if row.deleted:
                continue
            result = plan.mapping.apply(
                stream, bytes(row.body), row.context, phone_region=plan.phone_region, zone=plan.zone
            )
            mapped.items += [
                canonical.Mapped(
                    kind, pull_rules.bounded(record), stream, row.external_id, row.evidence_id, keep
                )
                for kind, record, keep in result.records
            ]
        yield mapped
        after = rows[-1].external_id
