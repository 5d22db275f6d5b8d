"""Witnesses keep signed heads outside the database, where whoever changes the books does not reach them.

A head covers all before it, so a witness gets the newest one that it lacks. A witness that fails is told and tried
again with the next sealing; it never stops the booking.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import structlog
from sqlalchemy.engine import Engine

from sync.config_ledger import Witness as Declared
from sync.ledger import heads, mail, s3, seal
from sync.ledger.witness_error import WitnessError
from sync.store import db

log = structlog.get_logger()
GIT_FILE = "heads.jsonl"
GIT_WITHIN_S = 60


class Witness(Protocol):
    """`name` is how it is called in messages and in the database; `path` is where heads can be read again."""

    @property
    def name(self) -> str: ...
    @property
    def every(self) -> timedelta: ...
    @property
    def path(self) -> Path | None: ...

    def keep(self, signed: heads.Signed) -> None:
        """Raises `WitnessError`."""


def of(declared: Declared, *, folder: Path, books: str) -> Witness:
    """The witness that the config declares; relative paths start in `folder`."""
    if declared.file is not None:
        return File(declared.name, folder / Path(declared.file).expanduser())
    if declared.git is not None:
        return Git(declared.name, folder / Path(declared.git).expanduser(), push=declared.push)
    if declared.email is not None:
        return mail.Mail.of(declared, books)
    return s3.Bucket.of(declared)


@dataclass(frozen=True)
class File:
    """A file to which each head is appended as a line."""

    name: str
    path: Path
    every: timedelta = timedelta(0)

    def keep(self, signed: heads.Signed) -> None:
        append(self.path, signed.line())


@dataclass(frozen=True)
class Git:
    """A repository with a file of heads: each line is a commit, pushed if `push`."""

    name: str
    repository: Path
    push: bool = False
    every: timedelta = timedelta(0)

    @property
    def path(self) -> Path:
        return self.repository / GIT_FILE

    def keep(self, signed: heads.Signed) -> None:
        if not (self.repository / ".git").exists():
            raise WitnessError(f"{self.repository} is no git repository", f"git init {self.repository}")
        append(self.path, signed.line())
        self._git("add", "--", GIT_FILE)
        if self._git("status", "--porcelain", "--", GIT_FILE):
            said = f"Head {signed.head.number}: {signed.head.size} entries, root {signed.head.root.hex()}"
            self._git("commit", "--quiet", "-m", said, "--", GIT_FILE)
        if self.push:
            self._git("push", "--quiet")

    def _git(self, *arguments: str) -> str:
        who = (
            []
            if self._knows_who()
            else ["-c", "user.name=leadledger", "-c", "user.email=leadledger@localhost"]
        )
        done = self._run(*who, *arguments)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
            raise WitnessError(f"git {arguments[0]} failed: {said[-1]}", f"try it in {self.repository}")
        return done.stdout

    def _knows_who(self) -> bool:
        return self._run("config", "user.email").returncode == 0

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                ["git", "-C", str(self.repository), *arguments],
                env=os.environ | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
                capture_output=True,
                text=True,
                timeout=GIT_WITHIN_S,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except FileNotFoundError:
            raise WitnessError("git is not installed", "install git") from None
        except subprocess.TimeoutExpired:
            raise WitnessError(f"git took longer than {GIT_WITHIN_S} s", "try it by hand") from None


def append(path: Path, line: str) -> None:
    """Append a line, unless it is the last one already. One that a crash tore is not continued."""
    try:
        known = path.read_bytes() if path.exists() else b""
        if known.endswith(f"{line}\n".encode()):
            return
        start = "" if not known or known.endswith(b"\n") else "\n"
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{start}{line}\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise WitnessError(f"{path} cannot be written: {error.strerror}", "make it writable") from None


def copy(engine: Engine, signed: heads.Signed, witnesses: Iterable[Witness]) -> list[str]:
    """Give `signed` to each witness that lacks it; returns what went wrong, each with what to do.

    One process at a time: a head is not copied twice, nor an older one after a newer.
    """
    problems = []
    for witness in witnesses:
        with engine.begin() as connection:
            db.lock_transaction(connection, f"witness {witness.name}")
            now = datetime.now(UTC)
            last = seal.last_copy(connection, witness.name)
            if last and (last[0] >= signed.head.number or now < last[1] + witness.every):
                continue
            try:
                witness.keep(signed)
            except WitnessError as error:
                log.warning(
                    "not_witnessed", witness=witness.name, head=signed.head.number, error=error.message
                )
                problems.append(
                    f"Head {signed.head.number} was not copied to {witness.name}: {error.message}; {error.todo}. "
                    "The next sync tries again."
                )
                continue
            seal.note_copy(connection, witness.name, signed.head.number, now=now)
    return problems


@dataclass(frozen=True, slots=True)
class Kept:
    """A head that is kept outside the database, and where: ``heads.jsonl, line 3``."""

    where: str
    signed: heads.Signed | None  # None: what stands there is no head
    wrong: str = ""


def read(path: Path) -> list[Kept]:
    """The heads in a file, a line each. Raises OSError, and `heads.Unreadable` for a file that is no text."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise heads.Unreadable(f"{path} is no text") from None
    return [_kept(f"{path}, line {number}", line) for number, line in enumerate(lines, 1) if line.strip()]


def _kept(where: str, line: str) -> Kept:
    try:
        return Kept(where, heads.decode_line(line))
    except heads.Unreadable as error:
        return Kept(where, None, str(error))


def read_all(witnesses: Sequence[Witness]) -> list[Kept]:
    """The heads of every witness that can be read again. One that should be there and is not is wrong."""
    found: list[Kept] = []
    for witness in witnesses:
        if witness.path is None:
            continue
        try:
            found += read(witness.path)
        except FileNotFoundError:
            found.append(Kept(str(witness.path), None, "the file is not there"))
        except (OSError, heads.Unreadable) as error:
            found.append(Kept(str(witness.path), None, getattr(error, "strerror", None) or str(error)))
    return found
