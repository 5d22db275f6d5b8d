"""The key that signs heads: the config's, or one made in the data folder when the first head is signed.

As text a key is PKCS #8 in PEM, or its 32 bytes in hex. It never reaches a log, an error or the database; heads
carry the public key.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

FILE = "ledger-signing-key.pem"
_OURS_ALONE = 0o600


class KeyProblem(Exception):
    """The key cannot be used; the message says why and what to do, never what the key is."""


def parse(text: str) -> Ed25519PrivateKey:
    """Raises `KeyProblem`."""
    try:
        if "-----BEGIN" in text:
            found = load_pem_private_key(text.encode(), password=None)
        else:
            found = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(text.strip()))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, Ed25519PrivateKey):
        raise KeyProblem(
            "the signing key is neither an Ed25519 key in PEM nor 32 bytes in hex: "
            "openssl genpkey -algorithm ed25519 makes one"
        )
    return found


def read(path: Path) -> Ed25519PrivateKey | None:
    """The key in a file; None when there is no such file. Raises `KeyProblem`."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not text"
        raise KeyProblem(f"the signing key {path} cannot be read: {why}") from None
    try:
        return parse(text)
    except KeyProblem as problem:
        raise KeyProblem(f"{path}: {problem}") from None


def read_or_make(path: Path) -> Ed25519PrivateKey:
    """The key in `path`, made there for this user alone if there is none; of several processes that make it at
    the same time one wins, and all use its key. Raises `KeyProblem`."""
    if (found := read(path)) is not None:
        return found
    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _OURS_ALONE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # unlike a rename, it never takes the place of another key
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        found = read(path)
        if found is None:
            raise KeyProblem(f"the signing key {path} came and went: try again") from None
        return found
    except OSError as error:
        raise KeyProblem(
            f"the signing key {path} cannot be written: {error.strerror}; "
            "make the folder writable, or name a key in ledger.signing_key"
        ) from None
    return key
