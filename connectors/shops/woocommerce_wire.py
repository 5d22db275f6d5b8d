"""What WooCommerce's answers look like: the few fields that are read of each, their times, the errors; and how
a request is signed."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
from authlib.oauth1 import ClientAuth

from connectors._answer import read
from connectors.http import Answer, Problem, default_classify

SECOND = timedelta(seconds=1)
NO_ROUTE = "rest_no_route"
INVALID_PARAM = "rest_invalid_param"
GONE = ("_invalid_id", "_invalid_order_id", "_invalid_order_refund_id")
"""Ends of the codes of a 404 for an order or a refund that is not there; the controllers differ."""
CANNOT_VIEW = "woocommerce_rest_cannot_view"


class OAuth1(httpx.Auth):
    """Signs each request with OAuth 1.0a, one-legged, in the header: the secret itself never travels.

    Authlib's own class for httpx belongs to another HTTP library in its newer releases, so its
    transport-free half is used.
    """

    def __init__(self, key: str, secret: str) -> None:
        self._signer = ClientAuth(key, secret)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        _, headers, _ = self._signer.prepare(request.method, str(request.url), {}, b"")
        request.headers["Authorization"] = headers["Authorization"]
        yield request


class KeysInQuery(httpx.Auth):
    """For servers that drop the Authorization header. The keys end up in the shop's access log."""

    def __init__(self, key: str, secret: str) -> None:
        self._keys = {"consumer_key": key, "consumer_secret": secret}

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.url = request.url.copy_merge_params(self._keys)
        yield request


class _Item(msgspec.Struct):
    """Types are left open: PHP and plug-ins put false, "" or [] where there is nothing."""

    id: Any = None
    status: Any = None
    currency: Any = None
    total: Any = None
    total_tax: Any = None
    shipping_total: Any = None
    date_created_gmt: Any = None
    date_modified_gmt: Any = None
    date_paid_gmt: Any = None
    refunds: Any = None
    parent_id: Any = None  # of a refund: its order
    amount: Any = None  # of a refund


@dataclass(frozen=True, slots=True)
class Row:
    """One item of a list: its bytes, and what is looked at."""

    id: str
    body: bytes
    item: _Item

    @property
    def created_at(self) -> datetime | None:
        return time_of(self.item.date_created_gmt)

    @property
    def modified_at(self) -> datetime | None:
        return time_of(self.item.date_modified_gmt)


def row_of(raw: msgspec.Raw) -> Row:
    """An item without an id that can be read is known by its hash: it is set aside later, not lost."""
    body = bytes(raw)
    item = _item_of(body)
    known = isinstance(item.id, int | str) and item.id != ""
    return Row(str(item.id) if known else hashlib.sha256(body).hexdigest(), body, item)


class _Known(msgspec.Struct):
    id: Any = None
    date_created_gmt: Any = None
    date_modified_gmt: Any = None


def _item_of(body: bytes) -> _Item:
    """What can be read of an item: all, or at least which it is, where a number of it has no end."""
    try:
        return read(body, _Item)
    except msgspec.DecodeError:
        pass
    try:
        known = read(body, _Known)
    except msgspec.DecodeError:
        return _Item()
    times = {"date_created_gmt": known.date_created_gmt, "date_modified_gmt": known.date_modified_gmt}
    return _Item(id=known.id, **times)


@dataclass(frozen=True, slots=True)
class Rows:
    """One page of a list. `total` is what the shop says the whole list holds."""

    rows: list[Row]
    total: int | None
    last: bool


def rows_of(answer: Answer, *, page: int, per_page: int) -> Rows:
    """A page may come short although others follow (plug-ins hide rows), so the header decides."""
    rows = [row_of(raw) for raw in answer.raw_items()]
    pages = _number(answer.headers.get("X-WP-TotalPages"))
    last = page >= pages if pages is not None else len(rows) < per_page
    return Rows(rows, _number(answer.headers.get("X-WP-Total")), last)


