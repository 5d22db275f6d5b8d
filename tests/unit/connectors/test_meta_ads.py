"""Meta Ads at its edges: errors inside HTTP 400, cursors, a filter that is ignored, days of another zone."""

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
import respx

from connectors.ads import meta_ads, meta_ads_wire
from connectors.contract import Context, Page, Source, Window
from connectors.errors import ConnectorError
from connectors.http import Answer, Http

DATA = Path(__file__).parents[2] / "data" / "vendors" / "meta_ads"
HOST = "https://graph.facebook.com/v25.0"
TOKEN = "system-user-token-of-a-test"
SECRET = "app-secret-of-a-test"
ACCOUNT = "act_212551616838260"
FORM = "900000000000201"
SINCE = datetime(2026, 3, 1, tzinfo=UTC)
UNTIL = datetime(2026, 3, 10, 12, tzinfo=UTC)
WINDOW = Window(SINCE, UNTIL)


def sample(name: str) -> bytes:
    return (DATA / f"{name}.json").read_bytes()


def listed(*items: object, after: str | None = None) -> httpx.Response:
    """A list answer; with `after` it has a next page, whose ready address must not be used."""
    paging = {"cursors": {"before": "x", "after": after}, "next": "https://graph.facebook.com/wrong"}
    return httpx.Response(200, json={"data": items, **({"paging": paging} if after else {})})


def error(
    code: int, subcode: int = 0, status: int = 400, message: str = "", **more: object
) -> httpx.Response:
    body = {"message": message, "type": "OAuthException", "code": code, "error_subcode": subcode, **more}
    return httpx.Response(status, json={"error": body})


def lead(id: str, made: datetime) -> dict[str, object]:
    return {"id": id, "created_time": made.strftime("%Y-%m-%dT%H:%M:%S+0000"), "field_data": []}


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def vendor():
    with respx.mock(assert_all_called=False) as router:
        yield router


@pytest.fixture
def make(waits):
    clients: list[Http] = []

    def factory(settings):
        clients.append(Http(settings, sleep=waits.append))
        return clients[-1]

    def build(**options):
        context = Context("meta", ZoneInfo("Europe/Warsaw"), Path(), factory)
        asked = {"access_token": TOKEN, "account_id": ACCOUNT, **options}
        return meta_ads.MetaAds(meta_ads.Options.model_validate(asked), context)

    yield build
    for client in clients:
        client.close()


@pytest.fixture
def one_form(vendor):
    """One page with the sample's form."""
    vendor.get(f"{HOST}/me/accounts").mock(return_value=listed({"id": "77", "access_token": "page-token"}))
    vendor.get(f"{HOST}/77/leadgen_forms").respond(200, content=sample("answers/leadgen_forms_MADE_UP"))
    return vendor.get(f"{HOST}/{FORM}/leads")


def ids(pages: list[Page]) -> list[str]:
    return [record.external_id for page in pages for record in page.records]


def params(call) -> dict[str, str]:
    return dict(call.request.url.params)


def test_is_a_source(make):
    assert isinstance(make(), Source)


