"""The funnel's SQL: the facts of persons, their stage events and journeys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from sync.funnel import rules
from sync.store import db, known
from sync.store.tables import CANONICAL, journeys, members, stage_events

_TIMES = {
    "lead": "occurred_at",
    "touch": "occurred_at",
    "order": "occurred_at",
    "stage_change": "occurred_at",
    "contact": "modified_at",
}
# Five minutes: how far our clock and the CRM's may stand apart.
_NOT_OWN_WRITE = sa.text(
    """
    NOT (stage_changes.by_api AND EXISTS (
        SELECT FROM deliveries d
         WHERE d.destination = stage_changes.connector AND d.remote_id = stage_changes.crm_id
           AND stage_changes.occurred_at BETWEEN d.sent_at - interval '5 minutes'
                                             AND d.answered_at + interval '5 minutes'
           AND EXISTS (SELECT FROM jsonb_each_text(d.sent) f WHERE f.value = stage_changes.value)))
    """
)


def _texts(values: Iterable[str]) -> sa.ColumnElement[Any]:
    return sa.cast(list(values), postgresql.ARRAY(sa.Text))


_IN_FUNNEL = sa.text(
    """
    SELECT DISTINCT p.person_id
      FROM unnest(CAST(:persons AS text[])) AS p (person_id)
     WHERE EXISTS (SELECT FROM members m WHERE m.person_id = p.person_id AND m.kind = 'lead')
        OR EXISTS (SELECT FROM journeys j WHERE j.person_id = p.person_id)
     ORDER BY 1
    """
)


def in_funnel(connection: Connection, person_ids: Sequence[str]) -> list[str]:
    """Those who have a lead, or had one: only they can have stages."""
    return list(connection.execute(_IN_FUNNEL, {"persons": list(person_ids)}).scalars())


def read_facts(
    connection: Connection, person_ids: Sequence[str], *, kinds: Iterable[str], paid: Sequence[str]
) -> dict[str, list[rules.Fact]]:
    """The facts of each person, of the kinds that the rules ask for. Orders: only paid ones.

    A change of stage that is our own write coming back (a program made it, of a value that we sent to that
    record at that time) is no fact.
    """
    facts: dict[str, list[rules.Fact]] = {person: [] for person in person_ids}
    who = _owners(connection)
    for kind in sorted({"lead", *kinds}):
        table = CANONICAL[kind]
        at = table.c[_TIMES[kind]]
        statement = (
            sa.select(members.c.person_id, table)
            .join(
                members,
                sa.and_(
                    members.c.kind == kind,
                    members.c.connector == table.c.connector,
                    members.c.external_id == table.c.external_id,
                ),
            )
            .where(members.c.person_id == sa.any_(_texts(person_ids)), at.is_not(None))
        )
        if kind == "order":
            statement = statement.where(table.c.status == sa.any_(_texts([*paid, "refunded"])))
        if kind == "stage_change":
            statement = statement.where(_NOT_OWN_WRITE)
        for found in connection.execute(statement).mappings():
            row: dict[str, Any] = dict(found)
            facts[row["person_id"]].append(
                rules.Fact(
                    kind=kind,
                    connector=row["connector"],
                    id=row["external_id"],
                    at=row[at.name],
                    values=row,
                    who=_who(kind, row, who),
                )
            )
    return facts


def _owners(connection: Connection) -> dict[tuple[str, str], str]:
    owner = CANONICAL["owner"]
    rows = connection.execute(
        sa.select(owner.c.connector, owner.c.external_id, owner.c.name, owner.c.owner_id)
    )
    return {(r.connector, r.external_id): r.name or r.external_id for r in rows}


def _who(kind: str, row: Mapping[str, Any], owners: Mapping[tuple[str, str], str]) -> str | None:
    if kind == "stage_change":
        named = row["who"]
        return str(owners.get((row["connector"], named), named) if named else row["connector"])
    return str(row["connector"])


_JOURNEY = tuple(c.name for c in journeys.c)
_NOWHERE = (None,) * (len(_JOURNEY) - 1)


def replace(
    connection: Connection,
    events: Mapping[str, Sequence[rules.Event]],
    summaries: Mapping[str, tuple[rules.Journey, str | None]],
    *,
    known_at: datetime,
) -> None:
    """Make the stage events and journeys of these persons exactly these; a journey that changed is written down
    as known from now on. The caller holds the pipeline's lock, so that `known_at` grows from batch to batch."""
    persons = sorted(events)
    connection.execute(sa.delete(stage_events).where(stage_events.c.person_id == sa.any_(_texts(persons))))
    db.copy_rows(
        connection,
        "stage_events",
        [c.name for c in stage_events.c],
        (
            (
                person,
                seq,
                e.stage,
                e.at,
                e.who,
                e.why,
                e.reason,
                e.fact.kind,
                e.fact.connector,
                e.fact.id,
            )
            for person in persons
            for seq, e in enumerate(events[person])
        ),
    )
    now = {
        person: (
            j.stage,
            campaign,
            j.lead_at,
            j.reached.get("mql"),
            j.reached.get("sql"),
            j.reached.get("won"),
            j.reached.get("rejected"),
            j.rejected_reason,
            j.reached.get("lost"),
            j.reached.get("recycled"),
        )
        for person, (j, campaign) in sorted(summaries.items())
    }
    before = _take_away(connection, persons)
    db.copy_rows(connection, "journeys", _JOURNEY, ((person, *row) for person, row in now.items()))
    _write_down(connection, before, now, known_at=known_at)


