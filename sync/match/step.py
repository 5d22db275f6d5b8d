"""The match: changed records → persons. Takes what `pending` names, passes on the persons and orders that
its result concerns."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.match import grouping, rules, store

BATCH = 200_000


def match(connection: Connection, identity: rules.Rules) -> int:
    """Take one batch of changed records; returns how many it took (0: nothing is left to do)."""
    if not grouping.is_anything_waiting(connection):
        return 0
    grouping.begin(connection)
    took = grouping.take(connection, limit=BATCH)
    store.add_those_of_campaigns(connection)
    _regroup(connection, identity)
    store.note_persons(connection)
    store.note_for_booking(connection)
    return took


def _regroup(connection: Connection, identity: rules.Rules) -> None:
    listed = rules.ignore_list(identity)
    shut: dict[rules.Key, str] = {}
    shown = 0
    for records in grouping.identities(connection):
        keys = [(*ref, *key) for ref, row in records for key in _keys(ref, row, identity)]
        shown += grouping.show(connection, keys)
        shut |= {key: why for key in ((row[3], row[4]) for row in keys) if (why := listed(key)) is not None}
    grouping.replace_sightings(connection, shown=shown)
    before = grouping.shut_before(connection)
    shut |= {key: why for key in before if (why := listed(key)) is not None}
    for key, seen_with in grouping.crowded(connection, least=min(identity.caps.values(), default=0)).items():
        if key not in shut and (why := rules.crowd(key, seen_with, identity)) is not None:
            shut[key] = why
    grouping.shut(connection, before, shut)
    count = grouping.affected(connection)
    anchors = rules.components(count, grouping.together(connection))
    grouping.settle(connection, ((n, anchor) for n, anchor in enumerate(anchors) if n != anchor))
    grouping.record_events(connection)


def _keys(ref: rules.Ref, row: sa.Row[Any], identity: rules.Rules) -> set[rules.Key]:
    return rules.keys_of(
        connector=ref[1],
        emails=[row.email, *(row.emails or ())],
        phone=row.phone,
        customer_id=row.customer_id,
        crm_ids=[row.crm_id, *(row.aliases or ())],
        click_ids=row.click_ids or (),
        rules=identity,
    )
