"""The sandbox's WooCommerce: REST API wc/v3 of a shop on plain http, read only.

Facts: the vendor's REST documentation (https://woocommerce.github.io/woocommerce-rest-api-docs/) and what a
WooCommerce 10.3.6 answered. The store's time zone is the document ("setting", "timezone"), UTC without it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlencode
from zoneinfo import ZoneInfo

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from connectors.sandbox import woocommerce_reports as reports
from connectors.sandbox.state import Doc, Order, State
from connectors.sandbox.woocommerce_oauth import Nonces, Refused, check

VENDOR = "woocommerce"
PREFIX = "/wp-json/wc/v3"
ANALYTICS = "/wp-json/wc-analytics/reports/revenue/stats"
# The address in `_links`, the same wherever the sandbox listens, so that an unchanged record stays unchanged.
STORE_URL = "https://shop.example"
STATUSES = (
    "any",
    "trash",
    "auto-draft",
    "pending",
    "processing",
    "on-hold",
    "completed",
    "cancelled",
    "refunded",
    "failed",
    "checkout-draft",
)
_ORDERBY: dict[str, Order] = {"date": "at", "id": "number", "modified": "changed"}
# WordPress: rest_parse_date.
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.\d+)?(?:Z|[+-]\d{2}(?::?\d{2})?)?")
# The API knows seconds only, so a bound moves by whole seconds one way and by less than one the other way.
_LESS_THAN_A_SECOND = 1e-6


class _Wrong(Exception):
    """An error answer: HTTP status, WordPress code, message and more `data`."""

    def __init__(self, status: int, code: str, message: str, **data: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.data = status, code, message, data

    def response(self) -> JSONResponse:
        body = {"code": self.code, "message": self.message, "data": {"status": self.status, **self.data}}
        return JSONResponse(body, self.status)


@dataclass(frozen=True, slots=True)
class _Collection:
    """One list: its document kind, path, filters and shape."""

    kind: str
    path: str
    dates: tuple[str, ...] = ()
    statuses: bool = False
    order: str = "desc"
    orderby: tuple[str, ...] = ("date", "id", "include", "modified")
    hidden: tuple[str, ...] = ()


_CREATED = ("after", "before")
_CHANGED = ("modified_after", "modified_before")
_ORDERS = _Collection("order", "orders", (*_CREATED, *_CHANGED), statuses=True)
_REFUNDS = _Collection("refund", "refunds", _CREATED, orderby=("date", "id", "include"))
# The refunds of one order do not say which order: 10.3.6 leaves `parent_id` out.
_ORDER_REFUNDS = _Collection(
    "refund", "refunds", _CREATED, orderby=("date", "id", "include"), hidden=("parent_id",)
)
_PRODUCTS = _Collection("product", "products", (*_CREATED, *_CHANGED))
# Customers have no date filter at all.
_CUSTOMERS = _Collection("customer", "customers", order="asc", orderby=("id", "include"))


def app(state: State) -> ASGIApp:
    """The shop's API over `state`. Every request needs OAuth 1.0a; Basic is refused, as on plain http."""
    nonces = Nonces()

    def guarded(answer: Callable[[State, Request], Response], refusal: str) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            try:
                if not check(request, nonces):
                    raise _Wrong(401, "woocommerce_rest_cannot_view", refusal)  # noqa: TRY301
                return answer(state, request)
            except Refused as error:
                return _Wrong(401, error.code, str(error)).response()
            except _Wrong as error:
                return error.response()

        return endpoint

    def lists(collection: _Collection) -> Callable[[Request], Response]:
        return guarded(
            lambda state, request: _list(state, request, collection), "Sorry, you cannot list resources."
        )

    routes = [
        Route(f"{PREFIX}/orders", lists(_ORDERS)),
        Route(f"{PREFIX}/orders/{{id:int}}", guarded(_order, "Sorry, you cannot view this resource.")),
        Route(f"{PREFIX}/orders/{{id:int}}/refunds", lists(_ORDER_REFUNDS)),
        Route(
            f"{PREFIX}/orders/{{id:int}}/refunds/{{refund:int}}",
            guarded(_refund, "Sorry, you cannot view this resource."),
        ),
        Route(f"{PREFIX}/refunds", lists(_REFUNDS)),
        Route(f"{PREFIX}/products", lists(_PRODUCTS)),
        Route(f"{PREFIX}/customers", lists(_CUSTOMERS)),
        Route(f"{PREFIX}/reports/sales", guarded(_sales, "Sorry, you cannot list resources.")),
        Route(ANALYTICS, guarded(_analytics, "Sorry, you cannot list resources.")),
    ]
    return Starlette(routes=routes, exception_handlers={404: _no_route, 405: _no_route})


def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = "No route was found matching the URL and request method."
    return _Wrong(404, "rest_no_route", message).response()


