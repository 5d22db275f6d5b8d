"""The match step's SQL for grouping: which records changed, which others they concern, who they are now.

All of it stands in temporary tables of the connection, so that a batch may be large and the process holds none
of it: `match_taken` what is to be done, `match_changed` the records of it with identity keys, `match_shown` the
keys that they show, `match_keys` every key that they showed before or show now, `match_shut` those of these that
join nobody, `match_joining` those that may join, `match_gone` records that are no more, `match_after` every
record whose person may change, numbered in the order of anchors, with its `old` and its `new` person.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.match import rules
from sync.store import db
from sync.store.tables import CANONICAL, ignored_keys, person_events

IDENTITY_COLUMNS = ("email", "phone", "customer_id", "crm_id", "click_ids", "emails", "aliases")
ROWS_AT_ONCE = 2_000
SHOWN = ("kind", "connector", "external_id", "key_kind", "key_value")

_RECORD = "kind text NOT NULL, connector text NOT NULL, external_id text NOT NULL"
_KEY = "key_kind text NOT NULL, key_value text NOT NULL"
_TABLES = {
    "match_taken": "kind text, connector text, ref text",
    "match_changed": _RECORD,
    "match_shown": f"{_RECORD}, {_KEY}",
    "match_keys": _KEY,
    "match_shut": f"{_KEY}, why text",
    "match_joining": _KEY,
    "match_gone": _RECORD,
    "match_affected": f"{_RECORD}, old text, n integer",
    "match_labels": "n integer, label integer",
    "match_after": f"{_RECORD}, old text, new text",
    "match_persons": "person_id text, wide boolean",
}
_MAKE = [
    sa.text(f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} ({columns}) ON COMMIT DELETE ROWS")
    for name, columns in _TABLES.items()
]
_EMPTY = sa.text(f"TRUNCATE {', '.join(_TABLES)}")
_CHANGED = sa.table("match_changed", *map(sa.column, ("kind", "connector", "external_id")))


_WAITING = sa.text("SELECT EXISTS (SELECT FROM pending WHERE step = 'match')")


def is_anything_waiting(connection: Connection) -> bool:
    """Asked first: the temporary tables cost more than a look."""
    return bool(connection.execute(_WAITING).scalar_one())


def begin(connection: Connection) -> None:
    """Make the temporary tables, empty."""
    for statement in _MAKE:
        connection.execute(statement)
    connection.execute(_EMPTY)


_TAKE = sa.text(
    """
    WITH oldest AS (
        SELECT id FROM pending WHERE step = 'match' ORDER BY id LIMIT :limit
    ), gone AS (
        DELETE FROM pending USING oldest WHERE pending.id = oldest.id
        RETURNING pending.kind, pending.connector, pending.ref
    )
    INSERT INTO match_taken SELECT DISTINCT kind, connector, ref FROM gone
    """
)
_TAKE_CHANGED = sa.text(
    """
    INSERT INTO match_changed
    SELECT kind, connector, ref FROM match_taken WHERE kind = ANY(CAST(:kinds AS text[]))
    """
)


def take(connection: Connection, *, limit: int) -> int:
    """Take the oldest `limit` of what waits for the match; returns how many records they name."""
    took = connection.execute(_TAKE, {"limit": limit}).rowcount
    connection.execute(_TAKE_CHANGED, {"kinds": list(rules.KINDS)})
    _analyze(connection, took, "match_changed")
    return took


def identities(connection: Connection) -> Iterator[list[tuple[rules.Ref, sa.Row[Any]]]]:
    """The identity columns (`IDENTITY_COLUMNS` by name) of the changed records that exist, some at a time."""
    for kind in rules.KINDS:
        table = CANONICAL[kind]
        columns = [table.c[name] if name in table.c else sa.null().label(name) for name in IDENTITY_COLUMNS]
        asked = sa.select(table.c.connector, table.c.external_id, *columns).join(
            _CHANGED,
            sa.and_(
                _CHANGED.c.kind == kind,
                _CHANGED.c.connector == table.c.connector,
                _CHANGED.c.external_id == table.c.external_id,
            ),
        )
        options = {"stream_results": True, "yield_per": ROWS_AT_ONCE}
        for rows in connection.execute(asked, execution_options=options).partitions():
            yield [((kind, row.connector, row.external_id), row) for row in rows]


def show(connection: Connection, keys: Iterable[tuple[str, str, str, str, str]]) -> int:
    """Note the keys that records show, in rows of `SHOWN`; returns how many."""
    return db.copy_rows(connection, "match_shown", SHOWN, keys)


_KEYS = sa.text(
    """
    INSERT INTO match_keys
    SELECT s.key_kind, s.key_value FROM sightings s JOIN match_changed USING (kind, connector, external_id)
     UNION
    SELECT key_kind, key_value FROM match_shown
    """
)
_FORGET = sa.text(
    """
    DELETE FROM sightings s USING match_changed c
     WHERE (s.kind, s.connector, s.external_id) = (c.kind, c.connector, c.external_id)
       AND NOT EXISTS (SELECT FROM match_shown n
                        WHERE (n.kind, n.connector, n.external_id, n.key_kind, n.key_value)
                            = (s.kind, s.connector, s.external_id, s.key_kind, s.key_value))
    """
)
_REMEMBER = sa.text("INSERT INTO sightings SELECT * FROM match_shown ON CONFLICT DO NOTHING")


def replace_sightings(connection: Connection, *, shown: int) -> None:
    """Store which keys the changed records show; `match_keys` has those that they showed before, too."""
    _analyze(connection, shown, "match_shown")
    keys = connection.execute(_KEYS).rowcount
    _analyze(connection, keys, "match_keys")
    connection.execute(_FORGET)
    connection.execute(_REMEMBER)
    if shown >= db.MANY:
        db.analyze(connection, ["sightings"])


_CROWDED = sa.text(
    """
    SELECT mine.key_kind, mine.key_value, other.key_kind AS other_kind,
           count(DISTINCT other.key_value) AS others
      FROM match_keys k
      JOIN sightings mine USING (key_kind, key_value)
      JOIN sightings other ON (other.kind, other.connector, other.external_id)
                            = (mine.kind, mine.connector, mine.external_id)
       AND other.key_kind IN ('email', 'phone') AND other.key_kind <> mine.key_kind
     GROUP BY 1, 2, 3 HAVING count(DISTINCT other.key_value) > :least
    """
)


def crowded(connection: Connection, *, least: int) -> dict[rules.Key, dict[str, int]]:
    """By key: how many different e-mail addresses or phones stand beside it, where they are more than `least`."""
    found: dict[rules.Key, dict[str, int]] = {}
    for row in connection.execute(_CROWDED, {"least": least}):
        found.setdefault((row.key_kind, row.key_value), {})[row.other_kind] = row.others
    return found


_WAS_SHUT = sa.text(
    "SELECT key_kind, key_value FROM ignored_keys JOIN match_keys USING (key_kind, key_value)"
)
_OPEN = sa.text(
    """
    DELETE FROM ignored_keys i USING match_keys k WHERE (i.key_kind, i.key_value) = (k.key_kind, k.key_value)
    """
)
_JOINING = sa.text(
    """
    INSERT INTO match_joining
    SELECT key_kind, key_value FROM match_keys k
     WHERE NOT EXISTS (SELECT FROM match_shut s WHERE (s.key_kind, s.key_value) = (k.key_kind, k.key_value))
    """
)


def shut_before(connection: Connection) -> set[rules.Key]:
    """Those of the keys that joined nobody until now."""
    return {(row.key_kind, row.key_value) for row in connection.execute(_WAS_SHUT)}


def shut(connection: Connection, before: set[rules.Key], now: Mapping[rules.Key, str]) -> None:
    """Store which of the keys join nobody from now on, and why; those for which that changed join the records
    that have to be grouped anew."""
    connection.execute(_OPEN)
    if now:
        rows = [{"key_kind": k[0], "key_value": k[1], "why": why} for k, why in sorted(now.items())]
        connection.execute(sa.insert(ignored_keys), rows)
    db.copy_rows(connection, "match_shut", ["key_kind", "key_value"], sorted(now))
    joining = connection.execute(_JOINING).rowcount
    db.copy_rows(connection, "match_joining", ["key_kind", "key_value"], sorted(set(now) - before))
    _analyze(connection, joining, "match_joining")


_AFFECTED = sa.text(
    """
    WITH joining AS (
        SELECT s.kind, s.connector, s.external_id
          FROM match_joining JOIN sightings s USING (key_kind, key_value)
         UNION
        SELECT kind, connector, external_id FROM match_changed
    ), touched AS (
        SELECT DISTINCT m.person_id FROM members m JOIN joining USING (kind, connector, external_id)
    ), everyone AS (
        SELECT m.kind, m.connector, m.external_id, m.person_id FROM members m JOIN touched USING (person_id)
         UNION
        SELECT j.kind, j.connector, j.external_id, m.person_id
          FROM joining j LEFT JOIN members m USING (kind, connector, external_id)
    )
    INSERT INTO match_affected
    SELECT kind, connector, external_id, person_id,
           row_number() OVER (ORDER BY array_position(CAST(:anchors AS text[]), kind),
                                       connector COLLATE "C", external_id COLLATE "C") - 1
      FROM everyone e
     WHERE NOT EXISTS (SELECT FROM match_gone g WHERE (g.kind, g.connector, g.external_id)
                                                    = (e.kind, e.connector, e.external_id))
    """
)


def affected(connection: Connection) -> int:
    """Number every record whose person may change: those that changed, those with a joining key, and all of
    their persons. Returns how many."""
    for kind in rules.KINDS:
        table = CANONICAL[kind]
        here = sa.exists().where(
            table.c.connector == _CHANGED.c.connector, table.c.external_id == _CHANGED.c.external_id
        )
        gone = sa.select(_CHANGED).where(_CHANGED.c.kind == kind, ~here)
        into = sa.table("match_gone", *map(sa.column, ("kind", "connector", "external_id")))
        connection.execute(sa.insert(into).from_select(["kind", "connector", "external_id"], gone))
    count = connection.execute(_AFFECTED, {"anchors": list(rules.ANCHORS)}).rowcount
    _analyze(connection, count, "match_affected")
    return count


_TOGETHER = sa.text(
    """
    SELECT array_agg(a.n) AS numbers
      FROM match_affected a JOIN sightings s USING (kind, connector, external_id)
     WHERE NOT EXISTS (SELECT FROM ignored_keys i WHERE (i.key_kind, i.key_value) = (s.key_kind, s.key_value))
     GROUP BY s.key_kind, s.key_value HAVING count(*) > 1
    """
)


def together(connection: Connection) -> Iterator[Sequence[int]]:
    """The numbers of the affected records that have a key in common, for each such key."""
    options = {"stream_results": True, "yield_per": ROWS_AT_ONCE}
    for row in connection.execute(_TOGETHER, execution_options=options):
        yield row.numbers


# The person is named as `rules.person_id` says.
_AFTER = sa.text(
    """
    WITH labelled AS (
        SELECT a.*, coalesce(l.label, a.n) AS label FROM match_affected a LEFT JOIN match_labels l USING (n)
    ), anchors AS (
        SELECT n AS label,
               'p_' || left(encode(sha256(convert_to(kind || chr(31) || connector || chr(31) || external_id,
                                                     'UTF8')), 'hex'), 20) AS person_id
          FROM labelled WHERE n = label
    )
    INSERT INTO match_after
    SELECT kind, connector, external_id, old, person_id FROM labelled JOIN anchors USING (label)
    """
)
_MOVE = sa.text(
    """
    INSERT INTO members (kind, connector, external_id, person_id)
    SELECT kind, connector, external_id, new FROM match_after WHERE old IS DISTINCT FROM new
    ON CONFLICT (kind, connector, external_id) DO UPDATE SET person_id = excluded.person_id
    """
)
_LEAVE = sa.text(
    """
    DELETE FROM members m USING match_gone g
     WHERE (m.kind, m.connector, m.external_id) = (g.kind, g.connector, g.external_id)
    """
)
_WERE_CONCERNED = sa.text(
    """
    INSERT INTO match_persons
    SELECT m.person_id, c.kind <> 'order' FROM match_changed c JOIN members m USING (kind, connector, external_id)
    """
)
_ARE_CONCERNED = sa.text(
    """
    INSERT INTO match_persons
    SELECT a.new, c.kind <> 'order' FROM match_after a JOIN match_changed c USING (kind, connector, external_id)
     UNION ALL
    SELECT person, true FROM match_after a, unnest(ARRAY[a.old, a.new]) AS person
     WHERE a.old IS DISTINCT FROM a.new AND person IS NOT NULL
    """
)


def settle(connection: Connection, labels: Iterable[tuple[int, int]]) -> None:
    """Write who belongs to whom now. `labels`: the number of a record and that of its anchor, where they differ."""
    count = db.copy_rows(connection, "match_labels", ["n", "label"], labels)
    _analyze(connection, count, "match_labels")
    after = connection.execute(_AFTER).rowcount
    _analyze(connection, after, "match_after")
    for statement in (_WERE_CONCERNED, _LEAVE, _MOVE, _ARE_CONCERNED):
        connection.execute(statement)


_REGROUPED = sa.text(
    """
    WITH merged AS (
        SELECT new FROM match_after WHERE old IS NOT NULL GROUP BY new HAVING count(DISTINCT old) > 1
    ), parted AS (
        SELECT old FROM match_after WHERE old IS NOT NULL GROUP BY old HAVING count(DISTINCT new) > 1
    )
    SELECT a.kind, a.connector, a.external_id, a.old, a.new,
           ARRAY(SELECT ARRAY[s.key_kind, s.key_value] FROM sightings s
                  WHERE (s.kind, s.connector, s.external_id) = (a.kind, a.connector, a.external_id)
                    AND NOT EXISTS (SELECT FROM ignored_keys i
                                     WHERE (i.key_kind, i.key_value) = (s.key_kind, s.key_value))) AS keys
      FROM match_after a
     WHERE a.new IN (SELECT new FROM merged) OR a.old IN (SELECT old FROM parted)
    """
)


def record_events(connection: Connection) -> None:
    """Write down which persons became one, and which one became several."""
    rows = {(row.kind, row.connector, row.external_id): row for row in connection.execute(_REGROUPED)}
    found = rules.events(
        {ref: row.old for ref, row in rows.items() if row.old is not None},
        {ref: row.new for ref, row in rows.items()},
        {ref: [(kind, value) for kind, value in row.keys] for ref, row in rows.items()},
    )
    if found:
        connection.execute(
            sa.insert(person_events),
            [
                {"kind": e.kind, "person_id": e.person_id, "others": list(e.others), "keys": list(e.keys)}
                for e in found
            ],
        )


def _analyze(connection: Connection, count: int, table: str) -> None:
    if count >= db.MANY:
        db.analyze(connection, [table])
