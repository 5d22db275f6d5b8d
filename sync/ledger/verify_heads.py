"""Checks the signed heads: by themselves, against the rows, and against those that are kept outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.ledger import heads, logs, seal
from sync.ledger.check import RESTORE, Check
from sync.ledger.walk import Walk
from sync.ledger.witness import Kept
from sync.store.tables import seal_copies

HEADS, OUTSIDE = "heads", "heads kept outside"
_KEY = "If that key was yours before, name it in ledger.trusted_keys; else somebody else signed."


@dataclass(frozen=True)
class Trust:
    """The public keys that are ours, the heads that are kept outside the database, and by which witness whose
    file can be read again."""

    keys: frozenset[bytes] = frozenset()
    outside: Sequence[Kept] = ()
    witnesses: Mapping[str, str] = field(default_factory=dict)  # name → path


@dataclass(frozen=True)
class Known:
    """The heads of the database as far as they are good, and what is wrong with the first that is not."""

    good: list[heads.Signed]
    checked: int
    wrong: str = ""
    todo: str = ""


def read(connection: Connection, trust: Trust) -> Known:
    """Each head by itself and after the one before."""
    good: list[heads.Signed] = []
    count = 0
    for row in seal.stream_rows(connection):
        count += 1
        number = len(good) + 1
        if row.number != number:
            return Known(good, count, f"head {number} is missing", RESTORE)
        try:
            signed = seal.of_row(row)
        except heads.Unreadable:
            return Known(good, count, f"head {number} was changed after it was signed", RESTORE)
        wrong, todo = _by_itself(signed, trust)
        if not wrong and (signed.head.number, signed.head.sealed_at) != (number, row.sealed_at):
            wrong, todo = f"head {number} stands in the place of another", RESTORE
        if not wrong:
            wrong, todo = _after(signed, good[-1] if good else None), RESTORE
        if wrong:
            return Known(good, count, wrong, todo)
        good.append(signed)
    return Known(good, count)


def _by_itself(signed: heads.Signed, trust: Trust) -> tuple[str, str]:
    name = f"head {signed.head.number}"
    if signed.head.key not in trust.keys:
        return f"{name} is signed with a key that is not ours: {signed.head.key.hex()}", _KEY
    if not signed.is_genuine():
        return f"{name} was changed after it was signed", RESTORE
    return "", ""


def _after(signed: heads.Signed, before: heads.Signed | None) -> str:
    head = signed.head
    if head.previous != (before.hash if before else heads.NOTHING):
        return f"head {head.number} does not follow the head before it"
    if before and (head.size < before.head.size or head.sealed_at < before.head.sealed_at):
        return f"head {head.number} has less than the head before it, or an earlier time"
    return ""


def signed_sizes(known: Known, trust: Trust) -> dict[int, datetime]:
    """The sizes that roots are needed of, and when the last head of each was signed."""
    every = [*known.good, *(kept.signed for kept in trust.outside if kept.signed)]
    found: dict[int, datetime] = {}
    for signed in every:
        if not _by_itself(signed, trust)[0]:
            found[signed.head.size] = max(
                signed.head.sealed_at, found.get(signed.head.size, signed.head.sealed_at)
            )
    return found


Logs = Mapping[str, Mapping[int, heads.Log]]
"""By log, by id: what the log comes to up to that id."""


def wanted_logs(known: Known, trust: Trust) -> dict[str, list[int]]:
    """By log the ids up to which heads say what it comes to."""
    found: dict[str, set[int]] = {kept.name: set() for kept in logs.ALL}
    for signed in [*known.good, *(kept.signed for kept in trust.outside if kept.signed)]:
        for log in signed.head.logs:
            found.setdefault(log.name, set()).add(log.last)
    return {name: sorted(ids) for name, ids in found.items()}


class Reached:
    """Notes what a log comes to at the ids that were asked for, whether or not these are there still."""

    def __init__(self, name: str, wanted: Sequence[int]) -> None:
        self.found: dict[int, heads.Log] = {}
        self._wanted = list(reversed(wanted))
        self._log = heads.Running(heads.Log(name))

    def add(self, id_: int, row: bytes) -> None:
        self._note(before=id_)
        self._log.add(id_, row)

    def end(self) -> dict[int, heads.Log]:
        self._note(before=None)
        return self.found

    def _note(self, *, before: int | None) -> None:
        while self._wanted and (before is None or self._wanted[-1] < before):
            self.found[self._wanted.pop()] = self._log.log()


def read_log(connection: Connection, kept: logs.Kept, wanted: Sequence[int]) -> dict[int, heads.Log]:
    reached = Reached(kept.name, wanted)
    if wanted:
        for id_, row in kept.rows(connection, after=0, until=wanted[-1]):
            reached.add(id_, row)
    return reached.end()


def against_rows(known: Known, walked: Walk, found: Logs) -> Check:
    """The heads of the database beside what the rows come to now."""
    for before, signed in zip([None, *known.good], known.good, strict=False):
        wrong = _differs(signed.head, before.head if before else None, walked, found)
        if wrong:
            return Check(HEADS, known.checked, wrong, RESTORE)
    return Check(HEADS, known.checked, known.wrong, known.todo)


def _differs(head: heads.Head, before: heads.Head | None, walked: Walk, found: Logs) -> str:
    name = f"head {head.number}"
    if walked.check.ok and head.size > walked.count:
        return f"entry {walked.count + 1} is missing: {name} was signed over {head.size} entries"
    state = walked.states.get(head.size)
    if state is not None and state != (head.root, head.chain):
        return f"{_which(head, before, walked)} is not the one that {name} was signed over"
    for log in head.logs:
        now = found.get(log.name, {}).get(log.last)
        if now is not None and (now.count, now.hash) != (log.count, log.hash):
            first = (before.log(log.name).last if before else 0) + 1
            return (
                f"{log.name} between {first} and {log.last}: one was changed, added or removed after {name}"
            )
    return ""


def _which(head: heads.Head, before: heads.Head | None, walked: Walk) -> str:
    """The first wrong entry: the stored tree names it where it was left alone, else two heads enclose it."""
    first = before.size + 1 if before else 1
    if walked.misplaced is not None and first <= walked.misplaced <= head.size:
        return f"entry {walked.misplaced}"
    return f"an entry between {first} and {head.size}" if first < head.size else f"entry {head.size}"


def against_outside(connection: Connection, trust: Trust, known: Known, walked: Walk, found: Logs) -> Check:
    """What is kept outside beside the heads of the database, and beside the rows."""
    by_number = {signed.head.number: signed for signed in known.good}
    ours: list[tuple[Kept, heads.Signed]] = []
    for count, kept in enumerate(trust.outside, 1):
        if kept.signed is None:
            return Check(OUTSIDE, count, f"{kept.where}: {kept.wrong}", "Look what became of the copies.")
        wrong, todo = _by_itself(kept.signed, trust)
        if wrong:
            return Check(OUTSIDE, count, f"{kept.where}: {wrong}", todo)
        ours.append((kept, kept.signed))
    before = None
    for count, (kept, signed) in enumerate(sorted(ours, key=lambda each: each[1].head.number), 1):
        wrong = _differs(signed.head, before, walked, found)
        same = by_number.get(signed.head.number)
        if not wrong and same is None and not known.wrong:
            wrong = f"head {signed.head.number} is no longer in the database"
        if not wrong and same is not None and same.text != signed.text:
            wrong = f"head {signed.head.number} was replaced in the database"
        if wrong:
            return Check(OUTSIDE, count, f"{wrong} ({kept.where})", RESTORE)
        before = signed.head
    return _copies_are_there(connection, trust, ours)


def _copies_are_there(
    connection: Connection, trust: Trust, ours: Sequence[tuple[Kept, heads.Signed]]
) -> Check:
    """Whoever removes lines from a witness's file is found by what was noted when they were written."""
    for name, path in trust.witnesses.items():
        held = {signed.head.number for kept, signed in ours if kept.where.startswith(f"{path},")}
        noted = sa.select(seal_copies.c.number).where(seal_copies.c.witness == name)
        for number in connection.execute(noted.order_by(seal_copies.c.number)).scalars():
            if number not in held:
                wrong = f"head {number} was copied to {path} and is not there"
                return Check(OUTSIDE, len(ours), wrong, "Look what became of the copies.")
    return Check(OUTSIDE, len(ours))