def _order(state: State, request: Request) -> Response:
    doc = state.get(VENDOR, "order", str(request.path_params["id"]))
    if doc is None:
        raise _Wrong(404, "woocommerce_rest_shop_order_invalid_id", "Invalid ID.")
    return JSONResponse(_shown(doc, _ORDERS, request.query_params.get("_fields")))


def _refund(state: State, request: Request) -> Response:
    order, id = str(request.path_params["id"]), str(request.path_params["refund"])
    if state.get(VENDOR, "order", order) is None:
        raise _Wrong(404, "woocommerce_rest_invalid_order_id", "Invalid order ID.")
    doc = state.get(VENDOR, "refund", id)
    if doc is None or doc.parent != order:
        raise _Wrong(404, "woocommerce_rest_shop_order_refund_invalid_id", "Invalid ID.")
    return JSONResponse(_shown(doc, _ORDER_REFUNDS, request.query_params.get("_fields")))


def _analytics(state: State, request: Request) -> Response:
    """The shop's own totals by day; only `interval=day`, oldest first, as the connector asks."""
    query = request.query_params
    _one_of(query, "interval", ("day",), "week")
    _one_of(query, "order", ("asc",), "desc")
    per_page, page = _whole(query, "per_page", 10, highest=100), _whole(query, "page", 1)
    zone = _store_zone(state)
    first, last = (
        datetime.fromtimestamp(_moment(name, query.get(name, ""), zone), zone).date()
        for name in ("after", "before")
    )
    answer, days = reports.revenue_stats(state, zone, first=first, last=last, page=page, per_page=per_page)
    return JSONResponse(
        answer, headers={"X-WP-Total": str(days), "X-WP-TotalPages": str(-(-days // per_page))}
    )


def _sales(state: State, request: Request) -> Response:
    query = request.query_params
    today = datetime.now(_store_zone(state)).date().isoformat()
    first, last = (date.fromisoformat(query.get(name, today)) for name in ("date_min", "date_max"))
    return JSONResponse(reports.sales(first, last))


def _list(state: State, request: Request, collection: _Collection) -> Response:
    query = request.query_params
    per_page = _whole(query, "per_page", 10, highest=100)
    page = _whole(query, "page", 1)
    docs, total = _found(state, request, collection, page=page, per_page=per_page)
    pages = math.ceil(total / per_page)
    headers = {"X-WP-Total": str(total), "X-WP-TotalPages": str(pages)}
    links = []
    if page > 1:
        links.append(_link(request, min(page - 1, max(pages, 1)), "prev"))
    if page < pages:
        links.append(_link(request, page + 1, "next"))
    if links:
        headers["Link"] = ", ".join(links)
    fields = query.get("_fields")
    return JSONResponse([_shown(doc, collection, fields) for doc in docs], headers=headers)


def _found(
    state: State, request: Request, collection: _Collection, *, page: int, per_page: int
) -> tuple[list[Doc], int]:
    """The documents of one page, and how many there are in all."""
    query = request.query_params
    orderby = _one_of(query, "orderby", collection.orderby, collection.orderby[0])
    descending = _one_of(query, "order", ("asc", "desc"), collection.order) == "desc"
    statuses = _statuses(query) if collection.statuses else None
    ids = _ids(query)
    parent = request.path_params.get("id")
    bounds = _bounds(state, query, collection)
    first = (page - 1) * per_page

    def select(*, limit: int = -1, offset: int = 0) -> tuple[list[Doc], int]:
        return state.select(
            VENDOR,
            collection.kind,
            parent=None if parent is None else str(parent),
            order=_ORDERBY.get(orderby, "number"),
            descending=descending,
            limit=limit,
            offset=offset,
            at_from=bounds.get("at_from"),
            at_to=bounds.get("at_to"),
            changed_from=bounds.get("changed_from"),
            changed_to=bounds.get("changed_to"),
        )

    # Status and id are not columns of the state: only these two filters need every document.
    if statuses is None and ids is None:
        return select(limit=per_page, offset=first)
    docs = [
        doc
        for doc in select()[0]
        if (statuses is None or doc.body.get("status") in statuses) and (ids is None or doc.id in ids)
    ]
    if ids is not None and orderby == "include":
        places = {id: place for place, id in enumerate(ids)}
        docs.sort(key=lambda doc: places[doc.id])
    return docs[first : first + per_page], len(docs)


def _bounds(state: State, query: Mapping[str, str], collection: _Collection) -> dict[str, float]:
    """The date filters as closed ranges of `State.select`; all of them are strict in the API."""
    zone: ZoneInfo | None = None
    bounds: dict[str, float] = {}
    for name in collection.dates:
        if name not in query:
            continue
        if zone is None:
            zone = ZoneInfo("UTC") if _true(query, "dates_are_gmt") else _store_zone(state)
        moment = _moment(name, query[name], zone)
        column = "changed" if name.startswith("modified") else "at"
        if name.endswith("after"):
            bounds[f"{column}_from"] = moment + 1
        else:
            bounds[f"{column}_to"] = moment - _LESS_THAN_A_SECOND
    return bounds


def _store_zone(state: State) -> ZoneInfo:
    setting = state.get(VENDOR, "setting", "timezone")
    return ZoneInfo(setting.body["value"] if setting else "UTC")


def _moment(name: str, value: str, zone: ZoneInfo) -> float:
    """Unix seconds. An offset or `Z` in the value is ignored, as in the shop (issues #14539, #19976)."""
    match = _DATE.fullmatch(value)
    if match is None:
        _refuse(name, "rest_invalid_date", "Invalid date.")
    try:
        local = datetime.fromisoformat(f"{match[1]}T{match[2]}")
    except ValueError:
        _refuse(name, "rest_invalid_date", "Invalid date.")
    return local.replace(tzinfo=zone).astimezone(UTC).timestamp()


def _statuses(query: Mapping[str, str]) -> frozenset[str] | None:
    """The statuses asked for; None is every one. `any` holds the trash as well (observed in 10.3.6)."""
    asked = [status for status in query.get("status", "any").split(",") if status]
    for place, status in enumerate(asked):
        if status not in STATUSES:
            name = f"status[{place}]"
            _refuse("status", "rest_not_in_enum", f"{name} is not one of {', '.join(STATUSES)}.")
    return None if "any" in asked or not asked else frozenset(asked)


def _ids(query: Mapping[str, str]) -> list[str] | None:
    if not query.get("include"):
        return None
    ids = query["include"].split(",")
    for place, id in enumerate(ids):
        if not id.strip().isdigit():
            _refuse("include", "rest_invalid_type", f"include[{place}] is not of type integer.")
    return [str(int(id)) for id in ids]


def _whole(query: Mapping[str, str], name: str, default: int, *, highest: int | None = None) -> int:
    """A whole number from 1 to `highest`."""
    value = query.get(name, str(default))
    if not re.fullmatch(r"-?\d{1,9}", value):
        _refuse(name, "rest_invalid_type", f"{name} is not of type integer.")
    number = int(value)
    if highest is not None and not 1 <= number <= highest:
        message = f"{name} must be between 1 (inclusive) and {highest} (inclusive)"
        _refuse(name, "rest_out_of_bounds", message)
    if number < 1:
        _refuse(name, "rest_out_of_bounds", f"{name} must be greater than or equal to 1")
    return number


def _one_of(query: Mapping[str, str], name: str, allowed: tuple[str, ...], default: str) -> str:
    value = query.get(name, default)
    if value not in allowed:
        _refuse(name, "rest_not_in_enum", f"{name} is not one of {', '.join(allowed)}.")
    return value


def _true(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name, "false").lower()
    if value not in ("true", "false", "1", "0"):
        _refuse(name, "rest_invalid_type", f"{name} is not of type boolean.")
    return value in ("true", "1")


def _refuse(name: str, code: str, message: str) -> NoReturn:
    raise _Wrong(
        400,
        "rest_invalid_param",
        f"Invalid parameter(s): {name}",
        params={name: message},
        details={name: {"code": code, "message": message, "data": None}},
    )


def _link(request: Request, page: int, rel: str) -> str:
    query = [(name, value) for name, value in parse_qsl(request.url.query, True) if name != "page"]
    url = request.url.replace(query=urlencode([*query, ("page", str(page))]))
    return f'<{url}>; rel="{rel}"'


def _shown(doc: Doc, collection: _Collection, fields: str | None) -> dict[str, Any]:
    """The document as the API shows it: with `_links`, and cut to `_fields` where they are asked for."""
    body = {name: value for name, value in doc.body.items() if name not in collection.hidden}
    top = f"{STORE_URL}{PREFIX}"
    owner = (
        f"{top}/orders/{doc.parent}/refunds" if collection.kind == "refund" else f"{top}/{collection.path}"
    )
    body["_links"] = {"self": [{"href": f"{owner}/{doc.id}"}], "collection": [{"href": owner}]}
    if collection.kind == "refund":
        body["_links"]["up"] = [{"href": f"{top}/orders/{doc.parent}"}]
    return body if fields is None else _only(body, [name.strip().split(".") for name in fields.split(",")])


def _only(body: dict[str, Any], paths: list[list[str]]) -> dict[str, Any]:
    """The fields that `_fields` names: `id`, or `billing.email` for a part of an object."""
    kept: dict[str, Any] = {}
    for name, value in body.items():
        inner = [path[1:] for path in paths if path[0] == name]
        if not inner:
            continue
        whole = [] in inner or not isinstance(value, dict)
        kept[name] = value if whole else _only(value, inner)
    return kept
