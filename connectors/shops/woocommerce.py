"""WooCommerce (REST API wc/v3) as a source: orders, refunds, products, customers.

Facts: the vendor's REST documentation (https://woocommerce.github.io/woocommerce-rest-api-docs/) and what a
WooCommerce 10.3.6 answered. All times asked for and read are UTC: `dates_are_gmt` and the `*_gmt` fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from typing import Any

import httpx
import pydantic
import structlog

from connectors.contract import (
    Connector,
    Context,
    ControlDay,
    ControlItem,
    ControlRefund,
    Cursor,
    Finding,
    Held,
    Ids,
    Page,
    RawRecord,
    Stream,
    Window,
)
from connectors.errors import ConnectorError
from connectors.http import Answer, HttpSettings
from connectors.shops import woocommerce_audit as audit
from connectors.shops import woocommerce_wire as wire
from connectors.shops.woocommerce_control import Control
from connectors.shops.woocommerce_walk import ModifiedWalk

API = "/wp-json/wc/v3"
CALLS_MAX = 200_000  # of one walk through a list
PARALLEL = 2  # calls at once: a shop's own customers come first

log = structlog.get_logger(__name__)


class Options(pydantic.BaseModel):
    """What a `woocommerce` connector is told.

    Attributes
    ----------
    base_url : the shop's root, where its front page is. https, or http to this machine (then signed,
        OAuth 1.0a).
    consumer_key, consumer_secret : WooCommerce > Settings > Advanced > REST API; the right `read` is enough.
    per_page : rows a call; the vendor's most is 100. Fewer for a slow shop.
    page_timeout_s : seconds to wait for a page; shops are slow.
    keys_in_query : for a server that drops the Authorization header, https only. The keys then stand in the
        server's access log.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    base_url: str
    consumer_key: pydantic.SecretStr
    consumer_secret: pydantic.SecretStr
    per_page: int = pydantic.Field(default=100, ge=1, le=100)
    page_timeout_s: float = pydantic.Field(default=90.0, ge=1, le=600)
    keys_in_query: bool = False

    @pydantic.field_validator("base_url")
    @classmethod
    def _root(cls, value: str) -> str:
        root = value.strip().rstrip("/").removesuffix(API).rstrip("/")
        if not root.lower().startswith(("https://", "http://")):
            raise ValueError("base_url must be the shop's address, such as https://shop.example")
        return root

    @pydantic.model_validator(mode="after")
    def _no_open_keys(self) -> Options:
        if self.keys_in_query and not self.encrypted:
            raise ValueError("keys_in_query needs https: everybody between could read the keys")
        return self

    @property
    def encrypted(self) -> bool:
        return self.base_url.lower().startswith("https://")


