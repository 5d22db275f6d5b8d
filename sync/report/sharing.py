"""Why an order's revenue was shared as it is booked: each share's touch, its weight by the model, and its rounding.

Worked out anew by the rules that decided, and held against the journal: what does not come out as it is booked is
shown without a touch, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.attribute import campaigns as naming
from sync.attribute import rules, step
from sync.attribute import store as attribution
from sync.attribute.store import Ref
from sync.ledger import accounts
from sync.report import rounding
from sync.rulebook import policy_of
from sync.store.tables import CANONICAL, attributions, credits, evidence, policies

HELD = (
    "later evidence or another policy would share it otherwise: it stays as it is booked, without its touches"
)

_SALES = sa.text(
    """
    WITH named AS (
        SELECT * FROM unnest(CAST(:connectors AS text[]), CAST(:subjects AS text[])) AS n (connector, subject)
    )
    SELECT e.id, e.connector, e.subject, e.currency, e.happened_at, e.policy_version, e.refers_to,
           (SELECT array_agg(p.account ORDER BY p.line) FROM postings p WHERE p.entry_id = e.id) AS accounts,
           (SELECT array_agg(p.amount_minor ORDER BY p.line) FROM postings p WHERE p.entry_id = e.id) AS amounts,
           (SELECT array_agg(p.account ORDER BY p.line) FROM postings p WHERE p.entry_id = e.refers_to)
               AS accounts_before,
           (SELECT array_agg(p.amount_minor ORDER BY p.line) FROM postings p WHERE p.entry_id = e.refers_to)
               AS amounts_before
      FROM entries e JOIN named USING (connector, subject)
     WHERE e.part = 'sale' AND e.reverses IS NULL AND e.booked_at <= :known_until
       AND NOT EXISTS (SELECT FROM entries r WHERE r.reverses = e.id AND r.booked_at <= :known_until)
    """
)


@dataclass(frozen=True, slots=True)
class Shared:
    """How one order's revenue is shared: `parts` sum to `revenue_minor`. `held` says why no touch is shown."""

    sale: int
    currency: str
    policy_version: int | None
    model: str | None
    person: str | None
    revenue_minor: int
    parts: list[dict[str, Any]] = field(default_factory=list)
    held: str = ""


@dataclass(frozen=True, slots=True)
class _Order:
    sale: Any
    booked: dict[str, int]
    attributed: Any
    lines: Sequence[Any]
    policy: rules.Policy | None


def read(
    connection: Connection, refs: Sequence[Ref], *, known: naming.Lookup, known_until: datetime
) -> dict[Ref, Shared]:
    """By order, how its sale in force at `known_until` is shared; an order without one is not in the answer."""
    orders = _orders(connection, refs, known_until)
    near = _touchpoints(connection, orders, known)
    proofs = _evidence(connection, [line for order in orders.values() for line in order.lines])
    return {ref: _shared(order, near.get(ref, ()), known, proofs) for ref, order in orders.items()}


def _orders(connection: Connection, refs: Sequence[Ref], known_until: datetime) -> dict[Ref, _Order]:
    asked = {"connectors": [r[0] for r in refs], "subjects": [f"order:{r[1]}" for r in refs]}
    sales = {
        (row.connector, row.subject.partition(":")[2]): row
        for row in connection.execute(_SALES, asked | {"known_until": known_until})
    }
    held = list(sales)
    lines: dict[Ref, list[Any]] = {}
    for row in connection.execute(
        sa.select(credits)
        .where(attribution.named(credits, held, id_column="order_id"))
        .order_by(credits.c.connector, credits.c.order_id, credits.c.line)
    ):
        lines.setdefault((row.connector, row.order_id), []).append(row)
    attributed = {
        (row.connector, row.order_id): row
        for row in connection.execute(
            sa.select(attributions).where(attribution.named(attributions, held, id_column="order_id"))
        )
    }
    versions = {row.policy_version for row in sales.values() if row.policy_version is not None}
    decided = {
        row.version: policy_of(row.version, row.body)
        for row in connection.execute(sa.select(policies).where(policies.c.version.in_(versions)))
    }
    return {
        ref: _Order(
            sale,
            _credited(sale.accounts, sale.amounts),
            attributed.get(ref),
            lines.get(ref, ()),
            decided.get(sale.policy_version),
        )
        for ref, sale in sales.items()
    }


def _credited(names: Sequence[str] | None, amounts: Sequence[int] | None) -> dict[str, int]:
    return {
        account: amount
        for account, amount in zip(names or (), amounts or (), strict=True)
        if account.startswith(("Credit:", "Unattributed:"))
    }


