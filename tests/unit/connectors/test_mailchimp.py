"""Mailchimp at its edges: a list sorted by a moving time, activity read whole, throttling without JSON."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pydantic
import pytest
import respx

from connectors.contract import Cursor, Page, Source, Window
from connectors.email import mailchimp
from connectors.errors import ConnectorError

DATA = Path(__file__).parents[2] / "data" / "vendors" / "mailchimp" / "answers"
HOST = "https://us21.api.mailchimp.com/3.0"
KEY = "0123456789abcdef-us21"
LISTS = f"{HOST}/lists"
CAMPAIGNS = f"{HOST}/campaigns"
REPORTS = f"{HOST}/reports"
SINCE = datetime(2026, 7, 1, tzinfo=UTC)
UNTIL = datetime(2026, 8, 1, 12, 0, 5, 700000, tzinfo=UTC)
WINDOW = Window(SINCE, UNTIL)


@pytest.fixture
def make(context):
    def build(**options):
        return mailchimp.Mailchimp(
            mailchimp.Options.model_validate({"api_key": KEY, **options}), context("news")
        )

    return build


def ids(pages: list[Page]) -> list[str]:
    return [record.external_id for page in pages for record in page.records]


def time_text(time: datetime) -> str:
    return time.isoformat(timespec="seconds")


class Audience:
    """Members as the vendor lists them: since excludes its second, before includes it, offset and count."""

    def __init__(self, changed: dict[str, datetime], *, filtered: bool = True) -> None:
        self.changed = changed
        self.archived: set[str] = set()
        self.filtered = filtered
        self.after_page = lambda _: None
        self.calls = 0

    def members(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        query = request.url.params
        assert query["sort_field"] == "last_changed"
        assert "+" not in request.url.query.decode().replace("%2B", "")
        since = datetime.fromisoformat(query["since_last_changed"])
        before = datetime.fromisoformat(query["before_last_changed"])
        wanted = sorted(
            (changed.replace(microsecond=0), name)
            for name, changed in self.changed.items()
            if (name in self.archived) == (query.get("status") == "archived")
            and (not self.filtered or since < changed.replace(microsecond=0) <= before)
        )
        page = wanted[int(query["offset"]) : int(query["offset"]) + int(query["count"])]
        members = [
            {"id": f"md5-{name}", "contact_id": name, "last_changed": time_text(at)} for at, name in page
        ]
        self.after_page([name for _, name in page])
        return httpx.Response(200, json={"members": members, "total_items": len(wanted)})


def test_contacts_keep_their_bytes_and_their_list(vendor, make, sample, answer):
    def members(request: httpx.Request) -> httpx.Response:
        archived = request.url.params.get("status") == "archived"
        return answer("members_archived" if archived else "members_MADE_UP")

    one = json.loads(sample("list"))["id"]
    vendor.get(LISTS).mock(return_value=httpx.Response(200, json={"lists": [{"id": one}], "total_items": 1}))
    vendor.get(f"{LISTS}/{one}/members").mock(side_effect=members)
    window = Window(datetime(2026, 1, 1, tzinfo=UTC), UNTIL)
    pages = list(make().read("contacts", window))
    records = [record for page in pages for record in page.records]
    assert records[0].external_id == f"{one}:ffffffffffffffffffffffffffffffff"
    assert records[-1].external_id == f"{one}:1bc3bc1c920d4a6cef2ee0d620f08bb0"
    assert all(record.body in sample("members_MADE_UP") + sample("members_archived") for record in records)
    assert records[0].version == datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert records[0].context == {"list_id": one}
    assert [page.cursor for page in pages[:-1]] == [None] * (len(pages) - 1)
    assert pages[-1].cursor == Cursor(at=max(record.version for record in records))
    said = json.loads(sample("members_MADE_UP"))["total_items"] + 1
    assert pages[-1].said == said


def test_the_key_is_sent_as_basic_auth_to_its_data_centre(vendor, make):
    route = vendor.get(LISTS).mock(return_value=httpx.Response(200, json={"lists": [], "total_items": 0}))
    list(make().read("contacts", WINDOW))
    sent = route.calls[0].request.headers["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent).decode().endswith(f":{KEY}")


@pytest.mark.parametrize("page_size", [1, 3, 7, 50])
def test_every_member_comes_whatever_the_page(vendor, make, page_size):
    changed = {f"m{n:02}": SINCE + timedelta(seconds=n // 3) for n in range(45)}
    audience = Audience(changed)
    vendor.get(f"{LISTS}/L/members").mock(side_effect=audience.members)
    pages = list(make(list_ids=["L"], page_size=page_size).read("contacts", WINDOW))
    assert set(ids(pages)) == {f"L:{name}" for name in changed}
    assert pages[-1].said == 45


def test_more_members_in_one_second_than_a_page_holds(vendor, make):
    changed = {f"m{n:03}": SINCE + timedelta(hours=1) for n in range(200)} | {
        "late": SINCE + timedelta(hours=2)
    }
    vendor.get(f"{LISTS}/L/members").mock(side_effect=Audience(changed).members)
    pages = list(make(list_ids=["L"], page_size=40).read("contacts", WINDOW))
    assert set(ids(pages)) == {f"L:{name}" for name in changed}


def test_a_member_that_changes_meanwhile_hides_no_other(vendor, make):
    audience = Audience({f"m{n:03}": SINCE + timedelta(minutes=n) for n in range(400)})

    def change(page: list[str]) -> None:
        if audience.calls <= 3:
            for name in page[:50]:
                audience.changed[name] = UNTIL - timedelta(hours=1, minutes=-audience.calls)

    audience.after_page = change
    vendor.get(f"{LISTS}/L/members").mock(side_effect=audience.members)
    pages = list(make(list_ids=["L"], page_size=100).read("contacts", WINDOW))
    assert set(ids(pages)) == {f"L:m{n:03}" for n in range(400)}


def test_a_filter_that_is_ignored_ends_and_keeps_to_the_window(vendor, make):
    changed = {f"m{n:03}": SINCE + timedelta(hours=n - 100) for n in range(200)}
    audience = Audience(changed, filtered=False)
    vendor.get(f"{LISTS}/L/members").mock(side_effect=audience.members)
    pages = list(make(list_ids=["L"], page_size=50).read("contacts", WINDOW))
    assert set(ids(pages)) == {f"L:m{n:03}" for n in range(100, 200)}
    assert audience.calls < 20


def test_the_running_second_is_left_to_the_next_run_and_since_is_included(vendor, make):
    edge = UNTIL.replace(microsecond=0)
    changed = {"first": SINCE, "over": edge - timedelta(seconds=1), "running": edge}
    vendor.get(f"{LISTS}/L/members").mock(side_effect=Audience(changed).members)
    pages = list(make(list_ids=["L"]).read("contacts", WINDOW))
    assert set(ids(pages)) == {"L:first", "L:over"}
    assert pages[-1].cursor.at == edge - timedelta(seconds=1)


def test_archived_members_are_read_and_an_empty_run_moves_no_cursor(vendor, make):
    audience = Audience({"gone": SINCE + timedelta(hours=1)})
    audience.archived = {"gone"}
    vendor.get(f"{LISTS}/L/members").mock(side_effect=audience.members)
    assert ids(list(make(list_ids=["L"]).read("contacts", WINDOW))) == ["L:gone"]
    audience.changed = {}
    (page,) = make(list_ids=["L"]).read("contacts", WINDOW)
    assert (page.cursor, page.said) == (None, 0)


def test_an_odd_member_comes_too(vendor, make):
    members = {
        "members": [{"id": 7}, {"id": "md5", "contact_id": None, "last_changed": "soon"}],
        "total_items": 2,
    }
    vendor.get(f"{LISTS}/L/members", params={"status": "archived"}).mock(
        return_value=httpx.Response(200, json={"members": [], "total_items": 0})
    )
    vendor.get(f"{LISTS}/L/members").mock(return_value=httpx.Response(200, json=members))
    pages = list(make(list_ids=["L"]).read("contacts", WINDOW))
    odd, other = pages[0].records
    assert (odd.body, odd.external_id.startswith("L:sha256:")) == (b'{"id":7}', True)
    assert (other.external_id, other.version) == ("L:md5", None)


def test_campaigns_are_the_sent_ones_and_those_only_reports_know(vendor, make):
    sent = [{"id": f"c{n}"} for n in range(5)]

    def campaigns(request: httpx.Request) -> httpx.Response:
        assert request.url.params["status"] == "sent"
        offset, count = int(request.url.params["offset"]), int(request.url.params["count"])
        return httpx.Response(200, json={"campaigns": sent[offset : offset + count], "total_items": 5})

    vendor.get(CAMPAIGNS).mock(side_effect=campaigns)
    reports = {"reports": [{"id": "c4"}, {"id": "auto"}], "total_items": 2}
    vendor.get(REPORTS).mock(return_value=httpx.Response(200, json=reports))
    pages = list(make(page_size=3).read("campaigns", WINDOW))
    assert ids(pages) == ["c0", "c1", "c2", "c3", "c4", "auto"]
    last = [record for page in pages for record in page.records][-1]
    assert last.context == {"from": "report"}
    assert pages[-1].said == 6
    assert all(page.cursor is None for page in pages)


class Reports:
    """Reports and the activity behind them."""

    def __init__(self, vendor: respx.Router) -> None:
        self.reports: dict[str, dict] = {}
        self.emails: dict[str, list[dict]] = {}
        self.read: list[str] = []
        vendor.get(REPORTS).mock(side_effect=self.list)
        vendor.get(url__regex=rf"{REPORTS}/(?P<one>[^/?]+)/email-activity").mock(side_effect=self.activity)

    def add(self, one: str, *, sent: datetime, clicked: datetime | None = None, recipients: int = 2) -> None:
        self.reports[one] = {
            "id": one,
            "campaign_title": f"News {one}",
            "send_time": time_text(sent),
            "opens": {"last_open": ""},
            "clicks": {"last_click": time_text(clicked) if clicked else ""},
            "bounces": {"hard_bounces": 0, "soft_bounces": 0},
        }
        self.emails[one] = [
            {"email_id": f"e{n}", "activity": [{"action": "click"}] if n % 2 else []}
            for n in range(recipients)
        ]

    def list(self, request: httpx.Request) -> httpx.Response:
        offset, count = int(request.url.params["offset"]), int(request.url.params["count"])
        page = list(self.reports.values())[offset : offset + count]
        return httpx.Response(200, json={"reports": page, "total_items": len(self.reports)})

    def activity(self, request: httpx.Request, one: str) -> httpx.Response:
        assert "since" not in request.url.params
        offset, count = int(request.url.params["offset"]), int(request.url.params["count"])
        if offset == 0:
            self.read.append(one)
        rows = self.emails[one]
        body = {"emails": rows[offset : offset + count], "campaign_id": one, "total_items": len(rows)}
        return httpx.Response(200, json=body)


def test_touches_are_one_record_a_recipient_with_activity(vendor, make, sample, answer):
    vendor.get(REPORTS).mock(return_value=answer("reports_recency"))
    route = vendor.get(url__regex=rf"{REPORTS}/.*/email-activity").mock(return_value=answer("email_activity"))
    pages = list(make().read("touches", Window(datetime(2026, 7, 8, tzinfo=UTC), UNTIL)))
    assert ids(pages) == [
        "5dfc22e163:6409961b1c262a7e6fb62624ce95ddf5",
        "5dfc22e163:3abd9d34d7d6953d8a91a79904b6631d",
    ]
    assert route.call_count == 1
    assert all(record.body in sample("email_activity") for record in pages[0].records)
    assert pages[0].records[0].context["campaign_id"] == "5dfc22e163"
    assert pages[-1].cursor.at == datetime(2026, 7, 13, 15, 22, 48, tzinfo=UTC)
    assert set(pages[-1].cursor.state) == {"5dfc22e163", "61cc0c44a6"}


def test_an_odd_recipient_or_campaign_comes_too(vendor, make):
    account = Reports(vendor)
    account.add("c", sent=SINCE, recipients=0)
    account.emails["c"] = [
        {"email_id": 5, "activity": [{"action": "open"}]},
        {"email_id": "e", "activity": []},
    ]
    (odd,) = [record for page in make().read("touches", WINDOW) for record in page.records]
    assert odd.body == b'{"email_id":5,"activity":[{"action":"open"}]}'
    assert odd.external_id.startswith("c:sha256:")

    vendor.get(CAMPAIGNS).mock(return_value=httpx.Response(200, json={"campaigns": [{"name": "x"}]}))
    found = [record for page in make().read("campaigns", WINDOW) for record in page.records]
    assert [record.body for record in found][:1] == [b'{"name":"x"}']


def run(reader, cursor: Cursor | None, until: datetime = UNTIL) -> tuple[list[str], Cursor | None]:
    since = cursor.at - timedelta(minutes=10) if cursor and cursor.at else SINCE
    if cursor:  # as it comes back from the database
        cursor = Cursor(cursor.at, json.loads(json.dumps(dict(cursor.state))))
    pages = list(reader.read("touches", Window(since, until, cursor)))
    assert all(page.cursor is None for page in pages[:-1])
    return ids(pages), pages[-1].cursor if pages else cursor


def test_only_campaigns_with_something_new_are_read_again(vendor, make):
    account = Reports(vendor)
    account.add("old", sent=SINCE - timedelta(days=99), clicked=SINCE - timedelta(days=90))
    account.add("mid", sent=SINCE, clicked=SINCE + timedelta(days=1), recipients=5)
    account.add("new", sent=UNTIL - timedelta(days=2))
    reader = make(page_size=2)
    found, cursor = run(reader, None)
    assert account.read == ["mid", "new"]
    assert found == ["mid:e1", "mid:e3", "new:e1"]

    account.read.clear()
    run(reader, cursor, UNTIL + timedelta(hours=1))
    assert account.read == ["new"]  # sent within five days: a bounce moves no time

    account.read.clear()
    account.reports["old"]["clicks"]["last_click"] = time_text(UNTIL - timedelta(days=3))
    account.reports["mid"]["bounces"]["hard_bounces"] = 1
    late = UNTIL + timedelta(days=20)
    _, cursor = run(reader, cursor, late)
    assert account.read == ["old", "mid"]

    account.read.clear()
    assert run(reader, cursor, late + timedelta(hours=1)) == ([], cursor)
    assert account.read == []


def test_activity_that_was_very_fresh_is_read_once_more(vendor, make):
    account = Reports(vendor)
    account.add("c", sent=SINCE, clicked=UNTIL - timedelta(minutes=3))
    reader = make()
    _, cursor = run(reader, None)
    _, cursor = run(reader, cursor, UNTIL + timedelta(hours=1))
    run(reader, cursor, UNTIL + timedelta(hours=2))
    assert account.read == ["c", "c"]


def test_a_short_answer_is_read_again_and_not_taken_as_done(vendor, make, answer):
    vendor.get(REPORTS).mock(return_value=answer("reports_recency"))
    route = vendor.get(url__regex=rf"{REPORTS}/.*/email-activity").mock(
        return_value=answer("email_activity_bounce")
    )
    pages = list(make().read("touches", Window(datetime(2026, 7, 8, tzinfo=UTC), UNTIL)))
    assert route.call_count == 2
    assert "5dfc22e163" not in pages[-1].cursor.state
    assert "61cc0c44a6" in pages[-1].cursor.state


def test_a_campaign_deleted_meanwhile_is_passed_over(vendor, make, answer):
    vendor.get(REPORTS).mock(return_value=answer("reports_recency"))
    vendor.get(url__regex=rf"{REPORTS}/.*/email-activity").mock(return_value=answer("error_404", 404))
    found, cursor = run(make(), None)
    assert found == []
    assert cursor is not None


@pytest.mark.parametrize(
    "busy",
    [
        httpx.Response(429, content=(DATA / "error_429_MADE_UP.json").read_bytes()),
        httpx.Response(429, text="<html>"),
        httpx.Response(403, text="Forbidden"),
        httpx.Response(403),
        httpx.Response(503, text="<html>Request Blocked</html>"),
    ],
)
def test_waits_when_asked_to_be_slower(vendor, make, waits, busy):
    route = vendor.get(LISTS).mock(
        side_effect=[busy, httpx.Response(200, json={"lists": [], "total_items": 0})]
    )
    list(make().read("contacts", WINDOW))
    assert route.call_count == 2
    assert waits


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "credential"), (403, "scope"), (404, "config"), (400, "protocol")]
)
def test_does_not_try_again_what_cannot_succeed(vendor, make, status, kind):
    problem = {"type": "x", "title": "Some Title", "status": status, "detail": "about kati@example.com"}
    route = vendor.get(LISTS).mock(return_value=httpx.Response(status, json=problem))
    with pytest.raises(ConnectorError) as caught:
        list(make().read("contacts", WINDOW))
    assert caught.value.kind == kind
    assert "Some Title" in caught.value.message
    assert "kati@example.com" not in str(caught.value)
    assert KEY not in str(caught.value)
    assert route.call_count == 1


def test_check_names_what_does_not_work(vendor, make, answer):
    vendor.get(f"{HOST}/ping").mock(return_value=httpx.Response(200, json={"health_status": "ok"}))
    vendor.get(CAMPAIGNS).mock(return_value=httpx.Response(200, json={}))
    vendor.get(REPORTS).mock(return_value=httpx.Response(403, json={"title": "Forbidden"}))
    vendor.get(f"{LISTS}/gone").mock(return_value=answer("error_404", 404))
    findings = make(list_ids=["gone"]).check()
    assert [(finding.what, finding.ok) for finding in findings] == [
        ("key", True),
        ("campaigns", True),
        ("reports", False),
        ("audience gone", False),
    ]
    assert "list_ids" in findings[3].hint


def test_options():
    assert mailchimp.Options(api_key=KEY).address == HOST
    assert (
        mailchimp.Options(api_key="x", base_url="http://127.0.0.1:9/3.0/").address == "http://127.0.0.1:9/3.0"
    )
    for wrong in ("abc", "abc-", "-us21"):
        with pytest.raises(pydantic.ValidationError, match="data centre"):
            mailchimp.Options(api_key=wrong)


def test_is_a_source_of_these_streams(make):
    assert isinstance(make(), Source)
    assert [stream.name for stream in mailchimp.CONNECTOR.streams] == ["contacts", "campaigns", "touches"]
    with pytest.raises(ConnectorError):
        make().read("orders", WINDOW)
