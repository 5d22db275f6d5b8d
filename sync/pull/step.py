"""The pull: vendor → evidence → canonical. What a few pages brought, what was mapped from it and the new
cursor commit in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy.engine import Connection, Engine

from connectors.contract import NAMED_MAX, Cursor, Findable, Page, Source, Stream, Window
from connectors.errors import ConnectorError
from mappings.engine import Mapping
from sync import runs
from sync.pull import pages, rules, seen, store
from sync.store import canonical

log = structlog.get_logger()

REMAP_BATCH = 2_000
PARALLEL_STREAMS = 3
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """All that a pull of one connector needs. `start` is the config's `from:`, UTC."""

    connector: str
    source: Source
    mapping: Mapping
    streams: Sequence[Stream]
    start: datetime
    zone: ZoneInfo
    phone_region: str | None
    _fingerprints: dict[str, str] = field(default_factory=dict, repr=False)

    def fingerprint(self, stream: str) -> str:
        """Changes when the stream's records could map otherwise; worked out once a stream."""
        if stream not in self._fingerprints:
            parts = (self.mapping.fingerprint(stream), self.phone_region or "", self.zone.key)
            self._fingerprints[stream] = "|".join(parts)
        return self._fingerprints[stream]


def pull(engine: Engine, run: runs.Run, plan: Plan, *, now: datetime, say: Say) -> None:
    """Read what changed in every stream of `plan`, in the order of what depends on what.

    A stream that fails is noted in `run.errors` and does not stop the others; what it committed before stays,
    and its next run goes on from there.
    """
    for wave in rules.waves(plan.streams):
        with ThreadPoolExecutor(max_workers=min(PARALLEL_STREAMS, len(wave))) as pool:
            jobs = [pool.submit(copy_context().run, _live, engine, run, plan, s, now, say) for s in wave]
        for job in jobs:
            job.result()


def _live(engine: Engine, run: runs.Run, plan: Plan, stream: Stream, now: datetime, say: Say) -> None:
    with engine.connect() as connection:
        cursor, mapped_with = store.read_cursor(connection, plan.connector, stream.name)
        # Records that only a backfill brought have no mark of the mapping that made them.
        unmarked = mapped_with is None and store.has_heads(connection, plan.connector, stream.name)
    if unmarked or mapped_with not in (None, plan.fingerprint(stream.name)):
        remap(engine, run, plan, stream.name, say=say)
    window = rules.window(stream, cursor, start=plan.start, now=now)
    read(engine, run, plan, stream, window, live=True, say=say)


def read(
    engine: Engine,
    run: runs.Run,
    plan: Plan,
    stream: Stream,
    window: Window,
    *,
    live: bool,
    say: Say,
) -> bool:
    """Read one window of one stream; `live` moves the cursor. Returns whether it was read to its end."""
    stored = window.cursor
    came = seen.Distinct()
    rows: set[str] = set()  # of a snapshot only, whose window is a matter of weeks
    said: int | None = None
    before = stored
    try:
        for page in pages.batches(plan.source.read(stream.name, window)):
            run.go_on()
            cursor = rules.advance(stored, page.cursor, until=window.until) if live else None
            with engine.begin() as connection:
                _commit_page(connection, run, plan, stream, page, cursor, live=live)
            stored = cursor or stored
            came.add(record.external_id for record in page.records)
            if stream.snapshot:
                rows.update(record.external_id for record in page.records)
            said = page.said if page.said is not None else said
            if page.records:
                say(f"{plan.connector}: {came.added:,} {stream.name}")
        if stream.snapshot:
            _withdraw(engine, run, plan, stream, window, rows)
    except ConnectorError as error:
        run.errors.append((f"{stream.name}: {error.message}", error.hint))
        log.error("stream_failed", stream=stream.name, kind=error.kind, error=error.message, todo=error.hint)
        return False
    finally:
        run.cursors[stream.name] = {"before": _text(before), "after": _text(stored)}
    problem = rules.count_problem(stream.name, said, len(came)) if said is not None else None
    if problem:
        run.problems.append(problem)
        log.warning("count_differs", stream=stream.name, said=said, came=len(came))
    return True


