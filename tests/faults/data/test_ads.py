"""What an ad platform changes behind our back: names of campaigns, campaigns themselves, spend of long ago."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from connectors.sandbox.state import Doc
from tests.faults.data.shop import campaigns, wrong

WITHIN, BEYOND = "2025-05-20", "2025-03-01"  # of the 28 days that a run reads again
RANGE = ("--from", "2025-02-20", "--to", "2025-03-10", "--stream", "spend")


def campaign(world: Any) -> Doc:
    """The campaign of Meta that earned the most."""
    key = next(row["key"] for row in campaigns(world)["campaigns"] if row["source"] == "meta")
    doc: Doc = world.state.get("meta", "campaign", key.partition(":")[2])
    return doc


def change(world: Any, doc: Doc, **fields: Any) -> None:
    body = doc.body | {"updated_time": "2025-06-01T09:00:00+0200"} | fields
    world.state.put("meta", "campaign", [Doc(doc.id, body, doc.at, doc.changed, parent=doc.parent)])


def figures(world: Any) -> dict[str, Any]:
    """The report by campaign key, without names."""
    return {row["key"]: {**row, "campaign": None} for row in campaigns(world)["campaigns"]}


def pulled(world: Any) -> dict[str, dict[str, int]]:
    [run] = world.sync("meta", pushes=False).runs
    assert run.status == "done", (run.errors, run.problems)
    counts: dict[str, dict[str, int]] = run.counts
    return counts


def test_a_renamed_campaign_keeps_its_figures_under_its_new_name(synced: Any) -> None:
    doc, before, head = campaign(synced), figures(synced), synced.head()
    assert before[f"meta:{doc.id}"]["revenue_minor"] > 0
    change(synced, doc, name="Summer | renamed")
    assert pulled(synced)["campaigns"]["changed"] == 1
    assert figures(synced) == before
    assert "Summer | renamed" in {row["campaign"] for row in campaigns(synced)["campaigns"]}
    assert synced.head() == head, "a name is not booked"
    names = synced.rows("SELECT DISTINCT desired ->> 'leadledger_campaign' AS name FROM outbox")
    assert "Summer | renamed" in {row.name for row in names}
    assert doc.body["name"] not in {row.name for row in names}, "everybody it brought is told"
    assert wrong(synced) == {}


@pytest.mark.parametrize("status", ["DELETED", "ARCHIVED", None])
def test_a_deleted_campaign_keeps_its_figures_and_its_name(synced: Any, status: str | None) -> None:
    doc, before, head = campaign(synced), figures(synced), synced.head()
    if status is None:
        synced.state.delete("meta", "campaign", doc.id)
    else:
        change(synced, doc, status=status, effective_status=status)
    pulled(synced)
    pulled(synced)
    assert figures(synced) == before
    assert doc.body["name"] in {row["campaign"] for row in campaigns(synced)["campaigns"]}
    assert synced.head() == head
    assert wrong(synced) == {}


def insight(world: Any, day: str) -> Doc:
    """The first row of spend of a day."""
    at = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
    docs, _ = world.state.select("meta", "insight", at_from=at, at_to=at)
    return docs[0]


def restate(world: Any, day: str, more: str) -> None:
    doc = insight(world, day)
    body = doc.body | {"spend": f"{Decimal(doc.body['spend']) + Decimal(more)}"}
    world.state.put("meta", "insight", [Doc(doc.id, body, doc.at, doc.changed, parent=doc.parent)])


def spent(world: Any, day: str) -> int:
    found: int = campaigns(world, day)["total"]["spend_minor"]
    return found


def entries_after(world: Any, entry: int) -> list[tuple[str, str, str]]:
    rows = world.rows(
        "SELECT kind, business_day::text, reason FROM entries WHERE id > :id ORDER BY id", id=entry
    )
    return [tuple(row) for row in rows]


def test_spend_restated_within_the_overlap_comes_with_the_next_run(synced: Any) -> None:
    before, (entry, _) = spent(synced, WITHIN), synced.head()
    restate(synced, WITHIN, "7.01")
    assert pulled(synced)["spend"]["changed"] == 1
    assert spent(synced, WITHIN) == before + 701
    assert entries_after(synced, entry) == [
        ("spend_correction", WITHIN, "the platform restated its figure"),
        ("spend", WITHIN, "the platform restated its figure"),
    ]
    assert wrong(synced) == {}
    entry, _ = synced.head()
    pulled(synced)
    assert entries_after(synced, entry) == []


def test_spend_withdrawn_within_the_overlap_is_taken_back(synced: Any) -> None:
    doc, before, (entry, _) = insight(synced, WITHIN), spent(synced, WITHIN), synced.head()
    synced.state.delete("meta", "insight", doc.id)
    assert pulled(synced)["spend"]["withdrawn"] == 1
    assert spent(synced, WITHIN) == before - int(Decimal(doc.body["spend"]) * 100)
    assert entries_after(synced, entry) == [("spend_correction", WITHIN, "the platform withdrew it")]
    assert wrong(synced) == {}
    synced.state.put("meta", "insight", [doc])
    pulled(synced)
    assert spent(synced, WITHIN) == before
    assert wrong(synced) == {}


def test_spend_restated_before_the_overlap_comes_with_a_backfill(synced: Any) -> None:
    before, (entry, _) = spent(synced, BEYOND), synced.head()
    cursors = synced.rows("SELECT connector, stream, at, state FROM cursors ORDER BY 1, 2")
    restate(synced, BEYOND, "7.01")
    pulled(synced)
    assert spent(synced, BEYOND) == before, "a run reads no day so long ago"
    assert entries_after(synced, entry) == []

    assert synced.run("backfill", "meta", *RANGE).code == 0
    assert spent(synced, BEYOND) == before + 701
    assert [kind for kind, day, _ in entries_after(synced, entry) if day == BEYOND] == [
        "spend_correction",
        "spend",
    ]
    assert len(entries_after(synced, entry)) == 2
    assert synced.rows("SELECT connector, stream, at, state FROM cursors ORDER BY 1, 2") == cursors
    assert wrong(synced) == {}

    restate(synced, BEYOND, "1.00")
    gone = insight(synced, "2025-03-02")
    synced.state.delete("meta", "insight", gone.id)
    day_after = spent(synced, "2025-03-02")
    assert synced.run("backfill", "meta", *RANGE).code == 0
    assert spent(synced, BEYOND) == before + 701, "its slices are done"
    assert synced.run("backfill", "meta", *RANGE, "--again").code == 0
    assert spent(synced, BEYOND) == before + 801
    assert spent(synced, "2025-03-02") == day_after - int(Decimal(gone.body["spend"]) * 100)
    assert wrong(synced) == {}


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("spend", "1 234,50", "amount_minor"),
        ("account_currency", "zloty", "currency"),
        ("campaign_id", None, "campaign_id"),
    ],
)
def test_a_row_of_spend_that_cannot_be_read_keeps_the_figure_of_before(
    synced: Any, field: str, value: Any, named: str
) -> None:
    doc, before, head = insight(synced, WITHIN), spent(synced, WITHIN), synced.head()
    synced.state.put(
        "meta", "insight", [Doc(doc.id, doc.body | {field: value}, doc.at, doc.changed, parent=doc.parent)]
    )
    [run] = synced.sync("meta", pushes=False).runs
    assert run.status == "partial"
    row = synced.row("SELECT connector, stream, external_id, field FROM quarantine")
    assert tuple(row) == ("meta", "spend", doc.id, named)
    assert (spent(synced, WITHIN), synced.head()) == (before, head)
    assert wrong(synced) == {}
    synced.state.put("meta", "insight", [doc])
    pulled(synced)
    assert synced.rows("SELECT 1 FROM quarantine") == []
    assert synced.head() == head
