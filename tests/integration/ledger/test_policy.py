"""Policies come into force by a sync alone, and no process turns the books back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from sync import pipeline, runs, work
from sync.attribute import store
from sync.cli import look
from sync.config import Config
from sync.store.tables import policies
from sync.store.tables import runs as run_rows
from sync.workspace import Opened, Workspace

NOW = datetime(2026, 6, 2, tzinfo=UTC)


def versions(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.execute(sa.select(policies.c.version).order_by(policies.c.version)).scalars())


def test_looking_puts_no_policy_in_force(
    workspace: Workspace, reopen: Callable[[Callable[[str], str]], Config]
) -> None:
    work.sync(workspace, ["shop", "web"], pushes=False)
    assert versions(workspace.engine) == [1]
    with Opened(reopen(lambda text: text.replace("model: last", "model: linear"))) as changed:
        assert all(check.ok for check in look.run_checks(changed, offline=True))
        assert versions(changed.engine) == [1]
        work.derive(changed)
        assert versions(changed.engine) == [1, 2]
        assert all(check.ok for check in look.run_checks(changed, offline=True))


def test_an_older_config_does_not_turn_the_books_back(engine: Engine) -> None:
    old, new = {"model": "last"}, {"model": "first"}
    with engine.begin() as connection:
        assert store.put_in_force(connection, old, now=NOW, config_read_at=NOW) == 1
        later = NOW + timedelta(hours=1)
        assert store.put_in_force(connection, new, now=later, config_read_at=later) == 2
        with pytest.raises(store.StaleConfig, match="restart"):
            store.put_in_force(connection, old, now=later, config_read_at=NOW)
    assert versions(engine) == [1, 2]


def test_a_derivation_that_fails_is_seen_until_one_succeeds(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> dict[str, int]:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "derive", fails)
        with pytest.raises(RuntimeError, match="a defect"):
            work.derive(workspace)
    work.derive(workspace)
    work.derive(workspace)
    with workspace.engine.connect() as connection:
        rows = connection.execute(
            sa.select(run_rows.c.status, run_rows.c.error)
            .where(run_rows.c.connector == runs.LEDGER)
            .order_by(run_rows.c.id)
        ).all()
    [(failed, said), done] = [tuple(row) for row in rows]
    assert (failed, done) == ("failed", ("done", None))
    assert said.startswith("RuntimeError in sync."), "its own words may quote a record"


def test_two_rules_for_one_destination_hold_together(
    reopen: Callable[[Callable[[str], str]], Config], config: Config
) -> None:
    rule = "push:\n  - to: crm\n    stages: [won]\n    fields: {leadledger_orders: orders}\n"
    split = reopen(
        lambda text: text.replace(
            "stages: [lead, mql, sql, won, recycled]", "stages: [lead, mql, sql]"
        ).replace("push:\n", rule)
    )
    with Opened(split) as workspace:
        work.sync(workspace, [c.name for c in split.connectors], pushes=False)
        with workspace.engine.connect() as connection:
            found = dict(
                connection.execute(
                    sa.text(
                        """
                        SELECT j.stage, array_agg(DISTINCT o.status || ' ' || (o.desired ? 'leadledger_campaign'))
                          FROM outbox o JOIN journeys j USING (person_id)
                         WHERE j.stage IN ('mql', 'sql', 'won') GROUP BY 1
                        """
                    )
                ).all()
            )
    assert {stage: [s for s in states if not s.startswith("refused")] for stage, states in found.items()} == {
        "mql": found["mql"],
        "sql": found["sql"],
        "won": ["pending false"],
    }
    assert not any("superseded" in state for states in found.values() for state in states)
