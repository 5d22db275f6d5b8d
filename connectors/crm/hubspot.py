"""HubSpot as a source: contacts, every change of their stage and status with who and when, owners.

The other direction, writing, is in `hubspot_write`. Facts: HubSpot's CRM API v3, search the CRM, batch read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog

from connectors._answer import read
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
NO_HISTORY = {"broken": "the contact has no 'propertiesWithHistory', although it was asked for"}
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


class _Next(msgspec.Struct):
    after: str | None = None


class _Paging(msgspec.Struct):
    next: _Next | None = None


class _Listing(msgspec.Struct):
    paging: _Paging | None = None


class _Read(msgspec.Struct):
    results: list[msgspec.Raw]
    errors: list[dict[str, Any]] | None = None


class _Item(msgspec.Struct):
    """What is looked at of a contact or an owner. Types are left open: one odd record is no reason to stop."""

    id: Any = None
    properties: Any = None
    propertiesWithHistory: Any = None  # noqa: N815
    updatedAt: Any = None  # noqa: N815 - the vendor's name

    def modified_at(self) -> datetime | None:
        held = self.properties.get("lastmodifieddate") if isinstance(self.properties, dict) else None
        return _time(held) or _time(self.updatedAt)


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
                    RawRecord(_key(head, item), bytes(item), version=head.modified_at())
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
            ids = [str(head.id) for head in heads if _is_id(head.id)]
            for start in range(0, len(ids), HISTORY_BATCH):
                for item in self._histories(ids[start : start + HISTORY_BATCH]):
                    head = _head(item)
                    known = context if head.propertiesWithHistory is not None else {**context, **NO_HISTORY}
                    records.append(RawRecord(_key(head, item), bytes(item), head.modified_at(), known))
            yield Page(records)
        yield Page((), cursor=_cursor(latest, window))

    def _histories(self, ids: Sequence[str]) -> list[msgspec.Raw]:
        """Contacts with the history of their stage; those that are gone are left out, and logged."""
        names = list(dict.fromkeys([*HISTORY, *filter(None, [self._options.reason_property])]))
        body = {
            "inputs": [{"id": one} for one in ids],
            "properties": ["email", "lastmodifieddate", *names],
            "propertiesWithHistory": names,
        }
        read = self._http.post(f"{api.CONTACTS}/batch/read", body).decode(_Read)
        gone = 0
        for error in read.errors or ():
            if error.get("category") != "OBJECT_NOT_FOUND":
                raise ConnectorError("vendor", f"HubSpot: reading the history: {api.describe(error)}")
            context = error.get("context")
            named = context.get("ids") if isinstance(context, dict) else None
            gone += len(named) if isinstance(named, list) else 0
        if gone:
            log.info("contacts_gone", count=gone)
        if len(read.results) + gone < len(ids):
            raise ConnectorError(
                "vendor",
                f"HubSpot: {len(ids)} histories were asked for, {len(read.results)} came",
                hint="The next run asks again.",
            )
        return read.results

    def _changed(
        self, window: Window, properties: list[str]
    ) -> Iterator[tuple[list[msgspec.Raw], list[_Item], int | None]]:
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
            heads = [_head(item) for item in items]
            if items:
                yield items, heads, answer.decode(_Found).total
            if len(items) < self._options.page_size:
                return
            ids = [str(head.id) for head in heads if _is_id(head.id)]
            if not ids or not _above(ids[-1], last_id):
                raise ConnectorError(
                    "protocol", "HubSpot: the search is not sorted by hs_object_id, or gives a page again"
                )
            last_id = ids[-1]
        raise ConnectorError("protocol", f"HubSpot: the search has no end after {CALLS_MAX} calls")

    def _owners(self) -> Iterator[Page]:
        """People who are owners, then those who left, who still stand in the history."""
        for archived in ("false", "true"):
            after: str | None = None
            seen: set[str] = set()
            while after is None or after not in seen:
                seen.update([after] if after else [])
                answer = self._http.get(
                    api.OWNERS, {"limit": OWNERS_PAGE, "archived": archived, "after": after}
                )
                items = [(item, _head(item)) for item in answer.raw_items("results")]
                yield Page(
                    [
                        RawRecord(_key(head, item), bytes(item), version=_time(head.updatedAt))
                        for item, head in items
                    ]
                )
                after = _after(answer)
                if not after:
                    break
            else:
                raise ConnectorError("protocol", f"{api.OWNERS} names the same page as the next one again")


def _filter(name: str, operator: str, value: str) -> dict[str, str]:
    return {"propertyName": name, "operator": operator, "value": value}


def _above(new: str, old: str) -> bool:
    return not old or (new.isdigit() and old.isdigit() and int(new) > int(old))


def _after(answer: Answer) -> str | None:
    paging = answer.decode(_Listing).paging
    return paging.next.after if paging and paging.next else None


def _latest(latest: datetime | None, heads: Sequence[_Item]) -> datetime | None:
    times = [time for head in heads if (time := head.modified_at())]
    return max([latest, *times] if latest else times, default=latest)


def _cursor(latest: datetime | None, window: Window) -> Cursor | None:
    """The read is sorted by id, not by time, so its end alone proves how far it got."""
    return Cursor(at=min(latest, window.until)) if latest else None


def _head(item: msgspec.Raw) -> _Item:
    """What is looked at of an item; one of another shape has nothing of it."""
    try:
        return read(item, _Item)
    except (msgspec.DecodeError, RecursionError):
        return _Item()


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and str(value).isdigit()


def _key(head: _Item, item: msgspec.Raw) -> str:
    """An item without an id that can be read is known by its hash: it is set aside later, not lost."""
    known = isinstance(head.id, int | str) and head.id != ""
    return str(head.id) if known else f"sha256:{hashlib.sha256(item).hexdigest()}"


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if isinstance(text, str) and text else None
    except (ValueError, OverflowError):
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
