"""The one HTTP client of all connectors: authentication, retry, pacing, bounds, redaction, logging."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from threading import BoundedSemaphore, Lock
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar

import httpx
import msgspec
import structlog
import tenacity

from connectors.errors import ConnectorError, Kind

T = TypeVar("T")
log = structlog.get_logger()
MIB = 1024 * 1024
RETRY_STATUSES = frozenset({408, 423, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
LONGEST_WAIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the body whole, at most `HttpSettings.max_body_bytes` of it."""

    status: int
    headers: httpx.Headers
    body: bytes
    path: str

    def decode(self, type: type[T] = Any) -> T:  # type: ignore[assignment]  # Any as a type's default
        """The body as JSON. Raises `ConnectorError` (protocol) that says what came instead, never the body."""
        try:
            return msgspec.json.decode(self.body, type=type)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            start = self.body.lstrip()[:1]
            what = "HTML" if start == b"<" else "nothing" if not start else "no valid JSON"
            raise ConnectorError(
                "protocol",
                f"{self.path} answered {what} in place of JSON ({len(self.body)} bytes, status {self.status})",
                hint="Open the address in a browser: a login page, a firewall or a plug-in may answer.",
                status=self.status,
            ) from error

    def raw_items(self, *keys: str) -> list[msgspec.Raw]:
        """The exact bytes of each item of the list at these keys; without keys the body is the list."""
        part = msgspec.Raw(self.body)
        for key in keys:
            members = _decode(self, part, dict[str, msgspec.Raw])
            if key not in members:
                raise ConnectorError("protocol", f"{self.path} answered without {key!r}", status=self.status)
            part = members[key]
        return _decode(self, part, list[msgspec.Raw])


