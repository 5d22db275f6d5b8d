"""What the Graph API's answers look like: the few fields that are read of each, usage headers, the errors; and
how a request is authenticated."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Generator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec

from connectors._answer import read
from connectors.errors import ConnectorError
from connectors.http import Answer, Problem, default_classify

T = TypeVar("T", bound=msgspec.Struct)

THROTTLED = frozenset({4, 17, 32, 613, *range(80000, 80015)})
THROTTLED_SUBCODES = frozenset({1504022, 1504039, 2446079})
TOO_MUCH_SUBCODES = frozenset({1504018, 1504038})
WRONG_SUBCODES = frozenset({1504041, 1504042})
PASSING = frozenset({1, 2, 960, -2})
PASSING_SUBCODES = frozenset({99, 2490547})
DEAD_TOKEN = frozenset({102, 190})
DEAD_TOKEN_REASONS = {
    458: "the app was removed",
    459: "the user must log in and pass a checkpoint",
    460: "the password was changed",
    463: "it has expired",
    464: "the user is not confirmed",
    467: "it was invalidated",
}
SLOW_FROM_PERCENT = 75.0
STOP_FROM_PERCENT = 95.0
SLOWEST_S = 10.0
"""Pause between calls shortly before the stop."""
WAIT_S_MIN = 60.0
USAGE_HEADERS = (
    "X-App-Usage",
    "X-Ad-Account-Usage",
    "X-Business-Use-Case-Usage",
    "X-Fb-Ads-Insights-Throttle",
)
PERCENTAGES = frozenset({"call_count", "total_cputime", "total_time", "acc_id_util_pct", "app_id_util_pct"})


class Token(httpx.Auth):
    """The token in the header, because addresses end in logs; and the proof that we hold the app's secret."""

    def __init__(self, token: str, app_secret: str | None) -> None:
        self._token = token
        self._proof = app_secret and hmac.new(app_secret.encode(), token.encode(), hashlib.sha256).hexdigest()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._token}"
        if self._proof:
            request.url = request.url.copy_merge_params({"appsecret_proof": self._proof})
        yield request


class Question(msgspec.Struct):
    key: str | None = None
    type: str | None = None


class Form(msgspec.Struct):
    id: str
    name: str | None = None
    questions: list[Question] | None = None


class Named(msgspec.Struct):
    id: str


class Account(msgspec.Struct):
    id: str
    currency: str | None = None
    timezone_name: str | None = None


class Lead(msgspec.Struct):
    id: Any = None
    created_time: Any = None


class Campaign(msgspec.Struct):
    id: Any = None
    updated_time: Any = None


class Insight(msgspec.Struct):
    date_start: Any = None
    account_id: Any = None
    ad_id: Any = None


class _Cursors(msgspec.Struct):
    after: str | None = None


class _Paging(msgspec.Struct):
    cursors: _Cursors | None = None
    next: str | None = None


class _Listing(msgspec.Struct):
    paging: _Paging | None = None


class _Error(msgspec.Struct):
    code: int | None = None
    error_subcode: int | None = None
    message: str = ""
    is_transient: bool = False
    fbtrace_id: str = ""


class _Failed(msgspec.Struct):
    error: _Error | None = None


def head(item: msgspec.Raw, kind: type[T]) -> T:
    """The few fields of an item that are looked at; an item of another shape has none of them."""
    try:
        return read(item, kind)
    except msgspec.DecodeError:
        return kind()


def key_of(value: Any, item: msgspec.Raw) -> str:
    """An item without an id that can be read is known by its hash: it is set aside later, not lost."""
    return str(value) if isinstance(value, int | str) and value != "" else hashlib.sha256(item).hexdigest()


def next_after(answer: Answer) -> str | None:
    """Where the next page starts, None at the end, which is where `next` is missing.

    The ready-made `next` holds the token, so only its cursor is taken.
    """
    paging = answer.decode(_Listing).paging
    if paging is None or not paging.next:
        return None
    if paging.cursors and paging.cursors.after:
        return paging.cursors.after
    after = parse_qs(urlsplit(paging.next).query).get("after")
    if not after:
        raise ConnectorError("protocol", f"{answer.path} names a next page without a cursor")
    return after[0]


