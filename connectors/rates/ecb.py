"""The European Central Bank's euro reference rates as a source: a raw record a currency and day.

Facts: the ECB Data Portal's SDMX 2.1 service (https://data.ecb.europa.eu/help/api/data), dataflow EXR, daily
spot rates against the euro (``D..EUR.SP00.A``) as CSV. A rate is how much of the currency one euro buys; it
comes on TARGET working days about 16:00 CET. A day without a rate has an empty value or ``NaN``; a span
without any is answered with 404 and *No results found*.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import msgspec
import pydantic

from connectors._answer import Answer, Problem, default_classify
from connectors.contract import Connector, Context, Finding, Page, RawRecord, Stream, Window
from connectors.errors import ConnectorError
from connectors.http import HttpSettings
from connectors.rates import days

ZONE = ZoneInfo("Europe/Berlin")  # Frankfurt's
DAYS_MAX = 90
"""A bound of our own: about 2,000 rows a call."""
SERIES = "/service/data/EXR/D..EUR.SP00.A"
NEEDED = ("CURRENCY", "CURRENCY_DENOM", "TIME_PERIOD", "OBS_VALUE")
NO_VALUE = ("", "NaN")


class Options(pydantic.BaseModel):
    """What an `ecb` connector is told.

    Attributes
    ----------
    base_url : only for another address than the bank's own.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    base_url: str = "https://data-api.ecb.europa.eu"


class Ecb:
    """Reads the reference rates (a `connectors.contract.Source`)."""

    def __init__(self, options: Options, context: Context) -> None:
        self._http = context.http(
            HttpSettings(
                base_url=options.base_url.rstrip("/"),
                headers={"accept": "text/csv"},
                classify=_classify,
                parallel=1,
            )
        )

    def read(self, stream: str, window: Window) -> Iterator[Page]:
        """Yield the rates of the window's days, a call and a page for each 90 of them."""
        if stream != "rates":
            raise ConnectorError("config", f"ecb has no stream {stream!r}")
        for first, last in days.spans(window, ZONE, days_max=DAYS_MAX):
            asked = {"startPeriod": str(first), "endPeriod": str(last), "format": "csvdata"}
            answer = self._http.get(SERIES, asked)
            records = [] if answer.status == 404 else list(_records(answer))
            yield Page(records, cursor=days.cursor_after(last, window, ZONE))

    def check(self) -> list[Finding]:
        """Whether the latest rates can be read."""
        try:
            found = self._http.get(SERIES, {"lastNObservations": 1, "format": "csvdata"})
            list(_records(found))
        except ConnectorError as error:
            return [Finding("reference rates", ok=False, hint=str(error))]
        return [Finding("reference rates", ok=True)]


def _records(answer: Answer) -> Iterator[RawRecord]:
    """A record a row: its cells as a JSON object of column to text, as the `files` connector keeps rows."""
    try:
        rows = csv.reader(io.StringIO(answer.body.decode("utf-8-sig"), newline=""), strict=True)
        columns = next(rows, [])
        if answer.body.strip() and (missing := [name for name in NEEDED if name not in columns]):
            raise ConnectorError("protocol", f"{answer.path} answered without the column {missing[0]}")
        for cells in rows:
            if not cells:
                continue
            row = dict(zip(columns, cells, strict=True))
            if row["OBS_VALUE"].strip() not in NO_VALUE:
                yield RawRecord(f"{row['CURRENCY']}|{row['TIME_PERIOD']}", msgspec.json.encode(row))
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise ConnectorError("protocol", f"{answer.path} answered no valid CSV: {error}") from error


def _classify(answer: Answer) -> Problem | None:
    if answer.status == 404 and b"no results found" in answer.body.lower():
        return None
    return default_classify(answer)


CONNECTOR = Connector(
    type="ecb",
    options=Options,
    mapping="vendors/ecb.yaml",
    streams=(Stream("rates", overlap=days.OVERLAP),),
    source=Ecb,
    description="euro reference rates of the European Central Bank",
)
