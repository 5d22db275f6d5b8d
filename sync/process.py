"""The process itself: its settings from the environment (``LEADLEDGER_…``), and its end when it is told to stop.

The rest of the settings is in leadledger.yaml.
"""

from __future__ import annotations

import getpass
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal, NoReturn

from pydantic_settings import BaseSettings, SettingsConfigDict

STOP_WITHIN_S = 20.0
"""What runs gets so long to stop between two transactions. Below Procrastinate's threshold for stalled jobs
(30 s), so that no job is taken for dead while it stops."""


class ProcessSettings(BaseSettings):
    """``LEADLEDGER_CONFIG``, ``LEADLEDGER_LOG_FORMAT`` (auto, json, text), ``LEADLEDGER_LOG_LEVEL``."""

    model_config = SettingsConfigDict(env_prefix="LEADLEDGER_", extra="ignore")

    config: Path = Path("leadledger.yaml")
    log_format: Literal["auto", "json", "text"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "warning"


def leave_soon(code: int) -> None:
    """End this process with `code` if it still lives after `STOP_WITHIN_S`: a call may hang for minutes.

    Nothing is lost, as at any kill: what was committed stays. An alarm and not a thread, since it is asked for
    in handlers of signals, which may wait for no lock.
    """

    def leave(_: int, __: FrameType | None) -> NoReturn:
        sys.stderr.write("Something still hangs and is left alone. Nothing is lost: the next run goes on.\n")
        sys.stderr.flush()
        os._exit(code)

    signal.signal(signal.SIGALRM, leave)
    signal.setitimer(signal.ITIMER_REAL, STOP_WITHIN_S)


@contextmanager
def interruptible(code: int) -> Iterator[None]:
    """Ctrl-C ends the block as ever, and the process with `code` when the block does not end soon after."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        leave_soon(code)
        signal.default_int_handler(number, frame)

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def user() -> str:
    """Who runs this process, by the system's name for them: the author of what is decided by hand."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user that no passwd file knows, as in a container
        return f"uid {os.getuid()}"