@pytest.mark.parametrize(
    "wrong", [{"account_id": "212"}, {"version": "25"}, {"page_size": 0}, {"token": "x"}]
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(pydantic.ValidationError):
        meta_ads.Options.model_validate({"access_token": TOKEN, "account_id": ACCOUNT, **wrong})


# leads


def test_leads_keep_their_bytes_and_get_what_the_form_knows(make, one_form):
    raw = sample("leads_MADE_UP")
    one_form.mock(
        side_effect=[
            httpx.Response(200, content=raw),
            httpx.Response(200, content=sample("answers/last_page_MADE_UP")),
        ]
    )
    pages = list(make().read("leads", WINDOW))
    assert ids(pages) == ["1202100000000101", "1202100000000102", "1202100000000103"]
    first = pages[0].records[0]
    assert first.body in raw
    assert json.loads(first.body) == json.loads(raw)["data"][0]
    assert first.context["form_name"] == "Spring form PL"
    assert first.context["question_types"]["phone_number"] == "PHONE"
    assert first.context["question_types"]["jaki_masz_budżet?"] == "CUSTOM"


def test_the_cursor_moves_only_at_the_end_of_all_forms(make, one_form):
    late, early = SINCE + timedelta(days=3), SINCE + timedelta(days=1)
    one_form.mock(side_effect=[listed(lead("2", late), after="A"), listed(lead("1", early))])
    pages = list(make().read("leads", WINDOW))
    assert [page.cursor is None for page in pages] == [True, True, False]
    assert pages[-1].cursor.at == late


def test_no_leads_move_no_cursor(make, one_form):
    one_form.mock(return_value=listed())
    assert all(page.cursor is None for page in make().read("leads", WINDOW))


def test_an_empty_page_with_a_next_one_is_followed(make, one_form):
    one_form.mock(side_effect=[listed(after="A"), listed(lead("1", SINCE))])
    assert ids(list(make().read("leads", WINDOW))) == ["1"]
    assert params(one_form.calls[1])["after"] == "A"
    assert "after" not in params(one_form.calls[0])


def test_the_filter_takes_unix_seconds_and_the_time_is_checked_here_too(make, one_form):
    """The filter is strict, and one that is not understood is ignored: then all leads come."""
    times = {
        "old": SINCE - timedelta(seconds=1),
        "first": SINCE,
        "last": UNTIL - timedelta(seconds=1),
        "next": UNTIL,
    }
    one_form.mock(return_value=listed(*(lead(id, made) for id, made in times.items())))
    assert ids(list(make().read("leads", WINDOW))) == ["first", "last"]
    (asked,) = json.loads(params(one_form.calls[0])["filtering"])
    assert asked == {
        "field": "time_created",
        "operator": "GREATER_THAN",
        "value": int(SINCE.timestamp()) - 1,
    }
    assert {"campaign_id", "campaign_name", "ad_id", "is_organic", "custom_disclaimer_responses"} <= set(
        params(one_form.calls[0])["fields"].split(",")
    )


def test_a_page_and_its_forms_are_read_with_the_pages_own_token_and_proof(make, vendor, one_form):
    one_form.mock(return_value=listed())
    list(make(app_secret=SECRET).read("leads", WINDOW))
    tokens = {call.request.url.path: call.request for call in vendor.calls}
    for path, token in (
        ("/v25.0/me/accounts", TOKEN),
        ("/v25.0/77/leadgen_forms", "page-token"),
        (f"/v25.0/{FORM}/leads", "page-token"),
    ):
        request = tokens[path]
        proof = hmac.new(SECRET.encode(), token.encode(), hashlib.sha256).hexdigest()
        assert request.headers["authorization"] == f"Bearer {token}"
        assert request.url.params["appsecret_proof"] == proof
        assert token not in str(request.url)


def test_without_an_app_secret_there_is_no_proof(make, one_form):
    one_form.mock(return_value=listed())
    list(make().read("leads", WINDOW))
    assert "appsecret_proof" not in params(one_form.calls[0])


def test_only_the_named_pages_are_read_even_when_no_list_of_pages_is_allowed(make, vendor):
    vendor.get(f"{HOST}/me/accounts").mock(return_value=error(200, status=403))
    forms = vendor.get(f"{HOST}/88/leadgen_forms").mock(return_value=listed())
    list(make(page_ids=("88",)).read("leads", WINDOW))
    assert forms.call_count == 1
    assert forms.calls[0].request.headers["authorization"] == f"Bearer {TOKEN}"


def test_without_named_pages_the_list_must_be_allowed(make, vendor):
    vendor.get(f"{HOST}/me/accounts").mock(return_value=error(200, status=403))
    with pytest.raises(ConnectorError) as caught:
        list(make().read("leads", WINDOW))
    assert caught.value.kind == "scope"


def test_a_form_that_refuses_stops_neither_the_others_nor_the_cursor_rule(make, vendor):
    vendor.get(f"{HOST}/me/accounts").mock(return_value=listed({"id": "77"}))
    vendor.get(f"{HOST}/77/leadgen_forms").mock(return_value=listed({"id": "1"}, {"id": "2"}, {"id": "2"}))
    vendor.get(f"{HOST}/1/leads").mock(return_value=error(100, 33))
    second = vendor.get(f"{HOST}/2/leads").mock(return_value=listed(lead("5", SINCE)))
    pages: list[Page] = []
    with pytest.raises(ConnectorError) as caught:
        pages.extend(make().read("leads", WINDOW))
    assert caught.value.kind == "config"
    assert second.call_count == 1

    pages = []
    with pytest.raises(ConnectorError):
        for page in make().read("leads", WINDOW):
            pages.append(page)
    assert ids(pages) == ["5"]
    assert all(page.cursor is None for page in pages)


def test_a_dead_token_stops_at_once(make, vendor):
    vendor.get(f"{HOST}/me/accounts").mock(return_value=listed({"id": "77"}, {"id": "78"}))
    dead = vendor.get(f"{HOST}/77/leadgen_forms").respond(400, content=sample("answers/error_190"))
    other = vendor.get(f"{HOST}/78/leadgen_forms").mock(return_value=listed())
    with pytest.raises(ConnectorError) as caught:
        list(make().read("leads", WINDOW))
    assert caught.value.kind == "credential"
    assert "password" in str(caught.value)
    assert (dead.call_count, other.call_count) == (1, 0)


def test_a_cursor_that_leads_nowhere_is_no_endless_walk(make, one_form):
    one_form.mock(return_value=listed(lead("1", SINCE), after="A"))
    with pytest.raises(ConnectorError) as caught:
        list(make().read("leads", WINDOW))
    assert caught.value.kind == "protocol"
    assert one_form.call_count == 2


def test_a_page_that_is_too_much_is_asked_for_by_halves(make, one_form, waits):
    too_much = error(1, status=500, message="Please reduce the amount of data you're asking for, then retry")
    one_form.mock(
        side_effect=[
            listed(lead("1", SINCE), after="A"),
            too_much,
            error(100, 1504018),
            listed(lead("2", SINCE)),
        ]
    )
    assert ids(list(make().read("leads", WINDOW))) == ["1", "2"]
    asked = [(params(call)["limit"], params(call).get("after")) for call in one_form.calls]
    assert asked == [("100", None), ("100", "A"), ("50", "A"), ("25", "A")]
    assert waits == []


def test_one_row_that_is_too_much_is_an_error(make, one_form):
    one_form.mock(return_value=error(2, 1504038))
    with pytest.raises(ConnectorError) as caught:
        list(make(page_size=2).read("leads", WINDOW))
    assert caught.value.kind == "too_large"
    assert one_form.call_count == 2


# campaigns


def test_campaigns_come_whole_with_the_archived_ones(make, vendor):
    raw = sample("campaigns_MADE_UP_TYPES")
    items = json.loads(raw)["data"]
    route = vendor.get(f"{HOST}/{ACCOUNT}/campaigns").mock(
        side_effect=lambda request: (
            listed() if "after" in request.url.params else httpx.Response(200, content=raw)
        )
    )
    pages = list(make().read("campaigns", WINDOW))
    assert ids(pages) == [item["id"] for item in items]
    assert pages[0].records[0].version == datetime.fromisoformat(items[0]["updated_time"])
    assert all(page.cursor is None for page in pages)
    (asked,) = json.loads(params(route.calls[0])["filtering"])
    assert {"ACTIVE", "PAUSED", "ARCHIVED", "DELETED"} <= set(asked["value"])


# spend


class Insights:
    """The account's figures: one row of each asked day, `until` included."""

    def __init__(self, vendor, zone: str = "America/Los_Angeles") -> None:
        account = json.loads(sample("answers/ad_account")) | {"timezone_name": zone}
        vendor.get(f"{HOST}/{ACCOUNT}").respond(200, json=account)
        self.route = vendor.get(f"{HOST}/{ACCOUNT}/insights").mock(side_effect=self.answer)
        self.ranges: list[tuple[str, str]] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.url.params["time_range"])
        self.ranges.append((asked["since"], asked["until"]))
        first, last = date.fromisoformat(asked["since"]), date.fromisoformat(asked["until"])
        rows = [
            {"date_start": str(first + timedelta(days=n)), "account_id": "212", "ad_id": "9", "spend": "1.20"}
            for n in range((last - first).days + 1)
        ]
        return listed(*rows)


