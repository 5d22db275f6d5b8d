"""The simulated Mailchimp over loopback HTTP: bounds of its time filters, archived members, thinned activity."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.sandbox import accounts
from connectors.sandbox.server import Server
from connectors.sandbox.state import Doc, State

LIST = accounts.MAILCHIMP_LIST
MEMBERS = f"/lists/{LIST}/members"


def unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def day(number: int, clock: str = "10:00:00") -> str:
    return f"2026-03-{number:02}T{clock}+00:00"


def member(email: str, *, changed: str, status: str = "subscribed", opt: str = "") -> Doc:
    md5 = hashlib.md5(email.lower().encode()).hexdigest()
    body = {
        "id": md5,
        "email_address": email,
        "status": status,
        "merge_fields": {"FNAME": "Ann", "LNAME": ""},
        "timestamp_opt": opt,
        "last_changed": changed,
        "list_id": LIST,
        "_links": [],
    }
    return Doc(f"{LIST}:{md5}", body, at=unix(changed), changed=unix(changed), parent=LIST)


def campaign(id: str, *, sent: str, status: str = "sent") -> Doc:
    body = {
        "id": id,
        "type": "regular",
        "status": status,
        "create_time": day(1),
        "send_time": sent,
        "emails_sent": 4 if sent else 0,
        "recipients": {"list_id": LIST, "list_name": "News"},
        "settings": {"title": f"Title {id}", "subject_line": "Hello"},
    }
    at = unix(sent) if sent else unix(day(1))
    return Doc(id, body, at=at, changed=at)


def activity(campaign: str, email: str, *entries: dict[str, Any]) -> Doc:
    body = {"campaign_id": campaign, "list_id": LIST, "email_id": email, "activity": list(entries)}
    newest = max((unix(entry["timestamp"]) for entry in entries), default=0.0)
    return Doc(f"{campaign}:{email}", body, at=newest, changed=newest, parent=campaign)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "sandbox.sqlite") as running:
        yield running


@pytest.fixture
def state(server: Server) -> State:
    now = datetime.now(UTC).timestamp()
    server.state.put("mailchimp", "list", [Doc(LIST, {"id": LIST, "name": "News"}, at=now, changed=now)])
    return server.state


@pytest.fixture
def http(server: Server, state: State) -> Iterator[httpx.Client]:
    auth = ("anyone", accounts.MAILCHIMP_KEY)
    with httpx.Client(base_url=f"{server.url}/mailchimp/3.0", auth=auth) as client:
        yield client


def emails(http: httpx.Client, **params: Any) -> list[str]:
    answer = http.get(MEMBERS, params=params)
    assert answer.status_code == 200, answer.text
    found = [row["email_address"] for row in answer.json()["members"]]
    return found if "sort_field" in params else sorted(found)


@pytest.mark.parametrize("auth", [None, ("anyone", "wrong"), (accounts.MAILCHIMP_KEY, "")])
def test_without_the_key_as_password_it_is_a_401_problem(
    server: Server, auth: tuple[str, str] | None
) -> None:
    answer = httpx.get(f"{server.url}/mailchimp/3.0/ping", auth=auth)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["title"], answer.json()["status"]) == ("API Key Invalid", 401)


def test_root_ping_and_lists(http: httpx.Client) -> None:
    assert http.get("/").json()["account_name"]
    assert http.get("/ping").json() == {"health_status": "Everything's Chimpy!"}
    lists = http.get("/lists").json()
    assert ([row["id"] for row in lists["lists"]], lists["total_items"]) == ([LIST], 1)
    missing = http.get("/lists/ffffffffff/members")
    assert (missing.status_code, missing.json()["title"]) == (404, "Resource Not Found")
    assert http.get("/nothing").headers["content-type"] == "application/problem+json"


def test_since_leaves_its_second_out_and_before_takes_it_in(http: httpx.Client, state: State) -> None:
    state.put("mailchimp", "member", [member(f"m{n}@example.com", changed=day(n)) for n in (1, 2, 3)])
    assert emails(http, since_last_changed=day(1)) == ["m2@example.com", "m3@example.com"]
    assert emails(http, since_last_changed="2026-03-01T09:59:59Z", before_last_changed=day(2)) == [
        "m1@example.com",
        "m2@example.com",
    ]
    # A raw "+" in an address is a space, so this is no date.
    raw = http.get(f"{MEMBERS}?since_last_changed={day(1)}")
    assert (raw.status_code, raw.json()["title"]) == (400, "Invalid Resource")


def test_archived_members_come_only_when_asked_for(http: httpx.Client, state: State) -> None:
    state.put(
        "mailchimp",
        "member",
        [
            member("a@example.com", changed=day(1)),
            member("b@example.com", changed=day(2), status="archived"),
            member("c@example.com", changed=day(3), status="archived"),
            member("d@example.com", changed=day(4), status="cleaned"),
        ],
    )
    assert emails(http) == ["a@example.com", "d@example.com"]
    assert emails(http, status="archived", since_last_changed=day(2)) == ["c@example.com"]
    assert emails(http, status="cleaned") == ["d@example.com"]
    assert http.get(MEMBERS, params={"status": "gone"}).status_code == 400


def test_members_are_sorted_and_paged_with_the_total(http: httpx.Client, state: State) -> None:
    rows = [member(f"m{n:02}@example.com", changed=day(20 - n), opt=day(n)) for n in range(1, 13)]
    state.put("mailchimp", "member", rows)
    page = http.get(MEMBERS, params={"sort_field": "last_changed", "sort_dir": "ASC"}).json()
    assert [row["email_address"] for row in page["members"]] == [
        f"m{n:02}@example.com" for n in range(12, 2, -1)
    ]
    assert page["total_items"] == 12
    assert emails(http, sort_field="last_changed", offset=10) == ["m02@example.com", "m01@example.com"]
    newest = emails(http, sort_field="timestamp_opt", sort_dir="DESC", count=1)
    assert newest == ["m12@example.com"]
    assert http.get(MEMBERS, params={"count": 1001}).status_code == 200
    assert http.get(MEMBERS, params={"count": "many"}).status_code == 400
    assert http.get(MEMBERS, params={"sort_field": "age"}).status_code == 400


def test_one_member_by_md5(http: httpx.Client, state: State) -> None:
    doc = member("Ann@Example.com", changed=day(1), status="archived")
    state.put("mailchimp", "member", [doc])
    md5 = hashlib.md5(b"ann@example.com").hexdigest()
    assert http.get(f"{MEMBERS}/{md5}").json() == doc.body
    assert http.get(f"{MEMBERS}/{'0' * 32}").status_code == 404


def test_fields_choose_by_dotted_paths(http: httpx.Client, state: State) -> None:
    state.put("mailchimp", "member", [member("a@example.com", changed=day(1))])
    kept = http.get(
        MEMBERS, params={"fields": "members.status,members.merge_fields.FNAME,total_items"}
    ).json()
    assert kept == {"members": [{"status": "subscribed", "merge_fields": {"FNAME": "Ann"}}], "total_items": 1}
    left = http.get(MEMBERS, params={"exclude_fields": "members._links,_links"}).json()
    assert "_links" not in left
    assert "_links" not in left["members"][0]
    assert left["members"][0]["email_address"] == "a@example.com"
    both = {"fields": "total_items", "exclude_fields": "_links"}
    assert http.get(MEMBERS, params=both).status_code == 400


def test_campaigns_by_status_and_send_time(http: httpx.Client, state: State) -> None:
    state.put(
        "mailchimp",
        "campaign",
        [campaign("c1", sent=day(1)), campaign("c2", sent=day(2)), campaign("d", sent="", status="save")],
    )

    def ids(**params: Any) -> list[str]:
        return [row["id"] for row in http.get("/campaigns", params=params).json()["campaigns"]]

    assert sorted(ids()) == ["c1", "c2", "d"]
    assert ids(status="sent", since_send_time=day(1)) == ["c2"]
    assert ids(before_send_time=day(1)) == ["c1"]
    assert ids(status="sent", sort_field="send_time", sort_dir="DESC", count=1, offset=1) == ["c1"]
    assert http.get("/campaigns/d").json()["status"] == "save"


def test_reports_are_counted_from_the_activity(http: httpx.Client, state: State) -> None:
    state.put(
        "mailchimp",
        "campaign",
        [campaign("c1", sent=day(1)), campaign("c2", sent=day(2)), campaign("d", sent="", status="save")],
    )
    state.put(
        "mailchimp",
        "activity",
        [
            activity(
                "c1",
                "e1",
                {"action": "open", "timestamp": day(3)},
                {"action": "open", "timestamp": day(5)},
                {"action": "click", "timestamp": day(4), "url": "https://example.com/?utm_source=n"},
            ),
            activity("c1", "e2", {"action": "bounce", "type": "hard", "timestamp": day(1)}),
            activity("c1", "e3"),
        ],
    )
    reports = http.get("/reports").json()
    assert ([row["id"] for row in reports["reports"]], reports["total_items"]) == (["c2", "c1"], 2)
    assert reports["reports"][0]["opens"]["last_open"] == ""
    one = http.get("/reports/c1").json()
    assert (one["send_time"], one["emails_sent"]) == (day(1), 4)
    assert one["opens"] == {"opens_total": 2, "unique_opens": 1, "open_rate": 0.25, "last_open": day(5)}
    assert one["clicks"]["last_click"] == day(4)
    assert one["bounces"] == {"hard_bounces": 1, "soft_bounces": 0, "syntax_errors": 0}
    assert http.get("/reports/d").status_code == 404
    since = http.get("/reports", params={"since_send_time": day(1)}).json()
    assert [row["id"] for row in since["reports"]] == ["c2"]


def test_since_thins_the_activity_and_keeps_every_recipient(http: httpx.Client, state: State) -> None:
    state.put("mailchimp", "campaign", [campaign("c1", sent=day(1))])
    opened = [{"action": "open", "timestamp": day(2)}, {"action": "open", "timestamp": day(3)}]
    state.put("mailchimp", "activity", [activity("c1", "e1", *opened), activity("c1", "e2")])
    address = "/reports/c1/email-activity"
    whole = http.get(address).json()
    assert [len(row["activity"]) for row in whole["emails"]] == [2, 0]
    thin = http.get(address, params={"since": day(2)}).json()
    assert [row["activity"] for row in thin["emails"]] == [opened[1:], []]
    assert thin["total_items"] == 2
    second = http.get(address, params={"count": 1, "offset": 1}).json()
    assert ([row["email_id"] for row in second["emails"]], second["total_items"]) == (["e2"], 2)


def test_unsubscribes_have_a_list_of_their_own(http: httpx.Client, state: State) -> None:
    state.put("mailchimp", "campaign", [campaign("c1", sent=day(1))])
    body = {"email_id": "e1", "timestamp": day(2), "reason": "Did not signup for list", "campaign_id": "c1"}
    at = unix(day(2))
    state.put("mailchimp", "unsubscribe", [Doc("c1:e1", body, at=at, changed=at, parent="c1")])
    answer = http.get("/reports/c1/unsubscribed").json()
    assert (answer["unsubscribes"], answer["total_items"]) == ([body], 1)
    assert http.get("/reports/c1").json()["unsubscribed"] == 1
