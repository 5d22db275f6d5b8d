"""The config as types. Frozen, and nothing unknown is let through; `sync.config` reads a file into them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args, get_type_hints
from urllib.parse import urlsplit
from zoneinfo import available_timezones

import babel
import babel.localedata
import phonenumbers
import pydantic
from croniter import CroniterBadCronError, CroniterBadDateError, croniter

from connectors.contract import Connector
from mappings import currencies
from mappings.canonical import KINDS
from mappings.spec import nearest
from sync.config_ledger import Ledger
from sync.config_section import Section, mistake, mistakes

Stage = Literal["lead", "mql", "sql", "won", "rejected", "lost", "recycled"]
FactKind = Literal["lead", "touch", "contact", "stage_change", "order"]
KeyKind = Literal["email", "phone", "click_id", "customer_id", "crm_id"]
TouchKind = Literal["form", "ad_click", "ad_view", "email_open", "email_click", "visit", "call", "meeting"]
Model = Literal["first", "last", "last_non_direct", "linear", "time_decay", "position"]
PushName = Literal[
    "stage", "campaign", "campaign_source", "revenue", "currency", "orders", "lead_at", "mql_at", "sql_at",
    "won_at", "rejected_reason",
]  # fmt: skip
Scalar = str | int | float | bool | date | datetime | Decimal
STAGES: tuple[Stage, ...] = get_args(Stage)
CRON_FROM = datetime(2024, 1, 1, tzinfo=UTC)
_RANDOM_CRON = re.compile(r"(?i)(?<![a-z])[hr](?![a-z])")


def _zone(name: str) -> str:
    zones = available_timezones()
    if name not in zones:
        by_lower = {zone.lower(): zone for zone in zones}
        near = nearest(name, by_lower)
        known = next((zone for low, zone in by_lower.items() if f"'{low}'" in near), None)
        fix = f"did you mean {known!r}?" if known else "use an IANA name such as Europe/Warsaw"
        raise mistake(f"unknown time zone {name!r}", fix)
    return name


def _currency(code: str) -> str:
    if code not in currencies.EXPONENTS:
        upper = {c.lower(): c for c in currencies.EXPONENTS}
        near = upper.get(code.lower()) or next(
            (c for c in sorted(upper.values()) if f"'{c}'" in nearest(code, [*upper.values()])), None
        )
        fix = f"did you mean {near!r}?" if near else "use an ISO 4217 code such as EUR"
        raise mistake(f"unknown currency {code!r}", fix)
    return code


def _language(code: str) -> str:
    if code not in babel.localedata.locale_identifiers():
        raise mistake(f"unknown language {code!r}", "use a code such as en, pl or de")
    return code


def _region(code: str) -> str:
    if code not in phonenumbers.SUPPORTED_REGIONS:
        raise mistake(f"unknown country {code!r}", "use an ISO 3166 code such as PL")
    return code


def _cron(line: str) -> str:
    if len(line.split()) != 5 or _RANDOM_CRON.search(line):
        raise mistake(
            f"{line!r} is not a cron line of five fields", "minute hour day month weekday, as in '15 * * * *'"
        )
    try:
        croniter(line, CRON_FROM).get_next(datetime)
    except CroniterBadDateError:
        raise mistake(f"{line!r} never comes due", "such a date does not exist") from None
    except (CroniterBadCronError, ValueError, KeyError) as error:
        raise mistake(f"{line!r} is not a cron line: {error}", "as in '15 * * * *'") from None
    return line


def _database(address: str) -> str:
    if address == "embedded":
        return address
    try:
        parts = urlsplit(address)
        good = parts.scheme in {"postgresql", "postgres"} and bool(parts.path.strip("/")) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise mistake("must be embedded or the address of a database", "postgresql://user@host:5432/name")
    return address


class Workspace(Section):
    """Whose numbers these are. A business day is a day in `timezone`; reports are in `currency`.

    `note` stands beside every report: what a reader must know of the figures.
    """

    name: str = pydantic.Field(min_length=1, max_length=200)
    timezone: Annotated[str, pydantic.AfterValidator(_zone)] = "UTC"
    currency: Annotated[str, pydantic.AfterValidator(_currency)]
    language: Annotated[str, pydantic.AfterValidator(_language)] = "en"
    note: str | None = pydantic.Field(default=None, max_length=500)


class ConnectorConfig(Section):
    """One configured connection. `options` is validated by the model of its `type`.

    `mapping` is {stream: {kind: {field: source}}} over the type's own mapping; for a type without one it is
    the mapping: {stream: [entries]}.
    """

    name: str = pydantic.Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")
    type: str
    schedule: Annotated[str, pydantic.AfterValidator(_cron)] | None = None
    catch_up: Literal["one", "all", "none"] = "one"
    start: date | None = pydantic.Field(default=None, alias="from")
    streams: tuple[str, ...] | None = None
    options: Annotated[pydantic.SkipValidation[Any], pydantic.WithJsonSchema({"type": "object"})] = (
        pydantic.Field(default=None, repr=False)
    )
    mapping: Annotated[dict[str, Any], pydantic.WithJsonSchema({"type": "object"})] = pydantic.Field(
        default_factory=dict
    )


class Caps(Section):
    """How many other people's keys one key may stand beside before it joins nobody; null: no limit."""

    email: int | None = pydantic.Field(default=10, ge=1)
    phone: int | None = pydantic.Field(default=3, ge=1)
    click_id: int | None = pydantic.Field(default=3, ge=1)
    customer_id: int | None = pydantic.Field(default=5, ge=1)
    crm_id: int | None = pydantic.Field(default=5, ge=1)


