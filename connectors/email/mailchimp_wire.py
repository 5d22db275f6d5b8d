"""What Mailchimp's answers look like: the few fields that are read of each, their times, and the errors."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from connectors._answer import read
from connectors.http import Answer, Problem, retry_after_s

T = TypeVar("T", bound=msgspec.Struct)


class Counted(msgspec.Struct):
    total_items: int | None = None


class Member(msgspec.Struct):
    """Types are left open, so that one field of another type does not hide the others."""

    id: Any = None
    contact_id: Any = None
    last_changed: Any = None

    @property
    def key(self) -> str:
        """`id` is a hash of the e-mail and changes with it, so `contact_id` is preferred."""
        return id_of(self.contact_id) or id_of(self.id)


class Named(msgspec.Struct):
    id: Any = None


class Recipient(msgspec.Struct):
    email_id: Any = None
    activity: Any = None


class Opens(msgspec.Struct):
    last_open: str | None = None


class Clicks(msgspec.Struct):
    last_click: str | None = None


class Bounces(msgspec.Struct):
    hard_bounces: int | None = None
    soft_bounces: int | None = None


class Report(msgspec.Struct):
    """What decides whether a campaign is read, so its types hold: by a wrong one its activity would be missed."""

    id: str
    campaign_title: str | None = None
    send_time: str | None = None
    opens: Opens | None = None
    clicks: Clicks | None = None
    bounces: Bounces | None = None

    @property
    def last_open(self) -> str:
        return (self.opens and self.opens.last_open) or ""

    @property
    def last_click(self) -> str:
        return (self.clicks and self.clicks.last_click) or ""

    def latest(self) -> datetime | None:
        """Time of the last thing that is known to have happened with the campaign."""
        times = [time_of(self.send_time), time_of(self.last_open), time_of(self.last_click)]
        return max((time for time in times if time), default=None)

    def mark(self) -> str:
        """Changes when the campaign has new activity."""
        bounces = self.bounces or Bounces()
        return f"{self.last_open}|{self.last_click}|{bounces.hard_bounces or 0}+{bounces.soft_bounces or 0}"


def decode(item: msgspec.Raw, kind: type[T]) -> T:
    """The few fields of an item that are looked at; an item of another shape has none of them."""
    try:
        return read(item, kind)
    except (msgspec.DecodeError, RecursionError):
        return kind()


def id_of(value: Any) -> str:
    """An id, which is text; "" where there is none."""
    return value if isinstance(value, str) else ""


def time_of(text: Any) -> datetime | None:
    """The vendor's time; "" and null mean none."""
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) and text else None
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC) if time else None


def stamp(time: datetime) -> str:
    """With Z: a plus sign would arrive as a space; without fractions: they make a filter ignored."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def classify(answer: Answer) -> Problem | None:
    """What an answer means. Both 429 and, at high volume, a 403 that is not JSON say: slower."""
    status = answer.status
    if status < 400:
        return None
    title = _title(answer)
    if status in (408, 429) or (status == 403 and title is None):
        said = f"Mailchimp asks to wait ({status}, {answer.path})"
        return Problem("throttled", said, retry=True, wait_s=retry_after_s(answer.headers))
    if status >= 500:
        said = f"Mailchimp cannot answer {answer.path} now ({status})"
        return Problem("vendor", said, retry=True, wait_s=retry_after_s(answer.headers))
    said = f"Mailchimp refused {answer.path}: {status} {title or ''}".strip()
    if status == 401:
        return Problem("credential", said, "Make a new API key in the account and put it into the config.")
    if status == 403:
        return Problem(
            "scope", said, "The role of the key's user or the plan does not allow this; use an admin's key."
        )
    if status == 404:
        return Problem("config", said, "Check list_ids, and that base_url ends in /3.0.")
    return Problem("protocol", said)


def _title(answer: Answer) -> str | None:
    """The title of a problem+json body; None when the body is not JSON."""
    try:
        body = msgspec.json.decode(answer.body)
    except msgspec.DecodeError:
        return None
    return str(body.get("title", ""))[:100] if isinstance(body, dict) else ""
