"""One run of one connector, in the foreground or as a job: pull, derive, push."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import psycopg
import sqlalchemy.exc
import structlog

from connectors.contract import Request
from sync import pipeline, runs
from sync.ledger import heads, keys, tree
from sync.ledger import seal as sealing
from sync.ledger import witness as witnessing
from sync.pull import backfill as backfills
from sync.pull import step as pulling
from sync.pull import store as pull_store
from sync.pull import sweep as sweeping
from sync.push import rules as push_rules
from sync.push import step as pushing
from sync.push import store as push_store
from sync.store import db
from sync.workspace import Workspace

log = structlog.get_logger()
PARALLEL_CONNECTORS = 4


@dataclass
class Summary:
    """What a sync did: its runs, what the steps took, who was busy."""

    runs: list[runs.Run] = field(default_factory=list)
    steps: dict[str, int] = field(default_factory=dict)
    busy: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # of the sealing

    def add_steps(self, steps: dict[str, int]) -> None:
        for name, count in steps.items():
            self.steps[name] = self.steps.get(name, 0) + count


def pull(workspace: Workspace, name: str, *, queued_id: int | None = None, sweep: bool = False) -> runs.Run:
    """Pull one connector now, and once a day look for what its vendor deleted; with `sweep` in its whole history.

    Raises `runs.Busy` when another run of it is under way.
    """
    with (
        runs.begin(
            workspace.engine, connector=name, kind="pull", stop=workspace.stop, queued_id=queued_id
        ) as run,
        workspace.connected(name) as connected,
    ):
        _pull(workspace, run, connected.plan(), now=datetime.now(UTC), sweep=sweep)
    log.info("pulled", connector=name, status=run.status, counts=run.counts)
    return run


def _pull(workspace: Workspace, run: runs.Run, plan: pulling.Plan, *, now: datetime, sweep: bool) -> None:
    swept = [stream for stream in plan.streams if stream.swept]
    with workspace.engine.connect() as connection:
        due = swept if sweep else sweeping.due(connection, plan, now=now)
        first = [s for s in swept if not pull_store.has_heads(connection, plan.connector, s.name)]
    pulling.pull(workspace.engine, run, plan, now=now, say=workspace.say)
    if run.errors:  # what could not be read is not asked for again in the same run
        return
    with workspace.engine.begin() as connection:
        runs.check_fence(connection, run)
        for stream in first:  # just read whole
            sweeping.note(connection, run, plan, stream, now=now)
    sweeping.sweep(workspace.engine, run, plan, due, now=now, whole=sweep, say=workspace.say)


def reread(workspace: Workspace, name: str, wanted: Mapping[str, Sequence[str]]) -> runs.Run:
    """Read named records of one connector again: ids by stream. Raises `runs.Busy` as `pull` does."""
    with (
        runs.begin(workspace.engine, connector=name, kind="reread", stop=workspace.stop) as run,
        workspace.connected(name) as connected,
    ):
        plan = connected.plan()
        for stream in plan.streams:
            if wanted.get(stream.name):
                ids = wanted[stream.name]
                pulling.read_named(workspace.engine, run, plan, stream, ids, say=workspace.say)
    log.info("read_again", connector=name, status=run.status, counts=run.counts)
    return run


def derive(workspace: Workspace) -> dict[str, int]:
    """Bring persons, stages, credits, journal and outbox up to date with what was pulled."""
    try:
        steps = _derive(workspace, workspace.engine)
    except Exception as error:
        runs.note_derivation(workspace.engine, error)
        raise
    runs.note_derivation(workspace.engine, None)
    log.info("derived", **steps)
    return steps


def _derive(workspace: Workspace, database: db.Database) -> dict[str, int]:
    steps = pipeline.derive(database, workspace.rules, say=workspace.say)
    steps["preparing"] = pushing.prepare(database, workspace.rules.push, currency=workspace.rules.currency)
    return steps


def preview(
    workspace: Workspace, names: Sequence[str], *, refused: bool = False
) -> list[tuple[str, Request]]:
    """The calls that `derive` and then `push` would make, each with its destination's name; nothing stays of it."""
    planned: list[tuple[str, Request]] = []
    with ExitStack() as stack:
        destinations = {n: stack.enter_context(workspace.connected(n)).destination() for n in names}
        with db.rehearsal(workspace.engine) as database:
            _derive(workspace, database)
            if refused:
                with database.begin() as connection:
                    for name in names:
                        push_store.retry_refused(connection, name)
            batches = {
                name: list(pushing.batches(database, name, size=destination.batch_size))
                for name, destination in destinations.items()
            }
        for name, destination in destinations.items():
            fields = push_rules.written(workspace.rules.push, name)
            planned += [(name, r) for r in pushing.preview(batches[name], destination, fields=fields)]
    return planned


