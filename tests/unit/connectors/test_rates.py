"""The banks at their edges: spans of 93 days, days without a table, a cursor that claims no more than is known."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from connectors.contract import Context, Cursor, Page, Window
from connectors.errors import ConnectorError
from connectors.rates import days, ecb, nbp

DATA = Path(__file__).parents[2] / "data" / "vendors"
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
UNTIL = datetime(2026, 6, 1, 9, 30, tzinfo=UTC)
NBP = "https://api.nbp.pl/api/exchangerates/tables/A/"
ECB = "https://data-api.ecb.europa.eu/service/data/EXR/D..EUR.SP00.A"


@pytest.fixture
def bank(context: Callable[[str], Context]) -> nbp.Nbp:
    return nbp.Nbp(nbp.Options(), context("nbp"))


@pytest.fixture
def frankfurt(context: Callable[[str], Context]) -> ecb.Ecb:
    return ecb.Ecb(ecb.Options(), context("ecb"))


def pages(source: Any, *, cursor: datetime | None = SINCE, since: datetime = SINCE) -> list[Page]:
    return list(source.read("rates", Window(since, UNTIL, Cursor(at=cursor) if cursor else None)))


def test_a_span_is_cut_where_the_bank_cuts_it() -> None:
    cut = list(days.spans(Window(SINCE, UNTIL, Cursor(at=SINCE)), nbp.ZONE, days_max=nbp.DAYS_MAX))
    assert [first for first, _ in cut[1:]] == [last + timedelta(days=1) for _, last in cut[:-1]]
    assert max((last - first).days for first, last in cut) == 92
    assert (cut[0][0], cut[-1][1]) == (date(2026, 1, 1), date(2026, 6, 1))


def test_the_first_read_begins_before_the_first_day(vendor: respx.Router, bank: nbp.Nbp) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(404, text="404 NotFound - Not Found - Brak danych")

    vendor.get(url__startswith=NBP).mock(side_effect=answer)
    found = pages(bank, cursor=None)
    assert asked[0].split("/")[-3] == "2025-12-18"
    assert not any(page.records for page in found)
    assert [page.cursor.at for page in found if page.cursor][-1] == UNTIL


def test_tables_keep_their_bytes_and_their_numbers(vendor: respx.Router, bank: nbp.Nbp) -> None:
    body = (DATA / "nbp" / "tables.json").read_bytes()
    vendor.get(url__startswith=NBP).mock(
        side_effect=[
            httpx.Response(200, content=body),
            httpx.Response(404, text="404 NotFound - Brak danych"),
        ]
    )
    first, second = pages(bank)
    assert [record.external_id for record in first.records] == ["233/A/NBP/2022", "005/A/NBP/2024"]
    assert all(record.body in body for record in first.records)
    assert b'"mid":0.1280' in first.records[0].body
    assert second.records == []
    # The first span ends with its last day, in the bank's own zone (summer time by then).
    assert first.cursor == Cursor(at=datetime(2026, 4, 3, 22, tzinfo=UTC))
    assert second.cursor == Cursor(at=UNTIL)


def test_a_wrong_address_is_no_day_without_a_table(vendor: respx.Router, bank: nbp.Nbp) -> None:
    vendor.get(url__startswith=NBP).mock(return_value=httpx.Response(404, text="<html>not here</html>"))
    with pytest.raises(ConnectorError) as error:
        pages(bank)
    assert error.value.kind == "config"
    assert not bank.check()[0].ok


def test_rows_of_the_ecb_without_a_value_are_no_rates(vendor: respx.Router, frankfurt: ecb.Ecb) -> None:
    body = (DATA / "ecb" / "answer.csv").read_bytes()
    answers = [httpx.Response(200, content=body), httpx.Response(404, text="No results found.")]
    vendor.get(url__startswith=ECB).mock(side_effect=answers)
    first, second = pages(frankfurt)
    assert [record.external_id for record in first.records] == ["USD|2024-01-02", "USD|2024-01-03"]
    rows = (DATA / "ecb" / "rows.json").read_bytes()
    assert b"[" + b",".join(record.body for record in first.records) + b"]" == rows
    assert second.cursor == Cursor(at=UNTIL)


@pytest.mark.parametrize("body", ["a,b\n1,2\n", "CURRENCY,CURRENCY_DENOM,TIME_PERIOD,OBS_VALUE\nUSD,EUR\n"])
def test_an_answer_of_another_shape_is_said(vendor: respx.Router, frankfurt: ecb.Ecb, body: str) -> None:
    vendor.get(url__startswith=ECB).mock(return_value=httpx.Response(200, text=body))
    with pytest.raises(ConnectorError) as error:
        pages(frankfurt)
    assert error.value.kind == "protocol"
