"""What an answer to a batch write says of each of its items. Pure.

Results come in any order, with lower case e-mails, and 207 is a success to most clients: so every item is
looked for by its trace id, else its record id, else its e-mail, among the results and among the errors. An
item that is in neither is not written as far as anybody knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from connectors.contract import Outcome
from connectors.crm import hubspot_api as api
from connectors.crm.hubspot_plan import STAGE, STAGES, Item

LATER = frozenset({"RATE_LIMITS", "RATE_LIMIT", "INTERNAL_ERROR", "SERVICE_UNAVAILABLE", "LOCKED", "TIMEOUT"})
"""Categories of errors that time alone mends."""
EPOCH_MS_DIGITS_MIN = 12
SHOWN_MAX = 60
GONE = (
    "there is no contact with this id any more (merged or deleted); the next try looks for the e-mail instead"
)


def read(items: Sequence[Item], body: Mapping[str, Any]) -> dict[str, Outcome]:
    """The outcome of every item, by key, of an answer with status 200, 201 or 207."""
    outcomes: dict[str, Outcome] = {}
    for result in _dicts(body.get("results")):
        item = _match(items, result)
        if item:
            outcomes[item.key] = judge(item, result)
    stray: list[str] = []
    for error in _dicts(body.get("errors")):
        named = _named(items, error)
        if not named:
            stray.append(api.describe(error))
        outcomes.update((item.key, failed(item, error)) for item in named)
    missing = "the answer names this record neither as written nor as wrong"
    reason = "; ".join([missing, *stray])[: api.MESSAGE_MAX]
    for item in items:
        outcomes.setdefault(item.key, Outcome(item.key, "retry", item.upsert.remote_id, reason=reason))
    return outcomes


def judge(item: Item, result: Mapping[str, Any]) -> Outcome:
    """Whether a result shows what was sent.

    HubSpot drops a lower lifecycle stage without an error: sales is ahead of us, so its stage stays, and that
    is no refusal.
    """
    properties = result.get("properties")
    values: Mapping[str, Any] = properties if isinstance(properties, Mapping) else {}
    shown = {
        name: _in_our_writing(sent, values[name])
        for name, sent in item.upsert.fields.items()
        if name in values
    }
    if item.note and STAGE not in shown:
        shown[STAGE] = item.upsert.accepted[STAGE]
    remote_id = str(result.get("id") or item.upsert.remote_id or "") or None
    ahead = kept_ahead(item.properties.get(STAGE), shown.get(STAGE))
    differing = [
        f"{name} shows {_short(shown[name])} in place of {_short(sent)}"
        for name, sent in item.properties.items()
        if name in shown and not same(sent, shown[name]) and not (name == STAGE and ahead)
    ]
    version = _time(str(result.get("updatedAt")))
    if differing:
        reason = api.mask("not taken over: " + ", ".join(differing))[: api.MESSAGE_MAX]
        return Outcome(item.key, "refused", remote_id, shown, reason, version)
    return Outcome(item.key, "accepted", remote_id, shown, item.note or ahead, version)


def kept_ahead(sent: str | None, shown: str | None) -> str:
    """Why a lifecycle stage that was sent is not shown although nothing is wrong; "" where that is not so."""
    if sent in STAGES and shown in STAGES and STAGES.index(sent) < STAGES.index(shown):
        return f"{STAGE} stays {shown}, which is ahead of {sent}"
    return ""


def _in_our_writing(sent: str, value: Any) -> str:
    """What a result shows; as we wrote it where it is the same value, since HubSpot may show 100 for 100.00."""
    text = "" if value is None else str(value)
    return sent if same(sent, text) else text


def unshown(item: Item, outcome: Outcome) -> bool:
    """Whether an accepted item has a sent field that the answer did not show: then it must be read back."""
    sent = {name for name, value in item.properties.items() if name in item.upsert.fields and value}
    return outcome.status == "accepted" and not sent <= set(outcome.shown)


def failed(item: Item, error: Mapping[str, Any], status: int = 0) -> Outcome:
    """The outcome of an item that an error names."""
    category = str(error.get("category", ""))
    reason = api.describe(error) or f"HubSpot refused it ({status})"
    remote_id = item.upsert.remote_id
    if item.action == "update" and (category == "OBJECT_NOT_FOUND" or status == 404):
        return Outcome(item.key, "retry", None, reason=GONE)
    if category == "CONFLICT" or status == 409:
        existing = _texts(_context(error).get("existingId"))
        if item.action == "upsert" and len(existing) == 1:
            return Outcome(item.key, "retry", existing[0], reason=f"the contact exists already: {reason}")
        return Outcome(item.key, "refused", remote_id, reason=reason)
    later = category in LATER or status in (423, 429) or status >= 500
    return Outcome(item.key, "retry" if later else "refused", remote_id, reason=reason)


def retried(item: Item, reason: str) -> Outcome:
    """The outcome of an item whose call did not go through."""
    return Outcome(item.key, "retry", item.upsert.remote_id, reason=api.mask(reason)[: api.MESSAGE_MAX])


def same(sent: str, shown: str) -> bool:
    """Whether two texts are the same value: equal, the same number, or the same time."""
    if sent.strip() == shown.strip():
        return True
    times = _time(sent), _time(shown)
    if times[0] and times[1]:
        return times[0] == times[1]
    numbers = _number(sent), _number(shown)
    return numbers[0] is not None and numbers[0] == numbers[1]


def _match(items: Sequence[Item], result: Mapping[str, Any]) -> Item | None:
    trace = result.get("objectWriteTraceId")
    if trace is not None:
        return next((item for item in items if item.key == str(trace)), None)
    remote_id = str(result.get("id"))
    for item in items:
        if remote_id in (item.id, item.upsert.remote_id):
            return item
    properties = result.get("properties")
    email = properties.get("email") if isinstance(properties, Mapping) else None
    address = str(email or "").strip().lower()
    found = [item for item in items if address and item.upsert.email.strip().lower() == address]
    return found[0] if len(found) == 1 else None


def _named(items: Sequence[Item], error: Mapping[str, Any]) -> list[Item]:
    """The items that an error is about; of a call with one item, always that one."""
    if len(items) == 1:
        return list(items)
    context = _context(error)
    traces = set(_texts(context.get("objectWriteTraceId")))
    if traces:
        return [item for item in items if item.key in traces]
    ids = {text.strip().lower() for name in ("ids", "id", "email") for text in _texts(context.get(name))}
    return [item for item in items if item.id.lower() in ids]


def _context(error: Mapping[str, Any]) -> Mapping[str, Any]:
    context = error.get("context")
    return context if isinstance(context, Mapping) else {}


def _texts(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)] if value else []


def _dicts(value: Any) -> Iterable[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _short(value: str) -> str:
    return repr(value if len(value) <= SHOWN_MAX else f"{value[:SHOWN_MAX]}…")


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _time(text: str) -> datetime | None:
    """ISO 8601, or epoch milliseconds, which computed dates come back as."""
    if text.isdigit() and EPOCH_MS_DIGITS_MIN <= len(text) <= EPOCH_MS_DIGITS_MIN + 2:
        return datetime.fromtimestamp(int(text) / 1000, UTC)
    if len(text) < len("2026-01-01") or not text[:4].isdigit() or text[4] != "-":
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
