"""Reading a mapping file: nodes with their lines, and mistakes as values, collected and shown together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

SIZE_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class SpecProblem:
    """One mistake in a mapping: file or override, line (from 1, if there is one), place, what to do."""

    name: str
    line: int | None
    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        at = self.name if self.line is None else f"{self.name}:{self.line}"
        said = f"{self.where}: {self.message}" if self.where else self.message
        return f"{at}: {said}" + (f"; {self.hint}" if self.hint else "")


class MappingError(ValueError):
    """A mapping that cannot be used, with all its mistakes."""

    def __init__(self, problems: Iterable[SpecProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Located(dict[Any, Any]):
    """Options put together by us: from the node `origin` where it has them, else at `line`."""

    def __init__(self, values: Mapping[Any, Any], *, origin: Any = None, line: int | None = None) -> None:
        super().__init__(values)
        self.origin = origin
        self.line = line


class Report:
    """Collects the mistakes found while one mapping is compiled."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problems: list[SpecProblem] = []

    def add(self, node: Any, key: Any, where: str, message: str, hint: str = "") -> None:
        """A mistake at `key` of `node`: a name, an index, or None for the node itself."""
        self.problems.append(SpecProblem(self.name, line_of(node, key), where, message, hint))

    def unknown(self, node: Any, key: Any, where: str, *, what: str, name: str, known: Iterable[str]) -> None:
        """A name that nobody knows, with the nearest that somebody does."""
        self.add(node, key, where, f"unknown {what} {name!r}", nearest(name, known))

    def mapping(self, node: Any, where: str, *, owner: Any = None, key: Any = None) -> Mapping[Any, Any]:
        """`node` if it is a mapping, else an empty one and a mistake."""
        if isinstance(node, Mapping):
            return node
        self.add(owner, key, where, "must be a mapping of names to values")
        return {}

    def names(self, node: Mapping[Any, Any], where: str, known: Iterable[str], *, what: str) -> None:
        """Every name of `node` must be known."""
        allowed = tuple(known)
        for name in node:
            if name not in allowed:
                self.unknown(node, name, where, what=what, name=str(name), known=allowed)

    def check(self) -> None:
        """Raise all mistakes at once, if there are any."""
        if self.problems:
            raise MappingError(self.problems)


def nearest(name: str, known: Iterable[str]) -> str:
    """What may have been meant: one near name, or the known ones."""
    options = sorted(known)
    close = difflib.get_close_matches(str(name).lower(), options, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(options)}"


def line_of(node: Any, key: Any) -> int | None:
    """The line of a name or an item in its file; None for data that came from no file."""
    if isinstance(node, Located):
        known = isinstance(node.origin, Mapping) and (key is None or key in node.origin)
        return line_of(node.origin, key) if known else node.line
    place = getattr(node, "lc", None)
    if place is None:
        return None
    try:
        line = (
            place.line
            if key is None
            else place.key(key)[0]
            if isinstance(node, Mapping)
            else place.item(key)[0]
        )
    except (KeyError, IndexError, TypeError):
        line = place.line
    return None if line is None else int(line) + 1


def parse(text: str, *, name: str) -> Any:
    """The YAML as nodes that know their lines. Raises `MappingError`."""
    report = Report(name)
    if len(text) > SIZE_MAX:
        report.add(None, None, "", f"longer than {SIZE_MAX} characters")
        report.check()
    yaml = YAML(typ="rt")
    try:
        return yaml.load(StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        said = str(error.problem or error.context or "cannot be read").splitlines()[0]
        raise MappingError([SpecProblem(name, line, "", f"not YAML: {said}")]) from None
    except (YAMLError, ValueError, RecursionError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise MappingError([SpecProblem(name, None, "", f"not YAML: {said}")]) from None


def plain(node: Any) -> Any:
    """A node without its lines: the JSON types it stands for, names and dates as text."""
    if isinstance(node, Mapping):
        return {str(key) if key is not None else "null": plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [plain(item) for item in node]
    if node is None or isinstance(node, bool):
        return node
    if isinstance(node, int):
        return int(node)
    return str(node)
