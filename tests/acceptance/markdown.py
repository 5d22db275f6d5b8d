"""The pages of the documentation, their fenced blocks, and the HTML comments that tell a test what to do.

``<!-- not run: why -->`` before a console block: its commands are only parsed. ``<!-- exit: 1 -->``: each
command must end with that code. ``<!-- new folder -->``: they run in an empty folder. ``<!-- file: NAME -->``
before any block: it is the content of that file.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = (README, *sorted(DOCS.glob("*.md")))

_BLOCK = re.compile(
    r"(?P<before>(?:^[ ]*<!--[^\n]*-->\n)*)^(?P<indent>[ ]*)```(?P<kind>\w+)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_COMMENT = re.compile(r"<!--\s*(?P<name>[a-z ]+?)(?::\s*(?P<value>.*?))?\s*-->")
_CALL = re.compile(r"(?:[A-Z_]+=\S+ )*(leadledger( .*|$))")
_SPAN = re.compile(r"`(leadledger [^`\n]+)`")


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


def of_kind(kind: str) -> list[Block]:
    """The blocks of all pages in one language."""
    return [block for page in PAGES for block in blocks(page) if block.kind == kind]


def mentions(page: Path) -> Iterator[str]:
    """Every call of `leadledger` on a page, in console blocks and in the text, without what the shell adds."""
    shown = [c for block in blocks(page) if block.kind == "console" for c in block.commands]
    for command in [*shown, *_SPAN.findall(page.read_text("utf-8"))]:
        for part in re.split(r"&&|\|\||;", command):
            if found := _CALL.match(part.strip()):
                yield found[1].partition(" > ")[0].strip()


def section(page: Path, heading: str) -> str:
    """The text below a heading of the second level, up to the next one."""
    parts = re.split(r"^## ", page.read_text("utf-8"), flags=re.MULTILINE)
    [found] = [part for part in parts if heading in re.split(r", ", part.split("\n", 1)[0])]
    return found
