"""The match step's SQL: what records say about persons, and who belongs to whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from sync.match import rules
from sync.store import db
from sync.store.tables import CANONICAL, ignored_keys, members, pending, person_events, sightings

IDENTITY_COLUMNS = ("email", "phone", "customer_id", "crm_id", "click_ids", "emails", "aliases")


def _names(refs: Sequence[rules.Ref]) -> dict[str, list[str]]:
    return {
        "kinds": [r[0] for r in refs],
        "connectors": [r[1] for r in refs],
        "ids": [r[2] for r in refs],
    }


def read_identities(connection: Connection, refs: Sequence[rules.Ref]) -> dict[rules.Ref, sa.Row[Any]]:
    """The identity columns of the records that (still) exist, `IDENTITY_COLUMNS` by name."""
    found: dict[rules.Ref, sa.Row[Any]] = {}
    for kind in rules.KINDS:
        wanted = [r for r in refs if r[0] == kind]
        if not wanted:
            continue
        table = CANONICAL[kind]
        columns = [table.c[name] if name in table.c else sa.null().label(name) for name in IDENTITY_COLUMNS]
        by_connector: dict[str, list[str]] = {}
        for _, connector, external_id in wanted:
            by_connector.setdefault(connector, []).append(external_id)
        for connector, ids in by_connector.items():
            rows = connection.execute(
                sa.select(table.c.external_id, *columns).where(
                    table.c.connector == connector,
                    table.c.external_id == sa.any_(sa.cast(ids, postgresql.ARRAY(sa.Text))),
                )
            )
            found |= {(kind, connector, row.external_id): row for row in rows}
    return found


_OLD_KEYS = sa.text(
    """
    SELECT DISTINCT s.key_kind, s.key_value
      FROM sightings s
      JOIN unnest(CAST(:kinds AS text[]), CAST(:connectors AS text[]), CAST(:ids AS text[]))
           AS named (kind, connector, external_id) USING (kind, connector, external_id)
    """
)
_DROP_SIGHTINGS = sa.text(
    """
    DELETE FROM sightings s
     USING unnest(CAST(:kinds AS text[]), CAST(:connectors AS text[]), CAST(:ids AS text[]))
           AS named (kind, connector, external_id)
     WHERE (s.kind, s.connector, s.external_id) = (named.kind, named.connector, named.external_id)
    """
)
_DROP_MEMBERS = sa.text(
    """
    DELETE FROM members m
     USING unnest(CAST(:kinds AS text[]), CAST(:connectors AS text[]), CAST(:ids AS text[]))
           AS named (kind, connector, external_id)
     WHERE (m.kind, m.connector, m.external_id) = (named.kind, named.connector, named.external_id)
    """
)


def replace_sightings(
    connection: Connection, refs: Sequence[rules.Ref], keys: Mapping[rules.Ref, Iterable[rules.Key]]
) -> set[rules.Key]:
    """Store which keys each record shows; returns every key that these records showed before or show now."""
    names = _names(refs)
    touched = {(r.key_kind, r.key_value) for r in connection.execute(_OLD_KEYS, names)}
    connection.execute(_DROP_SIGHTINGS, names)
    rows = [(*ref, *key) for ref in refs for key in sorted(keys.get(ref, ()))]
    db.copy_rows(connection, "sightings", [c.name for c in sightings.c], rows)
    return touched | {(row[3], row[4]) for row in rows}


_SEEN_WITH = sa.text(
    """
    SELECT mine.key_kind, mine.key_value, other.key_kind AS other_kind,
           count(DISTINCT other.key_value) AS others
      FROM unnest(CAST(:kinds AS text[]), CAST(:values AS text[])) AS named (key_kind, key_value)
      JOIN sightings mine USING (key_kind, key_value)
      JOIN sightings other ON (other.kind, other.connector, other.external_id)
                            = (mine.kind, mine.connector, mine.external_id)
       AND other.key_kind IN ('email', 'phone') AND other.key_kind <> mine.key_kind
     GROUP BY 1, 2, 3
    """
)


def seen_with(connection: Connection, keys: Sequence[rules.Key]) -> dict[rules.Key, dict[str, int]]:
    """By key: how many different e-mail addresses and phones stand beside it."""
    counts: dict[rules.Key, dict[str, int]] = {}
    rows = connection.execute(_SEEN_WITH, {"kinds": [k[0] for k in keys], "values": [k[1] for k in keys]})
    for row in rows:
        counts.setdefault((row.key_kind, row.key_value), {})[row.other_kind] = row.others
    return counts


def flip_ignored(
    connection: Connection, keys: Sequence[rules.Key], now: Mapping[rules.Key, str]
) -> set[rules.Key]:
    """Store which of `keys` are ignored from now on; returns those for which that changed."""
    pairs = {"kinds": [k[0] for k in keys], "values": [k[1] for k in keys]}
    before = {
        (r.key_kind, r.key_value)
        for r in connection.execute(
            sa.text(
                """
                DELETE FROM ignored_keys i
                 USING unnest(CAST(:kinds AS text[]), CAST(:values AS text[])) AS n (key_kind, key_value)
                 WHERE (i.key_kind, i.key_value) = (n.key_kind, n.key_value)
                RETURNING i.key_kind, i.key_value
                """
            ),
            pairs,
        )
    }
    if now:
        connection.execute(
            sa.insert(ignored_keys),
            [{"key_kind": k[0], "key_value": k[1], "why": why} for k, why in sorted(now.items())],
        )
    return before ^ set(now)


_AFFECTED = sa.text(
    """
    WITH joining AS (
        SELECT s.kind, s.connector, s.external_id
          FROM unnest(CAST(:key_kinds AS text[]), CAST(:key_values AS text[])) AS k (key_kind, key_value)
          JOIN sightings s USING (key_kind, key_value)
        UNION
        SELECT * FROM unnest(CAST(:kinds AS text[]), CAST(:connectors AS text[]), CAST(:ids AS text[]))
    ), touched AS (
        SELECT DISTINCT m.person_id FROM members m JOIN joining USING (kind, connector, external_id)
    )
    SELECT m.kind, m.connector, m.external_id, m.person_id
      FROM members m JOIN touched USING (person_id)
    UNION
    SELECT j.kind, j.connector, j.external_id, m.person_id
      FROM joining j LEFT JOIN members m USING (kind, connector, external_id)
    """
)


def affected(
    connection: Connection, refs: Sequence[rules.Ref], keys: Sequence[rules.Key]
) -> dict[rules.Ref, str | None]:
    """Every record whose person may change: those named, those with one of `keys`, and all of their persons.

    The value is the record's person until now, None for a record that had none.
    """
    rows = connection.execute(
        _AFFECTED,
        _names(refs) | {"key_kinds": [k[0] for k in keys], "key_values": [k[1] for k in keys]},
    )
    return {(r.kind, r.connector, r.external_id): r.person_id for r in rows}


_LIVE_SIGHTINGS = sa.text(
    """
    SELECT s.*
      FROM sightings s
      JOIN unnest(CAST(:kinds AS text[]), CAST(:connectors AS text[]), CAST(:ids AS text[]))
           AS named (kind, connector, external_id) USING (kind, connector, external_id)
     WHERE NOT EXISTS (SELECT FROM ignored_keys i
                        WHERE (i.key_kind, i.key_value) = (s.key_kind, s.key_value))
    """
)


def live_sightings(connection: Connection, refs: Sequence[rules.Ref]) -> dict[rules.Ref, set[rules.Key]]:
    """The keys of each record that may join it with others; a record without any has an empty set."""
    found: dict[rules.Ref, set[rules.Key]] = {ref: set() for ref in refs}
    for row in connection.execute(_LIVE_SIGHTINGS, _names(refs)):
        found[(row.kind, row.connector, row.external_id)].add((row.key_kind, row.key_value))
    return found


def replace_members(connection: Connection, drop: Sequence[rules.Ref], add: Mapping[rules.Ref, str]) -> None:
    connection.execute(_DROP_MEMBERS, _names(drop))
    rows = [(*ref, person) for ref, person in add.items()]
    db.copy_rows(connection, "members", [c.name for c in members.c], rows)


def record_events(connection: Connection, events: Sequence[rules.Event]) -> None:
    if events:
        connection.execute(
            sa.insert(person_events),
            [
                {"kind": e.kind, "person_id": e.person_id, "others": list(e.others), "keys": list(e.keys)}
                for e in events
            ],
        )


def orders_of(connection: Connection, person_ids: Sequence[str]) -> list[sa.Row[Any]]:
    return list(
        connection.execute(
            sa.select(members.c.connector, members.c.external_id).where(
                members.c.kind == "order",
                members.c.person_id == sa.any_(sa.cast(list(person_ids), postgresql.ARRAY(sa.Text))),
            )
        )
    )


_OF_CAMPAIGNS = sa.text(
    """
    WITH words AS (
        SELECT DISTINCT word
          FROM campaign_names c, unnest(ARRAY[lower(c.external_id), lower(c.name)]) AS word
         WHERE c.external_id = ANY(CAST(:ids AS text[]))
    ), named AS (
        SELECT 'lead' AS kind, connector, external_id, campaign_name, utm_id, utm_campaign FROM leads
         UNION ALL
        SELECT 'touch', connector, external_id, campaign_name, utm_id, utm_campaign FROM touches
    )
    SELECT DISTINCT n.kind, n.connector, n.external_id
      FROM named n, unnest(ARRAY[lower(n.campaign_name), lower(n.utm_id), lower(n.utm_campaign)]) AS word
      JOIN words USING (word)
    """
)


def refs_of_campaigns(connection: Connection, names: Sequence[tuple[str, str]]) -> list[rules.Ref]:
    """Leads and touches that name one of these campaigns (connector, id) by a name, present or former, or by
    utm parameters; what names its own platform's id knew its campaign before."""
    rows = connection.execute(_OF_CAMPAIGNS, {"ids": [external_id for _, external_id in names]})
    return [(row.kind, row.connector, row.external_id) for row in rows]


