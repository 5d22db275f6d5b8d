"""HubSpot's API as source and destination both need it: options, pace, and what its errors mean.

Facts: developers.hubspot.com (error handling, usage guidelines, search the CRM), CRM API v3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx
import msgspec
import pydantic

from connectors.contract import Finding
from connectors.errors import ConnectorError
from connectors.http import Answer, Http, HttpSettings, Problem, retry_after_s

CONTACTS = "/crm/v3/objects/contacts"
PROPERTIES = "/crm/v3/properties/contacts"
OWNERS = "/crm/v3/owners"
ACCOUNT = "/account-info/v3/details"

SEARCHES_PER_SECOND = 4.0
READ_SHARE, WRITE_SHARE, BURST_SHARE = 0.05, 0.08, 0.1
"""Of the account's calls in 10 s: so many a second, and so many at once. Whether searches count among them is
not settled, and they go beside the reads: of 100 calls 10 at once, 50 over 10 s and 40 searches stay within
it. Writing goes alone."""
PARALLEL = 4
WINDOW_S = 10.0
REMAINING_LOW = 2
MESSAGE_MAX = 300
RETRIED = frozenset({408, 500, 502, 503, 504, 521, 522, 523, 524})
MOVING = 477
LOCKED = 423
WRONG_TOKEN_SHAPE = 530
"""Of the content delivery network in front of the API."""

_ADDRESS = re.compile(r"([^\s@\"'<>()\[\],;:=])[^\s@\"'<>()\[\],;:=]*@([\w.-]+)")


class Options(pydantic.BaseModel):
    """What a `hubspot` connector is told.

    Attributes
    ----------
    access_token : a service key, or the token of a private app.
    base_url : only for another address than HubSpot's.
    properties : further properties of contacts to read (own utm fields, say).
    reason_property : the contact property in which sales says why a lead was rejected.
    own_source_ids : ids of the apps through which leadledger writes, as they stand in a property's history.
    allow_backward : whether a lifecycle stage may be taken back (it is cleared first, then set).
    page_size : contacts a search; the vendor's most is 200.
    calls_per_10_s : what the account's plan allows: 100 (Free, Starter), 190 (Professional, Enterprise).
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    access_token: pydantic.SecretStr
    base_url: str = "https://api.hubapi.com"
    properties: tuple[str, ...] = pydantic.Field(default=(), max_length=60)
    reason_property: str | None = pydantic.Field(default=None, pattern=r"^[a-z][a-z0-9_]*$")
    own_source_ids: tuple[str, ...] = ()
    allow_backward: bool = False
    page_size: int = pydantic.Field(default=200, ge=1, le=200)
    calls_per_10_s: int = pydantic.Field(default=100, ge=10, le=250)


class Bearer(httpx.Auth):
    """The token in the header, where it is in no log of addresses."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def settings(options: Options, *, search: bool = False, writing: bool = False) -> HttpSettings:
    """The shared client's settings; search has a pace of its own."""
    token = options.access_token.get_secret_value()
    share = WRITE_SHARE if writing else READ_SHARE
    return HttpSettings(
        base_url=options.base_url,
        auth=Bearer(token),
        classify=classify,
        per_second=SEARCHES_PER_SECOND if search else options.calls_per_10_s * share,
        burst=1 if search else round(options.calls_per_10_s * BURST_SHARE),
        parallel=1 if search else PARALLEL,
        timeout_s=110.0,  # the vendor gives up at 100 s
        secrets=(token,),
        pace=pace,
    )


def pace(answer: Answer) -> float:
    """Seconds to wait when the window of 10 s is used up. Search answers have no such headers."""
    try:
        remaining = int(answer.headers["X-HubSpot-RateLimit-Remaining"])
        window_s = int(answer.headers["X-HubSpot-RateLimit-Interval-Milliseconds"]) / 1000
    except (KeyError, ValueError):
        return 0.0
    return min(window_s, WINDOW_S) if remaining <= REMAINING_LOW else 0.0


