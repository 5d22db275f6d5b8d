"""What a connector's author implements. This page is the whole contract.

A connector is one module with one declaration, found by entry point (group ``leadledger.connectors``)::

    CONNECTOR = Connector(
        type="acme_shop",
        options=Options,             # a pydantic model: the `options:` of the YAML, secrets as SecretStr
        mapping="vendors/acme.yaml", # from raw to canonical records, a resource of the connector's package
        streams=(Stream("orders", overlap=timedelta(minutes=10)),),
        source=AcmeShop,             # called as AcmeShop(options, context): can be read from
        destination=None,            # or a class that can be written to
    )

A source yields pages of raw records and says after each page from where it could go on; storing, dropping
doubles, mapping, retrying, pacing and logging are shared and not the author's work.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable
from zoneinfo import ZoneInfo

import pydantic

if TYPE_CHECKING:
    from connectors.http import Http, HttpSettings


def nothing() -> Mapping[str, Any]:
    """An empty mapping that nobody can fill."""
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Stream:
    """One kind of record of a source.

    Attributes
    ----------
    name : the design's word: leads, touches, campaigns, spend, orders, refunds, products, contacts,
        stage_changes, owners, rates; a ``files`` connector names its own.
    overlap : how far before the cursor the next run starts again. Never zero for a stream with a cursor:
        wide enough for the vendor's late and restated data.
    after : streams of the same connector that must be finished first in a run.
    full : read whole at every run (no cursor is kept); ``snapshot`` records that a complete read of the
        window no longer shows are taken as gone.
    snapshot : every read of this stream is complete for its window, so what is missing was withdrawn.
    swept : the vendor does not tell what it deletes for good, but can list its ids: the source is `Sweepable`.
    """

    name: str
    overlap: timedelta = timedelta(minutes=5)
    after: tuple[str, ...] = ()
    full: bool = False
    snapshot: bool = False
    swept: bool = False


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a stream goes on.

    `at` is the highest time (UTC) up to which everything is known to have been read; `state` is whatever
    else the source needs (JSON types only).
    """

    at: datetime | None = None
    state: Mapping[str, Any] = field(default_factory=nothing)


@dataclass(frozen=True, slots=True)
class Window:
    """What to read: `since` inclusive (overlap already taken off), `until` exclusive, both UTC and aware.

    `cursor` is the stored cursor as it is (None at a first run or in a backfill).
    """

    since: datetime
    until: datetime
    cursor: Cursor | None = None


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One item as the vendor sent it.

    Attributes
    ----------
    external_id : unique in its connector and stream, the same at every read.
    body : the item's bytes exactly as they stood in the answer.
    version : the vendor's own time of the last change, if it has one; an older one never overwrites a newer.
    context : what the mapping needs and the item itself does not hold (the id of its parent, say);
        JSON types only, addressed as ``$.name`` in a mapping.
    deleted : the vendor says that the record is gone.
    """

    external_id: str
    body: bytes
    version: datetime | None = None
    context: Mapping[str, Any] = field(default_factory=nothing)
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Records that are committed together.

    Attributes
    ----------
    records : at most some thousands; memory is bounded by a page.
    cursor : from where a run may go on once this page is committed, or None to leave the cursor where it
        is. In a stream sorted by its cursor that is the last value; in any other only the last page of a
        complete read may set it.
    said : the vendor's own count of the records of this read, once known.
    """

    records: Sequence[RawRecord]
    cursor: Cursor | None = None
    said: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of an online check: what was tried, whether it works, and what to do if not."""

    what: str
    ok: bool
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ControlItem:
    """One order as the shop shows it now, for the control total. Amounts are the vendor's decimal text, and None
    where the vendor does not say.

    Attributes
    ----------
    total : gross, not lowered by refunds.
    tax : within `total`. shipping : within `total`, net of its tax.
    refunded : what was given back of it so far, positive and gross.
    created_at, modified_at : the vendor's own times, None where they cannot be read.
    refund_ids : the refunds that the order names itself.
    paid : the shop holds it for paid and standing, by something else than the name of its status.
    counted : the shop's own totals (`Totalled`) count it.
    """

    external_id: str
    status: str
    currency: str
    total: str
    created_at: datetime | None = None
    modified_at: datetime | None = None
    tax: str | None = None
    shipping: str | None = None
    refunded: str | None = None
    refund_ids: tuple[str, ...] = ()
    paid: bool = False
    counted: bool = False


@dataclass(frozen=True, slots=True)
class ControlRefund:
    """One refund as the shop shows it now; `amount` is the vendor's decimal text, positive and gross."""

    external_id: str
    order_id: str
    amount: str
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ControlDay:
    """One day of the shop's own totals: its bounds (UTC, `until` exclusive) in the shop's own time zone.

    `gross` is what the orders placed then come to, `refunds` what was given back then, of whatever order:
    decimal text, over all currencies.
    """

    since: datetime
    until: datetime
    orders: int
    gross: str
    refunds: str


@dataclass(frozen=True, slots=True)
class Context:
    """What a connector is given besides its options.

    `zone` is the workspace's time zone, `folder` the config file's folder (relative paths start there).
    `http(settings)` makes the shared client: one a connector, closed by the caller of the connector.
    """

    name: str
    zone: ZoneInfo
    folder: Path
    http: HttpFactory


