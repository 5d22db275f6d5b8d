"""JSON of what is larger than memory: a mapping in which some values are iterators, written a part at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec


def json(found: Mapping[str, Any]) -> Iterator[bytes]:
    """`found` as a JSON object; an iterator among its values becomes an array with one element a line."""
    yield b"{"
    for number, (name, value) in enumerate(found.items()):
        yield (b",\n  " if number else b"\n  ") + _encoded(name) + b": "
        if isinstance(value, Iterator):
            yield from _array(value)
        else:
            yield msgspec.json.format(_encoded(value), indent=2).replace(b"\n", b"\n  ")
    yield b"\n}\n"


def _array(values: Iterator[Any]) -> Iterator[bytes]:
    yield b"["
    empty = True
    for value in values:
        yield (b"\n    " if empty else b",\n    ") + _encoded(value)
        empty = False
    yield b"]" if empty else b"\n  ]"


def _encoded(value: Any) -> bytes:
    return msgspec.json.encode(value, enc_hook=str)