def test_spend_is_asked_for_whole_days_of_the_accounts_zone(make, vendor):
    """Midnight UTC is still the day before in California; `until` is exclusive here and inclusive there."""
    insights = Insights(vendor)
    window = Window(datetime(2026, 3, 5, 3, tzinfo=UTC), datetime(2026, 3, 7, 8, tzinfo=UTC))
    pages = list(make().read("spend", window))
    assert insights.ranges == [("2026-03-04", "2026-03-06")]
    assert ids(pages) == ["2026-03-04|212|9", "2026-03-05|212|9", "2026-03-06|212|9"]
    asked = params(insights.route.calls[0])
    assert (asked["level"], asked["time_increment"]) == ("ad", "1")
    assert {"account_currency", "ad_id", "account_id", "spend"} <= set(asked["fields"].split(","))


def test_spend_of_today_is_asked_for_east_of_utc(make, vendor):
    insights = Insights(vendor, "Asia/Tokyo")
    list(make().read("spend", Window(datetime(2026, 3, 5, tzinfo=UTC), datetime(2026, 3, 5, 16, tzinfo=UTC))))
    assert insights.ranges == [("2026-03-05", "2026-03-06")]


def test_long_ranges_are_cut_and_no_day_is_asked_twice(make, vendor):
    insights = Insights(vendor, "UTC")
    window = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 7, 20, tzinfo=UTC))
    pages = list(make().read("spend", window))
    assert insights.ranges == [
        ("2026-01-01", "2026-03-31"),
        ("2026-04-01", "2026-06-29"),
        ("2026-06-30", "2026-07-19"),
    ]
    assert len(ids(pages)) == len(set(ids(pages))) == 200
    assert [page.cursor.at if page.cursor else None for page in pages] == [None, None, None, window.until]


