"""Mailchimp (Marketing API 3.0) as a source: contacts with consent and tags, campaigns, opens and clicks.

Facts: Mailchimp's OpenAPI 3.0.55; how the time filters behave at their bounds was measured by Estuary's
engineers (`since_*` excludes its second, `before_*` includes it).
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
import msgspec
import pydantic
import structlog

from connectors._answer import read
from connectors.contract import Connector, Context, Cursor, Finding, Page, RawRecord, Stream, Window
from connectors.email import mailchimp_wire as wire
from connectors.errors import ConnectorError
from connectors.http import HttpSettings

SECOND = timedelta(seconds=1)
CALLS_MAX = 200_000
"""Bound on the calls of one walk through an answer's pages."""
OFFSET_OVERLAP = 20
"""Rows read again at each step of an offset, because the rows before it may have become fewer meanwhile."""
REPORT_LAG = timedelta(minutes=10)
"""How much later than a report's figures the list of activities may be complete."""
BOUNCES_FOR = timedelta(days=5)
"""So long after the sending a campaign is read at every run, because bounces may move no time of a report."""
ACTIVITY_TRIES = 2
NO_ACTIVITY = {"broken": "the recipient has no 'activity', not even an empty one"}
REPORT_FIELDS = (
    "reports.id,reports.campaign_title,reports.subject_line,reports.type,reports.list_id,"
    "reports.emails_sent,reports.send_time,"
    "reports.opens.last_open,reports.clicks.last_click,reports.bounces,total_items"
)

log = structlog.get_logger(__name__)


