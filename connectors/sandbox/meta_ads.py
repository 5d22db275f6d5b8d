"""The simulated Meta: Graph API v25.0 of pages, lead forms, leads, ad accounts, campaigns and insights, read only.

Written from the vendor's guides. Errors come as HTTP 400 with a code, fields only when asked for, a filter on leads
that cannot be read is ignored without a word.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from connectors.sandbox.accounts import META_TOKEN
from connectors.sandbox.state import Doc, State

VERSION = "v25.0"
BY_DEFAULT, MOST = 25, 500
# What comes when `fields` is not given. The insights' dates always come.
_USUAL: dict[str, tuple[str, ...]] = {
    "account": ("account_id", "id"),
    "campaign": ("id",),
    "form": ("id", "locale", "name", "status"),
    "insight": ("account_id", "impressions", "spend"),
    "lead": ("id", "created_time", "field_data"),
    "page": ("id", "name", "access_token", "category", "tasks"),
}
_HIDDEN_STATUSES = {"ARCHIVED", "DELETED"}


class GraphError(Exception):
    """An answer of HTTP 400 with a code that says what is wrong."""

    def __init__(
        self, message: str, *, code: int, subcode: int | None = None, type: str = "OAuthException"
    ) -> None:
        super().__init__(message)
        self.code, self.subcode, self.type = code, subcode, type

    def response(self) -> Response:
        body: dict[str, Any] = {"message": str(self), "type": self.type, "code": self.code}
        if self.subcode is not None:
            body["error_subcode"] = self.subcode
        return JSONResponse({"error": body | {"fbtrace_id": uuid.uuid4().hex[:11]}}, 400)


def app(state: State) -> ASGIApp:
    """The vendor over `state`, under /v25.0."""
    routes: dict[str, Handler] = {
        "me/accounts": pages,
        "me/adaccounts": accounts,
        "act_{account}/campaigns": campaigns,
        "act_{account}/insights": insights,
        "act_{account}": account,
        "{id}/leadgen_forms": forms,
        "{id}/leads": leads,
        "{id}": one,
    }
    return Starlette(
        routes=[
            Route(f"/{VERSION}/{path}", _endpoint(state, answer), methods=["GET"])
            for path, answer in routes.items()
        ],
        exception_handlers={404: _no_route, 405: _no_route},
    )


Handler = Callable[[State, Request], dict[str, Any]]


def _endpoint(state: State, handler: Handler) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        try:
            _check_token(state, request)
            return JSONResponse(handler(state, request))
        except GraphError as error:
            return error.response()

    return answer


def _check_token(state: State, request: Request) -> None:
    """The system user's token, or the token of one of its pages as `me/accounts` gives it."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        given = request.query_params.get("access_token", "")
    if given == META_TOKEN:
        return
    docs, _ = state.select("meta", "page")
    if not given or given not in {doc.body.get("access_token") for doc in docs}:
        raise GraphError("Invalid OAuth access token - Cannot parse access token", code=190)


def _no_route(request: Request, problem: Exception) -> Response:
    message = f"Unknown path components: {request.url.path}"
    return GraphError(message, code=2500).response()


def pages(state: State, request: Request) -> dict[str, Any]:
    docs, _ = state.select("meta", "page")
    return _listed(request, "page", docs)


def accounts(state: State, request: Request) -> dict[str, Any]:
    """The ad accounts the token may see: all."""
    docs, _ = state.select("meta", "account")
    return _listed(request, "account", docs)


def forms(state: State, request: Request) -> dict[str, Any]:
    """A page's forms, archived ones too."""
    page = _got(state, "page", request.path_params["id"])
    docs, _ = state.select("meta", "form", parent=page.id, order="at", descending=True)
    return _listed(request, "form", docs)


def leads(state: State, request: Request) -> dict[str, Any]:
    """A form's leads, the newest first."""
    form = _got(state, "form", request.path_params["id"])
    since, before = _time_created(request.query_params.get("filtering"))
    start, limit = _start(request), _limit(request)
    docs, total = state.select(
        "meta",
        "lead",
        parent=form.id,
        at_from=since,
        at_to=before,
        order="at",
        descending=True,
        limit=limit,
        offset=start,
    )
    return _page(request, [_chosen(request, "lead", doc) for doc in docs], start=start, total=total)


def account(state: State, request: Request) -> dict[str, Any]:
    return _chosen(request, "account", _account(state, request))


def campaigns(state: State, request: Request) -> dict[str, Any]:
    """An account's campaigns; archived and deleted ones only when `filtering` asks by effective_status."""
    account = _account(state, request)
    wanted = _statuses(request.query_params.get("filtering"))
    docs, _ = state.select("meta", "campaign", descending=True)
    found = []
    for doc in docs:
        owner = doc.parent or str(doc.body.get("account_id", ""))
        status = doc.body.get("effective_status", "ACTIVE")
        if owner.removeprefix("act_") in ("", account.id.removeprefix("act_")) and (
            status in wanted if wanted else status not in _HIDDEN_STATUSES
        ):
            found.append(doc)
    return _listed(request, "campaign", found)


def insights(state: State, request: Request) -> dict[str, Any]:
    """A row for each ad and day with delivery; both dates are within."""
    account = _account(state, request)
    if request.query_params.get("level") != "ad" or request.query_params.get("time_increment") != "1":
        raise GraphError("(#100) The sandbox has level=ad with time_increment=1 only", code=100)
    since, until = _range(request.query_params.get("time_range"))
    start, limit = _start(request), _limit(request)
    docs, total = state.select(
        "meta",
        "insight",
        parent=account.id,
        at_from=since,
        at_to=until,
        order="at",
        limit=limit,
        offset=start,
    )
    return _page(request, [_chosen(request, "insight", doc) for doc in docs], start=start, total=total)


