"""Books that a test tells facts to, one by one: they take the real way, from evidence to outbox."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from connectors.contract import Page, RawRecord, Stream
from mappings.canonical import KINDS
from mappings.engine import build
from sync import pipeline, rulebook, runs
from sync.config_types import Attribution
from sync.funnel import rules as funnel
from sync.ledger import verify
from sync.match import rules as matching
from sync.pull import step as pulling
from sync.push import rules as push
from sync.push import step as pushing
from sync.store.tables import PLURALS

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

# Every field of every kind, as it is: text that only has to be normalised.
IDENTITY_MAPPING = build(
    {
        "type": "facts",
        "streams": {
            PLURALS[kind]: [
                {
                    "kind": kind,
                    "fields": {
                        f.name: f.name for f in msgspec.structs.fields(record) if f.name not in ("lines",)
                    },
                }
            ]
            for kind, record in KINDS.items()
        },
    },
    name="facts",
)


def rules(**policy: Any) -> rulebook.Rulebook:
    """Last touch, 90 days, never settled, but for what `policy` says otherwise."""
    body = Attribution(**{"settle_after_days": None, **policy}).model_dump(mode="json", exclude={"note"})
    return rulebook.Rulebook(
        zone=ZoneInfo("Europe/Warsaw"),
        currency="PLN",
        identity=matching.Rules(
            keys=frozenset({"email", "phone", "customer_id", "crm_id", "click_id"}),
            gmail_dots=True,
            plus_tags=True,
            caps={"phone": 3, "email": 10},
            ignore=("info@*",),
        ),
        stages=(
            funnel.Rule("mql", funnel.Condition("lead"), name="mql"),
            funnel.Rule(
                "sql",
                funnel.Condition("stage_change", (funnel.Test("value", one_of=("sql",)),)),
                name="sql",
            ),
            funnel.Rule("won", funnel.Condition("order"), name="won"),
        ),
        policy_body=body,
        push=(
            push.PushRule(
                destination="crm",
                stages=frozenset(funnel.STAGES),
                fields=tuple(
                    push.FieldRule(name, source=name) for name in ("stage", "campaign", "revenue", "orders")
                ),
            ),
        ),
    )


@dataclass(frozen=True)
class Fact:
    """One record as a vendor tells it; `version` is the vendor's time of the change."""

    kind: str
    id: str
    values: dict[str, Any] = field(default_factory=dict)
    connector: str = "shop"
    version: int | None = None
    deleted: bool = False

    def raw(self) -> RawRecord:
        body = json.dumps({"external_id": self.id, **self.values}, sort_keys=True).encode()
        version = None if self.version is None else LONG_AGO + timedelta(minutes=self.version)
        return RawRecord(self.id, body, version=version, deleted=self.deleted)


