"""The table of bad days names tests that exist."""

from __future__ import annotations

import re

import pytest

from tests.acceptance.markdown import DOCS, ROOT

PAGE = (DOCS / "bad-days.md").read_text("utf-8")
ROWS = [
    line for line in PAGE.splitlines() if line.startswith("|") and not line.startswith(("|---", "| case"))
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_every_case_names_a_test_that_exists(row: str) -> None:
    file = None
    named = re.findall(r"`([\w/]+\.py)?(?:::(\w+))?`", row.rsplit("|", 2)[1])
    assert named, row
    for path, test in named:
        file = path or file
        text = (ROOT / str(file)).read_text("utf-8")
        assert not test or f"def {test}(" in text, f"{file} has no {test}"
