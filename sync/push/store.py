"""The push's SQL: where persons stand, the outbox, deliveries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from connectors.contract import Outcome, Upsert
from sync.ledger import logs
from sync.push import rules
from sync.store import db
from sync.store.tables import deliveries, outbox


def _texts(values: Iterable[str]) -> sa.ColumnElement[Any]:
    return sa.cast(list(values), postgresql.ARRAY(sa.Text))


_STANDINGS = sa.text(
    """
    WITH wanted AS (
        SELECT * FROM unnest(CAST(:persons AS text[])) AS w (person_id)
         WHERE EXISTS (SELECT FROM journeys j WHERE j.person_id = w.person_id)
            OR EXISTS (SELECT FROM outbox o WHERE o.person_id = w.person_id)
    ), addresses AS (
        SELECT m.person_id, m.kind, m.connector, m.external_id, a.email, a.rank, a.at
          FROM members m JOIN wanted USING (person_id)
          JOIN LATERAL (
               SELECT email, 0 AS rank, occurred_at AS at FROM leads l
                WHERE m.kind = 'lead' AND (l.connector, l.external_id) = (m.connector, m.external_id)
                UNION ALL
               SELECT email, 1, created_at FROM contacts c
                WHERE m.kind = 'contact' AND (c.connector, c.external_id) = (m.connector, m.external_id)
                UNION ALL
               SELECT email, 2, occurred_at FROM orders o
                WHERE m.kind = 'order' AND (o.connector, o.external_id) = (m.connector, m.external_id)
          ) a ON a.email IS NOT NULL
    ), first_address AS (
        SELECT DISTINCT ON (person_id) person_id, kind, connector, external_id, email
          FROM addresses ORDER BY person_id, rank, at NULLS LAST, email
    ), sold AS (
        SELECT a.person_id, sum(p.amount_minor) AS revenue_minor,
               -- an order edited to nothing, or to another currency, has entries, but no sale in force
               count(DISTINCT e.id) FILTER (WHERE e.part = 'sale' AND e.reverses IS NULL)
               - count(DISTINCT e.id) FILTER (WHERE e.part = 'sale' AND e.reverses IS NOT NULL) AS orders
          FROM attributions a JOIN wanted USING (person_id)
          JOIN entries e ON e.connector = a.connector AND e.subject = 'order:' || a.order_id
                        AND e.currency = :currency
          JOIN postings p ON p.entry_id = e.id
                        AND (p.account LIKE 'Credit:%' OR p.account LIKE 'Unattributed:%')
         GROUP BY 1
    )
    SELECT w.person_id, j.stage, j.campaign, j.lead_at, j.mql_at, j.sql_at, j.won_at, j.rejected_reason,
           f.email, coalesce(s.revenue_minor, 0) AS revenue_minor, coalesce(s.orders, 0) AS orders,
           (SELECT i.why FROM sightings s JOIN ignored_keys i USING (key_kind, key_value)
             WHERE (s.kind, s.connector, s.external_id) = (f.kind, f.connector, f.external_id)
               AND s.key_kind = 'email' LIMIT 1) AS shared
      FROM wanted w
      LEFT JOIN journeys j USING (person_id)
      LEFT JOIN first_address f USING (person_id)
      LEFT JOIN sold s USING (person_id)
    """
)


def read_standings(connection: Connection, persons: Sequence[str], *, currency: str) -> list[sa.Row[Any]]:
    """Where those of `persons` stand who are in the funnel, or were and are in the outbox still."""
    return list(connection.execute(_STANDINGS, {"persons": list(persons), "currency": currency}))


def remote_ids(connection: Connection, destination: str, persons: Sequence[str]) -> dict[str, str]:
    """The destination's own ids of persons of whom it shows exactly one contact."""
    rows = connection.execute(
        sa.text(
            """
            SELECT m.person_id, min(m.external_id) AS remote_id
              FROM members m
             WHERE m.kind = 'contact' AND m.connector = :destination AND m.person_id = ANY(:persons)
             GROUP BY 1 HAVING count(*) = 1
            """
        ),
        {"destination": destination, "persons": list(persons)},
    )
    return {row.person_id: row.remote_id for row in rows}