class Told:
    """A source that yields the facts it was given, a page of one stream."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        self._facts = facts

    def read(self, stream: str, window: Any) -> Iterator[Page]:
        yield Page([fact.raw() for fact in self._facts])

    def check(self) -> list[Any]:
        return []


# What a ledger, its derived tables and its outbox come to; nothing here depends on when it was found out.
DUMP = {
    "balances": """
        SELECT p.account, e.currency, sum(p.amount_minor)::bigint FROM entries e
          JOIN postings p ON p.entry_id = e.id
         GROUP BY 1, 2 HAVING sum(p.amount_minor) <> 0 ORDER BY 1, 2""",
    "subjects": """
        SELECT e.connector, e.subject, e.part, e.business_day::text, p.account, sum(p.amount_minor)::bigint
          FROM entries e JOIN postings p ON p.entry_id = e.id
         GROUP BY 1, 2, 3, 4, 5 HAVING sum(p.amount_minor) <> 0 ORDER BY 1, 2, 3, 4, 5""",
    "credits": "SELECT * FROM credits ORDER BY connector, order_id, line",
    "attributions": "SELECT * FROM attributions ORDER BY connector, order_id",
    "members": "SELECT * FROM members ORDER BY kind, connector, external_id",
    "ignored": "SELECT * FROM ignored_keys ORDER BY 1, 2",
    "journeys": "SELECT * FROM journeys ORDER BY person_id",
    "stages": "SELECT * FROM stage_events ORDER BY person_id, seq",
    "outbox": """
        SELECT destination, person_id, email, remote_id, desired FROM outbox
         WHERE status <> 'superseded' ORDER BY 1, 2""",
}


class Books:
    """A database of its own and the rules it is kept by; `now` is the clock of the derivation."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.rules = rules()
        self.now = NOW

    def tell(self, *facts: Fact) -> None:
        """Pull these facts, in this order, a page each."""
        for fact in facts:
            stream = Stream(PLURALS[fact.kind])
            plan = pulling.Plan(
                connector=fact.connector,
                source=Told([fact]),
                mapping=IDENTITY_MAPPING,
                streams=[stream],
                start=LONG_AGO,
                zone=self.rules.zone,
                phone_region="PL",
            )
            with runs.begin(self.engine, connector=fact.connector, kind="pull", stop=Event()) as run:
                pulling.pull(self.engine, run, plan, now=self.now, say=lambda _: None)
            assert run.status == "done", (fact, run)

    def derive(self) -> None:
        pipeline.derive(self.engine, self.rules, say=lambda _: None, now=self.now)
        pushing.prepare(self.engine, self.rules.push, currency=self.rules.currency)

    def told(self, *facts: Fact) -> None:
        self.tell(*facts)
        self.derive()

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        return {name: self.ask(statement) for name, statement in DUMP.items()}

    def ask(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement), values)]

    def do(self, statement: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), values)

    def balances(self) -> dict[str, int]:
        """By account, without those at zero."""
        return {row[0]: row[2] for row in self.ask(DUMP["balances"])}

    def outbox(self) -> dict[str, dict[str, str]]:
        """What the CRM should hold, by e-mail address."""
        return {row[2]: row[4] for row in self.ask(DUMP["outbox"])}

    def verify(self, **shops: Any) -> dict[str, str]:
        """By check: the first thing wrong, "" if nothing is."""
        with self.engine.connect() as connection:
            found = verify.verify(
                connection,
                self.rules.policy(1),
                zone=self.rules.zone,
                now=self.now,
                shops=shops,
                say=lambda _: None,
            )
        return {check.name: check.wrong for check in found}


def at(day: int, hour: int = 12) -> str:
    """A moment of May 2026, as text."""
    return datetime(2026, 5, day, hour, tzinfo=UTC).isoformat()


def order(id: str, total: str, *, day: int, version: int | None = None, **more: Any) -> Fact:
    values = {"occurred_at": at(day), "status": "completed", "currency": "PLN", "total_minor": total, **more}
    return Fact("order", id, values, version=version)


def refund(id: str, order_id: str, amount: str, *, day: int, version: int | None = None) -> Fact:
    return Fact(
        "refund", id, {"order_id": order_id, "occurred_at": at(day), "amount": amount}, version=version
    )


def lead(id: str, *, day: int, **more: Any) -> Fact:
    return Fact("lead", id, {"occurred_at": at(day), **more}, connector="ads", version=0)


def touch(id: str, *, day: int, **more: Any) -> Fact:
    return Fact("touch", id, {"occurred_at": at(day), "kind": "form", **more}, connector="ads", version=0)


def contact(id: str, *, version: int, **more: Any) -> Fact:
    values = {"modified_at": at(1), **more}
    return Fact("contact", id, values, connector="crm", version=version)


def spend(id: str, amount: str, *, day: int, campaign: str, version: int) -> Fact:
    values = {
        "day": f"2026-05-{day:02d}",
        "campaign_id": campaign,
        "currency": "PLN",
        "amount_minor": amount,
    }
    return Fact("spend", id, values, connector="ads", version=version)


def campaign(id: str, name: str, *, version: int = 0) -> Fact:
    return Fact("campaign", id, {"name": name}, connector="ads", version=version)
