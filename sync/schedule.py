"""Scheduling: our own schedule rows in the workspace's time zone, jobs by Procrastinate on the same database.

A tick finds what is due, writes its run row (unique by connector and due time, so that no number of workers
starts it twice) and defers its job in the same transaction. Retries are the next tick's, never the queue's.
A database that goes away is waited for.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal
from zoneinfo import ZoneInfo

import procrastinate
import sqlalchemy as sa
import structlog
from croniter import croniter
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection, Engine

from sync import process, work
from sync import runs as running
from sync.store import outage
from sync.store.embedded import Embedded
from sync.store.tables import runs, schedules
from sync.workspace import Workspace

log = structlog.get_logger()

CatchUp = Literal["one", "all", "none"]
TICK_S = 10
GRACE = timedelta(minutes=2)  # how late a due time may be and still count as being on time
CATCH_UP_MAX = 100
QUEUE = "leadledger"
TASK = "run_connector"
LOOK_AGAIN_S = 2.0  # for a database that was away
POOL_TIMEOUT_S = 15.0  # less than a stop may take


def next_due(cron: str, zone: ZoneInfo, after: datetime) -> datetime:
    """The first time of `cron` after `after`, in UTC.

    Cron means the clock on the wall in `zone`: an hour that a clock change leaves out is run at the first
    instant after the gap, one that it repeats is run once.
    """
    times = croniter(cron, _wall(after, zone))
    while True:
        at = _instant(times.get_next(datetime), zone)
        if at > after:
            return at


def _latest_due(cron: str, zone: ZoneInfo, *, first: datetime, now: datetime, most: int) -> list[datetime]:
    """The latest due times from `first` to `now`, at most `most`, oldest first; found backwards from `now`, so
    that a year's pause costs no more than a day's."""
    found: set[datetime] = {first} if most > 0 else set()
    times = croniter(cron, _wall(now, zone) + timedelta(hours=3))
    while len(found) <= most:
        at = _instant(times.get_prev(datetime), zone)
        if at < first:
            break
        if at <= now:
            found.add(at)
    return sorted(found)[-most:]


def _wall(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None)


def _instant(local: datetime, zone: ZoneInfo) -> datetime:
    """When the clock on the wall shows `local`: the first time if twice, just after the gap if never."""
    at = local.replace(tzinfo=zone).astimezone(UTC)
    return at if _wall(at, zone) == local else _end_of_gap(local, zone)


def _end_of_gap(local: datetime, zone: ZoneInfo) -> datetime:
    """The first instant after the gap in which `local` lies, a time that no clock on the wall shows."""
    # Read by the offset after the change it lies before it, by the offset before the change after it.
    low = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    high = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        if middle.astimezone(zone).replace(tzinfo=None) < local:
            low = middle
        else:
            high = middle
    return high


def due_times(
    cron: str, zone: ZoneInfo, *, first: datetime, now: datetime, catch_up: CatchUp
) -> tuple[list[datetime], datetime]:
    """The due times from `first` to `now` that are to be run, and the next one after.

    `one` makes up what was missed by a single run of the latest due time, `all` by one run each (the latest
    hundred), `none` runs only what is due by now within two minutes.
    """
    if first > now:
        return [], first
    most = CATCH_UP_MAX if catch_up == "all" else 1
    missed = _latest_due(cron, zone, first=first, now=now, most=most)
    if catch_up == "none":
        missed = [due for due in missed if now - due <= GRACE]
    return missed, next_due(cron, zone, now)


def store_schedules(connection: Connection, workspace: Workspace, *, now: datetime) -> None:
    """Make the schedule rows those of the config. A changed cron, zone or connector starts from now."""
    wanted = {c.name: c for c in workspace.config.connectors if c.schedule}
    zone = workspace.zone
    connection.execute(
        sa.delete(schedules).where(
            schedules.c.connector != sa.all_(sa.cast(list(wanted), postgresql.ARRAY(sa.Text)))
        )
    )
    for name, connector in wanted.items():
        cron = connector.schedule
        assert cron is not None
        insert = postgresql.insert(schedules).values(
            connector=name,
            cron=cron,
            timezone=zone.key,
            catch_up=connector.catch_up,
            next_due_at=next_due(cron, zone, now),
        )
        moved = sa.or_(
            schedules.c.cron != insert.excluded.cron, schedules.c.timezone != insert.excluded.timezone
        )
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["connector"],
                set_={
                    "cron": insert.excluded.cron,
                    "timezone": insert.excluded.timezone,
                    "catch_up": insert.excluded.catch_up,
                    "next_due_at": sa.case(
                        (moved, insert.excluded.next_due_at), else_=schedules.c.next_due_at
                    ),
                },
            )
        )


def queue() -> procrastinate.App:
    """Procrastinate as jobs are deferred to it: over a connection of ours, in our own transaction.

    It is never opened and works no jobs off; the worker's app cannot defer over such a connection.
    """
    return procrastinate.App(connector=procrastinate.SyncPsycopgConnector())


def tick(engine: Engine, *, now: datetime) -> list[tuple[str, datetime]]:
    """Queue what is due; returns (connector, due time) of each run that this tick queued."""
    queued: list[tuple[str, datetime]] = []
    jobs = queue()
    with engine.begin() as connection:
        for row in connection.execute(sa.select(schedules).with_for_update(skip_locked=True)).all():
            zone = ZoneInfo(row.timezone)
            # A clock that was ahead for a while must not leave the schedule waiting until it is right.
            first = min(row.next_due_at, next_due(row.cron, zone, now))
            times, upcoming = due_times(row.cron, zone, first=first, now=now, catch_up=row.catch_up)
            if upcoming == row.next_due_at:
                continue
            for at in times:
                if _queue(connection, jobs, row.connector, at):
                    queued.append((row.connector, at))
            connection.execute(
                sa.update(schedules)
                .where(schedules.c.connector == row.connector)
                .values(next_due_at=upcoming)
            )
    return queued


def _queue(connection: Connection, jobs: procrastinate.App, connector: str, due_at: datetime) -> bool:
    run_id = connection.execute(
        postgresql.insert(runs)
        .values(
            connector=connector,
            kind="sync",
            due_at=due_at,
            status="queued",
            fence=sa.func.gen_random_uuid(),
            waits_for="a free worker",
        )
        .on_conflict_do_nothing()
        .returning(runs.c.id)
    ).scalar()
    if run_id is None:
        return False
    jobs.configure_task(TASK, queue=QUEUE, connection=connection.connection.driver_connection).defer(
        run_id=run_id
    )
    return True


def make_app(url: str, work_on: Callable[[int], None]) -> procrastinate.App:
    """Procrastinate over `url`, with the one task that runs a queued run; it gets ids only."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, timeout=POOL_TIMEOUT_S))

    @app.task(name=TASK, queue=QUEUE)
    def run_connector(run_id: int) -> None:
        work_on(run_id)

    return app


