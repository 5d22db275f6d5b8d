"""Due times: the clock on the wall in the workspace's zone, each time once, also when the clock is changed."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sync import schedule

WARSAW = ZoneInfo("Europe/Warsaw")
ZONES = [
    "UTC", "Europe/Warsaw", "America/New_York", "America/Havana", "Africa/Cairo", "Australia/Lord_Howe",
    "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia",
]  # fmt: skip
minutes = st.sampled_from(["*", "*/5", "*/45", "0", "30", "15,45", "7-59/13"])
hours = st.sampled_from(["*", "*/3", "0", "2", "1-3", "23", "2,3"])
dates = st.sampled_from(["* * *", "1 * *", "* * 0", "* * 1-5", "* 3,10 0"])
crons = st.tuples(minutes, hours, dates).map(" ".join)
# Every second of three years, and the hours around the changes of the clock more often.
instants = st.integers(0, 3 * 365 * 86_400).map(
    lambda s: datetime(2023, 1, 1, tzinfo=UTC) + timedelta(seconds=s)
) | st.builds(
    lambda day, s: datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(seconds=s),
    st.sampled_from(
        ["2024-03-31", "2024-10-27", "2024-03-10", "2024-11-03", "2024-04-06", "2024-10-05", "2024-04-25"]
    ),
    st.integers(0, 86_400),
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def run_all(cron: str, zone: ZoneInfo, first: str, last: str) -> list[str]:
    """Every due time after `first` and until `last`, as UTC clock times."""
    at, found = utc(first), []
    while (at := schedule.next_due(cron, zone, at)) <= utc(last):
        found.append(at.strftime("%d %H:%M"))
    return found


@settings(deadline=None)
@example(cron="15,30 2 * * *", name="Australia/Lord_Howe", after=utc("2024-10-05T15:00"))
@example(cron="30 2 * * *", name="Europe/Warsaw", after=utc("2024-03-31T00:59:59"))
@given(cron=crons, name=st.sampled_from(ZONES), after=instants)
def test_the_next_due_time_is_later_and_matches_the_wall_or_ends_a_gap(cron, name, after):
    zone = ZoneInfo(name)
    at = schedule.next_due(cron, zone, after)
    assert at > after
    assert at.utcoffset() == timedelta(0)
    assert (at.second, at.microsecond) == (0, 0)
    before = (at - timedelta(minutes=1)).astimezone(zone).utcoffset()
    jumped = at.astimezone(zone).utcoffset() > before
    assert jumped or schedule.croniter.match(cron, at.astimezone(zone).replace(tzinfo=None))


@settings(deadline=None)
@given(crons, st.sampled_from(ZONES), instants, st.integers(0, 86_400))
def test_asking_later_never_gives_an_earlier_time(cron, name, after, seconds):
    zone = ZoneInfo(name)
    early = schedule.next_due(cron, zone, after)
    late = schedule.next_due(cron, zone, after + timedelta(seconds=seconds))
    assert late >= early
    assert late == early or early <= after + timedelta(seconds=seconds)


@settings(deadline=None, max_examples=60)
@example(cron="15,30 2 * * *", name="Australia/Lord_Howe", after=utc("2024-10-05T15:00"))
@given(cron=crons, name=st.sampled_from(ZONES), after=instants)
def test_no_minute_of_the_wall_is_passed_over(cron, name, after):
    """Against every minute in between: one that the cron names was due, unless it is an hour's second pass."""
    zone = ZoneInfo(name)
    due = schedule.next_due(cron, zone, after)
    minute = after.replace(second=0) + timedelta(minutes=1)
    while minute < min(due, after + timedelta(hours=4)):
        wall = minute.astimezone(zone)
        assert wall.fold == 1 or not schedule.croniter.match(cron, wall.replace(tzinfo=None))
        minute += timedelta(minutes=1)


def test_a_part_of_a_second_does_not_matter():
    after = utc("2024-01-01T10:00:00.000001")
    assert schedule.next_due("0 * * * *", ZoneInfo("UTC"), after) == utc("2024-01-01T11:00")
    before = utc("2024-01-01T09:59:59.999999")
    assert schedule.next_due("0 * * * *", ZoneInfo("UTC"), before) == utc("2024-01-01T10:00")


def test_a_due_time_is_not_due_again():
    assert schedule.next_due("0 6 * * *", WARSAW, utc("2024-01-01T05:00")) == utc("2024-01-02T05:00")


