"""The period of a report: whole business days, in the workspace's zone."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.report import period
from sync.report.period import Period

WARSAW = ZoneInfo("Europe/Warsaw")
days = st.dates(date(1, 1, 1), date(9998, 12, 31))


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("2018", date(2018, 1, 1), date(2019, 1, 1)),
        ("2018-Q1", date(2018, 1, 1), date(2018, 4, 1)),
        ("2018q4", date(2018, 10, 1), date(2019, 1, 1)),
        ("2018-12", date(2018, 12, 1), date(2019, 1, 1)),
        ("2018-02", date(2018, 2, 1), date(2018, 3, 1)),
        (" 2018-03-09 ", date(2018, 3, 9), date(2018, 3, 10)),
        ("2018-12-31", date(2018, 12, 31), date(2019, 1, 1)),
        ("2018-03-09..2018-04-15", date(2018, 3, 9), date(2018, 4, 16)),
        ("2018-03-09..2018-03-09", date(2018, 3, 9), date(2018, 3, 10)),
    ],
)
def test_periods(text, since, until):
    assert period.parse(text) == Period(since, until)


def test_none_is_ever():
    ever = period.parse(None)
    assert ever is period.EVER
    for zone in (WARSAW, ZoneInfo("Pacific/Kiritimati"), ZoneInfo("Pacific/Niue")):
        since, until = ever.bounds(zone)
        assert since < datetime(1971, 1, 1, tzinfo=UTC) < datetime(9997, 1, 1, tzinfo=UTC) < until


@pytest.mark.parametrize(
    "text",
    [
        "", "18", "2018-13", "2018-00", "2018-Q5", "2018-Q0", "2018-02-30", "2018-3", "last month", "0000",
        "2018-04-15..2018-03-09", "2018-03..2018-04", "9999", "9999-12", "9999-12-31", "2018-03-09..", "-2018",
    ],
)  # fmt: skip
def test_what_is_no_period_is_refused_with_what_would_be_right(text):
    with pytest.raises(ValueError, match=r"is not a period: write 2018, 2018-Q1, 2018-03, .*") as caught:
        period.parse(text)
    assert str(caught.value).startswith(repr(text))


@given(st.text(max_size=12))
def test_any_text_is_a_period_or_refused(text):
    try:
        found = period.parse(text)
    except ValueError:
        return
    assert found.since < found.until


@given(days, days)
def test_a_range_includes_both_days(one, other):
    first, last = sorted((one, other))
    assert period.parse(f"{first}..{last}") == Period(first, last + timedelta(days=1))


@given(st.integers(1, 9998))
def test_the_months_and_quarters_of_a_year_follow_each_other(year):
    whole = period.parse(f"{year:04}")
    for parts in ([f"{year:04}-{m:02}" for m in range(1, 13)], [f"{year:04}-Q{q}" for q in range(1, 5)]):
        periods = [period.parse(part) for part in parts]
        assert (periods[0].since, periods[-1].until) == (whole.since, whole.until)
        assert all(a.until == b.since for a, b in itertools.pairwise(periods))


@pytest.mark.parametrize(
    ("day", "hours"), [("2024-03-30", 24), ("2024-03-31", 23), ("2024-10-27", 25), ("2024-10-28", 24)]
)
def test_a_business_day_of_a_clock_change_has_23_or_25_hours(day, hours):
    since, until = period.parse(day).bounds(WARSAW)
    assert until - since == timedelta(hours=hours)


def test_bounds_are_the_instants_of_midnight_in_the_zone():
    since, until = period.parse("2024-07").bounds(WARSAW)
    assert since == datetime(2024, 6, 30, 22, tzinfo=UTC)
    assert until == datetime(2024, 7, 31, 22, tzinfo=UTC)
    assert since.utcoffset() == timedelta(0)


def test_a_day_that_has_no_midnight_begins_when_the_clock_jumps():
    # Cairo moved from 00:00 to 01:00 on 26 April 2024.
    since, until = period.parse("2024-04-26").bounds(ZoneInfo("Africa/Cairo"))
    assert since == datetime(2024, 4, 25, 22, tzinfo=UTC)
    assert until - since == timedelta(hours=23)


@given(
    st.dates(date(1990, 1, 1), date(2037, 1, 1)),
    st.sampled_from(["Europe/Warsaw", "America/Havana", "Asia/Beirut"]),
)
def test_days_follow_each_other_without_a_gap(day, name):
    zone = ZoneInfo(name)
    one, two = period.parse(day.isoformat()), period.parse((day + timedelta(days=1)).isoformat())
    assert one.bounds(zone)[1] == two.bounds(zone)[0]
    assert timedelta(hours=22) < one.bounds(zone)[1] - one.bounds(zone)[0] < timedelta(hours=26)
