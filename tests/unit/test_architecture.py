"""How the code is cut: dependencies point one way, and no module grows too long to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES_MAX = 400
# The first migration lists every table at once and is never touched again.
LONG = {Path("sync/store/migrations/versions/0001_first_tables.py")}


def test_dependencies_point_one_way() -> None:
    """The contracts stand in pyproject.toml."""
    program = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(cache_dir=None))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout
    assert "2 kept" in done.stdout


@pytest.mark.parametrize("package", ["connectors", "mappings", "sync"])
def test_no_module_is_too_long(package: str) -> None:
    modules = list((ROOT / package).rglob("*.py"))
    assert modules
    lengths = {path.relative_to(ROOT): len(path.read_text("utf-8").splitlines()) for path in modules}
    too_long = {str(path): n for path, n in lengths.items() if n > LINES_MAX and path not in LONG}
    assert too_long == {}
