"""Rows of CSV, JSON Lines and Parquet files, one after the other, whatever the size of the file.

A `Row` has the bytes that become evidence and the values by which it is identified. A row that cannot be
read is a `Row` too: its bytes as they stand in the file and `broken`, the reason; the rows after it are read
as usual. Only a file of which nothing can be used (no Parquet, a header with two columns of one name) raises
`UnreadableFile`.
"""

from __future__ import annotations

import contextlib
import csv
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, AnyStr

import duckdb
import msgspec

LINE_MAX = 1 << 20
"""Longest line that is read, in characters (CSV) or bytes (JSON Lines); a longer one is a broken row."""
ROW_MAX = 16 << 20
"""Longest row of Parquet, in bytes as JSON; a longer one is a broken row."""
COLUMNS_MAX = 2_000
CUT_KEPT = 1 << 16
"""How much of a line beyond LINE_MAX is kept as evidence."""
PARQUET_MEMORY = "512MB"
DELIMITERS = (",", ";", "\t", "|")
BOM = "\ufeff"
NESTED = ("STRUCT", "MAP", "UNION")
PLAIN = frozenset({"BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE"} | {
    "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
})  # fmt: skip
PARQUET_NAMES = "SELECT * FROM read_parquet(?) LIMIT 0"
PARQUET_TYPES = "SELECT typeof(COLUMNS(*)) FROM read_parquet(?) LIMIT 1"
PARQUET_ROWS = "SELECT COLUMNS(*)::VARCHAR, to_json(COLUMNS(*)) FROM read_parquet(?)"
"""Each column twice: as text, which is exact, and as JSON, for those that have a structure."""


class UnreadableFile(ValueError):
    """A file of which no row can be used. The text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file.

    Attributes
    ----------
    line : where it starts in the file, counted from 1 (in Parquet, the number of the row).
    body : JSON object of the row; of a broken row, its bytes as they are.
    values : the row's top level values by name; empty when broken.
    broken : why the row cannot be used, or "".
    """

    line: int
    body: bytes
    values: Mapping[str, Any] = field(default_factory=dict)
    broken: str = ""


def csv_rows(path: Path, *, encoding: str, delimiter: str | None) -> Iterator[Row]:
    """Rows of a CSV file with a header; the body is a JSON object of column to text.

    Without `delimiter`, it is the one of comma, semicolon, tab and bar that the header has most of.
    """
    with path.open(encoding=encoding, errors="surrogateescape", newline="") as file:
        feed = _Feed(file.readline)
        header = _header(feed, delimiter=delimiter)
        if header is None:
            return
        columns, mark = header
        while True:
            feed.begin_row()
            try:
                cells = next(csv.reader(feed, delimiter=mark, strict=True))
            except StopIteration:
                return
            except csv.Error as error:
                # A quote without its partner swallows the rows after it: give them back.
                first, *rest = feed.taken
                feed.pending.extendleft(reversed(rest))
                yield _broken(first.number, first.text, encoding, first.cut or str(error))
                continue
            text = "".join(line.text for line in feed.taken)
            cut = next((line.cut for line in feed.taken if line.cut), "")
            if not cells and not cut:
                continue
            wrong = cut or _wrong_text(text, encoding) or _wrong_count(cells, columns)
            number = feed.taken[0].number
            if wrong:
                yield _broken(number, text, encoding, wrong)
            else:
                values = dict(zip(columns, cells, strict=True))
                yield Row(number, msgspec.json.encode(values), values)


def jsonl_rows(path: Path) -> Iterator[Row]:
    """Rows of a JSON Lines file (UTF-8); the body is the line's bytes without the line's end."""
    with path.open("rb") as file:
        for number, line, cut in _lines(file.readline):
            body = line.rstrip(b"\r\n")
            if number == 1:
                body = body.removeprefix(BOM.encode())
            if not body.strip():
                continue
            if cut:
                yield Row(number, body, broken=cut)
                continue
            try:
                values = msgspec.json.decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                yield Row(number, body, broken=f"not JSON: {error}")
                continue
            if isinstance(values, dict):
                yield Row(number, body, values)
            else:
                yield Row(number, body, broken="not a JSON object")