def classify(answer: Answer) -> Problem | None:
    """What an answer means; 400, 404, 409, 413 and 414 of a batch write are that write's to read."""
    status = answer.status
    if status < 400 or (status in (400, 404, 409, 413, 414) and is_batch_write(answer.path)):
        return None
    body = error_body(answer)
    said = f"HubSpot: {answer.path} {status} {describe(body)}".strip()
    if status == 429:
        return _throttled(body, said, asked_s=retry_after_s(answer.headers))
    if status == LOCKED:
        return Problem("vendor", said, "A record is locked by another write.", retry=True, wait_s=2.0)
    if status == MOVING:
        return Problem("vendor", said, "HubSpot moves the account to another data centre; up to 24 hours.")
    if status in (401, WRONG_TOKEN_SHAPE):
        return Problem("credential", said, "Make a new token in HubSpot and put it into the config.")
    if status == 403:
        return _forbidden(body, said)
    if status in RETRIED:
        return Problem("vendor", said, retry=True, wait_s=retry_after_s(answer.headers))
    return Problem("config" if status < 500 else "vendor", said)


def _throttled(body: Mapping[str, Any], said: str, *, asked_s: float | None) -> Problem:
    policy = str(body.get("policyName", ""))
    if policy == "DAILY":
        hint = (
            "The account's calls of this day are used up (all its apps share them); they return at midnight."
        )
        return Problem("throttled", said, hint)
    if asked_s is not None:
        return Problem("throttled", said, retry=True, wait_s=asked_s)
    if policy.startswith("TEN_SECONDLY"):
        return Problem("throttled", said, retry=True, wait_s=WINDOW_S)
    secondly = policy == "SECONDLY" or "secondly limit" in str(body.get("message", ""))
    return Problem("throttled", said, retry=True, wait_s=1.0 if secondly else None)


def _forbidden(body: Mapping[str, Any], said: str) -> Problem:
    context = body.get("context")
    scopes = context.get("requiredGranularScopes") if isinstance(context, Mapping) else None
    if isinstance(scopes, list) and scopes:
        return Problem("scope", said, f"Give the token one of these scopes: {', '.join(map(str, scopes))}.")
    return Problem("scope", said, "Look at the scopes of the token.")


def is_batch_write(path: str) -> bool:
    """Whether a path is one whose answer tells of each record, and must be read whatever its status."""
    return path.endswith(
        (
            f"{CONTACTS}/batch/upsert",
            f"{CONTACTS}/batch/update",
            PROPERTIES + "/batch/create",
            PROPERTIES + "/groups",
        )
    )


def error_body(answer: Answer) -> Mapping[str, Any]:
    """The error's fields; empty when the body is not a JSON object. Every field may be missing."""
    try:
        body = msgspec.json.decode(answer.body)
    except msgspec.DecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def describe(error: Mapping[str, Any]) -> str:
    """An error in a line, without a whole e-mail address: what is wrong with which property, or the message.

    Values that are not valid are listed as JSON within the message text.
    """
    message = str(error.get("message", ""))
    text, start, tail = message.partition("[{")
    try:
        listed = msgspec.json.decode(start + tail) if start else []
        details = [f"{one.get('name')}: {one.get('message')} ({one.get('error')})" for one in listed]
    except (msgspec.DecodeError, AttributeError, TypeError):
        details = []
    parts = [
        str(error.get("category", "")),
        f"{text}{'; '.join(dict.fromkeys(details))}" if details else message,
    ]
    correlation = error.get("correlationId")
    if correlation:
        parts.append(f"(correlation id {correlation})")
    return mask(" ".join(part for part in parts if part))[:MESSAGE_MAX]


def mask(text: str) -> str:
    """Leave of an e-mail address its first letter and domain: ``a***@example.com``."""
    return _ADDRESS.sub(r"\1***@\2", text)


def tried(
    what: str, http: Http, path: str, json: Any = None, params: Mapping[str, Any] | None = None
) -> Finding:
    """One line of an online check: GET, or POST when there is a body."""
    try:
        if json is None:
            http.get(path, params)
        else:
            http.post(path, json)
    except ConnectorError as error:
        return Finding(what, ok=False, hint=str(error))
    return Finding(what, ok=True)
