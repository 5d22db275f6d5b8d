"""Pages that repeat, rows that move between two calls, tokens and links that lead nowhere or elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.sandbox import accounts
from connectors.sandbox import marketing_documents as marketing
from tests.faults.vendor import hostile as bad
from tests.faults.vendor.checks import (
    bad_sync,
    cursor,
    ends_as_undisturbed,
    set_option,
    small_pages,
)
from tests.faults.vendor.hostile import Exchange, Hostile, Spoil
from tests.integration.flow.conftest import World


@pytest.mark.parametrize(
    ("connector", "path", "query"),
    [
        ("meta", r"/leads$", {}),
        ("newsletter", r"/members$", {}),
        ("newsletter", r"/email-activity$", {}),
        ("newsletter", r"/3.0/campaigns$", {}),
        ("shop", r"/wc/v3/orders$", {"status": "any"}),
        ("shop", r"/wc/v3/products$", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_page_that_repeats_once_costs_nothing(
    fresh: World, vendors: Hostile, synced_once: World, connector: str, path: str, query: dict[str, str]
) -> None:
    small_pages(fresh, connector)
    vendors.spoil(path, bad.again, times=1, after=1, **query)
    fresh.sync(pushes=False)
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


@pytest.mark.parametrize(
    ("connector", "path", "streams", "said"),
    [
        ("meta", r"/leads$", ["leads"], "names the same page as the next one again"),
        ("crm", r"/contacts/search$", ["contacts", "stage_changes"], "not sorted by hs_object_id"),
        ("crm", r"/crm/v3/owners$", ["owners"], "names the same page as the next one again"),
        ("shop", r"/wc/v3/refunds$", ["refunds"], "shows the page before it again"),
        ("shop", r"/customers$", ["contacts"], "shows the page before it again"),
    ],
    ids=["leads", "search", "owners", "refunds", "customers"],
)
def test_a_list_that_gives_the_same_page_again_and_again_fails_its_stream(
    fresh: World,
    vendors: Hostile,
    synced_once: World,
    connector: str,
    path: str,
    streams: list[str],
    said: str,
) -> None:
    small_pages(fresh, connector)
    if "owners" in path:
        vendors.spoil(path, bad.instead(200, {"results": [], "paging": {"next": {"after": "the-same"}}}))
    vendors.spoil(path, bad.again, after=2 if "refunds" in path else 1)
    for what, _ in bad_sync(fresh, connector, *streams).errors:
        assert said in what
    assert cursor(fresh, connector, streams[0]) is None
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


def next_page(body: dict[str, Any]) -> None:
    body["paging"] = {"next": {"after": "the-same"}}


def test_a_long_list_of_members_with_a_page_that_repeats_is_read_whole(
    fresh: World, vendors: Hostile
) -> None:
    """Pages longer than the rows that are read again at each step, so that a step too far would lose some."""
    set_option(fresh, "newsletter", "page_size: 30")
    signed_up = datetime(2025, 2, 1, tzinfo=UTC)
    members = [
        marketing.member(f"m{n}@example.com", signed_up + timedelta(hours=n), number=n) for n in range(100)
    ]
    fresh.state.put("mailchimp", "member", members)
    vendors.spoil(r"/members$", bad.again, times=1, after=1)
    [run] = fresh.sync("newsletter", pushes=False).runs
    assert (run.status, run.problems) == ("done", [])
    _, held = fresh.state.select("mailchimp", "member", limit=0)
    assert fresh.value("SELECT count(*) FROM contacts WHERE connector = 'newsletter'") == held


def test_a_page_that_repeats_within_a_second_of_an_import_fails_its_stream(
    fresh: World, vendors: Hostile
) -> None:
    """Rows that were all changed in one second are paged by number: to go on after a repeated page loses some."""
    small_pages(fresh, "shop")
    [like], _ = fresh.state.select("woocommerce", "product", limit=1)
    second = datetime(2025, 1, 15, 10, tzinfo=UTC)
    changed = {"date_modified_gmt": f"{second:%Y-%m-%dT%H:%M:%S}"}
    imported = [
        replace(
            like,
            id=str(n),
            body=like.body | changed | {"id": n, "sku": f"S{n}"},
            changed=second.timestamp(),
            number=n,
        )
        for n in range(900_000, 900_012)
    ]
    fresh.state.put("woocommerce", "product", imported)
    repeated = vendors.spoil(r"/wc/v3/products$", bad.again, after=1, orderby="id")
    [run] = fresh.sync("shop", pushes=False).runs
    assert repeated.used == 1
    [(what, _)] = run.errors
    assert what.startswith("products: page 2 of ")
    assert "shows the page before it again" in what
    vendors.heal()
    assert [run.status for run in fresh.sync("shop", pushes=False).runs] == ["done"]
    _, held = fresh.state.select("woocommerce", "product", limit=0)
    assert fresh.value("SELECT count(*) FROM products") == held


def touched(world: World, vendor: str, kind: str, **fields: str) -> Callable[[], None]:
    """Let the oldest record change after all others; `fields` name its times and how they are written."""

    def happens() -> None:
        [first], _ = world.state.select(vendor, kind, order="changed", limit=1)
        [last], _ = world.state.select(vendor, kind, order="changed", descending=True, limit=1)
        moment = datetime.fromtimestamp(int(last.changed) + 60, UTC)
        times = {name: moment.strftime(form) for name, form in fields.items()}
        moved = replace(first, body=first.body | times, changed=moment.timestamp())
        world.state.put(vendor, kind, [moved])

    return happens


def a_refund_less(world: World) -> None:
    [oldest], _ = world.state.select("woocommerce", "refund", limit=1)
    world.state.delete("woocommerce", "refund", oldest.id)


def a_lead_more(world: World) -> None:
    [newest], _ = world.state.select("meta", "lead", order="at", descending=True, limit=1)
    at = datetime.fromtimestamp(newest.at, UTC) + timedelta(minutes=5)
    answers = {"email": "meanwhile@example.com", "full_name": "Mean While"}
    number = world.state.next_number("meta", "lead")
    world.state.put("meta", "lead", [marketing.meta_lead(number, at, None, answers)])


def test_rows_that_move_while_the_pages_are_read_are_all_there(fresh: World, vendors: Hostile) -> None:
    for connector in ("meta", "newsletter", "shop"):
        small_pages(fresh, connector)
    order = touched(fresh, "woocommerce", "order", date_modified_gmt="%Y-%m-%dT%H:%M:%S")
    product = touched(fresh, "woocommerce", "product", date_modified_gmt="%Y-%m-%dT%H:%M:%S")
    member = touched(fresh, "mailchimp", "member", last_changed="%Y-%m-%dT%H:%M:%S+00:00")
    vendors.spoil(r"/wc/v3/orders$", bad.meanwhile(order), times=3, after=2, status="any")
    vendors.spoil(r"/wc/v3/products$", bad.meanwhile(product), times=1, after=1)
    vendors.spoil(r"/wc/v3/refunds$", bad.meanwhile(lambda: a_refund_less(fresh)), times=1, after=2)
    vendors.spoil(r"/members$", bad.meanwhile(member), times=3, after=1)
    vendors.spoil(r"/leads$", bad.meanwhile(lambda: a_lead_more(fresh)), times=2, after=1)
    fresh.sync()
    assert len(vendors.spoiled) == 10
    fresh.sync()
    kept = {"woocommerce refund": 1}  # it was read before it went
    for vendor, kind, table in (
        ("woocommerce", "order", "orders"),
        ("woocommerce", "product", "products"),
        ("woocommerce", "refund", "refunds"),
        ("mailchimp", "member", "contacts"),
        ("meta", "lead", "leads"),
    ):
        connector = {"woocommerce": "shop", "mailchimp": "newsletter", "meta": "meta"}[vendor]
        _, held = fresh.state.select(vendor, kind, limit=0)
        came = fresh.value(f"SELECT count(*) FROM {table} WHERE connector = :c", c=connector)
        assert (kind, came) == (kind, held + kept.get(f"{vendor} {kind}", 0))
    latest = fresh.value("SELECT max(modified_at) FROM orders")
    assert cursor(fresh, "shop", "orders") == latest, "each change came, the last one too"


REFUSED_CURSOR = {"error": {"message": "(#100) Invalid cursor", "type": "OAuthException", "code": 100}}


@pytest.mark.parametrize(
    ("connector", "path", "refusal", "stream"),
    [
        ("meta", r"/leads$", bad.instead(400, REFUSED_CURSOR), "leads"),
        (
            "crm",
            r"/crm/v3/owners$",
            bad.instead(400, {"status": "error", "message": "Invalid after", "category": "VALIDATION_ERROR"}),
            "owners",
        ),
    ],
    ids=["leads", "owners"],
)
def test_a_page_token_that_the_vendor_no_longer_takes_ends_the_read_and_the_next_one_begins_anew(
    fresh: World,
    vendors: Hostile,
    synced_once: World,
    connector: str,
    path: str,
    refusal: Spoil,
    stream: str,
) -> None:
    small_pages(fresh, connector)
    if connector == "crm":
        vendors.spoil(path, bad.changed(next_page), times=1)
    vendors.spoil(path, refusal, after=connector == "meta")
    [(what, _)] = bad_sync(fresh, connector, stream).errors
    assert "Invalid" in what
    assert cursor(fresh, connector, stream) is None
    before = len(vendors.calls)
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)
    first = next(call for call in vendors.calls[before:] if re.search(path, call.path))
    assert "after" not in first.query, "no token is kept from one run to the next"


@pytest.mark.parametrize("bare", [False, True], ids=["with cursors", "link alone"])
def test_a_link_to_another_host_is_not_followed(
    fresh: World, vendors: Hostile, other: Hostile, synced_once: World, bare: bool
) -> None:
    small_pages(fresh, "meta")

    def lead_away(body: dict[str, Any]) -> None:
        paging = body.get("paging", {})
        if "next" in paging:
            paging["next"] = paging["next"].replace(vendors.url, other.url)
            if bare:
                del paging["cursors"]

    def links_away(exchange: Exchange) -> None:
        reply = exchange.ask()
        link = {"Link": f'<{other.url}/wp-json/wc/v3/orders?page=2>; rel="next"'}
        exchange.answer(replace(reply, headers={**reply.headers, **link}))

    leads = vendors.spoil(r"/meta/.*/(leads|insights)$", bad.changed(lead_away))
    vendors.spoil(r"/wc/v3/orders$", links_away)
    ends_as_undisturbed(fresh, synced_once)
    assert leads.used > 8
    assert other.calls == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_is_not_followed_and_no_key_goes_there(
    fresh: World, vendors: Hostile, other: Hostile, synced_once: World, status: int
) -> None:
    for path in AWAY:
        vendors.spoil(path, bad.instead(status, Location=f"{other.url}/elsewhere"))
    runs = {run.connector: run for run in fresh.sync(pushes=False).runs}
    assert runs.pop("web").status == "done"
    for run in runs.values():
        [(what, todo)] = run.errors
        assert "redirects to http://127.0.0.1; credentials do not follow redirects" in what
        assert todo == "Write the address to which it leads into the config, if it is yours."
    assert other.calls == []
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


AWAY = (r"/leads$", r"/members$", r"/wc/v3/products$", r"/batch/read$")


def test_no_key_stands_in_a_message_of_a_bad_day(fresh: World, vendors: Hostile, other: Hostile) -> None:
    keys = (accounts.META_TOKEN, accounts.MAILCHIMP_KEY, accounts.WOO_SECRET, accounts.HUBSPOT_TOKEN)
    for path, key in zip(AWAY, keys, strict=True):
        vendors.spoil(path, bad.instead(302, Location=f"{other.url}/{key}?token={key}"))
    fresh.sync(pushes=False)
    shown = str(fresh.rows("SELECT error, hint FROM runs"))
    assert shown.count("redirects to") == 4
    assert not any(key in shown for key in keys)
