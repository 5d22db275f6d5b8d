"""Pulling: what is new, where a cursor may stand, how a range is cut, which stream waits for which."""

from __future__ import annotations

import hashlib
import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.contract import Cursor, RawRecord, Stream
from sync.pull import rules, seen
from sync.pull.rules import Head

T0 = datetime(2024, 3, 1, tzinfo=UTC)
times = st.integers(0, 1000).map(lambda m: T0 + timedelta(minutes=m))
cursors = st.builds(Cursor, at=st.none() | times, state=st.sampled_from([{}, {"page": 1}, {"page": 2}]))


def record(id_: str = "1", body: bytes = b"{}", *, hours: float | None = None, **more: object) -> RawRecord:
    version = None if hours is None else T0 + timedelta(hours=hours)
    return RawRecord(id_, body, version=version, **more)


def head(raw: RawRecord) -> Head:
    return Head(rules.seal(raw).digest, raw.version, raw.deleted)


def test_the_seal_of_a_record_covers_its_context_too():
    plain = rules.seal(record(body=b"abc"))
    assert plain.sha256 == plain.digest == hashlib.sha256(b"abc").digest()
    inside = rules.seal(record(body=b"abc", context={"b": 1, "a": 2}))
    assert inside.sha256 == plain.sha256
    assert inside.digest == hashlib.sha256(plain.sha256 + b'{"a":2,"b":1}').digest()
    assert rules.seal(record(body=b"abc", context={"a": 2, "b": 1})).digest == inside.digest


def test_of_several_versions_of_a_page_the_newest_counts():
    old, new = record(body=b"old", hours=1), record(body=b"new", hours=2)
    for records in ([old, new], [new, old]):
        assert [s.raw for s in rules.latest(records)] == [new]


def test_of_equal_versions_or_none_the_one_that_came_last_counts():
    for hours in (1, None):
        one, two = record(body=b"1", hours=hours), record(body=b"2", hours=hours)
        assert [s.raw for s in rules.latest([one, two])] == [two]
        assert [s.raw for s in rules.latest([two, one])] == [one]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=12))
def test_latest_keeps_one_record_an_id_and_none_is_lost(pairs):
    records = [record(str(i), b"%d" % n, hours=version) for n, (i, version) in enumerate(pairs)]
    kept = [s.raw for s in rules.latest(records)]
    assert [k.external_id for k in kept] == list(dict.fromkeys(r.external_id for r in records))
    for one in kept:
        same = [r for r in records if r.external_id == one.external_id]
        newest = max(r.version for r in same)
        assert one is [r for r in same if r.version == newest][-1]


@pytest.mark.parametrize(
    ("now", "before", "verdict"),
    [
        (record(hours=1), None, "new"),
        (record(hours=1), record(hours=1), "unchanged"),
        (record(hours=2), record(hours=1), "unchanged"),
        (record(body=b"x", hours=2), record(hours=1), "changed"),
        (record(body=b"x", hours=1), record(hours=1), "changed"),
        (record(body=b"x", hours=1), record(hours=2), "older"),
        (record(hours=1), record(hours=2), "older"),
        (record(body=b"x"), record(hours=2), "changed"),
        (record(body=b"x", hours=1), record(), "changed"),
        (record(hours=1, deleted=True), record(hours=1), "changed"),
        (record(hours=1), record(hours=1, deleted=True), "changed"),
        (record(hours=1, context={"parent": 2}), record(hours=1, context={"parent": 1}), "changed"),
    ],
)
def test_verdicts(now, before, verdict):
    assert rules.judge(rules.seal(now), head(before) if before else None) == verdict


@given(times, times, st.integers(0, 200))
def test_a_window_reaches_back_by_the_overlap_but_never_before_the_start(at, start, overlap):
    stream = Stream("orders", overlap=timedelta(minutes=overlap))
    now = T0 + timedelta(days=2)
    window = rules.window(stream, Cursor(at), start=start, now=now)
    assert window.since >= start
    assert window.since == start or window.since == at - timedelta(minutes=overlap)
    assert window.since <= max(at, start)
    assert (window.until, window.cursor) == (now, Cursor(at))


