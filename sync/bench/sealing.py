"""Seal what is booked, verify it with its tree and its evidence, and prove one entry.

Sealing is measured beside the same booking without a tree and without a head. The floor of the verification scans
the same rows once with SHA-256; nothing is decoded, no entry balances, no tree is made and no head is compared.
"""

from __future__ import annotations

import hashlib
import random
import statistics
from collections.abc import Iterator
from unittest import mock

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Connection, Engine

from sync.bench import booking, history, measure
from sync.bench.attributing import POLICY
from sync.bench.place import Place
from sync.ledger import heads, merkle, seal, step, store, tree, verify_evidence, verify_heads, walk
from sync.store import db

ENTRIES, VERIFIED, PROOFS = 100_000, 1_000_000, 50
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
TRUST = verify_heads.Trust(frozenset({heads.public_bytes(KEY)}))
# A kilobyte a record, so that the floor has something to hash; an order of a shop is three times as long.
_EVIDENCE = """
    INSERT INTO evidence (connector, stream, external_id, sha256, digest, body, context, fetched_at, run_id)
    SELECT 'shop', 'orders', n::text, sha256(body), sha256(body), body, '{}', now(), 0
      FROM generate_series(1::bigint, :orders) AS n,
           LATERAL (SELECT convert_to(repeat(md5(n::text), 32), 'UTF8') AS body) AS made
"""
_POLICY = "INSERT INTO policies VALUES (1, '{}', sha256('{}'), now())"


def results(place: Place) -> Iterator[measure.Result]:
    entries = place.size(ENTRIES)
    place.say(f"seal {entries:,} entries")

    def ours() -> float:
        with place.database() as engine:
            booking.credited(engine, entries, place)
            return measure.timed(lambda: _book(engine, sealed=True))

    def floor() -> float:
        with (
            place.database() as engine,
            mock.patch.object(tree, "grow", _nothing),
            mock.patch.object(merkle, "leaf_hash", bytes),
        ):
            booking.credited(engine, entries, place)
            return measure.timed(lambda: _book(engine, sealed=False))

    yield measure.contest(
        f"book, chain and seal {entries:,} entries",
        goal=1.1,
        floor=floor,
        ours=ours,
        rounds=place.rounds,
        against="the same without tree and head",
    )
    yield from _proven(place)


def _nothing(*_: object, **__: object) -> None:
    """In place of the growing of the tree."""


def _book(engine: Engine, *, sealed: bool) -> None:
    history.until_nothing(engine, lambda c: step.book(c, POLICY, zone=booking.ZONE, now=booking.NOW))
    if sealed:
        with engine.begin() as connection:
            seal.seal(connection, KEY, now=booking.NOW)


def _proven(place: Place) -> Iterator[measure.Result]:
    count = place.size(VERIFIED)
    place.say(f"verify {count:,} entries with tree and evidence")
    with place.database() as engine:
        with engine.begin() as connection:
            connection.execute(sa.text(_EVIDENCE), {"orders": count})
            connection.execute(sa.text(_POLICY))
        booking.journal(engine, count, sha256_of=_sha256)
        with engine.begin() as connection:
            db.analyze(connection, ("entries", "evidence", "seal_tiles"))
            seal.seal(connection, KEY, now=booking.NOW)

        def ours() -> float:
            with engine.connect() as connection:
                return measure.timed(lambda: _verify(connection, count))

        def floor() -> float:
            with engine.connect() as connection:
                return measure.timed(lambda: _scan(connection))

        yield measure.contest(
            f"verify {count:,} entries with tree and evidence",
            goal=2.5,
            floor=floor,
            ours=ours,
            rounds=place.rounds,
            against="scan + SHA-256",
        )
        yield measure.value(
            f"an inclusion proof, {count:,} entries",
            goal=50.0,
            found=_proof_ms(engine, count, place),
            unit="ms",
        )


def _sha256(number: int) -> bytes:
    return hashlib.sha256(
        hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest().encode() * 32
    ).digest()


def _verify(connection: Connection, count: int) -> None:
    known = verify_heads.read(connection, TRUST)
    walked = walk.walk(connection, verify_heads.signed_sizes(known, TRUST))
    evidence, log = verify_evidence.evidence(connection, verify_heads.wanted_logs(known, TRUST)["evidence"])
    policy = verify_evidence.policy(connection, walked)
    for check in (
        walked.check,
        evidence,
        policy,
        verify_heads.against_rows(known, walked, {"evidence": log}),
    ):
        assert check.ok, check.wrong
    assert (walked.count, evidence.checked, walked.misplaced) == (count, count, None)


def _scan(connection: Connection) -> None:
    raw = connection.connection.driver_connection
    assert raw is not None
    for rows in booking.SCANNED:
        last = b""
        with raw.cursor() as cursor, cursor.copy(rows) as copy:
            for row in copy:
                last = hashlib.sha256(last + row).digest()
    with (
        raw.cursor() as cursor,
        cursor.copy("COPY (SELECT body FROM evidence ORDER BY id) TO STDOUT (FORMAT binary)") as copy,
    ):
        for row in copy:
            hashlib.sha256(row).digest()


def _proof_ms(engine: Engine, count: int, place: Place) -> float:
    """The median of proofs of entries here and there, each read anew and checked."""
    chosen = random.Random(place.seed)  # noqa: S311 - which entries are proven is no secret
    took: list[float] = []
    with engine.connect() as connection:
        last = seal.last_head(connection)
        assert last is not None
        for index in chosen.choices(range(count), k=PROOFS):
            with measure.stopwatch(took):
                hashes = tree.View(connection, count, between=store.between).inclusion(index)
            [leaf] = store.between(connection, index, index + 1)
            assert merkle.is_included(leaf, index, count, hashes, last.head.root)
    return statistics.median(took) * 1_000