_TAKE_OVER = sa.text(
    """
    WITH heirs AS (
        SELECT DISTINCT ON (n.person_id) n.person_id, o.person_id AS former,
               CASE WHEN m.person_id <> n.person_id THEN NULL ELSE o.remote_id END AS remote_id,
               CASE WHEN m.person_id <> n.person_id THEN '{}' ELSE o.accepted END AS accepted
          FROM unnest(CAST(:persons AS text[]), CAST(:emails AS text[])) AS n (person_id, email)
          JOIN outbox o ON o.destination = :destination AND o.email = n.email AND o.person_id <> n.person_id
          LEFT JOIN members m ON (m.kind, m.connector, m.external_id) = ('contact', o.destination, o.remote_id)
         WHERE NOT EXISTS (SELECT FROM outbox x
                            WHERE x.destination = :destination AND x.person_id = n.person_id)
         ORDER BY n.person_id, o.changed_at DESC, o.person_id
    )
    UPDATE outbox SET status = 'superseded', reason = 'the person is now ' || heirs.person_id
      FROM heirs WHERE outbox.destination = :destination AND outbox.person_id = heirs.former
    RETURNING heirs.person_id, heirs.remote_id, heirs.accepted
    """
)


def take_over(
    connection: Connection, destination: str, people: Mapping[str, str]
) -> dict[str, tuple[str | None, dict[str, str]]]:
    """Persons (id → e-mail) that are new in the outbox and follow a former person with the same address:
    they inherit the remote id and what was accepted, so that a merge sends nothing again."""
    rows = connection.execute(
        _TAKE_OVER,
        {"destination": destination, "persons": list(people), "emails": list(people.values())},
    )
    return {row.person_id: (row.remote_id, row.accepted) for row in rows}


_RELEASE = sa.text(
    """
    UPDATE outbox o SET remote_id = NULL, accepted = '{}', status = 'pending', tries = 0
      FROM members m
     WHERE o.destination = :destination AND o.person_id = ANY(:persons) AND m.person_id <> o.person_id
       AND (m.kind, m.connector, m.external_id) = ('contact', o.destination, o.remote_id)
    """
)


def release(connection: Connection, destination: str, persons: Sequence[str]) -> None:
    """Let go of contacts that are known to be somebody else's by now: what is written to them would be wrong."""
    connection.execute(_RELEASE, {"destination": destination, "persons": list(persons)})


def write_desired(
    connection: Connection,
    destination: str,
    wanted: Mapping[str, tuple[str, dict[str, str]]],
    *,
    known: Mapping[str, tuple[str | None, dict[str, str]]],
    barred: Mapping[str, str],
) -> None:
    """Store what `destination` should hold: by person its e-mail and fields.

    A row is pending when a field differs from what was accepted; `barred` persons are refused with a reason.
    A refused row is tried again only when what is desired changes, or its remote id becomes known.
    """
    columns = ("destination", "person_id", "email", "remote_id", "desired", "accepted", "status", "reason")
    rows = []
    for person, (email, fields) in wanted.items():
        remote_id, accepted = known.get(person, (None, {}))
        bar = barred.get(person)
        status = "refused" if bar else "pending"
        rows.append((destination, person, email, remote_id, fields, accepted, status, bar))
    with db.staged(connection, outbox, columns, rows) as stage:
        insert = postgresql.insert(outbox).from_select(columns, sa.select(stage))
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["destination", "person_id"],
                set_={
                    "email": insert.excluded.email,
                    "desired": insert.excluded.desired,
                    "status": insert.excluded.status,
                    "reason": insert.excluded.reason,
                    "remote_id": sa.func.coalesce(outbox.c.remote_id, insert.excluded.remote_id),
                    "changed_at": sa.func.now(),
                    "tries": 0,
                },
                where=sa.or_(
                    outbox.c.desired != insert.excluded.desired,
                    outbox.c.email != insert.excluded.email,
                    outbox.c.status == "superseded",
                    sa.and_(outbox.c.remote_id.is_(None), insert.excluded.remote_id.is_not(None)),
                    # Barred now and not before, or the other way round.
                    sa.and_(outbox.c.status != "refused", insert.excluded.status == "refused"),
                    sa.and_(
                        outbox.c.status == "refused",
                        outbox.c.tries == 0,
                        insert.excluded.status == "pending",
                    ),
                ),
            )
        )
    # What the destination already holds needs no sending: our fields there contain all that is desired.
    connection.execute(
        sa.update(outbox)
        .where(
            outbox.c.destination == destination,
            outbox.c.person_id == sa.any_(_texts(wanted)),
            outbox.c.status == "pending",
            outbox.c.accepted.contains(outbox.c.desired),
        )
        .values(status="acknowledged", reason=None)
    )


