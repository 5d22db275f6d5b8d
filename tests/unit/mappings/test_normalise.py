"""Values as vendors write them, and properties that hold for all of them."""

import contextlib
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mappings import currencies, normalise, unfit
from mappings.unfit import Unfit

WARSAW = ZoneInfo("Europe/Warsaw")
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FUNCTIONS = [
    normalise.text,
    normalise.html_text,
    normalise.email,
    normalise.decimal,
    normalise.decimal_text,
    normalise.integer,
    normalise.boolean,
    normalise.time_iso,
    lambda value: normalise.time_epoch(value, per_second=1),
    lambda value: normalise.time_epoch(value, per_second=1000),
    normalise.day,
    normalise.click_ids,
    normalise.currency_code,
    lambda value: normalise.phone(value, "PL"),
    lambda value: normalise.money(value, "PLN"),
    lambda value: normalise.url_param(value, "utm_source"),
]


@given(value=anything, function=st.sampled_from(FUNCTIONS))
@example(Decimal("Infinity"), normalise.integer)
@example(Decimal("sNaN"), normalise.decimal)
@example(Decimal("1E+999999"), normalise.text)
@example("http://[::1?gclid=x", normalise.click_ids)
def test_any_value_is_normalised_or_unfit_and_never_anything_else(value, function):
    with contextlib.suppress(Unfit):
        function(value)


@given(st.text())
def test_text_is_trimmed_storable_bounded_and_stable(value):
    result = normalise.text(value)
    assert result is None or (result == result.strip() and "\0" not in result and len(result) <= 10_000)
    assert normalise.text(result) == result
    if result:
        result.encode("utf-8")


def test_text_drops_nul_and_lone_surrogates_and_cuts():
    assert normalise.text(" a\x00b\ud800c ") == "abc"
    assert len(normalise.text("x" * 10_001)) == 10_000
    assert normalise.text("  ") is None
    assert (normalise.text(12), normalise.text(True), normalise.text(Decimal("1.50"))) == (
        "12",
        "true",
        "1.50",
    )


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("  Anna.Nowak@Example.COM ", "anna.nowak@example.com"),
        ("anna@żółw.pl", "anna@xn--w-uga1v8h.pl"),
        ("ANNA@ŻÓŁW.PL", "anna@xn--w-uga1v8h.pl"),
        ("e\u0301@example.com", "\u00e9@example.com"),
        ("\ufeffa@example.com\u200b", "a@example.com"),
        ("a.b+c@gmail.com", "a.b+c@gmail.com"),
        ("", None),
    ],
)
def test_email(given_text, expected):
    assert normalise.email(given_text) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        *("brak", "a@b", "a@@example.com", "a@b@example.com", "@example.com", "a b@example.com", "a@-x.com"),
        *(
            "Anna <a@example.com>",
            "a@example..com",
            "a@exa mple.com",
            "a@example.com.",
            f"{'x' * 65}@example.com",
        ),
        *("a@example.com,b@example.com", "a\u200bb@example.com", 12, True, ["a@example.com"]),
    ],
)
def test_email_refuses(wrong):
    with pytest.raises(Unfit) as caught:
        normalise.email(wrong)
    assert "example.com" not in caught.value.wrong


@given(st.emails() | st.tuples(st.text(max_size=10), st.text(max_size=10)).map("@".join))
def test_email_is_stable(value):
    try:
        once = normalise.email(value)
    except Unfit:
        return
    assert once is None or normalise.email(once) == once


def test_gmail_key_only_by_the_rules_that_are_on():
    address = "a.b+shop@googlemail.com"
    assert normalise.canonical_gmail(address, dots=True, plus=True) == "ab@gmail.com"
    assert normalise.canonical_gmail(address, dots=False, plus=True) == "a.b@gmail.com"
    assert normalise.canonical_gmail(address, dots=True, plus=False) == "ab+shop@gmail.com"
    assert normalise.canonical_gmail(address, dots=False, plus=False) == address
    assert normalise.canonical_gmail("a.b+c@example.com", dots=True, plus=True) == "a.b+c@example.com"
    assert normalise.canonical_gmail("+x@gmail.com", dots=True, plus=True) == "+x@gmail.com"


@pytest.mark.parametrize(
    ("raw", "region", "expected"),
    [
        ("601 000 000", "PL", "+48601000000"),
        ("+48 601-000-000", None, "+48601000000"),
        ("0048601000000", "PL", "+48601000000"),
        ("(55) 5555-5555", "br", "+555555555555"),
        (48601000000, "PL", "+48601000000"),
        ("601 000 000", None, None),
        ("brak", "PL", None),
        ("", "PL", None),
        ("<test lead: dummy data for phone_number>" * 2, "PL", None),
        (["601000000"], "PL", None),
        (True, "PL", None),
        ("601000000", "XX", None),
    ],
)
def test_phone(raw, region, expected):
    assert normalise.phone(raw, region) == expected


