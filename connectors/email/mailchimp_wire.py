"""What Mailchimp's answers look like: the few fields that are read of each, their times, and the errors."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from connectors.http import Answer, Problem

T = TypeVar("T", bound=msgspec.Struct)


class Counted(msgspec.Struct):
    total_items: int | None = None


class Member(msgspec.Struct):
    id: str | None = None
    contact_id: str | None = None
    last_changed: str | None = None

    @property
    def key(self) -> str:
        """`id` is a hash of the e-mail and changes with it, so `contact_id` is preferred."""
        return self.contact_id or self.id or ""


class Named(msgspec.Struct):
    id: str | None = None


class Recipient(msgspec.Struct):
    email_id: str | None = None
    activity: list[msgspec.Raw] | None = None


class Opens(msgspec.Struct):
    last_open: str | None = None


class Clicks(msgspec.Struct):
    last_click: str | None = None


class Bounces(msgspec.Struct):
    hard_bounces: int = 0
    soft_bounces: int = 0


class Report(msgspec.Struct):
    id: str | None = None
    campaign_title: str | None = None
    send_time: str | None = None
    opens: Opens = msgspec.field(default_factory=Opens)
    clicks: Clicks = msgspec.field(default_factory=Clicks)
    bounces: Bounces = msgspec.field(default_factory=Bounces)

    def latest(self) -> datetime | None:
        """Time of the last thing that is known to have happened with the campaign."""
        times = [time_of(self.send_time), time_of(self.opens.last_open), time_of(self.clicks.last_click)]
        return max((time for time in times if time), default=None)

    def mark(self) -> str:
        """Changes when the campaign has new activity."""
        bounced = f"{self.bounces.hard_bounces}+{self.bounces.soft_bounces}"
        return f"{self.opens.last_open or ''}|{self.clicks.last_click or ''}|{bounced}"


def decode(item: msgspec.Raw, kind: type[T]) -> T:
    """The few fields of an item that are looked at; an item of another shape has none of them."""
    try:
        return msgspec.json.decode(item, type=kind)
    except msgspec.DecodeError:
        return kind()


def time_of(text: str | None) -> datetime | None:
    """The vendor's time; "" and null mean none."""
    try:
        time = datetime.fromisoformat(text) if text else None
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
        return Problem("throttled", f"Mailchimp asks to wait ({status})", retry=True)
    if status >= 500:
        return Problem("vendor", f"Mailchimp cannot answer {answer.path} now ({status})", retry=True)
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
