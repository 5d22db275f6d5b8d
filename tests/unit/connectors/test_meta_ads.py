"""Meta at its edges: errors that hide in HTTP 400, filters ignored in silence, days of the account's zone."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pydantic
import pytest
from structlog.testing import capture_logs

from connectors.ads import meta_ads, meta_ads_days, meta_ads_wire
from connectors.contract import Cursor, Page, Source, Window
from connectors.errors import ConnectorError
from connectors.http import Answer

DATA = Path(__file__).parents[2] / "data" / "vendors" / "meta_ads"
GRAPH = "https://graph.facebook.com/v25.0"
TOKEN, APP_SECRET = "EAAmadeup", "made-up-app-secret"
ACCOUNT = "act_212551616838260"
PAGE, FORM = "100000000000101", "900000000000201"
SINCE = datetime(2026, 3, 1, tzinfo=UTC)
UNTIL = datetime(2026, 3, 4, 12, 0, 5, 700000, tzinfo=UTC)
WINDOW = Window(SINCE, UNTIL)
NOW = datetime(2026, 3, 4, 12, 0, 5, 700000, tzinfo=UTC)


ERRORS = {
    (item["body"]["error"]["code"], item["body"]["error"].get("error_subcode")): item
    for item in json.loads((DATA / "answers" / "errors_MADE_UP.json").read_bytes())
}


def failure(code: int, subcode: int | None = None, *, status: int = 400, **more) -> httpx.Response:
    error = {"message": "…", "type": "OAuthException", "code": code, "fbtrace_id": "A1b2", **more}
    if subcode:
        error["error_subcode"] = subcode
    return httpx.Response(status, json={"error": error})


def listing(*items: dict, after: str | None = None, page: str = "x") -> httpx.Response:
    body: dict = {"data": list(items)}
    if items:
        body["paging"] = {"cursors": {"before": "b", "after": after or "end"}}
    if after:
        link = f"{GRAPH}/{page}?access_token={TOKEN}&limit=1&after={after}"
        body["paging"] = {**body.get("paging", {"cursors": {"after": after}}), "next": link}
    return httpx.Response(200, json=body)


@pytest.fixture
def make(context):
    def build(**options):
        values = {"access_token": TOKEN, "account_id": ACCOUNT, "page_ids": [PAGE], **options}
        return meta_ads.MetaAds(meta_ads.Options.model_validate(values), context("meta"), clock=lambda: NOW)

    return build


@pytest.fixture
def forms(vendor, sample):
    return vendor.get(f"{GRAPH}/{PAGE}/leadgen_forms").mock(
        return_value=httpx.Response(200, content=sample("answers/leadgen_forms_MADE_UP"))
    )


@pytest.fixture
def account(vendor, sample):
    """In Los Angeles, where the day begins at 08:00 UTC in winter."""
    return vendor.get(f"{GRAPH}/{ACCOUNT}").mock(
        return_value=httpx.Response(200, content=sample("answers/ad_account"))
    )


def ids(pages: list[Page]) -> list[str]:
    return [record.external_id for page in pages for record in page.records]


def lead(number: int, at: datetime) -> dict:
    return {"id": str(number), "created_time": at.strftime("%Y-%m-%dT%H:%M:%S+0000"), "form_id": FORM}


def test_it_is_a_source(make):
    assert isinstance(make(), Source)
    spend = next(stream for stream in meta_ads.CONNECTOR.streams if stream.name == "spend")
    assert spend.snapshot
    assert spend.overlap == timedelta(days=28)


# leads


def test_leads_keep_their_bytes_and_know_their_form(vendor, make, forms, sample):
    body = sample("leads_MADE_UP")
    answers = [
        httpx.Response(200, content=body),
        httpx.Response(200, content=sample("answers/last_page_MADE_UP")),
    ]
    route = vendor.get(f"{GRAPH}/{FORM}/leads").mock(side_effect=answers)
    pages = list(make().read("leads", WINDOW))
    records = pages[0].records
    assert ids(pages) == ["1202100000000101", "1202100000000102", "1202100000000103"]
    assert all(record.body in body for record in records)
    assert [json.loads(record.body) for record in records] == json.loads(body)["data"]
    assert records[0].context == {
        "form_name": "Spring form PL",
        "question_types": {
            "email": "EMAIL",
            "full_name": "FULL_NAME",
            "phone_number": "PHONE",
            "jaki_masz_budżet?": "CUSTOM",
        },
    }
    assert pages[0].cursor is None
    assert pages[-1].cursor == Cursor(at=datetime(2026, 3, 3, 9, 14, 22, tzinfo=UTC))
    first, second = (call.request.url.params for call in route.calls)
    assert "after" not in first
    assert second["after"] == "QVFIUnVtTnFE"
    assert {"campaign_id", "campaign_name", "field_data", "is_organic"} <= set(first["fields"].split(","))


def test_the_token_is_in_the_header_and_never_in_the_address(vendor, make, forms, account):
    vendor.get(f"{GRAPH}/{FORM}/leads").mock(side_effect=[listing(lead(1, SINCE), after="c1"), listing()])
    vendor.get(f"{GRAPH}/{ACCOUNT}/campaigns").mock(return_value=listing())
    with capture_logs() as logs:
        source = make(app_secret=APP_SECRET)
        list(source.read("leads", WINDOW))
        list(source.read("campaigns", WINDOW))
    assert len(vendor.calls) == 5
    proof = hmac.new(APP_SECRET.encode(), TOKEN.encode(), hashlib.sha256).hexdigest()
    for call in vendor.calls:
        assert call.request.headers["Authorization"] == f"Bearer {TOKEN}"
        assert TOKEN not in str(call.request.url)
        assert APP_SECRET not in str(call.request.url)
        assert call.request.url.params["appsecret_proof"] == proof
    assert not {TOKEN, APP_SECRET, proof} & set(str(logs).replace("'", " ").split())


def test_without_an_app_secret_there_is_no_proof(vendor, make, forms):
    vendor.get(f"{GRAPH}/{FORM}/leads").mock(return_value=listing())
    list(make().read("leads", WINDOW))
    assert all("appsecret_proof" not in call.request.url.params for call in vendor.calls)


def test_the_filter_is_in_unix_seconds_and_strict(vendor, make, forms):
    route = vendor.get(f"{GRAPH}/{FORM}/leads").mock(return_value=listing())
    list(make().read("leads", WINDOW))
    rules = json.loads(route.calls[0].request.url.params["filtering"])
    assert rules == [
        {"field": "time_created", "operator": "GREATER_THAN", "value": int(SINCE.timestamp()) - 1},
        {"field": "time_created", "operator": "LESS_THAN", "value": int(UNTIL.timestamp()) + 1},
    ]


def test_a_filter_that_is_ignored_does_no_harm(vendor, make, forms):
    """Seen in the wild: all leads come, whatever is asked. They are not sorted either."""
    leads = [
        lead(1, UNTIL + timedelta(hours=1)),
        lead(2, SINCE - timedelta(seconds=1)),
        lead(3, SINCE),
        lead(4, UNTIL - timedelta(hours=1)),
        {"id": "5", "created_time": "someday"},
        lead(6, SINCE + timedelta(hours=1)),
    ]
    vendor.get(f"{GRAPH}/{FORM}/leads").mock(return_value=listing(*leads))
    pages = list(make().read("leads", WINDOW))
    assert ids(pages) == ["3", "4", "5", "6"]
    assert pages[-1].cursor == Cursor(at=(UNTIL - timedelta(hours=1)).replace(microsecond=0))


def test_pages_are_found_when_none_are_named(vendor, make, forms):
    vendor.get(f"{GRAPH}/me/accounts").mock(
        side_effect=[listing({"id": PAGE}, after="c1"), listing({"id": "7"})]
    )
    vendor.get(f"{GRAPH}/7/leadgen_forms").mock(
        return_value=listing({"id": "8", "name": "Old", "status": "ARCHIVED"})
    )
    vendor.get(f"{GRAPH}/{FORM}/leads").mock(return_value=listing(lead(1, SINCE)))
    vendor.get(f"{GRAPH}/8/leads").mock(return_value=listing(lead(2, SINCE)))
    assert ids(list(make(page_ids=[]).read("leads", WINDOW))) == ["1", "2"]
    assert "access_token" not in vendor.calls[0].request.url.params["fields"]


def test_an_empty_page_with_a_next_one_is_not_the_end(vendor, make, forms):
    answers = [listing(after="c1"), listing(lead(1, SINCE), after="c2"), listing(lead(2, SINCE))]
    vendor.get(f"{GRAPH}/{FORM}/leads").mock(side_effect=answers)
    assert ids(list(make().read("leads", WINDOW))) == ["1", "2"]


def test_pages_that_go_in_a_circle_end(vendor, make, forms):
    circle = (listing(lead(1, SINCE), after=after) for after in ("c1", "c2", "c1"))
    vendor.get(f"{GRAPH}/{FORM}/leads").mock(side_effect=circle)
    with pytest.raises(ConnectorError, match="same page"):
        list(make().read("leads", WINDOW))


def test_a_next_page_without_a_cursor_is_no_end(vendor, make, forms):
    body = {"data": [], "paging": {"next": f"{GRAPH}/{FORM}/leads?offset=100"}}
    vendor.get(f"{GRAPH}/{FORM}/leads").mock(return_value=httpx.Response(200, json=body))
    with pytest.raises(ConnectorError, match="without a cursor"):
        list(make().read("leads", WINDOW))


def test_a_page_without_rights_does_not_stop_the_others_but_the_cursor(vendor, make, forms):
    vendor.get(f"{GRAPH}/7/leadgen_forms").mock(return_value=failure(200, status=403))
    vendor.get(f"{GRAPH}/{FORM}/leads").mock(return_value=listing(lead(1, SINCE)))
    pages: list[Page] = []
    with pytest.raises(ConnectorError) as raised:
        pages.extend(make(page_ids=["7", PAGE]).read("leads", WINDOW))
    read = make(page_ids=["7", PAGE]).read("leads", WINDOW)
    assert ids([next(read)]) == ["1"]
    assert raised.value.kind == "scope"
    assert all(page.cursor is None for page in pages)


def test_no_lead_moves_no_cursor(vendor, make, forms):
    vendor.get(f"{GRAPH}/{FORM}/leads").mock(return_value=listing())
    assert [page.cursor for page in make().read("leads", WINDOW)] == [None]


# campaigns


def test_campaigns_come_whole_archived_and_deleted_ones_too(vendor, make, account, sample):
    body = sample("campaigns_MADE_UP_TYPES")
    route = vendor.get(f"{GRAPH}/{ACCOUNT}/campaigns").mock(return_value=httpx.Response(200, content=body))
    pages = list(make().read("campaigns", WINDOW))
    assert ids(pages) == ["23853498584890398"]
    assert pages[0].records[0].body in body
    assert pages[0].records[0].version == datetime(2023, 3, 9, 19, 51, 54, tzinfo=UTC)
    assert pages[0].cursor is None
    rule = json.loads(route.calls[0].request.url.params["filtering"])[0]
    assert rule["field"] == "effective_status"
    assert {"ACTIVE", "PAUSED", "ARCHIVED", "DELETED"} <= set(rule["value"])


# spend


def insights(vendor, *answers: httpx.Response):
    return vendor.get(f"{GRAPH}/{ACCOUNT}/insights").mock(side_effect=list(answers))


def ranges(route) -> list[tuple[str, str]]:
    asked = [json.loads(call.request.url.params["time_range"]) for call in route.calls]
    return [(one["since"], one["until"]) for one in asked]


def test_spend_is_by_ad_and_day(vendor, make, account, sample):
    body = sample("insights_MADE_UP_TYPES")
    route = insights(vendor, httpx.Response(200, content=body))
    pages = list(make().read("spend", Window(SINCE + timedelta(days=1), UNTIL)))
    assert ids(pages) == [
        "2021-03-01|212551616838260|23846784938030398",
        "2021-03-01|212551616838260|23846765228310398",
    ]
    assert all(record.body in body and record.version is None for record in pages[0].records)
    query = route.calls[0].request.url.params
    assert (query["level"], query["time_increment"]) == ("ad", "1")
    assert {"spend", "account_currency", "campaign_id", "ad_id"} <= set(query["fields"].split(","))


def test_days_are_those_of_the_account_and_inclusive(vendor, make, account):
    """00:00 UTC is still the day before in Los Angeles; `until` names the last day itself."""
    route = insights(vendor, listing(), listing(), listing(), listing())
    list(make().read("spend", WINDOW))
    assert ranges(route) == [("2026-02-28", "2026-02-28"), ("2026-03-01", "2026-03-04")]
    list(make().read("spend", Window(SINCE, datetime(2026, 3, 4, 8, tzinfo=UTC))))
    assert ranges(route)[2:] == [("2026-02-28", "2026-02-28"), ("2026-03-01", "2026-03-03")]


def test_long_ranges_are_cut_by_month(vendor, make, account):
    route = insights(vendor, listing(), listing(), listing())
    window = Window(datetime(2025, 12, 30, 8, tzinfo=UTC), datetime(2026, 2, 3, 8, tzinfo=UTC))
    list(make().read("spend", window))
    assert ranges(route) == [
        ("2025-12-30", "2025-12-31"),
        ("2026-01-01", "2026-01-31"),
        ("2026-02-01", "2026-02-02"),
    ]


def test_the_cursor_is_the_end_of_the_last_day_with_a_row(vendor, make, account):
    row = {"date_start": "2026-03-02", "account_id": "1", "ad_id": "2"}
    insights(vendor, listing(), listing(row))
    pages = list(make().read("spend", WINDOW))
    assert pages[-1].cursor == Cursor(at=datetime(2026, 3, 3, 8, tzinfo=UTC))
    assert all(page.cursor is None for page in pages[:-1])
    today = {"date_start": "2026-03-04", "account_id": "1", "ad_id": "2"}
    insights(vendor, listing(), listing(today))
    assert list(make().read("spend", WINDOW))[-1].cursor == Cursor(at=UNTIL)
    insights(vendor, listing(), listing())
    assert list(make().read("spend", WINDOW))[-1].cursor is None


def test_too_much_data_is_asked_for_in_smaller_parts(vendor, make, account, waits):
    item = ERRORS[1, None]
    too_much = httpx.Response(item["http_status"], json=item["body"])
    row = {"date_start": "2026-03-01", "account_id": "1", "ad_id": "2"}
    route = insights(
        vendor,
        listing({**row, "ad_id": "1"}, after="c1"),
        too_much,
        too_much,
        listing(row),
    )
    window = Window(datetime(2026, 3, 1, 8, tzinfo=UTC), datetime(2026, 3, 3, 8, tzinfo=UTC))
    pages = list(make().read("spend", window))
    assert ids(pages) == ["2026-03-01|1|1", "2026-03-01|1|2"]
    asked = [(c.request.url.params["limit"], c.request.url.params.get("after")) for c in route.calls]
    assert asked == [("100", None), ("100", "c1"), ("50", "c1"), ("25", "c1")]
    assert waits == []


def test_days_that_are_too_much_are_halved(vendor, make, account):
    asked: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        days = json.loads(request.url.params["time_range"])
        since, until = days["since"], days["until"]
        if since != until:
            return failure(100, 1504018)
        asked.append((since, until))
        return listing({"date_start": since, "account_id": "1", "ad_id": "2"})

    vendor.get(f"{GRAPH}/{ACCOUNT}/insights").mock(side_effect=answer)
    window = Window(datetime(2026, 3, 1, 8, tzinfo=UTC), datetime(2026, 3, 4, 8, tzinfo=UTC))
    pages = list(make().read("spend", window))
    assert ids(pages) == [f"2026-03-0{n}|1|2" for n in (1, 2, 3)]
    vendor.get(f"{GRAPH}/{ACCOUNT}/insights").mock(return_value=failure(100, 1504018))
    with pytest.raises(ConnectorError) as raised:
        list(make().read("spend", window))
    assert raised.value.kind == "vendor"


def test_history_has_an_end(vendor, make, account):
    """37 months before 2026-03-04 is 2023-02-04; the vendor answers 400 for an older day."""
    route = vendor.get(f"{GRAPH}/{ACCOUNT}/insights").mock(return_value=listing())
    list(make().read("spend", Window(datetime(2020, 1, 1, tzinfo=UTC), NOW)))
    first = date.fromisoformat(ranges(route)[0][0])
    assert date(2023, 2, 5) <= first <= date(2023, 2, 10)
    assert ranges(route)[-1][1] == "2026-03-04"
    with pytest.raises(ConnectorError, match="37 months") as raised:
        list(make().read("spend", Window(datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 2, 1, tzinfo=UTC))))
    assert raised.value.kind == "config"


@pytest.mark.parametrize(
    "today", [date(2026, 3, 31), date(2024, 2, 29), date(2026, 1, 1), date(2026, 12, 31)]
)
def test_the_oldest_day_has_a_margin_in_every_month(today):
    now = datetime(today.year, today.month, today.day, tzinfo=UTC)
    window = Window(datetime(2000, 1, 1, tzinfo=UTC), now)
    first = meta_ads_days.within(window, zone=ZoneInfo("UTC"), now=now, months=37).first
    allowed = (today.year * 12 + today.month - 1) - 37
    assert first > date(allowed // 12, allowed % 12 + 1, 1)
    assert (first.year * 12 + first.month - 1, first.day) > (allowed, min(today.day + 1, 31))
    assert meta_ads_days.within(window, zone=ZoneInfo("UTC"), now=now, months=None).first == date(2000, 1, 1)


def test_accounts_are_found_when_none_is_named(vendor, make):
    accounts = [
        {"id": "act_1", "currency": "EUR", "timezone_name": "Europe/Warsaw"},
        {"id": "act_2", "currency": "USD", "timezone_name": "Asia/Tokyo"},
    ]
    vendor.get(f"{GRAPH}/me/adaccounts").mock(return_value=listing(*accounts))
    for one in ("1", "2"):
        row = {"date_start": "2026-03-02", "account_id": one, "ad_id": "9"}
        vendor.get(f"{GRAPH}/act_{one}/insights").mock(return_value=listing(row))
    assert ids(list(make(account_id=None).read("spend", WINDOW))) == ["2026-03-02|1|9", "2026-03-02|2|9"]
    vendor.get(f"{GRAPH}/me/adaccounts").mock(return_value=listing())
    with pytest.raises(ConnectorError, match="no ad account"):
        list(make(account_id=None).read("spend", WINDOW))


# errors and limits


@pytest.mark.parametrize(
    ("answer", "kind", "calls"),
    [
        (failure(190, 463), "credential", 1),
        (httpx.Response(400, content=(DATA / "answers" / "error_190.json").read_bytes()), "credential", 1),
        (failure(102), "credential", 1),
        (failure(10), "scope", 1),
        (failure(200, status=403), "scope", 1),
        (failure(299), "scope", 1),
        (failure(3), "scope", 1),
        (failure(100), "protocol", 1),
        (failure(100, 33), "config", 1),
        (failure(2, 1504041), "protocol", 1),
        (failure(1), "vendor", 5),
        (failure(2, status=500), "vendor", 5),
        (failure(100, is_transient=True), "vendor", 5),
        (failure(100, 99), "vendor", 5),
        (failure(100, 2490547), "vendor", 5),
        (failure(4), "throttled", 5),
        (failure(17), "throttled", 5),
        (failure(613), "throttled", 5),
        (failure(80005), "throttled", 5),
        (failure(80014), "throttled", 5),
        (failure(17, 2446079), "throttled", 5),
        (failure(100, 1504022), "throttled", 5),
        (httpx.Response(502, html="<h1>Bad gateway</h1>"), "vendor", 5),
        (httpx.Response(200, text="for (;;);{}"), "vendor", 5),
    ],
)
def test_codes_decide_not_the_status(vendor, make, waits, answer, kind, calls):
    route = vendor.get(f"{GRAPH}/{PAGE}/leadgen_forms").mock(return_value=answer)
    with pytest.raises(ConnectorError) as raised:
        list(make().read("leads", WINDOW))
    assert raised.value.kind == kind
    assert route.call_count == calls
    if kind == "throttled":
        assert all(wait >= 59 for wait in waits)


def test_a_throttle_that_takes_long_is_left_to_the_next_run(vendor, make):
    item = ERRORS[80000, 2446079]
    answer = httpx.Response(item["http_status"], headers=item["headers"], json=item["body"])
    route = vendor.get(f"{GRAPH}/{PAGE}/leadgen_forms").mock(return_value=answer)
    with pytest.raises(ConnectorError) as raised:
        list(make().read("leads", WINDOW))
    assert raised.value.kind == "throttled"
    assert route.call_count == 1


def test_the_token_is_not_in_an_error(vendor, make):
    vendor.get(f"{GRAPH}/{PAGE}/leadgen_forms").mock(
        return_value=failure(190, message=f"Malformed access token {TOKEN}")
    )
    with pytest.raises(ConnectorError, match="Malformed access token") as raised:
        list(make().read("leads", WINDOW))
    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, 0.0),
        ({"X-App-Usage": '{"call_count":28,"total_cputime":15,"total_time":12}'}, 0.0),
        ({"X-App-Usage": '{"call_count":28,"total_cputime":85,"total_time":12}'}, 5.0),
        ({"X-App-Usage": '{"call_count":96}'}, 60.0),
        ({"X-Ad-Account-Usage": '{"acc_id_util_pct":97.5,"reset_time_duration":170}'}, 170.0),
        ({"X-Fb-Ads-Insights-Throttle": '{"app_id_util_pct":0,"acc_id_util_pct":100}'}, 60.0),
        (ERRORS[80000, 2446079]["headers"], 19 * 60.0),
        ({"X-App-Usage": "nonsense"}, 0.0),
        ({"X-App-Usage": "[1]"}, 0.0),
    ],
)
def test_slows_down_before_the_limit(headers, wait_s):
    assert meta_ads_wire.pace(Answer(200, httpx.Headers(headers), b"{}", "/x")) == wait_s


# checks and options


def test_checks_token_forms_and_account(vendor, make, forms, account):
    vendor.get(f"{GRAPH}/me/accounts").mock(return_value=listing({"id": PAGE}))
    vendor.get(f"{GRAPH}/{FORM}/leads").mock(return_value=failure(200, status=403))
    vendor.get(f"{GRAPH}/{ACCOUNT}/campaigns").mock(return_value=listing())
    findings = make().check()
    assert [(finding.what, finding.ok) for finding in findings] == [
        ("access token", True),
        (f"lead forms of page {PAGE}", False),
        (f"ad account {ACCOUNT} (USD, America/Los_Angeles)", True),
    ]
    assert "permission" in findings[1].hint
    assert {call.request.method for call in vendor.calls} == {"GET"}


def test_a_dead_token_is_the_only_finding(vendor, make):
    vendor.get(f"{GRAPH}/me/accounts").mock(return_value=failure(190, 463))
    findings = make().check()
    assert [(finding.what, finding.ok) for finding in findings] == [("access token", False)]
    assert "expired" in findings[0].hint


def test_an_account_that_cannot_be_seen_is_named(vendor, make, forms):
    vendor.get(f"{GRAPH}/me/accounts").mock(return_value=listing())
    vendor.get(f"{GRAPH}/{FORM}/leads").mock(return_value=listing())
    vendor.get(f"{GRAPH}/{ACCOUNT}").mock(return_value=failure(100, 33))
    assert [(f.what, f.ok) for f in make().check()][-1] == (f"ad account {ACCOUNT}", False)


@pytest.mark.parametrize(
    "options",
    [{"account_id": "act_12x"}, {"account_id": ""}, {"version": "25"}, {"page_ids": ["me"]}, {"unknown": 1}],
)
def test_wrong_options_are_refused(make, options):
    with pytest.raises(pydantic.ValidationError) as raised:
        make(**options)
    assert TOKEN not in str(raised.value)


def test_an_account_may_be_given_without_its_prefix():
    assert meta_ads.Options(access_token=TOKEN, account_id="123").account_id == "act_123"


def test_an_unknown_stream_is_named(make):
    with pytest.raises(ConnectorError, match="'orders'"):
        make().read("orders", WINDOW)
