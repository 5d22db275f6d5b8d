"""Reads YAML with the position of every node, and the secrets that its texts refer to.

A text may hold ``${env:NAME}`` or ``${file:PATH}`` (``$${`` stands for a plain ``${``). The tree that is read
keeps the references; `resolve` gives a second one with their values, which never reach a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

SIZE_MAX = 1_000_000
NODES_MAX = 100_000
SECRET_BYTES_MAX = 65_536
_DEPTH_MAX = 50
_MERGE = "tag:yaml.org,2002:merge"
_REFERENCE = re.compile(r"\$\$\{|\$\{(?:(env|file):([^{}]*)\}|[^}]*\}?)")
_HOW_TO_REFER = "write ${env:NAME} or ${file:PATH} ($${ for a plain ${)"

Where = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong in the config, where (line and column from 1), and what would be right."""

    file: str
    line: int
    column: int
    where: str
    problem: str
    fix: str = ""

    def __str__(self) -> str:
        said = f"{self.where}: {self.problem}" if self.where else self.problem
        return f"{self.file}:{self.line}:{self.column}: {said}" + (f"; {self.fix}" if self.fix else "")


class ConfigError(ValueError):
    """A config that cannot be used, with all its mistakes in the order of the file."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(set(mistakes), key=lambda m: (m.line, m.column, m.where, m.problem)))
        super().__init__("\n".join(map(str, self.mistakes)))


@dataclass(slots=True)
class Mistakes:
    """Collects mistakes, and finds for each the position of its place in the file."""

    file: str
    keys: dict[Where, tuple[int, int]] = field(default_factory=dict)
    values: dict[Where, tuple[int, int]] = field(default_factory=dict)
    found: list[Mistake] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)
    broken: set[Where] = field(default_factory=set)

    def add(self, where: Where, problem: str, fix: str = "", *, key: bool = False) -> None:
        """A mistake in the value at `where` (with `key`: in its name), or at the nearest place above it."""
        line, column = self._position(where, key=key)
        self.add_at(line, column, where, problem, fix)

    def add_at(self, line: int, column: int, where: Where, problem: str, fix: str = "") -> None:
        text = (self._without_secrets(problem), self._without_secrets(fix))
        self.found.append(Mistake(self.file, line, column, dotted(where), *text))

    def is_broken(self, where: Where) -> bool:
        """Whether a mistake at this place or above it is known already, so that others follow from it."""
        return any(where[:end] in self.broken for end in range(len(where) + 1))

    def is_broken_inside(self, where: Where) -> bool:
        """Whether a part of this place is known to be wrong, so that the whole cannot be judged."""
        return any(broken[: len(where)] == where for broken in self.broken)

    def _position(self, where: Where, *, key: bool) -> tuple[int, int]:
        if key and where in self.keys:
            return self.keys[where]
        for end in range(len(where), -1, -1):
            if where[:end] in self.values:
                return (self.values if end == len(where) else self.keys | self.values)[where[:end]]
        return (1, 1)

    def _without_secrets(self, text: str) -> str:
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "…")
        return text


def dotted(where: Where) -> str:
    """``connectors[0].options.token``"""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def parse(text: str, mistakes: Mistakes) -> Any:
    """The text as plain types, references unresolved; mappings' duplicate names and such are noted."""
    if len(text) > SIZE_MAX:
        mistakes.add((), f"the file is longer than {SIZE_MAX} characters")
        return None
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = " ".join(str(part) for part in (error.context, error.problem) if part)
        mistakes.add_at(line, column, (), f"not YAML: {said.splitlines()[0]}", "look at indents and quotes")
        return None
    except (YAMLError, ValueError, RecursionError) as error:
        mistakes.add((), f"not YAML: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
        return None
    if node is None:
        mistakes.add((), "the file is empty", "leadledger init writes a config to start from")
        return None
    return _Reader(yaml.constructor, mistakes).read(node, (), is_raw=False)


class _Reader:
    """Makes plain types of nodes and notes their positions.

    Below a connector's `mapping:` names keep their type, and the containers know their lines, as the mapping
    engine wants it.
    """

    def __init__(self, constructor: Any, mistakes: Mistakes) -> None:
        self._constructor = constructor
        self._mistakes = mistakes
        self._nodes = 0

    def read(self, node: Node, where: Where, *, is_raw: bool) -> Any:
        self._nodes += 1
        self._mistakes.values.setdefault(where, _position(node))
        if self._nodes > NODES_MAX or len(where) > _DEPTH_MAX:
            if not self._mistakes.is_broken(()):
                self._mistakes.add_at(*_position(node), (), "too much nesting or too many repeated parts")
                self._mistakes.broken.add(())
            return None
        is_raw = is_raw or (len(where) == 3 and where[0] == "connectors" and where[2] == "mapping")
        if isinstance(node, MappingNode):
            return self._mapping(node, where, is_raw=is_raw)
        if isinstance(node, SequenceNode):
            return self._sequence(node, where, is_raw=is_raw)
        return self._scalar(node, where)

    def _mapping(self, node: MappingNode, where: Where, *, is_raw: bool) -> dict[Any, Any]:
        read: dict[Any, Any] = CommentedMap() if is_raw else {}
        if isinstance(read, CommentedMap):
            read.lc.line, read.lc.col = node.start_mark.line, node.start_mark.column
        merged: list[MappingNode] = []
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged += value_node.value if isinstance(value_node, SequenceNode) else [value_node]
                continue
            key = self._name(key_node, where, is_raw=is_raw)
            here = (*where, str(key))
            if key in read:
                line, column = _position(key_node)
                first, _ = self._mistakes.keys[here]
                self._mistakes.add_at(
                    line, column, here, f"{key!r} stands twice", f"it is also in line {first}; keep one"
                )
                continue
            self._mistakes.keys[here] = _position(key_node)
            read[key] = self.read(value_node, here, is_raw=is_raw)
            if isinstance(read, CommentedMap):
                marks = (key_node.start_mark, value_node.start_mark)
                read.lc.add_kv_line_col(key, [n for m in marks for n in (m.line, m.column)])
        for other in merged:
            if isinstance(other, MappingNode):
                for key, value in self._mapping(other, where, is_raw=is_raw).items():
                    read.setdefault(key, value)
            else:
                self._mistakes.add_at(*_position(other), where, "only a mapping can be merged with <<")
        return read

    def _sequence(self, node: SequenceNode, where: Where, *, is_raw: bool) -> list[Any]:
        read: list[Any] = CommentedSeq() if is_raw else []
        for at, item in enumerate(node.value):
            read.append(self.read(item, (*where, at), is_raw=is_raw))
            if isinstance(read, CommentedSeq):
                read.lc.line, read.lc.col = node.start_mark.line, node.start_mark.column
                read.lc.add_idx_line_col(at, [item.start_mark.line, item.start_mark.column])
        return read

    def _name(self, node: Node, where: Where, *, is_raw: bool) -> Any:
        if not isinstance(node, ScalarNode):
            self._mistakes.add_at(*_position(node), where, "a name must be plain text")
            return ""
        return self._scalar(node, where) if is_raw else node.value

    def _scalar(self, node: Node, where: Where) -> Any:
        try:
            return self._constructor.construct_object(node, deep=True)
        except (YAMLError, ValueError):
            is_time = str(node.tag).endswith(":timestamp")
            problem = "there is no such date or time" if is_time else "cannot be read as a value"
            self._mistakes.add_at(*_position(node), where, problem, "" if is_time else "put it in quotes")
            self._mistakes.broken.add(where)
            return None


def _position(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def resolve(
    tree: Any, mistakes: Mistakes, *, environ: Mapping[str, str], folder: Path, where: Where = ()
) -> Any:
    """`tree` with the values that its texts refer to. What cannot be found is noted. Mappings stay as are."""
    if len(where) == 3 and where[0] == "connectors" and where[2] == "mapping":
        return tree
    if isinstance(tree, dict):
        return {
            key: resolve(value, mistakes, environ=environ, folder=folder, where=(*where, key))
            for key, value in tree.items()
        }
    if isinstance(tree, list):
        return [
            resolve(value, mistakes, environ=environ, folder=folder, where=(*where, at))
            for at, value in enumerate(tree)
        ]
    if not isinstance(tree, str) or "${" not in tree:
        return tree

    def value_of(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        value, problem = _look_up(match[1], match[2], environ=environ, folder=folder)
        if problem:
            mistakes.add(where, problem, _HOW_TO_REFER if match[1] is None else _how_to_set(match[1]))
            mistakes.broken.add(where)
        elif len(value) >= 4:  # shorter ones would blot out half of a message
            mistakes.secrets.add(value)
        return value

    return _REFERENCE.sub(value_of, tree)


def is_reference(text: Any) -> bool:
    """Whether a value is nothing but a reference to a secret."""
    match = _REFERENCE.fullmatch(text) if isinstance(text, str) else None
    return match is not None and match[1] is not None


def has_reference(text: str) -> bool:
    return any(match[1] for match in _REFERENCE.finditer(text))


def _how_to_set(kind: str) -> str:
    return "set it before you start leadledger" if kind == "env" else "make the file, readable by this user"


def _look_up(
    kind: str | None, name: str | None, *, environ: Mapping[str, str], folder: Path
) -> tuple[str, str]:
    """The value, and what is wrong with it."""
    if kind is None or not name:
        return "", "this is not a reference to a secret"
    if kind == "env":
        value = environ.get(name, "")
        if value:
            return value, ""
        return "", f"the environment variable {name} is {'empty' if name in environ else 'not set'}"
    path = folder / Path(name).expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(SECRET_BYTES_MAX + 1)
        if len(data) > SECRET_BYTES_MAX:
            return "", f"the file {name} is too long for a secret"
        value = data.decode("utf-8").rstrip("\r\n")
    except OSError as error:
        return "", f"the file {name} cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        return "", f"the file {name} is not UTF-8 text"
    return value, "" if value else f"the file {name} is empty"