def parquet_rows(path: Path) -> Iterator[Row]:
    """Rows of a Parquet file.

    Dates and times are ISO 8601 text (with Z where the column has a time zone), decimals and other exact
    values text, so that nothing is rounded; lists and structures are JSON.
    """
    if any(sign in str(path) for sign in "*?["):
        raise UnreadableFile("a Parquet file cannot have *, ? or [ in its path: rename it")
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": PARQUET_MEMORY,
        "threads": "1",
        "autoinstall_known_extensions": "false",
    }
    with contextlib.closing(duckdb.connect(":memory:", config=config)) as connection:
        try:
            connection.execute("SET TimeZone = 'UTC'")
            types = connection.execute(PARQUET_TYPES, [str(path)]).fetchone() or ()
            connection.execute(PARQUET_NAMES, [str(path)])
            names = [str(column[0]) for column in connection.description or ()]
            connection.execute(PARQUET_ROWS, [str(path)])
            _check_columns(names)
            number = 0
            # One by one: a thousand rows at once could be a thousand long ones.
            while cells := connection.fetchone():
                number += 1
                texts, trees = cells[: len(names)], cells[len(names) :]
                values = {
                    name: _cell(kind, text, tree)
                    for name, kind, text, tree in zip(names, types, texts, trees, strict=True)
                }
                body = msgspec.json.encode(values)
                if len(body) <= ROW_MAX:
                    yield Row(number, body, values)
                else:
                    why = f"the row is too long ({len(body)} bytes, at most {ROW_MAX}); its start is kept"
                    yield Row(number, body[:CUT_KEPT], broken=why)
        except duckdb.Error as error:
            raise UnreadableFile(f"cannot be read as Parquet ({type(error).__name__})") from error


def _cell(kind: str, text: str | None, tree: str | None) -> Any:
    """A value of a Parquet column of the DuckDB type `kind`, from its text and its JSON."""
    if text is None or tree is None:
        return None
    if kind in PLAIN or kind.endswith("]") or kind.startswith(NESTED):
        return msgspec.json.decode(tree) if kind in PLAIN else msgspec.Raw(tree.encode())
    if kind.startswith("TIMESTAMP"):
        return text.replace(" ", "T", 1).replace("+00", "Z")
    return text


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    text: str
    cut: str


class _Feed:
    """Lines for `csv.reader`, which remembers those the current row took and accepts some back."""

    def __init__(self, readline: Callable[[int], str]) -> None:
        self.taken: list[_Line] = []
        self._size = 0
        self.pending: deque[_Line] = deque()
        self._rest = _lines(readline)

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        if self._size > LINE_MAX:
            raise csv.Error(f"the row is too long (more than {LINE_MAX} characters)")
        line = self.pending.popleft() if self.pending else _Line(*next(self._rest))
        self.taken.append(line)
        self._size += len(line.text)
        return line.text

    def begin_row(self) -> None:
        self.taken.clear()
        self._size = 0


def _lines(readline: Callable[[int], AnyStr]) -> Iterator[tuple[int, AnyStr, str]]:
    """Number, text and, of a line beyond LINE_MAX, that it was cut."""
    number = 0
    while line := readline(LINE_MAX):
        number += 1
        if len(line) < LINE_MAX or _ended(line):
            yield number, line, ""
            continue
        size = len(line)
        kept = line[:CUT_KEPT]
        while len(line) == LINE_MAX and not _ended(line):
            line = readline(LINE_MAX)
            size += len(line)
        yield number, kept, f"the line is too long ({size} characters, at most {LINE_MAX}); its start is kept"


def _ended(line: str | bytes) -> bool:
    return line.endswith(("\n", "\r")) if isinstance(line, str) else line.endswith(b"\n")


def _header(feed: _Feed, *, delimiter: str | None) -> tuple[list[str], str] | None:
    """Names of the columns and the delimiter; None for an empty file. Unnamed columns are `column_<n>`."""
    first = next(feed, None)
    if first is None:
        return None
    feed.pending.append(feed.taken.pop())
    start = feed.pending[0]
    feed.pending[0] = _Line(start.number, start.text.removeprefix(BOM), start.cut)
    mark = delimiter or max(DELIMITERS, key=first.count)
    try:
        names = next(csv.reader(feed, delimiter=mark, strict=True))
    except csv.Error as error:
        raise UnreadableFile(f"the header cannot be read: {error}") from error
    if _wrong_text("".join(names), "text"):
        raise UnreadableFile("the header is not in the encoding of the options: set `encoding`, e.g. cp1250")
    names = [name.strip() or f"column_{n}" for n, name in enumerate(names, start=1)]
    _check_columns(names)
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise UnreadableFile(f"the header has a column twice: {', '.join(twice)}. Rename one of them")
    return names, mark


def _check_columns(names: list[str]) -> None:
    if len(names) > COLUMNS_MAX:
        raise UnreadableFile(
            f"there are {len(names)} columns, at most {COLUMNS_MAX} are read: is it such a table?"
        )


def _wrong_text(text: str, encoding: str) -> str:
    """Bytes that the encoding does not know arrive as lone surrogates (see `surrogateescape`)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"not {encoding}"
    return ""


def _wrong_count(cells: list[str], columns: list[str]) -> str:
    if len(cells) == len(columns):
        return ""
    return f"{len(cells)} columns, but the header has {len(columns)}"


def _broken(number: int, text: str, encoding: str, why: str) -> Row:
    return Row(number, text.encode(encoding, "surrogateescape").rstrip(b"\r\n"), broken=why)
