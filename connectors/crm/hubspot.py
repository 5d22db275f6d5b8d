"""HubSpot as a source: contacts, every change of their stage and status with who and when, owners.

The other direction, writing, is in `hubspot_write`. Facts: HubSpot's CRM API v3, search the CRM, batch read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog

from connectors.contract import Connector, Context, Cursor, Finding, Page, RawRecord, Stream, Window
from connectors.crm import hubspot_api as api
from connectors.crm.hubspot_write import HubSpotContacts
from connectors.errors import ConnectorError
from connectors.http import Answer

SEARCH_BODY_MAX = 3_000
"""Characters of a search; the vendor's limit."""
HISTORY_BATCH = 50
"""Contacts a call when their history is asked for; the vendor's limit is lower there than without."""
OWNERS_PAGE = 100
CALLS_MAX = 1_000_000
PROPERTIES = (
    "email",
    "hs_additional_emails",
    "phone",
    "mobilephone",
    "firstname",
    "lastname",
    "company",
    "country",
    "lifecyclestage",
    "hs_lead_status",
    "hubspot_owner_id",
    "createdate",
    "lastmodifieddate",
    "hs_object_source",
    "hs_object_source_id",
    "hs_email_optout",
    "hs_analytics_source",
    "hs_analytics_source_data_1",
    "hs_analytics_source_data_2",
    "hs_latest_source",
    "hs_analytics_first_url",
    "hs_analytics_last_url",
    "hs_analytics_first_timestamp",
    "hs_google_click_id",
    "hs_facebook_click_id",
    "hs_merged_object_ids",
)
HISTORY = ("lifecyclestage", "hs_lead_status")

log = structlog.get_logger(__name__)


class _Found(msgspec.Struct):
    total: int | None = None


class _Contact(msgspec.Struct):
    id: str
    properties: dict[str, Any] = {}
    updatedAt: str | None = None  # noqa: N815 - the vendor's name

    def modified_at(self) -> datetime | None:
        return _time(self.properties.get("lastmodifieddate") or self.updatedAt)


class _Owner(msgspec.Struct):
    id: str
    updatedAt: str | None = None  # noqa: N815 - the vendor's name


