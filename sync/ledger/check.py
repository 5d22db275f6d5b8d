"""What a check of the books finds."""

from __future__ import annotations

from dataclasses import dataclass

RESTORE = "Somebody changed the journal outside leadledger: restore it from a backup and compare."


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was asked, of how many, the first thing that was wrong ("" when none was), and for a
    control total what the shop's own total is."""

    name: str
    checked: int
    wrong: str = ""
    todo: str = ""
    found: str = ""

    @property
    def ok(self) -> bool:
        return not self.wrong
