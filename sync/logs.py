"""Structured logs on standard error: JSON with a run id, or readable; never a secret or a whole address."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterable, MutableMapping
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote, quote_plus

import structlog
from structlog.typing import ExcInfo

from sync.store import outage

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
    if isinstance(value, BaseException):
        return mask(outage.told(value))
    return mask(str(value))


def _masking(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    # structlog's own entries (`_record`) are taken out before anything is written.
    return {name: value if name.startswith("_") else _mask_all(value) for name, value in event.items()}


def _without_traces_of_outages(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Where in the code the database was missed, its users and their libraries need not tell."""
    given = event.get("exc_info")
    error = (
        given
        if isinstance(given, BaseException)
        else given[1]
        if isinstance(given, tuple)
        else sys.exception()
    )
    if given and error is not None and outage.is_outage(error):
        del event["exc_info"]
        event.setdefault("error", outage.told(error))
    return event


def _trace(exc_info: ExcInfo) -> str:
    """The traces of an error and of what led to it, without the values that they may quote."""
    parts = []
    for error in outage.chain(exc_info[1]):
        frames = "".join(traceback.format_tb(error.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{outage.told(error)}")
    return "\n\nwhich led to:\n\n".join(reversed(parts))


def _tell_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The trace of a crash, masked as a log line is: errors quote what they stumbled over."""
    sys.stderr.write(f"{mask(_trace((kind, error, trace)))}\n")


def _tell_crash_of_thread(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is not None and crash.exc_type is not SystemExit:
        _tell_crash(crash.exc_type, crash.exc_value, crash.exc_traceback)


def _tell_unraisable(crash: sys.UnraisableHookArgs) -> None:
    """What went wrong while an object was cleared away, where nobody could catch it."""
    if crash.exc_value is not None:
        _tell_crash(crash.exc_type, crash.exc_value, crash.exc_traceback)


def configure(*, form: Literal["auto", "json", "text"], level: str) -> None:
    """Send the logs of ours and of all libraries to standard error; `auto` is readable on a terminal.

    The trace of a crash, in whatever thread, is masked as they are.
    """
    sys.excepthook = _tell_crash
    threading.excepthook = _tell_crash_of_thread
    sys.unraisablehook = _tell_unraisable
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_traces_of_outages,
        structlog.processors.ExceptionRenderer(_trace),
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
    # It tells each try of each connection; that the database is away is told once.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
