"""Files of a folder as a source: CSV, JSON Lines, Parquet. This is how any other system joins.

One connector is one path and one stream, both named in the options, so the declaration below has no streams:
the class method `Files.streams(options)` gives them. There is no mapping beside the connector either; it
stands in the config, because only its author knows what the columns mean.

The cursor is the list of the files already read: ``{path: [size, mtime_ns, sha256]}``. A new or changed file
is read whole (rows that are the same are found to be so by their content), an unchanged one not at all, and a
file that is gone is simply remembered. The window's times play no part.
"""

from __future__ import annotations

import codecs
import difflib
import fnmatch
import glob
import hashlib
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

import pydantic
import structlog

from connectors.contract import Connector, Context, Cursor, Finding, Page, RawRecord, Stream, Window
from connectors.errors import ConnectorError
from connectors.generic import rows

Format = Literal["csv", "jsonl", "parquet"]
SUFFIXES: Mapping[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
PAGE_ROWS = 2_000
CURSOR_ROWS = PAGE_ROWS // 2
"""A cursor lists all files: with many small ones it is given once for so many rows, not once a file."""
PAGE_BYTES_MAX = 16 << 20
FILES_MAX = 10_000
CHECKED_FILES = 20
HASH_CHUNK = 1 << 20
UNREADABLE_SHOWN = 5

log = structlog.get_logger(__name__)


class Options(pydantic.BaseModel):
    """What a `files` connector is told.

    Attributes
    ----------
    path : a file, a folder or a glob (``exports/**/*.csv``), relative to the config's folder.
    format : by default told by the file's ending.
    stream : the name of the one stream.
    id : the column or columns that make the external id (a dotted path in JSON Lines); without it, and in
        rows where they are empty, a hash of the row, so that a changed row is another record.
    version : the column with the time of the last change, ISO 8601 (without an offset, in the workspace's
        time zone): an older row never overwrites a newer one.
    delimiter : of CSV; by default the one of ``, ; tab |`` that the header has most of.
    encoding : of CSV, for example ``cp1250``; JSON Lines are UTF-8.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    path: str = pydantic.Field(min_length=1)
    format: Literal["auto", "csv", "jsonl", "parquet"] = "auto"
    stream: str = pydantic.Field(default="leads", pattern=r"^[a-z][a-z0-9_]*$", max_length=40)
    id: str | tuple[str, ...] | None = None
    version: str | None = None
    delimiter: str | None = pydantic.Field(default=None, min_length=1, max_length=1)
    encoding: str = "utf-8"

    @pydantic.field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            ascii_based = codecs.encode("a,\n", value) == b"a,\n"
        except (LookupError, TypeError, UnicodeError):
            raise ValueError("is not a known encoding; for example utf-8, cp1250, iso-8859-2") from None
        if not ascii_based:
            raise ValueError("is not based on ASCII; convert the file to utf-8 first")
        return value

    @property
    def id_columns(self) -> tuple[str, ...]:
        return (self.id,) if isinstance(self.id, str) else self.id or ()


class Files:
    """Reads the files of one path (a `connectors.contract.Source`)."""

    def __init__(self, options: Options, context: Context) -> None:
        self._options = options
        self._zone = context.zone
        self._folder = context.folder

    @classmethod
    def streams(cls, options: Options) -> tuple[Stream, ...]:
        """The streams that these options make: one, of the name they give."""
        return (Stream(options.stream),)

    def read(self, stream: str, window: Window) -> Iterator[Page]:
        """Yield the rows of new and changed files; the cursor is set when a file is done.

        A file that cannot be used does not stop the others: it is named in the `ConnectorError` at the end.
        """
        if stream != self._options.stream:
            raise ConnectorError("config", f"there is no stream {stream!r}, only {self._options.stream!r}")
        state = dict(window.cursor.state) if window.cursor else {}
        records: list[RawRecord] = []
        size_bytes = 0
        moved = False
        unusable: list[str] = []
        for path in self._find(state):
            name = self._name(path)
            try:
                before = _stat(path)
                known = state.get(name)
                if known and tuple(known[:2]) == before:
                    continue
                digest = _digest(path)
                for row in self._rows(path) if not known or known[2] != digest else ():
                    records.append(self._record(row, name))
                    size_bytes += len(row.body)
                    if len(records) >= PAGE_ROWS or size_bytes >= PAGE_BYTES_MAX:
                        yield Page(records)
                        records, size_bytes = [], 0
                after = _stat(path)
            except FileNotFoundError:
                log.info("file_gone", file=name)
                continue
            except (OSError, rows.UnreadableFile) as error:
                why = error.strerror if isinstance(error, OSError) else error
                unusable.append(f"{name}: {why}")
                continue
            if before != after:
                log.warning("file_changed_while_read", file=name)
                continue
            state[name] = [*before, digest]
            moved = True
            if len(records) >= CURSOR_ROWS:
                yield Page(records, cursor=Cursor(state=dict(state)))
                records, size_bytes, moved = [], 0, False
        if records or moved:
            yield Page(records, cursor=Cursor(state=dict(state)))
        if unusable:
            shown = "; ".join(unusable[:UNREADABLE_SHOWN])
            raise ConnectorError(
                "config", f"{len(unusable)} file(s) cannot be used: {shown}", hint="The others were read."
            )

    def check(self) -> list[Finding]:
        """Whether the path matches files and each of the first ones can be read and has the id columns."""
        try:
            paths = self._find({})
        except ConnectorError as error:
            return [Finding(f"files of {self._options.path}", ok=False, hint=str(error))]
        findings = [Finding(f"{len(paths)} file(s) of {self._options.path}", ok=True)]
        for path in paths[:CHECKED_FILES]:
            try:
                next(self._rows(path), None)
            except (OSError, rows.UnreadableFile) as error:
                findings.append(Finding(self._name(path), ok=False, hint=str(error)))
            else:
                findings.append(Finding(self._name(path), ok=True))
        return findings

    def _find(self, known: Mapping[str, Any]) -> list[Path]:
        """The files of the path, in the order of their names."""
        pattern = self._options.path
        place = self._folder / pattern
        if place.is_dir():
            found = [path for path in place.iterdir() if self._fits(path)]
        elif place.is_file():
            found = [place]
        else:
            names = glob.iglob(pattern, root_dir=self._folder, recursive=True)
            found = [self._folder / name for name in names if (self._folder / name).is_file()]
        if len(found) > FILES_MAX:
            raise ConnectorError(
                "config",
                f"{pattern} matches {len(found)} files, at most {FILES_MAX} are read",
                hint="Name a narrower path, or move what is done to another folder.",
            )
        if not found and not any(_once_matched(name, pattern) for name in known):
            raise ConnectorError(
                "config",
                f"no file matches path {pattern!r}",
                hint=f"It is relative to the folder of the config, {self._folder}; "
                f"endings that are known: {' '.join(SUFFIXES)}.",
            )
        return sorted(found)

    def _fits(self, path: Path) -> bool:
        kind = SUFFIXES.get(path.suffix.lower())
        wanted = self._options.format
        return not path.name.startswith(".") and kind in (get_args(Format) if wanted == "auto" else (wanted,))

    def _name(self, path: Path) -> str:
        return Path(os.path.relpath(path, self._folder)).as_posix()

    def _rows(self, path: Path) -> Iterator[rows.Row]:
        """Rows of a file in its format; the id columns of a table are there, or `UnreadableFile` says not."""
        wanted = self._options.format
        kind = SUFFIXES.get(path.suffix.lower()) if wanted == "auto" else wanted
        if kind is None:
            raise rows.UnreadableFile(f"the ending {path.suffix!r} is not known: set `format`")
        if kind == "jsonl":
            yield from rows.jsonl_rows(path)
            return
        if kind == "parquet":
            table = rows.parquet_rows(path)
        else:
            options = self._options
            table = rows.csv_rows(path, encoding=options.encoding, delimiter=options.delimiter)
        looked = False
        for row in table:
            if not looked and not row.broken:
                self._need_columns(list(row.values))
                looked = True
            yield row

    def _need_columns(self, present: list[str]) -> None:
        version = (self._options.version,) if self._options.version else ()
        for name in (*self._options.id_columns, *version):
            if name not in present:
                folded = {column.casefold(): column for column in present}
                near = difflib.get_close_matches(name.casefold(), folded, n=1)
                guess = f" (did you mean {folded[near[0]]!r}?)" if near else ""
                raise rows.UnreadableFile(
                    f"there is no column {name!r}{guess}; there are: {', '.join(present)}"
                )

    def _record(self, row: rows.Row, name: str) -> RawRecord:
        digest = hashlib.sha256(row.body).hexdigest()
        context = {"file": name, "line": row.line}
        if row.broken:
            return RawRecord(f"broken:{digest}", row.body, context={**context, "broken": row.broken})
        parts = [_text(_value(row.values, column)) for column in self._options.id_columns]
        external_id = "|".join(_escape(part) for part in parts) if parts and all(parts) else digest
        version = _time(_value(row.values, self._options.version), self._zone)
        return RawRecord(external_id, row.body, version=version, context=context)


def _once_matched(name: str, pattern: str) -> bool:
    """Whether a remembered file belongs to the path: then it may be gone without being a mistake."""
    clean = os.path.normpath(pattern)
    return name == clean or name.startswith(f"{clean}/") or fnmatch.fnmatch(name, clean.replace("**/", "*"))


def _stat(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _value(values: Mapping[str, Any], column: str | None) -> Any:
    """The value of a column, or of a dotted path where no column has that name."""
    if column is None or column in values:
        return None if column is None else values[column]
    found: Any = values
    for part in column.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else str(value) if type(value) in (int, float) else ""


def _escape(part: str) -> str:
    """So that ("a|b", "c") and ("a", "b|c") are two ids."""
    return part.replace("\\", "\\\\").replace("|", "\\|")


def _time(value: Any, zone: ZoneInfo) -> datetime | None:
    """Time of the last change, or None: a row without a readable one takes part like any other."""
    try:
        time = datetime.fromisoformat(_text(value))
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=zone)).astimezone(UTC)


CONNECTOR = Connector(
    type="files",
    options=Options,
    source=Files,
    description="CSV, JSON Lines and Parquet files of a local folder",
)
