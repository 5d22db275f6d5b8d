"""The worlds of the flow tests and the books of the ledger tests, for records that are wrong or come badly."""

from __future__ import annotations

from tests.integration.flow.conftest import _quiet, fresh, shop, synced, synced_once
from tests.integration.ledger.conftest import books, new_books

__all__ = ["_quiet", "books", "fresh", "new_books", "shop", "synced", "synced_once"]