def read_named(
    engine: Engine, run: runs.Run, plan: Plan, stream: Stream, ids: Sequence[str], *, say: Say
) -> None:
    """Read these records again, wherever the cursor stands: what was deleted, or edited without its time of change
    moving, is found no other way. Raises a `ConnectorError`; what was read before stays."""
    source = plan.source
    assert isinstance(source, Findable), "the caller asked for a connector that shows named records"
    for at in range(0, len(ids), NAMED_MAX):
        run.go_on()
        page = source.read_named(stream.name, ids[at : at + NAMED_MAX])
        with engine.begin() as connection:
            _commit_page(connection, run, plan, stream, page, None, live=False)
        say(f"{plan.connector}: {min(at + NAMED_MAX, len(ids)):,} of {len(ids):,} {stream.name} read again")


def _text(cursor: Cursor | None) -> str | None:
    return cursor.at.isoformat() if cursor and cursor.at else None


def _commit_page(
    connection: Connection,
    run: runs.Run,
    plan: Plan,
    stream: Stream,
    page: Page,
    cursor: Cursor | None,
    *,
    live: bool,
) -> None:
    runs.check_fence(connection, run)
    records = rules.latest(page.records)
    heads = store.read_heads(connection, plan.connector, stream.name, [r.raw.external_id for r in records])
    verdicts = {r.raw.external_id: rules.judge(r, heads.get(r.raw.external_id)) for r in records}
    fresh = [r for r in records if verdicts[r.raw.external_id] in ("new", "changed")]
    store.move_versions(
        connection,
        connector=plan.connector,
        stream=stream.name,
        versions={
            r.raw.external_id: r.raw.version
            for r in records
            if verdicts[r.raw.external_id] == "unchanged"
            and r.raw.version is not None
            and r.raw.version != heads[r.raw.external_id].version
        },
    )
    own = store.own_writes(connection, plan.connector, {r.raw.external_id: r.raw.version for r in fresh})
    counts = {"fetched": len(records)}
    for external_id, verdict in verdicts.items():
        name = "own" if external_id in own else verdict
        counts[name] = counts.get(name, 0) + 1
    if fresh:
        ids = store.keep_evidence(
            connection,
            connector=plan.connector,
            stream=stream.name,
            records=fresh,
            known=heads.keys(),
            run_id=run.id,
            fetched_at=datetime.now(UTC),
        )
        bodies = [
            _Body(r.raw.external_id, ids[r.raw.external_id], r.raw.body, dict(r.raw.context), r.raw.deleted)
            for r in fresh
        ]
        counts["quarantined"] = _map(connection, run, plan, stream.name, bodies)
    if live:
        store.write_cursor(
            connection,
            connector=plan.connector,
            stream=stream.name,
            cursor=cursor,
            mapped_with=plan.fingerprint(stream.name),
            run_id=run.id,
        )
    run.count(stream.name, counts)


def withdraw(
    connection: Connection,
    run: runs.Run,
    plan: Plan,
    stream: str,
    records: Sequence[rules.Sealed],
    *,
    fetched_at: datetime,
) -> None:
    """Keep the vendor's word that these records are deleted, and take back what they were mapped to."""
    ids = store.keep_evidence(
        connection,
        connector=plan.connector,
        stream=stream,
        records=records,
        known=[r.raw.external_id for r in records],
        run_id=run.id,
        fetched_at=fetched_at,
    )
    known = ((r.raw.external_id, r.raw.body, dict(r.raw.context)) for r in records)
    _map(connection, run, plan, stream, [_Body(id, ids[id], body, told, True) for id, body, told in known])


@dataclass(frozen=True, slots=True)
class _Body:
    external_id: str
    evidence_id: int
    body: bytes
    context: dict[str, object]
    deleted: bool


