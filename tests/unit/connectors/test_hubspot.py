"""HubSpot at its edges: the search wall, partial failures, stages that do not go back, limits."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
import respx

from connectors.contract import Context, Destination, Page, Source, Upsert, Window
from connectors.crm import hubspot, hubspot_answer, hubspot_api, hubspot_plan, hubspot_write
from connectors.errors import ConnectorError
from connectors.http import Http

DATA = Path(__file__).parents[2] / "data" / "vendors" / "hubspot" / "answers"
HOST = "https://api.hubapi.com"
SEARCH = f"{HOST}/crm/v3/objects/contacts/search"
READ = f"{HOST}/crm/v3/objects/contacts/batch/read"
UPSERT = f"{HOST}/crm/v3/objects/contacts/batch/upsert"
UPDATE = f"{HOST}/crm/v3/objects/contacts/batch/update"
OWNERS = f"{HOST}/crm/v3/owners"
GROUPS = f"{HOST}/crm/v3/properties/contacts/groups"
CREATE = f"{HOST}/crm/v3/properties/contacts/batch/create"
SINCE = datetime(2026, 9, 1, tzinfo=UTC)
UNTIL = datetime(2026, 10, 1, tzinfo=UTC)
WINDOW = Window(SINCE, UNTIL)
TOKEN = "pat-na1-secret"


def sample(name: str) -> bytes:
    return (DATA / f"{name}.json").read_bytes()


def answer(name: str, status: int = 200) -> httpx.Response:
    return httpx.Response(status, content=sample(name))


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def vendor():
    with respx.mock(assert_all_called=False) as router:
        yield router


@pytest.fixture
def make(waits):
    clients: list[Http] = []

    def factory(settings):
        clients.append(Http(settings, sleep=waits.append))
        return clients[-1]

    def build(kind, **options):
        context = Context("crm", ZoneInfo("Europe/Warsaw"), Path(), factory)
        return kind(hubspot_api.Options.model_validate({"access_token": TOKEN, **options}), context)

    yield build
    for client in clients:
        client.close()


def sent(route: respx.Route, call: int = -1) -> dict:
    return json.loads(route.calls[call].request.content)


def bodies(pages: list[Page]) -> list[bytes]:
    return [record.body for page in pages for record in page.records]


def upsert(key: str, email: str = "", *, remote_id=None, accepted=None, changed=None, **fields) -> Upsert:
    return Upsert(
        key=key,
        email=email or f"{key}@example.com",
        remote_id=remote_id,
        fields=fields,
        changed=frozenset(fields if changed is None else changed),
        accepted=accepted or {},
    )


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


# source


def test_keeps_the_bytes_of_a_contact_and_its_time(vendor, make):
    vendor.post(SEARCH).mock(return_value=answer("search_page_last"))
    first, last = list(make(hubspot.HubSpot).read("contacts", Window(SINCE.replace(month=1), UNTIL)))
    (record,) = first.records
    assert record.body in sample("search_page_last")
    assert json.loads(record.body)["id"] == record.external_id == "220006890315"
    assert record.version == datetime(2026, 5, 6, 19, 26, 18, 36000, tzinfo=UTC)
    assert (first.cursor, last.cursor.at, last.said) == (None, record.version, 115)


def test_search_asks_for_the_properties_by_name(vendor, make):
    route = vendor.post(SEARCH).mock(return_value=answer("search_page_last"))
    list(make(hubspot.HubSpot, properties=["utm_campaign"], reason_property="why").read("contacts", WINDOW))
    assert {"email", "lifecyclestage", "utm_campaign", "why"} <= set(sent(route)["properties"])
    assert route.calls[0].request.headers["Authorization"] == f"Bearer {TOKEN}"


def test_reads_past_the_wall_of_10000_rows(vendor, make):
    portal = Portal(10_450)
    vendor.post(SEARCH).mock(side_effect=portal.search)
    pages = list(make(hubspot.HubSpot).read("contacts", WINDOW))
    ids = [record.external_id for page in pages for record in page.records]
    assert ids == [str(n) for n in range(1, 10_451)]
    assert [page.cursor for page in pages[:-1]] == [None] * (len(pages) - 1)
    assert pages[-1].cursor.at == max(portal.modified.values())
    assert pages[-1].said == 10_450


def test_contacts_that_leave_the_window_meanwhile_hide_no_others(vendor, make):
    portal = Portal(30)

    def touch(page: list[int]) -> None:
        portal.modified[page[0]] = UNTIL + timedelta(seconds=1)

    portal.after_page = touch
    vendor.post(SEARCH).mock(side_effect=portal.search)
    pages = list(make(hubspot.HubSpot, page_size=7).read("contacts", WINDOW))
    assert [record.external_id for page in pages for record in page.records] == [str(n) for n in range(1, 31)]


def test_an_empty_window_moves_no_cursor(vendor, make):
    vendor.post(SEARCH).mock(return_value=httpx.Response(200, json={"total": 0, "results": []}))
    (page,) = make(hubspot.HubSpot).read("contacts", WINDOW)
    assert (list(page.records), page.cursor, page.said) == ([], None, 0)


def test_too_many_properties_are_a_mistake_of_the_config(make):
    reader = make(
        hubspot.HubSpot, properties=[f"property_with_a_rather_long_name_number_{n}" for n in range(60)]
    )
    with pytest.raises(ConnectorError, match="too many properties"):
        list(reader.read("contacts", WINDOW))


def test_an_unsorted_search_is_noticed(vendor, make):
    page = {"total": 9, "results": [{"id": "5", "properties": {}}]}
    vendor.post(SEARCH).mock(return_value=httpx.Response(200, json=page))
    with pytest.raises(ConnectorError, match="not sorted"):
        list(make(hubspot.HubSpot, page_size=1).read("contacts", WINDOW))


def test_stage_changes_read_the_history_of_what_changed(vendor, make):
    found = [
        {"id": one, "properties": {"lastmodifieddate": "2026-09-14T10:02:31.907Z"}}
        for one in ("33451", "33452", "99999")
    ]
    vendor.post(SEARCH).mock(return_value=httpx.Response(200, json={"total": 3, "results": found}))
    route = vendor.post(READ).mock(return_value=answer("batch_read_history_207_MADE_UP", 207))
    reader = make(hubspot.HubSpot, reason_property="why_lost", own_source_ids=["19083857"])
    pages = list(reader.read("stage_changes", WINDOW))
    assert sent(route)["inputs"] == [{"id": "33451"}, {"id": "33452"}, {"id": "99999"}]
    assert sent(route)["propertiesWithHistory"] == ["lifecyclestage", "hs_lead_status", "why_lost"]
    assert [record.external_id for record in pages[0].records] == ["33451", "33452"]
    assert all(body in sample("batch_read_history_207_MADE_UP") for body in bodies(pages))
    assert pages[0].records[0].context == {"reason_property": "why_lost", "own_source_ids": ["19083857"]}
    assert pages[-1].cursor.at == datetime(2026, 9, 14, 10, 2, 31, 907000, tzinfo=UTC)


def test_history_is_asked_for_50_at_a_time(vendor, make):
    portal = Portal(120)
    vendor.post(SEARCH).mock(side_effect=portal.search)

    def read(request: httpx.Request) -> httpx.Response:
        ids = [int(one["id"]) for one in json.loads(request.content)["inputs"]]
        return httpx.Response(200, json={"results": [portal.contact(n) for n in reversed(ids)]})

    route = vendor.post(READ).mock(side_effect=read)
    pages = list(make(hubspot.HubSpot).read("stage_changes", WINDOW))
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
def test_a_history_that_does_not_come_stops_before_the_cursor(vendor, make, read):
    vendor.post(SEARCH).mock(return_value=httpx.Response(200, json={"results": [{"id": "1"}]}))
    vendor.post(READ).mock(return_value=httpx.Response(207, json=read))
    seen: list[Page] = []
    with pytest.raises(ConnectorError):
        seen.extend(make(hubspot.HubSpot).read("stage_changes", WINDOW))
    assert seen == []


def test_owners_include_those_who_left(vendor, make):
    def owners(request: httpx.Request) -> httpx.Response:
        if request.url.params["archived"] == "true":
            return answer("owners_archived_MADE_UP")
        if "after" in request.url.params:
            return answer("owners")
        paging = {"next": {"after": "7"}}
        return httpx.Response(200, json={"results": [{"id": "1"}], "paging": paging})

    vendor.get(OWNERS).mock(side_effect=owners)
    pages = list(make(hubspot.HubSpot).read("owners", WINDOW))
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
def test_waits_as_long_as_the_limit_says(vendor, make, waits, name, status, wait_s):
    vendor.get(OWNERS).mock(
        side_effect=[answer(name, status), answer("owners"), answer("owners_archived_MADE_UP")]
    )
    assert len(bodies(list(make(hubspot.HubSpot).read("owners", WINDOW)))) == 2
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
def test_does_not_try_again_what_cannot_succeed(vendor, make, name, status, kind, hint):
    route = vendor.get(OWNERS).mock(return_value=answer(name, status) if name else httpx.Response(status))
    with pytest.raises(ConnectorError) as caught:
        list(make(hubspot.HubSpot).read("owners", WINDOW))
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


def test_check_names_the_missing_scope(vendor, make):
    vendor.get(f"{HOST}/account-info/v3/details").mock(return_value=answer("account_info"))
    vendor.post(SEARCH).mock(return_value=answer("search_page_last"))
    vendor.get(OWNERS).mock(return_value=answer("owners"))
    vendor.get(f"{HOST}/crm/v3/properties/contacts/lifecyclestage").mock(
        return_value=answer("error_403_missing_scopes", 403)
    )
    findings = make(hubspot.HubSpot).check()
    assert [finding.ok for finding in findings] == [True, True, False, True]
    assert "custom-object-read" in findings[2].hint


# destination


def results(*rows: dict, errors: list | None = None) -> httpx.Response:
    body = {"status": "COMPLETE", "results": list(rows)}
    if errors:
        body |= {"numErrors": len(errors), "errors": errors}
    return httpx.Response(207 if errors else 200, json=body)


def row(remote_id: str, address: str = "", /, *, trace: str | None = None, **properties) -> dict:
    found = {"id": remote_id, "properties": {"hs_object_id": remote_id, **properties}}
    if address:
        found["properties"]["email"] = address
    return found if trace is None else {**found, "objectWriteTraceId": trace}


def test_is_a_source_and_a_destination(make):
    assert isinstance(make(hubspot.HubSpot), Source)
    assert isinstance(make(hubspot_write.HubSpotContacts), Destination)
    assert hubspot.CONNECTOR.destination is hubspot_write.HubSpotContacts


def test_write_sends_exactly_what_plan_shows(vendor, make):
    upserts = vendor.post(UPSERT).mock(return_value=results(row("1", "b@example.com", lifecyclestage="lead")))
    updates = vendor.post(UPDATE).mock(return_value=results(row("9", hs_lead_status="NEW")))
    writer = make(hubspot_write.HubSpotContacts)
    batch = [
        upsert("row-1", " B@Example.com ", lifecyclestage="lead"),
        upsert(
            "row-2", remote_id="9", lifecyclestage="lead", hs_lead_status="NEW", changed={"hs_lead_status"}
        ),
    ]
    first, second = writer.plan(batch)
    assert (first.path, first.keys) == ("/crm/v3/objects/contacts/batch/upsert", ("row-1",))
    assert first.body["inputs"] == [
        {
            "idProperty": "email",
            "id": "b@example.com",
            "objectWriteTraceId": "row-1",
            "properties": {"email": "b@example.com", "lifecyclestage": "lead"},
        }
    ]
    assert second.path == "/crm/v3/objects/contacts/batch/update"
    assert second.body["inputs"] == [
        {"id": "9", "objectWriteTraceId": "row-2", "properties": {"hs_lead_status": "NEW"}}
    ]
    outcomes = writer.write(batch)
    assert [(one.key, one.status, one.remote_id) for one in outcomes] == [
        ("row-1", "accepted", "1"),
        ("row-2", "accepted", "9"),
    ]
    assert (sent(upserts), sent(updates)) == (first.body, second.body)


def test_results_are_matched_whatever_their_order(vendor, make):
    vendor.post(UPSERT).mock(return_value=answer("batch_upsert_200_MADE_UP"))
    outcomes = make(hubspot_write.HubSpotContacts).write(
        [
            upsert("k1", "Anna.Nowak@example.com", firstname="Anna"),
            upsert("k2", "b@example.com", firstname="Bob"),
        ]
    )
    assert [(one.key, one.status, one.remote_id, one.shown) for one in outcomes] == [
        ("k1", "accepted", "33451", {"firstname": "Anna"}),
        ("k2", "accepted", "171596044870", {"firstname": "Bob"}),
    ]


def test_a_partial_failure_is_read_record_by_record(vendor, make):
    vendor.post(UPSERT).mock(return_value=answer("batch_upsert_207_MADE_UP", 207))
    bad, good, wrong, lost = make(hubspot_write.HubSpotContacts).write(
        [
            upsert("row-1", "not-an-email", firstname="Bad"),
            upsert("row-2", "b@example.com", firstname="Bob", lifecyclestage="lead"),
            upsert("row-3", "c@example.com", lifecyclestage="mql"),
            upsert("row-4", "d@example.com", firstname="Dora"),
        ]
    )
    assert (bad.status, good.status, wrong.status, lost.status) == ("refused", "accepted", "refused", "retry")
    assert "INVALID_EMAIL" in bad.reason
    assert "lifecyclestage: mql was not one of the allowed options" in wrong.reason
    assert "neither" in lost.reason


def test_a_stage_that_was_dropped_silently_is_refused(vendor, make):
    vendor.post(UPDATE).mock(return_value=results(row("9", trace="k", lifecyclestage="customer", x="1")))
    batch = [upsert("k", remote_id="9", lifecyclestage="salesqualifiedlead", x="1")]
    (outcome,) = make(hubspot_write.HubSpotContacts).write(batch)
    assert outcome.status == "refused"
    assert outcome.shown == {"lifecyclestage": "customer", "x": "1"}
    assert "lifecyclestage shows 'customer' in place of 'salesqualifiedlead'" in outcome.reason


@pytest.mark.parametrize(
    ("wanted", "shown", "status"),
    [
        ("199.00", "199", "accepted"),
        ("199.00", "199.01", "refused"),
        ("2026-09-14T10:02:31.000Z", "1789380151000", "accepted"),
        ("2026-09-14", "2026-09-14T00:00:00Z", "accepted"),
        ("2026-09-14", "2026-09-15", "refused"),
        ("autumn", "Autumn", "refused"),
        ("autumn", None, "refused"),
    ],
)
def test_the_shown_value_decides(vendor, make, wanted, shown, status):
    vendor.post(UPDATE).mock(return_value=results(row("9", trace="k", leadledger_revenue=shown)))
    (outcome,) = make(hubspot_write.HubSpotContacts).write(
        [upsert("k", remote_id="9", leadledger_revenue=wanted)]
    )
    assert outcome.status == status


def test_what_the_answer_does_not_show_is_read_back(vendor, make):
    vendor.post(UPDATE).mock(
        return_value=results(row("8", trace="a"), row("9", trace="b"), row("10", trace="c"))
    )
    route = vendor.post(READ).mock(
        return_value=results(row("8", lifecyclestage="customer"), row("9", lifecyclestage="other"))
    )
    outcomes = make(hubspot_write.HubSpotContacts).write(
        [
            upsert(key, remote_id=one, lifecyclestage="customer")
            for key, one in (("a", "8"), ("b", "9"), ("c", "10"))
        ]
    )
    assert [one.status for one in outcomes] == ["accepted", "refused", "retry"]
    assert sent(route) == {
        "inputs": [{"id": "8"}, {"id": "9"}, {"id": "10"}],
        "properties": ["lifecyclestage"],
    }


def test_a_lower_stage_is_left_out(vendor, make):
    route = vendor.post(UPDATE).mock(return_value=results(row("9", trace="k", x="2")))
    held = {"lifecyclestage": "customer", "x": "1"}
    batch = [
        upsert("k", remote_id="9", lifecyclestage="lead", x="2", accepted=held),
        upsert("only", remote_id="8", lifecyclestage="lead", accepted=held),
        upsert("forward", remote_id="7", lifecyclestage="evangelist", accepted=held),
    ]
    outcomes = make(hubspot_write.HubSpotContacts).write(batch)
    assert [one["properties"] for one in sent(route)["inputs"]] == [
        {"x": "2"},
        {"lifecyclestage": "evangelist"},
    ]
    assert [one.status for one in outcomes] == ["accepted", "accepted", "retry"]
    assert [dict(one.shown) for one in outcomes[:2]] == [
        {"lifecyclestage": "customer", "x": "2"},
        {"lifecyclestage": "customer"},
    ]
    assert all("stays customer" in one.reason for one in outcomes[:2])


def test_a_stage_goes_back_in_two_calls_when_allowed(vendor, make):
    route = vendor.post(UPDATE).mock(
        side_effect=[
            results(row("9", trace="k", lifecyclestage=None)),
            results(row("9", trace="k", lifecyclestage="lead", x="2")),
        ]
    )
    writer = make(hubspot_write.HubSpotContacts, allow_backward=True)
    batch = [
        upsert("k", remote_id="9", lifecyclestage="lead", x="2", accepted={"lifecyclestage": "customer"})
    ]
    assert [request.body["inputs"][0]["properties"] for request in writer.plan(batch)] == [
        {"lifecyclestage": ""},
        {"lifecyclestage": "lead", "x": "2"},
    ]
    (outcome,) = writer.write(batch)
    assert (outcome.status, route.call_count) == ("accepted", 2)
    assert outcome.shown == {"lifecyclestage": "lead", "x": "2"}


def test_a_stage_that_cannot_be_cleared_is_not_set(vendor, make):
    route = vendor.post(UPDATE).mock(return_value=results(row("9", trace="k", lifecyclestage="customer")))
    batch = [upsert("k", remote_id="9", lifecyclestage="lead", accepted={"lifecyclestage": "customer"})]
    (outcome,) = make(hubspot_write.HubSpotContacts, allow_backward=True).write(batch)
    assert (outcome.status, route.call_count) == ("refused", 1)


def test_the_same_contact_twice_goes_into_two_calls():
    planned = hubspot_plan.plan(
        [upsert("a", "X@example.com", f="1"), upsert("b", "x@example.com", f="2"), upsert("c", f="3")],
        allow_backward=False,
    )
    assert [[item.key for item in call.items] for call in planned.calls] == [["a", "c"], ["b"]]


def test_calls_have_at_most_100_inputs():
    batch = [upsert(f"k{n}", f="1") for n in range(250)]
    planned = hubspot_plan.plan(batch, allow_backward=False)
    assert [len(call.items) for call in planned.calls] == [100, 100, 50]


def test_no_value_is_never_sent_and_nothing_changed_needs_no_call(make):
    writer = make(hubspot_write.HubSpotContacts)
    assert writer.plan([upsert("k", remote_id="9", x="1", changed={"gone"})]) == []
    (outcome,) = writer.write([upsert("k", remote_id="9", x="1", changed={"gone"})])
    assert (outcome.status, outcome.remote_id) == ("accepted", "9")


def test_neither_email_nor_id_is_refused_here(make):
    (outcome,) = make(hubspot_write.HubSpotContacts).write([upsert("k", " ", x="1")])
    assert outcome.status == "refused"


def test_a_key_twice_is_our_own_mistake(make):
    with pytest.raises(ValueError, match="same key"):
        make(hubspot_write.HubSpotContacts).plan([upsert("k", x="1"), upsert("k", x="2")])


def test_a_call_refused_as_a_whole_is_halved_down_to_the_reason(vendor, make):
    def write(request: httpx.Request) -> httpx.Response:
        inputs = json.loads(request.content)["inputs"]
        if any(one["id"] == "bad@example.com" for one in inputs):
            return answer("error_400_invalid_properties", 400)
        return results(*(row(f"id-{one['id']}", one["id"], **one["properties"]) for one in inputs))

    route = vendor.post(UPSERT).mock(side_effect=write)
    batch = [upsert(f"k{n}", "bad@example.com" if n == 63 else "", x=str(n)) for n in range(100)]
    outcomes = make(hubspot_write.HubSpotContacts).write(batch)
    assert [one.key for one in outcomes if one.status == "refused"] == ["k63"]
    assert sum(one.status == "accepted" for one in outcomes) == 99
    assert "PROPERTY_DOESNT_EXIST" in outcomes[63].reason
    assert route.call_count <= 15


def test_an_unknown_id_is_tried_by_email_next_time(vendor, make):
    vendor.post(UPDATE).mock(return_value=answer("batch_update_207_not_found", 207))
    good, gone = make(hubspot_write.HubSpotContacts).write(
        [
            upsert("k1", remote_id="171591000199", firstname="Siena (updated)"),
            upsert("k2", remote_id="unknownIdentifier888", firstname="Ola"),
        ]
    )
    assert (good.status, good.remote_id) == ("accepted", "171591000199")
    assert (gone.status, gone.remote_id) == ("retry", None)
    assert "e-mail" in gone.reason


def test_an_unknown_id_alone_in_a_call_is_tried_by_email_next_time(vendor, make):
    vendor.post(UPDATE).mock(return_value=httpx.Response(404, json={"category": "OBJECT_NOT_FOUND"}))
    (gone,) = make(hubspot_write.HubSpotContacts).write([upsert("k", remote_id="1", x="1")])
    assert (gone.status, gone.remote_id) == ("retry", None)


def test_a_conflict_gives_the_id_to_use_next_time(vendor, make):
    vendor.post(UPSERT).mock(return_value=answer("batch_create_207_conflict", 207))
    conflict, good = make(hubspot_write.HubSpotContacts).write(
        [
            upsert("0", "a@example.com", firstname="A"),
            upsert("1", "siena.dyer@example.com", firstname="Siena"),
        ]
    )
    assert (conflict.status, conflict.remote_id) == ("retry", "171591000198")
    assert good.status == "accepted"


def test_a_conflict_of_an_update_is_refused(vendor, make):
    vendor.post(UPDATE).mock(return_value=answer("error_409_conflict", 409))
    (outcome,) = make(hubspot_write.HubSpotContacts).write([upsert("k", remote_id="1", x="1")])
    assert (outcome.status, outcome.remote_id) == ("refused", "1")
    assert "already exists" in outcome.reason


def test_duplicates_that_only_the_vendor_sees_cost_no_other_record(vendor, make):
    def write(request: httpx.Request) -> httpx.Response:
        inputs = json.loads(request.content)["inputs"]
        if len({one["id"].replace("old", "new") for one in inputs}) < len(inputs):
            return answer("error_400_duplicate_ids", 400)
        return results(
            *(row(one["id"], trace=one["objectWriteTraceId"], **one["properties"]) for one in inputs)
        )

    vendor.post(UPDATE).mock(side_effect=write)
    batch = [upsert(f"k{n}", remote_id=one, x="1") for n, one in enumerate(["1", "new", "2", "old"])]
    outcomes = make(hubspot_write.HubSpotContacts).write(batch)
    assert {one.status for one in outcomes} == {"accepted"}


def test_a_used_up_day_leaves_the_rest_for_the_next_try(vendor, make):
    route = vendor.post(UPSERT).mock(
        side_effect=[
            results(*(row(f"{n}", f"k{n}@example.com", x="1") for n in range(100))),
            answer("error_429_daily", 429),
        ]
    )
    outcomes = make(hubspot_write.HubSpotContacts).write([upsert(f"k{n}", x="1") for n in range(250)])
    assert [one.status for one in outcomes] == ["accepted"] * 100 + ["retry"] * 150
    assert route.call_count == 2


def test_one_failing_call_does_not_stop_the_next(vendor, make):
    vendor.post(UPSERT).mock(return_value=httpx.Response(502))
    vendor.post(UPDATE).mock(return_value=results(row("9", trace="b", x="1")))
    outcomes = make(hubspot_write.HubSpotContacts).write(
        [upsert("a", x="1"), upsert("b", remote_id="9", x="1")]
    )
    assert [one.status for one in outcomes] == ["retry", "accepted"]


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [("error_401_invalid_MADE_UP", 401, "credential"), ("error_403_missing_scopes", 403, "scope")],
)
def test_a_token_that_will_not_do_raises_when_nothing_was_written(vendor, make, name, status, kind):
    vendor.post(UPSERT).mock(return_value=answer(name, status))
    with pytest.raises(ConnectorError) as caught:
        make(hubspot_write.HubSpotContacts).write([upsert("a", x="1")])
    assert caught.value.kind == kind


def test_a_token_revoked_meanwhile_keeps_what_was_written(vendor, make):
    vendor.post(UPSERT).mock(return_value=results(row("1", "A@example.com", x="1")))
    vendor.post(UPDATE).mock(return_value=answer("error_401_invalid_MADE_UP", 401))
    outcomes = make(hubspot_write.HubSpotContacts).write(
        [upsert("a", x="1"), upsert("b", remote_id="9", x="1")]
    )
    assert [one.status for one in outcomes] == ["accepted", "retry"]


def test_reasons_hold_no_whole_address(vendor, make):
    error = {
        "category": "VALIDATION_ERROR",
        "message": "Contact with e-mail anna.nowak+x@example.com; also <jan@example.org>",
        "context": {"objectWriteTraceId": ["a"]},
    }
    vendor.post(UPSERT).mock(
        return_value=results(row("1", "b@example.com", x="other@example.com"), errors=[error])
    )
    outcomes = make(hubspot_write.HubSpotContacts).write(
        [upsert("a", "anna.nowak+x@example.com", x="1"), upsert("b", x="mine@example.com")]
    )
    reasons = " ".join(one.reason for one in outcomes)
    assert "a***@example.com" in reasons
    assert "j***@example.org" in reasons
    assert "o***@example.com" in reasons
    for whole in ("anna.nowak", "jan@", "other@", "mine@"):
        assert whole not in reasons


def test_an_error_without_any_name_is_told_to_the_missing_record():
    items = hubspot_plan.plan([upsert("a", x="1"), upsert("b", x="1")], allow_backward=False).calls[0].items
    body = {"results": [row("1", "a@example.com", x="1")], "numErrors": 1, "errors": [{"message": "odd"}]}
    outcomes = hubspot_answer.read(items, body)
    assert outcomes["a"].status == "accepted"
    assert outcomes["b"].status == "retry"
    assert "odd" in outcomes["b"].reason


def test_prepare_makes_the_group_and_our_properties_only(vendor, make):
    group = vendor.post(GROUPS).mock(return_value=httpx.Response(201, json={}))
    create = vendor.post(CREATE).mock(return_value=httpx.Response(201, json={"results": []}))
    make(hubspot_write.HubSpotContacts).prepare(
        ["lifecyclestage", "leadledger_revenue", "leadledger_orders", "leadledger_campaign"]
    )
    assert sent(group) == {"name": "leadledger", "label": "leadledger"}
    made = {one["name"]: (one["type"], one["fieldType"], one["groupName"]) for one in sent(create)["inputs"]}
    assert made == {
        "leadledger_campaign": ("string", "text", "leadledger"),
        "leadledger_orders": ("number", "number", "leadledger"),
        "leadledger_revenue": ("number", "number", "leadledger"),
    }


@pytest.mark.parametrize(
    "exists",
    [
        {"status": 409, "json": {"category": "CONFLICT"}},
        {"status": 400, "json": {"category": "VALIDATION_ERROR", "message": "Property already exists"}},
        {"status": 409, "json": {}},
    ],
)
def test_prepare_again_makes_what_is_missing(vendor, make, exists):
    there = httpx.Response(exists["status"], json=exists["json"])
    vendor.post(GROUPS).mock(return_value=there)

    def write(request: httpx.Request) -> httpx.Response:
        names = [one["name"] for one in json.loads(request.content)["inputs"]]
        return there if "leadledger_orders" in names else httpx.Response(201, json={"results": []})

    create = vendor.post(CREATE).mock(side_effect=write)
    make(hubspot_write.HubSpotContacts).prepare(["leadledger_orders", "leadledger_campaign"])
    assert [one["name"] for one in sent(create, 1)["inputs"]] == ["leadledger_campaign"]


def test_prepare_says_what_cannot_be_made(vendor, make):
    vendor.post(GROUPS).mock(return_value=httpx.Response(201, json={}))
    error = {"category": "VALIDATION_ERROR", "message": "too many properties"}
    create = vendor.post(CREATE).mock(return_value=httpx.Response(400, json=error))
    with pytest.raises(ConnectorError, match=r"leadledger_orders.*too many properties"):
        make(hubspot_write.HubSpotContacts).prepare(["leadledger_orders"])
    create.mock(return_value=results(errors=[{"category": "OBJECT_ALREADY_EXISTS"}, error]))
    with pytest.raises(ConnectorError, match="too many properties"):
        make(hubspot_write.HubSpotContacts).prepare(["leadledger_orders", "leadledger_x"])


def test_prepare_without_own_properties_calls_nothing(make):
    make(hubspot_write.HubSpotContacts).prepare(["lifecyclestage"])


def test_check_of_the_destination_writes_nothing(vendor, make):
    vendor.get(f"{HOST}/account-info/v3/details").mock(return_value=answer("account_info"))
    update = vendor.post(UPDATE).mock(return_value=httpx.Response(400, json={}))
    vendor.post(CREATE).mock(return_value=answer("error_403_missing_scopes", 403))
    findings = make(hubspot_write.HubSpotContacts).check()
    assert [finding.ok for finding in findings] == [True, True, False]
    assert sent(update) == {"inputs": []}