def test_a_first_run_and_a_full_stream_start_at_the_start():
    now, cursor = T0 + timedelta(days=9), Cursor(T0 + timedelta(days=5))
    assert rules.window(Stream("orders"), None, start=T0, now=now).since == T0
    assert rules.window(Stream("orders"), Cursor(state={"page": 2}), start=T0, now=now).since == T0
    whole = rules.window(Stream("products", full=True), cursor, start=T0, now=now)
    assert (whole.since, whole.cursor) == (T0, cursor)


@given(st.none() | cursors, st.none() | cursors, times)
def test_a_cursor_never_goes_back_nor_past_what_was_read(stored, offered, until):
    moved = rules.advance(stored, offered, until=until)
    if offered is None:
        assert moved is None
        return
    before = stored.at if stored else None
    if before is not None:
        assert moved.at >= before
    if moved.at is not None and moved.at != before:
        assert moved.at <= until
    if offered.at is not None:
        assert moved.at == max(min(offered.at, until), before or T0)
    else:
        assert moved.at == before
    assert moved.state == (offered.state or (stored.state if stored else {}))


@given(times, times, st.integers(1, 3))
def test_slices_cover_the_range_without_gaps_or_overlaps(since, until, days):
    cut = rules.slices(since, until, days=days)
    if since >= until:
        assert cut == []
        return
    assert (cut[0][0], cut[-1][1]) == (since, until)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(cut))
    assert all(timedelta(0) < end - begin <= timedelta(days=days) for begin, end in cut)
    assert all(end - begin == timedelta(days=days) for begin, end in cut[:-1])


NAMES = "abcdef"


@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=3)),
        max_size=6,
        unique_by=lambda s: s[0],
    )
)
def test_waves_respect_after_and_refuse_circles(declared):
    streams = [Stream(name, after=tuple(after)) for name, after in declared]
    try:
        waves = rules.waves(streams)
    except ValueError as error:
        waves, said = None, str(error)
    if waves is None:
        assert said.startswith("streams wait for each other: ")
        stuck = said.partition(": ")[2].split(", ")
        assert all(set(s.after) & set(stuck) for s in streams if s.name in stuck)
        return
    number = {s.name: i for i, wave in enumerate(waves) for s in wave}
    assert sorted(number) == sorted(s.name for s in streams)
    assert sum(map(len, waves)) == len(streams)
    for s in streams:
        earlier = [number[name] for name in s.after if name in number]
        assert all(n < number[s.name] for n in earlier)
        assert number[s.name] == 0 or number[s.name] - 1 in earlier


def test_a_stream_that_is_not_read_holds_nobody_back():
    assert rules.waves([Stream("refunds", after=("orders",))]) == [[Stream("refunds", after=("orders",))]]


@pytest.mark.parametrize("after", [{"a": ("b",), "b": ("a",)}, {"a": ("a",)}])
def test_a_circle_is_refused(after):
    with pytest.raises(ValueError, match="wait for each other"):
        rules.waves([Stream(name, after=names) for name, names in after.items()])


def test_the_vendor_counted_more_than_came():
    assert rules.count_problem("orders", None, 3) is None
    assert rules.count_problem("orders", 3, 3) is None
    assert rules.count_problem("orders", 3, 4) is None
    assert rules.count_problem("orders", 4, 3).startswith("orders: the vendor said 4 records, 3 came;")


def test_counts_as_a_line():
    assert rules.shape({"new": 12, "changed": 0, "quarantined": 1}) == "12 new, 1 quarantined"
    assert rules.shape({"new": 0}) == "nothing new"


@given(st.lists(st.text(max_size=3), max_size=300))
def test_distinct_counts_each_text_once(texts):
    came = seen.Distinct()
    for at in range(0, len(texts), 7):
        came.add(texts[at : at + 7])
    assert len(came) == len(set(texts))
    assert came.added == len(texts)
