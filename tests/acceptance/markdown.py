"""Reads the fenced blocks of a page, each with the HTML comments directly before it. Used by test_docs.py."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK = re.compile(
    r"(?P<before>(?:^[ ]*<!--[^\n]*-->\n)*)^(?P<indent>[ ]*)```(?P<kind>\w+)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_COMMENT = re.compile(r"<!--\s*(?P<name>[a-z ]+?)(?::\s*(?P<value>.*?))?\s*-->")


@dataclass(frozen=True)
class Block:
    """A block of a page; `notes` are the comments before it, by name."""

    page: Path
    line: int
    kind: str
    text: str
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def commands(self) -> list[str]:
        """The commands of a console block, without their output."""
        return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start("kind")) + 1,
            kind=found["kind"],
            text=textwrap.dedent(found["text"]),
            notes={m["name"]: m["value"] or "" for m in _COMMENT.finditer(found["before"])},
        )
        for found in _BLOCK.finditer(text)
    ]