def _touchpoints(
    connection: Connection, orders: Mapping[Ref, _Order], known: naming.Lookup
) -> dict[Ref, list[rules.Touchpoint]]:
    """By order the touches that its policy counted, in the order in which it weighs them."""
    found: dict[Ref, list[rules.Touchpoint]] = {}
    for version in {order.policy.version for order in orders.values() if order.policy}:
        mine = {ref: o for ref, o in orders.items() if o.policy and o.policy.version == version}
        policy = next(order.policy for order in mine.values() if order.policy)
        lookback = timedelta(days=policy.lookback_days)
        spans: dict[str, tuple[datetime, datetime]] = {}
        for order in mine.values():
            if order.attributed is not None and order.attributed.person_id:
                at, person = order.sale.happened_at, order.attributed.person_id
                since, until = spans.get(person, attribution.EVER[::-1])
                spans[person] = (min(since, at - lookback), max(until, at))
        rows = attribution.read_touches(connection, spans, kinds=policy.touches)
        touches = {person: step.touchpoints(of_person, known) for person, of_person in rows.items()}
        for ref, order in mine.items():
            person, at = getattr(order.attributed, "person_id", None), order.sale.happened_at
            near = step.between(touches.get(person or "", ()), at - lookback, at)
            found[ref] = sorted(near, key=lambda t: (t.at, t.connector, t.id))
    return found


def _evidence(connection: Connection, lines: Iterable[Any]) -> dict[Ref, dict[str, Any]]:
    """By touch (connector, id) what it is and the evidence it was read from, without the body."""
    refs = sorted({(row.touch_connector, row.touch_id) for row in lines if row.touch_id is not None})
    if not refs:
        return {}
    touch = CANONICAL["touch"]
    rows = connection.execute(
        sa.select(touch, evidence.c.sha256, evidence.c.fetched_at, evidence.c.run_id)
        .join(evidence, evidence.c.id == touch.c.evidence_id)
        .where(attribution.named(touch, refs))
    )
    return {
        (row.connector, row.external_id): {
            "id": f"{row.connector}:{row.external_id}",
            "kind": row.kind,
            "at": row.occurred_at.isoformat(),
            "evidence": {
                "id": row.evidence_id,
                "source": f"{row.connector}/{row.stream}/{row.raw_id}",
                "sha256": bytes(row.sha256).hex(),
                "fetched_at": row.fetched_at.isoformat(),
                "run": row.run_id,
            },
        }
        for row in rows
    }


def _shared(
    order: _Order,
    near: Sequence[rules.Touchpoint],
    known: naming.Lookup,
    proofs: Mapping[Ref, dict[str, Any]],
) -> Shared:
    summed: dict[str, int] = {}
    for line in order.lines:
        summed[line.account] = summed.get(line.account, 0) + line.amount_minor
    policy = order.policy
    made = Shared(
        sale=order.sale.id,
        currency=order.sale.currency,
        policy_version=order.sale.policy_version,
        model=policy.model if policy else None,
        person=getattr(order.attributed, "person_id", None),
        revenue_minor=sum(order.booked.values()),
        held="" if {a: n for a, n in summed.items() if n} == order.booked else HELD,
    )
    if made.held:
        before = _credited(order.sale.accounts_before, order.sale.amounts_before)
        rounded = _in_proportion(order.booked, before)
        for account, amount in order.booked.items():
            made.parts.append(part(account, amount, known.names) | {"share": rounded.get(account)})
        return made
    told = _by_model(order, near)
    for line, share in zip(order.lines, told, strict=True):
        touch = proofs.get((line.touch_connector, line.touch_id))
        made.parts.append(
            part(line.account, line.amount_minor, known.names) | {"touch": touch, "share": share}
        )
    return made


def _in_proportion(booked: Mapping[str, int], before: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """The rounding of a settled sale whose amount was edited: it is shared as the sale before it was."""
    if set(booked) != set(before) or sum(booked.values()) == sum(before.values()) or min(before.values()) < 0:
        return {}
    names = list(before)
    told = rounding.told(sum(booked.values()), [before[name] for name in names])
    found = dict(zip(names, told, strict=True))
    if any(found[name].amount != booked[name] for name in names):
        return {}
    return {name: share.as_json() for name, share in found.items()}


def _by_model(order: _Order, near: Sequence[rules.Touchpoint]) -> list[dict[str, Any] | None]:
    """The share of each credit, by the weights of the model; None for each where these do not give the credits."""
    nothing: list[dict[str, Any] | None] = [None] * len(order.lines)
    if order.policy is None or not near:
        return nothing
    weighed = rules.weights(near, order.sale.happened_at, order.policy)
    paths = [(touch, weight) for touch, weight in zip(near, weighed, strict=True) if weight > 0]
    told = rounding.told(sum(order.booked.values()), [weight for _, weight in paths])
    by_rule = [
        (touch.connector, touch.id, share.amount) for (touch, _), share in zip(paths, told, strict=True)
    ]
    if by_rule != [(line.touch_connector, line.touch_id, line.amount_minor) for line in order.lines]:
        return nothing
    return [share.as_json() for share in told]


def part(account: str, amount: int, names: Mapping[str, str]) -> dict[str, Any]:
    """One credit as it is booked, without touch and share."""
    key = accounts.campaign_key(account) if account.startswith("Credit:") else None
    source, name = naming.display(key, names) if key else (None, None)
    return {
        "campaign": name,
        "source": source,
        "reason": None if key else accounts.unpart(account.partition(":")[2]),
        "amount_minor": amount,
        "account": account,
        "touch": None,
        "share": None,
    }
