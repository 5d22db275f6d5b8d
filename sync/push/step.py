"""The push: persons whose standing changed → outbox → destination, only the differences, each item checked."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from sqlalchemy.engine import Connection, Engine

from connectors.contract import Destination, Outcome, Request, Upsert
from connectors.errors import ConnectorError
from mappings.currencies import exponent
from sync import runs
from sync.attribute import campaigns
from sync.attribute.store import known_campaigns
from sync.push import rules, store
from sync.store import canonical, db

log = structlog.get_logger()
BATCH = 5_000
READ_AHEAD = 10  # batches read from the outbox at once
Say = Callable[[str], None]


def prepare(database: db.Database, push_rules: Sequence[rules.PushRule], *, currency: str) -> int:
    """Bring the outbox up to date with where people stand; returns how many persons it took."""
    total = 0
    while True:
        with database.begin() as connection:
            db.lock_transaction(connection, "pipeline")
            took = prepare_batch(connection, push_rules, currency=currency)
        if not took:
            return total
        total += took


def prepare_batch(connection: Connection, push_rules: Sequence[rules.PushRule], *, currency: str) -> int:
    taken = canonical.take(connection, step="push", kinds=["person"], limit=BATCH)
    if not taken:
        return 0
    persons = [row.ref for row in taken]
    rows = store.read_standings(connection, persons, currency=currency)
    names = known_campaigns(connection).names
    for destination in dict.fromkeys(rule.destination for rule in push_rules):
        group = [rule for rule in push_rules if rule.destination == destination]
        _want(connection, destination, group, rows, names, currency)
    return len(taken)


def _want(
    connection: Connection,
    destination: str,
    group: Sequence[rules.PushRule],
    rows: Sequence[Any],
    names: Any,
    currency: str,
) -> None:
    """Store what `destination` should hold of these persons by all the rules that write to it together."""
    stages = frozenset[str]().union(*(rule.stages for rule in group))
    concerned = [r for r in rows if r.stage in stages and r.email]
    wanted: dict[str, tuple[str, dict[str, str]]] = {}
    for row in concerned:
        standing = _standing(row, names, currency)
        fields: dict[str, str] = {}
        for rule in group:
            if row.stage in rule.stages:
                fields |= rules.desired(standing, rule)
        wanted[row.person_id] = (row.email, fields)
    left = [r.person_id for r in rows if r.person_id not in wanted]
    store.supersede(connection, destination, left, "the person is no longer among those to push")
    known: dict[str, tuple[str | None, dict[str, str]]] = {
        person: (remote_id, {})
        for person, remote_id in store.remote_ids(connection, destination, list(wanted)).items()
    }
    store.release(connection, destination, list(wanted))
    inherited = store.take_over(connection, destination, {p: e for p, (e, _) in wanted.items()})
    for person, (remote_id, accepted) in inherited.items():
        known[person] = (remote_id or known.get(person, (None, {}))[0], accepted)
    barred = {r.person_id: f"its e-mail address {r.shared}" for r in concerned if r.shared}
    store.write_desired(connection, destination, wanted, known=known, barred=barred)


def _standing(row: Any, names: Any, currency: str) -> rules.Standing:
    source, name = campaigns.display(row.campaign, names) if row.campaign else (None, None)
    return rules.Standing(
        stage=row.stage,
        campaign=name,
        campaign_source=source,
        revenue_minor=int(row.revenue_minor),
        digits=exponent(currency),
        currency=currency,
        orders=row.orders,
        times={name: getattr(row, name) for name in ("lead_at", "mql_at", "sql_at", "won_at")},
        rejected_reason=row.rejected_reason,
    )


START = (False, "")


def batches(engine: db.Database, destination: str, *, size: int) -> Iterator[list[Upsert]]:
    """What is pending now, in batches; a row that stays pending does not come again."""
    after = START
    while True:
        with engine.connect() as connection:
            rows = store.read_pending(connection, destination, after=after, limit=size * READ_AHEAD)
        if not rows:
            return
        for first in range(0, len(rows), size):
            yield [
                rules.upsert(
                    key=row.person_id,
                    email=row.email,
                    remote_id=row.remote_id,
                    wanted=row.desired,
                    accepted=row.accepted,
                )
                for row in rows[first : first + size]
            ]
        after = rows[-1].remote_id is None, rows[-1].person_id


@dataclass(frozen=True, slots=True)
class _Flight:
    """A batch on its way."""

    batch: Sequence[Upsert]
    sent_at: datetime
    outcomes: Future[list[Outcome]]


def send(
    engine: Engine,
    run: runs.Run,
    name: str,
    destination: Destination,
    *,
    fields: Sequence[str],
    say: Say,
) -> None:
    """Send what is pending for the destination `name`, some batches at once, and record every item's outcome.

    `fields` are all that the push rules may write there. What is on its way when the run is stopped or an
    error ends it is waited for and recorded. Killed between sending and recording, a batch is sent again: the
    same state, so nothing changes there.
    """
    flying: deque[_Flight] = deque()
    landed = partial(_land, engine, run, name, flying, say)
    with ThreadPoolExecutor(max_workers=destination.parallel) as pool:
        try:
            for number, batch in enumerate(batches(engine, name, size=destination.batch_size)):
                run.go_on()
                if number == 0:
                    destination.prepare(fields)
                answer = pool.submit(copy_context().run, destination.write, batch)
                flying.append(_Flight(batch, datetime.now(UTC), answer))
                if len(flying) >= 2 * destination.parallel:
                    landed(at_least=destination.parallel)
        except ConnectorError as error:
            _note(run, error)
        finally:
            _land_all(run, landed, flying)


def _land_all(run: runs.Run, landed: Callable[..., None], flying: deque[_Flight]) -> None:
    while flying:
        try:
            landed(at_least=len(flying))
        except ConnectorError as error:
            _note(run, error)


def _note(run: runs.Run, error: ConnectorError) -> None:
    told = f"push: {error.message}", error.hint
    if told not in run.errors:
        run.errors.append(told)
        log.error("push_failed", kind=error.kind, error=error.message, todo=error.hint)


def _land(
    engine: Engine, run: runs.Run, name: str, flying: deque[_Flight], say: Say, *, at_least: int
) -> None:
    """Record the oldest batches, `at_least` so many and all others that are back, in one transaction.

    Raises the `ConnectorError` of a batch that was not written, once those before it are recorded.
    """
    items: list[Upsert] = []
    outcomes: dict[str, Outcome] = {}
    failed: ConnectorError | None = None
    sent_at = flying[0].sent_at
    while flying and failed is None and (at_least > 0 or flying[0].outcomes.done()):
        flight, at_least = flying.popleft(), at_least - 1
        try:
            answers = {outcome.key: outcome for outcome in flight.outcomes.result()}
        except ConnectorError as error:
            failed = error
            continue
        items += flight.batch
        for item in flight.batch:
            unnamed = Outcome(item.key, "retry", reason="the answer did not name it")
            outcomes[item.key] = answers.get(item.key, unnamed)
    if items:
        with engine.begin() as connection:
            runs.check_fence(connection, run)
            store.record(
                connection,
                name,
                items,
                outcomes,
                run_id=run.id,
                sent_at=sent_at,
                answered_at=datetime.now(UTC),
            )
        run.count("push", {"sent": len(items), **Counter(outcome.status for outcome in outcomes.values())})
        say(f"{name}: {run.total('sent'):,} pushed")
    if failed is not None:
        raise failed


def preview(
    batches: Sequence[Sequence[Upsert]], destination: Destination, *, fields: Sequence[str]
) -> list[Request]:
    """The calls that `send` would make for these batches, exactly. Reads the destination, writes nothing."""
    if not batches:
        return []
    return [
        *destination.preparation(fields),
        *(call for batch in batches for call in destination.plan(batch)),
    ]
