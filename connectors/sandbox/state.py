"""What the sandbox's vendors hold: JSON documents in one SQLite file, shared by the server and `change`.

A document has a vendor, a kind, an id, perhaps a parent, the time it was made (`at`) and last changed
(`changed`), both Unix seconds in UTC. Everything else is in its body.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

_SCHEMA = """
CREATE TABLE IF NOT EXISTS docs (
    vendor TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, parent TEXT NOT NULL DEFAULT '',
    at REAL NOT NULL, changed REAL NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (vendor, kind, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS docs_number ON docs (vendor, kind, number);
CREATE INDEX IF NOT EXISTS docs_changed ON docs (vendor, kind, changed, number);
CREATE INDEX IF NOT EXISTS docs_at ON docs (vendor, kind, at, number);
CREATE INDEX IF NOT EXISTS docs_parent ON docs (vendor, kind, parent, number);
CREATE TABLE IF NOT EXISTS writes (
    number INTEGER PRIMARY KEY AUTOINCREMENT, vendor TEXT NOT NULL, id TEXT NOT NULL,
    at REAL NOT NULL, sent TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS faults (
    number INTEGER PRIMARY KEY AUTOINCREMENT, vendor TEXT NOT NULL, path TEXT NOT NULL,
    status INTEGER NOT NULL, headers TEXT NOT NULL, body TEXT NOT NULL, remaining INTEGER NOT NULL
);
"""
Order = Literal["at", "changed", "number"]


@dataclass(frozen=True, slots=True)
class Doc:
    """One document. `number` orders documents of a kind (by default the id, where it is a number)."""

    id: str
    body: dict[str, Any]
    at: float
    changed: float
    parent: str = ""
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """An answer that a vendor gives `remaining` times in place of its own."""

    vendor: str
    path: str
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    remaining: int = 1


class State:
    """The file; one connection a thread, so that the server's threads may use it side by side."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.writing() as db:
            db.executescript(_SCHEMA)

    @property
    def _db(self) -> sqlite3.Connection:
        if not hasattr(self._local, "db"):
            db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            self._local.db = db
        connection: sqlite3.Connection = self._local.db
        return connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction that holds the file's write lock from its begin."""
        db = self._db
        if db.in_transaction:
            yield db
            return
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
        except BaseException:
            db.rollback()
            raise
        if db.in_transaction:
            db.commit()

    def put(self, vendor: str, kind: str, docs: Iterable[Doc]) -> None:
        """Insert or replace documents."""
        rows = (
            (
                vendor,
                kind,
                d.id,
                d.parent,
                d.at,
                d.changed,
                d.number if d.number is not None else _number(d.id),
                json.dumps(d.body, ensure_ascii=False, separators=(",", ":")),
            )
            for d in docs
        )
        with self.writing() as db:
            db.executemany(
                "INSERT INTO docs (vendor, kind, id, parent, at, changed, number, body)"
                " VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (vendor, kind, id) DO UPDATE SET parent=excluded.parent,"
                " at=excluded.at, changed=excluded.changed, number=excluded.number, body=excluded.body",
                rows,
            )

    def get(self, vendor: str, kind: str, id: str) -> Doc | None:
        row = self._db.execute(
            "SELECT id, body, at, changed, parent, number FROM docs WHERE vendor=? AND kind=? AND id=?",
            (vendor, kind, id),
        ).fetchone()
        return _doc(row) if row else None

    def get_many(self, vendor: str, kind: str, ids: Sequence[str]) -> dict[str, Doc]:
        rows = self._db.execute(
            "SELECT id, body, at, changed, parent, number FROM docs WHERE vendor=? AND kind=?"
            " AND id IN (SELECT value FROM json_each(?))",
            (vendor, kind, json.dumps(list(ids))),
        )
        return {row[0]: _doc(row) for row in rows}

    def select(
        self,
        vendor: str,
        kind: str,
        *,
        parent: str | None = None,
        changed_from: float | None = None,
        changed_to: float | None = None,
        at_from: float | None = None,
        at_to: float | None = None,
        after_number: int | None = None,
        order: Order = "number",
        descending: bool = False,
        limit: int = -1,
        offset: int = 0,
    ) -> tuple[list[Doc], int]:
        """Documents within the closed ranges, and how many there are without `limit` and `offset`.

        Exclusive bounds are the caller's matter (add a microsecond); `after_number` is exclusive.
        """
        where, values = ["vendor=?", "kind=?"], [vendor, kind]
        for clause, value in (
            ("parent=?", parent),
            ("changed>=?", changed_from),
            ("changed<=?", changed_to),
            ("at>=?", at_from),
            ("at<=?", at_to),
            ("number>?", after_number),
        ):
            if value is not None:
                where.append(clause)
                values.append(value)  # type: ignore[arg-type]
        filters = " AND ".join(where)
        direction = "DESC" if descending else "ASC"
        by = f"{order} {direction}, number {direction}, id {direction}"
        outer = f"d.{order} {direction}, d.number {direction}, d.id {direction}"
        total = self._db.execute(f"SELECT count(*) FROM docs WHERE {filters}", values).fetchone()[0]  # noqa: S608
        rows = self._db.execute(
            # The page is found over an index alone; only its own bodies are read.
            "SELECT d.id, d.body, d.at, d.changed, d.parent, d.number FROM docs d JOIN"  # noqa: S608
            f" (SELECT id FROM docs WHERE {filters} ORDER BY {by} LIMIT ? OFFSET ?) page ON page.id = d.id"
            f" WHERE d.vendor=? AND d.kind=? ORDER BY {outer}",
            [*values, limit, offset, vendor, kind],
        )
        return [_doc(row) for row in rows], total

    def delete(self, vendor: str, kind: str, id: str) -> None:
        with self.writing() as db:
            db.execute("DELETE FROM docs WHERE vendor=? AND kind=? AND id=?", (vendor, kind, id))

    def next_number(self, vendor: str, kind: str) -> int:
        """One more than the highest number of a kind."""
        row = self._db.execute("SELECT max(number) FROM docs WHERE vendor=? AND kind=?", (vendor, kind))
        return int(row.fetchone()[0] or 0) + 1

    def note_write(self, vendor: str, id: str, *, at: float, sent: dict[str, Any]) -> None:
        """Remember what a client wrote, so that a test can ask."""
        with self.writing() as db:
            db.execute(
                "INSERT INTO writes (vendor, id, at, sent) VALUES (?,?,?,?)",
                (vendor, id, at, json.dumps(sent)),
            )

    def writes(self, vendor: str) -> list[tuple[str, dict[str, Any]]]:
        """(id, sent) of every accepted write, oldest first."""
        rows = self._db.execute("SELECT id, sent FROM writes WHERE vendor=? ORDER BY number", (vendor,))
        return [(row[0], json.loads(row[1])) for row in rows]

    def inject(self, fault: Fault) -> None:
        with self.writing() as db:
            db.execute(
                "INSERT INTO faults (vendor, path, status, headers, body, remaining) VALUES (?,?,?,?,?,?)",
                (
                    fault.vendor,
                    fault.path,
                    fault.status,
                    json.dumps(fault.headers),
                    fault.body,
                    fault.remaining,
                ),
            )

    def faults(self, vendor: str) -> list[tuple[int, Fault]]:
        rows = self._db.execute(
            "SELECT number, vendor, path, status, headers, body, remaining FROM faults"
            " WHERE vendor=? AND remaining > 0 ORDER BY number",
            (vendor,),
        )
        return [(r[0], Fault(r[1], r[2], r[3], json.loads(r[4]), r[5], r[6])) for r in rows]

    def use_fault(self, number: int) -> None:
        with self.writing() as db:
            db.execute("UPDATE faults SET remaining = remaining - 1 WHERE number=?", (number,))


def _number(id: str) -> int:
    return int(id) if id.isdigit() and len(id) < 19 else 0


def _doc(row: tuple[str, str, float, float, str, int]) -> Doc:
    return Doc(row[0], json.loads(row[1]), row[2], row[3], row[4], row[5])
