"""The simulated Mailchimp's problem answers, and what its queries can ask: pages, times, fields."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

MOST, BY_DEFAULT = 1000, 10
_DOCS = "https://mailchimp.com/developer/marketing/docs/errors/"
# Times are kept in whole seconds, so just after a second means from the next one on.
_NEXT_SECOND = 1


class Problem(Exception):
    """An answer of type problem+json."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.title = status, title

    def response(self) -> Response:
        body = {
            "type": _DOCS,
            "title": self.title,
            "status": self.status,
            "detail": str(self),
            "instance": str(uuid.uuid4()),
        }
        return Response(json.dumps(body), self.status, media_type="application/problem+json")


def not_found() -> Problem:
    return Problem(404, "Resource Not Found", "The requested resource could not be found.")


def page(request: Request) -> tuple[int, int]:
    """count (10 when not given, 1000 at most: more is not refused, only not given) and offset."""
    values = []
    for name, usual in (("count", BY_DEFAULT), ("offset", 0)):
        text = request.query_params.get(name, str(usual))
        if not (text.isascii() and text.isdigit()):
            raise Problem(400, "Invalid Resource", f"{name} must be a whole number, was {text}")
        values.append(int(text))
    return min(values[0], MOST), values[1]


def descending(request: Request) -> bool:
    direction = request.query_params.get("sort_dir", "ASC")
    if direction not in {"ASC", "DESC"}:
        raise Problem(400, "Invalid Resource", f"sort_dir {direction} is neither ASC nor DESC")
    return direction == "DESC"


def since(request: Request, name: str) -> float | None:
    at = _bound(request, name)
    return None if at is None else at + _NEXT_SECOND


def before(request: Request, name: str) -> float | None:
    at = _bound(request, name)
    # A document's time may carry a fraction that the API does not show.
    return None if at is None else at + _NEXT_SECOND - 1e-6


def _bound(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        return seconds(text)
    except ValueError as wrong:
        # A raw "+" in a URL is a space, so "…+00:00" ends here as well.
        raise Problem(400, "Invalid Resource", f"{name}: {text} is not a valid date") from wrong


def seconds(text: Any) -> int | None:
    """Whole Unix seconds of an ISO time with its zone; None for "" and null. Raises ValueError."""
    if not text:
        return None
    at = datetime.fromisoformat(text)
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def within(at: int | None, since: float | None, before: float | None) -> bool:
    """Something without a time passes only where no bound is set."""
    if since is None and before is None:
        return True
    return at is not None and (since is None or at >= since) and (before is None or at <= before)


def chosen(body: dict[str, Any], request: Request) -> dict[str, Any]:
    """`fields` or `exclude_fields`: dotted paths that keep or drop. Raises Problem when both are given."""
    wanted, unwanted = (
        [path.split(".") for path in request.query_params.get(name, "").split(",") if path]
        for name in ("fields", "exclude_fields")
    )
    if wanted and unwanted:
        raise Problem(400, "Invalid Resource", "fields and exclude_fields cannot be used together")
    chosen = _keep(body, wanted) if wanted else _drop(body, unwanted)
    return dict(chosen)


def _by_head(paths: Iterable[list[str]]) -> Mapping[str, list[list[str]]]:
    heads: dict[str, list[list[str]]] = {}
    for path in paths:
        heads.setdefault(path[0], []).append(path[1:])
    return heads


def _keep(value: Any, paths: list[list[str]]) -> Any:
    if [] in paths:
        return value
    if isinstance(value, list):
        return [_keep(row, paths) for row in value]
    if not isinstance(value, dict):
        return value
    heads = _by_head(paths)
    return {name: _keep(value[name], heads[name]) for name in value if name in heads}


def _drop(value: Any, paths: list[list[str]]) -> Any:
    if not paths:
        return value
    if isinstance(value, list):
        return [_drop(row, paths) for row in value]
    if not isinstance(value, dict):
        return value
    heads = _by_head(paths)
    return {
        name: _drop(held, heads.get(name, []))
        for name, held in value.items()
        if [] not in heads.get(name, [])
    }
