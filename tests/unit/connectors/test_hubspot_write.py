"""HubSpot as a destination: partial failures, stages that do not go back, tokens that end."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
import respx

from connectors.contract import Destination, Source, Upsert
from connectors.crm import hubspot, hubspot_answer, hubspot_plan, hubspot_write
from connectors.errors import ConnectorError

DATA = Path(__file__).parents[2] / "data" / "vendors" / "hubspot" / "answers"
HOST = "https://api.hubapi.com"
READ = f"{HOST}/crm/v3/objects/contacts/batch/read"
UPSERT = f"{HOST}/crm/v3/objects/contacts/batch/upsert"
UPDATE = f"{HOST}/crm/v3/objects/contacts/batch/update"
GROUPS = f"{HOST}/crm/v3/properties/contacts/groups"
PROPERTIES = f"{HOST}/crm/v3/properties/contacts"
CREATE = f"{HOST}/crm/v3/properties/contacts/batch/create"
TOKEN = "pat-na1-secret"


def sent(route: respx.Route, call: int = -1) -> dict:
    return json.loads(route.calls[call].request.content)


def upsert(key: str, email: str = "", *, remote_id=None, accepted=None, changed=None, **fields) -> Upsert:
    return Upsert(
        key=key,
        email=email or f"{key}@example.com",
        remote_id=remote_id,
        fields=fields,
        changed=frozenset(fields if changed is None else changed),
        accepted=accepted or {},
    )


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


def test_is_a_source_and_a_destination(make_hubspot):
    assert isinstance(make_hubspot(hubspot.HubSpot), Source)
    assert isinstance(make_hubspot(hubspot_write.HubSpotContacts), Destination)
    assert hubspot.CONNECTOR.destination is hubspot_write.HubSpotContacts


def test_write_sends_exactly_what_plan_shows(vendor, make_hubspot):
    upserts = vendor.post(UPSERT).mock(return_value=results(row("1", "b@example.com", lifecyclestage="lead")))
    updates = vendor.post(UPDATE).mock(return_value=results(row("9", hs_lead_status="NEW")))
    writer = make_hubspot(hubspot_write.HubSpotContacts)
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


def test_results_are_matched_whatever_their_order(vendor, make_hubspot, answer):
    vendor.post(UPSERT).mock(return_value=answer("batch_upsert_200_MADE_UP"))
    outcomes = make_hubspot(hubspot_write.HubSpotContacts).write(
        [
            upsert("k1", "Anna.Nowak@example.com", firstname="Anna"),
            upsert("k2", "b@example.com", firstname="Bob"),
        ]
    )
    assert [(one.key, one.status, one.remote_id, one.shown) for one in outcomes] == [
        ("k1", "accepted", "33451", {"firstname": "Anna"}),
        ("k2", "accepted", "171596044870", {"firstname": "Bob"}),
    ]


def test_a_partial_failure_is_read_record_by_record(vendor, make_hubspot, answer):
    vendor.post(UPSERT).mock(return_value=answer("batch_upsert_207_MADE_UP", 207))
    bad, good, wrong, lost = make_hubspot(hubspot_write.HubSpotContacts).write(
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


def test_a_stage_of_sales_that_is_ahead_stays_and_is_no_refusal(vendor, make_hubspot):
    vendor.post(UPDATE).mock(return_value=results(row("9", trace="k", lifecyclestage="customer", x="1")))
    batch = [upsert("k", remote_id="9", lifecyclestage="salesqualifiedlead", x="1")]
    (outcome,) = make_hubspot(hubspot_write.HubSpotContacts).write(batch)
    assert outcome.status == "accepted"
    assert outcome.shown == {"lifecyclestage": "customer", "x": "1"}
    assert "lifecyclestage stays customer, which is ahead of salesqualifiedlead" in outcome.reason


def test_a_stage_that_was_not_taken_over_is_refused(vendor, make_hubspot):
    vendor.post(UPDATE).mock(return_value=results(row("9", trace="k", lifecyclestage="lead", x="1")))
    batch = [upsert("k", remote_id="9", lifecyclestage="salesqualifiedlead", x="1")]
    (outcome,) = make_hubspot(hubspot_write.HubSpotContacts).write(batch)
    assert outcome.status == "refused"
    assert "lifecyclestage shows 'lead' in place of 'salesqualifiedlead'" in outcome.reason


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
def test_the_shown_value_decides(vendor, make_hubspot, wanted, shown, status):
    vendor.post(UPDATE).mock(return_value=results(row("9", trace="k", leadledger_revenue=shown)))
    (outcome,) = make_hubspot(hubspot_write.HubSpotContacts).write(
        [upsert("k", remote_id="9", leadledger_revenue=wanted)]
    )
    assert outcome.status == status


def test_what_the_answer_does_not_show_is_read_back(vendor, make_hubspot):
    vendor.post(UPDATE).mock(
        return_value=results(row("8", trace="a"), row("9", trace="b"), row("10", trace="c"))
    )
    route = vendor.post(READ).mock(
        return_value=results(row("8", lifecyclestage="customer"), row("9", lifecyclestage="lead"))
    )
    outcomes = make_hubspot(hubspot_write.HubSpotContacts).write(
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


def test_a_lower_stage_is_left_out(vendor, make_hubspot):
    route = vendor.post(UPDATE).mock(return_value=results(row("9", trace="k", x="2")))
    held = {"lifecyclestage": "customer", "x": "1"}
    batch = [
        upsert("k", remote_id="9", lifecyclestage="lead", x="2", accepted=held),
        upsert("only", remote_id="8", lifecyclestage="lead", accepted=held),
        upsert("forward", remote_id="7", lifecyclestage="evangelist", accepted=held),
    ]
    outcomes = make_hubspot(hubspot_write.HubSpotContacts).write(batch)
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


def test_a_stage_goes_back_in_two_calls_when_allowed(vendor, make_hubspot):
    route = vendor.post(UPDATE).mock(
        side_effect=[
            results(row("9", trace="k", lifecyclestage=None)),
            results(row("9", trace="k", lifecyclestage="lead", x="2")),
        ]
    )
    writer = make_hubspot(hubspot_write.HubSpotContacts, allow_backward=True)
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


def test_a_stage_that_cannot_be_cleared_is_not_set(vendor, make_hubspot):
    route = vendor.post(UPDATE).mock(return_value=results(row("9", trace="k", lifecyclestage="customer")))
    batch = [upsert("k", remote_id="9", lifecyclestage="lead", accepted={"lifecyclestage": "customer"})]
    (outcome,) = make_hubspot(hubspot_write.HubSpotContacts, allow_backward=True).write(batch)
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


def test_no_value_is_never_sent_and_nothing_changed_needs_no_call(make_hubspot):
    writer = make_hubspot(hubspot_write.HubSpotContacts)
    assert writer.plan([upsert("k", remote_id="9", x="1", changed={"gone"})]) == []
    (outcome,) = writer.write([upsert("k", remote_id="9", x="1", changed={"gone"})])
    assert (outcome.status, outcome.remote_id) == ("accepted", "9")


def test_neither_email_nor_id_is_refused_here(make_hubspot):
    (outcome,) = make_hubspot(hubspot_write.HubSpotContacts).write([upsert("k", " ", x="1")])
    assert outcome.status == "refused"


def test_a_key_twice_is_our_own_mistake(make_hubspot):
    with pytest.raises(ValueError, match="same key"):
        make_hubspot(hubspot_write.HubSpotContacts).plan([upsert("k", x="1"), upsert("k", x="2")])


def test_a_call_refused_as_a_whole_is_halved_down_to_the_reason(vendor, make_hubspot, answer):
    def write(request: httpx.Request) -> httpx.Response:
        inputs = json.loads(request.content)["inputs"]
        if any(one["id"] == "bad@example.com" for one in inputs):
            return answer("error_400_invalid_properties", 400)
        return results(*(row(f"id-{one['id']}", one["id"], **one["properties"]) for one in inputs))

    route = vendor.post(UPSERT).mock(side_effect=write)
    batch = [upsert(f"k{n}", "bad@example.com" if n == 63 else "", x=str(n)) for n in range(100)]
    outcomes = make_hubspot(hubspot_write.HubSpotContacts).write(batch)
    assert [one.key for one in outcomes if one.status == "refused"] == ["k63"]
    assert sum(one.status == "accepted" for one in outcomes) == 99
    assert "PROPERTY_DOESNT_EXIST" in outcomes[63].reason
    assert route.call_count <= 15


def test_an_unknown_id_is_tried_by_email_next_time(vendor, make_hubspot, answer):
    vendor.post(UPDATE).mock(return_value=answer("batch_update_207_not_found", 207))
    good, gone = make_hubspot(hubspot_write.HubSpotContacts).write(
        [
            upsert("k1", remote_id="171591000199", firstname="Siena (updated)"),
            upsert("k2", remote_id="unknownIdentifier888", firstname="Ola"),
        ]
    )
    assert (good.status, good.remote_id) == ("accepted", "171591000199")
    assert (gone.status, gone.remote_id) == ("retry", None)
    assert "e-mail" in gone.reason


def test_an_unknown_id_alone_in_a_call_is_tried_by_email_next_time(vendor, make_hubspot):
    vendor.post(UPDATE).mock(return_value=httpx.Response(404, json={"category": "OBJECT_NOT_FOUND"}))
    (gone,) = make_hubspot(hubspot_write.HubSpotContacts).write([upsert("k", remote_id="1", x="1")])
    assert (gone.status, gone.remote_id) == ("retry", None)


def test_a_conflict_gives_the_id_to_use_next_time(vendor, make_hubspot, answer):
    vendor.post(UPSERT).mock(return_value=answer("batch_create_207_conflict", 207))
    conflict, good = make_hubspot(hubspot_write.HubSpotContacts).write(
        [
            upsert("0", "a@example.com", firstname="A"),
            upsert("1", "siena.dyer@example.com", firstname="Siena"),
        ]
    )
    assert (conflict.status, conflict.remote_id) == ("retry", "171591000198")
    assert good.status == "accepted"


def test_a_conflict_of_an_update_is_refused(vendor, make_hubspot, answer):
    vendor.post(UPDATE).mock(return_value=answer("error_409_conflict", 409))
    (outcome,) = make_hubspot(hubspot_write.HubSpotContacts).write([upsert("k", remote_id="1", x="1")])
    assert (outcome.status, outcome.remote_id) == ("refused", "1")
    assert "already exists" in outcome.reason


def test_duplicates_that_only_the_vendor_sees_cost_no_other_record(vendor, make_hubspot, answer):
    def write(request: httpx.Request) -> httpx.Response:
        inputs = json.loads(request.content)["inputs"]
        if len({one["id"].replace("old", "new") for one in inputs}) < len(inputs):
            return answer("error_400_duplicate_ids", 400)
        return results(
            *(row(one["id"], trace=one["objectWriteTraceId"], **one["properties"]) for one in inputs)
        )

    vendor.post(UPDATE).mock(side_effect=write)
    batch = [upsert(f"k{n}", remote_id=one, x="1") for n, one in enumerate(["1", "new", "2", "old"])]
    outcomes = make_hubspot(hubspot_write.HubSpotContacts).write(batch)
    assert {one.status for one in outcomes} == {"accepted"}


def test_a_used_up_day_leaves_the_rest_for_the_next_try(vendor, make_hubspot, answer):
    route = vendor.post(UPSERT).mock(
        side_effect=[
            results(*(row(f"{n}", f"k{n}@example.com", x="1") for n in range(100))),
            answer("error_429_daily", 429),
        ]
    )
    outcomes = make_hubspot(hubspot_write.HubSpotContacts).write([upsert(f"k{n}", x="1") for n in range(250)])
    assert [one.status for one in outcomes] == ["accepted"] * 100 + ["retry"] * 150
    assert route.call_count == 2


def test_one_failing_call_does_not_stop_the_next(vendor, make_hubspot):
    vendor.post(UPSERT).mock(return_value=httpx.Response(502))
    vendor.post(UPDATE).mock(return_value=results(row("9", trace="b", x="1")))
    outcomes = make_hubspot(hubspot_write.HubSpotContacts).write(
        [upsert("a", x="1"), upsert("b", remote_id="9", x="1")]
    )
    assert [one.status for one in outcomes] == ["retry", "accepted"]


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [("error_401_invalid_MADE_UP", 401, "credential"), ("error_403_missing_scopes", 403, "scope")],
)
def test_a_token_that_will_not_do_raises_when_nothing_was_written(
    vendor, make_hubspot, name, status, kind, answer
):
    vendor.post(UPSERT).mock(return_value=answer(name, status))
    with pytest.raises(ConnectorError) as caught:
        make_hubspot(hubspot_write.HubSpotContacts).write([upsert("a", x="1")])
    assert caught.value.kind == kind


def test_a_token_revoked_meanwhile_keeps_what_was_written(vendor, make_hubspot, answer):
    vendor.post(UPSERT).mock(return_value=results(row("1", "A@example.com", x="1")))
    vendor.post(UPDATE).mock(return_value=answer("error_401_invalid_MADE_UP", 401))
    outcomes = make_hubspot(hubspot_write.HubSpotContacts).write(
        [upsert("a", x="1"), upsert("b", remote_id="9", x="1")]
    )
    assert [one.status for one in outcomes] == ["accepted", "retry"]


def test_reasons_hold_no_whole_address(vendor, make_hubspot):
    error = {
        "category": "VALIDATION_ERROR",
        "message": "Contact with e-mail anna.nowak+x@example.com; also <jan@example.org>",
        "context": {"objectWriteTraceId": ["a"]},
    }
    vendor.post(UPSERT).mock(
        return_value=results(row("1", "b@example.com", x="other@example.com"), errors=[error])
    )
    outcomes = make_hubspot(hubspot_write.HubSpotContacts).write(
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


def there(vendor, *, groups=(), properties=()):
    vendor.get(GROUPS).mock(return_value=results(*({"name": name} for name in groups)))
    vendor.get(PROPERTIES).mock(return_value=results(*({"name": name} for name in properties)))


def test_prepare_makes_the_group_and_our_properties_only(vendor, make_hubspot):
    there(vendor, groups=["contactinformation"], properties=["lifecyclestage"])
    group = vendor.post(GROUPS).mock(return_value=httpx.Response(201, json={}))
    create = vendor.post(CREATE).mock(return_value=httpx.Response(201, json={"results": []}))
    destination = make_hubspot(hubspot_write.HubSpotContacts)
    fields = ["lifecyclestage", "leadledger_revenue", "leadledger_orders", "leadledger_campaign"]
    planned = destination.preparation(fields)
    assert not group.called
    assert not create.called
    destination.prepare(fields)
    assert [call.body for call in planned] == [sent(group), sent(create)]
    assert sent(group) == {"name": "leadledger", "label": "leadledger"}
    made = {one["name"]: (one["type"], one["fieldType"], one["groupName"]) for one in sent(create)["inputs"]}
    assert made == {
        "leadledger_campaign": ("string", "text", "leadledger"),
        "leadledger_orders": ("number", "number", "leadledger"),
        "leadledger_revenue": ("number", "number", "leadledger"),
    }


def test_prepare_makes_what_is_missing_only(vendor, make_hubspot):
    there(vendor, groups=["leadledger"], properties=["leadledger_orders"])
    create = vendor.post(CREATE).mock(return_value=httpx.Response(201, json={"results": []}))
    make_hubspot(hubspot_write.HubSpotContacts).prepare(["leadledger_orders", "leadledger_campaign"])
    assert [one["name"] for one in sent(create)["inputs"]] == ["leadledger_campaign"]
    there(vendor, properties=["leadledger_orders", "leadledger_campaign"])
    assert make_hubspot(hubspot_write.HubSpotContacts).preparation(["leadledger_orders"]) == []


@pytest.mark.parametrize(
    "exists",
    [
        {"status": 409, "json": {"category": "CONFLICT"}},
        {"status": 400, "json": {"category": "VALIDATION_ERROR", "message": "Property already exists"}},
        {"status": 409, "json": {}},
    ],
)
def test_what_another_process_made_meanwhile_will_do(vendor, make_hubspot, exists):
    there(vendor)
    already = httpx.Response(exists["status"], json=exists["json"])
    vendor.post(GROUPS).mock(return_value=already)

    def write(request: httpx.Request) -> httpx.Response:
        names = [one["name"] for one in json.loads(request.content)["inputs"]]
        return already if "leadledger_orders" in names else httpx.Response(201, json={"results": []})

    create = vendor.post(CREATE).mock(side_effect=write)
    make_hubspot(hubspot_write.HubSpotContacts).prepare(["leadledger_orders", "leadledger_campaign"])
    assert [one["name"] for one in sent(create, 1)["inputs"]] == ["leadledger_campaign"]


def test_prepare_says_what_cannot_be_made(vendor, make_hubspot):
    there(vendor)
    vendor.post(GROUPS).mock(return_value=httpx.Response(201, json={}))
    error = {"category": "VALIDATION_ERROR", "message": "too many properties"}
    create = vendor.post(CREATE).mock(return_value=httpx.Response(400, json=error))
    with pytest.raises(ConnectorError, match=r"leadledger_orders.*too many properties"):
        make_hubspot(hubspot_write.HubSpotContacts).prepare(["leadledger_orders"])
    create.mock(return_value=results(errors=[{"category": "OBJECT_ALREADY_EXISTS"}, error]))
    with pytest.raises(ConnectorError, match="too many properties"):
        make_hubspot(hubspot_write.HubSpotContacts).prepare(["leadledger_orders", "leadledger_x"])


def test_prepare_without_own_properties_calls_nothing(make_hubspot):
    make_hubspot(hubspot_write.HubSpotContacts).prepare(["lifecyclestage"])


def test_check_of_the_destination_writes_nothing(vendor, make_hubspot, answer):
    vendor.get(f"{HOST}/account-info/v3/details").mock(return_value=answer("account_info"))
    update = vendor.post(UPDATE).mock(return_value=httpx.Response(400, json={}))
    vendor.post(CREATE).mock(return_value=answer("error_403_missing_scopes", 403))
    findings = make_hubspot(hubspot_write.HubSpotContacts).check()
    assert [finding.ok for finding in findings] == [True, True, False]
    assert sent(update) == {"inputs": []}
