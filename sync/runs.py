"""Runs: one execution of one connector's pull or push, never two of one connector at a time.

The guard is the connector's advisory lock, held by a connection of the run's own for as long as it lives. A
run writes its results only while its row still carries its fence (`check_fence`, inside the transaction
that writes), so a run that was given up cannot write after its successor has begun.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection, Engine

from sync import logs
from sync.store import db, outage
from sync.store.outage import AGAIN
from sync.store.tables import runs

log = structlog.get_logger()


class Busy(Exception):
    """Another run of the connector is under way."""


class Stopped(Exception):
    """The operator or a shutdown asked the run to stop; what was committed stays."""


class Fenced(Exception):
    """The run was given up by others; it must not write any more."""


@dataclass
class Run:
    """A run under way. `counts` and `cursors` are by stream; `problems` make it partial."""

    id: int
    connector: str
    kind: str
    fence: uuid.UUID
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    cursors: dict[str, dict[str, str | None]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)  # what, what to do
    stop: Event = field(default_factory=Event, repr=False)
    guard: Lock = field(default_factory=Lock, repr=False)

    def count(self, stream: str, numbers: Mapping[str, int]) -> None:
        with self.guard:
            mine = self.counts.setdefault(stream, {})
            for name, number in numbers.items():
                mine[name] = mine.get(name, 0) + number

    def total(self, name: str) -> int:
        return sum(numbers.get(name, 0) for numbers in self.counts.values())

    def go_on(self) -> None:
        """Raise `Stopped` when the run was asked to stop; called between two transactions."""
        if self.stop.is_set():
            raise Stopped("stopped by the operator")

    @property
    def status(self) -> str:
        if self.errors:
            return "failed"
        held_back = self.total("quarantined") + self.total("refused") + self.total("retry")
        return "partial" if held_back or self.problems else "done"


def check_fence(connection: Connection, run: Run) -> None:
    """Hold the run's row until the transaction ends, or raise `Fenced` when it is no longer ours."""
    mine = connection.execute(
        sa.select(runs.c.id)
        .where(runs.c.id == run.id, runs.c.fence == run.fence, runs.c.status == "running")
        .with_for_update(read=True)
    ).first()
    if mine is None:
        raise Fenced(f"run {run.id} of {run.connector} was given up by another process; nothing was written")


def worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


@contextmanager
def begin(
    engine: Engine, *, connector: str, kind: str, stop: Event, queued_id: int | None = None
) -> Iterator[Run]:
    """Run one connector: take its lock, open (or take up) its run row, close it with what came of it.

    An exception inside makes the run a failed one, which its caller sees by `Run.status`, and ends here; only
    a stop by the operator and a lost fence go on.

    Raises `Busy` at once when another run of the connector holds the lock. Rows left ``running`` by a process
    that died are closed as ``abandoned`` by the next run that gets the lock.
    """
    with engine.connect() as guard:
        guard.execution_options(isolation_level="AUTOCOMMIT")
        if not db.try_lock_session(guard, f"connector:{connector}"):
            raise Busy(f"{connector} is being run by another process")
        try:
            run = _open(engine, connector=connector, kind=kind, queued_id=queued_id)
            run.stop = stop
            structlog.contextvars.bind_contextvars(run=run.id, connector=connector)
            try:
                yield run
            except (Stopped, Fenced) as error:
                run.errors.append((str(error), AGAIN))
                raise
            except Exception as error:
                # One connector's failure is its own: the row says so, the others go on.
                run.errors.append((outage.told(error), outage.todo(error)))
                log.error("run_failed", error=outage.told(error), exc_info=_is_ours(error))
            except BaseException:
                run.errors.append(("stopped by the operator", AGAIN))
                raise
            finally:
                _close(engine, run)
                structlog.contextvars.unbind_contextvars("run", "connector")
        finally:
            _unlock(guard, connector)


def _is_ours(error: Exception) -> bool:
    """Whether a trace helps: what the database says of itself is told in words."""
    return not isinstance(error, sa.exc.DBAPIError) and not outage.is_outage(error)


def _unlock(guard: Connection, connector: str) -> None:
    """Give the lock back. With a connection that broke it is free already."""
    try:
        db.unlock_session(guard, f"connector:{connector}")
    except sa.exc.SQLAlchemyError as error:
        log.warning("lock_lost", connector=connector, error=outage.told(error))
        guard.invalidate()


def _open(engine: Engine, *, connector: str, kind: str, queued_id: int | None) -> Run:
    fence = uuid.uuid4()
    started: dict[str, Any] = {
        "status": "running",
        "fence": fence,
        "worker": worker_name(),
        "started_at": sa.func.now(),
        "waits_for": None,
    }
    with engine.begin() as connection:
        connection.execute(
            sa.update(runs)
            .where(runs.c.connector == connector, runs.c.status == "running")
            .values(
                status="abandoned",
                finished_at=sa.func.now(),
                error=sa.literal("the process ended before the run did"),
                hint="Nothing to do: the next run goes on where this one stopped.",
            )
        )
        # Older jobs of the connector that nobody took up are covered by this run.
        connection.execute(
            sa.update(runs)
            .where(
                runs.c.connector == connector,
                runs.c.status == "queued",
                runs.c.created_at < sa.func.now() - sa.text("interval '10 minutes'"),
                runs.c.id != sa.func.coalesce(sa.cast(queued_id, sa.BigInteger), 0),
            )
            .values(
                status="abandoned",
                finished_at=sa.func.now(),
                waits_for=None,
                error="no worker took it up in time",
                hint="Nothing to do: a later run did its work.",
            )
        )
        run_id = None
        if queued_id is not None:
            run_id = connection.execute(
                sa.update(runs)
                .where(runs.c.id == queued_id, runs.c.status == "queued")
                .values(**started)
                .returning(runs.c.id)
            ).scalar()
        if run_id is None:
            run_id = connection.execute(
                sa.insert(runs).values(connector=connector, kind=kind, **started).returning(runs.c.id)
            ).scalar_one()
    return Run(id=run_id, connector=connector, kind=kind, fence=fence)


def _close(engine: Engine, run: Run) -> None:
    what = "; ".join([*(error for error, _ in run.errors), *run.problems]) or None
    todo = "; ".join(dict.fromkeys(hint for _, hint in run.errors if hint)) or None
    with engine.begin() as connection:
        connection.execute(
            sa.update(runs)
            .where(runs.c.id == run.id, runs.c.fence == run.fence, runs.c.status == "running")
            .values(
                status=run.status,
                finished_at=sa.func.now(),
                counts=run.counts,
                cursors=run.cursors,
                # An unforeseen error may quote what it stumbled over.
                error=what and logs.mask(what),
                hint=todo and logs.mask(todo),
            )
        )


LEDGER = "ledger"


def note_derivation(engine: Engine, error: Exception | None) -> None:
    """Keep a run row of the derivation when it failed, and of the first that succeeds after that.

    What follows the pulls belongs to no connector; without its row a ledger that stands still would look fine.
    """
    with engine.begin() as connection:
        last = connection.execute(
            sa.select(runs.c.status).where(runs.c.connector == LEDGER).order_by(runs.c.id.desc()).limit(1)
        ).scalar()
        if error is None and last != "failed":
            return
        connection.execute(
            sa.insert(runs).values(
                connector=LEDGER,
                kind="derive",
                status="failed" if error else "done",
                fence=uuid.uuid4(),
                worker=worker_name(),
                started_at=sa.func.now(),
                finished_at=sa.func.now(),
                error=logs.mask(outage.told(error)) if error else None,
                hint=outage.todo(error) if error else None,
            )
        )
