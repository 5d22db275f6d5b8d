"""The entry point of the command: light, so that Ctrl-C is no crash even while the rest is loaded."""

from __future__ import annotations

import os
import resource
import signal
from types import FrameType

STOPPED = 130


def _leave(_: int, __: FrameType | None) -> None:
    os._exit(STOPPED)  # nothing is open yet


def main() -> None:
    """What we write holds personal data and names of secrets: it is for this user alone. What is in memory is
    for nobody: a crash leaves no core file."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    attended = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if attended:
        signal.signal(signal.SIGINT, _leave)
    from sync.cli.main import app

    if attended:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app()
    finally:
        if attended:
            signal.signal(signal.SIGINT, _leave)


if __name__ == "__main__":
    main()
