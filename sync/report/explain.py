"""Opens an order: order → credits → touches → evidence, with the policy that decided, down to the bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.attribute.store import known_campaigns
from sync.ledger import accounts
from sync.match.rules import Key, Ref
from sync.report import identity_path, rounding, sharing
from sync.report.known import EVER
from sync.store.tables import (
    CANONICAL,
    attributions,
    entries,
    evidence,
    person_events,
    policies,
    postings,
    stage_events,
)

MATCHES_MAX = 20


def find_orders(connection: Connection, order: str) -> list[tuple[str, str]]:
    """(connector, id) of the orders that `order` may mean: an id, a number, or ``connector:id``."""
    table = CANONICAL["order"]
    connector, _, rest = order.partition(":")
    statement = (
        sa.select(table.c.connector, table.c.external_id)
        .where(
            sa.or_(
                table.c.external_id == order,
                table.c.number == order,
                sa.and_(table.c.connector == connector, table.c.external_id == rest),
            )
        )
        .limit(MATCHES_MAX)
    )
    found = [(r.connector, r.external_id) for r in connection.execute(statement)]
    booked = connection.execute(
        sa.select(entries.c.connector, entries.c.subject)
        .distinct()
        .where(entries.c.subject.in_([f"order:{order}", f"order:{rest}"]))
        .limit(MATCHES_MAX)
    )
    gone = [(r.connector, r.subject.partition(":")[2]) for r in booked]
    return list(dict.fromkeys([*found, *(ref for ref in gone if not rest or ref[0] == connector)]))


def explain(
    connection: Connection, connector: str, order_id: str, *, as_of: datetime | None = None
) -> dict[str, Any]:
    """All that is known of an order; ``order`` is None when the shop no longer has it.

    With `as_of` the entries, credits and policy are those of that time. The order, its person and their records
    are as they are now: of these only the evidence tells what they were.
    """
    table = CANONICAL["order"]
    order = connection.execute(
        sa.select(table).where(table.c.connector == connector, table.c.external_id == order_id)
    ).first()
    attribution = connection.execute(
        sa.select(attributions).where(
            attributions.c.connector == connector, attributions.c.order_id == order_id
        )
    ).first()
    known = known_campaigns(connection)
    ref = (connector, order_id)
    shared = sharing.read(connection, [ref], known=known, known_until=as_of or EVER).get(ref)
    version = shared.policy_version if shared else None
    person = attribution.person_id if attribution else None
    booked = _entries(connection, connector, order_id, as_of)
    return {
        "what": "order",
        "connector": connector,
        "order_id": order_id,
        "order": None if order is None else _order(order),
        "evidence": None if order is None else _evidence(connection, order.evidence_id),
        "person": person,
        "identity": _identity(connection, person) if attribution else None,
        "journey": _journey(connection, person) if attribution else [],
        "policy": _policy(connection, version) if version else None,
        "credits": _credits(connection, ref, person, shared) if shared else [],
        "held": shared.held if shared else "",
        "refunds": _refunds(connection, connector, order_id),
        "refund_shares": _refund_shares(connector, booked),
        "entries": booked,
    }


def _order(row: Any) -> dict[str, Any]:
    names = ("number", "status", "currency", "total_minor", "tax_minor", "shipping_minor")
    return {
        **{name: getattr(row, name) for name in names},
        "ordered_at": row.occurred_at.isoformat(),
        "finer_than_the_currency": str(row.total_exact) if row.total_exact is not None else None,
    }


def _evidence(connection: Connection, evidence_id: int) -> dict[str, Any]:
    row = connection.execute(sa.select(evidence).where(evidence.c.id == evidence_id)).one()
    return {
        "id": row.id,
        "source": f"{row.connector}/{row.stream}/{row.external_id}",
        "sha256": bytes(row.sha256).hex(),
        "fetched_at": row.fetched_at.isoformat(),
        "run": row.run_id,
        "body": bytes(row.body).decode("utf-8", errors="replace"),
    }


def _policy(connection: Connection, version: int) -> dict[str, Any]:
    row = connection.execute(sa.select(policies).where(policies.c.version == version)).one()
    return {"version": version, "valid_from": row.valid_from.isoformat(), **row.body}


def _credits(
    connection: Connection, ref: tuple[str, str], person: str | None, shared: sharing.Shared
) -> list[dict[str, Any]]:
    """The credits as the journal has them, each with the touch that earned it, its share, and by which keys the
    touch is the buyer's. One without a touch may have lost it to later evidence: ``held`` says so."""
    keys = identity_path.read(connection, person) if person else {}
    found = []
    for part in shared.parts:
        touch, path, why = part["touch"], None, None
        if touch is not None:
            touch = touch | {"evidence": _evidence(connection, touch["evidence"]["id"])}
            connector, _, touch_id = touch["id"].partition(":")
            path, why = _path(ref, (connector, touch_id), keys)
        found.append(part | {"touch": touch, "path": path, "no_path": why})
    return found


def _path(
    order: tuple[str, str], touch: tuple[str, str], keys: Mapping[Ref, list[Key]] | None
) -> tuple[list[dict[str, Any]] | None, str | None]:
    if keys is None:
        return None, f"the person has more than {identity_path.SIGHTINGS_MAX} records: no way is looked for"
    steps = identity_path.between(("order", *order), ("touch", *touch), keys)
    if steps is None:
        return None, "no keys that are known now lead there: the next sync credits the order anew"
    return identity_path.told(steps), None