def push(workspace: Workspace, name: str, *, queued_id: int | None = None) -> runs.Run:
    """Send what is pending for one destination now. Raises `runs.Busy` as `pull` does."""
    with (
        runs.begin(
            workspace.engine, connector=name, kind="push", stop=workspace.stop, queued_id=queued_id
        ) as run,
        workspace.connected(name) as connected,
    ):
        pushing.send(
            workspace.engine,
            run,
            name,
            connected.destination(),
            fields=push_rules.written(workspace.rules.push, name),
            say=workspace.say,
        )
    log.info("pushed", connector=name, status=run.status, counts=run.counts)
    return run


def destinations(workspace: Workspace) -> list[str]:
    return list(dict.fromkeys(rule.destination for rule in workspace.rules.push))


def sync(workspace: Workspace, names: Sequence[str], *, pushes: bool = True, sweep: bool = False) -> Summary:
    """Pull the named connectors side by side, derive, and push to the destinations among them (or to all,
    when all are named). `sweep` looks in the whole history for what vendors deleted."""
    summary = Summary()
    sources = [n for n in names if workspace.declared(n).source is not None]
    _side_by_side(workspace, sources, partial(pull, sweep=sweep), summary)
    summary.add_steps(derive(workspace))
    if pushes:
        _side_by_side(workspace, [n for n in destinations(workspace) if n in names], push, summary)
    summary.problems += seal(workspace).problems
    return summary


@dataclass(frozen=True)
class Sealing:
    """The head that holds now, and what went wrong with signing or copying it, each with what to do."""

    signed: heads.Signed | None
    problems: list[str]


def seal(workspace: Workspace) -> Sealing:
    """Sign a head over what came since the last one, and copy it to the witnesses that lack it. Neither a key
    nor a witness that fails stops anybody's work: it is told, and the next sealing tries again."""
    try:
        with workspace.engine.begin() as connection:
            signed = sealing.seal(connection, workspace.signing_key(), now=datetime.now(UTC))
    except (keys.KeyProblem, tree.Damaged, heads.Unreadable) as error:
        log.error("not_sealed", error=str(error))
        return Sealing(None, [f"The books were not sealed: {error}"])
    except sqlalchemy.exc.OperationalError as error:
        if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise
        log.warning("not_sealed", error="others were writing all the time")
        return Sealing(
            None, ["The books were not sealed: others were writing all the time; the next sync seals."]
        )
    problems = witnessing.copy(workspace.engine, signed, witnesses_of(workspace)) if signed else []
    if signed:
        log.info("sealed", head=signed.head.number, entries=signed.head.size)
    return Sealing(signed, problems)


def witnesses_of(workspace: Workspace) -> list[witnessing.Witness]:
    config = workspace.config
    return [
        witnessing.of(declared, folder=config.folder, books=config.workspace.name)
        for declared in config.ledger.witness
    ]


def _side_by_side(
    workspace: Workspace,
    names: Sequence[str],
    work: Callable[[Workspace, str], runs.Run],
    summary: Summary,
) -> None:
    """Run `work` for each name in threads; Ctrl-C asks all of them to stop, and waits until they have."""
    if not names:
        return
    with ThreadPoolExecutor(max_workers=min(PARALLEL_CONNECTORS, len(names))) as pool:
        jobs = {name: pool.submit(copy_context().run, work, workspace, name) for name in names}
        try:
            for name, job in jobs.items():
                try:
                    summary.runs.append(job.result())
                except runs.Busy:
                    summary.busy.append(name)
        except BaseException:
            workspace.stop.set()
            raise


def backfill(
    workspace: Workspace, name: str, *, since: datetime, until: datetime, streams: Sequence[str], again: bool
) -> tuple[runs.Run, int, int]:
    """Read a range again in slices; returns the run, how many slices are done, and how many there are."""
    slices: list[backfills.Slice] = []
    done = 0
    with (
        runs.begin(workspace.engine, connector=name, kind="backfill", stop=workspace.stop) as run,
        workspace.connected(name) as connected,
    ):
        plan = connected.plan()
        chosen = [s for s in plan.streams if not streams or s.name in streams]
        with workspace.engine.begin() as connection:
            slices = backfills.plan(connection, name, chosen, since=since, until=until, again=again)
        done = backfills.run_slices(workspace.engine, run, plan, slices, say=workspace.say)
    return run, done, len(slices)


def retry_quarantine(
    workspace: Workspace, chosen: Mapping[str, Mapping[str, Sequence[str]]]
) -> tuple[list[runs.Run], int]:
    """Map what was set aside again (by connector and stream, raw ids); returns the runs, and how many records
    they set aside again."""
    done: list[runs.Run] = []
    still = 0
    for name, by_stream in chosen.items():
        with (
            runs.begin(workspace.engine, connector=name, kind="retry", stop=workspace.stop) as run,
            workspace.connected(name) as connected,
        ):
            done.append(run)
            plan = connected.plan()
            for stream, raw_ids in by_stream.items():
                still += pulling.remap(workspace.engine, run, plan, stream, say=workspace.say, only=raw_ids)
    return done, still
