"""An answer with status 200 that is not what was asked for."""

from __future__ import annotations

import pytest

from tests.faults.vendor import hostile as bad
from tests.faults.vendor.checks import bad_sync, cursor, ends_as_undisturbed, small_pages
from tests.faults.vendor.hostile import Hostile
from tests.integration.flow.conftest import World

HTML = b"<!doctype html><html><body>Please log in</body></html>"


def test_json_that_breaks_off_fails_its_stream_and_the_next_sync_brings_it(
    fresh: World, vendors: Hostile, synced_once: World
) -> None:
    small_pages(fresh, "meta")
    vendors.spoil(r"/leads$", bad.raw(lambda body: body[:-20]), after=1)
    [(what, todo)] = bad_sync(fresh, "meta", "leads").errors
    assert "/leads answered no valid JSON in place of JSON" in what
    assert "Open the address in a browser" in todo
    assert fresh.value("SELECT count(*) FROM leads WHERE connector = 'meta'") == 10, (
        "the page before it stays"
    )
    assert cursor(fresh, "meta", "leads") is None
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


def test_json_nested_without_end_fails_its_stream_and_not_the_process(
    fresh: World, vendors: Hostile, synced_once: World
) -> None:
    vendors.spoil(r"/crm/v3/owners$", bad.instead(200, b'{"results":' + b"[" * 1_000_000))
    [(what, _)] = bad_sync(fresh, "crm", "owners").errors
    assert "/crm/v3/owners answered JSON that is nested too deep" in what
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


def test_html_in_place_of_json_amid_the_pages_fails_its_stream_alone(
    fresh: World, vendors: Hostile, synced_once: World
) -> None:
    small_pages(fresh, "crm")
    vendors.spoil(r"/contacts/search$", bad.instead(200, HTML, Content_Type="text/html"), after=2)
    for what, todo in bad_sync(fresh, "crm", "contacts", "stage_changes").errors:
        assert "/contacts/search answered HTML in place of JSON" in what
        assert "a login page" in todo
        assert "Please log in" not in what
    assert cursor(fresh, "crm", "contacts") is None
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


def test_html_from_a_shop_that_stays_fails_its_stream_with_a_word_on_plug_ins(
    fresh: World, vendors: Hostile, synced_once: World
) -> None:
    small_pages(fresh, "shop")
    spoilt = vendors.spoil(r"/wc/v3/orders$", bad.instead(200, HTML), after=4, status="any")
    [(what, todo)] = bad_sync(fresh, "shop", "orders").errors
    assert spoilt.used == 5, "it may pass, so it is asked again"
    assert "/orders answered something else before or in place of JSON" in what
    assert "plug-ins" in todo
    held = fresh.value("SELECT max(modified_at) FROM orders WHERE status <> 'trash'")
    assert cursor(fresh, "shop", "orders") == held, "as far as a sorted list was read"
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


@pytest.mark.parametrize(
    ("connector", "path", "streams", "body"),
    [
        ("shop", r"/wc/v3/refunds$", ["refunds"], {"code": "internal_server_error", "message": "x"}),
        ("newsletter", r"/members$", ["contacts"], {"status": 500, "title": "Internal Server Error"}),
        ("crm", r"/crm/v3/owners$", ["owners"], {"status": "error", "message": "internal error"}),
    ],
)
def test_an_error_under_status_200_is_no_empty_answer(
    fresh: World,
    vendors: Hostile,
    synced_once: World,
    connector: str,
    path: str,
    streams: list[str],
    body: dict[str, object],
) -> None:
    vendors.spoil(path, bad.instead(200, body))
    [(what, todo)] = bad_sync(fresh, connector, *streams).errors
    assert "answered" in what
    assert "The next run asks again." in todo
    assert cursor(fresh, connector, streams[0]) is None
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


def test_metas_error_under_status_200_is_read_as_its_code_says(
    fresh: World, vendors: Hostile, synced_once: World, waits: list[float]
) -> None:
    error = {"message": "User request limit reached", "type": "OAuthException", "code": 17}
    vendors.spoil(r"/v25.0/.*/campaigns$", bad.instead(200, {"error": error}), times=2)
    vendors.spoil(r"/insights$", bad.instead(200, {"error": error | {"code": 190, "error_subcode": 463}}))
    [(what, todo)] = bad_sync(fresh, "meta", "spend").errors
    assert "error 190/463" in what
    assert "it has expired" in todo
    assert waits.count(60.0) >= 2, "a limit is waited for"
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)
