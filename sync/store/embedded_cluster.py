"""One PostgreSQL cluster on disk: made, configured, started and stopped with PostgreSQL's own programs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from sync.store import embedded_files, embedded_guard
from sync.store.embedded_place import MAJOR, NAME, EmbeddedError, Place, make_private, socket_folder

Say = Callable[[str], None]

CONF = "leadledger.conf"
_LOG_LINES = 15
_POLL_S = 0.05
_ORPHANS_MAX_S = 60.0
_NOTICES_S = (3.0, 30.0, 120.0, 600.0, 1800.0)
_FAST_STOP_S = 60  # then without a checkpoint: the next start recovers, nothing is lost
_GUARD_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_PG_CTL_TIMEOUT_S = 86_400  # patience: pg_ctl itself sees when the server dies

_SETTINGS = """\
# Written by leadledger at each start. Put settings of your own into postgresql.conf below the include.
listen_addresses = ''
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
max_connections = 100
shared_buffers = 128MB
timezone = 'UTC'
jit = off
logging_collector = on
log_directory = '../log'
log_filename = 'postgres-%a.log'
log_file_mode = 0600
log_rotation_age = 1d
log_rotation_size = 0
log_truncate_on_rotation = on
log_timezone = 'UTC'
log_checkpoints = off
# rows and statements hold personal data, which must not reach a log
log_error_verbosity = terse
log_min_error_statement = panic
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
"""
_ACCESS = "# Written by leadledger: only the users of pg_ident.conf, known by the system, as one role.\n" + (
    f"local all all peer map={NAME}\n"
)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. `status` is starting, ready or stopping."""

    pid: int
    sockets: Path
    status: str


def check_version(place: Place) -> None:
    """Refuse data of another major version of PostgreSQL. Never touches them."""
    try:
        found = (place.data / "PG_VERSION").read_text("ascii").strip()
    except FileNotFoundError:
        raise EmbeddedError(
            f"{place.data} is not a PostgreSQL data folder: PG_VERSION is missing.",
            hint="Restore the folder from a backup, or move it away to start with an empty database.",
        ) from None
    if found != MAJOR:
        raise EmbeddedError(
            f"The data in {place.data} were written by PostgreSQL {found}; this leadledger runs "
            f"PostgreSQL {MAJOR}. Nothing was changed.",
            hint=f"Copy the folder as a backup. Then dump the database with the leadledger that made it (its "
            f"PostgreSQL {found}: pg_dump), move the folder away, and load the dump into the new database.",
        )


def create(place: Place, *, say: Say) -> None:
    """Make the cluster if there is none, all or nothing."""
    for leftover in place.base.glob("data.*"):
        shutil.rmtree(leftover)
    if place.data.exists():
        return
    say("Making the embedded database (once).")
    new = place.base / "data.new"
    options = [f"--pgdata={new}", f"--username={NAME}", "--encoding=UTF8", "--locale=C", "--data-checksums"]
    done = _run(place, "initdb", [*options, "--auth-local=peer", "--auth-host=reject", "--no-instructions"])
    if done.returncode:
        raise EmbeddedError(f"The embedded database could not be made:\n{done.stdout.strip()}")
    conf = (new / "postgresql.conf").read_text("utf-8")
    _write(place, new / "postgresql.conf", f"{conf}\ninclude = '{CONF}'\n")
    new.rename(place.data)


def configure(place: Place) -> None:
    """Write what is ours: settings, and who may connect."""
    make_private(place.log, owner=place.owner)
    _write(place, place.data / CONF, _SETTINGS.format(sockets=socket_folder(place)))
    _write(place, place.data / "pg_hba.conf", _ACCESS)
    lines = [f'{NAME} "{user}" {NAME}\n' for user in dict.fromkeys(place.admitted)]
    _write(place, place.data / "pg_ident.conf", "".join(lines))


