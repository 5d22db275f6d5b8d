"""What a vendor answered, and what that means where the vendor says nothing special."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import msgspec

from connectors._pace import retry_after_s
from connectors.errors import ConnectorError, Kind

T = TypeVar("T")
RETRY_STATUSES = frozenset({408, 423, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})


MEMBERS_MAX = 4_000_000
"""Commas in a body: of the smallest members, each of which takes far more memory than its bytes, a body within its
bound could hold tens of millions."""
ITEMS_MAX = 50_000
"""Items of one page; the largest page that any vendor is asked for has a thousand."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_BLANK = re.compile(r"[ \t\r\n]*")
_SLOW = json.JSONDecoder()


def read(text: bytes | msgspec.Raw, type: type[T]) -> T:
    """JSON as `type`, also with half surrogate pairs, which programs that cut texts write and msgspec refuses.

    Raises `msgspec.DecodeError`.
    """
    try:
        return msgspec.json.decode(text, type=type)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if not _SURROGATE.search(bytes(text)):
            raise
    try:
        found: T = _slowly(bytes(text).decode("utf-8-sig"), type)
    except ValueError as error:
        raise msgspec.DecodeError("no JSON") from error
    return found


def _slowly(text: str, type: Any) -> Any:
    value = _SLOW.decode(text)
    if type == list[msgspec.Raw] and isinstance(value, list):
        return [member for _, member in _members(text)]
    if type == dict[str, msgspec.Raw] and isinstance(value, dict):
        return dict(_members(text))
    return msgspec.convert(value, type)


def _members(text: str) -> Iterator[tuple[str, msgspec.Raw]]:
    """Name ("" in a list) and exact text of each member of a JSON list or object that is known to be valid."""

    def blank(at: int) -> int:
        found = _BLANK.match(text, at)
        return found.end() if found else at

    at = blank(0)
    named, at = text[at] == "{", blank(at + 1)
    while text[at] not in "]}":
        name = ""
        if named:
            name, at = _SLOW.raw_decode(text, at)
            at = blank(blank(at) + 1)
        _, end = _SLOW.raw_decode(text, at)
        yield name, msgspec.Raw(text[at:end].encode())
        at = blank(end)
        at = blank(at + 1) if text[at] == "," else at


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the body whole, at most `HttpSettings.max_body_bytes` of it.

    `path` is the address without host and query.
    """

    status: int
    headers: httpx.Headers
    body: bytes
    path: str

    def decode(self, type: type[T] = Any) -> T:  # type: ignore[assignment]  # Any as a type's default
        """The body as JSON. Raises `ConnectorError` (protocol) that says what came instead, never the body."""
        self._check_members()
        return self._decode(self.body, type)

    def raw_items(self, *keys: str) -> list[msgspec.Raw]:
        """The exact bytes of each item of the list at these keys; without keys the body is the list."""
        part: bytes | msgspec.Raw = self.body
        self._check_members()
        for key in keys:
            members = self._decode(part, dict[str, msgspec.Raw])
            if key not in members:
                raise ConnectorError("protocol", f"{self.path} answered without {key!r}", status=self.status)
            part = members[key]
        items = self._decode(part, list[msgspec.Raw])
        if len(items) > ITEMS_MAX:
            raise self._too_large(f"a list of {len(items):,} items, at most {ITEMS_MAX:,} are read")
        return items

    def _check_members(self) -> None:
        if self.body.count(b",") > MEMBERS_MAX:
            raise self._too_large(f"JSON of more than {MEMBERS_MAX:,} members")

    def _too_large(self, what: str) -> ConnectorError:
        return ConnectorError("too_large", f"{self.path} answered {what}", status=self.status)

    def _decode(self, part: bytes | msgspec.Raw, type: type[T]) -> T:
        try:
            return read(part, type)
        except RecursionError as error:
            message = f"{self.path} answered JSON that is nested too deep"
            raise ConnectorError("protocol", message, status=self.status) from error
        except msgspec.ValidationError as error:
            # Its text names types and the place, never a value.
            message = f"{self.path} answered JSON of another shape: {error}"
            raise ConnectorError("protocol", message, status=self.status) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            start = self.body.lstrip()[:1]
            what = "HTML" if start == b"<" else "no valid JSON" if start else "nothing"
            raise ConnectorError(
                "protocol",
                f"{self.path} answered {what} in place of JSON ({len(self.body)} bytes, status {self.status})",
                hint="Open the address in a browser: a login page, a firewall or a plug-in may answer.",
                status=self.status,
            ) from error


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that is no success: who has to act, and whether the same call may succeed later.

    `wait_s` is how long the vendor asks to wait before that; None leaves it to the client.
    """

    kind: Kind
    message: str
    hint: str = ""
    retry: bool = False
    wait_s: float | None = None


Classify = Callable[[Answer], Problem | None]


def default_classify(answer: Answer) -> Problem | None:
    """What a status means where the vendor says nothing special."""
    status = answer.status
    if status < 400:
        return None
    where = f"{answer.path} answered {status}"
    if status in RETRY_STATUSES:
        kind: Kind = "throttled" if status == 429 else "vendor"
        return Problem(kind, where, "The next run tries again.", True, retry_after_s(answer.headers))
    if status == 401:
        return Problem("credential", where, "The key is wrong or was revoked: make a new one.")
    if status == 403:
        return Problem("scope", where, "The key lacks a right: grant it and try again.")
    return Problem("config" if status in (400, 404, 405, 410) else "protocol", where)
