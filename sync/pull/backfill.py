"""A backfill: a range read again in slices, resumable, beside the live cursor, which it never moves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection, Engine

from connectors.contract import Stream, Window
from sync import runs
from sync.pull import rules, step
from sync.store.tables import backfill_slices

SLICE_DAYS = 30


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice of one stream; done slices are skipped when the same backfill is asked for again."""

    stream: str
    since: datetime
    until: datetime
    done: bool


def plan(
    connection: Connection,
    connector: str,
    streams: list[Stream],
    *,
    since: datetime,
    until: datetime,
    again: bool,
) -> list[Slice]:
    """Store (at first) and read the slices of a backfill; `again` makes all of them undone."""
    rows = [
        {"connector": connector, "stream": stream.name, "since": start, "until": end}
        for stream in streams
        for start, end in rules.slices(since, until, days=SLICE_DAYS)
    ]
    insert = postgresql.insert(backfill_slices).values(rows)
    if again:
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["connector", "stream", "since", "until"],
                set_={"done_at": None, "run_id": None},
            )
        )
    else:
        connection.execute(insert.on_conflict_do_nothing())
    found = connection.execute(
        sa.select(backfill_slices)
        .where(
            backfill_slices.c.connector == connector,
            sa.tuple_(backfill_slices.c.stream, backfill_slices.c.since, backfill_slices.c.until).in_(
                [(row["stream"], row["since"], row["until"]) for row in rows]
            ),
        )
        .order_by(backfill_slices.c.since, backfill_slices.c.stream)
    )
    return [Slice(r.stream, r.since, r.until, r.done_at is not None) for r in found]


def run_slices(
    engine: Engine, run: runs.Run, pull_plan: step.Plan, slices: list[Slice], *, say: step.Say
) -> int:
    """Read every slice that is not done yet, oldest first; returns how many are done now."""
    streams = {stream.name: stream for stream in pull_plan.streams}
    done = sum(item.done for item in slices)
    for item in slices:
        if item.done:
            continue
        run.go_on()
        window = Window(since=item.since, until=item.until)
        if not step.read(engine, run, pull_plan, streams[item.stream], window, live=False, say=say):
            continue
        with engine.begin() as connection:
            runs.check_fence(connection, run)
            connection.execute(
                sa.update(backfill_slices)
                .where(
                    backfill_slices.c.connector == pull_plan.connector,
                    backfill_slices.c.stream == item.stream,
                    backfill_slices.c.since == item.since,
                    backfill_slices.c.until == item.until,
                )
                .values(done_at=sa.func.now(), run_id=run.id)
            )
        done += 1
        say(f"{pull_plan.connector}: slice {done} of {len(slices)}")
    return done