class TestSpring:
    """Warsaw, 31 March 2024: after 01:59 comes 03:00 (01:00 UTC)."""

    def test_a_daily_run_in_the_missing_hour_runs_once_right_after_it(self):
        found = run_all("30 2 * * *", WARSAW, "2024-03-29T12:00", "2024-04-02T12:00")
        assert found == ["30 01:30", "31 01:00", "01 00:30", "02 00:30"]

    def test_an_hourly_run_has_23_runs_that_day(self):
        found = run_all("0 * * * *", WARSAW, "2024-03-30T22:59", "2024-03-31T21:59")
        assert len(found) == 23
        assert found[1:4] == ["31 00:00", "31 01:00", "31 02:00"]

    def test_what_the_missing_hour_would_have_run_is_run_once_at_its_end(self):
        found = run_all("*/20 * * * *", WARSAW, "2024-03-31T00:30", "2024-03-31T01:59")
        assert found == ["31 00:40", "31 01:00", "31 01:20", "31 01:40"]
        found = run_all("30 * * * *", WARSAW, "2024-03-31T00:00", "2024-03-31T02:59")
        assert found == ["31 00:30", "31 01:00", "31 01:30", "31 02:30"]

    def test_a_gap_of_half_an_hour(self):
        # Lord Howe, 6 October 2024: after 01:59 comes 02:30 (15:30 UTC of the day before).
        found = run_all(
            "15,30 2 * * *", ZoneInfo("Australia/Lord_Howe"), "2024-10-05T00:00", "2024-10-06T15:20"
        )
        assert found == ["05 15:30", "06 15:15"]


class TestAutumn:
    """Warsaw, 27 October 2024: the hour from 02:00 comes twice (00:00 and 01:00 UTC)."""

    def test_a_daily_run_in_the_repeated_hour_runs_once(self):
        found = run_all("30 2 * * *", WARSAW, "2024-10-25T12:00", "2024-10-29T12:00")
        assert found == ["26 00:30", "27 00:30", "28 01:30", "29 01:30"]

    def test_the_second_pass_of_the_hour_is_not_run(self):
        found = run_all("0 * * * *", WARSAW, "2024-10-26T21:59", "2024-10-27T22:59")
        assert len(found) == 24
        assert found[1:5] == ["26 23:00", "27 00:00", "27 02:00", "27 03:00"]

    def test_asked_within_the_second_pass(self):
        assert schedule.next_due("30 2 * * *", WARSAW, utc("2024-10-27T01:10")) == utc("2024-10-28T01:30")
        assert schedule.next_due("*/10 * * * *", WARSAW, utc("2024-10-27T01:10")) == utc("2024-10-27T02:00")


class TestCatchUp:
    """What was missed while nothing ran."""

    def due(self, catch_up: schedule.CatchUp, now: str, first: str = "2024-01-01T01:00"):
        times, upcoming = schedule.due_times(
            "0 * * * *", ZoneInfo("UTC"), first=utc(first), now=utc(now), catch_up=catch_up
        )
        return [t.hour for t in times], upcoming

    @pytest.mark.parametrize(
        ("catch_up", "now", "hours", "upcoming"),
        [
            ("one", "2024-01-01T00:59", [], "2024-01-01T01:00"),
            ("one", "2024-01-01T01:00", [1], "2024-01-01T02:00"),
            ("one", "2024-01-01T05:30", [5], "2024-01-01T06:00"),
            ("all", "2024-01-01T05:30", [1, 2, 3, 4, 5], "2024-01-01T06:00"),
            ("none", "2024-01-01T05:30", [], "2024-01-01T06:00"),
            ("none", "2024-01-01T05:02", [5], "2024-01-01T06:00"),
            ("none", "2024-01-01T05:02:01", [], "2024-01-01T06:00"),
        ],
    )
    def test_by_policy(self, catch_up, now, hours, upcoming):
        assert self.due(catch_up, now) == (hours, utc(upcoming))

    def test_never_more_than_a_hundred_and_those_the_latest(self):
        times, upcoming = schedule.due_times(
            "0 * * * *",
            ZoneInfo("UTC"),
            first=utc("2024-01-01T00:00"),
            now=utc("2024-01-20T00:30"),
            catch_up="all",
        )
        assert len(times) == schedule.CATCH_UP_MAX == 100
        assert times[-1] == utc("2024-01-20T00:00")
        assert times[0] == times[-1] - timedelta(hours=99)
        assert upcoming == utc("2024-01-20T01:00")

    @settings(deadline=None)
    @given(
        crons,
        st.sampled_from(ZONES),
        instants,
        st.integers(0, 2 * 86_400),
        st.sampled_from(["one", "all", "none"]),
    )
    def test_due_times_rise_and_lie_between_the_first_and_now(self, cron, name, start, seconds, catch_up):
        zone = ZoneInfo(name)
        first = schedule.next_due(cron, zone, start)
        now = first + timedelta(seconds=seconds)
        times, upcoming = schedule.due_times(cron, zone, first=first, now=now, catch_up=catch_up)
        assert len(times) <= (100 if catch_up == "all" else 1)
        assert all(first <= at <= now for at in times)
        assert all(a < b for a, b in itertools.pairwise(times))
        assert upcoming > now
        assert catch_up == "none" or times
        if times:
            assert schedule.next_due(cron, zone, times[-1]) == upcoming
