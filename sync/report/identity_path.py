"""Why two records are one person's: the shortest way from one to the other over the keys that they share."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync import logs
from sync.match.rules import Key, Ref

SIGHTINGS_MAX = 50_000  # of one person, beyond which no way is looked for

_SIGHTINGS = sa.text(
    """
    SELECT s.kind, s.connector, s.external_id, s.key_kind, s.key_value
      FROM members m JOIN sightings s USING (kind, connector, external_id)
     WHERE m.person_id = :person
       AND NOT EXISTS (SELECT FROM ignored_keys i
                        WHERE i.key_kind = s.key_kind AND i.key_value = s.key_value)
     ORDER BY 1, 2, 3, 4, 5 LIMIT :limit
    """
)


def read(connection: Connection, person_id: str) -> dict[Ref, list[Key]] | None:
    """The keys that join each record of a person, without those that join nobody. None: there are too many."""
    found: dict[Ref, list[Key]] = {}
    rows = connection.execute(_SIGHTINGS, {"person": person_id, "limit": SIGHTINGS_MAX + 1}).all()
    if len(rows) > SIGHTINGS_MAX:
        return None
    for row in rows:
        found.setdefault((row.kind, row.connector, row.external_id), []).append((row.key_kind, row.key_value))
    return found


def between(start: Ref, end: Ref, keys: Mapping[Ref, Iterable[Key]]) -> list[tuple[Key, Ref]] | None:
    """The steps from `start` to `end`, each a key and the record that it leads to: the fewest there are, of equally
    short ways the same one every time. [] for the same record, None where no key leads there."""
    holders: dict[Key, list[Ref]] = {}
    for ref in sorted(keys):
        for key in sorted(keys[ref]):
            holders.setdefault(key, []).append(ref)
    came: dict[Ref, tuple[Ref, Key] | None] = {start: None}
    waiting, used = deque([start]), set[Key]()
    while waiting and end not in came:
        here = waiting.popleft()
        for key in sorted(keys.get(here, ())):
            if key in used:
                continue
            used.add(key)
            for there in holders[key]:
                if there not in came:
                    came[there] = (here, key)
                    waiting.append(there)
    if end not in came:
        return None
    steps: list[tuple[Key, Ref]] = []
    at = end
    while (step := came[at]) is not None:
        steps.append((step[1], at))
        at = step[0]
    return steps[::-1]


def told(steps: Iterable[tuple[Key, Ref]]) -> list[dict[str, Any]]:
    """The steps with e-mail addresses and phone numbers masked: what joins is shown, not whom."""
    return [
        {"by": kind, "key": masked(kind, value), "record": f"{ref[0]} {ref[1]}:{ref[2]}"}
        for (kind, value), ref in steps
    ]


def masked(kind: str, value: str) -> str:
    if kind == "email":
        return logs.mask(value)
    return f"…{value[-4:]}" if kind == "phone" else value
