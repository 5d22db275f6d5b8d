"""The funnel: persons whose facts changed → stage events and where each person stands."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from sync.attribute import campaigns
from sync.attribute.store import known_campaigns
from sync.funnel import rules, store
from sync.store import canonical

BATCH = 5_000


def advance(
    connection: Connection, stage_rules: Sequence[rules.Rule], *, paid: Sequence[str], now: datetime
) -> int:
    """Take one batch of persons; returns how many it took (0: nothing is left to do)."""
    taken = canonical.take(connection, step="funnel", kinds=["person"], limit=BATCH)
    if not taken:
        return 0
    persons = store.in_funnel(connection, [row.ref for row in taken])
    kinds = {c.on for rule in stage_rules for c in (rule.when, *rule.also)}
    if any(rule.stage in ("rejected", "lost", "recycled") for rule in stage_rules):
        kinds.add("stage_change")
    facts = store.read_facts(connection, persons, kinds=kinds, paid=paid)
    events = {person: rules.events(facts[person], stage_rules) for person in persons}
    known = known_campaigns(connection)
    named = store.read_campaigned(connection, persons)
    summaries = {
        person: (summary, origin(named.get(person, []), known))
        for person in persons
        if (summary := rules.journey(events[person])) is not None
    }
    store.replace(connection, events, summaries, known_at=now)
    # Also those who stand where they stood: a destination is told of more than the journey, the e-mail
    # address for one.
    canonical.note(connection, step="push", kind="person", refs=persons)
    return len(taken)


def origin(rows: Sequence[Any], known: campaigns.Lookup) -> str | None:
    """The campaign that brought the person: that of its first lead, else of the last touch until then,
    else of its first touch that names one."""
    lead = next((row for row in rows if row.kind == "lead"), None)
    if lead is None:
        return None
    own = campaigns.key_of(lead, known)
    if own:
        return own
    touches = [row for row in rows if row.kind == "touch"]
    until = [row for row in touches if row.occurred_at <= lead.occurred_at]
    for row in [*reversed(until), *touches]:
        if key := campaigns.key_of(row, known):
            return key
    return None
