"""A value that cannot be used: how it is said without saying the value, which may be personal data."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any


class Unfit(ValueError):
    """A value cannot be used.

    `wrong` and `right` are for people and hold nothing of the value itself. Who knows more adds the `path` it
    came from and what it `got` (its shape); `inside` is the place within a nested record.
    """

    def __init__(self, wrong: str, right: str) -> None:
        super().__init__(f"{wrong}; {right}")
        self.wrong = wrong
        self.right = right
        self.path = ""
        self.got = ""
        self.inside = ""


def shape(value: Any) -> str:
    """What a value looks like without saying it: letters as ``a``, digits as ``9``, 40 characters at most."""
    if value is None or isinstance(value, bool):
        return "nothing" if value is None else str(value).lower()
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with {len(value)} names"
    raw = str(value) if isinstance(value, str | int | Decimal | date) else type(value).__name__
    masked = "".join(
        "9" if c.isdigit() else "a" if c.isalpha() else c if " " <= c <= "~" else "?" for c in raw[:40]
    )
    kind = "text" if isinstance(value, str) else "number"
    return f'{kind} "{masked}"' + (f" ({len(raw)} characters)" if len(raw) > 40 else "")
