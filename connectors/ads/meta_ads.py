"""Meta Ads as a source: leads of instant forms, campaigns, spend by ad and day.

Facts: Meta's Graph and Marketing API v25.0 (guides on retrieving leads, insights, error handling and rate
limiting). Lists are followed by their cursor: the ready-made link to the next page holds the token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import pydantic
import structlog

from connectors._answer import read
from connectors.ads import meta_ads_days as days_of
from connectors.ads import meta_ads_wire as wire
from connectors.ads.meta_ads_days import Days
from connectors.contract import Connector, Context, Cursor, Finding, Page, RawRecord, Stream, Window
from connectors.errors import ConnectorError
from connectors.http import HttpSettings

CALLS_MAX = 200_000
"""Bound on the calls of one walk through a list."""
LIMIT_MIN = 10
"""Rows a call below which asking for fewer does not help any more."""
SECOND = timedelta(seconds=1)
LEAD_FIELDS = (
    "id,created_time,ad_id,ad_name,adset_id,adset_name,campaign_id,campaign_name,form_id,field_data,"
    "custom_disclaimer_responses,is_organic,platform,partner_name"
)
CAMPAIGN_FIELDS = (
    "id,account_id,name,objective,status,effective_status,buying_type,start_time,stop_time,created_time,"
    "updated_time"
)
CAMPAIGN_STATUSES = ("ACTIVE", "PAUSED", "DELETED", "ARCHIVED", "IN_PROCESS", "WITH_ISSUES")
"""All of them: without asking, archived and deleted ones are left out, though their leads and spend stay."""
SPEND_FIELDS = (
    "account_id,account_currency,campaign_id,campaign_name,adset_id,adset_name,ad_id,ad_name,spend,"
    "impressions,clicks,actions,action_values,date_start,date_stop"
)
WINDOWS = ("7d_click", "1d_view")
"""Of the conversions also how many came by which window. Longer views are gone since 2026."""

log = structlog.get_logger(__name__)


class Options(pydantic.BaseModel):
    """What a `meta_ads` connector is told.

    Attributes
    ----------
    access_token : best of a system user of the business, which does not expire; with the permissions
        leads_retrieval, pages_show_list, pages_read_engagement, pages_manage_ads, ads_management, ads_read.
    app_secret : proves with each call that we hold the app's secret; needed where the app asks for it.
    account_id : the ad account, as in ``act_1234``; by default all that the token's user sees.
    page_ids : the pages whose forms are read; by default all that the token's user sees.
    page_size : rows a call.
    history_months : how far back the vendor shows spend; null: without a limit.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    base_url: str = "https://graph.facebook.com"
    version: str = pydantic.Field(default="v25.0", pattern=r"^v\d{1,3}\.\d{1,2}$")
    access_token: pydantic.SecretStr
    app_secret: pydantic.SecretStr | None = None
    account_id: str | None = None
    page_ids: tuple[str, ...] = ()
    page_size: int = pydantic.Field(default=100, ge=LIMIT_MIN, le=500)
    history_months: int | None = pydantic.Field(default=days_of.HISTORY_MONTHS, ge=1)

    @pydantic.field_validator("account_id")
    @classmethod
    def _is_account(cls, value: str | None) -> str | None:
        if value is not None and not _is_digits(value.removeprefix("act_")):
            raise ValueError("account_id must be act_ and digits, as in act_1234567890")
        return value and f"act_{value.removeprefix('act_')}"

    @pydantic.field_validator("page_ids")
    @classmethod
    def _are_pages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_is_digits(one) for one in value):
            raise ValueError("page_ids must be digits, in quotation marks")
        return value


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


class _TooMuch(ConnectorError):
    """Even the fewest rows a call are more than the vendor wants to answer."""

    def __init__(self, path: str) -> None:
        super().__init__("vendor", f"Meta finds even {LIMIT_MIN} rows of {path} too much to answer")