class WooCommerce:
    """Reads one shop (a `connectors.contract.Source`, `Auditable` and `Sweepable`)."""

    def __init__(self, options: Options, context: Context) -> None:
        self._per_page = options.per_page
        self._http = context.http(
            HttpSettings(
                base_url=options.base_url + API,
                auth=_auth(options),
                classify=wire.classify,
                parallel=PARALLEL,
                timeout_s=options.page_timeout_s,
                retries=4,
                retry_base_s=2.0,
                secrets=(
                    options.consumer_key.get_secret_value(),
                    options.consumer_secret.get_secret_value(),
                ),
            )
        )
        self._control = Control(
            get=self._http.get,
            numbered=self._numbered,
            refund_pages=self._refunds,
            refunds_of=self._refunds_of,
            root=options.base_url,
        )

    def read(self, stream: str, window: Window) -> Iterator[Page]:
        """Yield the pages of `orders`, `refunds`, `products` or `contacts`."""
        if stream == "orders":
            return self._orders(window)
        if stream == "refunds":
            return self._refunds(window)
        if stream == "products":
            return self._modified("/products", {}, window)
        if stream == "contacts":
            return self._contacts()
        raise ConnectorError("config", f"woocommerce has no stream {stream!r}")

    def check(self) -> list[Finding]:
        """Try each list that is read."""
        findings = []
        for what, path in (
            ("orders", "/orders"),
            ("refunds", "/refunds"),
            ("products", "/products"),
            ("customers", "/customers"),
        ):
            try:
                answer = self._http.get(path, {"per_page": 1, "_fields": "id"})
                if path == "/refunds" and _lacks_route(answer):
                    hint = "The shop is older than WooCommerce 9.0: refunds are read order by order."
                    findings.append(Finding(f"read {what}", ok=True, hint=hint))
                    continue
                _good(answer).raw_items()
            except ConnectorError as error:
                findings.append(Finding(f"read {what}", ok=False, hint=str(error)))
            else:
                findings.append(Finding(f"read {what}", ok=True))
        return findings

    def control_items(self, since: datetime, until: datetime) -> Iterator[ControlItem]:
        """Every order created within the window, by another road than the order stream: by creation."""
        return self._control.items(since, until)

    def control_refunds(self, since: datetime, until: datetime) -> Iterator[ControlRefund]:
        """Every refund created within the window."""
        return self._control.refunds(since, until)

    def control_days(self, first: date, last: date) -> Iterator[ControlDay]:
        """What the shop's analytics say of these days."""
        return self._control.days(first, last)

    def control_named(self, ids: Sequence[str]) -> Iterator[ControlItem]:
        """Those of these orders that there are, the trash included."""
        return self._control.named(ids)

    def read_named(self, stream: str, ids: Sequence[str]) -> Page:
        """These orders or refunds as they are now; what is gone comes as deleted."""
        return self._control.read_named(stream, ids)

    def ids(self, stream: str, since: datetime, until: datetime) -> Iterator[Ids]:
        """The ids of all `orders` or `refunds` created within the window; no refunds before WooCommerce 9.0."""
        if stream == "refunds" and _lacks_route(self._http.get("/refunds", {"per_page": 1, "_fields": "id"})):
            return iter(())
        return audit.ids(self._numbered, stream, since, until)

    def gone(self, stream: str, held: Held) -> RawRecord | None:
        return audit.gone(self._http, stream, held)

    # orders and products: by time of change

    def _orders(self, window: Window) -> Iterator[Page]:
        """The trash first, because without HPOS `any` leaves it out and only the second walk moves the cursor.

        So a cursor says that both were read up to there.
        """
        for page in self._modified("/orders", {"status": "trash"}, window):
            if page.records:
                yield Page(page.records)
        yield from self._modified("/orders", {"status": "any"}, window)

    def _modified(self, path: str, extra: Mapping[str, Any], window: Window) -> Iterator[Page]:
        """Rows changed within the window, sorted by that; each page moves the cursor."""
        start, end = wire.after(window.since), wire.before(window.until)
        walk = ModifiedWalk(start)
        said: int | None = None
        count = 0
        for _ in range(CALLS_MAX):
            one_second = walk.before is not None
            params = self._changed(walk.after, walk.before or end, {**extra, "page": walk.page})
            answer = self._http.get(path, {**params, "orderby": "id"} if one_second else params)
            if _refuses(answer, "orderby"):
                log.info("order_unknown", path=path)
                yield from self._by_id(path, extra, window)
                return
            rows = self._rows(answer, walk.page)
            if one_second and walk.shows_again(rows.rows):
                raise _again(path, walk.page)
            if not walk.fits(rows.rows):
                log.warning("filter_ignored", path=path)
                yield from self._by_id(path, extra, window)
                return
            said = rows.total if said is None else said
            fresh = walk.step(rows.rows, rows.total, last=rows.last)
            count += len(fresh)
            last = rows.last and not walk.repeats and not one_second
            if last and said is not None and count < said:
                said = self._count(path, self._changed(start, end, extra))
            yield Page(_records(fresh), cursor=Cursor(at=walk.latest) if walk.latest else None, said=said)
            if last:
                return
        raise ConnectorError("protocol", f"{path} has no end after {CALLS_MAX} calls")

    def _changed(self, after: datetime, before: datetime, extra: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "modified_after": wire.stamp(after),
            "modified_before": wire.stamp(before),
            "dates_are_gmt": "true",
            "orderby": "modified",
            "order": "asc",
            "per_page": self._per_page,
            **extra,
        }

    def _count(self, path: str, params: Mapping[str, Any]) -> int | None:
        """How many rows there are by now: some may have been changed again and left the window."""
        answer = _good(self._http.get(path, {**params, "page": 1, "per_page": 1, "_fields": "id"}))
        return wire.rows_of(answer, page=1, per_page=1).total

    def _by_id(self, path: str, extra: Mapping[str, Any], window: Window) -> Iterator[Page]:
        """For shops that cannot sort by the time of change: nothing is proved before the end.

        There is no upper bound: a row changed meanwhile would leave the list and move others up.
        """
        start = wire.after(window.since)
        latest: datetime | None = None
        params = {
            **extra,
            "modified_after": wire.stamp(start),
            "dates_are_gmt": "true",
            "orderby": "id",
            "order": "asc",
        }
        for rows in self._numbered(path, params):
            wanted = [row for row in rows.rows if wire.within(row.modified_at, window.since, window.until)]
            latest = max((row.modified_at for row in wanted if row.modified_at), default=latest)
            yield Page(_records(wanted))
        yield Page((), cursor=Cursor(at=latest) if latest else None)

    # refunds

    def _refunds(self, window: Window) -> Iterator[Page]:
        """By creation: nothing tells a later change, so the overlap is wide and the list sorted by id."""
        params = audit.created(window.since, window.until)
        first = self._http.get("/refunds", {**params, "per_page": 1})
        if _lacks_route(first):
            yield from self._refunds_by_order(window)
            return
        _good(first)
        latest: datetime | None = None
        said: int | None = None
        for rows in self._numbered("/refunds", params):
            latest = _latest(latest, rows.rows)
            said = rows.total if said is None or rows.total is None else min(said, rows.total)
            yield Page(_refund_records(rows.rows, {}))
        yield Page((), cursor=Cursor(at=latest) if latest else None, said=said)

    def _refunds_by_order(self, window: Window) -> Iterator[Page]:
        """For shops before WooCommerce 9.0: those of each changed order, which must be named with them.

        An empty `refunds` proves nothing where the status says refunded.
        """
        latest: datetime | None = None
        params = {
            "modified_after": wire.stamp(wire.after(window.since)),
            "dates_are_gmt": "true",
            "status": "any",
            "orderby": "id",
            "order": "asc",
            "_fields": "id,status,refunds",
        }
        with ThreadPoolExecutor(PARALLEL) as pool:
            for orders in self._numbered("/orders", params):
                ids = [row.id for row in orders.rows if row.item.refunds or row.item.status == "refunded"]
                for order_id, rows in zip(ids, pool.map(self._refunds_of, ids), strict=True):
                    latest = _latest(latest, rows)
                    yield Page(_refund_records(rows, {"order_id": order_id}))
        yield Page((), cursor=Cursor(at=latest) if latest else None)

    def _refunds_of(self, order_id: str) -> list[wire.Row]:
        params = {"orderby": "id", "order": "asc"}
        return [row for rows in self._numbered(f"/orders/{order_id}/refunds", params) for row in rows.rows]

    # contacts

    def _contacts(self) -> Iterator[Page]:
        """All of them: the vendor has no filter by date. Guests are on their orders only."""
        for rows in self._numbered("/customers", {"role": "all", "orderby": "id", "order": "asc"}):
            yield Page([RawRecord(row.id, row.body) for row in rows.rows], said=rows.total)

    # pages

    def _numbered(self, path: str, params: Mapping[str, Any]) -> Iterator[wire.Rows]:
        """All pages of a list sorted by id, by number. Rows may come twice.

        When the list has become shorter, rows moved up past the page's begin: the page before is read again.
        """
        page, total = 1, None
        before: set[str] = set()
        for _ in range(CALLS_MAX):
            answer = self._http.get(path, {**params, "per_page": self._per_page, "page": page})
            rows = self._rows(answer, page)
            shorter = total is not None and rows.total is not None and rows.total < total
            total = rows.total
            if shorter and page > 1:
                page, before = page - 1, set()
                continue
            ids = {row.id for row in rows.rows}
            if ids and ids <= before:
                raise _again(path, page)
            before = ids
            yield rows
            if rows.last:
                return
            page += 1
        raise ConnectorError("protocol", f"{path} has no end after {CALLS_MAX} calls")

    def _rows(self, answer: Answer, page: int) -> wire.Rows:
        return wire.rows_of(_good(answer), page=page, per_page=self._per_page)