def test_the_spend_cursor_is_the_end_of_the_last_day_with_figures(make, vendor):
    insights = Insights(vendor)
    insights.route.mock(
        side_effect=None,
        return_value=listed({"date_start": "2026-03-07", "account_id": "212", "ad_id": "9", "spend": "1"}),
    )
    *_, last = make().read("spend", Window(datetime(2026, 3, 5, tzinfo=UTC), UNTIL))
    # The night of the change to daylight saving time is the next one: midnight is still 8 hours behind.
    assert last.cursor.at == datetime(2026, 3, 8, 8, tzinfo=UTC)


def test_no_figures_move_no_cursor(make, vendor):
    insights = Insights(vendor)
    insights.route.mock(side_effect=None, return_value=listed())
    assert all(page.cursor is None for page in make().read("spend", WINDOW))


def test_days_beyond_the_vendors_history_are_not_asked_for():
    window = Window(datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 3, 31, 12, tzinfo=UTC))
    assert meta_ads.days(window, ZoneInfo("UTC")) == (date(2023, 3, 1), date(2026, 3, 31))


def test_an_unknown_zone_is_told(make, vendor):
    Insights(vendor, "Mars/Olympus")
    with pytest.raises(ConnectorError) as caught:
        list(make().read("spend", WINDOW))
    assert caught.value.kind == "protocol"
    assert "Mars/Olympus" in str(caught.value)


# errors


def answer_of(response: httpx.Response, **headers: object) -> Answer:
    shown = httpx.Headers({name.replace("_", "-"): json.dumps(value) for name, value in headers.items()})
    return Answer(response.status_code, shown, response.content, "/v25.0/x")


@pytest.mark.parametrize(
    ("response", "kind", "retry"),
    [
        (error(4), "throttled", True),
        (error(17, 2446079), "throttled", True),
        (error(613), "throttled", True),
        (error(80005), "throttled", True),
        (error(80014), "throttled", True),
        (error(100, 1504022), "throttled", True),
        (error(190, 463), "credential", False),
        (error(102), "credential", False),
        (error(10), "scope", False),
        (error(200, status=403), "scope", False),
        (error(299), "scope", False),
        (error(3), "scope", False),
        (error(1, status=500), "vendor", True),
        (error(2), "vendor", True),
        (error(100, 99), "vendor", True),
        (error(12345, is_transient=True), "vendor", True),
        (error(12345, status=503), "vendor", True),
        (httpx.Response(502, text="<html>"), "vendor", True),
        (error(2, 1504041), "config", False),
        (error(2, 1504038), "too_large", False),
        (error(1, status=500, message="Please reduce the amount of data"), "too_large", False),
        (error(100), "config", False),
        (error(100, 33), "config", False),
    ],
)
def test_the_codes_in_the_body_decide(response, kind, retry):
    problem = meta_ads_wire.classify(answer_of(response))
    assert problem is not None
    assert (problem.kind, problem.retry) == (kind, retry)


def test_the_sample_errors_are_told_apart():
    kinds = []
    for entry in json.loads(sample("answers/errors_MADE_UP")):
        answer = Answer(
            entry["http_status"],
            httpx.Headers(entry.get("headers")),
            json.dumps(entry["body"]).encode(),
            "/x",
        )
        problem = meta_ads_wire.classify(answer)
        assert problem is not None
        kinds.append((problem.kind, problem.wait_s))
    assert kinds == [
        ("throttled", 19 * 60.0),
        ("credential", None),
        ("scope", None),
        ("config", None),
        ("too_large", None),
    ]


def test_a_missing_right_is_named():
    message = "(#200) Requires leads_retrieval permission to manage the object"
    problem = meta_ads_wire.classify(answer_of(error(200, status=403, message=message)))
    assert problem is not None
    assert "leads_retrieval" in problem.hint


