"""Opens an order: order → credits → touches → evidence, with the policy that decided, down to the bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.attribute import campaigns as naming
from sync.attribute.store import known_campaigns
from sync.ledger import accounts
from sync.ledger.rules import Live
from sync.ledger.store import read_booked
from sync.store.tables import (
    CANONICAL,
    attributions,
    credits,
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


def explain(connection: Connection, connector: str, order_id: str) -> dict[str, Any]:
    """All that is known of an order; ``order`` is None when the shop no longer has it."""
    table = CANONICAL["order"]
    order = connection.execute(
        sa.select(table).where(table.c.connector == connector, table.c.external_id == order_id)
    ).first()
    attribution = connection.execute(
        sa.select(attributions).where(
            attributions.c.connector == connector, attributions.c.order_id == order_id
        )
    ).first()
    booked = read_booked(connection, [(connector, f"order:{order_id}")])
    sale = next((e for entries_of in booked.live.values() for e in entries_of if e.part == "sale"), None)
    version = sale.policy_version if sale else None
    return {
        "connector": connector,
        "order_id": order_id,
        "order": None if order is None else _order(order),
        "evidence": None if order is None else _evidence(connection, order.evidence_id),
        "person": attribution.person_id if attribution else None,
        "identity": _identity(connection, attribution.person_id) if attribution else None,
        "journey": _journey(connection, attribution.person_id) if attribution else [],
        "policy": _policy(connection, version) if version else None,
        "credits": _credits(connection, connector, order_id, sale),
        "refunds": _refunds(connection, connector, order_id),
        "entries": _entries(connection, connector, order_id),
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
    connection: Connection, connector: str, order_id: str, sale: Live | None
) -> list[dict[str, Any]]:
    """The credits as the journal has them, each with the touch that earned it.

    A settled order keeps its credits whatever evidence came later: where they are no longer those of the
    last attribution, no touch stands beside them.
    """
    if sale is None:
        return []
    names = known_campaigns(connection).names
    shares = connection.execute(
        sa.select(credits)
        .where(credits.c.connector == connector, credits.c.order_id == order_id)
        .order_by(credits.c.line)
    ).all()
    booked = {a: n for a, n in sale.postings if a.startswith(("Credit:", "Unattributed:"))}
    attributed: dict[str, int] = {}
    for row in shares:
        attributed[row.account] = attributed.get(row.account, 0) + row.amount_minor
    if {a: n for a, n in attributed.items() if n} == booked:
        return [
            _credit(
                row.account, row.amount_minor, names, _touch(connection, row.touch_connector, row.touch_id)
            )
            for row in shares
        ]
    return [_credit(account, amount, names, None) for account, amount in booked.items()]


def _credit(
    account: str, amount: int, names: Mapping[str, str], touch: dict[str, Any] | None
) -> dict[str, Any]:
    key = accounts.campaign_key(account) if account.startswith("Credit:") else None
    source, name = naming.display(key, names) if key else (None, None)
    reason = None if key else accounts.unpart(account.partition(":")[2])
    return {
        "campaign": name,
        "source": source,
        "reason": reason,
        "amount_minor": amount,
        "account": account,
        "touch": touch,
    }


def _touch(connection: Connection, connector: str | None, touch_id: str | None) -> dict[str, Any] | None:
    table = CANONICAL["touch"]
    row = connection.execute(
        sa.select(table).where(table.c.connector == connector, table.c.external_id == touch_id)
    ).first()
    if row is None:
        return None
    return {
        "id": f"{row.connector}:{row.external_id}",
        "kind": row.kind,
        "at": row.occurred_at.isoformat(),
        "evidence": _evidence(connection, row.evidence_id),
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


def _entries(connection: Connection, connector: str, order_id: str) -> list[dict[str, Any]]:
    rows = connection.execute(
        sa.select(entries)
        .where(entries.c.connector == connector, entries.c.subject == f"order:{order_id}")
        .order_by(entries.c.id)
    ).all()
    lines: dict[int, list[dict[str, Any]]] = {}
    for line in connection.execute(
        sa.select(postings)
        .where(postings.c.entry_id.in_([row.id for row in rows]))
        .order_by(postings.c.entry_id, postings.c.line)
    ):
        lines.setdefault(line.entry_id, []).append(
            {"account": accounts.unpart(line.account), "amount_minor": line.amount_minor}
        )
    return [
        {
            "entry": row.id,
            "kind": row.kind,
            "happened_at": row.happened_at.isoformat(),
            "booked_at": row.booked_at.isoformat(),
            "currency": row.currency,
            "reason": row.reason,
            "reverses": row.reverses,
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