def _auth(options: Options) -> httpx.Auth:
    key, secret = options.consumer_key.get_secret_value(), options.consumer_secret.get_secret_value()
    if not options.encrypted:
        return wire.OAuth1(key, secret)
    return wire.KeysInQuery(key, secret) if options.keys_in_query else httpx.BasicAuth(key, secret)


def _good(answer: Answer) -> Answer:
    """The answer, unless it is an error that `wire.classify` left to us."""
    problem = wire.problem_of(answer)
    if problem is not None:
        raise ConnectorError(problem.kind, problem.message, hint=problem.hint, status=answer.status)
    return answer


def _again(path: str, page: int) -> ConnectorError:
    """To go on would be to miss the rows that should have come."""
    return ConnectorError(
        "protocol",
        f"page {page} of {path} shows the page before it again",
        hint="A cache before the shop may answer: let it leave /wp-json out. The next run tries again.",
    )


def _lacks_route(answer: Answer) -> bool:
    return answer.status == 404 and wire.error_of(answer)[0] == wire.NO_ROUTE


def _refuses(answer: Answer, param: str) -> bool:
    code, params = wire.error_of(answer) if answer.status == 400 else ("", ())
    return code == wire.INVALID_PARAM and param in params


def _latest(latest: datetime | None, rows: Sequence[wire.Row]) -> datetime | None:
    return max((time for time in (latest, *(row.created_at for row in rows)) if time), default=None)


def _records(rows: Sequence[wire.Row]) -> list[RawRecord]:
    return [RawRecord(row.id, row.body, version=row.modified_at) for row in rows]


def _refund_records(rows: Sequence[wire.Row], context: Mapping[str, Any]) -> list[RawRecord]:
    return [RawRecord(row.id, row.body, version=row.created_at, context=context) for row in rows]


CONNECTOR = Connector(
    type="woocommerce",
    options=Options,
    mapping="vendors/woocommerce.yaml",
    streams=(
        Stream("orders", overlap=timedelta(minutes=10), swept=True),
        Stream("refunds", overlap=timedelta(days=90), swept=True),
        Stream("products", overlap=timedelta(minutes=10)),
        Stream("contacts", full=True),
    ),
    source=WooCommerce,
    description="WooCommerce: orders, refunds, products and customers",
)