def _decode(answer: Answer, part: msgspec.Raw, type: type[T]) -> T:
    try:
        return msgspec.json.decode(part, type=type)
    except msgspec.DecodeError:
        return Answer(answer.status, answer.headers, bytes(part), answer.path).decode(type)


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that is no success: who has to act, and whether the same call may succeed later."""

    kind: Kind
    message: str
    hint: str = ""
    retry: bool = False
    wait_s: float | None = None


def retry_after_s(headers: httpx.Headers, *, now: datetime | None = None) -> float | None:
    """Seconds of a Retry-After header, in either form of RFC 9110; None when there is none."""
    value = headers.get("retry-after")
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        at = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())


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


Classify = Callable[[Answer], Problem | None]


@dataclass(frozen=True)
class HttpSettings:
    """How to talk to one vendor. Times in seconds; `per_second` calls at most, `parallel` at once.

    `classify` tells what an answer means, `pace` how long to wait before the next call (from the vendor's
    rate-limit headers). `secrets` are taken out of every error.
    """

    base_url: str
    auth: httpx.Auth | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    classify: Classify = default_classify
    per_second: float | None = None
    burst: int = 1
    parallel: int = 4
    timeout_s: float = 60.0
    retries: int = 5
    retry_base_s: float = 1.0
    retry_max_s: float = 60.0
    max_body_bytes: int = 64 * MIB
    secrets: tuple[str, ...] = ()
    allow_plain_http: bool = False
    pace: Callable[[Answer], float] | None = None


class _Retry(Exception):
    def __init__(self, problem: Problem, cause: Exception | None = None) -> None:
        self.problem = problem
        self.cause = cause


class Http:
    """The client for one vendor; safe to use from several threads. Close it, or use it as a context."""

    def __init__(
        self,
        settings: HttpSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        base = httpx.URL(settings.base_url)
        if base.scheme not in ("http", "https") or not base.host:
            raise ConnectorError("config", "the address must begin with https://")
        if base.scheme == "http" and not settings.allow_plain_http and not _is_loopback(base.host):
            raise ConnectorError(
                "config",
                f"{base.host} is addressed over plain http, which would show the key to everybody between",
                hint="Write https://.",
            )
        self._base = base
        self._sleep = sleep
        self._pacer = _Pacer(settings.per_second, settings.burst, clock, sleep)
        self._at_once = BoundedSemaphore(settings.parallel)
        self._client = httpx.Client(
            auth=settings.auth,
            headers={"user-agent": "leadledger", "accept": "application/json", **settings.headers},
            timeout=httpx.Timeout(settings.timeout_s, connect=min(20.0, settings.timeout_s)),
            limits=httpx.Limits(max_connections=settings.parallel),
            follow_redirects=False,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Answer:
        return self._call("GET", path, params=params)

    def post(self, path: str, json: Any = None, params: Mapping[str, Any] | None = None) -> Answer:
        return self._call("POST", path, json=json, params=params)

    def _call(self, method: str, path: str, *, params: Mapping[str, Any] | None, json: Any = None) -> Answer:
        url = self._url(path)
        settings = self.settings
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Retry),
            stop=tenacity.stop_after_attempt(settings.retries + 1),
            wait=self._wait,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(self._once, method, url, params, json)
        except _Retry as last:
            raise self._error(last.problem) from last.cause

    def _url(self, path: str) -> httpx.URL:
        if path.startswith(("http://", "https://")):
            url = httpx.URL(path)
        else:
            joined = f"{self._base.path.rstrip('/')}/{path.lstrip('/')}"
            parsed = httpx.URL(joined)
            url = self._base.copy_with(raw_path=parsed.raw_path)
        if (url.scheme, url.host, url.port) != (self._base.scheme, self._base.host, self._base.port):
            raise ConnectorError(
                "protocol", f"the vendor's link leads to another host ({url.host}); it was not followed"
            )
        return url

    def _wait(self, state: tenacity.RetryCallState) -> float:
        settings = self.settings
        error = state.outcome.exception() if state.outcome else None
        asked = error.problem.wait_s if isinstance(error, _Retry) else None
        if asked is not None:
            return asked
        grow = tenacity.wait_random_exponential(multiplier=settings.retry_base_s, max=settings.retry_max_s)
        return grow(state)

    def _once(self, method: str, url: httpx.URL, params: Mapping[str, Any] | None, json: Any) -> Answer:
        self._pacer.wait()
        started = time.monotonic()
        try:
            with self._at_once:
                answer = self._exchange(method, url, params, json)
        except httpx.TransportError as error:
            problem = Problem("vendor", f"{url.path}: {_describe(error)}", "The next run tries again.", True)
            log.warning("http_failed", method=method, path=url.path, error=type(error).__name__)
            raise _Retry(problem, error) from error
        log.debug(
            "http_call",
            method=method,
            path=answer.path,
            status=answer.status,
            ms=round((time.monotonic() - started) * 1000),
            bytes=len(answer.body),
        )
        if self.settings.pace is not None:
            self._pacer.hold(self.settings.pace(answer))
        problem_found = self._redirected(answer) or self.settings.classify(answer)
        if problem_found is None:
            return answer
        if problem_found.retry and (problem_found.wait_s or 0) <= LONGEST_WAIT_S:
            log.warning("http_retry", path=answer.path, status=answer.status, wait_s=problem_found.wait_s)
            raise _Retry(problem_found)
        raise self._error(problem_found, status=answer.status)

    def _exchange(self, method: str, url: httpx.URL, params: Mapping[str, Any] | None, json: Any) -> Answer:
        content = None if json is None else msgspec.json.encode(json)
        headers = {} if json is None else {"content-type": "application/json"}
        with self._client.stream(
            method, url, params=dict(params) if params else None, content=content, headers=headers
        ) as response:
            limit = self.settings.max_body_bytes
            parts: list[bytes] = []
            size = 0
            for part in response.iter_bytes():
                size += len(part)
                if size > limit:
                    raise ConnectorError(
                        "too_large",
                        f"{url.path} answered more than {limit // MIB} MiB",
                        hint="Ask for smaller pages in the connector's options.",
                    )
                parts.append(part)
            return Answer(response.status_code, response.headers, b"".join(parts), url.path)

    def _redirected(self, answer: Answer) -> Problem | None:
        if answer.status not in (301, 302, 303, 307, 308):
            return None
        target = httpx.URL(answer.headers.get("location", "")).host or "another path"
        return Problem(
            "config",
            f"{answer.path} redirects to {target}; credentials do not follow redirects",
            "Write the address to which it leads in the config, if it is yours.",
        )

    def _error(self, problem: Problem, *, status: int | None = None) -> ConnectorError:
        message, hint = problem.message, problem.hint
        for secret in self.settings.secrets:
            if secret:
                message, hint = message.replace(secret, "[secret]"), hint.replace(secret, "[secret]")
        return ConnectorError(problem.kind, message, hint=hint, status=status)


def _describe(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.ConnectError):
        return "cannot connect"
    return f"the connection broke ({type(error).__name__})"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class _Pacer:
    """A token bucket shared by threads; `hold` adds a pause that the vendor asked for."""

    def __init__(
        self,
        per_second: float | None,
        burst: int,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._gap = 1 / per_second if per_second else 0.0
        self._burst = burst
        self._clock = clock
        self._sleep = sleep
        self._lock = Lock()
        self._next = clock()  # when the bucket would be full again but for `burst` calls

    def wait(self) -> None:
        with self._lock:
            now = self._clock()
            self._next = max(self._next, now - self._gap * (self._burst - 1))
            pause = self._next - now
            self._next += self._gap
        if pause > 0:
            self._sleep(pause)

    def hold(self, seconds: float) -> None:
        if seconds > 0:
            with self._lock:
                self._next = max(self._next, self._clock() + min(seconds, LONGEST_WAIT_S))
