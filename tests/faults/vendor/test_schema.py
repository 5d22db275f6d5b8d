"""A vendor that changed the shape of its records: new, missing and retyped fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.faults.vendor import hostile as bad
from tests.faults.vendor.checks import bad_sync, ends_as_undisturbed, run_of
from tests.faults.vendor.hostile import Hostile
from tests.integration.flow.conftest import SINCE, World

LISTS = {
    ("meta", "leads"): (r"/leads$", "data"),
    ("meta", "spend"): (r"/insights$", "data"),
    ("newsletter", "contacts"): (r"/members$", "members"),
    ("newsletter", "touches"): (r"/email-activity$", "emails"),
    ("shop", "orders"): (r"/wc/v3/orders$", None),
    ("shop", "refunds"): (r"/wc/v3/refunds$", None),
    ("crm", "contacts"): (r"/contacts/search$", "results"),
    ("crm", "stage_changes"): (r"/contacts/batch/read$", "results"),
    ("crm", "owners"): (r"/crm/v3/owners$", "results"),
}
Change = Callable[[dict[str, Any]], Any]


def items(body: Any, key: str | None) -> list[dict[str, Any]]:
    return body if key is None else body[key]


def spoil_all(vendors: Hostile, change: Change) -> None:
    """Change every record of every list."""
    for path, key in LISTS.values():

        def each(body: Any, key: str | None = key) -> None:
            for item in items(body, key):
                change(item)

        vendors.spoil(path, bad.changed(each))


def spoil_one(vendors: Hostile, connector: str, stream: str, change: Change) -> list[str]:
    """Change one record of a stream wherever it is shown; its key appears in the list that is returned."""
    path, key = LISTS[connector, stream]
    chosen: list[str] = []

    def one(body: Any) -> None:
        for item in items(body, key):
            name = name_of(item)
            if not chosen and item.get("activity", True):
                chosen.append(name)
            if chosen == [name]:
                change(item)

    vendors.spoil(path, bad.changed(one))
    return chosen


def name_of(item: dict[str, Any]) -> str:
    """What a record is known by: the first of its ids that it has."""
    ids = (("contact_id",), ("id",), ("campaign_id", "email_id"), ("date_start", "ad_id"))
    names = next(names for names in ids if names[-1] in item)
    return " ".join(str(item[name]) for name in names)


def test_new_fields_are_kept_in_the_evidence_and_change_nothing_else(
    fresh: World, vendors: Hostile, synced_once: World
) -> None:
    new = {"quite_new": {"levels": [1, 2, {"deep": "zażółć"}]}, "": None}
    spoil_all(vendors, lambda item: item.update(new))
    summary = fresh.sync(pushes=False)
    assert {(run.status, tuple(run.problems)) for run in summary.runs} == {("done", ())}
    for connector, stream in LISTS:
        bodies = fresh.rows(
            "SELECT body FROM evidence WHERE connector = :c AND stream = :s", c=connector, s=stream
        )
        assert bodies, (connector, stream)
        assert all(json.loads(bytes(row.body))["quite_new"] == new["quite_new"] for row in bodies)
    head = fresh.head()
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once, besides=("heads",))
    assert fresh.head() == head, "nothing is booked again because a field came and went"


def without(name: str) -> Change:
    return lambda item: item.pop(name)


def as_(name: str, value: Any) -> Change:
    return lambda item: item.update({name: value})


def property_as(name: str, value: Any) -> Change:
    return lambda item: item["properties"].update({name: value})


MISSING: dict[tuple[str, str], tuple[Change, str]] = {
    ("meta", "leads"): (without("created_time"), "occurred_at"),
    ("meta", "spend"): (without("account_currency"), "currency"),
    ("newsletter", "touches"): (without("activity"), "'activity'"),
    ("shop", "orders"): (without("total"), "total_minor"),
    ("shop", "refunds"): (without("amount"), "refund.amount"),
    ("crm", "stage_changes"): (without("propertiesWithHistory"), "'propertiesWithHistory'"),
}
RETYPED: dict[tuple[str, str], tuple[Change, str]] = {
    ("meta", "leads"): (as_("created_time", {"seconds": 1}), "occurred_at"),
    ("meta", "spend"): (as_("spend", {"amount": "1.00"}), "amount_minor"),
    ("newsletter", "contacts"): (as_("last_changed", 1_750_000_000), "modified_at"),
    ("newsletter", "touches"): (as_("activity", {"open": 1}), "activity"),
    ("shop", "orders"): (as_("total", {"amount": "1.00"}), "total_minor"),
    ("shop", "refunds"): (as_("date_created_gmt", [2025, 1, 1]), "occurred_at"),
    ("crm", "contacts"): (property_as("createdate", ["2025"]), "created_at"),
    ("crm", "stage_changes"): (
        lambda item: item["propertiesWithHistory"].update({"lifecyclestage": {"value": "lead"}}),
        "propertiesWithHistory.lifecyclestage",
    ),
    ("crm", "owners"): (as_("archived", "perhaps"), "active"),
}


def set_aside(world: World) -> dict[tuple[str, str], Any]:
    rows = world.rows("SELECT connector, stream, external_id, field, reason FROM quarantine ORDER BY id")
    return {(row.connector, row.stream): row for row in rows}


def mended(world: World, vendors: Hostile, undisturbed: World, broken: Any) -> None:
    """Once the vendor shows its records as before, a backfill brings what was set aside."""
    vendors.heal()
    for connector in sorted({connector for connector, _ in broken}):
        assert world.run("backfill", connector, "--from", SINCE, "--to", "2025-06-02").code == 0
    assert set_aside(world) == {}
    ends_as_undisturbed(world, undisturbed)


def sets_them_aside(world: World, vendors: Hostile, cases: dict[tuple[str, str], tuple[Change, str]]) -> None:
    chosen = {place: spoil_one(vendors, *place, change) for place, (change, _) in cases.items()}
    summary = world.sync(pushes=False)
    found = set_aside(world)
    assert {place: cases[place][1] for place, row in found.items() if cases[place][1] in row.reason} == {
        place: named for place, (_, named) in cases.items()
    }
    for (connector, stream), row in found.items():
        counts = run_of(summary, connector).counts[stream]
        assert run_of(summary, connector).status == "partial"
        assert counts["quarantined"] == 1
        assert counts["new"] > 1, "the rest lands"
        assert all(part in row.external_id for part in chosen[connector, stream][0].split())


def test_a_field_that_is_missing_sets_its_record_aside_by_name_and_the_rest_lands(
    fresh: World, vendors: Hostile, synced_once: World
) -> None:
    sets_them_aside(fresh, vendors, MISSING)
    mended(fresh, vendors, synced_once, MISSING)


def test_a_field_of_another_type_sets_its_record_aside_by_name_and_the_rest_lands(
    fresh: World, vendors: Hostile, synced_once: World
) -> None:
    sets_them_aside(fresh, vendors, RETYPED)
    mended(fresh, vendors, synced_once, RETYPED)


def test_a_contact_without_an_id_is_set_aside_and_the_others_are_read(
    fresh: World, vendors: Hostile, synced_once: World
) -> None:
    spoil_one(vendors, "crm", "contacts", lambda item: item.update({"id": None, "properties": []}))
    [run] = [run for run in fresh.sync(pushes=False).runs if run.connector == "crm"]
    assert (run.status, run.errors) == ("partial", [])
    row = set_aside(fresh)["crm", "contacts"]
    assert row.external_id.startswith("sha256:")
    assert "id" in row.reason
    assert run.counts["contacts"]["quarantined"] == 1
    assert run.counts["contacts"]["new"] == fresh.state.select("hubspot", "contact", limit=0)[1]


def test_a_report_of_another_shape_is_named_and_its_activity_is_read_once_it_is_mended(
    fresh: World, vendors: Hostile, synced_once: World
) -> None:
    """A report decides whether a campaign's activity is asked for: by one that cannot be read it would be missed."""

    def retyped(body: dict[str, Any]) -> None:
        body["reports"][0]["opens"] = [body["reports"][0]["opens"]]

    vendors.spoil(r"/reports$", bad.changed(retyped))
    [(what, todo)] = bad_sync(fresh, "newsletter", "touches").errors
    assert "/reports answered 1 reports of another shape" in what
    assert "$.opens" in what
    assert "update leadledger" in todo
    assert fresh.value("SELECT count(*) FROM touches WHERE connector = 'newsletter'") > 0
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


def test_an_audience_without_an_id_is_not_passed_over(
    fresh: World, vendors: Hostile, synced_once: World
) -> None:
    vendors.spoil(r"/3.0/lists$", bad.instead(200, {"lists": [{"name": "All"}], "total_items": 1}))
    [(what, _)] = bad_sync(fresh, "newsletter", "contacts").errors
    assert "/lists answered an audience without an id" in what
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)