class Identity(Section):
    """What makes two records one person."""

    keys: tuple[KeyKind, ...] = get_args(KeyKind)
    gmail_dots: bool = False
    plus_tags: bool = False
    phone_region: Annotated[str, pydantic.AfterValidator(_region)] | None = None
    caps: Caps = Caps()
    ignore: tuple[str, ...] = ()


class Condition(Section):
    """What a field must hold. A scalar or a list in the YAML is `one_of`."""

    one_of: tuple[Scalar, ...] | None = pydantic.Field(default=None, alias="in")
    none_of: tuple[Scalar, ...] | None = pydantic.Field(default=None, alias="not")
    low: Scalar | None = pydantic.Field(default=None, alias="min")
    high: Scalar | None = pydantic.Field(default=None, alias="max")
    present: bool | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, Condition):
            return value
        if value is None:
            raise mistake("a condition must not be empty", "for a field without a value: {present: false}")
        if not isinstance(value, Mapping):
            return {"in": value if isinstance(value, list | tuple) else [value]}
        if not value:
            raise mistake("a condition must not be empty", "one of in, not, min, max, present")
        listed = {key: value[key] for key in ("in", "not") if key in value}
        return {**value, **{k: v if isinstance(v, list | tuple) else [v] for k, v in listed.items()}}


class Part(Section):
    """A kind of record, and what must hold of its fields."""

    on: FactKind
    where: dict[str, Condition] = pydantic.Field(default_factory=dict)

    @pydantic.model_validator(mode="after")
    def _fields_exist(self) -> Part:
        hints = get_type_hints(KINDS[self.on])
        found: list[tuple[tuple[str | int, ...], str, str]] = []
        typed: dict[str, Condition] = {}
        for name, condition in self.where.items():
            if name not in hints:
                fix = nearest(name, hints)
                found.append((("where", name), f"a {self.on} has no field {name!r}", fix))
                continue
            try:
                typed[name] = _typed(condition, hints[name])
            except ValueError as error:
                found.append((("where", name), f"{error}", f"{self.on}.{name} is of that kind"))
        if found:
            raise mistakes(found)
        self.where.update(typed)
        return self


def _typed(condition: Condition, hint: Any) -> Condition:
    """The condition with its values in the type of the field. Raises ValueError naming the type."""

    def many(values: tuple[Scalar, ...] | None) -> tuple[Scalar, ...] | None:
        return None if values is None else tuple(_value(value, hint) for value in values)

    def one(value: Scalar | None) -> Scalar | None:
        return None if value is None else _value(value, hint)

    return Condition.model_construct(
        one_of=many(condition.one_of),
        none_of=many(condition.none_of),
        low=one(condition.low),
        high=one(condition.high),
        present=condition.present,
    )


