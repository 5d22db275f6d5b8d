"""Stops an embedded server whose last user was killed. Started before each server, ends with it.

Users hold a shared lock; a killed one loses it. This small process looks every second whether any is left.
It runs by its path with the standard library alone, so that it is light and outlives a change of the code.

Arguments: guard.lock (held by the one guard of a server), start.lock, users.lock, postmaster.pid.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

_LOOK_EVERY_S = 1.0
_STOP_POLL_S = 0.1
_FAST_STOP_S = 60.0
_STOP_MAX_S = 600.0


def works_in(pid: int, data: Path) -> bool:
    """Whether the process lives and its working folder is `data`, which tells a server from a stranger.

    Where the system does not show the working folder (no /proc), whether it lives.
    """
    try:
        if os.path.exists("/proc/self/cwd"):
            return os.path.samefile(f"/proc/{pid}/cwd", data)
        os.kill(pid, 0)
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return False
    return True


def server_of(pidfile: Path) -> int | None:
    """The process id of the running server that `pidfile` names, if any."""
    try:
        pid = int(pidfile.read_text("utf-8").split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return pid if works_in(pid, pidfile.parent) else None


def stop(pidfile: Path, pid: int) -> None:
    """Fast shutdown, and wait for its end; an immediate one where that hangs, as PostgreSQL 18 does when it is
    just restarting itself."""
    for number, patience_s in ((signal.SIGINT, _FAST_STOP_S), (signal.SIGQUIT, _STOP_MAX_S)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        give_up_at = time.monotonic() + patience_s
        while server_of(pidfile) == pid:
            if time.monotonic() > give_up_at:
                break
            time.sleep(_STOP_POLL_S)
        else:
            return


def try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main(arguments: list[str]) -> None:
    guard_lock, start_lock, users_lock = (
        os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600) for path in arguments[:3]
    )
    pidfile = Path(arguments[3])
    if not try_lock(guard_lock) or os.fork():
        # Another guard is on watch; or we are: then the starter waits for this process only, and has no
        # child to clear away later.
        os._exit(0)
    while True:
        time.sleep(_LOOK_EVERY_S)
        # All looks and both ends happen under the start lock, so no start ever meets a guard that is leaving.
        if not try_lock(start_lock):
            continue
        server = server_of(pidfile)
        if server and not try_lock(users_lock):
            fcntl.flock(start_lock, fcntl.LOCK_UN)
            continue
        if server:
            stop(pidfile, server)
        os.close(guard_lock)
        return


if __name__ == "__main__":
    main(sys.argv[1:])