class HubSpot:
    """Reads one HubSpot account (a `connectors.contract.Source`)."""

    def __init__(self, options: api.Options, context: Context) -> None:
        self._options = options
        self._http = context.http(api.settings(options))
        self._search_http = context.http(api.settings(options, search=True))

    def read(self, stream: str, window: Window) -> Iterator[Page]:
        """Yield the pages of `contacts`, `stage_changes` or `owners`."""
        if stream == "contacts":
            return self._contacts(window)
        if stream == "stage_changes":
            return self._stage_changes(window)
        if stream == "owners":
            return self._owners()
        raise ConnectorError("config", f"hubspot has no stream {stream!r}")

    def check(self) -> list[Finding]:
        """Try the token and the scopes that reading needs."""
        search = {"limit": 1, "properties": ["email"]}
        return [
            api.tried("token", self._http, api.ACCOUNT),
            api.tried("scope crm.objects.contacts.read", self._search_http, f"{api.CONTACTS}/search", search),
            api.tried("scope crm.schemas.contacts.read", self._http, f"{api.PROPERTIES}/lifecyclestage"),
            api.tried("scope crm.objects.owners.read", self._http, api.OWNERS, params={"limit": 1}),
        ]

    def _contacts(self, window: Window) -> Iterator[Page]:
        extra = (*self._options.properties, self._options.reason_property)
        properties = dict.fromkeys([*PROPERTIES, *(name for name in extra if name)])
        latest: datetime | None = None
        said: int | None = None
        for items, heads, total in self._changed(window, list(properties)):
            said = total if said is None else said
            latest = _latest(latest, heads)
            yield Page(
                [
                    RawRecord(head.id, bytes(item), version=head.modified_at())
                    for item, head in zip(items, heads, strict=True)
                ]
            )
        yield Page((), cursor=_cursor(latest, window), said=said or 0)

    def _stage_changes(self, window: Window) -> Iterator[Page]:
        """One record a contact that changed, with the history of its stage, status and reason.

        Search knows which contacts changed but not how; the history comes from reading them by id.
        """
        context = {
            "reason_property": self._options.reason_property,
            "own_source_ids": list(self._options.own_source_ids),
        }
        latest: datetime | None = None
        for _, heads, _ in self._changed(window, ["lastmodifieddate"]):
            latest = _latest(latest, heads)
            records: list[RawRecord] = []
            for start in range(0, len(heads), HISTORY_BATCH):
                answer = self._histories([head.id for head in heads[start : start + HISTORY_BATCH]])
                for item in answer.raw_items("results"):
                    head = _decode(item, _Contact)
                    records.append(RawRecord(head.id, bytes(item), head.modified_at(), context))
            yield Page(records)
        yield Page((), cursor=_cursor(latest, window))

    def _histories(self, ids: Sequence[str]) -> Answer:
        """Contacts with the history of their stage; those that are gone are left out, and logged."""
        names = list(dict.fromkeys([*HISTORY, *filter(None, [self._options.reason_property])]))
        body = {
            "inputs": [{"id": one} for one in ids],
            "properties": ["email", "lastmodifieddate", *names],
            "propertiesWithHistory": names,
        }
        answer = self._http.post(f"{api.CONTACTS}/batch/read", body)
        read = answer.decode(dict)
        gone = 0
        for error in read.get("errors") or ():
            if error.get("category") != "OBJECT_NOT_FOUND":
                raise ConnectorError("vendor", f"HubSpot: reading the history: {api.describe(error)}")
            gone += len((error.get("context") or {}).get("ids") or ())
        if gone:
            log.info("contacts_gone", count=gone)
        if len(read.get("results") or ()) + gone < len(ids):
            raise ConnectorError(
                "vendor",
                f"HubSpot: {len(ids)} histories were asked for, {len(read.get('results') or ())} came",
                hint="The next run asks again.",
            )
        return answer

    def _changed(
        self, window: Window, properties: list[str]
    ) -> Iterator[tuple[list[msgspec.Raw], list[_Contact], int | None]]:
        """Contacts modified within the window, by id: item bytes, their heads, and the count of the rest.

        Each page is a query of its own for ids above the last one. So neither contacts that leave the window
        meanwhile nor the vendor's wall at 10,000 rows lose any, as an offset would.
        """
        last_id = ""
        for _ in range(CALLS_MAX):
            filters = [_filter("lastmodifieddate", "GTE", _epoch_ms(window.since))]
            filters.append(_filter("lastmodifieddate", "LT", _epoch_ms(window.until)))
            if last_id:
                filters.append(_filter("hs_object_id", "GT", last_id))
            body = {
                "filterGroups": [{"filters": filters}],
                "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
                "properties": properties,
                "limit": self._options.page_size,
            }
            if len(msgspec.json.encode(body)) > SEARCH_BODY_MAX:
                raise ConnectorError(
                    "config", f"too many properties: a search of HubSpot holds {SEARCH_BODY_MAX} characters"
                )
            answer = self._search_http.post(f"{api.CONTACTS}/search", body)
            items = answer.raw_items("results")
            heads = [_decode(item, _Contact) for item in items]
            if items:
                yield items, heads, answer.decode(_Found).total
            if len(items) < self._options.page_size:
                return
            if not _above(heads[-1].id, last_id):
                raise ConnectorError("protocol", "HubSpot: the search is not sorted by hs_object_id")
            last_id = heads[-1].id
        raise ConnectorError("protocol", f"HubSpot: the search has no end after {CALLS_MAX} calls")

    def _owners(self) -> Iterator[Page]:
        """People who are owners, then those who left, who still stand in the history."""
        for archived in ("false", "true"):
            after: str | None = None
            for _ in range(CALLS_MAX):
                params = {"limit": OWNERS_PAGE, "archived": archived}
                answer = self._http.get(api.OWNERS, {**params, "after": after} if after else params)
                items = answer.raw_items("results")
                heads = [_decode(item, _Owner) for item in items]
                yield Page(
                    [
                        RawRecord(head.id, bytes(item), version=_time(head.updatedAt))
                        for item, head in zip(items, heads, strict=True)
                    ]
                )
                paging: Mapping[str, Any] = answer.decode(dict).get("paging") or {}
                after = (paging.get("next") or {}).get("after")
                if not after:
                    break


def _filter(name: str, operator: str, value: str) -> dict[str, str]:
    return {"propertyName": name, "operator": operator, "value": value}


def _above(new: str, old: str) -> bool:
    return not old or (new.isdigit() and old.isdigit() and int(new) > int(old))


def _latest(latest: datetime | None, heads: Sequence[_Contact]) -> datetime | None:
    times = [time for head in heads if (time := head.modified_at())]
    return max([latest, *times] if latest else times, default=latest)


def _cursor(latest: datetime | None, window: Window) -> Cursor | None:
    """The read is sorted by id, not by time, so its end alone proves how far it got."""
    return Cursor(at=min(latest, window.until)) if latest else None


def _decode(item: msgspec.Raw, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(item, type=kind)
    except msgspec.DecodeError as error:
        raise ConnectorError("protocol", f"HubSpot: an item is not as documented: {error}") from error


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except ValueError:
        return None


def _epoch_ms(time: datetime) -> str:
    return str(int(time.timestamp() * 1000))


CONNECTOR = Connector(
    type="hubspot",
    options=api.Options,
    mapping="vendors/hubspot.yaml",
    streams=(
        Stream("contacts", overlap=timedelta(minutes=10)),  # a change is searchable some moments later
        Stream("stage_changes", overlap=timedelta(minutes=10)),
        Stream("owners", full=True),
    ),
    source=HubSpot,
    destination=HubSpotContacts,
    description="HubSpot: contacts, stage changes and owners; writes stage, status, campaign and revenue",
)
