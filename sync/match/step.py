"""The match: changed records → persons. Takes what `pending` names, passes on the persons and orders that
its result concerns."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from sync.match import rules, store
from sync.store import canonical

BATCH = 20_000
OTHER_KINDS = ("campaign", "spend", "refund")


def match(connection: Connection, identity: rules.Rules) -> int:
    """Take one batch of changed records; returns how many it took (0: nothing is left to do)."""
    taken = canonical.take(connection, step="match", kinds=[*rules.KINDS, *OTHER_KINDS], limit=BATCH)
    if not taken:
        return 0
    named = [(row.kind, row.connector, row.ref) for row in taken]
    changed = [ref for ref in named if ref[0] in rules.KINDS]
    campaigns = [(ref[1], ref[2]) for ref in named if ref[0] == "campaign"]
    if campaigns:
        changed += store.refs_of_campaigns(connection, campaigns)
        store.note_persons_of_campaigns(connection, campaigns)
    if changed:
        _regroup(connection, sorted(set(changed)), identity)
    _pass_on_others(connection, named)
    return len(taken)


def _regroup(connection: Connection, changed: Sequence[rules.Ref], identity: rules.Rules) -> None:
    found = store.read_identities(connection, changed)
    keys = {
        ref: rules.keys_of(
            connector=ref[1],
            emails=[row.email, *(row.emails or ())],
            phone=row.phone,
            customer_id=row.customer_id,
            crm_ids=[row.crm_id, *(row.aliases or ())],
            click_ids=row.click_ids or (),
            rules=identity,
        )
        for ref, row in found.items()
    }
    touched = sorted(store.replace_sightings(connection, changed, keys))
    seen_with = store.seen_with(connection, touched)
    shut = {
        key: why
        for key in touched
        if (why := rules.ignored(key, seen_with.get(key, {}), identity)) is not None
    }
    flipped = store.flip_ignored(connection, touched, shut)
    joining = sorted((set(touched) - set(shut)) | flipped)
    before = store.affected(connection, changed, joining)
    gone = [ref for ref in changed if ref not in found]
    present = [ref for ref in before if ref not in set(gone)]
    sightings = store.live_sightings(connection, present)
    after = rules.persons(sightings)
    old = {ref: person for ref, person in before.items() if person is not None}
    moved = {ref: person for ref, person in after.items() if old.get(ref) != person}
    store.replace_members(connection, [*moved, *gone], moved)
    store.record_events(connection, rules.events(old, after, sightings))
    _pass_on(connection, changed, old=old, after=after, moved=moved)


def _pass_on(
    connection: Connection,
    changed: Sequence[rules.Ref],
    *,
    old: dict[rules.Ref, str],
    after: dict[rules.Ref, str],
    moved: dict[rules.Ref, str],
) -> None:
    """Name the persons to be staged again, and the orders to be attributed again.

    An order that changed concerns only itself; anything else that changed concerns all orders of its person,
    as does a record that came to a person or left it.
    """
    persons = {p for ref in [*changed, *moved] for p in (old.get(ref), after.get(ref)) if p}
    wider = {
        p
        for ref in {*moved, *(r for r in changed if r[0] != "order")}
        for p in (old.get(ref), after.get(ref))
        if p
    }
    orders = {(row.connector, row.external_id) for row in store.orders_of(connection, sorted(wider))}
    orders |= {(ref[1], ref[2]) for ref in changed if ref[0] == "order"}
    canonical.note(connection, step="funnel", kind="person", refs=sorted(persons))
    _note_orders(connection, orders)


def _pass_on_others(connection: Connection, named: Sequence[rules.Ref]) -> None:
    spends: dict[str, list[str]] = {}
    for kind, connector, ref in named:
        if kind == "spend":
            spends.setdefault(connector, []).append(ref)
    for connector, refs in spends.items():
        canonical.note(connection, step="book", kind="spend", connector=connector, refs=refs)
    refunds = [(ref[1], ref[2]) for ref in named if ref[0] == "refund"]
    if refunds:
        store.note_refunded_orders(connection, refunds)


def _note_orders(connection: Connection, orders: set[tuple[str, str]]) -> None:
    by_connector: dict[str, list[str]] = {}
    for connector, external_id in sorted(orders):
        by_connector.setdefault(connector, []).append(external_id)
    for connector, refs in by_connector.items():
        canonical.note(connection, step="attribute", kind="order", connector=connector, refs=refs)
