"""HubSpot as a source: the search wall, histories that do not come, limits."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import respx

from connectors.contract import Page, Window
from connectors.crm import hubspot, hubspot_api
from connectors.errors import ConnectorError

DATA = Path(__file__).parents[2] / "data" / "vendors" / "hubspot" / "answers"
HOST = "https://api.hubapi.com"
SEARCH = f"{HOST}/crm/v3/objects/contacts/search"
READ = f"{HOST}/crm/v3/objects/contacts/batch/read"
OWNERS = f"{HOST}/crm/v3/owners"
SINCE = datetime(2026, 9, 1, tzinfo=UTC)
UNTIL = datetime(2026, 10, 1, tzinfo=UTC)
WINDOW = Window(SINCE, UNTIL)
TOKEN = "pat-na1-secret"


def sent(route: respx.Route, call: int = -1) -> dict:
    return json.loads(route.calls[call].request.content)


def bodies(pages: list[Page]) -> list[bytes]:
    return [record.body for page in pages for record in page.records]


class Portal:
    """Contacts that can be searched as HubSpot does it: filters, one sort, offset, the wall."""

    def __init__(self, count: int) -> None:
        self.modified = {n: SINCE + timedelta(minutes=(n * 37) % 1000) for n in range(1, count + 1)}
        self.after_page = lambda _: None

    def search(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        assert len(request.content) <= 3000
        assert body["sorts"] == [{"propertyName": "hs_object_id", "direction": "ASCENDING"}]
        wanted = sorted(self.modified)
        for one in body["filterGroups"][0]["filters"]:
            value, keep = int(one["value"]), {"GTE": int.__ge__, "LT": int.__lt__, "GT": int.__gt__}
            held = {
                "lastmodifieddate": lambda n: int(self.modified[n].timestamp() * 1000),
                "hs_object_id": lambda n: n,
            }[one["propertyName"]]
            wanted = [n for n in wanted if keep[one["operator"]](held(n), value)]
        offset = int(body.get("after", 0))
        if offset + body["limit"] > 10_000:
            return httpx.Response(400, json={"message": "beyond 10,000"})
        page = wanted[offset : offset + body["limit"]]
        found = {"total": len(wanted), "results": [self.contact(n) for n in page]}
        self.after_page(page)
        return httpx.Response(200, json=found)

    def contact(self, n: int) -> dict:
        time = self.modified[n].isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"id": str(n), "properties": {"email": f"p{n}@example.com", "lastmodifieddate": time}}


def test_keeps_the_bytes_of_a_contact_and_its_time(vendor, make_hubspot, sample, answer):
    vendor.post(SEARCH).mock(return_value=answer("search_page_last"))
    first, last = list(make_hubspot(hubspot.HubSpot).read("contacts", Window(SINCE.replace(month=1), UNTIL)))
    (record,) = first.records
    assert record.body in sample("search_page_last")
    assert json.loads(record.body)["id"] == record.external_id == "220006890315"
    assert record.version == datetime(2026, 5, 6, 19, 26, 18, 36000, tzinfo=UTC)
    assert (first.cursor, last.cursor.at, last.said) == (None, record.version, 115)


def test_search_asks_for_the_properties_by_name(vendor, make_hubspot, answer):
    route = vendor.post(SEARCH).mock(return_value=answer("search_page_last"))
    reader = make_hubspot(hubspot.HubSpot, properties=["utm_campaign"], reason_property="why")
    list(reader.read("contacts", WINDOW))
    assert {"email", "lifecyclestage", "utm_campaign", "why"} <= set(sent(route)["properties"])
    assert route.calls[0].request.headers["Authorization"] == f"Bearer {TOKEN}"


def test_reads_past_the_wall_of_10000_rows(vendor, make_hubspot):
    portal = Portal(10_450)
    vendor.post(SEARCH).mock(side_effect=portal.search)
    pages = list(make_hubspot(hubspot.HubSpot).read("contacts", WINDOW))
    ids = [record.external_id for page in pages for record in page.records]
    assert ids == [str(n) for n in range(1, 10_451)]
    assert [page.cursor for page in pages[:-1]] == [None] * (len(pages) - 1)
    assert pages[-1].cursor.at == max(portal.modified.values())
    assert pages[-1].said == 10_450


def test_contacts_that_leave_the_window_meanwhile_hide_no_others(vendor, make_hubspot):
    portal = Portal(30)

    def touch(page: list[int]) -> None:
        portal.modified[page[0]] = UNTIL + timedelta(seconds=1)

    portal.after_page = touch
    vendor.post(SEARCH).mock(side_effect=portal.search)
    pages = list(make_hubspot(hubspot.HubSpot, page_size=7).read("contacts", WINDOW))
    assert [record.external_id for page in pages for record in page.records] == [str(n) for n in range(1, 31)]


def test_an_empty_window_moves_no_cursor(vendor, make_hubspot):
    vendor.post(SEARCH).mock(return_value=httpx.Response(200, json={"total": 0, "results": []}))
    (page,) = make_hubspot(hubspot.HubSpot).read("contacts", WINDOW)
    assert (list(page.records), page.cursor, page.said) == ([], None, 0)


def test_too_many_properties_are_a_mistake_of_the_config(make_hubspot):
    reader = make_hubspot(
        hubspot.HubSpot, properties=[f"property_with_a_rather_long_name_number_{n}" for n in range(60)]
    )
    with pytest.raises(ConnectorError, match="too many properties"):
        list(reader.read("contacts", WINDOW))


def test_an_unsorted_search_is_noticed(vendor, make_hubspot):
    page = {"total": 9, "results": [{"id": "5", "properties": {}}]}
    vendor.post(SEARCH).mock(return_value=httpx.Response(200, json=page))
    with pytest.raises(ConnectorError, match="not sorted"):
        list(make_hubspot(hubspot.HubSpot, page_size=1).read("contacts", WINDOW))


def test_stage_changes_read_the_history_of_what_changed(vendor, make_hubspot, sample, answer):
    found = [
        {"id": one, "properties": {"lastmodifieddate": "2026-09-14T10:02:31.907Z"}}
        for one in ("33451", "33452", "99999")
    ]
    vendor.post(SEARCH).mock(return_value=httpx.Response(200, json={"total": 3, "results": found}))
    route = vendor.post(READ).mock(return_value=answer("batch_read_history_207_MADE_UP", 207))
    reader = make_hubspot(hubspot.HubSpot, reason_property="why_lost", own_source_ids=["19083857"])
    pages = list(reader.read("stage_changes", WINDOW))
    assert sent(route)["inputs"] == [{"id": "33451"}, {"id": "33452"}, {"id": "99999"}]
    assert sent(route)["propertiesWithHistory"] == ["lifecyclestage", "hs_lead_status", "why_lost"]
    assert [record.external_id for record in pages[0].records] == ["33451", "33452"]
    assert all(body in sample("batch_read_history_207_MADE_UP") for body in bodies(pages))
    assert pages[0].records[0].context == {"reason_property": "why_lost", "own_source_ids": ["19083857"]}
    assert pages[-1].cursor.at == datetime(2026, 9, 14, 10, 2, 31, 907000, tzinfo=UTC)


def test_history_is_asked_for_50_at_a_time(vendor, make_hubspot):
    portal = Portal(120)
    vendor.post(SEARCH).mock(side_effect=portal.search)

    def read(request: httpx.Request) -> httpx.Response:
        ids = [int(one["id"]) for one in json.loads(request.content)["inputs"]]
        return httpx.Response(200, json={"results": [portal.contact(n) for n in reversed(ids)]})

    route = vendor.post(READ).mock(side_effect=read)
    pages = list(make_hubspot(hubspot.HubSpot).read("stage_changes", WINDOW))
    assert [len(json.loads(call.request.content)["inputs"]) for call in route.calls] == [50, 50, 20]
    assert {record.external_id for page in pages for record in page.records} == {
        str(n) for n in range(1, 121)
    }


@pytest.mark.parametrize(
    "read",
    [
        {"results": []},
        {"results": [{"id": "1"}], "errors": [{"category": "INTERNAL_ERROR", "context": {"ids": ["1"]}}]},
    ],
)
def test_a_history_that_does_not_come_stops_before_the_cursor(vendor, make_hubspot, read):
    vendor.post(SEARCH).mock(return_value=httpx.Response(200, json={"results": [{"id": "1"}]}))
    vendor.post(READ).mock(return_value=httpx.Response(207, json=read))
    seen: list[Page] = []
    with pytest.raises(ConnectorError):
        seen.extend(make_hubspot(hubspot.HubSpot).read("stage_changes", WINDOW))
    assert seen == []


def test_owners_include_those_who_left(vendor, make_hubspot, answer):
    def owners(request: httpx.Request) -> httpx.Response:
        if request.url.params["archived"] == "true":
            return answer("owners_archived_MADE_UP")
        if "after" in request.url.params:
            return answer("owners")
        paging = {"next": {"after": "7"}}
        return httpx.Response(200, json={"results": [{"id": "1"}], "paging": paging})

    vendor.get(OWNERS).mock(side_effect=owners)
    pages = list(make_hubspot(hubspot.HubSpot).read("owners", WINDOW))
    ids = [record.external_id for page in pages for record in page.records]
    assert ids == ["1", "6166860", "6166999"]
    assert all(page.cursor is None for page in pages)


@pytest.mark.parametrize(
    ("name", "status", "wait_s"),
    [
        ("error_429_burst_MADE_UP", 429, 10.0),
        ("error_429_search_MADE_UP", 429, 1.0),
        ("error_423_locked_MADE_UP", 423, 2.0),
    ],
)
def test_waits_as_long_as_the_limit_says(vendor, make_hubspot, waits, name, status, wait_s, answer):
    vendor.get(OWNERS).mock(
        side_effect=[answer(name, status), answer("owners"), answer("owners_archived_MADE_UP")]
    )
    assert len(bodies(list(make_hubspot(hubspot.HubSpot).read("owners", WINDOW)))) == 2
    assert any(wait_s <= waited <= wait_s * 1.5 for waited in waits)


@pytest.mark.parametrize(
    ("name", "status", "kind", "hint"),
    [
        ("error_429_daily", 429, "throttled", "midnight"),
        ("error_401_invalid_MADE_UP", 401, "credential", "token"),
        ("error_403_missing_scopes", 403, "scope", "custom-object-read"),
        (None, 477, "vendor", "data centre"),
        (None, 530, "credential", "token"),
    ],
)
def test_does_not_try_again_what_cannot_succeed(vendor, make_hubspot, name, status, kind, hint, answer):
    route = vendor.get(OWNERS).mock(return_value=answer(name, status) if name else httpx.Response(status))
    with pytest.raises(ConnectorError) as caught:
        list(make_hubspot(hubspot.HubSpot).read("owners", WINDOW))
    assert caught.value.kind == kind
    assert hint in caught.value.hint
    assert TOKEN not in str(caught.value)
    assert route.call_count == 1


def test_waits_when_the_window_is_used_up():
    def waited_s(**headers: str) -> float:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return hubspot_api.pace(hubspot_api.Answer(200, httpx.Headers(names), b"", "/"))

    used = {"X_HubSpot_RateLimit_Remaining": "0", "X_HubSpot_RateLimit_Interval_Milliseconds": "10000"}
    assert waited_s(**used) == 10.0
    assert waited_s(**{**used, "X_HubSpot_RateLimit_Remaining": "90"}) == 0.0
    assert waited_s() == 0.0


def test_check_names_the_missing_scope(vendor, make_hubspot, answer):
    vendor.get(f"{HOST}/account-info/v3/details").mock(return_value=answer("account_info"))
    vendor.post(SEARCH).mock(return_value=answer("search_page_last"))
    vendor.get(OWNERS).mock(return_value=answer("owners"))
    vendor.get(f"{HOST}/crm/v3/properties/contacts/lifecyclestage").mock(
        return_value=answer("error_403_missing_scopes", 403)
    )
    findings = make_hubspot(hubspot.HubSpot).check()
    assert [finding.ok for finding in findings] == [True, True, False, True]
    assert "custom-object-read" in findings[2].hint
