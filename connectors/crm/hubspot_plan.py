"""Which calls a batch of upserts becomes at HubSpot. Pure: what is planned here is exactly what is sent.

Rules of the vendor that decide the cut: at most 100 inputs a call; the same record twice in a call loses the
whole call; only with a trace id in every input does one bad record leave the others alone; a lifecycle stage
moves forward only, unless it was cleared by an earlier call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from connectors.contract import Outcome, Request, Upsert
from connectors.crm import hubspot_api as api

BATCH_SIZE = 100
STAGE = "lifecyclestage"
STAGES = (
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
    "other",
)
"""In the order in which a contact moves. Stages of the account's own have numbers and no known place."""


@dataclass(frozen=True, slots=True)
class Item:
    """One input of a call. `id` is the record id or, in an upsert, the lower case e-mail."""

    upsert: Upsert
    action: Literal["upsert", "update"]
    id: str
    properties: Mapping[str, str]
    note: str = ""

    @property
    def key(self) -> str:
        return self.upsert.key


@dataclass(frozen=True, slots=True)
class Call:
    """One call of at most `BATCH_SIZE` items, all of the same action and no two of the same id."""

    action: Literal["upsert", "update"]
    items: tuple[Item, ...]

    @property
    def path(self) -> str:
        return f"{api.CONTACTS}/batch/{self.action}"

    def request(self) -> Request:
        """The call as it is sent."""
        key = {"idProperty": "email"} if self.action == "upsert" else {}
        inputs = [
            {**key, "id": item.id, "objectWriteTraceId": item.key, "properties": dict(item.properties)}
            for item in self.items
        ]
        return Request("POST", self.path, {"inputs": inputs}, tuple(item.key for item in self.items))


@dataclass(frozen=True, slots=True)
class Plan:
    """The calls in their order, and what needs no call: refused at once, or nothing left to send."""

    calls: tuple[Call, ...]
    settled: tuple[Outcome, ...]


def plan(batch: Sequence[Upsert], *, allow_backward: bool) -> Plan:
    """Cut a batch into calls.

    Raises
    ------
    ValueError : two upserts have the same key.
    """
    if len({upsert.key for upsert in batch}) != len(batch):
        raise ValueError("two upserts of a batch have the same key")
    clears: list[Item] = []
    writes: list[Item] = []
    settled: list[Outcome] = []
    for upsert in batch:
        item = _item(upsert)
        if item is None:
            settled.append(
                Outcome(upsert.key, "refused", reason="there is neither an e-mail nor a record id")
            )
            continue
        if STAGE in item.properties and is_backward(upsert):
            if allow_backward:
                clears.append(_cleared(item))
            else:
                item = _without_stage(item)
        if set(item.properties) - {"email"}:
            writes.append(item)
        else:
            shown = {STAGE: upsert.accepted[STAGE]} if item.note else {}
            settled.append(Outcome(upsert.key, "accepted", upsert.remote_id, shown, item.note))
    return Plan((*_calls(clears), *_calls(writes)), tuple(settled))


def halves(call: Call) -> tuple[Call, Call]:
    """A call of several items as two."""
    middle = len(call.items) // 2
    return Call(call.action, call.items[:middle]), Call(call.action, call.items[middle:])


def is_backward(upsert: Upsert) -> bool:
    """Whether the wanted stage is before the one last accepted; unknown stages never are."""
    wanted, held = upsert.fields.get(STAGE), upsert.accepted.get(STAGE)
    return wanted in STAGES and held in STAGES and STAGES.index(wanted) < STAGES.index(held)


def _item(upsert: Upsert) -> Item | None:
    """With a record id only what changed; by e-mail all fields, because a partial upsert may not hold."""
    if upsert.remote_id:
        changed = {name: value for name, value in upsert.fields.items() if name in upsert.changed}
        return Item(upsert, "update", upsert.remote_id, changed)
    email = upsert.email.strip().lower()
    return Item(upsert, "upsert", email, {**upsert.fields, "email": email}) if email else None


def _cleared(item: Item) -> Item:
    email = {"email": item.id} if item.action == "upsert" else {}
    return Item(item.upsert, item.action, item.id, {**email, STAGE: ""})


def _without_stage(item: Item) -> Item:
    held, wanted = item.upsert.accepted[STAGE], item.properties[STAGE]
    rest = {name: value for name, value in item.properties.items() if name != STAGE}
    note = f"{STAGE} stays {held}: HubSpot does not take it back to {wanted} (allow_backward is off)"
    return Item(item.upsert, item.action, item.id, rest, note)


def _calls(items: Iterable[Item]) -> Iterator[Call]:
    """Calls in rounds: an id that comes again waits for the next round."""
    rounds: list[dict[tuple[str, str], Item]] = []
    seen: dict[tuple[str, str], int] = {}
    for item in items:
        target = (item.action, item.id)
        place = seen[target] = seen.get(target, -1) + 1
        if place == len(rounds):
            rounds.append({})
        rounds[place][target] = item
    for one in rounds:
        for action in ("upsert", "update"):
            same = [item for item in one.values() if item.action == action]
            for start in range(0, len(same), BATCH_SIZE):
                yield Call(same[start].action, tuple(same[start : start + BATCH_SIZE]))
