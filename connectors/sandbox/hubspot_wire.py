"""What all of the simulated HubSpot's calls share: token check, rate limits, error bodies, call and answer.

Source: the vendor's usage guidelines and error guide, as told in the project's notes on HubSpot.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.sandbox.accounts import HUBSPOT_TOKEN
from connectors.sandbox.state import State

BURST, BURST_SECONDS = 190, 10.0  # a Professional account
SEARCHES, SEARCH_SECONDS = 5, 1.0
DAILY = 250_000


class Refusal(Exception):
    """The vendor's no: a status and the body of its error."""

    def __init__(self, status: int, message: str, *, category: str = "VALIDATION_ERROR", **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = error(message, category=category, **more)


def error(message: str, *, category: str | None = None, **more: Any) -> dict[str, Any]:
    """An error's body; `more` holds errors, context, policyName and the like."""
    body = {"status": "error", "message": message, "correlationId": str(uuid.uuid4())}
    return body | more | ({"category": category} if category else {})


def row_error(message: str, *, category: str, context: dict[str, list[str]]) -> dict[str, Any]:
    """One entry of a 207's `errors`."""
    return {"status": "error", "category": category, "message": message, "context": context}


@dataclass(frozen=True, slots=True)
class Call:
    """One request as the handlers see it."""

    state: State
    query: Mapping[str, Sequence[str]]
    path: Mapping[str, str]
    raw: bytes

    def text(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[-1]

    def names(self, name: str) -> list[str]:
        """Names given once separated by commas, or several times. [] when absent."""
        return [part for value in self.query.get(name, []) for part in value.split(",") if part]

    def whole(self, name: str, *, default: int, most: int) -> int:
        """A whole number of 1 to `most`. Raises Refusal (400) otherwise."""
        return whole(self.text(name, str(default)), name=name, most=most)

    def json(self) -> dict[str, Any]:
        """The body. Raises Refusal (400) when it is no JSON object."""
        try:
            body = json.loads(self.raw)
        except ValueError as wrong:
            raise Refusal(400, "Invalid input JSON: the body could not be read") from wrong
        if not isinstance(body, dict):
            raise Refusal(400, "Invalid input JSON: an object is wanted")
        return body


def whole(value: Any, *, name: str, most: int) -> int:
    """Raises Refusal (400) unless `value` is a whole number of 1 to `most`, as number or text."""
    text = str(value)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise Refusal(400, f"{name} must be a whole number between 1 and {most}, was {text}")
    return int(text)


Handler = Callable[[Call], Response]


def endpoint(state: State, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Runs `handler` in a thread; turns its Refusal into the error's answer."""

    async def answer(request: Request) -> Response:
        query: dict[str, list[str]] = {}
        for name, value in request.query_params.multi_items():
            query.setdefault(name, []).append(value)
        call = Call(state, query, request.path_params, await request.body())
        try:
            return await run_in_threadpool(handler, call)
        except Refusal as refusal:
            return JSONResponse(refusal.body, refusal.status)

    return answer


def iso(at: float) -> str:
    """Unix seconds as HubSpot writes them: UTC with milliseconds and Z."""
    return datetime.fromtimestamp(round(at * 1000) / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def milliseconds(value: str) -> int:
    """Epoch milliseconds of an ISO 8601 time or a number of milliseconds. Raises Refusal (400)."""
    if value.lstrip("-").isdigit():
        return int(value)
    try:
        at = datetime.fromisoformat(value)
    except ValueError as wrong:
        raise Refusal(400, f"{value} was not a valid long or date") from wrong
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def batch(
    results: list[dict[str, Any]], errors: list[dict[str, Any]], *, started: float, status: int = 200
) -> JSONResponse:
    """A batch call's answer: `status`, or 207 when a row failed."""
    body: dict[str, Any] = {"status": "COMPLETE", "results": results}
    if errors:
        body |= {"numErrors": len(errors), "errors": errors}
    body |= {"startedAt": iso(started), "completedAt": iso(time.time())}
    return JSONResponse(body, 207 if errors else status)


class Window:
    """Counts calls within the last `seconds`; safe to use from several threads."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most, self.seconds = most, seconds
        self._calls: deque[float] = deque()
        self._lock = threading.Lock()

    def take(self) -> int | None:
        """How many calls are left after this one, or None when it is one too many (and does not count)."""
        now = time.monotonic()
        with self._lock:
            while self._calls and self._calls[0] <= now - self.seconds:
                self._calls.popleft()
            if len(self._calls) >= self.most:
                return None
            self._calls.append(now)
            return self.most - len(self._calls)


class Gate:
    """Asks for the token and keeps the limits: 190 calls in 10 s, 5 searches a second.

    A search counts in both windows: the vendor does not say, and this is the stricter reading. Answers to
    searches carry no limit headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._burst = Window(BURST, BURST_SECONDS)
        self._search = Window(SEARCHES, SEARCH_SECONDS)
        self._daily = DAILY

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(Headers(scope=scope).get("authorization"))
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        search = scope["path"].endswith("/search")
        if search and self._search.take() is None:
            await _too_many("secondly", "SECONDLY")(scope, receive, send)
            return
        left = self._burst.take()
        self._daily -= left is not None
        headers = {} if search else self._headers(left or 0)
        if left is None:
            await _too_many("ten_secondly_rolling", "TEN_SECONDLY_ROLLING", headers)(scope, receive, send)
            return

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        await self.app(scope, receive, send_with_limits)

    def _headers(self, left: int) -> dict[str, str]:
        return {
            "X-HubSpot-RateLimit-Max": str(BURST),
            "X-HubSpot-RateLimit-Remaining": str(left),
            "X-HubSpot-RateLimit-Interval-Milliseconds": str(round(BURST_SECONDS * 1000)),
            "X-HubSpot-RateLimit-Daily": str(DAILY),
            "X-HubSpot-RateLimit-Daily-Remaining": str(max(0, self._daily)),
        }

    @staticmethod
    def _refusal(authorization: str | None) -> Response | None:
        if authorization == f"Bearer {HUBSPOT_TOKEN}":
            return None
        message = "Authentication credentials not found. This API supports OAuth 2.0 authentication"
        return JSONResponse(error(message, category="INVALID_AUTHENTICATION"), 401)


def _too_many(limit: str, policy: str, headers: dict[str, str] | None = None) -> Response:
    body = error(f"You have reached your {limit} limit.", errorType="RATE_LIMIT", policyName=policy)
    return JSONResponse(body, 429, headers)