def test_the_vendors_text_does_not_reach_an_error(make, vendor):
    """It repeats a malformed token."""
    vendor.get(f"{HOST}/me/accounts").mock(
        return_value=error(190, message="Malformed access token page-token-7")
    )
    with pytest.raises(ConnectorError) as caught:
        list(make().read("leads", WINDOW))
    assert "page-token-7" not in str(caught.value)


def test_throttling_is_waited_for_and_then_goes_on(make, one_form, waits):
    one_form.mock(side_effect=[error(80005), listed(lead("1", SINCE))])
    assert ids(list(make().read("leads", WINDOW))) == ["1"]
    assert max(waits) >= 59


def test_a_long_wait_is_left_to_the_next_run(make, one_form, waits):
    usage = json.dumps({"77": [{"call_count": 100, "estimated_time_to_regain_access": 19}]})
    response = error(80005)
    response.headers["X-Business-Use-Case-Usage"] = usage
    one_form.mock(return_value=response)
    with pytest.raises(ConnectorError) as caught:
        list(make().read("leads", WINDOW))
    assert caught.value.kind == "throttled"
    assert one_form.call_count == 1


@pytest.mark.parametrize(
    ("headers", "at_least", "at_most"),
    [
        ({}, 0, 0),
        ({"x_app_usage": {"call_count": 74, "total_time": 20, "total_cputime": 3}}, 0, 0),
        ({"x_app_usage": {"call_count": 80, "total_time": 20, "total_cputime": 3}}, 1, 10),
        ({"x_app_usage": {"call_count": 10, "total_time": 96, "total_cputime": 3}}, 60, 60),
        (
            {"x_business_use_case_usage": {"7": [{"call_count": 95, "estimated_time_to_regain_access": 3}]}},
            180,
            180,
        ),
        ({"x_ad_account_usage": {"acc_id_util_pct": 99.5, "reset_time_duration": 100}}, 100, 100),
        ({"x_fb_ads_insights_throttle": {"app_id_util_pct": 0, "acc_id_util_pct": 85}}, 1, 10),
        ({"x_app_usage": ["nothing", "known"]}, 0, 0),
    ],
)
def test_the_usage_headers_slow_the_calls(headers, at_least, at_most):
    assert at_least <= meta_ads_wire.pace(answer_of(httpx.Response(200, json={}), **headers)) <= at_most


def test_a_usage_header_that_is_no_json_is_passed_over():
    answer = Answer(200, httpx.Headers({"x-app-usage": "{"}), b"{}", "/x")
    assert meta_ads_wire.pace(answer) == 0


# check


def test_check_names_account_zone_and_forms(make, vendor, one_form):
    Insights(vendor).route.mock(side_effect=None, return_value=listed())
    vendor.get(f"{HOST}/me").respond(200, json={"id": "1"})
    vendor.get(f"{HOST}/{ACCOUNT}/campaigns").mock(return_value=listed())
    one_form.mock(return_value=error(200, status=403, message="Requires leads_retrieval permission"))
    findings = {finding.what: finding for finding in make().check()}
    wrong = [what for what, finding in findings.items() if not finding.ok]
    assert wrong == ["leads of page 77"]
    assert "leads_retrieval" in findings["leads of page 77"].hint
    assert f"ad account {ACCOUNT} (USD, days of America/Los_Angeles)" in findings
    assert {"token", "campaigns", "spend", "lead forms of page 77"} <= findings.keys()


def test_check_tells_each_thing_that_fails(make, vendor):
    vendor.get(url__startswith=HOST).respond(400, content=sample("answers/error_190"))
    findings = make().check()
    assert [finding.ok for finding in findings] == [False] * len(findings)
    assert {finding.what for finding in findings} == {"token", f"ad account {ACCOUNT}", "pages"}


def test_check_without_a_page_says_so(make, vendor):
    Insights(vendor).route.mock(side_effect=None, return_value=listed())
    vendor.get(f"{HOST}/me").respond(200, json={"id": "1"})
    vendor.get(f"{HOST}/{ACCOUNT}/campaigns").mock(return_value=listed())
    vendor.get(f"{HOST}/me/accounts").mock(return_value=listed())
    assert [finding.what for finding in make().check() if not finding.ok] == ["pages"]


def test_an_unknown_stream_is_refused(make):
    with pytest.raises(ConnectorError):
        list(make().read("orders", WINDOW))
