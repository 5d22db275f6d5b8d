"""The one HTTP client of all connectors: authentication, retry, pacing, bounds, redaction, logging."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from ipaddress import ip_address
from threading import BoundedSemaphore
from types import MappingProxyType, TracebackType
from typing import Any, Self

import httpx
import msgspec
import structlog
import tenacity

from connectors import _body
from connectors._answer import Answer, Classify, Problem, default_classify
from connectors._pace import LONGEST_WAIT_S, Pacer, retry_after_s
from connectors.errors import ConnectorError

__all__ = ["Answer", "Classify", "Http", "HttpSettings", "Problem", "default_classify", "retry_after_s"]

MIB = 1024 * 1024
ANSWER_S = 600.0
REDIRECTS = frozenset({301, 302, 303, 307, 308})

# At INFO and below these write whole addresses with their queries, and headers.
for _chatty in ("httpx", "httpcore"):
    logging.getLogger(_chatty).setLevel(logging.WARNING)


EXPECTED_STATUSES = frozenset({404, 409})
"""Answers that a connector asks for at times (is it there already?): no reason for a warning in the log."""


@dataclass(frozen=True)
class HttpSettings:
    """How to talk to one vendor. Times in seconds; `per_second` calls at most, `parallel` at once.

    Attributes
    ----------
    base_url : https; plain http only to this machine.
    classify : what an answer means; None is success.
    timeout_s : until the connection is made, and between two parts of an answer; `answer_s` bounds it whole.
    retries : tries after the first, `retry_base_s` doubling up to `retry_max_s` between them, with jitter.
    secrets : taken out of every error and log line.
    pace : how long to wait before the next call, from the vendor's rate-limit headers.
    """

    base_url: str
    auth: httpx.Auth | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    classify: Classify = default_classify
    per_second: float | None = None
    burst: int = 1
    parallel: int = 4
    timeout_s: float = 60.0
    answer_s: float = field(default_factory=lambda: ANSWER_S)
    retries: int = 5
    retry_base_s: float = 1.0
    retry_max_s: float = 60.0
    max_body_bytes: int = 64 * MIB
    secrets: tuple[str, ...] = ()
    pace: Callable[[Answer], float] | None = None


class _Retry(Exception):
    def __init__(self, problem: Problem, *, status: int | None, cause: Exception | None) -> None:
        self.problem = problem
        self.status = status
        self.cause = cause


class _TooSlow(httpx.ReadTimeout):
    """The parts of an answer came in time, but their number has no end."""


class Http:
    """The client for one vendor; safe to use from several threads. Close it, or use it as a context.

    Every call is logged as `http_call` with method, path, status, ms, bytes and try; the query, the headers
    and the bodies are not. Raises `ConnectorError` where an answer is no success and trying again is over.
    """

    def __init__(
        self,
        settings: HttpSettings,
        *,
        user_agent: str | None = None,
        log: Any = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self._base = _base(settings)
        self._log = log if log is not None else structlog.get_logger(__name__)
        self._clock = clock
        self._sleep = sleep
        self._pacer = Pacer(settings.per_second, settings.burst, clock=clock, sleep=sleep)
        self._at_once = BoundedSemaphore(settings.parallel)
        self._client = httpx.Client(
            auth=settings.auth,
            headers={
                "user-agent": user_agent or _user_agent(),
                "accept": "application/json",
                "accept-encoding": _body.ACCEPTED,
                **settings.headers,
            },
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
        """`path` is relative to `base_url`, or a link of the vendor to the same host."""
        return self._call("GET", path, params, None)

    def post(self, path: str, json: Any = None, params: Mapping[str, Any] | None = None) -> Answer:
        """The call may arrive twice (a broken connection is tried again), so it must not mind that."""
        return self._call("POST", path, params, None if json is None else msgspec.json.encode(json))

    def _call(
        self, method: str, path: str, params: Mapping[str, Any] | None, content: bytes | None
    ) -> Answer:
        url = self._url(path)
        wanted = {name: value for name, value in (params or {}).items() if value is not None}
        if wanted:
            url = url.copy_merge_params(wanted)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Retry),
            stop=tenacity.stop_after_attempt(self.settings.retries + 1),
            wait=self._wait_s,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            for attempt in retrying:
                with attempt:
                    answer = self._once(method, url, content, attempt.retry_state.attempt_number)
        except _Retry as last:
            raise self._error(last.problem, status=last.status) from last.cause
        return answer

    def _url(self, path: str) -> httpx.URL:
        try:
            if path.startswith(("http://", "https://")):
                url = httpx.URL(path)
            else:
                joined = httpx.URL(f"{self._base.path.rstrip('/')}/{path.lstrip('/')}")
                url = self._base.copy_with(raw_path=joined.raw_path)
        except httpx.InvalidURL as error:
            raise ConnectorError("protocol", "an address could not be read") from error
        if _origin(url) != _origin(self._base) or url.userinfo:
            raise ConnectorError(
                "protocol", f"the vendor's link leads to another host ({url.host}); it was not followed"
            )
        return url

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.problem.wait_s if isinstance(error, _Retry) else None
        if asked_s is not None:
            return asked_s
        grow = tenacity.wait_random_exponential(
            multiplier=self.settings.retry_base_s, max=self.settings.retry_max_s
        )
        return grow(state)

    def _once(self, method: str, url: httpx.URL, content: bytes | None, number: int) -> Answer:
        self._pacer.wait()
        with self._at_once:
            answer = self._logged(method, url, content, number)
        if self.settings.pace is not None:
            self._pacer.hold(self.settings.pace(answer))
        problem = _redirected(answer) or self.settings.classify(answer)
        if problem is None:
            return answer
        if problem.retry and (problem.wait_s or 0.0) <= LONGEST_WAIT_S:
            if problem.kind == "throttled":
                self._pacer.hold(problem.wait_s or 0.0)  # the other threads would only be refused as well
            raise _Retry(problem, status=answer.status, cause=None)
        raise self._error(problem, status=answer.status)

    def _logged(self, method: str, url: httpx.URL, content: bytes | None, number: int) -> Answer:
        seen: dict[str, Any] = {"status": None, "bytes": 0}
        started = self._clock()
        failed = True
        try:
            answer = self._exchange(method, url, content, seen)
            failed = answer.status >= 400 and answer.status not in EXPECTED_STATUSES
            return answer
        except httpx.RequestError as error:
            seen["error"] = type(error).__name__
            problem = _describe(url, error)
            if not problem.retry:
                raise self._error(problem) from error
            raise _Retry(problem, status=None, cause=error) from error
        finally:
            say = self._log.warning if failed else self._log.debug
            ms = round((self._clock() - started) * 1000)
            say("http_call", method=method, path=self._clean(url.path), ms=ms, **{"try": number}, **seen)

    def _exchange(self, method: str, url: httpx.URL, content: bytes | None, seen: dict[str, Any]) -> Answer:
        headers = {} if content is None else {"content-type": "application/json"}
        limit = self.settings.max_body_bytes
        give_up_at = self._clock() + self.settings.answer_s
        with self._client.stream(method, url, content=content, headers=headers) as response:
            seen["status"] = response.status_code
            parts: list[bytes] = []
            path = self._clean(url.path)
            try:
                for part in _body.parts(response, path=path, bytes_max=limit):
                    seen["bytes"] += len(part)
                    if self._clock() > give_up_at:
                        raise _TooSlow("the answer did not end in time", request=response.request)
                    parts.append(part)
            except _body.TooLarge as error:
                raise ConnectorError(
                    "too_large", f"{path} answered more than {limit:,} bytes", status=response.status_code
                ) from error
            return Answer(response.status_code, response.headers, b"".join(parts), url.path)

    def _error(self, problem: Problem, *, status: int | None = None) -> ConnectorError:
        message, hint = self._clean(problem.message), self._clean(problem.hint)
        return ConnectorError(problem.kind, message, hint=hint, status=status)

    def _clean(self, text: str) -> str:
        for secret in self.settings.secrets:
            if secret:
                text = text.replace(secret, "[secret]")
        return text


def _base(settings: HttpSettings) -> httpx.URL:
    try:
        base = httpx.URL(settings.base_url)
    except httpx.InvalidURL as error:
        raise ConnectorError("config", "the address cannot be read", hint="Write https://…") from error
    if base.scheme not in ("http", "https") or not base.host:
        raise ConnectorError("config", "the address must begin with https://")
    if base.userinfo or base.query or base.fragment:
        raise ConnectorError(
            "config",
            "the address holds more than scheme, host and path",
            hint="Keys belong into their own options.",
        )
    if base.scheme == "http" and not _is_loopback(base.host):
        raise ConnectorError(
            "config",
            f"{base.host} is addressed over plain http, which would show the key or the records to everybody between",
            hint="Write https://.",
        )
    return base


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _user_agent() -> str:
    try:
        return f"leadledger/{metadata.version('leadledger')}"
    except metadata.PackageNotFoundError:
        return "leadledger"


def _redirected(answer: Answer) -> Problem | None:
    if answer.status not in REDIRECTS:
        return None
    try:
        target = httpx.URL(answer.headers.get("location", ""))
        where = f"{target.scheme}://{target.host}" if target.host else target.path or "nowhere"
    except httpx.InvalidURL:
        where = "an address that cannot be read"
    return Problem(
        "config",
        f"{answer.path} redirects to {where}; credentials do not follow redirects",
        "Write the address to which it leads into the config, if it is yours.",
    )


def _describe(url: httpx.URL, error: httpx.RequestError) -> Problem:
    if _has_wrong_certificate(error):
        message = f"{url.host} shows a certificate that does not hold"
        return Problem("config", message, "Renew it, or correct the address.")
    if isinstance(error, httpx.TimeoutException):
        what = "no answer in time"
    elif isinstance(error, httpx.ConnectError):
        what = f"cannot connect to {url.host}"
    elif isinstance(error, httpx.DecodingError):
        what = "the answer cannot be unpacked"
    else:
        what = f"the connection broke ({type(error).__name__})"
    return Problem("vendor", f"{url.path}: {what}", "The next run tries again.", retry=True)


def _has_wrong_certificate(error: BaseException | None) -> bool:
    seen: set[int] = set()  # a chain of causes may lead back to itself
    while error is not None and id(error) not in seen:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
