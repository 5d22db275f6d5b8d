"""The simulated HubSpot over loopback HTTP: what its answers look like and what it refuses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.sandbox import accounts
from connectors.sandbox.hubspot_wire import iso
from connectors.sandbox.server import Server
from connectors.sandbox.state import Doc, State

CONTACTS = "/crm/v3/objects/contacts"
BASE = 1_780_000_000.0


def contact(id: int, *, changed: float = BASE, archived: bool = False, **properties: str | None) -> Doc:
    body = {
        "properties": {
            "email": f"p{id}@example.com",
            "createdate": iso(BASE),
            "lastmodifieddate": iso(changed),
            "hs_object_id": str(id),
            **properties,
        },
        "history": {},
        "archived": archived,
    }
    return Doc(str(id), body, at=BASE, changed=changed)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "sandbox.sqlite") as running:
        yield running


@pytest.fixture
def state(server: Server) -> State:
    return server.state


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {accounts.HUBSPOT_TOKEN}"}
    with httpx.Client(base_url=f"{server.url}/hubspot", headers=headers) as client:
        yield client


def upsert(id: str, trace: str | None, **properties: str) -> dict[str, Any]:
    row: dict[str, Any] = {"idProperty": "email", "id": id, "properties": properties}
    return row if trace is None else row | {"objectWriteTraceId": trace}


def send(http: httpx.Client, call: str, *inputs: dict[str, Any], **more: Any) -> httpx.Response:
    return http.post(f"{CONTACTS}/batch/{call}", json={"inputs": list(inputs), **more})


def stage_of(state: State, id: str) -> str | None:
    doc = state.get("hubspot", "contact", id)
    assert doc is not None
    return doc.body["properties"].get("lifecyclestage")


def test_without_the_token_every_call_is_401(server: Server) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        answer = httpx.get(f"{server.url}/hubspot{CONTACTS}", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["category"] == "INVALID_AUTHENTICATION"


def test_account_details(http: httpx.Client) -> None:
    assert http.get("/account-info/v3/details").json()["portalId"] == accounts.HUBSPOT_PORTAL


def test_list_pages_by_id_and_leaves_archived_out(http: httpx.Client, state: State) -> None:
    state.put("hubspot", "contact", [contact(id, archived=id == 3) for id in range(1, 8)])
    seen, after = [], None
    for _ in range(10):
        params = {"limit": 2, "properties": "email,phone"} | ({"after": after} if after else {})
        page = http.get(CONTACTS, params=params).json()
        seen += page["results"]
        if "paging" not in page:
            break
        after = page["paging"]["next"]["after"]
    assert [row["id"] for row in seen] == ["1", "2", "4", "5", "6", "7"]
    assert seen[0]["properties"] == {
        "createdate": iso(BASE),
        "email": "p1@example.com",
        "hs_object_id": "1",
        "lastmodifieddate": iso(BASE),
        "phone": None,
    }
    gone = http.get(CONTACTS, params={"archived": "true"}).json()["results"]
    assert [(row["id"], row["archived"], "archivedAt" in row) for row in gone] == [("3", True, True)]
    assert http.get(CONTACTS, params={"limit": 101}).status_code == 400
    history = {"limit": 51, "propertiesWithHistory": "lifecyclestage"}
    assert http.get(CONTACTS, params=history).status_code == 400


def test_search_filters_sorts_and_counts(http: httpx.Client, state: State) -> None:
    stages = ("lead", "customer", "lead", "lead")
    state.put(
        "hubspot",
        "contact",
        [contact(id, changed=BASE + id, lifecyclestage=stage) for id, stage in enumerate(stages, start=1)]
        + [contact(9, changed=BASE + 9, archived=True)],
    )

    def found(*filters: tuple[str, str, Any], **more: Any) -> tuple[list[str], int]:
        group = [
            {"propertyName": name, "operator": operator, "values" if operator == "IN" else "value": value}
            for name, operator, value in filters
        ]
        body = http.post(f"{CONTACTS}/search", json={"filterGroups": [{"filters": group}], **more}).json()
        time.sleep(0.21)
        return [row["id"] for row in body["results"]], body["total"]

    assert found(("lastmodifieddate", "GTE", iso(BASE + 2))) == (["2", "3", "4"], 3)
    assert found(("lastmodifieddate", "GT", str(round((BASE + 2) * 1000)))) == (["3", "4"], 2)
    assert found(("lastmodifieddate", "LT", iso(BASE + 2))) == (["1"], 1)
    assert found(("lastmodifieddate", "LTE", iso(BASE + 2))) == (["1", "2"], 2)
    assert found(("lifecyclestage", "EQ", "lead"), ("hs_object_id", "GT", "1")) == (["3", "4"], 2)
    assert found(("email", "EQ", "P2@example.com")) == (["2"], 1)
    assert found(("email", "IN", ["p1@example.com", "P2@example.com"])) == (["1"], 1)
    assert found(("hs_lastmodifieddate", "GTE", "0")) == ([], 0)
    upward = [{"propertyName": "hs_object_id", "direction": "DESCENDING"}]
    assert found(("hs_object_id", "LTE", "4"), sorts=upward, limit=2) == (["4", "3"], 4)


def test_search_pages_by_offset_until_the_wall(http: httpx.Client, state: State) -> None:
    state.put("hubspot", "contact", [contact(id) for id in range(1, 6)])
    page = http.post(f"{CONTACTS}/search", json={"limit": 2, "after": "2"})
    assert [row["id"] for row in page.json()["results"]] == ["3", "4"]
    assert page.json()["paging"] == {"next": {"after": "4"}}
    assert "x-hubspot-ratelimit-remaining" not in page.headers
    last = http.post(f"{CONTACTS}/search", json={"limit": 2, "after": "4"}).json()
    assert "paging" not in last
    wall = http.post(f"{CONTACTS}/search", json={"limit": 200, "after": "9801"})
    assert wall.status_code == 400
    assert http.post(f"{CONTACTS}/search", json={"limit": 200, "after": "9800"}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 201},
        {"after": "x"},
        {"sorts": [{"propertyName": "email"}, {"propertyName": "phone"}]},
        {"filterGroups": [{"filters": [{"propertyName": "nope", "operator": "EQ", "value": "1"}]}]},
        {"filterGroups": [{"filters": [{"propertyName": "email", "operator": "LIKE", "value": "1"}]}]},
        {"properties": ["x" * 3000]},
    ],
)
def test_search_refuses(http: httpx.Client, body: dict[str, Any]) -> None:
    answer = http.post(f"{CONTACTS}/search", json=body)
    assert (answer.status_code, answer.json()["category"]) == (400, "VALIDATION_ERROR")


def test_batch_read_gives_history_and_names_the_missing(http: httpx.Client, state: State) -> None:
    entry = {"value": "lead", "timestamp": iso(BASE), "sourceType": "CRM_UI", "sourceId": "userId:7"}
    known = contact(1, lifecyclestage="lead")
    known.body["history"] = {"lifecyclestage": [entry]}
    state.put("hubspot", "contact", [known, contact(2), contact(3, archived=True)])
    asked = {"properties": ["lifecyclestage"], "propertiesWithHistory": ["lifecyclestage"]}
    answer = send(http, "read", {"id": "1"}, {"id": "2"}, {"id": "3"}, {"id": "77"}, **asked)
    body = answer.json()
    assert answer.status_code == 207
    assert [row["id"] for row in body["results"]] == ["2", "1"]
    assert body["results"][1]["propertiesWithHistory"] == {"lifecyclestage": [entry]}
    assert body["numErrors"] == 1
    assert body["errors"][0]["category"] == "OBJECT_NOT_FOUND"
    assert body["errors"][0]["context"] == {"ids": ["3", "77"]}
    assert send(http, "read", {"id": "1"}).status_code == 200
    many = [{"id": str(id)} for id in range(1, 52)]
    assert send(http, "read", *many, **asked).status_code == 400
    assert send(http, "read", *many).status_code == 207
    assert send(http, "read", *[{"id": str(id)} for id in range(101)]).status_code == 400


def test_upsert_creates_and_updates_in_another_order(http: httpx.Client, state: State) -> None:
    state.put("hubspot", "contact", [contact(41, firstname="Old")])
    rows = [
        upsert("New@Example.com", "a", firstname="Nia"),
        upsert("P41@example.com", "b", firstname="Pat", lifecyclestage="customer"),
    ]
    before = time.time()
    answer = send(http, "upsert", *rows)
    assert answer.status_code == 200
    updated, created = answer.json()["results"]
    assert (updated["id"], updated["new"], created["id"], created["new"]) == ("41", False, "42", True)
    assert created["properties"]["email"] == "new@example.com"
    assert created["properties"]["lifecyclestage"] == "lead"
    assert created["properties"]["hs_object_source_id"] == accounts.HUBSPOT_APP_ID
    kept = state.get("hubspot", "contact", "41")
    assert kept is not None
    assert kept.changed == pytest.approx(before, abs=5)
    assert kept.body["properties"]["firstname"] == "Pat"
    newest = kept.body["history"]["lifecyclestage"][0]
    assert (newest["value"], newest["sourceType"], newest["sourceId"]) == (
        "customer",
        "INTEGRATION",
        accounts.HUBSPOT_APP_ID,
    )
    assert state.writes("hubspot") == [
        ("42", {"firstname": "Nia"}),
        ("41", {"firstname": "Pat", "lifecyclestage": "customer"}),
    ]


def test_upsert_finds_an_additional_address_and_keeps_the_main_one(http: httpx.Client, state: State) -> None:
    state.put("hubspot", "contact", [contact(5, hs_additional_emails="other@example.com;more@example.com")])
    row = upsert("More@example.com", "a", email="More@example.com", firstname="Pat")
    (result,) = send(http, "upsert", row).json()["results"]
    assert (result["id"], result["new"], result["properties"]["email"]) == ("5", False, "p5@example.com")


def test_with_trace_ids_bad_rows_are_listed_and_good_ones_written(http: httpx.Client, state: State) -> None:
    answer = send(
        http,
        "upsert",
        upsert("not-an-email", "row-1", firstname="Bad"),
        upsert("b@example.com", "row-2", firstname="Bob"),
        upsert("c@example.com", "row-3", lifecyclestage="mql"),
        upsert("d@example.com", "row-4", nope="1"),
    )
    body = answer.json()
    assert (answer.status_code, body["numErrors"], len(body["results"])) == (207, 3, 1)
    told = {error["context"]["objectWriteTraceId"][0]: error["message"] for error in body["errors"]}
    assert "INVALID_EMAIL" in told["row-1"]
    assert "INVALID_OPTION" in told["row-3"]
    assert "PROPERTY_DOESNT_EXIST" in told["row-4"]
    assert {error["category"] for error in body["errors"]} == {"VALIDATION_ERROR"}
    assert state.select("hubspot", "contact")[1] == 1


@pytest.mark.parametrize("traces", [(None, None), ("same", "same"), ("one", None)])
def test_without_unique_trace_ids_one_bad_row_spoils_the_call(
    http: httpx.Client, state: State, traces: tuple[str | None, str | None]
) -> None:
    good = upsert("b@example.com", traces[0], firstname="Bob")
    bad = upsert("c@example.com", traces[1], nope="1")
    answer = send(http, "upsert", good, bad)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == "PROPERTY_DOESNT_EXIST"
    assert state.select("hubspot", "contact")[1] == 0
    assert state.writes("hubspot") == []


def test_a_repeated_key_spoils_the_call_even_with_trace_ids(http: httpx.Client, state: State) -> None:
    rows = [upsert("b@example.com", "1", firstname="B"), upsert("B@example.com", "2", firstname="C")]
    answer = send(http, "upsert", *rows)
    assert answer.status_code == 400
    assert "Duplicate IDs found in batch input" in answer.json()["message"]
    assert answer.json()["context"] == {"ids": ["b@example.com"]}
    assert state.select("hubspot", "contact")[1] == 0


def test_more_than_a_hundred_rows_are_refused(http: httpx.Client, state: State) -> None:
    rows = [upsert(f"p{n}@example.com", str(n), firstname="P") for n in range(101)]
    assert send(http, "upsert", *rows).status_code == 400
    assert send(http, "upsert", *rows[:100]).status_code == 200
    assert state.select("hubspot", "contact")[1] == 100


def test_stage_goes_forward_only_unless_cleared_by_an_earlier_call(http: httpx.Client, state: State) -> None:
    state.put("hubspot", "contact", [contact(1, lifecyclestage="opportunity")])

    def write(stage: str) -> Any:
        answer = send(http, "update", {"id": "1", "properties": {"lifecyclestage": stage}})
        assert answer.status_code == 200
        return answer.json()["results"][0]["properties"]["lifecyclestage"]

    assert write("lead") == "opportunity"
    assert write("customer") == "customer"
    assert write("") is None
    assert write("lead") == "lead"
    doc = state.get("hubspot", "contact", "1")
    assert doc is not None
    values = [entry["value"] for entry in doc.body["history"]["lifecyclestage"]]
    assert values == ["lead", "", "customer"]


def test_history_keeps_45_values(http: httpx.Client, state: State) -> None:
    state.put("hubspot", "contact", [contact(1)])
    for n in range(47):
        answer = http.patch(f"{CONTACTS}/1", json={"properties": {"firstname": f"name {n}"}})
        assert answer.status_code == 200
    shown = http.get(f"{CONTACTS}/1", params={"propertiesWithHistory": "firstname"}).json()
    values = [entry["value"] for entry in shown["propertiesWithHistory"]["firstname"]]
    assert values == [f"name {n}" for n in range(46, 1, -1)]


def test_update_is_by_record_id_and_names_unknown_ones(http: httpx.Client, state: State) -> None:
    state.put("hubspot", "contact", [contact(1)])
    rows = [
        {"id": id, "objectWriteTraceId": id, "properties": {"firstname": "X"}} for id in ("1", "unknown888")
    ]
    answer = send(http, "update", *rows)
    assert answer.status_code == 207
    assert [row["id"] for row in answer.json()["results"]] == ["1"]
    assert answer.json()["errors"][0]["category"] == "OBJECT_NOT_FOUND"
    assert answer.json()["errors"][0]["context"] == {"ids": ["unknown888"]}
    by_email = {"id": "p1@example.com", "idProperty": "email", "properties": {"firstname": "Y"}}
    assert send(http, "update", by_email).status_code == 400
    assert stage_of(state, "1") is None


def test_create_tells_of_the_contact_that_is_there(http: httpx.Client, state: State) -> None:
    state.put("hubspot", "contact", [contact(7)])
    new = {"properties": {"email": "n@example.com"}, "objectWriteTraceId": "0"}
    taken = {"properties": {"email": "P7@example.com"}, "objectWriteTraceId": "1"}
    answer = send(http, "create", new, taken)
    assert answer.status_code == 207
    (error,) = answer.json()["errors"]
    assert (error["category"], error["message"]) == (
        "CONFLICT",
        "Contact already exists. Existing ID: 7",
    )
    assert error["context"] == {"objectWriteTraceId": ["1"], "existingId": ["7"]}
    whole = send(http, "create", {"properties": {"email": "P7@example.com"}})
    assert (whole.status_code, whole.json()["category"]) == (409, "CONFLICT")
    assert send(http, "create", {"properties": {"email": "o@example.com"}}).status_code == 201
    assert send(http, "create", {"properties": {"phone": "1"}}).status_code == 400


def test_one_contact_by_id_or_address(http: httpx.Client, state: State) -> None:
    state.put("hubspot", "contact", [contact(1), contact(2), contact(3, archived=True)])
    by_email = {"idProperty": "email"}
    shown = http.get(f"{CONTACTS}/P1@example.com", params=by_email).json()
    assert shown["id"] == "1"
    body = {"properties": {"phone": "+48500000000"}}
    assert http.patch(f"{CONTACTS}/p1@example.com", params=by_email, json=body).json()["id"] == "1"
    assert http.get(f"{CONTACTS}/1", params={"properties": "phone"}).json()["properties"]["phone"]
    for missing in ("3", "99"):
        assert http.get(f"{CONTACTS}/{missing}").status_code == 404
        assert http.patch(f"{CONTACTS}/{missing}", json=body).status_code == 404
    taken = http.patch(f"{CONTACTS}/1", json={"properties": {"email": "p2@example.com"}})
    assert taken.status_code == 409
    read_only = http.patch(f"{CONTACTS}/1", json={"properties": {"createdate": "2026-01-01"}})
    assert read_only.json()["errors"][0]["code"] == "READ_ONLY_VALUE"


def test_owners_who_left_come_only_when_asked(http: httpx.Client, state: State) -> None:
    people = [{"id": "1", "archived": False}, {"id": "2", "archived": True}, {"id": "3", "archived": False}]
    state.put("hubspot", "owner", [Doc(row["id"], row, at=BASE, changed=BASE) for row in people])
    first = http.get("/crm/v3/owners", params={"limit": 1}).json()
    assert [row["id"] for row in first["results"]] == ["1"]
    after = first["paging"]["next"]["after"]
    rest = http.get("/crm/v3/owners", params={"limit": 1, "after": after}).json()
    assert ([row["id"] for row in rest["results"]], "paging" in rest) == (["3"], False)
    left = http.get("/crm/v3/owners", params={"archived": "true"}).json()["results"]
    assert [row["id"] for row in left] == ["2"]


def test_own_properties_are_made_once_and_then_usable(http: httpx.Client) -> None:
    properties = "/crm/v3/properties/contacts"
    group = {"name": "leadledger", "label": "Lead ledger"}

    def wanted(name: str, **more: Any) -> dict[str, Any]:
        usual = {"label": name, "groupName": "leadledger", "type": "number", "fieldType": "number"}
        return {"name": name, **usual, **more}

    assert http.post(properties, json=wanted("ll_revenue")).status_code == 400
    assert http.post(f"{properties}/groups", json=group).status_code == 201
    assert http.post(f"{properties}/groups", json=group).status_code == 409
    groups = http.get(f"{properties}/groups").json()["results"]
    assert "leadledger" in [row["name"] for row in groups]
    first = http.post(f"{properties}/batch/create", json={"inputs": [wanted("ll_revenue")]})
    assert first.status_code == 201
    both = {"inputs": [wanted("ll_revenue"), wanted("ll_orders")]}
    second = http.post(f"{properties}/batch/create", json=both)
    assert (second.status_code, second.json()["numErrors"]) == (207, 1)
    assert [row["name"] for row in second.json()["results"]] == ["ll_orders"]
    assert http.post(f"{properties}/batch/create", json=both).status_code == 409
    assert http.post(properties, json=wanted("ll_orders")).status_code == 409
    assert http.post(properties, json=wanted("Bad name")).status_code == 400
    assert http.get(f"{properties}/ll_orders").json()["groupName"] == "leadledger"
    assert http.get(f"{properties}/nothing").status_code == 404
    names = {row["name"] for row in http.get(properties).json()["results"]}
    assert {"email", "lifecyclestage", "ll_orders"} <= names
    good = send(http, "upsert", upsert("a@example.com", None, ll_revenue="12.50"))
    assert good.json()["results"][0]["properties"]["ll_revenue"] == "12.50"
    bad = send(http, "upsert", upsert("a@example.com", None, ll_revenue="much"))
    assert bad.json()["errors"][0]["code"] == "INVALID_INTEGER"


def test_the_call_after_190_within_ten_seconds_is_429(http: httpx.Client) -> None:
    answers = [http.get("/crm/v3/owners") for _ in range(191)]
    assert [answer.status_code for answer in answers[:190]] == [200] * 190
    assert answers[0].headers["X-HubSpot-RateLimit-Max"] == "190"
    assert answers[0].headers["X-HubSpot-RateLimit-Remaining"] == "189"
    assert answers[0].headers["X-HubSpot-RateLimit-Interval-Milliseconds"] == "10000"
    assert (answers[190].status_code, answers[190].json()["policyName"]) == (429, "TEN_SECONDLY_ROLLING")
    assert answers[190].headers["X-HubSpot-RateLimit-Remaining"] == "0"


def test_the_sixth_search_within_a_second_is_429_and_a_second_later_not(http: httpx.Client) -> None:
    answers = [http.post(f"{CONTACTS}/search", json={}) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert answers[5].json()["policyName"] == "SECONDLY"
    assert answers[5].json()["message"] == "You have reached your secondly limit."
    time.sleep(1.05)
    assert http.post(f"{CONTACTS}/search", json={}).status_code == 200


def test_an_upsert_of_a_hundred_among_nine_thousand_is_quick(http: httpx.Client, state: State) -> None:
    state.put("hubspot", "contact", [contact(id) for id in range(1, 9001)])
    rows = [upsert(f"p{id}@example.com", str(id), firstname="P") for id in range(4000, 4100)]
    start = time.monotonic()
    answer = send(http, "upsert", *rows)
    assert time.monotonic() - start < 1
    assert [row["new"] for row in answer.json()["results"]] == [False] * 100
