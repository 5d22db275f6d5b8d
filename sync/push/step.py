"""The push: persons whose standing changed → outbox → destination, only the differences, each item checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
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


def to_send(connection: Connection, destination: str, *, after: tuple[bool, str], limit: int) -> list[Upsert]:
    """The next pending upserts after `after` (see `place`)."""
    return [
        rules.upsert(
            key=row.person_id,
            email=row.email,
            remote_id=row.remote_id,
            wanted=row.desired,
            accepted=row.accepted,
        )
        for row in store.read_pending(connection, destination, after=after, limit=limit)
    ]


def place(batch: Sequence[Upsert]) -> tuple[bool, str]:
    """Where the batch ends in the order of the outbox."""
    return batch[-1].remote_id is None, batch[-1].key


def send(
    engine: Engine,
    run: runs.Run,
    name: str,
    destination: Destination,
    *,
    fields: Sequence[str],
    say: Say,
) -> None:
    """Send what is pending for the destination `name`, batch by batch, and record every item's outcome.

    `fields` are all that the push rules may write there.

    Killed between sending and recording, the batch is sent again: the same state, so nothing changes there.
    """
    after, done = START, 0
    prepared = False
    while True:
        run.go_on()
        with engine.connect() as connection:
            batch = to_send(connection, name, after=after, limit=destination.batch_size)
        if not batch:
            return
        sent_at = datetime.now(UTC)
        try:
            if not prepared:
                destination.prepare(fields)
                prepared = True
            outcomes = {outcome.key: outcome for outcome in destination.write(batch)}
        except ConnectorError as error:
            run.errors.append((f"push: {error.message}", error.hint))
            log.error("push_failed", kind=error.kind, error=error.message, todo=error.hint)
            return
        for item in batch:
            outcomes.setdefault(item.key, Outcome(item.key, "retry", reason="the answer did not name it"))
        with engine.begin() as connection:
            runs.check_fence(connection, run)
            store.record(
                connection,
                name,
                batch,
                outcomes,
                run_id=run.id,
                sent_at=sent_at,
                answered_at=datetime.now(UTC),
            )
        counts: dict[str, int] = {"sent": len(batch)}
        for outcome in outcomes.values():
            counts[outcome.status] = counts.get(outcome.status, 0) + 1
        run.count("push", counts)
        after, done = place(batch), done + len(batch)
        say(f"{name}: {done:,} pushed")


def waiting(connection: Connection, name: str, *, batch_size: int) -> list[list[Upsert]]:
    """The batches that `send` would send now."""
    after = START
    batches: list[list[Upsert]] = []
    while batch := to_send(connection, name, after=after, limit=batch_size):
        batches.append(batch)
        after = place(batch)
    return batches


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
