"""What the vendors' tests share: no network, no waiting, the stored sample answers of the module's vendor.

A test module that reads sample answers names their folder as `DATA`; one that makes HubSpot's connector names the
access token as `TOKEN`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
import respx

from connectors.contract import Context
from connectors.crm import hubspot_api
from connectors.http import Http, HttpSettings


@pytest.fixture
def waits() -> list[float]:
    """The seconds that the connector wanted to wait, in order; no test really waits."""
    return []


@pytest.fixture
def vendor() -> Iterator[respx.Router]:
    """The vendor's routes; a call to any other address fails."""
    with respx.mock(assert_all_called=False) as router:
        yield router


@pytest.fixture
def context(waits: list[float]) -> Iterator[Callable[[str], Context]]:
    """Makes the context of a connector of the given name; its clients note their waits in `waits`."""
    clients: list[Http] = []

    def http(settings: HttpSettings) -> Http:
        clients.append(Http(settings, sleep=waits.append))
        return clients[-1]

    yield lambda name: Context(name, ZoneInfo("Europe/Warsaw"), Path(), http)
    for client in clients:
        client.close()


@pytest.fixture
def sample(request: pytest.FixtureRequest) -> Callable[[str], bytes]:
    """Reads a sample answer by its file's name without `.json`."""
    folder: Path = request.module.DATA
    return lambda name: (folder / f"{name}.json").read_bytes()


@pytest.fixture
def answer(sample: Callable[[str], bytes]) -> Callable[..., httpx.Response]:
    """Makes a response of a sample answer."""
    return lambda name, status=200: httpx.Response(status, content=sample(name))


@pytest.fixture
def make_hubspot(request: pytest.FixtureRequest, context: Callable[[str], Context]) -> Callable[..., Any]:
    """Makes HubSpot's source or destination with options."""
    token: str = request.module.TOKEN

    def build(kind: Callable[..., Any], **options: Any) -> Any:
        return kind(hubspot_api.Options.model_validate({"access_token": token, **options}), context("crm"))

    return build
