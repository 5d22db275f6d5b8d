"""Connections that break, hang, drip or never end."""

from __future__ import annotations

import pytest

from connectors import http
from tests.faults.vendor import hostile as bad
from tests.faults.vendor.checks import bad_sync, cursor, ends_as_undisturbed, set_option, small_pages
from tests.faults.vendor.hostile import Hostile, Spoil
from tests.integration.flow.conftest import World

MIB = 1024 * 1024


@pytest.mark.parametrize("breaks", [bad.lost, bad.chunks_without_end])
def test_a_connection_cut_amid_a_page_is_asked_again(
    fresh: World, vendors: Hostile, synced_once: World, breaks: Spoil
) -> None:
    small_pages(fresh, "shop")
    small_pages(fresh, "meta")
    for path in (r"/wc/v3/orders$", r"/wc/v3/products$", r"/leads$", r"/reports$", r"/contacts/search$"):
        vendors.spoil(path, breaks, times=2, after=1)
    ends_as_undisturbed(fresh, synced_once)
    assert len(vendors.spoiled) == 10, "each was cut twice"


@pytest.mark.parametrize("breaks", [bad.lost, bad.chunks_without_end])
def test_a_connection_that_is_always_cut_fails_its_stream_and_keeps_the_pages_before(
    fresh: World, vendors: Hostile, synced_once: World, breaks: Spoil
) -> None:
    small_pages(fresh, "shop")
    vendors.spoil(r"/wc/v3/orders$", breaks, after=4, status="any")
    [(what, todo)] = bad_sync(fresh, "shop", "orders").errors
    assert "/wc/v3/orders: the connection broke" in what
    assert todo == "The next run tries again."
    booked = fresh.rows("SELECT external_id, modified_at FROM orders WHERE status <> 'trash'")
    assert 3 <= len(booked) <= 12
    assert cursor(fresh, "shop", "orders") == max(row.modified_at for row in booked)
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


def test_a_vendor_that_never_answers_fails_its_stream_after_the_time_out(
    fresh: World, vendors: Hostile, synced_once: World
) -> None:
    set_option(fresh, "shop", "page_timeout_s: 1")
    silent = vendors.spoil(r"/wc/v3/products$", bad.silence)
    [(what, todo)] = bad_sync(fresh, "shop", "products").errors
    assert silent.used == 5
    assert "/wc/v3/products: no answer in time" in what
    assert todo == "The next run tries again."
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


@pytest.mark.parametrize("drips", [bad.drip, bad.packed_drip])
def test_a_body_that_drips_for_ever_is_given_up(
    fresh: World, vendors: Hostile, synced_once: World, monkeypatch: pytest.MonkeyPatch, drips: Spoil
) -> None:
    vendors.spoil(r"/crm/v3/owners$", drips)
    with monkeypatch.context() as patched:
        patched.setattr(http, "ANSWER_S", 0.3)
        [(what, todo)] = bad_sync(fresh, "crm", "owners").errors
    assert "/crm/v3/owners: no answer in time" in what
    assert todo == "The next run tries again."
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


@pytest.mark.parametrize(
    "without_end",
    [bad.flood(200 * MIB), bad.packed_spaces, bad.packed_nothing],
    ids=["plain", "gzip", "empty"],
)
def test_a_body_beyond_the_bound_is_cut_while_it_comes(
    fresh: World, vendors: Hostile, synced_once: World, without_end: Spoil
) -> None:
    vendors.spoil(r"/members$", without_end)
    [(what, todo)] = bad_sync(fresh, "newsletter", "contacts").errors
    assert "/members answered more than 67,108,864 bytes" in what
    assert "smaller pages" in todo
    [exchange] = vendors.spoiled
    assert exchange.sent < 80 * MIB, "it was not taken in whole"
    assert cursor(fresh, "newsletter", "contacts") is None
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


def test_a_body_packed_twice_is_not_unpacked(fresh: World, vendors: Hostile, synced_once: World) -> None:
    vendors.spoil(r"/v25.0/.*/campaigns$", bad.packed_twice)
    [(what, todo)] = bad_sync(fresh, "meta", "campaigns").errors
    assert "answered in the encoding 'gzip, gzip', which was not asked for" in what
    assert "The next run asks again." in todo
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


def test_a_packed_body_that_is_broken_is_asked_again(
    fresh: World, vendors: Hostile, synced_once: World
) -> None:
    broken = vendors.spoil(r"/crm/v3/owners$", bad.packed_wrongly)
    [(what, _)] = bad_sync(fresh, "crm", "owners").errors
    assert broken.used == 6
    assert "/crm/v3/owners: the answer cannot be unpacked" in what
    vendors.heal()
    ends_as_undisturbed(fresh, synced_once)


def test_a_packed_body_is_read(fresh: World, vendors: Hostile, synced_once: World) -> None:
    vendors.spoil(r".", bad.packed)
    ends_as_undisturbed(fresh, synced_once)
