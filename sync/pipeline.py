"""What follows a pull, in the order of the flow: match → funnel → attribute → book.

Each step takes its work in batches; a batch is one transaction under one lock, so that any number of
processes may call this at any time and a kill between two batches loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy.engine import Connection, Engine

from sync import rulebook
from sync.attribute import step as attribution
from sync.attribute import store as attribution_store
from sync.funnel import step as funnel
from sync.ledger import step as ledger
from sync.match import step as matching
from sync.store import db

Say = Callable[[str], None]


def derive(
    engine: Engine, rules: rulebook.Rulebook, *, say: Say, now: datetime | None = None
) -> dict[str, int]:
    """Bring persons, stages, credits and the journal up to date; returns by step how much it took."""
    now = now or datetime.now(UTC)
    with engine.begin() as connection:
        version, is_new = attribution_store.current_policy(connection, rules.policy_body, now=now)
        if is_new and version > 1:
            attribution_store.note_all_orders(connection)
    policy = rules.policy(version)
    steps: dict[str, Callable[[Connection], int]] = {
        "matching": lambda c: matching.match(c, rules.identity),
        "staging": lambda c: funnel.advance(c, rules.stages, paid=policy.paid_statuses),
        "attributing": lambda c: attribution.attribute(c, policy),
        "booking": lambda c: ledger.book(c, policy, zone=rules.zone, now=now),
    }
    done: dict[str, int] = {}
    for name, step in steps.items():
        total = 0
        while took := _batch(engine, step):
            total += took
            say(f"{name}: {total:,}")
        done[name] = total
    return done


def _batch(engine: Engine, step: Callable[[Connection], int]) -> int:
    with engine.begin() as connection:
        db.lock_transaction(connection, "pipeline")
        return step(connection)
