"""What reports and closes cost: as of a time beside as of now, and one month in a short and in a long history."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from datetime import UTC, date, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from sync.bench import booking, history, measure
from sync.bench.attributing import POLICY
from sync.bench.place import Place
from sync.ledger import closing, step
from sync.report import known
from sync.report.campaigns import campaigns
from sync.report.funnel import funnel
from sync.report.period import EVER, Period
from sync.store import db

ENTRIES, PERSONS, VERSIONS = 200_000, 100_000, 3
REPORT_ROUNDS = 7  # each is a matter of a second: one alone says little
MONTH = Period(date(2022, 1, 1), date(2022, 2, 1))
LATER = datetime(2030, 1, 1, tzinfo=UTC)
# Each person was known at three times; the last of them is how it stands.
_LOG = """
    INSERT INTO journey_log (person_id, known_at, stage, campaign, lead_at, mql_at, sql_at, won_at)
    SELECT 'p_p' || n, timestamptz '2022-01-01' + v * interval '1 day', 'lead', 'ads:c' || n % 40,
           timestamptz '2022-01-01' + n * interval '3 minutes', now(), CASE WHEN v > 1 THEN now() END,
           CASE WHEN v > 2 AND n % 10 = 0 THEN now() END
      FROM generate_series(1::bigint, :persons) AS n, generate_series(1, :versions) AS v
"""
_JOURNEYS = """
    INSERT INTO journeys
    SELECT person_id, stage, campaign, lead_at, mql_at, sql_at, won_at, rejected_at, rejected_reason, lost_at,
           recycled_at
      FROM journey_log WHERE known_at = timestamptz '2022-01-01' + :versions * interval '1 day'
"""


def results(place: Place) -> Iterator[measure.Result]:
    entries = place.size(ENTRIES)
    place.say(f"reports of {entries:,} entries")
    with place.database() as engine:
        _books(engine, entries, place)
        yield measure.contest(
            f"reports as of a time, {entries:,} entries",
            goal=2.0,
            floor=lambda: _reports(engine, None),
            ours=lambda: _reports(engine, LATER),
            rounds=REPORT_ROUNDS,
            against="the same reports as of now",
        )
        long = _closes(engine)
    short = entries // 10
    with place.database() as engine:
        _books(engine, short, place)
        yield measure.compared(
            f"the figures of a month for its close, {entries:,} entries",
            goal=1.25,
            whole_s=_closes(engine),
            ours_s=long,
            against=f"the same month among {short:,} entries",
        )


def _books(engine: Engine, entries: int, place: Place) -> None:
    booking.credited(engine, entries, place)
    history.until_nothing(engine, lambda c: step.book(c, POLICY, zone=booking.ZONE, now=booking.NOW))
    persons = {"persons": place.size(PERSONS), "versions": VERSIONS}
    with engine.begin() as connection:
        connection.execute(sa.text(_LOG), persons)
        connection.execute(sa.text(_JOURNEYS), {"versions": VERSIONS})
        db.analyze(connection, ("entries", "postings", "journeys", "journey_log"))


def _reports(engine: Engine, as_of: datetime | None) -> float:
    def report() -> None:
        with known.snapshot(engine) as connection:
            campaigns(connection, EVER, booking.ZONE, "PLN", as_of=as_of)
            funnel(connection, EVER, booking.ZONE, as_of=as_of)

    return measure.timed(report)


def _closes(engine: Engine) -> float:
    def figures() -> None:
        with engine.connect() as connection:
            closing.figures(connection, since=MONTH.since, until=MONTH.until)

    return statistics.median(measure.timed(figures) for _ in range(REPORT_ROUNDS))
