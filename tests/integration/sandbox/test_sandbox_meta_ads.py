"""The simulated Meta over loopback HTTP: fields, filters, cursors and errors of the Graph API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from connectors.sandbox import accounts
from connectors.sandbox.server import Server
from connectors.sandbox.state import Doc, State

BASE = 1_772_529_262
LEADS = f"/{accounts.META_FORM}/leads"
ACCOUNT = f"/{accounts.META_ACCOUNT}"
PAGE_TOKEN = "sandbox-page-token"


def doc(id: str, body: dict[str, Any], *, parent: str = "", at: float = BASE) -> Doc:
    return Doc(id, {"id": id, **body}, at=at, changed=at, parent=parent)


def lead(number: int, *, at: float) -> Doc:
    created = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")
    body = {
        "created_time": created,
        "ad_id": "1",
        "ad_name": "Carousel",
        "campaign_name": "Spring",
        "form_id": accounts.META_FORM,
        "field_data": [{"name": "email", "values": ["anna@example.com"]}],
    }
    return doc(str(1202100000000000 + number), body, parent=accounts.META_FORM, at=at)


def insight(day: str, ad: str) -> Doc:
    at = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
    body = {
        "account_id": accounts.META_ACCOUNT.removeprefix("act_"),
        "ad_id": ad,
        "spend": "1.50",
        "impressions": "10",
        "date_start": day,
        "date_stop": day,
    }
    id = f"{day}|{accounts.META_ACCOUNT}|{ad}"
    return Doc(id, body, at=at, changed=at, parent=accounts.META_ACCOUNT)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "sandbox.sqlite") as running:
        yield running


@pytest.fixture
def state(server: Server) -> State:
    state = server.state
    account = {"name": "Shop", "currency": "PLN", "timezone_name": "Europe/Warsaw"}
    state.put("meta", "account", [doc(accounts.META_ACCOUNT, account)])
    state.put("meta", "page", [doc(accounts.META_PAGE, {"name": "Shop", "access_token": PAGE_TOKEN})])
    form = {"name": "Form", "status": "ARCHIVED", "leads_count": 5, "questions": []}
    state.put("meta", "form", [doc(accounts.META_FORM, form, parent=accounts.META_PAGE)])
    return state


@pytest.fixture
def http(server: Server, state: State) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {accounts.META_TOKEN}"}
    with httpx.Client(base_url=f"{server.url}/meta/v25.0", headers=headers) as client:
        yield client


def rows(http: httpx.Client, path: str, **params: Any) -> list[dict[str, Any]]:
    answer = http.get(path, params=params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def created(operator: str, value: Any) -> str:
    return json.dumps([{"field": "time_created", "operator": operator, "value": value}])


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}])
def test_a_wrong_token_is_error_190_in_a_400(server: Server, state: State, headers: dict[str, str]) -> None:
    answer = httpx.get(f"{server.url}/meta/v25.0/me/accounts", headers=headers)
    assert answer.status_code == 400
    assert (answer.json()["error"]["code"], answer.json()["error"]["type"]) == (190, "OAuthException")


def test_pages_and_their_forms_archived_ones_too(http: httpx.Client) -> None:
    (page,) = rows(http, "/me/accounts")
    assert (page["id"], page["access_token"]) == (accounts.META_PAGE, PAGE_TOKEN)
    (form,) = rows(http, f"/{page['id']}/leadgen_forms", fields="id,status,leads_count")
    assert form == {"id": accounts.META_FORM, "status": "ARCHIVED", "leads_count": 5}
    as_page = {"Authorization": f"Bearer {PAGE_TOKEN}"}
    assert http.get(LEADS, headers=as_page).json() == {"data": []}


def test_only_the_fields_asked_for_come(http: httpx.Client, state: State) -> None:
    state.put("meta", "lead", [lead(1, at=BASE)])
    (usual,) = rows(http, LEADS)
    assert sorted(usual) == ["created_time", "field_data", "id"]
    (asked,) = rows(http, LEADS, fields="id,ad_name,campaign_name,platform")
    assert asked == {"id": usual["id"], "ad_name": "Carousel", "campaign_name": "Spring"}
    assert http.get(f"/{usual['id']}", params={"fields": "ad_id"}).json() == {"ad_id": "1", "id": usual["id"]}


def test_leads_come_newest_first_page_by_page(http: httpx.Client, state: State) -> None:
    state.put("meta", "lead", [lead(n, at=BASE + n) for n in range(5)])
    page = http.get(LEADS, params={"limit": 2, "fields": "id"}).json()
    seen = [row["id"] for row in page["data"]]
    while "next" in page["paging"]:
        assert parse_qs(urlsplit(page["paging"]["next"]).query)["fields"] == ["id"]
        page = httpx.get(page["paging"]["next"]).json()
        seen += [row["id"] for row in page["data"]]
    assert seen == [str(1202100000000000 + n) for n in (4, 3, 2, 1, 0)]
    first = http.get(LEADS, params={"limit": 2, "fields": "id"}).json()
    after = first["paging"]["cursors"]["after"]
    second = rows(http, LEADS, limit=2, fields="id", after=after)
    assert [row["id"] for row in second] == seen[2:4]
    assert http.get(LEADS, params={"after": "%%"}).json()["error"]["code"] == 100


def test_time_created_is_strict_and_in_seconds(http: httpx.Client, state: State) -> None:
    state.put("meta", "lead", [lead(n, at=BASE + n) for n in range(3)])

    def found(operator: str, value: Any) -> list[int]:
        got = rows(http, LEADS, fields="id", filtering=created(operator, value))
        return [int(row["id"]) - 1202100000000000 for row in got]

    assert found("GREATER_THAN", BASE + 1) == [2]
    assert found("GREATER_THAN_OR_EQUAL", BASE + 1) == [2, 1]
    assert found("LESS_THAN", BASE + 1) == [0]
    assert found("GREATER_THAN", str(BASE)) == [2, 1]
    # The trap: a time in ISO form filters nothing, and nobody says so.
    assert found("GREATER_THAN", "2030-01-01T00:00:00Z") == [2, 1, 0]
    assert http.get(LEADS, params={"filtering": "time_created"}).json()["error"]["code"] == 100


def test_the_account_and_its_campaigns(http: httpx.Client, state: State) -> None:
    account = http.get(ACCOUNT, params={"fields": "name,currency,timezone_name"}).json()
    assert account == {
        "id": accounts.META_ACCOUNT,
        "name": "Shop",
        "currency": "PLN",
        "timezone_name": "Europe/Warsaw",
    }
    assert rows(http, "/me/adaccounts", fields="currency") == [
        {"currency": "PLN", "id": accounts.META_ACCOUNT},
    ]
    mine = accounts.META_ACCOUNT.removeprefix("act_")
    state.put(
        "meta",
        "campaign",
        [
            doc("11", {"account_id": mine, "name": "A", "effective_status": "ACTIVE"}),
            doc("12", {"account_id": mine, "name": "B", "effective_status": "ARCHIVED"}),
            doc("13", {"account_id": "999", "name": "C", "effective_status": "ACTIVE"}),
        ],
    )
    assert rows(http, f"{ACCOUNT}/campaigns", fields="name") == [{"name": "A", "id": "11"}]
    wanted = json.dumps([{"field": "effective_status", "operator": "IN", "value": ["ACTIVE", "ARCHIVED"]}])
    assert [row["id"] for row in rows(http, f"{ACCOUNT}/campaigns", filtering=wanted)] == ["12", "11"]


def test_insights_take_both_days_in(http: httpx.Client, state: State) -> None:
    days = ["2026-03-01", "2026-03-02", "2026-03-03", "2026-03-04"]
    state.put("meta", "insight", [insight(day, ad) for day in days for ad in ("1", "2")])
    params = {
        "level": "ad",
        "time_increment": "1",
        "time_range": json.dumps({"since": "2026-03-02", "until": "2026-03-03"}),
        "fields": "ad_id,spend",
        "limit": 3,
    }
    page = http.get(f"{ACCOUNT}/insights", params=params).json()
    assert page["data"][0] == {
        "ad_id": "1",
        "spend": "1.50",
        "date_start": "2026-03-02",
        "date_stop": "2026-03-02",
    }
    rest = httpx.get(page["paging"]["next"]).json()
    assert "next" not in rest["paging"]
    keys = [(row["date_start"], row["ad_id"]) for row in page["data"] + rest["data"]]
    assert sorted(keys) == [(day, ad) for day in days[1:3] for ad in ("1", "2")]
    for wrong in ({"time_range": "march"}, {"level": "account"}, {"limit": 0}):
        assert http.get(f"{ACCOUNT}/insights", params=params | wrong).json()["error"]["code"] == 100


@pytest.mark.parametrize("path", ["/444444444444", "/444444444444/leads", "/act_444/insights", "/act_444"])
def test_what_is_not_there_is_100_33_in_a_400(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["error_subcode"], error["type"]) == (100, 33, "GraphMethodException")