class MetaAds:
    """Reads one business (a `connectors.contract.Source`)."""

    def __init__(
        self,
        options: Options,
        context: Context,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clock = clock
        token = options.access_token.get_secret_value()
        secret = options.app_secret.get_secret_value() if options.app_secret else None
        self._options = options
        self._http = context.http(
            HttpSettings(
                base_url=f"{options.base_url.rstrip('/')}/{options.version}",
                auth=wire.Token(token, secret),
                classify=wire.classify,
                pace=wire.pace,
                parallel=2,
                timeout_s=120.0,
                retries=4,
                retry_base_s=2.0,
                secrets=(token, secret) if secret else (token,),
            )
        )

    def read(self, stream: str, window: Window) -> Iterator[Page]:
        """Yield the pages of `leads`, `campaigns` or `spend`."""
        if stream == "leads":
            return self._leads(window)
        if stream == "campaigns":
            return self._campaigns()
        if stream == "spend":
            return self._spend(window)
        raise ConnectorError("config", f"meta_ads has no stream {stream!r}")

    def check(self) -> list[Finding]:
        """Try the token, the forms and leads of each page, and the ad accounts."""
        findings: list[Finding] = []
        try:
            self._http.get("me/accounts", {"fields": "id", "limit": 1})
            pages = self._pages()
            findings.append(Finding("access token", ok=True))
            if not pages:
                hint = "The token's user sees no page: give it the ADVERTISE task on the page of the forms."
                findings.append(Finding("pages", ok=False, hint=hint))
        except ConnectorError as error:
            return [Finding("access token", ok=False, hint=str(error))]
        findings += [self._check_page(page_id) for page_id in pages]
        try:
            accounts = self._accounts()
        except ConnectorError as error:
            what = f"ad account {self._options.account_id or ''}".rstrip()
            return [*findings, Finding(what, ok=False, hint=str(error))]
        return findings + [self._check_account(account) for account in accounts]

    def _check_page(self, page_id: str) -> Finding:
        what = f"lead forms of page {page_id}"
        try:
            forms = self._forms(page_id)
            if not forms:
                return Finding(what, ok=True, hint="The page has no form yet.")
            self._http.get(f"{forms[0].id}/leads", {"fields": "id", "limit": 1})
        except ConnectorError as error:
            return Finding(what, ok=False, hint=str(error))
        return Finding(what, ok=True)

    def _check_account(self, account: wire.Account) -> Finding:
        what = f"ad account {account.id} ({account.currency}, {account.timezone_name})"
        try:
            _zone(account)
            self._http.get(f"{account.id}/campaigns", {"fields": "id", "limit": 1})
        except ConnectorError as error:
            return Finding(what, ok=False, hint=str(error))
        return Finding(what, ok=True)

    # leads

    def _leads(self, window: Window) -> Iterator[Page]:
        """Leads of all forms, archived ones too: a form cannot be deleted.

        Neither forms nor leads are sorted by contract, so only the end of a complete read moves the cursor. A
        page or form that cannot be read does not stop the others, but the cursor stays.
        """
        latest: datetime | None = None
        failed: list[ConnectorError] = []
        for page_id in self._pages():
            try:
                for form in self._forms(page_id):
                    for records in self._leads_of(form, window):
                        times = [record.version for record in records if record.version]
                        latest = max([*times, *([latest] if latest else [])], default=None)
                        yield Page(records)
            except ConnectorError as error:
                if error.kind not in ("scope", "config", "protocol", "too_large"):
                    raise
                log.warning("page_failed", page=page_id, kind=error.kind, error=error.message)
                failed.append(error)
        if failed:
            raise failed[0]
        yield Page((), cursor=Cursor(at=latest) if latest else None)

    def _leads_of(self, form: wire.Form, window: Window) -> Iterator[list[RawRecord]]:
        """The filter wants Unix seconds and is ignored without a word when it does not like a value, so the
        time is looked at here as well."""
        after = window.since.astimezone(UTC).replace(microsecond=0) - SECOND
        before = window.until.astimezone(UTC).replace(microsecond=0) + SECOND
        rules = [
            {"field": "time_created", "operator": "GREATER_THAN", "value": int(after.timestamp())},
            {"field": "time_created", "operator": "LESS_THAN", "value": int(before.timestamp())},
        ]
        context = _form_context(form)
        params = {"fields": LEAD_FIELDS, "filtering": _json(rules)}
        for items in self._walk(f"{form.id}/leads", params):
            records = []
            for item in items:
                head = wire.head(item, wire.Lead)
                created_at = wire.time_of(head.created_time)
                if created_at is None or window.since <= created_at < window.until:
                    key = wire.key_of(head.id, item)
                    records.append(RawRecord(key, bytes(item), version=created_at, context=context))
            if records:
                yield records

    def _pages(self) -> list[str]:
        if self._options.page_ids:
            return list(self._options.page_ids)
        return [page.id for page in self._named("me/accounts", "id", wire.Named)]

    def _forms(self, page_id: str) -> list[wire.Form]:
        return self._named(f"{page_id}/leadgen_forms", "id,name,status,questions", wire.Form)

    # campaigns

    def _campaigns(self) -> Iterator[Page]:
        rules = [{"field": "effective_status", "operator": "IN", "value": CAMPAIGN_STATUSES}]
        params = {"fields": CAMPAIGN_FIELDS, "filtering": _json(rules)}
        for account in self._accounts():
            for items in self._walk(f"{account.id}/campaigns", params):
                heads = [wire.head(item, wire.Campaign) for item in items]
                yield Page(
                    [
                        RawRecord(
                            wire.key_of(head.id, item), bytes(item), version=wire.time_of(head.updated_time)
                        )
                        for item, head in zip(items, heads, strict=True)
                    ]
                )

    # spend

    def _spend(self, window: Window) -> Iterator[Page]:
        """All days of the window whole, each a day of the ad account's zone.

        The end of the last day with a row is how far all is known: a day without delivery has none.
        """
        latest: datetime | None = None
        for account in self._accounts():
            zone = _zone(account)
            shown = days_of.within(window, zone=zone, now=self._clock(), months=self._options.history_months)
            if shown.first > window.since.astimezone(zone).date():
                log.warning("history_cut", account=account.id, first=shown.first.isoformat())
            for days in shown.months():
                for items in self._insights(account.id, days):
                    heads = [wire.head(item, wire.Insight) for item in items]
                    for head in heads:
                        end = days_of.end_of(head.date_start, zone)
                        latest = max(latest, end) if latest and end else end or latest
                    yield Page(
                        [
                            RawRecord(_spend_key(head, item), bytes(item))
                            for item, head in zip(items, heads, strict=True)
                        ]
                    )
        yield Page((), cursor=Cursor(at=min(latest, window.until)) if latest else None)

    def _insights(self, account_id: str, days: Days) -> Iterator[list[msgspec.Raw]]:
        """The rows of these days; where they are too many for the vendor, by ever fewer days."""
        params = {
            "level": "ad",
            "time_increment": 1,
            "time_range": _json({"since": days.first.isoformat(), "until": days.last.isoformat()}),
            "fields": SPEND_FIELDS,
            "action_attribution_windows": _json(WINDOWS),
        }
        try:
            yield from self._walk(f"{account_id}/insights", params)
        except _TooMuch:
            if days.first == days.last:
                raise
            for half in days.halves():
                yield from self._insights(account_id, half)

    def _accounts(self) -> list[wire.Account]:
        fields = "id,currency,timezone_name"
        if self._options.account_id:
            return [self._http.get(self._options.account_id, {"fields": fields}).decode(wire.Account)]
        accounts = self._named("me/adaccounts", fields, wire.Account)
        if not accounts:
            raise ConnectorError(
                "scope", "the token's user sees no ad account", hint="Assign it, or set account_id."
            )
        return accounts

    # pages

    def _named(self, path: str, fields: str, kind: type[wire.T]) -> list[wire.T]:
        return [
            self._decode(path, item, kind) for items in self._walk(path, {"fields": fields}) for item in items
        ]

    def _decode(self, path: str, item: msgspec.Raw, kind: type[wire.T]) -> wire.T:
        try:
            return read(item, kind)
        except msgspec.DecodeError as error:
            raise ConnectorError("protocol", f"{path} answered an item of another shape: {error}") from error

    def _walk(self, path: str, params: Mapping[str, Any]) -> Iterator[list[msgspec.Raw]]:
        """The items of all pages. An empty page with a next one is legal; its end is where none is named.

        Asked for less data, it goes on from the same place with half the rows a call.
        """
        limit, after = self._options.page_size, None
        seen: set[str] = set()
        for _ in range(CALLS_MAX):
            answer = self._http.get(path, {**params, "limit": limit, "after": after})
            if wire.asks_too_much(answer):
                if limit <= LIMIT_MIN:
                    raise _TooMuch(path)
                limit = max(LIMIT_MIN, limit // 2)
                log.info("fewer_rows", path=path, limit=limit)
                continue
            yield answer.raw_items("data")
            following = wire.next_after(answer)
            if following is None:
                return
            if following in seen:
                raise ConnectorError("protocol", f"{path} names the same page as the next one again")
            seen.add(following)
            after = following
        raise ConnectorError("protocol", f"{path} has no end after {CALLS_MAX} calls")


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _form_context(form: wire.Form) -> dict[str, Any]:
    types = {one.key: one.type for one in form.questions or () if one.key and one.type}
    return {"form_name": form.name, "question_types": types}


def _zone(account: wire.Account) -> ZoneInfo:
    try:
        return ZoneInfo(account.timezone_name or "")
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConnectorError(
            "protocol", f"{account.id} has the unknown time zone {account.timezone_name!r}"
        ) from error


def _spend_key(head: wire.Insight, item: msgspec.Raw) -> str:
    parts = (head.date_start, head.account_id, head.ad_id)
    if all(isinstance(part, int | str) and part != "" for part in parts):
        return "|".join(map(str, parts))
    return wire.key_of(None, item)


CONNECTOR = Connector(
    type="meta_ads",
    options=Options,
    mapping="vendors/meta_ads.yaml",
    streams=(
        Stream("leads", overlap=timedelta(days=1)),
        Stream("campaigns", full=True),
        Stream("spend", overlap=timedelta(days=28), snapshot=True),
    ),
    source=MetaAds,
    description="Meta Ads: leads of instant forms, campaigns and spend",
)
