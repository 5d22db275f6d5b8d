"""The body of an answer, unpacked within bounds.

httpx unpacks each part whole, however much it becomes, and says nothing as long as nothing comes of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import httpx

from connectors.errors import ConnectorError

ACCEPTED = "gzip"
UNPACKED = frozenset({"gzip", "x-gzip", "deflate"})
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


class TooLarge(Exception):
    """The body has more bytes than allowed, packed or unpacked."""


def parts(response: httpx.Response, *, path: str, bytes_max: int) -> Iterator[bytes]:
    """The parts of the body as they come, unpacked; an empty one where nothing came of what came.

    Raises `TooLarge`, `httpx.DecodingError` where it cannot be unpacked, and `ConnectorError` (protocol) where
    it is packed in a way that nobody asked for.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    packed = encoding not in ("", "identity")
    if packed and encoding not in UNPACKED:
        raise ConnectorError(
            "protocol",
            f"{path} answered in the encoding {encoding[:40]!r}, which was not asked for",
            status=response.status_code,
        )
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    came, left = 0, bytes_max
    try:
        for raw in response.iter_raw():
            came += len(raw)
            part = raw if not packed else b"" if unpacker.eof else unpacker.decompress(raw, left + 1)
            left -= len(part)
            if came > bytes_max or left < 0:
                raise TooLarge
            yield part
    except zlib.error as error:
        raise httpx.DecodingError(str(error), request=response.request) from error
    if packed and came and not unpacker.eof:
        raise httpx.DecodingError("the packed body breaks off", request=response.request)
