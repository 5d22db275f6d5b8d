"""Structured logs on standard error: JSON with a run id, or readable; never a secret or a whole address."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any, Literal
from urllib.parse import quote, quote_plus

import structlog

# What stands before the @, in any script, up to what separates an address from the text or URL around it;
# in a URL the @ may be written %40.
_ENDS = r"\s@,;:<>()\[\]{}\"=/?&|\\"
_EMAIL = re.compile(rf"(?<![^{_ENDS}])([^{_ENDS}*]?)[^{_ENDS}]*(@|%40)((?:[\w-]+\.)+[^\W\d_][\w-]+)")
_secrets: set[str] = set()
MIN_SECRET_LENGTH = 4


def hide(secrets: Iterable[str]) -> None:
    """Never write these values, wherever they turn up: as they are, or as a URL or JSON writes them."""
    for secret in secrets:
        if len(secret) >= MIN_SECRET_LENGTH:
            _secrets.update((secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]))


def mask(text: str) -> str:
    """`text` without known secrets, and with every e-mail address cut to ``a***@example.com``."""
    for secret in sorted(_secrets, key=len, reverse=True):  # one may be part of another
        text = text.replace(secret, "[secret]")
    return _EMAIL.sub(r"\1***\2\3", text)


def _mask_all(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {_mask_all(k): _mask_all(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_mask_all(v) for v in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return mask(str(value))


def _masking(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    # structlog's own entries (`_record`) are taken out before anything is written.
    return {name: value if name.startswith("_") else _mask_all(value) for name, value in event.items()}


def configure(*, form: Literal["auto", "json", "text"], level: str) -> None:
    """Send the logs of ours and of all libraries to standard error; `auto` is readable on a terminal."""
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _masking,
    ]
    last: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "procrastinate", "alembic", "uvicorn", "psycopg"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
