"""Narodowy Bank Polski (api.nbp.pl) as a source of average rates: table A, a raw record a table.

Facts: https://api.nbp.pl (a question covers at most 93 days; tables since 2002-01-02; a span without a table
is answered with 404 and a line of text). A table comes on working days about noon and counts from its
effective day; its number, as ``213/A/NBP/2026``, is unique.
"""

from __future__ import annotations

from collections.abc import Iterator
from zoneinfo import ZoneInfo

import msgspec
import pydantic

from connectors._answer import Answer, Problem, default_classify, read
from connectors.contract import Connector, Context, Finding, Page, RawRecord, Stream, Window
from connectors.errors import ConnectorError
from connectors.http import HttpSettings
from connectors.rates import days

ZONE = ZoneInfo("Europe/Warsaw")
DAYS_MAX = 93
NOTHING = b"404 NotFound"
"""How the answer begins that says there is no table in a span; another 404 is a wrong address."""


class Options(pydantic.BaseModel):
    """What an `nbp` connector is told.

    Attributes
    ----------
    base_url : only for another address than the bank's own.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    base_url: str = "https://api.nbp.pl"


class _Table(msgspec.Struct):
    no: str
    effectiveDate: str  # noqa: N815  # the bank's name


class Nbp:
    """Reads table A (a `connectors.contract.Source`)."""

    def __init__(self, options: Options, context: Context) -> None:
        self._http = context.http(
            HttpSettings(base_url=options.base_url.rstrip("/"), classify=_classify, parallel=1)
        )

    def read(self, stream: str, window: Window) -> Iterator[Page]:
        """Yield the tables of the window's days, a call and a page for each 93 of them."""
        if stream != "rates":
            raise ConnectorError("config", f"nbp has no stream {stream!r}")
        for first, last in days.spans(window, ZONE, days_max=DAYS_MAX):
            answer = self._http.get(f"/api/exchangerates/tables/A/{first}/{last}/", {"format": "json"})
            items = [] if answer.status == 404 else answer.raw_items()
            yield Page([_record(item) for item in items], cursor=days.cursor_after(last, window, ZONE))

    def check(self) -> list[Finding]:
        """Whether the latest table can be read."""
        try:
            self._http.get("/api/exchangerates/tables/A/", {"format": "json"}).raw_items()
        except ConnectorError as error:
            return [Finding("table A", ok=False, hint=str(error))]
        return [Finding("table A", ok=True)]


def _record(item: msgspec.Raw) -> RawRecord:
    try:
        table = read(item, _Table)
    except msgspec.DecodeError as error:
        raise ConnectorError("protocol", f"a table of rates is not as documented: {error}") from error
    return RawRecord(table.no, bytes(item))


def _classify(answer: Answer) -> Problem | None:
    if answer.status == 404 and answer.body.lstrip(b"\xef\xbb\xbf").startswith(NOTHING):
        return None
    return default_classify(answer)


CONNECTOR = Connector(
    type="nbp",
    options=Options,
    mapping="vendors/nbp.yaml",
    streams=(Stream("rates", overlap=days.OVERLAP),),
    source=Nbp,
    description="average rates of Narodowy Bank Polski, table A",
)
