"""A signed head: what the books were at one moment, in one line that anybody can keep. Pure.

A head names the root of the Merkle tree over the first `size` entries, the hash of the last of them, and for each
of the logs beside the journal (evidence, deliveries, policies) how far it went and the hash that its rows come to.
It holds the hash of the head before it, and the public key of its signature (Ed25519, RFC 8032).

Encoding: JSON with sorted keys, without white space, of text, integers, null and arrays only. That is what
RFC 8785 makes of such values, as long as integers stay within 53 bits; larger ones are written out as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

FORMAT = "leadledger-head-1"
NOTHING = bytes(32)  # what an empty log comes to, and the head before the first


class Unreadable(ValueError):
    """Not a head."""


@dataclass(frozen=True, slots=True)
class Log:
    """How far a log beside the journal went: rows, the id of the last, and the hash that they come to."""

    name: str
    count: int = 0
    last: int = 0
    hash: bytes = NOTHING


@dataclass(frozen=True, slots=True)
class Head:
    """`number` counts the heads from 1; `previous` is the SHA-256 of the head before, as it was signed."""

    number: int
    size: int
    root: bytes
    chain: bytes
    logs: tuple[Log, ...]
    sealed_at: datetime
    previous: bytes
    key: bytes

    def log(self, name: str) -> Log:
        """That log, empty where the head is from before it was kept."""
        return next((log for log in self.logs if log.name == name), Log(name))

    def has_same_books(self, other: Head) -> bool:
        """Whether nothing was booked, fetched, sent or put in force between the two."""
        return (self.size, self.root, self.logs) == (other.size, other.root, other.logs)


@dataclass(frozen=True, slots=True)
class Signed:
    """A head as it was signed: `text` byte for byte."""

    head: Head
    text: str
    signature: bytes

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(self.text.encode()).digest()

    def is_genuine(self) -> bool:
        """Whether the signature is one of this text by the key that the head names."""
        try:
            Ed25519PublicKey.from_public_bytes(self.head.key).verify(self.signature, self.text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True

    def line(self) -> str:
        """The head and its signature as one line of JSON, as it is copied to a witness."""
        return f'{{"head":{self.text},"signature":"{self.signature.hex()}"}}'


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and without white space."""
    return msgspec.json.encode(value, order="sorted")


def encode(head: Head) -> str:
    return canonical(
        {
            "chain": head.chain.hex(),
            "format": FORMAT,
            "key": head.key.hex(),
            "logs": [[log.name, log.count, log.last, log.hash.hex()] for log in head.logs],
            "number": head.number,
            "previous": head.previous.hex(),
            "root": head.root.hex(),
            "sealed_at": stamp(head.sealed_at),
            "size": head.size,
        }
    ).decode()


def decode(text: str) -> Head:
    """Raises `Unreadable` when the text is no head, or not written as this version writes it."""
    try:
        found = msgspec.json.decode(text)
        head = Head(
            number=_whole(found["number"]),
            size=_whole(found["size"]),
            root=_hash(found["root"]),
            chain=_hash(found["chain"]),
            logs=tuple(_log(log) for log in found["logs"]),
            sealed_at=datetime.fromisoformat(found["sealed_at"]),
            previous=_hash(found["previous"]),
            key=_hash(found["key"]),
        )
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"not a head of leadledger: {error}") from None
    if encode(head) != text:
        raise Unreadable("not a head of leadledger, or not written as it was signed")
    return head


def decode_line(line: str) -> Signed:
    """A line as `Signed.line` writes it. Raises `Unreadable`."""
    try:
        found = msgspec.json.decode(line)
        text, signature = canonical(found["head"]).decode(), bytes.fromhex(found["signature"])
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"not a signed head: {error}") from None
    return Signed(decode(text), text, signature)


def sign(head: Head, key: Ed25519PrivateKey) -> Signed:
    text = encode(head)
    return Signed(head, text, key.sign(text.encode()))


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


class Running:
    """A log that grows row by row."""

    def __init__(self, log: Log) -> None:
        self.name, self.count, self.last, self.hash = log.name, log.count, log.last, log.hash

    def add(self, id_: int, row: bytes) -> None:
        """The next row, in its canonical encoding."""
        sha256 = hashlib.sha256
        self.hash = sha256(self.hash + sha256(row).digest()).digest()
        self.count += 1
        self.last = id_

    def log(self) -> Log:
        return Log(self.name, self.count, self.last, self.hash)


@lru_cache(1_000)
def stamp(time: datetime) -> str:
    """ISO 8601 in UTC with microseconds. Kept for a while: the records of a page were fetched at one time."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _hash(text: str) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != 32:
        raise ValueError("a hash is of 32 bytes")
    return found


def _log(row: Sequence[Any]) -> Log:
    name, count, last, digest = row
    return Log(str(name), _whole(count), _whole(last), _hash(digest))
