"""Where a sync can be struck: before and after each statement, commit and call, counted by phase of the work."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import httpx
import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

Phase = Literal["pull", "book", "push"]
Fault = Literal["process", "backend", "server"]

BOOKED = frozenset(
    {
        *("pending", "sightings", "members", "ignored_keys", "person_events", "stage_events", "journeys"),
        *("attributions", "credits", "entries", "postings", "policies", "seals", "seal_tiles", "seal_copies"),
    }
)
PUSHED = frozenset({"outbox", "deliveries"})
_TABLE = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(\w+)")
_WRITES = re.compile(r"/batch/(upsert|update|create)$|/properties")


class Point(msgspec.Struct, frozen=True):
    """At the `nth` event of a phase (the first is 1) the fault strikes."""

    phase: Phase
    nth: int
    fault: Fault


class Watch:
    """Counts what a sync does, and strikes once."""

    def __init__(self, engine: Engine, point: Point | None) -> None:
        self.counts: Counter[str] = Counter()
        self.struck = False
        self._point = point
        self._lock = Lock()
        self._postmaster = _postmaster(engine)
        self._listen(engine)
        self._overhear()

    def _listen(self, engine: Engine) -> None:
        @sa.event.listens_for(engine, "before_cursor_execute")
        def before(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
            connection.info["phase"] = phase = phase_of(statement)
            self._reached(phase)

        @sa.event.listens_for(engine, "after_cursor_execute")
        def after(connection: Connection, *_: Any) -> None:
            self._reached(connection.info["phase"])

        @sa.event.listens_for(engine, "commit")
        def commit(connection: Connection) -> None:
            self._reached(connection.info.get("phase", "pull"))

    def _overhear(self) -> None:
        """Count calls too. This process is a child that makes one sync: nothing has to be put back."""
        send = httpx.HTTPTransport.handle_request

        def handle_request(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
            phase: Phase = "push" if request.method != "GET" and _WRITES.search(request.url.path) else "pull"
            self._reached(phase)
            response = send(transport, request)
            self._reached(phase)
            return response

        httpx.HTTPTransport.handle_request = handle_request  # type: ignore[method-assign]

    def _reached(self, phase: Phase) -> None:
        with self._lock:
            self.counts[phase] += 1
            point = self._point
            if point and not self.struck and (phase, self.counts[phase]) == (point.phase, point.nth):
                self.struck = True
                self._strike(point.fault)

    def _strike(self, fault: Fault) -> None:
        match fault:
            case "process":
                os.kill(os.getpid(), signal.SIGKILL)
            case "backend":
                os.kill(_backends(self._postmaster)[0], signal.SIGKILL)
            case "server":
                os.kill(self._postmaster, signal.SIGKILL)


def phase_of(statement: str) -> Phase:
    """By the first table that the statement names of those that one phase alone works on."""
    for table in _TABLE.findall(statement):
        if table in PUSHED:
            return "push"
        if table in BOOKED:
            return "book"
    return "pull"


def _postmaster(engine: Engine) -> int:
    """The server's main process: the parent of a backend that serves us."""
    with engine.connect() as connection:
        backend: int = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
    return parent_of(backend)


def _backends(postmaster: int) -> list[int]:
    """The server's processes that serve clients."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and parent_of(int(folder.name)) == postmaster:
                title = (folder / "cmdline").read_bytes()
                if title.startswith(b"postgres: leadledger leadledger"):
                    found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
    return sorted(found)


def parent_of(pid: int) -> int:
    """The process that a process was started by."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return int(after_name.split()[1])