def supersede(connection: Connection, destination: str, persons: Sequence[str], reason: str) -> None:
    connection.execute(
        sa.update(outbox)
        .where(
            outbox.c.destination == destination,
            outbox.c.person_id == sa.any_(_texts(persons)),
            outbox.c.status != "superseded",
        )
        .values(status="superseded", reason=reason)
    )


def read_pending(
    connection: Connection, destination: str, *, after: tuple[bool, str], limit: int
) -> list[sa.Row[Any]]:
    """The next pending rows in a fixed order: those without a remote id last, so that a batch is of one sort
    and needs one call. `after` is (has no remote id, person) of the row before; (False, "") for the first."""
    fresh = outbox.c.remote_id.is_(None)
    return list(
        connection.execute(
            sa.select(outbox)
            .where(
                outbox.c.destination == destination,
                outbox.c.status == "pending",
                sa.tuple_(fresh, outbox.c.person_id) > sa.tuple_(*after),
            )
            .order_by(fresh, outbox.c.person_id)
            .limit(limit)
        )
    )


def _delivery(
    destination: str, item: Upsert, outcome: Outcome, run_id: int, sent_at: datetime, answered_at: datetime
) -> tuple[Any, ...]:
    """A row of `deliveries`, in the order of its columns."""
    return (
        destination,
        item.key,
        run_id,
        outcome.remote_id or item.remote_id,
        dict(item.fields),
        dict(outcome.shown),
        outcome.status,
        outcome.version,
        outcome.reason or None,
        sent_at,
        answered_at,
    )


def record(
    connection: Connection,
    destination: str,
    sent: Sequence[Upsert],
    outcomes: Mapping[str, Outcome],
    *,
    run_id: int,
    sent_at: datetime,
    answered_at: datetime,
) -> None:
    """Store what became of a batch. A row whose desired state moved on meanwhile stays pending."""
    logs.writing(connection)
    db.copy_rows(
        connection,
        "deliveries",
        [column.name for column in deliveries.c if column.name != "id"],
        (_delivery(destination, item, outcomes[item.key], run_id, sent_at, answered_at) for item in sent),
    )
    rows = [
        (
            item.key,
            outcomes[item.key].status,
            outcomes[item.key].remote_id,
            outcomes[item.key].reason or None,
            db.json(dict(item.fields)),
            db.json(rules.now_accepted(item, outcomes[item.key])),
        )
        for item in sent
    ]
    connection.execute(
        sa.text(
            """
            UPDATE outbox o SET
                remote_id = CASE WHEN n.outcome = 'retry' THEN n.remote_id
                                 ELSE coalesce(n.remote_id, o.remote_id) END,
                accepted = CAST(n.accepted AS jsonb),
                reason = n.reason,
                tries = o.tries + 1,
                status = CASE
                    WHEN o.status = 'superseded' THEN o.status
                    WHEN o.desired <> CAST(n.sent AS jsonb) THEN 'pending'
                    WHEN n.outcome = 'accepted' THEN 'acknowledged'
                    WHEN n.outcome = 'refused' THEN 'refused'
                    ELSE 'pending' END
              FROM unnest(CAST(:persons AS text[]), CAST(:outcomes AS text[]), CAST(:remote_ids AS text[]),
                          CAST(:reasons AS text[]), CAST(:sent AS text[]), CAST(:accepted AS text[]))
                   AS n (person_id, outcome, remote_id, reason, sent, accepted)
             WHERE o.destination = :destination AND o.person_id = n.person_id
            """
        ),
        {
            "destination": destination,
            **{
                name: [row[i] for row in rows]
                for i, name in enumerate(("persons", "outcomes", "remote_ids", "reasons", "sent", "accepted"))
            },
        },
    )


def retry_refused(connection: Connection, destination: str) -> int:
    """Give every row that the destination refused another try; returns how many.

    A row that was never sent, since its e-mail address is shared by too many, stays refused.
    """
    return connection.execute(
        sa.update(outbox)
        .where(outbox.c.destination == destination, outbox.c.status == "refused", outbox.c.tries > 0)
        .values(status="pending", tries=0)
    ).rowcount


def note_everybody(connection: Connection) -> int:
    """Name every person of the funnel for the push: the push rules changed."""
    return connection.execute(
        sa.text("INSERT INTO pending (step, kind, ref) SELECT 'push', 'person', person_id FROM journeys")
    ).rowcount