@pytest.mark.parametrize(
    ("raw", "currency", "minor", "exact"),
    [
        ("12.34", "PLN", 1234, None),
        ("12.340", "pln", 1234, None),
        ("-0.005", "PLN", 0, Decimal("-0.005")),
        ("0.015", "PLN", 2, Decimal("0.015")),
        ("12.20", "JPY", 12, Decimal("12.20")),
        ("13", "JPY", 13, None),
        ("1.234", "KWD", 1234, None),
        ("1.2345", "CLF", 12345, None),
        (12, "PLN", 1200, None),
        (Decimal("19.9"), "EUR", 1990, None),
        ("0", "PLN", 0, None),
        (".5", "PLN", 50, None),
    ],
)
def test_money(raw, currency, minor, exact):
    assert normalise.money(raw, currency) == (minor, exact)


@pytest.mark.parametrize(
    "wrong",
    [
        *("1 234,50", "1,234.50", "12,50", "NaN", "Infinity", "1e5", "12.50 zł", "١٢", "0x10", "--1", "."),
        *(12.5, True, Decimal("NaN"), Decimal("Infinity"), Decimal("24.380000000000003"), [], "9" * 30),
    ],
)
def test_money_refuses_and_says_what_would_be_right(wrong):
    with pytest.raises(Unfit) as caught:
        normalise.money(wrong, "PLN")
    assert caught.value.right


@pytest.mark.parametrize("currency", ["XXX", "ZZZ", "", None, "PL", "zł"])
def test_money_refuses_unknown_currencies(currency):
    with pytest.raises(Unfit):
        normalise.money("1.00", currency)


@pytest.mark.parametrize(
    ("raw", "minor"),
    [("1 234,50", 123450), ("1.234,50", 123450), ("1\u00a0234", 123400), ("-12,5", -1250), ("7", 700)],
)
def test_money_with_a_decimal_comma(raw, minor):
    assert normalise.money(raw, "PLN", decimal_comma=True) == (minor, None)


@pytest.mark.parametrize("wrong", ["12.50", "1,234.50", "12 34,00"])
def test_decimal_comma_refuses_points(wrong):
    with pytest.raises(Unfit):
        normalise.decimal(wrong, decimal_comma=True)


@given(minor=st.integers(-(2**63) + 1, 2**63 - 1), code=st.sampled_from(sorted(currencies.EXPONENTS)))
def test_money_comes_back_from_its_text(minor, code):
    text = format(Decimal(minor).scaleb(-currencies.exponent(code)), "f")
    assert normalise.money(text, code) == (minor, None)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9))
def test_money_is_exact_or_says_what_it_lost(amount):
    minor, exact = normalise.money(format(amount, "f"), "PLN")
    assert abs(Decimal(minor) / 100 - amount) <= Decimal("0.005")
    assert (exact is None) == (Decimal(minor) / 100 == amount)
    assert exact is None or exact == amount


def test_currencies_follow_iso_where_cldr_differs():
    wanted = {"HUF": 2, "ISK": 0, "IQD": 3, "UGX": 0, "TWD": 2, "CLF": 4, "KRW": 0, "PLN": 2}
    assert {code: currencies.exponent(code) for code in wanted} == wanted
    assert all(len(code) == 3 and code.isupper() for code in currencies.EXPONENTS)
    assert len(currencies.EXPONENTS) > 170


@pytest.mark.parametrize(
    ("raw", "zone", "expected"),
    [
        ("2015-02-28T08:49:14+0000", None, "2015-02-28T08:49:14"),
        ("2023-03-08T14:18:45-0800", None, "2023-03-08T22:18:45"),
        ("2026-09-14T10:02:31.907Z", None, "2026-09-14T10:02:31.907000"),
        ("2026-09-14T10:02:31.123456789z", None, "2026-09-14T10:02:31.123456"),
        ("2026-09-14 10:02+02", None, "2026-09-14T08:02:00"),
        ("2026-09-14T10:02:31 +02:00", None, "2026-09-14T08:02:31"),
        ("2026-09-14T10:02:31", WARSAW, "2026-09-14T08:02:31"),
        ("2026-09-14", WARSAW, "2026-09-13T22:00:00"),
        ("2026-09-14T10:02:31Z", WARSAW, "2026-09-14T10:02:31"),
        # Comes twice on the day the clocks go back: the first one.
        ("2026-10-25T02:30:00", WARSAW, "2026-10-25T00:30:00"),
        # Never was, on the day they go forward: 03:30.
        ("2026-03-29T02:30:00", WARSAW, "2026-03-29T01:30:00"),
    ],
)
def test_time(raw, zone, expected):
    assert normalise.time_iso(raw, zone) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong",
    [
        *("2026-09-14T10:02:31", "2026-02-30T00:00:00Z", "0000-00-00T00:00:00Z", "0001-01-01T00:00:00Z"),
        *(
            "2026-09-14T24:00:00Z",
            "2026-09-14T10:02:31+25:00",
            "14.09.2026",
            "1789984800",
            "2026-W01-1",
            True,
        ),
        *(
            "9999-12-31T23:59:59Z",
            "2026-09-14T10:02:31+99:99",
            1789984800,
            ["2026-09-14"],
            "２０２６-01-01T00:00Z",
        ),
    ],
)
def test_time_refuses(wrong):
    with pytest.raises(Unfit):
        normalise.time_iso(wrong)