def find(place: Place) -> Server | None:
    """The server that runs on these data, if any."""
    try:
        lines = place.pidfile.read_text("utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if len(lines) < 5 or not os.path.isdir(lines[1]) or not os.path.samefile(lines[1], place.data):
        return None
    status = lines[7].strip() if len(lines) > 7 else "starting"
    server = Server(int(lines[0]), Path(lines[4]), status)
    alive = answers(server.sockets) or embedded_guard.works_in(server.pid, place.data)
    return server if alive else None


def answers(sockets: Path) -> bool:
    """Whether a server listens there, in whichever container it runs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(sockets / ".s.PGSQL.5432"))
        except OSError:
            return False
    return True


def accepts(sockets: Path) -> bool:
    """Whether a server lets clients in: one that restarts itself after a crash of a part does not yet."""
    found = psycopg.pq.PGconn.ping(conninfo(sockets).encode())
    return found == psycopg.pq.Ping.OK


def launch(place: Place, *, say: Say) -> None:
    """Start the server and wait until it is ready, however long it recovers."""
    _forget_dead_server(place, say=say)
    log = place.log / "start.log"
    log.unlink(missing_ok=True)
    started = time.time()
    arguments = [
        "start",
        f"--pgdata={place.data}",
        f"--log={log}",
        f"--timeout={_PG_CTL_TIMEOUT_S}",
        "--wait",
    ]
    notice = "The embedded database is starting. After a crash it first recovers; that can take minutes."
    done = _run(place, "pg_ctl", [*arguments, "--silent"], say=say, notice=notice)
    if done.returncode:
        raise EmbeddedError(
            f"The embedded database did not start. Its log ({place.log}) ends with:\n"
            f"{_last_lines(place.log, since=started) or done.stdout.strip()}",
            hint="Act on the last FATAL or PANIC line (a full disk, lost rights, damaged files), then start "
            "again. Copy the folder before you repair anything in it.",
        )


def guard(place: Place, *, start_lock: Path, users_lock: Path) -> None:
    """Start the process that stops the server when all its users were killed, unless it is there."""
    command = [sys.executable, "-I", "-S", embedded_guard.__file__]
    done = subprocess.run(
        [*command, *map(str, (place.base / "guard.lock", start_lock, users_lock, place.pidfile))],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        # Secrets may stand in our environment, and the guard outlives us.
        env={name: os.environ[name] for name in _GUARD_ENVIRONMENT if name in os.environ},
    )
    if done.returncode:
        raise EmbeddedError(f"The guard of the embedded database did not start (exit {done.returncode}).")


def shut_down(place: Place, *, say: Say) -> None:
    """Fast shutdown: transactions under way are rolled back, everything committed is on disk."""
    _let_recover(place)
    for mode, patience_s in (("fast", _FAST_STOP_S), ("immediate", _PG_CTL_TIMEOUT_S)):
        if find(place) is None:
            return
        notice = "The embedded database is writing its data before it stops."
        arguments = ["stop", f"--pgdata={place.data}", f"--mode={mode}", f"--timeout={patience_s}", "--wait"]
        done = _run(place, "pg_ctl", [*arguments, "--silent"], say=say, notice=notice)
    if find(place) is not None:
        raise EmbeddedError(f"The embedded database did not stop: {done.stdout.strip()}")


def _let_recover(place: Place) -> None:
    """Wait while the server restarts itself: PostgreSQL 18 never ends a fast shutdown that is asked for then."""
    while (server := find(place)) and server.status != "stopping" and not accepts(server.sockets):
        time.sleep(_POLL_S)


def conninfo(sockets: Path, database: str = NAME) -> str:
    """The libpq address of `database`. The port is named, as PGPORT would change it."""
    return f"postgresql://{NAME}@/{database}?host={quote(str(sockets), safe='')}&port=5432"


def _forget_dead_server(place: Place, *, say: Say) -> None:
    """Clear away the lock files of a server that was killed.

    PostgreSQL takes any living process of the same user (and one that ended and was not cleared away) for the
    server that its lock files name, and then never starts again: common in containers, where process ids are
    small and come back. Its own check, by shared memory, stays in force: so wait for the killed server's
    children, which go by themselves.
    """
    if not place.pidfile.exists() or not os.path.exists("/proc/self/cwd"):
        return
    give_up_at = time.monotonic() + _ORPHANS_MAX_S
    said = False
    while _any_works_in(place.data) and time.monotonic() < give_up_at:
        if not said:
            say("The embedded database was killed; waiting until the last of its processes has ended.")
            said = True
        time.sleep(_POLL_S)
    (socket_folder(place) / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
    place.pidfile.unlink(missing_ok=True)


def _any_works_in(data: Path) -> bool:
    return any(embedded_guard.works_in(int(pid), data) for pid in os.listdir("/proc") if pid.isdigit())


def _run(
    place: Place, program: str, arguments: Sequence[str], *, say: Say | None = None, notice: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs as the server's user, in a session of its own.

    Its output goes to a file: a server started by it would keep a pipe open. Ctrl-C does not reach it.
    """
    identity: dict[str, Any] = {}
    if place.switch:
        identity = {"user": place.owner.uid, "group": place.owner.gid, "extra_groups": []}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        try:
            process = subprocess.Popen(
                [str(place.binaries / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
                cwd="/",
                umask=0o077,
                start_new_session=True,
                **identity,
            )
        except OSError as error:
            raise EmbeddedError(f"{place.binaries / program} cannot be run: {error.strerror}.") from error
        _wait(process, say=say, notice=notice)
        output.seek(0)
        return subprocess.CompletedProcess(program, process.returncode, output.read())


def _wait(process: subprocess.Popen[bytes], *, say: Say | None, notice: str) -> None:
    started = time.monotonic()
    notices = iter(_NOTICES_S)
    at = next(notices)
    while True:
        try:
            process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            waited_s = time.monotonic() - started
            if say and waited_s > at:
                say(f"{notice} ({waited_s:.0f} s so far)")
                at = next(notices, at + _NOTICES_S[-1])
        else:
            return


def _write(place: Place, path: Path, text: str) -> None:
    embedded_files.write(path, text, owner=(place.owner.uid, place.owner.gid) if place.switch else None)


def _last_lines(log: Path, *, since: float) -> str:
    """The end of what the server wrote since `since` (seconds since the epoch)."""
    files = [file for file in log.iterdir() if file.is_file() and file.stat().st_mtime >= since - 2]
    lines: list[str] = []
    for file in sorted(files, key=lambda each: each.stat().st_mtime):
        lines += [f"  {line}" for line in file.read_text("utf-8", "replace").splitlines()[-_LOG_LINES:]]
    return "\n".join(lines[-2 * _LOG_LINES :])