def _refund_shares(connector: str, booked: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """From which accounts each refund in force was taken, and how that came out in whole units.

    ``shares`` is by account; an account of a posting that is not in it was decided by the shop's own split or is
    the excess over the sale."""
    undone = {entry["reverses"] for entry in booked}
    live = [e for e in booked if e["reverses"] is None and e["entry"] not in undone and e["postings"]]
    aside = frozenset({accounts.tax(connector), accounts.shipping(connector)})
    held: dict[str, int] = {}
    for entry in live:
        if entry["part"] == "sale":
            held = _without_revenue(entry)
    found = []
    refunds = [entry for entry in live if entry["part"].startswith("refund:")]
    for entry in sorted(refunds, key=lambda e: (e["happened_at"], e["part"])):
        taken = {account: -amount for account, amount in _without_revenue(entry).items()}
        told = rounding.taken_back(held, taken, aside=aside)
        found.append(
            {
                "refund": entry["part"].partition(":")[2],
                "entry": entry["entry"],
                "currency": entry["currency"],
                "taken": taken,
                "shares": {account: share.as_json() for account, share in (told or {}).items()},
            }
        )
        for account, amount in taken.items():
            held[account] = held.get(account, 0) - amount
    return found


def _without_revenue(entry: Mapping[str, Any]) -> dict[str, int]:
    return {
        line["account"]: line["amount_minor"]
        for line in entry["postings"]
        if not line["account"].startswith("Revenue:")
    }


def _refunds(connection: Connection, connector: str, order_id: str) -> list[dict[str, Any]]:
    table = CANONICAL["refund"]
    rows = connection.execute(
        sa.select(table)
        .where(table.c.connector == connector, table.c.order_id == order_id)
        .order_by(table.c.occurred_at, table.c.external_id)
    )
    return [
        {
            "id": row.external_id,
            "at": row.occurred_at.isoformat(),
            "amount": str(row.amount),
            "reason": row.reason,
            "evidence": _evidence(connection, row.evidence_id),
        }
        for row in rows
    ]


def _entries(
    connection: Connection, connector: str, order_id: str, as_of: datetime | None
) -> list[dict[str, Any]]:
    rows = connection.execute(
        sa.select(entries)
        .where(
            entries.c.connector == connector,
            entries.c.subject == f"order:{order_id}",
            entries.c.booked_at <= (as_of or EVER),
        )
        .order_by(entries.c.id)
    ).all()
    lines: dict[int, list[dict[str, Any]]] = {}
    for line in connection.execute(
        sa.select(postings)
        .where(postings.c.entry_id.in_([row.id for row in rows]))
        .order_by(postings.c.entry_id, postings.c.line)
    ):
        lines.setdefault(line.entry_id, []).append(
            {"account": line.account, "amount_minor": line.amount_minor}
        )
    return [
        {
            "entry": row.id,
            "kind": row.kind,
            "part": row.part,
            "happened_at": row.happened_at.isoformat(),
            "business_day": row.business_day.isoformat(),
            "posted_on": row.posted_on.isoformat(),
            "booked_at": row.booked_at.isoformat(),
            "currency": row.currency,
            "reason": row.reason,
            "author": row.author,
            "reverses": row.reverses,
            "refers_to": row.refers_to,
            "rate": row.rate,
            "policy_version": row.policy_version,
            "hash": bytes(row.hash).hex(),
            "postings": lines.get(row.id, []),
        }
        for row in rows
    ]


_RECORDS = sa.text(
    """
    SELECT m.kind, m.connector, m.external_id,
           array_agg(DISTINCT s.key_kind) FILTER (WHERE i.key_value IS NULL AND s.key_kind IS NOT NULL) AS keys,
           array_agg(DISTINCT s.key_kind) FILTER (WHERE i.key_value IS NOT NULL) AS ignored
      FROM members m
      LEFT JOIN sightings s USING (kind, connector, external_id)
      LEFT JOIN ignored_keys i USING (key_kind, key_value)
     WHERE m.person_id = :person
     GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT :limit
    """
)


def _identity(connection: Connection, person_id: str | None) -> dict[str, Any]:
    """Why these records are one person: the kinds of key of each, those that were ignored, and each merge."""
    rows = connection.execute(_RECORDS, {"person": person_id, "limit": MATCHES_MAX})
    changes = connection.execute(
        sa.select(person_events).where(person_events.c.person_id == person_id).order_by(person_events.c.id)
    )
    return {
        "records_shown_max": MATCHES_MAX,
        "records": [
            {
                "record": f"{r.kind} {r.connector}:{r.external_id}",
                "keys": r.keys or [],
                "ignored_keys": r.ignored or [],
            }
            for r in rows
        ],
        "changes": [
            {"kind": e.kind, "with": e.others, "by": e.keys, "at": e.at.isoformat()} for e in changes
        ],
    }


def _journey(connection: Connection, person_id: str | None) -> list[dict[str, Any]]:
    rows = connection.execute(
        sa.select(stage_events).where(stage_events.c.person_id == person_id).order_by(stage_events.c.seq)
    )
    return [
        {"stage": r.stage, "at": r.at.isoformat(), "who": r.who, "why": r.why, "reason": r.reason}
        for r in rows
    ]