class HttpFactory(Protocol):
    def __call__(self, settings: HttpSettings) -> Http: ...


@runtime_checkable
class Source(Protocol):
    """Can be read from."""

    def read(self, stream: str, window: Window) -> Iterator[Page]:
        """Yield the records of `stream` that changed within `window`, page by page.

        Raises a `connectors.errors.ConnectorError` when it cannot go on.
        """
        ...

    def check(self) -> list[Finding]:
        """Try the credential and each scope that is needed, writing nothing."""
        ...


@runtime_checkable
class Auditable(Protocol):
    """A shop that can show its orders by another road than the order stream."""

    def control_items(self, since: datetime, until: datetime) -> Iterator[ControlItem]:
        """Every order created within the window, whatever its status."""
        ...


@runtime_checkable
class Refundable(Protocol):
    """A shop that can also show its refunds by their own date."""

    def control_refunds(self, since: datetime, until: datetime) -> Iterator[ControlRefund]:
        """Every refund created within the window."""
        ...


@runtime_checkable
class Totalled(Protocol):
    """A shop that adds up its days itself."""

    def control_days(self, first: date, last: date) -> Iterator[ControlDay]:
        """The shop's own totals of these days, both included, as days of the shop.

        Raises a `connectors.errors.ConnectorError` when the shop does not give them.
        """
        ...


@runtime_checkable
class Findable(Protocol):
    """A shop that shows named orders, wherever its lists have them."""

    def control_named(self, ids: Sequence[str]) -> Iterator[ControlItem]:
        """Those of `ids` that there are, trash included; at most `NAMED_MAX` a call."""
        ...

    def read_named(self, stream: str, ids: Sequence[str]) -> Page:
        """Those of `ids` as `Source.read` would yield them; one that is gone comes as deleted, with what the
        vendor answered in place of it as its body. At most `NAMED_MAX` a call."""
        ...


NAMED_MAX = 100
"""Most ids of one question for named records."""


@dataclass(frozen=True, slots=True)
class Ids:
    """Ids of records that the vendor holds now.

    `complete` is set on the last page alone, and only by a source that has proved, by the vendor's own count,
    that no id is missing from all its pages together. Without it nothing is taken as deleted.
    """

    ids: Sequence[str]
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """A record as it was last read, of which the vendor no longer lists the id."""

    external_id: str
    body: bytes
    context: Mapping[str, Any]


@runtime_checkable
class Sweepable(Protocol):
    """Can be asked which records it still holds, for streams that are `swept`."""

    def ids(self, stream: str, since: datetime, until: datetime) -> Iterator[Ids]:
        """The ids of every record of `stream` created within the window, whatever its status, page by page."""
        ...

    def gone(self, stream: str, held: Held) -> RawRecord | None:
        """Ask for one record alone. None where the vendor still has it; else a record with `deleted` whose body
        is the vendor's own answer that says so. Raises `ConnectorError` for any other answer."""
        ...


@dataclass(frozen=True, slots=True)
class Upsert:
    """The desired state of one record at a destination.

    `key` is ours and comes back in the outcome. `fields` holds all that we own there (the vendor's names,
    wire text); a field without a value is absent: no value never overwrites one. `changed` names those that
    differ from what was last accepted.
    """

    key: str
    email: str
    remote_id: str | None
    fields: Mapping[str, str]
    changed: frozenset[str]
    accepted: Mapping[str, str] = field(default_factory=nothing)


@dataclass(frozen=True, slots=True)
class Request:
    """One call as it will be sent, without credentials."""

    method: str
    path: str
    body: Mapping[str, Any] | None
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one upsert.

    `shown` is what the destination says it holds now of the fields sent (in our writing where it only writes
    the same value in another way), `version` its own time of this change: by it the write is known when the
    source side reads it back.
    """

    key: str
    status: Literal["accepted", "refused", "retry"]
    remote_id: str | None = None
    shown: Mapping[str, str] = field(default_factory=nothing)
    reason: str = ""
    version: datetime | None = None


@runtime_checkable
class Destination(Protocol):
    """Can be written to: batches of `batch_size` records, `parallel` of them at once (from as many threads)."""

    batch_size: int
    parallel: int

    def preparation(self, fields: Sequence[str]) -> list[Request]:
        """The calls that `prepare` would make now: none where all is there. May read, writes nothing."""
        ...

    def prepare(self, fields: Sequence[str]) -> None:
        """Make what must exist before `fields` can be written (own properties), and is not there yet."""
        ...

    def plan(self, batch: Sequence[Upsert]) -> list[Request]:
        """The calls that `write` would make for this batch, exactly. Does no I/O."""
        ...

    def write(self, batch: Sequence[Upsert]) -> list[Outcome]:
        """Send the batch; one outcome for every upsert, whatever the status of the call."""
        ...

    def check(self) -> list[Finding]: ...


@dataclass(frozen=True)
class Connector:
    """The declaration that makes a module a connector (see the top of this page)."""

    type: str
    options: builtins.type[pydantic.BaseModel]
    streams: tuple[Stream, ...] = ()
    source: Any = None
    destination: Any = None
    mapping: str | None = None
    package: str = field(default="mappings")
    description: str = ""
