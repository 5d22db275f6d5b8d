"""The embedded database: a real PostgreSQL from a wheel, private to this OS user, alive while it is used.

Every user of a workspace's server (`Embedded.start`) holds a shared lock. Who leaves and then gets the lock
exclusively was the last and stops the server; the lock of a killed process is free by itself, and the
server's guard (`sync.store.embedded_guard`) does what the killed one could not. Starting and stopping happen
under a second, exclusive lock, so any number of processes may start at once.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql

from sync.store import embedded_cluster as cluster
from sync.store import embedded_files, embedded_place, embedded_root
from sync.store.embedded_place import NAME, EmbeddedError, Place

__all__ = ["Embedded", "EmbeddedError"]

ROOM_BYTES_MIN = (
    16 * 1024 * 1024
)  # a file of PostgreSQL's log of changes; without the next one it ends itself
_POLL_S = 0.1


def _silent(_: str) -> None:
    """Who does not listen."""


class Embedded:
    """The embedded server of one workspace.

    Parameters
    ----------
    folder : the workspace's data folder; made if missing, its rights are never changed.
    say : is told, in one sentence, what takes long.
    """

    def __init__(self, folder: Path, *, say: Callable[[str], None] | None = None) -> None:
        self.folder = Path(os.path.realpath(folder))
        self._home = self.folder / "postgres"
        self._start_lock = self._home / "start.lock"
        self._users_lock = self._home / "users.lock"
        self._say = say or _silent
        self._use: int | None = None

    def start(self) -> str:
        """Make (at first), start (if it does not run) and use the server; return its conninfo URL.

        Raises
        ------
        EmbeddedError : what is wrong, with the end of the server's log, and what to do.
        """
        with self._starting():
            place = self._place() or embedded_root.make_place(self.folder)
            cluster.create(place, say=self._say)
            cluster.check_version(place)
            already = self._use is not None
            self._enter()
            try:
                # before the server, so that one whose starter is killed midway has its guard too
                cluster.guard(
                    place,
                    start_lock=self._start_lock,
                    users_lock=self._users_lock,
                )
                server = self._ready_server(place)
                _make_database(server.sockets)
            except BaseException:
                if not already:
                    self._leave()
                raise
            return cluster.conninfo(server.sockets)

    def running(self) -> bool:
        """Whether the server runs, whoever uses it."""
        place = self._place() if self._home.is_dir() else None
        return place is not None and cluster.find(place) is not None

    def disk_is_full(self) -> bool:
        """Whether the disk of the data has no room for what a server writes next."""
        place = self._place() if self._home.is_dir() else None
        return place is not None and shutil.disk_usage(place.data).free < ROOM_BYTES_MIN

    def stop_if_unused(self) -> bool:
        """Stop using the server; stop it if nobody else uses it. Whether it is stopped now."""
        if not self._home.is_dir():
            self._leave()
            return True
        with self._starting():
            self._leave()
            return self._stop(force=False)

    def stop(self, *, force: bool = False) -> None:
        """Stop using the server and stop it.

        Raises
        ------
        EmbeddedError : others use it, and `force` is not set (with it, their connections break).
        """
        if not self._home.is_dir():
            self._leave()
            return
        with self._starting():
            self._leave()
            if not self._stop(force=force):
                raise _in_use(self.folder)

    def remove(self) -> None:
        """Stop the server and delete all its data.

        Raises
        ------
        EmbeddedError : others use it.
        """
        if not self._home.is_dir():
            self._leave()
            return
        with self._starting():
            self._leave()
            if not self._stop(force=False):
                raise _in_use(self.folder)
            place = self._place()
            if place is None:
                return
            if place.switch:
                embedded_root.forget_place(self.folder)
                shutil.rmtree(place.base)
                return
            if place.data.exists():
                # so that a half-deleted folder is never taken for a database
                place.data.rename(place.base / "data.old")
                shutil.rmtree(place.base / "data.old")
            shutil.rmtree(place.log, ignore_errors=True)
            shutil.rmtree(place.base / "socket", ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_if_unused()

    def _place(self) -> Place | None:
        """The server's place, or None when (as root) there is none yet."""
        if os.geteuid() == 0:
            return embedded_root.of_root(self.folder, self._home)
        if (self.folder / embedded_root.LOCATION).exists():
            raise EmbeddedError(
                f"The database of {self.folder} was made by root.", hint="Run leadledger as root."
            )
        return embedded_place.of_user(self._home)

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """Hold the start lock; what the file system refuses inside becomes an `EmbeddedError`."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._home.mkdir(mode=0o700, exist_ok=True)
            with embedded_files.locked(self._start_lock, waiting=self._say_waiting):
                yield
        except psycopg.Error:
            raise
        except OSError as error:
            raise EmbeddedError(
                f"The embedded database cannot use {error.filename or self.folder}: "
                f"{error.strerror or error}.",
                hint="Make room on its disk."
                if error.errno in (errno.ENOSPC, errno.EDQUOT)
                else "Give this user the rights to the data folder, or name another: data: …",
            ) from error

    def _say_waiting(self) -> None:
        self._say("Another leadledger is starting or stopping the embedded database; waiting for it.")

    def _enter(self) -> None:
        """Share the users' lock. It is never held alone here: that happens under the start lock."""
        if self._use is None:
            descriptor = embedded_files.open_lock(self._users_lock)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            self._use = descriptor

    def _leave(self) -> None:
        if self._use is not None:
            os.close(self._use)
            self._use = None

    def _ready_server(self, place: Place) -> cluster.Server:
        """The running server, started if need be, once it takes connections."""
        said = False
        while True:
            server = cluster.find(place)
            if server is None:
                cluster.configure(place)
                cluster.launch(place, say=self._say)
                server = cluster.find(place)
                if server is None:
                    raise EmbeddedError(
                        f"The embedded database stopped right after its start: see {place.log}."
                    )
            accepts = cluster.accepts(server.sockets)
            if server.status == "ready" and accepts:
                return server
            if not said:
                status = "recovering" if server.status == "ready" else server.status
                self._say(f"The embedded database is {status}; waiting until it is ready.")
                said = True
            time.sleep(_POLL_S)

    def _stop(self, *, force: bool) -> bool:
        """Stop the server unless it has users (or by force). Under the start lock."""
        descriptor = embedded_files.open_lock(self._users_lock)
        try:
            if not embedded_files.try_lock(descriptor, fcntl.LOCK_EX) and not force:
                return False
            place = self._place()
            server = cluster.find(place) if place else None
            if place and server:
                cluster.shut_down(place, say=self._say)
                embedded_place.drop_short_socket_folder(place, server.sockets)
            return True
        finally:
            os.close(descriptor)


def _in_use(folder: Path) -> EmbeddedError:
    return EmbeddedError(
        f"Another leadledger uses the embedded database of {folder}.",
        hint="Stop it (leadledger up, a running sync), then try again.",
    )


def _make_database(sockets: Path) -> None:
    """Create our database if it is not there: bytewise order, the same on every system.

    What a statement of ours did wrong is told to us and not to the server's log: such words may quote a value.
    """
    try:
        with psycopg.connect(cluster.conninfo(sockets), autocommit=True) as connection:
            connection.execute("ALTER ROLE CURRENT_USER SET log_min_messages = 'log'")
    except psycopg.OperationalError as error:
        if f'database "{NAME}" does not exist' not in str(error):
            raise
        statement = "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
        with psycopg.connect(cluster.conninfo(sockets, "postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(NAME)))
            connection.execute("ALTER ROLE CURRENT_USER SET log_min_messages = 'log'")
