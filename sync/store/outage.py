"""What an error says of itself in logs and run rows; a database that is away, full or out of its means is told
apart from defects of ours, with what to do.

The words of an error that is not ours may quote the record that it stumbled over, so they are left out: its
kind and the place in the code tell a defect.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from traceback import walk_tb

import psycopg
import sqlalchemy as sa
from psycopg import errors

from sync.store.embedded_place import EmbeddedError

AGAIN = "Run `leadledger sync` again: it goes on where it stopped."
FULL = "The disk that holds the database is full"
MAKE_ROOM = f"Make room on it. {AGAIN}"
GONE = "The database cannot be used"
LOOK = f"Check that it runs, and `database:` in the config. {AGAIN}"
_NO_SPACE = "No space left on device"
_GONE_STATES = ("08", "57P")  # connection exceptions; shutdowns of the server
_OURS = ("connectors.", "mappings.", "sync.")  # their own exceptions hold no personal data
_DATA_EXCEPTION = "22"  # class of SQLSTATE whose messages quote the value
_AWAY = (psycopg.OperationalError, psycopg.InterfaceError)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it came from, and so on."""
    seen: set[int] = set()  # a chain of causes may lead back to itself
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def is_outage(error: BaseException) -> bool:
    """Whether the database is the cause, and not a statement of ours.

    A transaction that the outage broke off complains of that: the cause stands at the end of the chain.
    """
    return any(isinstance(each, (*_AWAY, sa.exc.OperationalError, EmbeddedError)) for each in chain(error))


def told(error: BaseException) -> str:
    """An error in a line, without the values and rows that it may quote."""
    if isinstance(error, EmbeddedError):
        return error.message
    cause = _cause(error)
    if cause is None:
        return _ours(error) or f"{_words_of_system(error)} in {_place(error)}"
    what = FULL if _is_full(cause) else GONE if _is_gone(cause) else type(cause).__name__
    return f"{what}: {_primary(cause)}"


def todo(error: BaseException) -> str:
    """What to do about it."""
    cause = _cause(error)
    if cause is not None and _is_full(cause):
        return MAKE_ROOM
    return LOOK if cause is not None and _is_gone(cause) else AGAIN


def _ours(error: BaseException) -> str | None:
    kind = type(error)
    return f"{kind.__name__}: {error}" if kind.__module__.startswith(_OURS) else None


def _words_of_system(error: BaseException) -> str:
    """The kind of an error, and of one of the operating system what its number means."""
    name = type(error).__name__
    number = error.errno if isinstance(error, OSError) else None
    return f"{name} ({os.strerror(number)})" if isinstance(number, int) else name


def _place(error: BaseException) -> str:
    """Where it was raised: the last function of ours on the way, or the last of all."""
    steps = [
        (frame.f_globals.get("__name__", "?"), frame, line) for frame, line in walk_tb(error.__traceback__)
    ]
    ours = [step for step in steps if f"{step[0]}.".startswith(_OURS)]
    for module, frame, line in reversed(ours or steps):
        return f"{module}, line {line} ({frame.f_code.co_qualname})"
    return "an unknown place"


def _cause(error: BaseException) -> psycopg.Error | None:
    if not is_outage(error) and not isinstance(error, sa.exc.DBAPIError):
        return None
    return next((each for each in chain(error) if isinstance(each, psycopg.Error)), None)


def _is_gone(error: psycopg.Error) -> bool:
    return isinstance(error, _AWAY) and (error.sqlstate or "08").startswith(_GONE_STATES)


def _is_full(error: psycopg.Error) -> bool:
    return isinstance(error, errors.DiskFull) or _NO_SPACE in str(error)


def _primary(error: psycopg.Error) -> str:
    """What happened, in one line: the server's own words, or libpq's where the server said nothing."""
    if error.diag.message_primary or error.sqlstate:
        said = error.diag.message_primary or "the database refused it"
        quotes = (error.sqlstate or "").startswith(_DATA_EXCEPTION)
        return said.partition(":")[0].partition('"')[0].strip() if quotes else said
    return next(iter(str(error).strip().splitlines()), "no reason was given")