def time_of(value: Any) -> datetime | None:
    """A time with offset, as in ``2026-03-03T09:14:22+0000``, in UTC."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time.astimezone(UTC) if time and time.tzinfo else None


def error_of(answer: Answer) -> _Error | None:
    """The error that an answer holds, whatever its status."""
    try:
        return msgspec.json.decode(answer.body, type=_Failed).error
    except (msgspec.DecodeError, RecursionError):
        return None


def asks_too_much(answer: Answer) -> bool:
    """Whether the same call for less data would succeed."""
    error = error_of(answer)
    if error is None:
        return False
    return error.error_subcode in TOO_MUCH_SUBCODES or "reduce the amount of data" in error.message.lower()


def classify(answer: Answer) -> Problem | None:
    """What an answer means; that too much was asked is left to the one who asked."""
    if answer.status < 400 and answer.body.lstrip()[:1] != b"{":
        return Problem("vendor", f"{answer.path} answered no JSON object", retry=True)
    return None if asks_too_much(answer) else problem_of(answer)


def problem_of(answer: Answer) -> Problem | None:
    """What an error means. The status is nearly always 400 and the type OAuthException: the codes decide,
    the subcode before the code (Graph API, error handling; Marketing API, insights error codes)."""
    error = error_of(answer)
    if error is None or error.code is None:
        return default_classify(answer)
    code, subcode = error.code, error.error_subcode
    numbers = f"{code}/{subcode}" if subcode else str(code)
    said = f"Meta: {answer.path} error {numbers}: {error.message[:200]} (fbtrace_id {error.fbtrace_id})"
    if subcode in WRONG_SUBCODES:
        return Problem("protocol", said)
    if code in THROTTLED or subcode in THROTTLED_SUBCODES:
        wait_s = max(regain_s(answer), WAIT_S_MIN)
        return Problem("throttled", said, "The next run goes on.", retry=True, wait_s=wait_s)
    if code in DEAD_TOKEN:
        why = DEAD_TOKEN_REASONS.get(subcode or 0, "it is not valid")
        return Problem("credential", said, f"Connect again: make a new access token ({why}).")
    if code in {3, 10} or 200 <= code <= 299:
        return Problem(
            "scope", said, "Give the token's user this permission and its task on the page or account."
        )
    if error.is_transient or code in PASSING or subcode in PASSING_SUBCODES or answer.status >= 500:
        return Problem("vendor", said, "The next run tries again.", retry=True)
    if code == 100 and subcode == 33:
        hint = "The id is wrong, or the token's user may not see what it names."
        return Problem("config", said, hint)
    general = default_classify(answer)
    return replace(general, message=said) if general and general.retry else Problem("protocol", said)


def pace(answer: Answer) -> float:
    """Seconds to wait before the next call: slower from 75 % of a limit, not at all from 95 %."""
    used = max((percent for usage in _usages(answer) for percent in _percentages(usage)), default=0.0)
    if used >= STOP_FROM_PERCENT:
        return max(regain_s(answer), WAIT_S_MIN)
    if used < SLOW_FROM_PERCENT:
        return 0.0
    return SLOWEST_S * (used - SLOW_FROM_PERCENT) / (STOP_FROM_PERCENT - SLOW_FROM_PERCENT)


def regain_s(answer: Answer) -> float:
    """Seconds until the vendor expects to answer again; 0 where it does not say."""
    waits = [0.0]
    for usage in _usages(answer):
        for name, unit_s in (("estimated_time_to_regain_access", 60.0), ("reset_time_duration", 1.0)):
            value = usage.get(name)
            if isinstance(value, int | float):
                waits.append(value * unit_s)
    return max(waits)


def _percentages(usage: dict[str, Any]) -> Iterator[float]:
    for name, value in usage.items():
        if name in PERCENTAGES and isinstance(value, int | float):
            yield float(value)


def _usages(answer: Answer) -> Iterator[dict[str, Any]]:
    """The flat objects of the usage headers; one of them holds lists of objects by account."""
    for name in USAGE_HEADERS:
        text = answer.headers.get(name)
        if text is None:
            continue
        try:
            usage = msgspec.json.decode(text)
        except msgspec.DecodeError:
            continue
        if not isinstance(usage, dict):
            continue
        yield usage
        for value in usage.values():
            if isinstance(value, list):
                yield from (part for part in value if isinstance(part, dict))
