"""The config's `ledger:`: the key that signs, and where signed heads are copied to."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

import pydantic

from sync.config_section import Section, mistake

Where = Literal["file", "git", "email", "s3"]
KINDS: tuple[Where, ...] = ("file", "git", "email", "s3")
_SCHEMES = {"smtp": ("smtp", "smtps"), "s3": ("https", "http")}
_NEEDS = {"email": ("smtp", "sender"), "s3": ("access_key", "secret_key")}
_BELONGS = {
    "smtp": "email",
    "sender": "email",
    "user": "email",
    "password": "email",
    "every_hours": "email",
    "push": "git",
    "region": "s3",
    "access_key": "s3",
    "secret_key": "s3",
}


class Witness(Section):
    """One place that keeps signed heads. Exactly one of `file` (a line each is appended), `git` (a repository: a
    line is appended and committed), `email` (an address) and `s3` (the address of a bucket, with a prefix)."""

    file: str | None = pydantic.Field(default=None, min_length=1)
    git: str | None = pydantic.Field(default=None, min_length=1)
    push: bool = False
    email: str | None = pydantic.Field(default=None, pattern=r"^[^@\s]+@[^@\s]+$")
    smtp: str | None = None
    sender: str | None = pydantic.Field(default=None, alias="from", pattern=r"^[^@\s]+@[^@\s]+$")
    user: str | None = None
    password: pydantic.SecretStr | None = None
    every_hours: int = pydantic.Field(default=24, ge=0, le=8784)
    s3: str | None = None
    region: str = "us-east-1"
    access_key: pydantic.SecretStr | None = None
    secret_key: pydantic.SecretStr | None = None

    @pydantic.model_validator(mode="after")
    def _is_one_place(self) -> Witness:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise mistake("must name one place", f"one of {', '.join(KINDS)}")
        for name in self.model_fields_set - set(KINDS):
            if _BELONGS[name] != given[0]:
                raise mistake(f"{_key(name)} is for {_BELONGS[name]}", f"leave it out beside {given[0]}")
        for name in _NEEDS.get(given[0], ()):
            if getattr(self, name) is None:
                raise mistake(f"{_key(name)}: is missing", f"{given[0]} needs it")
        for name, schemes in _SCHEMES.items():
            address = getattr(self, name)
            if address is not None and not _is_address(address, schemes):
                raise mistake(
                    f"{name} must be an address", f"as in {schemes[0]}://host/…, without a password"
                )
        return self

    @property
    def kind(self) -> Where:
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def name(self) -> str:
        """How the witness is called in messages and in the database: its kind and its place."""
        return f"{self.kind}:{getattr(self, self.kind)}"


def _key(name: str) -> str:
    return "from" if name == "sender" else name


def _is_address(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname) and not parts.username and parts.port != 0
    except ValueError:
        return False


class Ledger(Section):
    """How the books are kept and proven. `rates` names the connector by whose rates other currencies are
    converted. Without `signing_key` one is made in the data folder. `trusted_keys` are the public keys (hex) of
    heads signed earlier or elsewhere."""

    rates: str | None = None
    signing_key: pydantic.SecretStr | None = None
    trusted_keys: tuple[str, ...] = ()
    witness: tuple[Witness, ...] = ()

    @pydantic.field_validator("trusted_keys")
    @classmethod
    def _are_keys(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        for at, key in enumerate(keys):
            if len(key) != 64 or set(key) - set("0123456789abcdef"):
                raise mistake("is no public key", "64 hex digits, as leadledger ledger key prints it", (at,))
        return keys

    @pydantic.field_validator("witness")
    @classmethod
    def _are_different(cls, witnesses: tuple[Witness, ...]) -> tuple[Witness, ...]:
        names = [witness.name for witness in witnesses]
        for at, name in enumerate(names):
            if name in names[:at]:
                raise mistake(f"{name} stands twice", "name each place once", (at,))
        return witnesses