def _number(text: str | None) -> int | None:
    """A count in a header; one of more digits than any count has is none."""
    return int(text) if text is not None and len(text) < 19 and text.isascii() and text.isdigit() else None


def time_of(value: Any) -> datetime | None:
    """A `*_gmt` time: UTC without saying so."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) and value else None
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time else None


def within(time: datetime | None, since: datetime, until: datetime) -> bool:
    """Whether the shop's time lies in the window; one that cannot be read does, so that it is not lost."""
    return time is None or since <= time < until


def after(inclusive: datetime) -> datetime:
    """The bound from which "after", which is strict and knows whole seconds, shows `inclusive`."""
    return inclusive.astimezone(UTC).replace(microsecond=0) - SECOND


def before(exclusive: datetime) -> datetime:
    """The bound up to which "before" shows all that is earlier than `exclusive`."""
    whole = exclusive.astimezone(UTC).replace(microsecond=0)
    return whole if whole == exclusive else whole + SECOND


def stamp(time: datetime) -> str:
    """Without offset: the shop ignores it, and reads UTC because of `dates_are_gmt`."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


class _Details(msgspec.Struct):
    params: Any = None


class _Error(msgspec.Struct):
    code: Any = ""
    data: _Details | None = None


def error_of(answer: Answer) -> tuple[str, tuple[str, ...]]:
    """The code of a WordPress error and the parameters that it names; empty when it is none."""
    try:
        error = msgspec.json.decode(answer.body, type=_Error)
    except msgspec.DecodeError:
        return "", ()
    params = error.data.params if error.data else None
    return str(error.code)[:100], tuple(map(str, params)) if isinstance(params, dict) else ()


def classify(answer: Answer) -> Problem | None:
    """What an answer means; a missing route, a refused parameter and a record that is gone are left to the one who
    asked."""
    if answer.status < 400:
        if answer.body.lstrip()[:1] in (b"[", b"{"):
            return None
        return Problem(
            "vendor",
            f"{answer.path} answered something else before or in place of JSON",
            "Look at the shop's PHP error log and at plug-ins that print notices.",
            retry=True,
        )
    left = error_of(answer)[0] in (NO_ROUTE, INVALID_PARAM) or says_gone(answer)
    return None if left else problem_of(answer)


def says_gone(answer: Answer) -> bool:
    """Whether WooCommerce itself says that it has no record of the id that was asked for."""
    code = error_of(answer)[0]
    return answer.status == 404 and code.startswith("woocommerce_rest_") and code.endswith(GONE)


def problem_of(answer: Answer) -> Problem | None:
    """What an error answer means."""
    code, params = error_of(answer)
    said = f"{answer.path} answered {answer.status} {' '.join((code, *params))}".rstrip()
    if answer.status == 403 and not code:
        return Problem(
            "vendor",
            f"{said}, and not from WordPress",
            "A firewall before the shop (Cloudflare, ModSecurity) stops us: allow this machine's address there.",
            retry=True,
        )
    if answer.status == 401 and code == CANNOT_VIEW:
        return Problem(
            "scope",
            said,
            "The key's user may not read this, the key has no read right, or the server drops the"
            " Authorization header (then set keys_in_query).",
        )
    if answer.status == 401:
        return Problem(
            "credential",
            said,
            "Make a new key in WooCommerce > Settings > Advanced > REST API; on http also compare the"
            " clocks of both machines.",
        )
    if answer.status == 404 and code in ("", NO_ROUTE):
        return Problem(
            "config",
            said,
            "Check base_url (the shop's root), that WooCommerce is active, and that Settings > Permalinks is not"
            " on 'Plain'.",
        )
    if answer.status == 400:
        return Problem("protocol", said, "The shop's version does not know this parameter.")
    general = default_classify(answer)
    return general and replace(general, message=said)
