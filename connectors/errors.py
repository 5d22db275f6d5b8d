"""What can go wrong on the vendor's side, told apart by what has to be done about it."""

from __future__ import annotations

from typing import Literal

Kind = Literal["credential", "scope", "config", "throttled", "vendor", "protocol", "too_large"]

TODO: dict[Kind, str] = {
    "credential": "Make a new key at the vendor and put it into the config.",
    "scope": "Give the key the right that it lacks.",
    "config": "Look at the connector's options in the config.",
    "throttled": "The next run goes on.",
    "vendor": "The next run tries again.",
    "protocol": "The next run asks again. If it stays, the vendor may have changed its API: update leadledger.",
    "too_large": "Ask for smaller pages in the connector's options.",
}
"""What to do where nothing more is known."""


class ConnectorError(Exception):
    """A connector cannot go on.

    Parameters
    ----------
    kind : who has to act: `credential` and `scope` need a new key or right, `config` another setting,
        `throttled` and `vendor` time (the next run tries again), `protocol` and `too_large` a look at the
        answer, which was not what the vendor documents.
    message : what happened and where, without secrets and personal data.
    hint : what to do next; by default what its kind asks for.
    """

    def __init__(self, kind: Kind, message: str, *, hint: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint or TODO[kind]
        self.status = status

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()
