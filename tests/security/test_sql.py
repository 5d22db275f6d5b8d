"""Values reach the database as parameters only: no statement of ours is put together from texts.

ruff's S608 sees the same in literals that look like SQL; this also sees what is handed on to a call.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TAKES_SQL = frozenset({"text", "execute", "executemany", "exec_driver_sql", "SQL", "copy", "literal_column"})
# Migrations and the bench hold no values of others, only names that stand in them.
SOURCES = [p for p in sorted((ROOT / "sync").rglob("*.py")) if not {"versions", "bench"} & set(p.parts)]


def built(node: ast.expr) -> bool:
    """Whether a text is put together: f-string with a value, %, +, .format or .join on a text."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Mod | ast.Add)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        # psycopg's SQL(…).format and .join quote what they put in; a text's own do not.
        whose = node.func.value
        if node.func.attr == "format":
            return not is_sql(whose)
        return node.func.attr in ("join", "replace") and isinstance(whose, ast.Constant)
    return False


def is_sql(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and name_of(node) == "SQL"


def name_of(call: ast.Call) -> str:
    return getattr(call.func, "attr", "") or getattr(call.func, "id", "")


def built_statements(source: str) -> Iterator[int]:
    """The lines at which a text that was put together is given to the database, as it is or under a name.

    Only in functions: what is made while a module is loaded is made before any value came.
    """
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        nodes = list(ast.walk(function))
        names = {
            target.id
            for node in nodes
            if isinstance(node, ast.Assign) and built(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in nodes:
            if isinstance(node, ast.Call) and name_of(node) in TAKES_SQL and node.args:
                given = node.args[0]
                if built(given) or (isinstance(given, ast.Name) and given.id in names):
                    yield node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_statement_is_put_together_from_texts(path: Path) -> None:
    assert list(built_statements(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        'sa.text(f"SELECT {name}")',
        'connection.execute("SELECT %s" % name)',
        'connection.execute("SELECT " + name)',
        'sa.text("SELECT {}".format(name))',
        'sql.SQL(f"LOCK {table}")',
        'statement = f"SELECT {name}"\nconnection.execute(statement)',
        'sa.literal_column(f"{name} + 1")',
        'cursor.copy(" ".join(parts))',
    ],
)
def test_a_statement_put_together_would_be_seen(source: str) -> None:
    assert list(built_statements(in_a_function(source)))


@pytest.mark.parametrize(
    "source",
    [
        'sa.text("SELECT :name")',
        'connection.execute(sql.SQL("LOCK {}").format(sql.Identifier(table)))',
        'sql.SQL(", ").join(names)',
        'connection.execute(sa.text("SELECT 1 " "AS one"))',
    ],
)
def test_parameters_and_quoted_names_are_no_statement_put_together(source: str) -> None:
    assert not list(built_statements(in_a_function(source)))


def in_a_function(source: str) -> str:
    return "def function():\n" + textwrap.indent(source, "    ")
