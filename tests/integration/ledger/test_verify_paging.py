"""Verify reads orders and journal side by side in pages: every subject once, whichever side knows it."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from sync import work
from sync.ledger import verify
from sync.workspace import Workspace


def test_every_subject_comes_once_whatever_the_page(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.sync(workspace, ["shop", "meta"], pushes=False)
    with workspace.engine.begin() as connection:
        # Some orders that only the journal still knows.
        connection.execute(sa.text("DELETE FROM orders WHERE right(external_id, 1) IN ('3', '7')"))
    with workspace.engine.connect() as connection:
        for kind, table in (("order", "orders"), ("spend", "spend")):
            known = connection.execute(
                sa.text(
                    f"SELECT connector, external_id FROM {table} UNION"
                    " SELECT connector, split_part(subject, ':', 2) FROM entries WHERE subject LIKE :kind"
                ),
                {"kind": f"{kind}:%"},
            )
            wanted = sorted((row[0], row[1]) for row in known)
            for size in (1, 2, 7, 1000):
                monkeypatch.setattr(verify, "BATCH", size)
                found = [ref for page in verify._refs(connection, kind) for ref in page]
                assert found == wanted, (kind, size)