def _map(connection: Connection, run: runs.Run, plan: Plan, stream: str, bodies: Iterable[_Body]) -> int:
    """Map raw records and write what became of them; returns how many were set aside."""
    mapped: list[canonical.Mapped] = []
    problems: list[store.Problem] = []
    raw_ids: list[str] = []
    for item in bodies:
        raw_ids.append(item.external_id)
        if item.deleted:
            continue
        result = plan.mapping.apply(
            stream, item.body, item.context, phone_region=plan.phone_region, zone=plan.zone
        )
        if result.problems:
            first = result.problems[0]
            words = tuple(str(p) for p in result.problems)
            problems.append(store.Problem(item.external_id, item.evidence_id, first.field, str(first), words))
            continue
        long = next((f for _, record, _ in result.records if (f := rules.too_long(record))), None)
        if long is not None:
            reason = f"{long} is longer than {rules.ID_BYTES_MAX} bytes, which no id is"
            problems.append(store.Problem(item.external_id, item.evidence_id, long, reason, (reason,)))
            continue
        mapped.extend(
            canonical.Mapped(kind, rules.bounded(record), stream, item.external_id, item.evidence_id, keep)
            for kind, record, keep in result.records
        )
    # What is set aside keeps the canonical records of its last good version: a bad edit never unbooks a sale.
    good = sorted(set(raw_ids) - {p.external_id for p in problems})
    canonical.merge(
        connection,
        connector=plan.connector,
        stream=stream,
        raw_ids=good,
        mapped=mapped,
        kinds=plan.mapping.kinds(stream),
        keeps=plan.mapping.keeps(stream),
    )
    store.set_aside(
        connection,
        connector=plan.connector,
        stream=stream,
        raw_ids=raw_ids,
        problems=problems,
        run_id=run.id,
    )
    return len(problems)


def _withdraw(
    engine: Engine, run: runs.Run, plan: Plan, stream: Stream, window: Window, rows: set[str]
) -> None:
    """Days that were read whole and no longer show a row had that row withdrawn by the vendor.

    The first and the last day of the window are left alone: in the account's own zone they were read in part.
    So are days before the first one that showed anything: the vendor may no longer show days so old.
    """
    first = window.since.astimezone(plan.zone).date() + timedelta(days=1)
    last = window.until.astimezone(plan.zone).date() - timedelta(days=1)
    with engine.begin() as connection:
        runs.check_fence(connection, run)
        held = store.spend_within(
            connection, connector=plan.connector, stream=stream.name, since=first, until=last
        )
        shown = [day for raw_id, day in held.items() if raw_id in rows]
        gone = sorted(
            raw_id for raw_id, day in held.items() if raw_id not in rows and day >= min(shown, default=last)
        )
        if not gone:
            return
        store.mark_deleted(
            connection, connector=plan.connector, stream=stream.name, raw_ids=gone, run_id=run.id
        )
        canonical.merge(
            connection,
            connector=plan.connector,
            stream=stream.name,
            raw_ids=gone,
            mapped=(),
            kinds=plan.mapping.kinds(stream.name),
            keeps=frozenset(),
        )
    run.count(stream.name, {"withdrawn": len(gone)})


def remap(
    engine: Engine,
    run: runs.Run,
    plan: Plan,
    stream: str,
    *,
    say: Say,
    only: Sequence[str] | None = None,
) -> int:
    """Map the stored evidence of a stream again: its mapping changed, or a quarantine is retried.

    Resumable: a record that maps as before is a no-op. Returns how many are (still) set aside.
    """
    after, count, aside = "", 0, 0
    while True:
        run.go_on()
        with engine.begin() as connection:
            runs.check_fence(connection, run)
            rows = store.read_bodies(
                connection,
                connector=plan.connector,
                stream=stream,
                after=after,
                limit=REMAP_BATCH,
                only=only,
            )
            if not rows:
                return aside
            bodies = [_Body(r.external_id, r.evidence_id, bytes(r.body), r.context, r.deleted) for r in rows]
            found = _map(connection, run, plan, stream, bodies)
        aside += found
        after, count = rows[-1].external_id, count + len(rows)
        run.count(stream, {"mapped_again": len(rows), "quarantined": found})
        say(f"{plan.connector}: {count:,} {stream} mapped again")
