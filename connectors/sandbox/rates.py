"""The simulated banks: NBP's table A and the ECB's reference rates, each in its own wire format.

The rates are invented: smooth waves around a level, the same on every machine. A document of the state stands
over them, so that a test can correct a table: vendor ``nbp`` or ``ecb``, kind ``rates``, its id the day, its
body ``{code: rate}`` (an empty one: no table that day).
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from connectors.sandbox.state import State

# Zloty for one unit, and how the bank calls it.
ZLOTY = {
    "USD": ("dolar amerykański", 3.9, 4),
    "EUR": ("euro", 4.3, 4),
    "GBP": ("funt szterling", 5.0, 4),
    "CHF": ("frank szwajcarski", 4.5, 4),
    "CZK": ("korona czeska", 0.171, 4),
    "HUF": ("forint (Węgry)", 0.0109, 6),
    "JPY": ("jen (Japonia)", 0.0262, 6),
    "XDR": ("SDR (MFW)", 5.2, 4),
}
EURO = {
    "USD": (1.09, 4),
    "PLN": (4.3, 4),
    "GBP": (0.86, 5),
    "CHF": (0.96, 4),
    "CZK": (25.1, 3),
    "JPY": (164.0, 2),
}
FIRST = {"nbp": date(2002, 1, 2), "ecb": date(1999, 1, 4)}
ZONES = {"nbp": ZoneInfo("Europe/Warsaw"), "ecb": ZoneInfo("Europe/Berlin")}
SHUT = {
    "nbp": {(1, 1), (1, 6), (5, 1), (5, 3), (8, 15), (11, 1), (11, 11), (12, 24), (12, 25), (12, 26)},
    "ecb": {(1, 1), (5, 1), (12, 25), (12, 26)},
}
NBP_DAYS_MAX = 93
NO_DATA = "404 NotFound - Not Found - Brak danych"
TOO_LONG = "400 BadRequest - Przekroczony limit 93 dni / Limit of 93 days has been exceeded"
WRONG_SPAN = "400 BadRequest - Błędny zakres dat / Invalid date range"
WRONG_DAY = "404 NotFound"
COLUMNS = (
    "KEY,FREQ,CURRENCY,CURRENCY_DENOM,EXR_TYPE,EXR_SUFFIX,TIME_PERIOD,OBS_VALUE,OBS_STATUS,OBS_CONF,"
    "OBS_PRE_BREAK,OBS_COM,TIME_FORMAT,BREAKS,COLLECTION,COMPILING_ORG,DISS_ORG,DOM_SER_IDS,PUBL_ECB,PUBL_MU,"
    "PUBL_PUBLIC,UNIT_INDEX_BASE,COMPILATION,COVERAGE,DECIMALS,NAT_TITLE,SOURCE_AGENCY,SOURCE_PUB,TITLE,"
    "TITLE_COMPL,UNIT,UNIT_MULT"
)
Now = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


def nbp(state: State, now: Now = _now) -> ASGIApp:
    """The Polish bank over `state`."""

    def span(request: Request) -> Response:
        try:
            first, last = (date.fromisoformat(request.path_params[name]) for name in ("first", "last"))
        except ValueError:
            return PlainTextResponse(WRONG_DAY, 404)
        if last < first:
            return PlainTextResponse(WRONG_SPAN, 400)
        if (last - first).days >= NBP_DAYS_MAX:
            return PlainTextResponse(TOO_LONG, 400)
        return tables(list(_days(state, "nbp", first, last, now())))

    def latest(request: Request) -> Response:
        today = now().date()
        return tables(list(_days(state, "nbp", today - timedelta(days=14), today, now()))[-1:])

    def tables(found: list[tuple[date, dict[str, str]]]) -> Response:
        if not found:
            return PlainTextResponse(NO_DATA, 404)
        text = ",".join(_table(day, rates) for day, rates in found)
        return Response(f"[{text}]", media_type="application/json; charset=utf-8")

    home = "/api/exchangerates/tables/A/"
    return Starlette(routes=[Route(home, latest), Route(f"{home}{{first}}/{{last}}/", span)])


def _table(day: date, rates: dict[str, str]) -> str:
    number = sum(1 for _ in _open("nbp", date(day.year, 1, 1), day))
    # The bank writes its decimals out, the last zeros too.
    lines = ",".join(
        f'{{"currency":{json.dumps(ZLOTY.get(code, (code,))[0], ensure_ascii=False)},"code":"{code}","mid":{rate}}}'
        for code, rate in rates.items()
    )
    return f'{{"table":"A","no":"{number:03d}/A/NBP/{day.year}","effectiveDate":"{day}","rates":[{lines}]}}'


def ecb(state: State, now: Now = _now) -> ASGIApp:
    """The European bank over `state`."""

    def rates(request: Request) -> Response:
        asked = request.query_params
        today = now().date()
        try:
            first = date.fromisoformat(asked.get("startPeriod", str(today - timedelta(days=14))))
            last = date.fromisoformat(asked.get("endPeriod", str(today)))
        except ValueError:
            return PlainTextResponse("Error 400: the period is not valid", 400)
        found = list(_days(state, "ecb", first, last, now()))
        if "lastNObservations" in asked:
            found = found[-int(asked["lastNObservations"]) :]
        if not found:
            return PlainTextResponse("No results found.", 404)
        return Response(_csv(found), media_type="text/csv")

    return Starlette(routes=[Route("/service/data/EXR/D..EUR.SP00.A", rates)])


def _csv(found: list[tuple[date, dict[str, str]]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS.split(","), restval="", lineterminator="\n")
    writer.writeheader()
    for code in EURO:
        for day, rates in found:
            writer.writerow(
                {
                    "KEY": f"EXR.D.{code}.EUR.SP00.A",
                    "FREQ": "D",
                    "CURRENCY": code,
                    "CURRENCY_DENOM": "EUR",
                    "EXR_TYPE": "SP00",
                    "EXR_SUFFIX": "A",
                    "TIME_PERIOD": day,
                    "OBS_VALUE": rates.get(code, ""),
                    "OBS_STATUS": "A" if code in rates else "H",
                    "OBS_CONF": "F",
                    "TIME_FORMAT": "P1D",
                    "UNIT": code,
                    "UNIT_MULT": "0",
                }
            )
    return out.getvalue()


def _days(
    state: State, bank: str, first: date, last: date, now: datetime
) -> Iterator[tuple[date, dict[str, str]]]:
    """The days of a span on which the bank had a table, with its rates as text."""
    last = min(last, now.astimezone(ZONES[bank]).date())
    corrected = {doc.id: doc.body for doc in state.select(bank, "rates")[0]}
    for day in _open(bank, first, last):
        rates = corrected.get(str(day), _rates(bank, day))
        if rates:
            yield day, {code: str(rate) for code, rate in rates.items()}


def _open(bank: str, first: date, last: date) -> Iterator[date]:
    """Working days of a bank (those that move with Easter are worked)."""
    day = max(first, FIRST[bank])
    while day <= last:
        if day.weekday() < 5 and (day.month, day.day) not in SHUT[bank]:
            yield day
        day += timedelta(days=1)


def _rates(bank: str, day: date) -> dict[str, str]:
    levels = {code: (level, digits) for code, (_, level, digits) in ZLOTY.items()} if bank == "nbp" else EURO
    return {
        code: f"{level * (1 + 0.04 * math.sin(day.toordinal() / 37 + number)):.{digits}f}"
        for number, (code, (level, digits)) in enumerate(levels.items())
    }