def note_persons_of_campaigns(connection: Connection, names: Sequence[tuple[str, str]]) -> None:
    """Name for the push whom these campaigns (connector, id) brought: what they are called may have changed."""
    connection.execute(
        sa.text(
            """
            INSERT INTO pending (step, kind, ref)
            SELECT 'push', 'person', person_id FROM journeys WHERE campaign = ANY(CAST(:keys AS text[]))
            """
        ),
        {"keys": [f"{connector}:{external_id}" for connector, external_id in names]},
    )


_NOTE_REFUNDED = sa.text(
    """
    INSERT INTO pending (step, kind, connector, ref)
    SELECT 'book', 'order', r.connector, r.order_id
      FROM unnest(CAST(:connectors AS text[]), CAST(:ids AS text[])) AS n (connector, external_id)
      JOIN refunds r USING (connector, external_id)
     UNION
    SELECT 'book', 'order', e.connector, substr(e.subject, length('order:') + 1)
      FROM unnest(CAST(:connectors AS text[]), CAST(:ids AS text[])) AS n (connector, external_id)
      JOIN entries e ON e.connector = n.connector AND e.part = 'refund:' || n.external_id
    """
)


def note_refunded_orders(connection: Connection, refunds: Sequence[tuple[str, str]]) -> None:
    """Name for booking the orders of refunds that came, changed, or are gone: those they name, and those the
    journal has them booked under, which may be others."""
    connection.execute(
        _NOTE_REFUNDED, {"connectors": [r[0] for r in refunds], "ids": [r[1] for r in refunds]}
    )


def note_everything(connection: Connection) -> int:
    """Name every record that has identity keys for the match: the rules of identity changed."""
    found = 0
    for kind in rules.KINDS:
        table = CANONICAL[kind]
        statement = sa.insert(pending).from_select(
            ["step", "kind", "connector", "ref"],
            sa.select(sa.literal("match"), sa.literal(kind), table.c.connector, table.c.external_id),
        )
        found += connection.execute(statement).rowcount
    return found