def _take_away(connection: Connection, persons: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Remove the journeys of these persons; returns what they were."""
    gone = sa.delete(journeys).where(journeys.c.person_id == sa.any_(_texts(persons)))
    rows = connection.execute(gone.returning(*(journeys.c[name] for name in _JOURNEY)))
    return {row[0]: tuple(row[1:]) for row in rows}


def _write_down(
    connection: Connection,
    before: Mapping[str, tuple[Any, ...]],
    now: Mapping[str, tuple[Any, ...]],
    *,
    known_at: datetime,
) -> None:
    """Log the journeys that are new or different, and who has none any more."""
    changed = [(person, row) for person, row in now.items() if before.get(person) != row]
    changed += [(person, _NOWHERE) for person in before if person not in now]
    if changed:
        at = known.next_time(connection, known_at)
        columns = ("person_id", "known_at", *_JOURNEY[1:])
        db.copy_rows(connection, "journey_log", columns, ((person, at, *row) for person, row in changed))


def read_campaigned(connection: Connection, person_ids: Sequence[str]) -> dict[str, list[Any]]:
    """The leads and touches of each person with what they say about a campaign, oldest first."""
    found: dict[str, list[Any]] = {}
    for kind in ("lead", "touch"):
        table = CANONICAL[kind]
        rows = connection.execute(
            sa.select(
                members.c.person_id,
                sa.literal(kind).label("kind"),
                table.c.connector,
                table.c.external_id,
                table.c.occurred_at,
                table.c.campaign_id,
                table.c.campaign_name,
                table.c.utm_source,
                table.c.utm_campaign,
                table.c.utm_id,
            )
            .join(
                members,
                sa.and_(
                    members.c.kind == kind,
                    members.c.connector == table.c.connector,
                    members.c.external_id == table.c.external_id,
                ),
            )
            .where(members.c.person_id == sa.any_(_texts(person_ids)))
        )
        for row in rows:
            found.setdefault(row.person_id, []).append(row)
    for rows_of in found.values():
        rows_of.sort(key=lambda r: (r.occurred_at, r.kind, r.connector, r.external_id))
    return found


def note_everybody(connection: Connection) -> int:
    """Name every person for the funnel: its rules changed."""
    return connection.execute(
        sa.text(
            "INSERT INTO pending (step, kind, ref) SELECT DISTINCT 'funnel', 'person', person_id FROM members"
        )
    ).rowcount