class Options(pydantic.BaseModel):
    """What a `mailchimp` connector is told.

    Attributes
    ----------
    api_key : Account > Extras > API keys; it ends in the data centre, as in ``…-us21``.
    base_url : only for another address than that of the key's data centre.
    list_ids : the audiences to read; all of them by default.
    page_size : rows a call; the vendor's most is 1000.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    api_key: pydantic.SecretStr
    base_url: str | None = None
    list_ids: tuple[str, ...] = ()
    page_size: int = pydantic.Field(default=1000, ge=1, le=1000)

    @pydantic.model_validator(mode="after")
    def _data_centre(self) -> Options:
        head, hyphen, centre = self.api_key.get_secret_value().rpartition("-")
        if self.base_url is None and not (head and hyphen and centre.isalnum()):
            raise ValueError(
                "api_key must end in a hyphen and the data centre; copy the whole key, as in …-us21"
            )
        return self

    @property
    def address(self) -> str:
        centre = self.api_key.get_secret_value().rpartition("-")[2]
        return (self.base_url or f"https://{centre}.api.mailchimp.com/3.0").rstrip("/")


@dataclass(frozen=True, slots=True)
class _Rows:
    items: list[msgspec.Raw]
    total: int | None


class Mailchimp:
    """Reads one Mailchimp account (a `connectors.contract.Source`)."""

    def __init__(self, options: Options, context: Context) -> None:
        key = options.api_key.get_secret_value()
        self._options = options
        self._http = context.http(
            HttpSettings(
                base_url=options.address,
                auth=httpx.BasicAuth("leadledger", key),
                classify=wire.classify,
                parallel=4,  # the vendor allows 10 connections for all apps of the user together
                timeout_s=130,  # the vendor cuts at 120 s
                retry_base_s=2,
                retry_max_s=300,
                secrets=(key,),
            )
        )

    def read(self, stream: str, window: Window) -> Iterator[Page]:
        """Yield the pages of `contacts`, `campaigns` or `touches`."""
        if stream == "contacts":
            return self._contacts(window)
        if stream == "campaigns":
            return self._campaigns()
        if stream == "touches":
            return self._touches(window)
        raise ConnectorError("config", f"mailchimp has no stream {stream!r}")

    def check(self) -> list[Finding]:
        """Try the key, the audiences and the reports."""
        tries = [("key", "/ping"), ("campaigns", "/campaigns"), ("reports", "/reports")]
        tries += [(f"audience {one}", f"/lists/{one}") for one in self._options.list_ids] or [
            ("audiences", "/lists")
        ]
        findings = []
        for what, path in tries:
            try:
                self._http.get(path, {"count": 1} if path in ("/lists", "/campaigns", "/reports") else None)
            except ConnectorError as error:
                findings.append(Finding(what, ok=False, hint=str(error)))
            else:
                findings.append(Finding(what, ok=True))
        return findings

    # contacts

    def _contacts(self, window: Window) -> Iterator[Page]:
        """Members of each list that changed, then those that were archived.

        The lists are read one after the other, so only their common end may set the cursor: the latest change
        that was seen. The second of `until` is not over yet and is left to the next run.
        """
        until = window.until.replace(microsecond=0) - SECOND
        since = window.since.replace(microsecond=0) - SECOND
        latest: datetime | None = None
        said = 0
        for list_id in self._lists():
            for status in (None, "archived"):
                walk = _MemberWalk(since)
                while (rows := self._members(list_id, status, walk, until)).items:
                    if walk.total is None:
                        walk.total = rows.total or 0
                    heads = [wire.decode(item, wire.Member) for item in rows.items]
                    fresh = walk.step(heads)
                    yield Page(
                        [
                            _member_record(list_id, item, head)
                            for item, head, new in zip(rows.items, heads, fresh, strict=True)
                            if new
                        ]
                    )
                    if len(rows.items) < self._options.page_size:
                        break
                said += walk.total or 0
                latest = max((time for time in (latest, walk.latest) if time), default=None)
        yield Page((), cursor=Cursor(at=min(latest, until)) if latest else None, said=said)

    def _members(self, list_id: str, status: str | None, walk: _MemberWalk, until: datetime) -> _Rows:
        params: dict[str, Any] = {
            "since_last_changed": wire.stamp(walk.since),
            "before_last_changed": wire.stamp(until),
            "sort_field": "last_changed",
            "sort_dir": "ASC",
            "offset": walk.offset,
            "exclude_fields": "members._links,_links",
        }
        if status:
            params["status"] = status
        return self._rows(f"/lists/{list_id}/members", "members", params)

    def _lists(self) -> Iterator[str]:
        if self._options.list_ids:
            yield from self._options.list_ids
            return
        for rows in self._walk("/lists", "lists", {"fields": "lists.id,total_items"}):
            found = [wire.id_of(wire.decode(item, wire.Named).id) for item in rows.items]
            if not all(found):
                raise ConnectorError("protocol", "/lists answered an audience without an id that can be read")
            yield from found

    # campaigns

    def _campaigns(self) -> Iterator[Page]:
        """Sent campaigns, then those that only the reports know (mails of automations)."""
        seen: set[str] = set()
        said = 0
        sent = {
            "status": "sent",
            "sort_field": "send_time",
            "sort_dir": "ASC",
            "exclude_fields": "campaigns._links,_links",
        }
        for rows in self._walk("/campaigns", "campaigns", sent):
            said = rows.total or said
            yield Page(records := _new_records(rows, seen, {}))
            seen.update(record.external_id for record in records)
        for rows in self._walk("/reports", "reports", {"fields": REPORT_FIELDS}):
            if records := _new_records(rows, seen, {"from": "report"}):
                seen.update(record.external_id for record in records)
                said += len(records)
                yield Page(records)
        yield Page((), said=said)

    # touches

    def _touches(self, window: Window) -> Iterator[Page]:
        """Activity of the campaigns whose report shows something new, each list of recipients whole.

        A list cut by `since` would look as if the earlier clicks had been withdrawn. The cursor's state is
        ``{campaign: [mark of its report, until when it was read]}``.
        """
        known: Mapping[str, Any] = window.cursor.state if window.cursor else {}
        state: dict[str, Any] = {}
        done: set[str] = set()
        latest = window.cursor.at if window.cursor else None
        unread: list[str] = []
        for rows in self._walk("/reports", "reports", {"fields": REPORT_FIELDS}):
            for item in rows.items:
                try:
                    report = read(item, wire.Report)
                except (msgspec.ValidationError, RecursionError) as error:
                    # What is known of it is forgotten with its entry: once it can be read again, it is.
                    unread.append(str(error))
                    continue
                if report.id in done:
                    continue
                done.add(report.id)
                entry = known.get(report.id)
                reading = _needs_reading(report, entry, window)
                complete = (yield from self._activity(report)) if reading else False
                if complete or not (reading or entry):
                    entry = [report.mark(), wire.stamp(window.until)]
                if entry:
                    state[report.id] = entry
                happened = report.latest()
                if happened and happened < window.until and (latest is None or happened > latest):
                    latest = happened
        cursor = Cursor(at=latest, state=state)
        if window.cursor is None or cursor != Cursor(window.cursor.at, dict(known)):
            yield Page((), cursor=cursor)
        if unread:
            message = f"/reports answered {len(unread)} reports of another shape: {unread[0]}"
            raise ConnectorError("protocol", message)

    def _activity(self, report: wire.Report) -> Generator[Page, None, bool]:
        """Recipients with activity; returns whether all were read.

        The order of the rows is not promised, so when their number does not add up (a page came short, or
        twice) the campaign is read once more, and if need be again at the next run.
        """
        path = f"/reports/{report.id}/email-activity"
        context = {"campaign_id": report.id, "campaign_title": report.campaign_title}
        for _ in range(ACTIVITY_TRIES):
            count, totals, before = 0, set[int | None](), set[str]()
            try:
                for rows in self._walk(path, "emails", {"exclude_fields": "emails._links,_links"}, overlap=0):
                    heads = [wire.decode(item, wire.Recipient) for item in rows.items]
                    keys = [
                        wire.id_of(head.email_id) or _hash(item)
                        for head, item in zip(heads, rows.items, strict=True)
                    ]
                    count += len(set(keys) - before)
                    totals.add(rows.total)
                    before = set(keys)
                    records = [
                        RawRecord(
                            f"{report.id}:{key}",
                            bytes(item),
                            context=context if head.activity is not None else {**context, **NO_ACTIVITY},
                        )
                        for key, head, item in zip(keys, heads, rows.items, strict=True)
                        if head.activity != []
                    ]
                    if records:
                        yield Page(records)
            except ConnectorError as error:
                if error.status != httpx.codes.NOT_FOUND:
                    raise
                log.info("campaign_gone", campaign=report.id)
                return True
            if totals <= {count, None}:
                return True
        log.warning("activity_incomplete", campaign=report.id, rows=count, said=sorted(map(str, totals)))
        return False

    # pages

    def _walk(
        self, path: str, key: str, params: Mapping[str, Any], *, overlap: int = OFFSET_OVERLAP
    ) -> Iterator[_Rows]:
        """All pages by offset; with `overlap`, rows may come twice."""
        offset = 0
        for _ in range(CALLS_MAX):
            rows = self._rows(path, key, {**params, "offset": offset})
            yield rows
            if len(rows.items) < self._options.page_size:
                return
            offset += max(1, len(rows.items) - overlap)
        raise ConnectorError("protocol", f"{path} has no end after {CALLS_MAX} calls")

    def _rows(self, path: str, key: str, params: Mapping[str, Any]) -> _Rows:
        answer = self._http.get(path, {**params, "count": self._options.page_size})
        return _Rows(answer.raw_items(key), answer.decode(wire.Counted).total_items)


class _MemberWalk:
    """Where the next page of members starts.

    The list is sorted by a time that moves: who changes meanwhile goes to the end and the rest moves up. So
    each full page is followed by a new query from the latest time seen (minus the second that `since`
    excludes) and offset 0; only within one second, as after an import, the offset counts on.
    """

    def __init__(self, since: datetime) -> None:
        self.since = since
        self.offset = 0
        self.latest: datetime | None = None
        self.total: int | None = None
        self._start = since
        self._filtered = True
        self._seen: set[tuple[str, datetime | None]] = set()
        self._calls = 0

    def step(self, members: list[wire.Member]) -> list[bool]:
        """Take a page; says of each row whether it is to be kept (not seen before, not too old)."""
        self._calls += 1
        if self._calls > CALLS_MAX:
            raise ConnectorError("protocol", f"the members have no end after {CALLS_MAX} calls")
        times = [wire.time_of(member.last_changed) for member in members]
        ignored = self._filtered and any(time and time < self.since for time in times)
        pairs = [(member.key, time) for member, time in zip(members, times, strict=True)]
        keep = [pair not in self._seen and (pair[1] is None or pair[1] > self._start) for pair in pairs]
        self._seen = set(pairs)  # what comes twice was on the page before
        for time in times:
            if time and (self.latest is None or time > self.latest):
                self.latest = time
        restart = self.latest - SECOND if self.latest else self.since
        if ignored:
            # Seen in the wild: the whole list comes, whatever is asked. Then only the offset can page, and from
            # the begin: whether this page was one of the list that was asked for is not known.
            log.warning("filter_ignored", parameter="since_last_changed")
            self._filtered, self.since, self.offset = False, self._start, 0
        elif self._filtered and restart > self.since:
            self.since, self.offset = restart, 0
        else:
            self.offset += max(1, len(members) - OFFSET_OVERLAP)
        return keep


def _member_record(list_id: str, item: msgspec.Raw, member: wire.Member) -> RawRecord:
    key = member.key or _hash(item)
    return RawRecord(
        f"{list_id}:{key}",
        bytes(item),
        version=wire.time_of(member.last_changed),
        context={"list_id": list_id},
    )


def _new_records(rows: _Rows, seen: set[str], context: Mapping[str, Any]) -> list[RawRecord]:
    heads = [(item, wire.id_of(wire.decode(item, wire.Named).id) or _hash(item)) for item in rows.items]
    return [RawRecord(key, bytes(item), context=context) for item, key in heads if key not in seen]


def _hash(item: msgspec.Raw) -> str:
    """In place of an id that an item lacks; the mapping then says what is wrong with it."""
    return f"sha256:{hashlib.sha256(item).hexdigest()}"


def _needs_reading(report: wire.Report, entry: Any, window: Window) -> bool:
    """Whether a campaign may have activity that was not read yet."""
    latest = report.latest()
    sent = wire.time_of(report.send_time)
    if latest is None or (sent and sent >= window.until):
        return False
    if entry is None and window.cursor is None:
        return latest >= window.since  # the first run: what ended before its `from:` is only remembered
    if entry is None or entry[0] != report.mark() or (sent and sent >= window.until - BOUNCES_FOR):
        return True
    read_until = wire.time_of(entry[1])
    return read_until is None or latest >= read_until - REPORT_LAG


CONNECTOR = Connector(
    type="mailchimp",
    options=Options,
    mapping="vendors/mailchimp.yaml",
    streams=(
        Stream("contacts", overlap=timedelta(minutes=5)),
        Stream("campaigns", full=True),
        Stream("touches", overlap=timedelta(minutes=10)),
    ),
    source=Mailchimp,
    description="Mailchimp: audience members with consent and tags, campaigns, opens and clicks",
)
