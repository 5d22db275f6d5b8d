"""The config's rules as the steps take them: identity, funnel, policy, push. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sync import config_types as types
from sync.attribute.rules import Policy
from sync.config import Config
from sync.funnel import rules as funnel
from sync.ledger import fx
from sync.match import rules as matching
from sync.push import rules as push


@dataclass(frozen=True)
class Rulebook:
    """`policy_body` is what a policy version consists of, in JSON types; `policy` gives it its number;
    `policy_note` is why it is so.

    `converting` says by whose rates other currencies are booked in the reporting currency (None: they are not).
    `bodies` are the other rules (identity, funnel, push, ledger) in JSON types, to tell when they change; `read_at` is
    when the config was read.
    """

    zone: ZoneInfo
    currency: str
    identity: matching.Rules
    stages: tuple[funnel.Rule, ...]
    policy_body: Mapping[str, Any]
    push: tuple[push.PushRule, ...]
    policy_note: str = ""
    converting: fx.Setting | None = None
    bodies: Mapping[str, Any] = field(default_factory=dict)
    read_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def policy(self, version: int) -> Policy:
        return policy_of(version, self.policy_body)


def policy_of(version: int, body: Mapping[str, Any]) -> Policy:
    """A policy from its stored body."""
    return Policy(
        version=version,
        model=body["model"],
        lookback_days=body["lookback_days"],
        half_life_days=body["half_life_days"],
        first_share=body["position"]["first"],
        last_share=body["position"]["last"],
        touches=frozenset(body["touches"]),
        tax_included=body["revenue"]["tax"] == "included",
        shipping_included=body["revenue"]["shipping"] == "included",
        paid_statuses=tuple(body["paid_statuses"]),
        settle_after_days=body["settle_after_days"],
    )


def of(config: Config) -> Rulebook:
    return Rulebook(
        zone=config.zone,
        currency=config.workspace.currency,
        identity=matching.Rules(
            keys=frozenset(config.identity.keys),
            gmail_dots=config.identity.gmail_dots,
            plus_tags=config.identity.plus_tags,
            caps={k: cap for k, cap in config.identity.caps.model_dump().items() if cap is not None},
            ignore=tuple(config.identity.ignore),
        ),
        stages=tuple(_stages(config.funnel)),
        policy_body=config.attribution.model_dump(mode="json", exclude={"note"}),
        push=tuple(_push(rule) for rule in config.push),
        policy_note=config.attribution.note or "",
        converting=(
            fx.Setting(config.ledger.rates, config.workspace.currency, config.zone)
            if config.ledger.rates
            else None
        ),
        bodies={
            "identity": config.identity.model_dump(mode="json"),
            "funnel": [config.funnel.model_dump(mode="json"), list(config.attribution.paid_statuses)],
            "push": [rule.model_dump(mode="json") for rule in config.push],
            "ledger": [config.ledger.rates, config.workspace.currency],
        },
    )


def _stages(rules: types.Funnel) -> list[funnel.Rule]:
    found = []
    for stage in funnel.STAGES[1:]:
        for number, rule in enumerate(getattr(rules, stage), start=1):
            found.append(
                funnel.Rule(
                    stage=stage,
                    when=_condition(rule),
                    also=tuple(_condition(other) for other in rule.also),
                    reason=rule.reason,
                    name=f"funnel.{stage}[{number}]",
                )
            )
    return found


def _condition(part: types.Part) -> funnel.Condition:
    return funnel.Condition(
        part.on,
        tuple(
            funnel.Test(
                field,
                one_of=asked.one_of,
                none_of=asked.none_of,
                low=asked.low,
                high=asked.high,
                present=asked.present,
            )
            for field, asked in part.where.items()
        ),
    )


def _push(rule: types.PushRule) -> push.PushRule:
    return push.PushRule(
        destination=rule.to,
        stages=frozenset(rule.stages),
        fields=tuple(_field(name, value) for name, value in rule.fields.items()),
    )


def _field(name: str, value: types.PushValue) -> push.FieldRule:
    by_stage = {str(stage): text for stage, text in value.stage.items()} if value.stage else None
    return push.FieldRule(name, source=value.source, by_stage=by_stage, const=value.const)