def run_queued(workspace: Workspace, run_id: int) -> None:
    """Do a queued run: pull and derive for a source, push for a destination. Never raises for a run that
    failed: its row says so, and the next tick tries again."""
    with workspace.engine.connect() as connection:
        row = connection.execute(
            sa.select(runs.c.connector, runs.c.status).where(runs.c.id == run_id)
        ).first()
    if row is None or row.status != "queued":
        return
    name = row.connector
    try:
        declared = workspace.declared(name)
        if declared.source is not None:
            work.pull(workspace, name, queued_id=run_id)
            run_id_of_push = None
        else:
            run_id_of_push = run_id
        work.derive(workspace)
        for destination in work.destinations(workspace):
            if destination == name:
                work.push(workspace, destination, queued_id=run_id_of_push)
        work.seal(workspace)
    except running.Busy:
        _give_up(workspace.engine, run_id, name)
    except running.Stopped:
        log.info("job_stopped", connector=name)
    except Exception as error:
        log.exception("job_failed", connector=name, error=outage.told(error))


def _give_up(engine: Engine, run_id: int, connector: str) -> None:
    """A due time that comes while the connector is still being run is covered by that run."""
    with engine.begin() as connection:
        connection.execute(
            sa.update(runs)
            .where(runs.c.id == run_id, runs.c.status == "queued")
            .values(
                status="abandoned",
                finished_at=sa.func.now(),
                waits_for=None,
                error=f"{connector} was still being run at its due time",
                hint="Nothing to do; if it happens often, schedule it less often.",
            )
        )


