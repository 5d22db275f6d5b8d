"""What a destination should hold of a person, and what has to be sent for it. Pure.

No value means no opinion: a field without a value is not among the desired ones and never overwrites what the
destination holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from connectors.contract import Outcome, Upsert


@dataclass(frozen=True, slots=True)
class FieldRule:
    """Where a destination's field takes its value from: a name of `values`, a text by stage, or a constant."""

    field: str
    source: str | None = None
    by_stage: Mapping[str, str] | None = None
    const: str | None = None


@dataclass(frozen=True, slots=True)
class PushRule:
    """Who is pushed to `destination` (people who now stand at one of `stages`) and with which fields."""

    destination: str
    stages: frozenset[str]
    fields: tuple[FieldRule, ...]


def written(rules: Iterable[PushRule], destination: str) -> list[str]:
    """Every field that the rules may write to `destination`."""
    return sorted({field.field for rule in rules if rule.destination == destination for field in rule.fields})


@dataclass(frozen=True, slots=True)
class Standing:
    """All that a push rule can speak of. `revenue` in minor units of `currency`, `digits` its decimals."""

    stage: str
    campaign: str | None
    campaign_source: str | None
    revenue_minor: int
    digits: int
    currency: str
    orders: int
    times: Mapping[str, datetime | None]
    rejected_reason: str | None


def values(standing: Standing) -> dict[str, str | None]:
    """The standing as text by the names that the config uses."""
    return {
        "stage": standing.stage,
        "campaign": standing.campaign,
        "campaign_source": standing.campaign_source,
        "revenue": f"{Decimal(standing.revenue_minor).scaleb(-standing.digits):f}",
        "currency": standing.currency,
        "orders": str(standing.orders),
        "rejected_reason": standing.rejected_reason,
        **{name: stamp(at) if at else None for name, at in standing.times.items()},
    }


def stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def desired(standing: Standing, rule: PushRule) -> dict[str, str]:
    """The fields that we own at the destination, with the values they should have."""
    named = values(standing)
    found: dict[str, str | None] = {}
    for field in rule.fields:
        if field.by_stage is not None:
            found[field.field] = field.by_stage.get(standing.stage)
        elif field.source is not None:
            found[field.field] = named[field.source]
        else:
            found[field.field] = field.const
    return {name: value for name, value in sorted(found.items()) if value is not None and value != ""}


def changed(wanted: Mapping[str, str], accepted: Mapping[str, str]) -> frozenset[str]:
    """The fields that have to be sent."""
    return frozenset(name for name, value in wanted.items() if accepted.get(name) != value)


def upsert(
    *, key: str, email: str, remote_id: str | None, wanted: Mapping[str, str], accepted: Mapping[str, str]
) -> Upsert:
    return Upsert(
        key=key,
        email=email,
        remote_id=remote_id,
        fields=dict(wanted),
        changed=changed(wanted, accepted),
        accepted=dict(accepted),
    )


def now_accepted(sent: Upsert, outcome: Outcome) -> dict[str, str]:
    """What the destination holds of our fields after an outcome.

    An accepted upsert holds what was sent, but for what the answer shows otherwise; a refused one holds what
    the answer shows of it, if it shows any.
    """
    held = dict(sent.accepted)
    if outcome.status == "accepted":
        held |= sent.fields
    return held | {name: value for name, value in outcome.shown.items() if name in sent.fields}
