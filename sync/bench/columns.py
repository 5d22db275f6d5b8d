"""Between the database and columns, as fast as libraries can: what the floors read and write with."""

from __future__ import annotations

import io
from typing import Any

from sqlalchemy.engine import Connection


def read(connection: Connection, query: str) -> Any:
    """The rows of a query as a polars frame."""
    import polars

    raw = connection.connection.driver_connection
    assert raw is not None
    text = io.BytesIO()
    with raw.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)") as copy:
        for part in copy:
            text.write(part)
    text.seek(0)
    return polars.read_csv(text, infer_schema_length=10_000, try_parse_dates=False)


def write(connection: Connection, table: str, frame: Any) -> None:
    """The frame's columns into those of the same name."""
    raw = connection.connection.driver_connection
    assert raw is not None
    names = ", ".join(frame.columns)
    with raw.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN (FORMAT csv)") as copy:
        copy.write(frame.write_csv(include_header=False).encode())
