"""Books of the test's own, emptied for each example."""

from __future__ import annotations

from tests.integration.ledger.conftest import books, new_books

__all__ = ["books", "new_books"]