def _value(value: Scalar, hint: Any) -> Scalar:
    options = {hint, *get_args(hint)}
    if bool in options or isinstance(value, bool):
        if bool in options and isinstance(value, bool):
            return value
        raise ValueError("must be true or false" if bool in options else "must not be true or false")
    if datetime in options:
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, date):
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
        raise ValueError("must be a date or a time, as in 2024-01-31")
    if int in options or Decimal in options:
        if isinstance(value, int | float | Decimal):
            return Decimal(str(value)) if Decimal in options else value
        raise ValueError("must be a number")
    allowed = [option for option in _flat(hint) if isinstance(option, str)]
    if allowed and str(value) not in allowed:
        raise ValueError(f"must be one of {', '.join(allowed)}")
    return str(value)


def _flat(hint: Any) -> Iterable[Any]:
    yield hint
    for inner in get_args(hint):
        yield from _flat(inner)


class Rule(Part):
    """A fact that moves a person to a stage; `also` (YAML: and) must have happened too."""

    also: tuple[Part, ...] = pydantic.Field(default=(), alias="and")
    reason: str | None = None


def _rule(on: FactKind, **where: list[str]) -> Rule:
    return Rule.model_validate({"on": on, "where": where})


class Funnel(Section):
    """Which facts lead to which stage. Every lead enters the funnel by itself."""

    mql: tuple[Rule, ...] = (_rule("lead"),)
    sql: tuple[Rule, ...] = (
        _rule("stage_change", field=["stage"], value=["salesqualifiedlead", "opportunity"]),
    )
    won: tuple[Rule, ...] = (_rule("order"),)
    rejected: tuple[Rule, ...] = (
        _rule("stage_change", field=["status"], value=["UNQUALIFIED", "BAD_TIMING"]),
    )
    lost: tuple[Rule, ...] = ()
    recycled: tuple[Rule, ...] = ()


class Position(Section):
    """The shares of the first and the last touch; the ones between share what is left."""

    first: float = pydantic.Field(default=0.4, ge=0, le=1)
    last: float = pydantic.Field(default=0.4, ge=0, le=1)

    @pydantic.model_validator(mode="after")
    def _not_over_one(self) -> Position:
        if self.first + self.last > 1 + 1e-9:
            raise mistake("first and last are more than 1 together", "they are shares, as in 0.4 and 0.4")
        return self


class Revenue(Section):
    """What of an order counts as revenue."""

    tax: Literal["included", "excluded"] = "included"
    shipping: Literal["included", "excluded"] = "included"


class Attribution(Section):
    """How an order's revenue is shared among the touches before it. A change makes a new policy version."""

    model: Model = "last"
    lookback_days: int = pydantic.Field(default=90, ge=1, le=3650)
    half_life_days: float = pydantic.Field(default=7, gt=0, le=3650)
    position: Position = Position()
    touches: tuple[TouchKind, ...] = ("form", "ad_click", "email_click", "visit", "call", "meeting")
    revenue: Revenue = Revenue()
    paid_statuses: tuple[str, ...] = pydantic.Field(default=("processing", "completed"), min_length=1)
    settle_after_days: int | None = pydantic.Field(default=90, ge=1, le=3650)
    note: str | None = None


class PushValue(Section):
    """Where a destination's field takes its value from: a name, a text by stage, or a constant."""

    source: PushName | None = None
    stage: dict[Stage, str] | None = None
    const: str | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"source": value}
        if isinstance(value, Mapping) and len(value) == 1:
            return value
        if isinstance(value, PushValue):
            return value
        raise mistake(
            "must be a name, {stage: {…}} or {const: text}", f"names: {', '.join(get_args(PushName))}"
        )


class PushRule(Section):
    """Who is written to which destination, and which of its fields are ours."""

    to: str
    stages: tuple[Stage, ...] = STAGES
    fields: dict[str, PushValue] = pydantic.Field(min_length=1)


class Document(Section):
    """What stands in the file."""

    workspace: Workspace
    database: Annotated[str, pydantic.AfterValidator(_database)] = pydantic.Field(
        default="embedded", repr=False
    )
    data: str = pydantic.Field(default="data", min_length=1)
    connectors: tuple[ConnectorConfig, ...] = ()
    identity: Identity = Identity()
    funnel: Funnel = Funnel()
    attribution: Attribution = Attribution()
    push: tuple[PushRule, ...] = ()
    ledger: Ledger = Ledger()


def stream_names(connector: Connector, options: Any) -> tuple[str, ...]:
    """The streams of a connector with these options: declared, or (as for files) made by the options."""
    if not connector.streams and hasattr(connector.source, "streams"):
        return tuple(stream.name for stream in connector.source.streams(options))
    return tuple(stream.name for stream in connector.streams)
