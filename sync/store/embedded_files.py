"""Locks and atomic files for the embedded server."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_S = 0.05
_NOTICE_AFTER_S = 2.0


@contextmanager
def locked(path: Path, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the exclusive lock on `path`; `waiting` is called once when it takes longer than a moment."""
    descriptor = open_lock(path)
    try:
        started = time.monotonic()
        while not try_lock(descriptor, fcntl.LOCK_EX):
            if waiting and time.monotonic() - started > _NOTICE_AFTER_S:
                waiting()
                waiting = None
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def open_lock(path: Path) -> int:
    """A new descriptor of the lock file `path`: closing it, or dying, gives the lock back."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int, kind: int) -> bool:
    """Whether the lock of `kind` (LOCK_SH or LOCK_EX) was free and is now held."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write(path: Path, text: str, *, mode: int = 0o600, owner: tuple[int, int] | None = None) -> None:
    """Write `path` whole or not at all. A link in its place is replaced, never followed."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if owner:
                os.fchown(file.fileno(), *owner)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
