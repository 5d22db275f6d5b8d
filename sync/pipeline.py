"""What follows a pull, in the order of the flow: match → funnel → attribute → book.

Each step takes its work in batches; a batch is one transaction under one lock, so that any number of
processes may call this at any time and a kill between two batches loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.engine import Connection

from sync import process, rulebook
from sync.attribute import step as attribution
from sync.attribute import store as attribution_store
from sync.funnel import step as funnel
from sync.funnel import store as funnel_store
from sync.ledger import fx_store
from sync.ledger import step as ledger
from sync.match import step as matching
from sync.match import store as match_store
from sync.push import store as push_store
from sync.store import applied, db
from sync.store.tables import CANONICAL

Say = Callable[[str], None]
WOKEN_MAX = 100_000  # orders that waited for a rate, in one run; the others come in the next

# The planner gets new statistics of what was filled at once: the database's own come a minute later, and until
# then it takes the tables for empty.
CANONICAL_NAMES = tuple(table.name for table in CANONICAL.values())
MATCHED = ("sightings", "members")
STAGED = ("stage_events", "journeys")
ATTRIBUTED = ("attributions", "credits")
BOOKED = ("entries", "postings")


def derive(
    database: db.Database, rules: rulebook.Rulebook, *, say: Say, now: datetime | None = None
) -> dict[str, int]:
    """Bring persons, stages, credits and the journal up to date; returns by step how much it took."""

    def clock() -> datetime:
        return now or datetime.now(UTC)

    with database.begin() as connection:
        version = attribution_store.put_in_force(
            connection, rules.policy_body, now=clock(), config_read_at=rules.read_at
        )
        ledger.record_policies(
            connection, zone=rules.zone, now=clock(), why=rules.policy_note, author=process.user()
        )
    _note_what_rules_decide(database, rules)
    if rules.converting:
        with database.begin() as connection:
            db.lock_transaction(connection, "pipeline")
            fx_store.wake(connection, rules.converting, limit=WOKEN_MAX)
    policy = rules.policy(version)
    steps = (
        Step("matching", lambda c: matching.match(c, rules.identity), MATCHED),
        Step(
            "staging",
            lambda c: funnel.advance(c, rules.stages, paid=policy.paid_statuses, now=clock()),
            STAGED,
        ),
        Step("attributing", lambda c: attribution.attribute(c, policy), ATTRIBUTED),
        Step(
            "booking",
            lambda c: ledger.book(c, policy, zone=rules.zone, now=clock(), converting=rules.converting),
            BOOKED,
        ),
    )
    with database.begin() as connection:
        if db.has_at_least(connection, "pending", db.MANY):
            db.analyze(connection, CANONICAL_NAMES)
    done: dict[str, int] = {}
    for step in steps:
        total = 0
        while took := _batch(database, step):
            total += took
            say(f"{step.name}: {total:,}")
        done[step.name] = total
    return done


def _note_what_rules_decide(database: db.Database, rules: rulebook.Rulebook) -> None:
    """Name for its step all that identity, funnel or push rules decide, where they changed in the config."""
    note: dict[str, Callable[[Connection], object]] = {
        "identity": match_store.note_everything,
        "funnel": funnel_store.note_everybody,
        "push": push_store.note_everybody,
        "ledger": lambda c: fx_store.note_everything(c, rules.converting) if rules.converting else None,
    }
    for name, body in rules.bodies.items():
        with database.begin() as connection:
            db.lock_transaction(connection, "pipeline")
            if applied.changed(connection, name, body):
                note[name](connection)


@dataclass(frozen=True)
class Step:
    """One step of the flow: takes a batch and says how much it took; `writes` are the tables it fills."""

    name: str
    take: Callable[[Connection], int]
    writes: tuple[str, ...]


def _batch(database: db.Database, step: Step) -> int:
    with database.begin() as connection:
        db.lock_transaction(connection, "pipeline")
        took = step.take(connection)
        if took >= db.MANY:
            db.analyze(connection, step.writes)
        return took
