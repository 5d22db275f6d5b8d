"""The simulated banks over loopback HTTP, read by our own connectors."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest

from connectors.contract import Context, Window
from connectors.http import Http
from connectors.rates import ecb, nbp
from connectors.sandbox.server import Server
from connectors.sandbox.state import Doc

DAY = timedelta(days=1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "state.sqlite") as served:
        yield served


@pytest.fixture
def context() -> Iterator[Context]:
    clients: list[Http] = []

    def http(settings: object) -> Http:
        clients.append(Http(settings))  # type: ignore[arg-type]
        return clients[-1]

    yield Context("rates", ZoneInfo("Europe/Warsaw"), Path(), http)
    for client in clients:
        client.close()


def window(first: date, last: date) -> Window:
    begin, end = (datetime(d.year, d.month, d.day, 12, tzinfo=UTC) for d in (first, last))
    return Window(begin, end)


def test_our_connectors_read_both_banks(server: Server, context: Context) -> None:
    asked = window(date(2026, 1, 1), date(2026, 6, 1))
    tables = nbp.Nbp(nbp.Options(base_url=f"{server.url}/nbp"), context)
    found = [record for page in tables.read("rates", asked) for record in page.records]
    assert len(found) == len({record.external_id for record in found})
    assert 100 < len(found) < 125  # working days
    assert "001/A/NBP/2026" in {record.external_id for record in found}
    euro = ecb.Ecb(ecb.Options(base_url=f"{server.url}/ecb"), context)
    rows = [record for page in euro.read("rates", asked) for record in page.records]
    assert {record.external_id.split("|")[0] for record in rows} >= {"USD", "PLN"}
    assert all(finding.ok for source in (tables, euro) for finding in source.check())


def test_the_polish_bank_refuses_what_the_real_one_refuses(server: Server) -> None:
    home = f"{server.url}/nbp/api/exchangerates/tables/A"
    assert httpx.get(f"{home}/2026-01-01/2026-04-03/").status_code == 200  # 93 days
    assert "93" in httpx.get(f"{home}/2026-01-01/2026-04-04/").text
    sunday = httpx.get(f"{home}/2026-03-01/2026-03-01/")
    assert (sunday.status_code, sunday.text) == (404, "404 NotFound - Not Found - Brak danych")
    assert httpx.get(f"{home}/2026-03-02/2026-03-01/").status_code == 400


def test_a_table_can_be_corrected(server: Server) -> None:
    place = f"{server.url}/nbp/api/exchangerates/tables/A/2026-03-02/2026-03-03/"
    before = httpx.get(place).json()
    server.state.put("nbp", "rates", [Doc("2026-03-03", {"EUR": "4.9999"}, at=0, changed=0)])
    after = httpx.get(place).json()
    assert after[0] == before[0]
    assert after[1]["rates"] == [{"currency": "euro", "code": "EUR", "mid": 4.9999}]
    assert after[1]["no"] == before[1]["no"]
