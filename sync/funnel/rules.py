"""From facts to stages. Pure: the same facts give the same events, in whatever order they became known.

    lead → mql → sql → won;   rejected, lost: out of the funnel;   recycled: back to marketing

A person enters the funnel with its first lead. Facts of the CRM that are older than the lead still count, at
their own time; an order counts as won only at or after the first contact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

Stage = Literal["lead", "mql", "sql", "won", "rejected", "lost", "recycled"]
STAGES: tuple[Stage, ...] = ("lead", "mql", "sql", "won", "rejected", "lost", "recycled")
_STEPS = {stage: i for i, stage in enumerate(STAGES)}
# From which stages a stage can be reached; a new lead leads back in from everywhere outside.
_FROM: Mapping[str, frozenset[str]] = {
    "lead": frozenset({"", "rejected", "lost"}),
    "mql": frozenset({"lead", "recycled"}),
    "sql": frozenset({"lead", "mql", "recycled"}),
    "won": frozenset({"lead", "mql", "sql", "recycled", "rejected", "lost"}),
    "rejected": frozenset({"lead", "mql", "sql", "recycled"}),
    "lost": frozenset({"mql", "sql"}),
    "recycled": frozenset({"mql", "sql", "rejected", "lost"}),
}
# What led out of the funnel before the first lead came is undone by that lead.
_LEAVING = frozenset({"rejected", "lost", "recycled"})
# People set the status first and the reason in the next click.
REASON_WITHIN = timedelta(minutes=10)
_NOTHING: tuple[Any, ...] = (None, "", [], ())


@dataclass(frozen=True, slots=True)
class Fact:
    """One canonical record of a person, as a fact with a time. `values` are its fields by name."""

    kind: str
    connector: str
    id: str
    at: datetime
    values: Mapping[str, Any]
    who: str | None = None


@dataclass(frozen=True, slots=True)
class Test:
    """A condition on one field; what is None is not asked for."""

    field: str
    one_of: tuple[Any, ...] | None = None
    none_of: tuple[Any, ...] | None = None
    low: Any = None
    high: Any = None
    present: bool | None = None

    def holds(self, values: Mapping[str, Any]) -> bool:
        value = values.get(self.field)
        if self.present is not None and (value not in _NOTHING) != self.present:
            return False
        if self.one_of is not None and not _in(value, self.one_of):
            return False
        if self.none_of is not None and _in(value, self.none_of):
            return False
        if self.low is not None and (value is None or value < self.low):
            return False
        return self.high is None or (value is not None and value <= self.high)


def _in(value: Any, options: tuple[Any, ...]) -> bool:
    if isinstance(value, list | tuple):
        return any(item in options for item in value)
    return value in options


@dataclass(frozen=True, slots=True)
class Condition:
    """A kind of fact and what must hold of it."""

    on: str
    where: tuple[Test, ...] = ()

    def holds(self, fact: Fact) -> bool:
        return fact.kind == self.on and all(test.holds(fact.values) for test in self.where)


@dataclass(frozen=True, slots=True)
class Rule:
    """A fact that moves a person to `stage`; `also` must have happened too, before or after.

    With `also`, the stage is reached when the last of all of them has happened.
    """

    stage: Stage
    when: Condition
    also: tuple[Condition, ...] = ()
    reason: str | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """A person reached `stage` `at`; `why` names the rule, `fact` the evidence."""

    stage: Stage
    at: datetime
    who: str | None
    why: str
    reason: str | None
    fact: Fact


@dataclass(frozen=True, slots=True)
class Journey:
    """Where a person stands, and when it first reached what."""

    stage: Stage
    lead_at: datetime
    reached: Mapping[str, datetime]
    rejected_reason: str | None


def events(facts: Iterable[Fact], rules: Sequence[Rule]) -> list[Event]:
    """Every stage a person reached, oldest first; empty for a person without a lead."""
    real = (f for f in facts if not f.values.get("test"))
    ordered = sorted(real, key=lambda f: (f.at, f.kind, f.connector, f.id))
    leads = [f for f in ordered if f.kind == "lead"]
    if not leads:
        return []
    start = leads[0].at
    candidates = [Event("lead", f.at, f.who, "a lead came in", None, f) for f in leads]
    for rule in rules:
        candidates += _candidates(rule, ordered, start)
    candidates.sort(key=lambda e: _turn(e, start))
    stage = ""
    reached: list[Event] = []
    for event in candidates:
        if stage in _FROM[event.stage]:
            stage = event.stage
            reached.append(event)
    return reached


def _turn(event: Event, start: datetime) -> tuple[Any, ...]:
    """The place of an event among the others: facts older than the first lead follow it, and the
    qualification that it brings about, in the order in which they happened."""
    by_lead = event.at >= start and event.stage in ("lead", "mql")
    step = _STEPS[event.stage]
    return (max(event.at, start), not by_lead, event.at, step, event.fact.connector, event.fact.id)


def _candidates(rule: Rule, ordered: Sequence[Fact], start: datetime) -> list[Event]:
    if rule.stage == "won":
        ordered = [f for f in ordered if f.kind != "order" or f.at >= start]
    others = [_first(condition, ordered) for condition in rule.also]
    if any(fact is None for fact in others):
        return []
    found = []
    for fact in ordered:
        if not rule.when.holds(fact):
            continue
        if fact.at < start and (fact.kind == "order" or rule.stage in _LEAVING):
            continue
        at = max([fact.at, *(other.at for other in others if other is not None)])
        reason = _reason(rule, fact, ordered)
        found.append(Event(rule.stage, at, fact.who, rule.name or f"rule {rule.stage}", reason, fact))
    return found


def _first(condition: Condition, ordered: Sequence[Fact]) -> Fact | None:
    return next((fact for fact in ordered if condition.holds(fact)), None)


def _reason(rule: Rule, fact: Fact, ordered: Sequence[Fact]) -> str | None:
    """The reason somebody wrote beside the change: the last one known within ten minutes of it, or before."""
    if rule.stage not in ("rejected", "lost", "recycled"):
        return None
    if rule.reason:
        return rule.reason
    written = [
        f
        for f in ordered
        if f.kind == "stage_change" and f.values.get("field") == "reason" and f.at <= fact.at + REASON_WITHIN
    ]
    if written and written[-1].values.get("value"):
        return str(written[-1].values["value"])
    value = fact.values.get("value")
    return str(value) if value else "no reason given"


def journey(reached: Sequence[Event]) -> Journey | None:
    """The summary of a person's events: the first time of each stage, and the last reason of a rejection."""
    if not reached:
        return None
    first: dict[str, datetime] = {}
    for event in reached:
        first.setdefault(event.stage, event.at)
    reasons = [e.reason for e in reached if e.stage == "rejected"]
    return Journey(
        stage=reached[-1].stage,
        lead_at=first["lead"],
        reached=first,
        rejected_reason=reasons[-1] if reasons else None,
    )
