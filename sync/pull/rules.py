"""What a pull decides, without I/O: windows, cursors, what is new, in which order streams run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from connectors.contract import Cursor, RawRecord, Stream, Window
from mappings.canonical import Record

Verdict = Literal["new", "changed", "unchanged", "older"]


@dataclass(frozen=True, slots=True)
class Head:
    """The latest known evidence of a raw record."""

    digest: bytes
    version: datetime | None
    deleted: bool


@dataclass(frozen=True, slots=True)
class Sealed:
    """A raw record with the hashes it is known by: of its body, and of body and context together."""

    raw: RawRecord
    sha256: bytes
    digest: bytes


def seal(raw: RawRecord) -> Sealed:
    sha256 = hashlib.sha256(raw.body).digest()
    if not raw.context:
        return Sealed(raw, sha256, sha256)
    context = msgspec.json.encode(dict(raw.context), order="sorted")
    return Sealed(raw, sha256, hashlib.sha256(sha256 + context).digest())


_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
ID_BYTES_MAX = 512  # an index of the database takes 2,700 bytes, of several such columns together
NAME_MAX = 200  # characters of what becomes a campaign's name
_IDS = ("external_id", "order_id", "campaign_id", "customer_id", "crm_id", "owner_id")
_NAMES = ("campaign_name", "utm_source", "utm_medium", "utm_campaign", "utm_id", "utm_content", "utm_term")


def usable(record: RawRecord) -> RawRecord:
    """`record` with an id that the database can hold; one that it cannot makes the record a broken one, which
    ends in quarantine under a hash of its id."""
    known = record.external_id.encode("utf-8", "surrogatepass")
    if len(known) <= ID_BYTES_MAX and not _UNSTORABLE.search(record.external_id):
        context = _storable(record.context)
        return record if context == record.context else replace(record, context=context)
    digest = hashlib.sha256(known).hexdigest()
    broken = {"broken": f"its id cannot be stored or is longer than {ID_BYTES_MAX} bytes"}
    return RawRecord(f"sha256:{digest}", record.body, record.version, broken, record.deleted)


def _storable(value: Any) -> Any:
    """JSON without what the database cannot store in a text."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("", value)
    if isinstance(value, Mapping):
        return {_storable(name): _storable(one) for name, one in value.items()}
    return [_storable(one) for one in value] if isinstance(value, list) else value


def too_long(record: Record) -> str | None:
    """The field of a canonical record whose id is longer than the database can look up, or None."""
    for name in _IDS:
        value = getattr(record, name, None)
        if value is not None and len(value.encode()) > ID_BYTES_MAX:
            return name
    return None


def bounded(record: Record) -> Record:
    """`record` with names of campaigns cut to a bound; what is cut ends in a hash of the whole, so that two
    long names stay two. Visitors write utm parameters as they like."""
    cut = {
        name: f"{value[:NAME_MAX]}~{hashlib.sha256(value.encode()).hexdigest()[:16]}"
        for name in _NAMES
        if (value := getattr(record, name, None)) is not None and len(value) > NAME_MAX
    }
    return msgspec.structs.replace(record, **cut) if cut else record


def latest(records: Iterable[RawRecord]) -> list[Sealed]:
    """One record for each external id: the newest version, and of equals the one that came last."""
    kept: dict[str, RawRecord] = {}
    for raw in records:
        record = usable(raw)
        known = kept.get(record.external_id)
        if known is None or not is_older(record.version, known.version):
            kept[record.external_id] = record
    return [seal(record) for record in kept.values()]


def is_older(version: datetime | None, than: datetime | None) -> bool:
    """Without a vendor's time of change on both sides, what comes later is newer."""
    return version is not None and than is not None and version < than


def judge(record: Sealed, head: Head | None) -> Verdict:
    if head is None:
        return "new"
    if is_older(record.raw.version, head.version):
        return "older"
    if record.digest == head.digest and record.raw.deleted == head.deleted:
        return "unchanged"
    return "changed"


def window(stream: Stream, cursor: Cursor | None, *, start: datetime, now: datetime) -> Window:
    """What an incremental read of `stream` asks for.

    A stream without a cursor of its own (`full`) is read from `start`. The overlap reaches back before the
    cursor, never before `start`. A clock that went back makes the window empty, and asks for nothing that ends
    before it begins.
    """
    since = start
    if not stream.full and cursor is not None and cursor.at is not None:
        since = max(start, cursor.at - stream.overlap)
    return Window(since=since, until=max(since, now), cursor=cursor)


def advance(stored: Cursor | None, offered: Cursor | None, *, until: datetime) -> Cursor | None:
    """The cursor to store after a page: never back, never past the end of the window that was read."""
    if offered is None:
        return None
    at = min(offered.at, until) if offered.at else None
    if stored is not None and stored.at is not None:
        at = max(stored.at, at) if at else stored.at
    return Cursor(at=at, state=offered.state or (stored.state if stored else {}))


def slices(since: datetime, until: datetime, *, days: int) -> list[tuple[datetime, datetime]]:
    """Cut a backfill into resumable slices of `days`, oldest first."""
    edges: list[tuple[datetime, datetime]] = []
    while since < until:
        end = min(since + timedelta(days=days), until)
        edges.append((since, end))
        since = end
    return edges


def waves(streams: Sequence[Stream]) -> list[list[Stream]]:
    """Streams grouped so that each comes after those it names in `after`; a group may run at once.

    Streams that are not read in this run do not hold others back. Raises ValueError on a circle.
    """
    left = {s.name: s for s in streams}
    done: set[str] = set()
    groups: list[list[Stream]] = []
    while left:
        ready = [s for s in left.values() if all(name in done or name not in left for name in s.after)]
        if not ready:
            raise ValueError(f"streams wait for each other: {', '.join(sorted(left))}")
        groups.append(ready)
        done |= {s.name for s in ready}
        left = {name: s for name, s in left.items() if name not in done}
    return groups


def count_problem(stream: str, said: int | None, seen: int) -> str | None:
    """What to report when the vendor counted more records than came."""
    if said is None or seen >= said:
        return None
    return f"{stream}: the vendor said {said} records, {seen} came; the next run reads the overlap again"


def shape(counts: Mapping[str, int]) -> str:
    """Counts as a line for people: ``12 new, 3 changed``."""
    return ", ".join(f"{n} {name}" for name, n in counts.items() if n) or "nothing new"
