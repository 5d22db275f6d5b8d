"""A vendor that refuses: keys and rights that are gone, limits in many dresses, errors that pass or stay."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.faults.vendor import hostile as bad
from tests.faults.vendor.checks import bad_sync, cursor, ends_as_undisturbed, run_of, small_pages
from tests.faults.vendor.hostile import Hostile, Spoil
from tests.integration.flow.conftest import World

OWNERS_SCOPE = {
    "status": "error",
    "category": "MISSING_SCOPES",
    "message": "This app hasn't been granted all required scopes.",
    "context": {"requiredGranularScopes": ["crm.objects.owners.read"]},
}


def meta_error(code: int, subcode: int | None = None, **more: Any) -> dict[str, Any]:
    error = {"message": "said Meta", "type": "OAuthException", "code": code, "fbtrace_id": "AbC"} | more
    return {"error": error | ({"error_subcode": subcode} if subcode else {})}


@pytest.mark.parametrize(
    ("connector", "path", "after", "refusal", "streams", "todo"),
    [
        (
            "meta",
            r"/meta/.*(leads|campaigns|insights)$",
            3,
            bad.instead(400, meta_error(190, 463)),
            ["campaigns", "leads", "spend"],
            "make a new access token (it has expired)",
        ),
        (
            "newsletter",
            r"/mailchimp/.*(members|campaigns|reports|email-activity)$",
            3,
            bad.instead(401, {"title": "API Key Invalid", "status": 401}),
            ["campaigns", "contacts", "touches"],
            "Make a new API key in the account",
        ),
        (
            "crm",
            r"/crm/v3/",
            3,
            bad.instead(401, {"status": "error", "category": "EXPIRED_AUTHENTICATION"}),
            ["contacts", "owners", "stage_changes"],
            "Make a new token in HubSpot",
        ),
        (
            "shop",
            r"/wc/v3/",
            8,
            bad.instead(401, {"code": "woocommerce_rest_authentication_error", "data": {"status": 401}}),
            ["contacts", "orders", "products", "refunds"],
            "Make a new key in WooCommerce",
        ),
    ],
    ids=["meta", "newsletter", "crm", "shop"],
)
def test_a_key_that_is_revoked_amid_a_run_ends_it_at_once_and_a_new_one_goes_on(
    fresh: World,
    vendors: Hostile,
    synced_once: World,
    connector: str,
    path: str,
    after: int,
    refusal: Spoil,
    streams: list[str],
    todo: str,
) -> None:
    small_pages(fresh, connector)
    revoked = vendors.spoil(path, refusal, after=after)
    run = run_of(fresh.sync(pushes=False), connector)
    failed = [what.partition(":")[0] for what, _ in run.errors]
    assert run.status == "failed"
    assert set(failed) <= set(streams)
    assert revoked.used == len(failed), "a wrong key is not tried again"
    assert all(todo in hint for _, hint in run.errors)
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


@pytest.mark.parametrize(
    ("connector", "path", "refusal", "stream", "todo"),
    [
        ("crm", r"/crm/v3/owners$", bad.instead(403, OWNERS_SCOPE), "owners", "crm.objects.owners.read"),
        ("meta", r"/leads$", bad.instead(403, meta_error(200)), "leads", "this permission and its task"),
        (
            "newsletter",
            r"/members$",
            bad.instead(403, {"title": "Forbidden", "status": 403}),
            "contacts",
            "use an admin's key",
        ),
        (
            "shop",
            r"/customers$",
            bad.instead(401, {"code": "woocommerce_rest_cannot_view", "data": {"status": 401}}),
            "contacts",
            "The key's user may not read this",
        ),
        (
            "shop",
            r"/wc/v3/refunds$",
            bad.instead(403, {"code": "no", "data": {}}),
            "refunds",
            "lacks a right",
        ),
    ],
    ids=["crm", "meta", "newsletter", "shop-401", "shop-403"],
)
def test_a_right_that_lacks_stops_its_stream_alone_and_is_named(
    fresh: World,
    vendors: Hostile,
    synced_once: World,
    connector: str,
    path: str,
    refusal: Spoil,
    stream: str,
    todo: str,
) -> None:
    refused = vendors.spoil(path, refusal)
    [(what, hint)] = bad_sync(fresh, connector, stream).errors
    assert refused.used == 1, "it is not tried again"
    assert re.search(r"\b(401|403|error 200)\b", what)
    assert todo in hint
    assert cursor(fresh, connector, stream) is None
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


SLOW_DOWN = {
    "meta": r"/meta/.*/leads$",
    "newsletter": r"/members$",
    "shop": r"/wc/v3/products$",
    "crm": r"/crm/v3/owners$",
}
FAILING = {"meta": "leads", "newsletter": "contacts", "shop": "products", "crm": "owners"}


def test_a_429_is_waited_for_as_long_as_the_vendor_asks(
    fresh: World, vendors: Hostile, synced_once: World, waits: list[float]
) -> None:
    for seconds, path in enumerate(SLOW_DOWN.values(), start=71):
        vendors.spoil(path, bad.instead(429, {}, Retry_After=str(seconds)), times=2)
    ends_as_undisturbed(fresh, synced_once)
    assert len(vendors.spoiled) == 8
    assert {seconds: waits.count(seconds) for seconds in (71.0, 72.0, 73.0, 74.0)} == {
        71.0: 2,
        72.0: 2,
        73.0: 2,
        74.0: 2,
    }


NO_TIME = (None, "soon", "Mon, 99999999999999999999 Jan 2020 00:00:00 GMT", "-5")


def test_a_429_that_names_no_time_is_asked_again(fresh: World, vendors: Hostile, synced_once: World) -> None:
    for path, said in zip(SLOW_DOWN.values(), NO_TIME, strict=True):
        headers = {"Retry_After": said} if said else {}
        vendors.spoil(path, bad.instead(429, {}, **headers), times=3)
    ends_as_undisturbed(fresh, synced_once)
    assert len(vendors.spoiled) == 12


def test_a_429_that_asks_for_hours_is_left_to_the_next_run(
    fresh: World, vendors: Hostile, synced_once: World, waits: list[float]
) -> None:
    slow = vendors.spoil(r"/crm/v3/owners$", bad.instead(429, {}, Retry_After="7200"))
    [(what, todo)] = bad_sync(fresh, "crm", "owners").errors
    assert slow.used == 1
    assert "429" in what
    assert todo == "The next run goes on."
    assert max(waits, default=0) < 300
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


def test_a_429_that_stays_fails_its_stream_and_says_that_the_next_run_goes_on(
    fresh: World, vendors: Hostile, synced_once: World
) -> None:
    slow = vendors.spoil(r"/members$", bad.instead(429, {"title": "Too Many Requests", "status": 429}))
    [(what, todo)] = bad_sync(fresh, "newsletter", "contacts").errors
    assert slow.used == 6
    assert "asks to wait (429, " in what
    assert todo == "The next run goes on."
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


LIMITS = {
    "campaigns": [meta_error(4), meta_error(17, 2446079), meta_error(32), meta_error(613, 1487742)],
    "leads": [meta_error(80000), meta_error(80004, 2446079), meta_error(80014), meta_error(100, 1504022)],
}


def test_a_limit_hidden_in_a_400_is_waited_for(
    fresh: World, vendors: Hostile, synced_once: World, waits: list[float]
) -> None:
    regain = '{"1000000000001": [{"type": "ads_insights", "estimated_time_to_regain_access": 3}]}'
    for error in LIMITS["campaigns"]:
        vendors.spoil(r"/v25.0/.*/campaigns$", bad.instead(400, error), times=1)
    for error in LIMITS["leads"]:
        said = bad.instead(400, error, X_Business_Use_Case_Usage=regain)
        vendors.spoil(r"/leads$", said, times=1)
    vendors.spoil(r"/insights$", bad.instead(429, meta_error(999_999), Retry_After="77"), times=1)
    ends_as_undisturbed(fresh, synced_once)
    assert len(vendors.spoiled) == 9
    assert waits.count(77.0) == 1, "a code that nobody knows"
    assert waits.count(60.0) == 4, "a minute, where Meta says nothing"
    assert waits.count(180.0) == 4, "as long as Meta says"


def test_a_limit_hidden_in_a_400_that_stays_leaves_the_other_streams_and_connectors(
    fresh: World, vendors: Hostile, synced_once: World
) -> None:
    small_pages(fresh, "meta")
    vendors.spoil(r"/insights$", bad.instead(400, meta_error(80004, 2446079)), after=4)
    [(what, todo)] = bad_sync(fresh, "meta", "spend").errors
    assert "error 80004/2446079" in what
    assert todo == "The next run goes on."
    assert cursor(fresh, "meta", "spend") is None
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


def test_errors_of_the_vendors_servers_that_pass_are_not_seen(
    fresh: World, vendors: Hostile, synced_once: World
) -> None:
    for status, path in zip((500, 502, 503, 504), SLOW_DOWN.values(), strict=True):
        vendors.spoil(path, bad.instead(status, b"<html>oops</html>"), times=3)
    ends_as_undisturbed(fresh, synced_once)
    assert len(vendors.spoiled) == 12


def test_errors_of_the_vendors_servers_that_stay_fail_their_streams_alone(
    fresh: World, vendors: Hostile, synced_once: World
) -> None:
    for path in SLOW_DOWN.values():
        vendors.spoil(path, bad.instead(500, b"<html>oops</html>"))
    runs = {run.connector: run for run in fresh.sync(pushes=False).runs}
    assert runs.pop("web").status == "done"
    for connector, stream in FAILING.items():
        [(what, todo)] = runs[connector].errors
        assert what.startswith(f"{stream}: ")
        assert "500" in what
        assert todo == "The next run tries again."
        assert cursor(fresh, connector, stream) is None
        assert sum(counts.get("new", 0) for counts in runs[connector].counts.values()) > 0
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)
