"""The attribution's SQL: orders with their persons' touches, credits, policies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from sync.attribute import campaigns, rules
from sync.store import db
from sync.store.tables import CANONICAL, attributions, campaign_names, credits, members, policies, sightings

Ref = tuple[str, str]  # connector, order id


def _texts(values: Iterable[str]) -> sa.ColumnElement[Any]:
    return sa.cast(list(values), postgresql.ARRAY(sa.Text))


def named(table: Any, refs: Sequence[Ref], *, id_column: str = "external_id") -> sa.ColumnElement[bool]:
    """The rows of `table` that `refs` (connector, id) name."""
    pairs = (
        sa.func.unnest(_texts(r[0] for r in refs), _texts(r[1] for r in refs))
        .table_valued("connector", "id")
        .render_derived()
    )
    return sa.tuple_(table.c.connector, table.c[id_column]).in_(sa.select(pairs.c.connector, pairs.c.id))


def read_orders(connection: Connection, refs: Sequence[Ref]) -> dict[Ref, sa.Row[Any]]:
    """The orders that exist, each with its person and whether it shows any identity key at all."""
    order = CANONICAL["order"]
    identified = sa.exists().where(
        sightings.c.kind == "order",
        sightings.c.connector == order.c.connector,
        sightings.c.external_id == order.c.external_id,
    )
    rows = connection.execute(
        sa.select(order, members.c.person_id, identified.label("identified"))
        .join(
            members,
            sa.and_(
                members.c.kind == "order",
                members.c.connector == order.c.connector,
                members.c.external_id == order.c.external_id,
            ),
            isouter=True,
        )
        .where(named(order, refs))
    )
    return {(r.connector, r.external_id): r for r in rows}


_TOUCHES = sa.text(
    """
    SELECT m.person_id, t.connector, t.external_id, t.occurred_at, t.kind, t.direct, t.campaign_id,
           t.campaign_name, t.utm_source, t.utm_campaign, t.utm_id
      FROM unnest(CAST(:persons AS text[]), CAST(:since AS timestamptz[]), CAST(:until AS timestamptz[]))
           AS span (person_id, since, until)
      JOIN members m ON m.person_id = span.person_id AND m.kind = 'touch'
      JOIN touches t ON (t.connector, t.external_id) = (m.connector, m.external_id)
     WHERE t.occurred_at BETWEEN span.since AND span.until AND t.kind = ANY(CAST(:kinds AS text[]))
     ORDER BY m.person_id, t.occurred_at
    """
)
EVER = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))


def read_touches(
    connection: Connection, spans: Mapping[str, tuple[datetime, datetime]], *, kinds: Iterable[str]
) -> dict[str, list[Any]]:
    """The touches of some kinds that each person has within a span of time, the oldest first."""
    rows = connection.execute(
        _TOUCHES,
        {
            "persons": list(spans),
            "since": [since for since, _ in spans.values()],
            "until": [until for _, until in spans.values()],
            "kinds": sorted(kinds),
        },
    )
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row.person_id, []).append(row)
    return found


def known_campaigns(connection: Connection) -> campaigns.Lookup:
    """Every campaign, with the names that it ever had."""
    campaign = CANONICAL["campaign"]
    now = connection.execute(sa.select(campaign.c.connector, campaign.c.external_id, campaign.c.name))
    names = campaign_names.c
    former = connection.execute(
        sa.select(names.connector, names.external_id, names.name).order_by(names.seen_at, names.name)
    )
    return campaigns.lookup(map(tuple, now), map(tuple, former))


def persons_with_leads(connection: Connection, person_ids: Sequence[str]) -> set[str]:
    return set(
        connection.execute(
            sa.select(members.c.person_id)
            .distinct()
            .where(members.c.kind == "lead", members.c.person_id == sa.any_(_texts(person_ids)))
        ).scalars()
    )


def replace_credits(
    connection: Connection,
    refs: Sequence[Ref],
    made: Mapping[Ref, tuple[str | None, int, Sequence[tuple[str, rules.Credit]]]],
    *,
    policy_version: int,
) -> set[str]:
    """Make the credits of these orders exactly `made`: by order its person, its revenue and its credits, each
    with the account it is booked to. An order that is not in `made` has none.

    Returns the persons who lost or gained one of the orders.
    """
    before = connection.execute(
        sa.delete(attributions)
        .where(named(attributions, refs, id_column="order_id"))
        .returning(attributions.c.connector, attributions.c.order_id, attributions.c.person_id)
    )
    held = {(row.connector, row.order_id): row.person_id for row in before}
    holds = {ref: person for ref, (person, _, _) in made.items()}
    moved = {ref for ref in refs if held.get(ref) != holds.get(ref)}
    connection.execute(sa.delete(credits).where(named(credits, refs, id_column="order_id")))
    db.copy_rows(
        connection,
        "attributions",
        [c.name for c in attributions.c],
        (
            (connector, order_id, person, policy_version, revenue)
            for (connector, order_id), (person, revenue, _) in made.items()
        ),
    )
    db.copy_rows(
        connection,
        "credits",
        [c.name for c in credits.c],
        (
            (
                connector,
                order_id,
                line,
                account,
                credit.campaign,
                credit.reason,
                credit.touch.connector if credit.touch else None,
                credit.touch.id if credit.touch else None,
                credit.amount_minor,
            )
            for (connector, order_id), (_, _, shares) in made.items()
            for line, (account, credit) in enumerate(shares)
        ),
    )
    return {person for ref in moved for person in (held.get(ref), holds.get(ref)) if person}


class StaleConfig(Exception):
    """A newer policy is in force than the config that this process was started with."""


def last_policy(connection: Connection) -> sa.Row[Any] | None:
    """The policy in force: version, body, sha256, valid_from."""
    return connection.execute(sa.select(policies).order_by(policies.c.version.desc()).limit(1)).first()


def put_in_force(
    connection: Connection, body: Mapping[str, Any], *, now: datetime, config_read_at: datetime
) -> int:
    """The version of the policy `body` (JSON types). A body that is not in force becomes a new version, and
    every order is named for attribution.

    Policies are never changed or dropped: credits name them. Raises `StaleConfig` when another policy came
    into force after this process read its config: two processes must not turn the books back and forth.
    """
    db.lock_transaction(connection, "policy")
    digest = hashlib.sha256(msgspec.json.encode(body, order="sorted")).digest()
    last = last_policy(connection)
    if last is not None and bytes(last.sha256) == digest:
        return int(last.version)
    if last is not None and last.valid_from > config_read_at:
        raise StaleConfig(
            "a newer attribution policy is in force than the config this process was started with: "
            "restart it, so that it reads the config again"
        )
    version = int(last.version if last else 0) + 1
    connection.execute(
        sa.insert(policies).values(version=version, body=dict(body), sha256=digest, valid_from=now)
    )
    if last is not None:
        note_all_orders(connection)
    return version


def note_all_orders(connection: Connection) -> int:
    """Name every order for attribution: the policy changed."""
    return connection.execute(
        sa.text(
            "INSERT INTO pending (step, kind, connector, ref)"
            " SELECT 'attribute', 'order', connector, external_id FROM orders"
        )
    ).rowcount
