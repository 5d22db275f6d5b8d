"""The bundle: the books in one ZIP file that an auditor checks without leadledger (`verifier/verify_bundle.py`).

Each file but ``bundle.json`` is JSON Lines in the encoding of heads (`heads`): entries with their hashes, what the
heads say of evidence, deliveries and policies row by row, the signed heads, the proofs, the balances. A bundle of
one period holds its entries alone, each with its proof of inclusion in the last head.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.ledger import encoding, heads, logs, rules, seal, store, tree
from sync.report.period import Period
from sync.store.tables import entries, policies

FORMAT = "leadledger-bundle-1"
# A fixed time: the same books make the same bytes.
_TIME = (1980, 1, 1, 0, 0, 0)


class NothingSealed(Exception):
    """There is no signed head, so there is nothing that a bundle could be checked against."""


@dataclass(slots=True)
class Written:
    """What a bundle holds."""

    head: heads.Signed
    entries: int = 0
    balances: dict[tuple[str, str], int] = field(default_factory=dict)
    evidence: set[int] = field(default_factory=set)

    def count(self, fields: Any, postings: rules.Postings) -> None:
        self.entries += 1
        for account, amount in postings:
            key = (account, fields["currency"])
            self.balances[key] = self.balances.get(key, 0) + amount
        if fields["evidence_id"] is not None:
            self.evidence.add(fields["evidence_id"])


def write(connection: Connection, path: Path, period: Period | None) -> Written:
    """Write the bundle whole or not at all, readable by this user alone, up to the last head.

    `connection` sees one state of the database from its begin to its end (REPEATABLE READ). Raises `NothingSealed`.
    """
    signed = seal.read_heads(connection)
    if not signed:
        raise NothingSealed("nothing is sealed yet: leadledger ledger seal signs a first head")
    found = Written(signed[-1])
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
                _fill(connection, bundle, signed, period, found)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return found


def _fill(
    connection: Connection,
    bundle: zipfile.ZipFile,
    signed: list[heads.Signed],
    period: Period | None,
    found: Written,
) -> None:
    last = found.head.head
    _put(bundle, "entries", _entries(connection, last.size, period, found))
    _put(bundle, "heads", (head.line().encode() for head in signed))
    _put(bundle, "policies", _policies(connection, last.log("policies").last))
    _put(bundle, "periods", _periods(connection, last.log("periods").last))
    _put(bundle, "evidence", _evidence(connection, last.log("evidence").last, period, found))
    _put(bundle, "deliveries", _deliveries(connection, last.log("deliveries").last, period))
    _put(bundle, "proofs", _proofs(connection, signed, period))
    _put(bundle, "balances", _balances(found))
    about = {"entries": found.entries, "format": FORMAT, "head": last.number, "period": _days(period)}
    bundle.writestr(zipfile.ZipInfo("bundle.json", _TIME), heads.canonical(about) + b"\n")


def _put(bundle: zipfile.ZipFile, name: str, rows: Iterable[bytes]) -> None:
    info = zipfile.ZipInfo(f"{name}.jsonl", _TIME)
    info.compress_type = zipfile.ZIP_DEFLATED
    with bundle.open(info, "w", force_zip64=True) as file:
        for row in rows:
            file.write(row + b"\n")


def _is_inside(entry: rules.Sealed, period: Period | None) -> bool:
    return period is None or period.since <= entry.fields["business_day"] < period.until


def _days(period: Period | None) -> str | None:
    return f"{period.since}..{period.until - timedelta(days=1)}" if period else None


def _entries(connection: Connection, size: int, period: Period | None, found: Written) -> Iterator[bytes]:
    for entry in store.stream(connection, until=size):
        if _is_inside(entry, period):
            found.count(entry.fields, entry.postings)
            known = msgspec.json.decode(encoding.canonical_bytes(entry.fields, entry.postings))
            known["hash"] = entry.hash.hex()
            known["postings"] = [
                {"account": account, "amount_minor": amount} for account, amount in entry.postings
            ]
            yield heads.canonical(known)


def _kept(name: str) -> logs.Kept:
    return next(kept for kept in logs.ALL if kept.name == name)


def _evidence(connection: Connection, until: int, period: Period | None, found: Written) -> Iterator[bytes]:
    for id_, row in _kept("evidence").rows(connection, after=0, until=until):
        if period is None or id_ in found.evidence:
            yield row


def _periods(connection: Connection, until: int) -> Iterator[bytes]:
    for _, row in _kept("periods").rows(connection, after=0, until=until):
        yield row


def _deliveries(connection: Connection, until: int, period: Period | None) -> Iterator[bytes]:
    """What was sent to whom stays here: a bundle has the hash of each delivery alone."""
    if period is None:
        for id_, row in _kept("deliveries").rows(connection, after=0, until=until):
            yield heads.canonical({"id": id_, "sha256": hashlib.sha256(row).hexdigest()})


def _policies(connection: Connection, until: int) -> Iterator[bytes]:
    """Each policy with its body as the text whose hash it has."""
    asked = sa.select(policies).where(policies.c.version <= until).order_by(policies.c.version)
    for row in connection.execute(asked):
        yield heads.canonical(
            {
                "body": heads.canonical(row.body).decode(),
                "sha256": bytes(row.sha256).hex(),
                "valid_from": heads.stamp(row.valid_from),
                "version": row.version,
            }
        )


def _proofs(connection: Connection, signed: list[heads.Signed], period: Period | None) -> Iterator[bytes]:
    """That each head continues the one before; for a period also that each entry is in the last one."""
    sizes = sorted({head.head.size for head in signed})
    for old, new in pairwise(sizes):
        hashes = tree.View(connection, new, between=store.between).consistency(old)
        yield heads.canonical({"from": old, "hashes": [h.hex() for h in hashes], "to": new})
    if period is None:
        return
    view, day = tree.View(connection, sizes[-1], between=store.between), entries.c.business_day
    inside = sa.and_(entries.c.id <= view.size, day >= period.since, day < period.until)
    for id_ in connection.execute(sa.select(entries.c.id).where(inside).order_by(entries.c.id)).scalars():
        hashes = view.inclusion(id_ - 1)
        yield heads.canonical({"entry": id_, "hashes": [h.hex() for h in hashes]})


def _balances(found: Written) -> Iterator[bytes]:
    for (account, currency), amount in sorted(found.balances.items()):
        yield heads.canonical({"account": account, "amount_minor": amount, "currency": currency})
