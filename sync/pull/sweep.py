"""The sweep: what a vendor deleted for good, and says nothing of, is found by its absence and taken back.

Ids only are listed, and compared in the database with what is held. Absence alone proves nothing: the source must
have read the whole list by the vendor's own count, and each record that it lacks is asked for by itself before it
is taken back. The vendor's answer to that is the evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.engine import Connection, Engine

from connectors.contract import Cursor, Held, RawRecord, Stream, Sweepable
from connectors.errors import ConnectorError
from sync import runs
from sync.pull import rules, step, store

log = structlog.get_logger()

EVERY = timedelta(days=1)
BACK = timedelta(days=90)
"""How far back the daily sweep looks; an operator's own looks at all."""
ASKED_MAX = 500
"""Records asked for one by one in a sweep; the next one goes on."""
TAKEN_AT_ONCE = 100
FEW = 20
"""Up to so many may be missing whatever their share; beyond, half of what is held is no deletion but another shop."""


def _name(stream: Stream) -> str:
    """Where the time of the last sweep is kept, beside the cursors of the streams."""
    return f"{stream.name} (sweep)"


def due(connection: Connection, plan: step.Plan, *, now: datetime) -> list[Stream]:
    """The streams of which something is held and whose last whole sweep is a day old, or lies ahead."""
    found = []
    for stream in plan.streams:
        if stream.swept and store.has_heads(connection, plan.connector, stream.name):
            last, _ = store.read_cursor(connection, plan.connector, _name(stream))
            if last is None or last.at is None or not now - EVERY < last.at <= now:
                found.append(stream)
    return found


def sweep(
    engine: Engine,
    run: runs.Run,
    plan: step.Plan,
    streams: Sequence[Stream],
    *,
    now: datetime,
    whole: bool,
    say: step.Say,
) -> None:
    """Take back what the vendor deleted of these streams, of the last `BACK` or of the whole history.

    A stream that cannot be swept is noted in `run.errors` and does not stop the others; nothing of it is taken
    back but what the vendor denied by itself.
    """
    for stream in streams:
        since = plan.start if whole else max(plan.start, now - BACK)
        try:
            _sweep(engine, run, plan, stream, since=since, now=now, say=say)
        except ConnectorError as error:
            run.errors.append((f"sweep of {stream.name}: {error.message}", error.hint))
            log.error(
                "sweep_failed", stream=stream.name, kind=error.kind, error=error.message, todo=error.hint
            )


def _sweep(
    engine: Engine,
    run: runs.Run,
    plan: step.Plan,
    stream: Stream,
    *,
    since: datetime,
    now: datetime,
    say: step.Say,
) -> None:
    source = plan.source
    if not isinstance(source, Sweepable):
        raise ConnectorError(
            "config", f"its source lists no ids of {stream.name}", hint="Its author declared it."
        )
    complete = False
    with store.listing(engine) as listed:
        for page in source.ids(stream.name, since, now):
            run.go_on()
            store.list_ids(listed, page.ids)
            complete = page.complete
        if not complete:
            log.warning("sweep_unproven", stream=stream.name)
            return
        held, absent, ids = store.missing(
            listed, connector=plan.connector, stream=stream.name, since=since, until=now, limit=ASKED_MAX
        )
    if absent > FEW and absent > held / 2:
        run.problems.append(
            f"sweep of {stream.name}: the vendor lists none of {absent} of {held} records; so many are hardly"
            " deleted, and nothing was taken back. Is it still the same shop?"
        )
        return
    for first in range(0, len(ids), TAKEN_AT_ONCE):
        denied = _denied(engine, run, plan, source, stream, ids[first : first + TAKEN_AT_ONCE])
        _take_back(engine, run, plan, stream, denied)
    say(f"{plan.connector}: {stream.name} swept")
    if absent <= ASKED_MAX:
        with engine.begin() as connection:
            note(connection, run, plan, stream, now=now)


def _denied(
    engine: Engine, run: runs.Run, plan: step.Plan, source: Sweepable, stream: Stream, ids: Sequence[str]
) -> list[RawRecord]:
    """Of records that are not listed: those of which the vendor says that it does not have them."""
    with engine.connect() as connection:
        rows = store.read_bodies(
            connection, connector=plan.connector, stream=stream.name, after="", limit=len(ids), only=ids
        )
    found = []
    for row in rows:
        run.go_on()
        record = source.gone(stream.name, Held(row.external_id, bytes(row.body), row.context))
        if record is not None:
            found.append(record)
    return found


def _take_back(
    engine: Engine, run: runs.Run, plan: step.Plan, stream: Stream, records: Sequence[RawRecord]
) -> None:
    if not records:
        return
    with engine.begin() as connection:
        runs.check_fence(connection, run)
        step.withdraw(connection, run, plan, stream.name, rules.latest(records), fetched_at=datetime.now(UTC))
    run.count(stream.name, {"withdrawn": len(records)})
    log.info("swept", stream=stream.name, withdrawn=len(records))


def note(connection: Connection, run: runs.Run, plan: step.Plan, stream: Stream, *, now: datetime) -> None:
    """Remember that what is held of the stream was compared with the vendor at `now`."""
    store.write_cursor(
        connection,
        connector=plan.connector,
        stream=_name(stream),
        cursor=Cursor(at=now),
        mapped_with="",
        run_id=run.id,
    )
