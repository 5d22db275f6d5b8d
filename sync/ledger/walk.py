"""Reads the whole journal once and makes its chain and its tree anew, from the rows as they stand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.engine import Connection

from sync.ledger import encoding, heads, merkle, rules, store, tree
from sync.ledger.check import RESTORE, Check

BATCH = 5_000


@dataclass(slots=True)
class Walk:
    """What the rows come to. `states` are root and last hash at the sizes that were asked for, as far as the chain
    is whole; `misplaced` is the first entry that is not the one the stored tree has there; `policies` the versions
    that entries name, each with the first of them."""

    check: Check
    count: int = 0
    states: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    misplaced: int | None = None
    policies: dict[int, int] = field(default_factory=dict)


class _Grown:
    """The tree as it grows, compared with the stored one tile by tile."""

    def __init__(self, connection: Connection) -> None:
        self.frontier = merkle.Frontier()
        self.misplaced: int | None = None
        self._connection = connection
        self._stored = tree.stored(connection)
        self._waiting: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        self._waiting.append(leaf)
        if len(self._waiting) == BATCH:
            self.settle()

    def settle(self) -> None:
        tiles = {(t.height, t.index): t.hashes for t in self.frontier.add(self._waiting)}
        self._waiting = []
        known = {name for name in tiles if (name[1] + 1) << merkle.STEP * (name[0] + 1) <= self._stored}
        if self.misplaced is not None or not known:
            return
        found = tree.find_tiles(self._connection, sorted(known))
        for height, number in sorted(known):
            for at, made in enumerate(tiles[height, number]):
                held = found.get((height, number), ())
                if at >= len(held) or held[at] != made:
                    span = 1 << merkle.STEP * height
                    self.misplaced = (number * merkle.WIDTH + at) * span + 1
                    return


def walk(connection: Connection, signed: Mapping[int, datetime]) -> Walk:
    """Check each entry by itself and after the one before it. `signed` are the sizes of heads, and when the last of
    that size was signed: nothing that a head lacks can have been booked before it."""
    sha256, seen = hashlib.sha256, Walk(Check("chain", 0))
    grown = _Grown(connection)
    last, previous, floor = 0, rules.GENESIS, signed.get(0)
    if 0 in signed:
        seen.states[0] = (merkle.EMPTY_ROOT, previous)
    for entry in store.stream(connection):
        fields = entry.fields
        number, booked_at = fields["id"], fields["booked_at"]
        known = encoding.canonical_bytes(fields, entry.postings)
        digest = sha256(previous + known).digest()
        wrong = ""
        if number != last + 1:
            wrong = f"entry {last + 1} is missing"
        elif entry.prev_hash != previous:
            wrong = f"entry {number} is not sealed to entry {last}"
        elif not _balances(entry):
            wrong = f"entry {number} does not balance"
        elif digest != entry.hash:
            wrong = f"entry {number} was changed after it was booked"
        elif floor is not None and booked_at < floor:
            told = f"entry {number} says that it was booked at {heads.stamp(booked_at)}"
            wrong = f"{told}, but the books had a later time before it: {heads.stamp(floor)}"
        if wrong:
            seen.check = Check("chain", number, wrong, RESTORE)
            break
        if fields["policy_version"] is not None:
            seen.policies.setdefault(fields["policy_version"], number)
        grown.add(sha256(b"\x00" + known).digest())
        last, previous = number, digest
        if floor is not None:
            floor = booked_at
        if number in signed:
            grown.settle()
            seen.states[number] = (grown.frontier.root(), digest)
            floor = max(signed[number], booked_at)
    else:
        seen.check = Check("chain", last)
    grown.settle()
    seen.count, seen.misplaced = last, grown.misplaced
    return seen


def _balances(entry: rules.Sealed) -> bool:
    bare = not entry.postings and entry.fields["kind"] not in rules.MEMOS
    return not bare and sum(amount for _, amount in entry.postings) == 0