@given(
    st.datetimes(min_value=datetime(1990, 1, 2), max_value=datetime(2199, 12, 30)),
    st.timedeltas(min_value=timedelta(hours=-14), max_value=timedelta(hours=14)),
)
def test_time_reads_what_python_writes(naive, offset):
    minutes = int(offset.total_seconds() // 60)
    text = f"{naive.isoformat()}{'+' if minutes >= 0 else '-'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    moment = normalise.time_iso(text)
    assert moment == datetime.fromisoformat(text)
    assert moment.tzinfo is UTC
    assert normalise.time_iso(moment) == moment


@given(st.datetimes(datetime(1990, 1, 2), datetime(2199, 12, 30)))
def test_local_times_go_to_utc_and_back_unless_they_never_were(naive):
    back = normalise.time_iso(naive.isoformat(), WARSAW).astimezone(WARSAW).replace(tzinfo=None)
    assert back == naive or back - naive == timedelta(hours=1)


def test_epoch():
    moment = datetime(2026, 9, 21, 10, 0, tzinfo=UTC)
    assert normalise.time_epoch("1789984800", per_second=1) == moment
    assert normalise.time_epoch(1789984800000, per_second=1000) == moment
    assert normalise.time_epoch(Decimal("1789984800.25"), per_second=1) == moment + timedelta(
        milliseconds=250
    )


@pytest.mark.parametrize(
    ("raw", "per_second"), [(1789984800000, 1), (1789984800, 1000), (-1, 1), ("soon", 1), (0, 1), (10**40, 1)]
)
def test_epoch_in_the_wrong_unit_is_refused(raw, per_second):
    with pytest.raises(Unfit):
        normalise.time_epoch(raw, per_second=per_second)


def test_day():
    assert normalise.day("2021-03-01") == normalise.day("2021-03-01T00:00:00") == date(2021, 3, 1)
    for wrong in ("2021-02-30", "2021-03-01T10:00:00", "2021-03-01T00:00:00Z", "01.03.2021", "1900-01-01", 5):
        with pytest.raises(Unfit):
            normalise.day(wrong)


def test_bool():
    assert [normalise.boolean(value) for value in ("1", 1, True, "true", "Yes")] == [True] * 5
    assert [normalise.boolean(value) for value in ("", 0, False, "false", "NO", None)] == [False] * 6
    for wrong in ("maybe", 2, []):
        with pytest.raises(Unfit):
            normalise.boolean(wrong)


def test_int():
    assert [normalise.integer(value) for value in (5, "5", " -5 ", Decimal("5.0"), "5.00")] == [
        5,
        5,
        -5,
        5,
        5,
    ]
    for wrong in (True, "5.5", "5,0", Decimal("5.5"), Decimal("1E+100000"), 2**63, "٥", "1e3"):
        with pytest.raises(Unfit):
            normalise.integer(wrong)


def test_click_ids():
    url = "https://shop.example/?utm_source=x&GCLID=Ab-1&fbclid=IwAR0&amp;msclkid=7&gclid=Ab-1&li_fat_id=#gclid=no"
    assert normalise.click_ids(url) == ("gclid:Ab-1", "fbclid:IwAR0", "msclkid:7")
    assert normalise.click_ids("/p?mc_eid=42d6d67d11&mc_cid=5dfc22e163") == ("mc_eid:42d6d67d11",)
    assert normalise.click_ids("/p?mc_eid=*%7CUNIQID%7C*&gclid={gclid}") == ()
    assert normalise.click_ids(f"/p?gclid={'x' * 513}") == ()
    assert normalise.click_ids(f"/p?gclid=1&{'a=1&' * 300}") == ()
    assert normalise.click_ids(None) == normalise.click_ids("gclid=1") == ()


def test_url_param():
    url = "https://e.com/?utm_source=a%20b&UTM_Medium=c+d&utm_source=z"
    assert normalise.url_param(url, "utm_source") == "a b"
    assert normalise.url_param(url, "utm_medium") == "c d"
    assert normalise.url_param(url, "utm_term") is None


def test_html_text():
    assert normalise.html_text("Towar 9 &amp; <b>ó</b>") == "Towar 9 & ó"
    assert normalise.html_text("a < b") == "a < b"


def test_shape():
    assert unfit.shape("Anna Żak 7") == 'text "aaaa aaa 9"'
    assert unfit.shape(Decimal("-12.5")) == 'number "-99.9"'
    assert unfit.shape("x" * 50) == f'text "{"a" * 40}" (50 characters)'
    found = [unfit.shape(value) for value in (None, True, [1], {"anna": 1})]
    assert found == ["nothing", "true", "a list of 1", "an object with 1 names"]


@given(anything)
def test_shape_never_shows_a_letter_or_digit_of_a_text(value):
    said = unfit.shape(value)
    assert len(said) < 80
    if isinstance(value, str):
        masked = said.split('"', 1)[1].rsplit('"', 1)[0]
        assert not any(char.isalnum() and char not in "a9" for char in masked)
