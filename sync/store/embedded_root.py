"""The embedded server's place when leadledger runs as root, as in a container.

PostgreSQL refuses to run as root, so the server runs as the system user `leadledger`, in a folder of its
own, and no folder of anybody else changes its rights::

    /var/lib/leadledger/              0755, root
        pg-18-<hash>/                 a copy of the wheel's programs that this user can read
        <random id>/                  0700, leadledger: data, log and socket of one workspace
    <data folder>/postgres.location   names that folder

The id is random, so a workspace that was deleted and made anew never meets its old data.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import secrets
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from sync.store import embedded_files
from sync.store.embedded_place import MAJOR, NAME, PACKAGE, Account, EmbeddedError, Place, binaries_source

ROOT_FOLDER = Path("/var/lib/leadledger")
LOCATION = "postgres.location"
_ID = re.compile(r"[0-9a-f]{32}")


def of_root(folder: Path, home: Path) -> Place | None:
    """The place of the data folder `folder`, or None when it has none yet."""
    if (home / "data").exists():
        owner = (home / "data").stat().st_uid
        raise EmbeddedError(
            f"The database in {home} was made by the user with id {owner}, not by root.",
            hint="Run leadledger as that user.",
        )
    base = _read_location(folder / LOCATION)
    if base is None:
        return None
    account = _account()
    try:
        entry = base.lstat()
    except FileNotFoundError:
        raise EmbeddedError(
            f"The database folder {base}, which {folder / LOCATION} names, is gone.",
            hint=f"Put it back (in a container: keep {ROOT_FOLDER} on a volume). To start with an empty "
            f"database instead, delete {folder / LOCATION}.",
        ) from None
    if entry.st_uid != account.uid:
        raise EmbeddedError(f"{base} does not belong to the user {NAME}.", hint="Restore its owner.")
    return _place(base, account)


def make_place(folder: Path) -> Place:
    """Make a new, empty place for the data folder `folder`."""
    if not ROOT_FOLDER.exists():
        ROOT_FOLDER.mkdir(parents=True, exist_ok=True)
        ROOT_FOLDER.chmod(0o755)  # whatever our umask is: the server's user passes through
    account = _account()
    base = ROOT_FOLDER / secrets.token_hex(16)
    base.mkdir(mode=0o700)
    os.chown(base, account.uid, account.gid)
    embedded_files.write(
        folder / LOCATION,
        f"# The embedded database of this folder (PostgreSQL does not run as root).\n{base}\n",
        mode=0o644,
    )
    return _place(base, account)


def forget_place(folder: Path) -> None:
    """Cut the data folder from its place. The place itself stays until it is deleted."""
    (folder / LOCATION).unlink(missing_ok=True)


def _place(base: Path, account: Account) -> Place:
    with embedded_files.locked(ROOT_FOLDER / "programs.lock"):
        binaries = _copy_of_programs() / "bin"
    return Place(base=base, binaries=binaries, owner=account, switch=True, admitted=("root",))


def _read_location(file: Path) -> Path | None:
    try:
        lines = file.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return None
    named = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if len(named) == 1 and Path(named[0]).parent == ROOT_FOLDER and _ID.fullmatch(Path(named[0]).name):
        return Path(named[0])
    raise EmbeddedError(
        f"{file} does not name a folder of the embedded database in {ROOT_FOLDER}.",
        hint="Restore the file from a backup.",
    )


def _account() -> Account:
    """The system user the server runs as, made when missing."""
    entry = _lookup()
    if entry is None:
        _make_user()
        entry = _lookup()
    if entry is None or entry.uid == 0:
        raise EmbeddedError(
            f"There is no unprivileged system user {NAME!r} to run the database as.",
            hint=f"Make one: useradd --system --no-create-home --shell /usr/sbin/nologin {NAME}",
        )
    return entry


def _lookup() -> Account | None:
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _make_user() -> None:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(ROOT_FOLDER)]
    command += ["--shell", "/usr/sbin/nologin", NAME]
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env={"PATH": path, "LC_ALL": "C"}
        )
        why = "" if done.returncode == 0 else done.stderr.strip()
    except FileNotFoundError:
        why = "the program useradd is not there"
    # two workspaces may start at once: what counts is whether the user is there now
    if why and _lookup() is None:
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and the system user {NAME!r} could not be made: {why}.",
            hint="Make that user yourself, run leadledger as an ordinary user, or name a server: "
            "database: postgresql://…",
        )


def _copy_of_programs() -> Path:
    """The wheel's programs where any user can read them (a venv often lies in a private home)."""
    source = binaries_source()
    target = ROOT_FOLDER / f"pg-{MAJOR}-{_identity_of_programs(source)}"
    # The programs find their libraries by a relative path, which must stay as in the wheel.
    folder = target / PACKAGE / source.name
    if target.is_dir():
        return folder
    temporary = Path(f"{target}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    ignore = shutil.ignore_patterns("include", "*.a", "pkgconfig")
    shutil.copytree(source, temporary / PACKAGE / source.name, symlinks=True, ignore=ignore)
    for libraries in (source.parents[1] / f"{PACKAGE}.libs", source.parent / ".dylibs"):
        if libraries.is_dir():
            shutil.copytree(libraries, temporary / libraries.relative_to(source.parents[1]), symlinks=True)
    for path in (temporary, *temporary.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    temporary.rename(target)
    return folder


def _identity_of_programs(source: Path) -> str:
    """The same for the same wheel wherever it is installed, so that one copy serves all."""
    try:
        record = distribution(PACKAGE).read_text("RECORD") or ""
    except PackageNotFoundError:
        record = ""
    lines = [line for line in record.splitlines() if f"/{source.name}/" in line or ".libs/" in line]
    return hashlib.sha256("\n".join(sorted(lines) or [str(source)]).encode()).hexdigest()[:16]
