"""The simulated Mailchimp: Marketing API 3.0 of lists, members, campaigns and reports, read only.

Written from the vendor's OpenAPI file and what engineers saw on a live account: `since_…` leaves the named second
out, `before_…` takes it in; archived members come only when asked for; a report's activity keeps every recipient.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from connectors.sandbox import mailchimp_query as ask
from connectors.sandbox.accounts import MAILCHIMP_KEY
from connectors.sandbox.state import Doc, State

_STATUSES = {"subscribed", "unsubscribed", "cleaned", "pending", "transactional", "archived", "unconfirmed"}


def app(state: State) -> ASGIApp:
    """The vendor over `state`, under /3.0."""
    routes = {
        "/3.0/": root,
        "/3.0/ping": ping,
        "/3.0/lists": lists,
        "/3.0/lists/{list}": one_list,
        "/3.0/lists/{list}/members": members,
        "/3.0/lists/{list}/members/{member}": member,
        "/3.0/campaigns": campaigns,
        "/3.0/campaigns/{campaign}": campaign,
        "/3.0/reports": reports,
        "/3.0/reports/{campaign}": report,
        "/3.0/reports/{campaign}/email-activity": email_activity,
        "/3.0/reports/{campaign}/unsubscribed": unsubscribed,
    }
    return Starlette(
        routes=[
            Route(path, _endpoint(state, answer), methods=["GET"])
            for path, answer in [*routes.items(), ("/3.0", root)]
        ],
        exception_handlers={404: _no_route, 405: _no_route},
    )


Handler = Callable[[State, Request], dict[str, Any]]


def _endpoint(state: State, handler: Handler) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        try:
            _check_key(request.headers.get("authorization", ""))
            return JSONResponse(ask.chosen(handler(state, request), request))
        except ask.Problem as problem:
            return problem.response()

    return answer


def _no_route(request: Request, problem: Exception) -> Response:
    return ask.not_found().response()


def _check_key(authorization: str) -> None:
    """Basic with any user name and the key as password, or the key as a bearer token."""
    scheme, _, rest = authorization.partition(" ")
    given = rest if scheme.lower() == "bearer" else ""
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            given = ""
    if given != MAILCHIMP_KEY:
        detail = "Your API key may be invalid, or you've attempted to access the wrong datacenter."
        raise ask.Problem(401, "API Key Invalid", detail)


def root(state: State, request: Request) -> dict[str, Any]:
    _, total = state.select("mailchimp", "member", limit=0)
    return {
        "account_id": "8d3a3db4d97663a9074efcc16",
        "account_name": "Sandbox",
        "account_timezone": "UTC",
        "role": "owner",
        "total_subscribers": total,
        "_links": [],
    }


def ping(state: State, request: Request) -> dict[str, Any]:
    return {"health_status": "Everything's Chimpy!"}


def lists(state: State, request: Request) -> dict[str, Any]:
    count, offset = ask.page(request)
    docs, total = state.select("mailchimp", "list", limit=count, offset=offset)
    return {"lists": [doc.body for doc in docs], "total_items": total, "_links": []}


def one_list(state: State, request: Request) -> dict[str, Any]:
    return _got(state, "list", request.path_params["list"]).body


def members(state: State, request: Request) -> dict[str, Any]:
    """Sorted by last_changed or timestamp_opt when asked, else in no order to rely on."""
    parent = _got(state, "list", request.path_params["list"]).id
    count, offset = ask.page(request)
    status = request.query_params.get("status", "")
    if status and status not in _STATUSES:
        raise ask.Problem(400, "Invalid Resource", f"status {status} is not one of the known ones")
    docs, _ = state.select(
        "mailchimp",
        "member",
        parent=parent,
        changed_from=ask.since(request, "since_last_changed"),
        changed_to=ask.before(request, "before_last_changed"),
    )
    since_opt, before_opt = (
        ask.since(request, "since_timestamp_opt"),
        ask.before(request, "before_timestamp_opt"),
    )
    found = [
        doc
        for doc in docs
        if (doc.body["status"] == status if status else doc.body["status"] != "archived")
        and ask.within(ask.seconds(doc.body.get("timestamp_opt")), since_opt, before_opt)
    ]
    field = request.query_params.get("sort_field", "")
    if field not in {"", "last_changed", "timestamp_opt", "timestamp_signup"}:
        raise ask.Problem(400, "Invalid Resource", f"sort_field {field} is not known")
    if field:
        found.sort(key=lambda doc: doc.body.get(field) or "", reverse=ask.descending(request))
    page = [doc.body for doc in found[offset : offset + count]]
    return {"members": page, "list_id": parent, "total_items": len(found), "_links": []}


def member(state: State, request: Request) -> dict[str, Any]:
    """One member by MD5 of the lower-case address, archived ones too."""
    return _got(state, "member", f"{request.path_params['list']}:{request.path_params['member']}").body


def campaigns(state: State, request: Request) -> dict[str, Any]:
    count, offset = ask.page(request)
    status, field = request.query_params.get("status", ""), request.query_params.get("sort_field", "")
    if field not in {"", "send_time", "create_time"}:
        raise ask.Problem(400, "Invalid Resource", f"sort_field {field} is not known")
    since, before = ask.since(request, "since_send_time"), ask.before(request, "before_send_time")
    made_since, made_before = (
        ask.since(request, "since_create_time"),
        ask.before(request, "before_create_time"),
    )
    docs, _ = state.select("mailchimp", "campaign", order="at")
    found = [
        doc.body
        for doc in docs
        if status in ("", doc.body["status"])
        and ask.within(ask.seconds(doc.body.get("send_time")), since, before)
        and ask.within(ask.seconds(doc.body.get("create_time")), made_since, made_before)
    ]
    if field:
        found.sort(key=lambda body: body.get(field) or "", reverse=ask.descending(request))
    return {"campaigns": found[offset : offset + count], "total_items": len(found), "_links": []}


def campaign(state: State, request: Request) -> dict[str, Any]:
    return _got(state, "campaign", request.path_params["campaign"]).body


def reports(state: State, request: Request) -> dict[str, Any]:
    """Of campaigns that were sent, the newest first."""
    count, offset = ask.page(request)
    since, before = ask.since(request, "since_send_time"), ask.before(request, "before_send_time")
    docs, _ = state.select("mailchimp", "campaign", order="at", descending=True)
    sent = [
        doc
        for doc in docs
        if doc.body["status"] == "sent" and ask.within(ask.seconds(doc.body.get("send_time")), since, before)
    ]
    page = [_report(state, doc) for doc in sent[offset : offset + count]]
    return {"reports": page, "total_items": len(sent), "_links": []}


def report(state: State, request: Request) -> dict[str, Any]:
    return _report(state, _sent(state, request))


def _sent(state: State, request: Request) -> Doc:
    doc = _got(state, "campaign", request.path_params["campaign"])
    if doc.body["status"] != "sent":
        raise ask.not_found()
    return doc


def _report(state: State, doc: Doc) -> dict[str, Any]:
    """A campaign's figures, counted from its recipients' activity."""
    recipients, _ = state.select("mailchimp", "activity", parent=doc.id)
    _, gone = state.select("mailchimp", "unsubscribe", parent=doc.id, limit=0)
    opens = [_times(row, "open") for row in recipients]
    clicks = [_times(row, "click") for row in recipients]
    bounces = [
        entry.get("type", "soft")
        for row in recipients
        for entry in row.body["activity"]
        if entry["action"] == "bounce"
    ]
    body, sent = doc.body, doc.body.get("emails_sent", len(recipients))
    opened, clicked = sum(map(bool, opens)), sum(map(bool, clicks))
    return {
        "id": doc.id,
        "campaign_title": body.get("settings", {}).get("title", ""),
        "type": body.get("type", "regular"),
        "list_id": body.get("recipients", {}).get("list_id", ""),
        "list_is_active": True,
        "list_name": body.get("recipients", {}).get("list_name", ""),
        "subject_line": body.get("settings", {}).get("subject_line", ""),
        "emails_sent": sent,
        "abuse_reports": 0,
        "unsubscribed": gone,
        "send_time": body.get("send_time") or "",
        "bounces": {
            "hard_bounces": bounces.count("hard"),
            "soft_bounces": bounces.count("soft"),
            "syntax_errors": 0,
        },
        "opens": {
            "opens_total": sum(map(len, opens)),
            "unique_opens": opened,
            "open_rate": opened / sent if sent else 0,
            "last_open": max((at for row in opens for at in row), default=""),
        },
        "clicks": {
            "clicks_total": sum(map(len, clicks)),
            "unique_subscriber_clicks": clicked,
            "click_rate": clicked / sent if sent else 0,
            "last_click": max((at for row in clicks for at in row), default=""),
        },
        "_links": [],
    }


def _times(row: Doc, action: str) -> list[str]:
    return [entry["timestamp"] for entry in row.body["activity"] if entry["action"] == action]


def email_activity(state: State, request: Request) -> dict[str, Any]:
    """Every recipient; `since` (exclusive) thins the nested list only, and the total counts recipients."""
    parent = _sent(state, request).id
    count, offset = ask.page(request)
    since = ask.since(request, "since")
    docs, total = state.select("mailchimp", "activity", parent=parent, limit=count, offset=offset)
    emails = [
        doc.body
        | {
            "activity": [
                entry
                for entry in doc.body["activity"]
                if since is None or (ask.seconds(entry["timestamp"]) or 0) >= since
            ]
        }
        for doc in docs
    ]
    return {"emails": emails, "campaign_id": parent, "total_items": total, "_links": []}


def unsubscribed(state: State, request: Request) -> dict[str, Any]:
    parent = _sent(state, request).id
    count, offset = ask.page(request)
    docs, total = state.select("mailchimp", "unsubscribe", parent=parent, limit=count, offset=offset)
    rows = [doc.body for doc in docs]
    return {"unsubscribes": rows, "campaign_id": parent, "total_items": total, "_links": []}


def _got(state: State, kind: str, id: str) -> Doc:
    doc = state.get("mailchimp", kind, id)
    if doc is None:
        raise ask.not_found()
    return doc
