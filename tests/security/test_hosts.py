"""No key leaves for another host than the vendor's, nor in clear over the network: for every connector of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from connectors import catalog
from connectors.contract import Context
from connectors.errors import ConnectorError
from connectors.http import Http, HttpSettings
from tests.faults.vendor.checks import ends_as_undisturbed, small_pages
from tests.faults.vendor.hostile import Exchange, Hostile, compact
from tests.integration.flow.conftest import World

KEY = "not0a0real0key-us1"
SECRETS: dict[str, dict[str, Any]] = {
    "meta_ads": {"access_token": KEY, "account_id": "act_1"},
    "mailchimp": {"api_key": KEY},
    "hubspot": {"access_token": KEY},
    "woocommerce": {"consumer_key": KEY, "consumer_secret": f"{KEY}-secret"},
    "nbp": {},  # no key, but nobody between may write rates either
    "ecb": {},
}
OURS = sorted(catalog.find()[0])
LOOPBACK = ("http://127.0.0.1:9/x", "http://localhost:9/x", "http://[::1]:9/x")


def made(type_: str, http: Callable[[HttpSettings], Http], **options: Any) -> list[Any]:
    """The source and the destination of a connector, made as a run makes them."""
    connector = catalog.find()[0][type_]
    context = Context(name="it", zone=ZoneInfo("UTC"), folder=Path(), http=http)
    chosen = connector.options(**options)
    return [each(chosen, context) for each in (connector.source, connector.destination) if each]


def test_each_connector_is_one_of_these() -> None:
    assert sorted([*SECRETS, "files"]) == OURS


@pytest.mark.parametrize("type_", sorted(SECRETS))
def test_a_key_does_not_travel_over_plain_http(type_: str) -> None:
    clients: list[Http] = []

    def client(settings: HttpSettings) -> Http:
        clients.append(Http(settings))
        return clients[-1]

    with pytest.raises(ConnectorError, match="over plain http") as refused:
        made(type_, client, base_url="http://vendor.example", **SECRETS[type_])
    assert KEY not in str(refused.value)
    assert clients == []
    for address in LOOPBACK:
        assert made(type_, client, base_url=address, **SECRETS[type_])
    for each in clients:
        each.close()


def test_keys_in_a_query_are_for_https_alone() -> None:
    with pytest.raises(ValueError, match="keys_in_query needs https"):
        made("woocommerce", Http, base_url="http://127.0.0.1:9", keys_in_query=True, **SECRETS["woocommerce"])


def test_files_ask_nobody() -> None:
    def client(_: HttpSettings) -> Http:
        raise AssertionError("a connector of files has no use for a network")

    assert made("files", client, path="leads.csv")


def led_away(value: Any, to: str, *, host: str) -> Any:
    """JSON in which every address of the vendor's is one of another host."""
    if isinstance(value, dict):
        return {name: led_away(one, to, host=host) for name, one in value.items()}
    if isinstance(value, list):
        return [led_away(one, to, host=host) for one in value]
    return value.replace(host, to) if isinstance(value, str) else value


@pytest.mark.parametrize(
    ("connector", "paths"),
    [
        ("meta", r"/meta/"),
        ("newsletter", r"/mailchimp/3\.0/(lists|campaigns|reports)"),
        ("crm", r"/hubspot/crm/v3/(owners|objects)"),
        ("shop", r"/wc/v3/"),
    ],
)
def test_no_link_of_a_vendor_leads_a_connector_to_another_host(
    fresh: World, vendors: Hostile, other: Hostile, synced_once: World, connector: str, paths: str
) -> None:
    small_pages(fresh, connector)
    links: list[str] = []

    def spoil(exchange: Exchange) -> None:
        reply = exchange.ask()
        headers = {name: text.replace(vendors.url, other.url) for name, text in reply.headers.items()}
        headers["Link"] = f'<{other.url}{exchange.call.path}?page=2>; rel="next"'
        body = reply.json
        if isinstance(body, dict):
            for place in (body.get("paging"), (body.get("paging") or {}).get("next")):
                if isinstance(place, dict) and place:
                    links.append(exchange.call.path)
                    place["link" if connector == "crm" else "next"] = f"{other.url}{exchange.call.target}"
            if connector == "newsletter":
                links.append(exchange.call.path)
                body["_links"] = [
                    {"rel": "next", "href": f"{other.url}{exchange.call.path}", "method": "GET"}
                ]
        else:
            links.append(exchange.call.path)
        exchange.answer(
            replace(reply, headers=headers, body=compact(led_away(body, other.url, host=vendors.url)))
        )

    vendors.spoil(paths, spoil)
    ends_as_undisturbed(fresh, synced_once)
    assert links, "there were links to follow"
    assert other.calls == []