def one(state: State, request: Request) -> dict[str, Any]:
    """A lead, form, page or campaign by its id."""
    for kind in ("lead", "form", "page", "campaign"):
        doc = state.get("meta", kind, request.path_params["id"])
        if doc is not None:
            return _chosen(request, kind, doc)
    raise _unknown(request.path_params["id"])


def _account(state: State, request: Request) -> Doc:
    return _got(state, "account", f"act_{request.path_params['account']}")


def _got(state: State, kind: str, id: str) -> Doc:
    doc = state.get("meta", kind, id)
    if doc is None:
        raise _unknown(id)
    return doc


def _unknown(id: str) -> GraphError:
    """Missing and not allowed to see look the same."""
    message = (
        f"Unsupported get request. Object with ID '{id}' does not exist, cannot be loaded due to missing"
        " permissions, or does not support this operation."
    )
    return GraphError(message, code=100, subcode=33, type="GraphMethodException")


def _chosen(request: Request, kind: str, doc: Doc) -> dict[str, Any]:
    """Only the fields asked for; one that the object lacks is left out, not null."""
    asked = [name for name in request.query_params.get("fields", "").split(",") if name]
    # Every object but an insight's row carries its id, asked or not.
    always = ("date_start", "date_stop") if kind == "insight" else ("id",)
    names = dict.fromkeys([*(asked or _USUAL[kind]), *always])
    return {name: doc.body[name] for name in names if name in doc.body}


def _listed(request: Request, kind: str, docs: Sequence[Doc]) -> dict[str, Any]:
    start, limit = _start(request), _limit(request)
    rows = [_chosen(request, kind, doc) for doc in docs[start : start + limit]]
    return _page(request, rows, start=start, total=len(docs))


def _page(request: Request, rows: list[dict[str, Any]], *, start: int, total: int) -> dict[str, Any]:
    """`next` is a ready address; it is missing on the last page. Nothing found has no paging at all."""
    if not rows:
        return {"data": []}
    end = start + len(rows)
    paging: dict[str, Any] = {"cursors": {"before": _cursor(start), "after": _cursor(end)}}
    if end < total:
        query = {name: value for name, value in request.query_params.items() if name != "after"}
        # The vendor puts the token into this address, wherever it came from.
        query |= {"access_token": META_TOKEN, "after": _cursor(end)}
        paging["next"] = f"{request.url.replace(query='')}?{urlencode(query)}"
    return {"data": rows, "paging": paging}


def _cursor(place: int) -> str:
    return base64.urlsafe_b64encode(f"place:{place}".encode()).decode().rstrip("=")


def _start(request: Request) -> int:
    after = request.query_params.get("after")
    if not after:
        return 0
    try:
        name, _, place = base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        name = place = ""
    if name != "place" or not place.isdigit():
        raise GraphError("(#100) Invalid cursor", code=100)
    return int(place)


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(BY_DEFAULT))
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise GraphError("(#100) Param limit must be an integer greater than 0", code=100)
    return min(int(text), MOST)


def _filters(text: str | None) -> list[dict[str, Any]]:
    """Raises GraphError (100) when `filtering` is no JSON list of objects."""
    try:
        found = json.loads(text or "[]")
    except ValueError as wrong:
        raise GraphError("(#100) Param filtering must be an array.", code=100) from wrong
    if not isinstance(found, list) or not all(isinstance(rule, dict) for rule in found):
        raise GraphError("(#100) Param filtering must be an array.", code=100)
    return found


def _time_created(text: str | None) -> tuple[float | None, float | None]:
    """First and last second (both within) that the rules on time_created leave.

    A value that is no number of seconds, such as an ISO time, drops its rule in silence (a known trap).
    """
    since: float | None = None
    before: float | None = None
    for rule in _filters(text):
        value = rule.get("value")
        if rule.get("field") != "time_created" or not str(value).isdigit():
            continue
        at, operator = int(str(value)), rule.get("operator")
        if operator in {"GREATER_THAN", "GREATER_THAN_OR_EQUAL"}:
            first = at + (operator == "GREATER_THAN")
            since = max(first, since) if since is not None else first
        elif operator in {"LESS_THAN", "LESS_THAN_OR_EQUAL"}:
            # Times are shown in whole seconds, whatever fraction a document has.
            last = at + (operator == "LESS_THAN_OR_EQUAL") - 1e-6
            before = min(last, before) if before is not None else last
        else:
            raise GraphError(f"(#100) Filtering operator {operator} is not known", code=100)
    return since, before


def _statuses(text: str | None) -> set[str]:
    wanted: set[str] = set()
    for rule in _filters(text):
        if rule.get("field") in {"effective_status", "campaign.effective_status"}:
            value = rule.get("value")
            wanted |= {str(status) for status in (value if isinstance(value, list) else [value])}
    return wanted


def _range(text: str | None) -> tuple[float, float]:
    """Unix seconds of the first and last day's midnight in UTC. Raises GraphError (100)."""
    try:
        given = json.loads(text or "")
        since, until = date.fromisoformat(given["since"]), date.fromisoformat(given["until"])
    except (ValueError, KeyError, TypeError) as wrong:
        raise GraphError(
            "(#100) Param time_range must have since and until as YYYY-MM-DD", code=100
        ) from wrong
    if since > until:
        raise GraphError("(#100) time_range: since is after until", code=100)
    first, last = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (since, until))
    return first.timestamp(), last.timestamp()