async def _schedule(workspace: Workspace) -> None:
    """Tick until the workspace is stopped."""
    await asyncio.to_thread(_store_schedules_now, workspace)
    while not workspace.stop.is_set():
        queued = await asyncio.to_thread(tick, workspace.engine, now=datetime.now(UTC))
        for connector, at in queued:
            log.info("queued", connector=connector, due_at=at.isoformat())
        await asyncio.to_thread(workspace.stop.wait, TICK_S)


def _store_schedules_now(workspace: Workspace) -> None:
    with workspace.engine.begin() as connection:
        store_schedules(connection, workspace, now=datetime.now(UTC))


async def _work(workspace: Workspace, *, workers: int) -> None:
    """Work jobs off until cancelled, or until the database is away."""
    app = make_app(workspace.url, lambda run_id: run_queued(workspace, run_id))
    async with app.open_async():
        await app.run_worker_async(
            queues=[QUEUE],
            concurrency=workers,
            install_signal_handlers=False,
            shutdown_graceful_timeout=process.STOP_WITHIN_S,
            delete_jobs="always",
        )


async def _through_outages(part: Callable[[], Awaitable[None]], workspace: Workspace) -> None:
    """Begin `part` again each time that the database is back, until the workspace is stopped."""
    told = None
    while not workspace.stop.is_set():
        try:
            await asyncio.to_thread(_revive, workspace)
            await part()
        except Exception as error:
            if not outage.is_outage(error):
                raise
            if told != outage.told(error):
                told = outage.told(error)
                log.error("database_away", error=told, todo="It is waited for.")
        await asyncio.to_thread(workspace.stop.wait, LOOK_AGAIN_S)


def _revive(workspace: Workspace) -> None:
    """Start an embedded database that is gone; that this process uses it keeps it running after this."""
    if workspace.config.database == "embedded":
        with Embedded(workspace.config.data_folder, say=workspace.say):
            return


async def _serve(workspace: Workspace, *, scheduler: bool, workers: int, say: Callable[[str], None]) -> None:
    stop = workspace.stop
    loop = asyncio.get_running_loop()

    def leave() -> None:
        stop.set()
        process.leave_soon(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, leave)
    parts = [partial(_work, workspace, workers=workers), *([partial(_schedule, workspace)] * scheduler)]
    tasks = [asyncio.create_task(_through_outages(part, workspace)) for part in parts]
    halted = asyncio.create_task(asyncio.to_thread(stop.wait), name="stop")
    say("up: press Ctrl-C to stop")
    done, _ = await asyncio.wait([halted, *tasks], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    tasks[0].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for task, result in zip(tasks, results, strict=True):
        if task in done and isinstance(result, Exception):
            raise result


def serve(workspace: Workspace, *, scheduler: bool, workers: int, say: Callable[[str], None]) -> None:
    """Work off jobs, and with `scheduler` make them, until SIGINT or SIGTERM; what runs stops between two
    transactions, and what still hangs after a while is left. A database that goes away is waited for; an
    embedded one is started again. Raises what else ended the worker or the scheduler, so that a supervisor
    may start it again."""
    asyncio.run(_serve(workspace, scheduler=scheduler, workers=workers, say=say))
