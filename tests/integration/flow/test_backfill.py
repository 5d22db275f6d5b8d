"""A backfill over HTTP: its slices resume, the live cursor stays, nothing is booked twice."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("Europe/Warsaw")
RANGE = ("--from", "2025-01-01", "--to", "2025-04-30")
SLICES = 4  # of 30 days
STREAMS = 4


def cursors(world: Any) -> list[Any]:
    return world.rows("SELECT connector, stream, at, state, run_id FROM cursors ORDER BY 1, 2")


def last_counts(world: Any) -> dict[str, Any]:
    return world.value("SELECT counts FROM runs WHERE kind = 'backfill' ORDER BY id DESC LIMIT 1")


def test_slices_resume_after_a_failure_and_then_there_is_nothing_left_to_do(synced: Any) -> None:
    at, head = cursors(synced), synced.head()
    # The second time that orders are asked for, in the midst of the slices, the key is refused.
    synced.fault("woocommerce", r"/wc/v3/orders$", 401)
    printed = synced.run("backfill", "shop", *RANGE)
    assert printed.code == 3
    assert (
        f"{SLICES * STREAMS - 1} of {SLICES * STREAMS} slices are done. Run it again to go on." in printed.out
    )
    run = synced.row("SELECT status, hint FROM runs WHERE kind = 'backfill'")
    assert run.status == "failed"
    assert run.hint
    undone = synced.rows("SELECT stream, since FROM backfill_slices WHERE done_at IS NULL")
    assert [row.stream for row in undone] == ["orders"]

    printed = synced.run("backfill", "shop", *RANGE)
    assert printed.code == 0
    assert f"{SLICES * STREAMS} of {SLICES * STREAMS} slices are done.\n" in printed.out
    assert set(last_counts(synced)) == {"orders"}, "only the slice that was left was read"

    printed = synced.run("backfill", "shop", *RANGE)
    assert printed.code == 0
    assert last_counts(synced) == {}
    assert cursors(synced) == at
    assert synced.head() == head


def test_again_reads_every_slice_once_more_and_books_nothing_twice(synced: Any) -> None:
    at, head = cursors(synced), synced.head()
    for arguments in ((), ("--again",)):
        assert synced.run("backfill", "shop", *RANGE, "--stream", "orders", *arguments).code == 0
        counts = last_counts(synced)["orders"]
        assert counts["fetched"] > 0
        assert counts["unchanged"] == counts["fetched"]
    assert cursors(synced) == at
    assert synced.head() == head
    assert synced.verify() == []


def test_a_backfill_of_an_empty_workspace_books_what_it_brings_once(fresh: Any) -> None:
    assert fresh.run("backfill", "shop", *RANGE).code == 0
    assert cursors(fresh) == [], "only a live run moves a cursor"
    brought = {row.external_id for row in fresh.rows("SELECT external_id FROM orders")}
    docs, _ = fresh.state.select("woocommerce", "order")
    within = {doc.id for doc in docs if "2025-01-01" <= doc.body["date_modified"] < "2025-05-01"}
    assert brought == within
    sales = fresh.value("SELECT count(*) FROM entries WHERE part = 'sale'")
    assert sales > 0
    summary = fresh.sync("shop", pushes=False)
    assert [run.status for run in summary.runs] == ["done"]
    assert summary.runs[0].counts["orders"]["new"] == len(docs) - len(brought)
    twice = fresh.rows(
        "SELECT subject FROM entries WHERE part = 'sale' AND reverses IS NULL AND id NOT IN"
        " (SELECT reverses FROM entries WHERE reverses IS NOT NULL) GROUP BY 1 HAVING count(*) > 1"
    )
    assert twice == []
    assert fresh.verify() == []


def test_a_dry_run_prints_the_slices_and_reads_nothing(synced: Any) -> None:
    printed = synced.run("backfill", "shop", *RANGE, "--dry-run")
    assert printed.code == 0
    assert printed.out.splitlines() == [
        "2025-01-01 00:00 to 2025-01-31 00:00",
        "2025-01-31 00:00 to 2025-03-02 00:00",
        "2025-03-02 00:00 to 2025-04-01 00:00",
        "2025-04-01 00:00 to 2025-05-01 00:00",
    ]
    assert synced.rows("SELECT 1 FROM backfill_slices") == []
    assert synced.rows("SELECT 1 FROM runs WHERE kind = 'backfill'") == []
    assert synced.run("backfill", "shop", *RANGE, "--stream", "products").code == 0
    slices = synced.rows("SELECT since, until FROM backfill_slices ORDER BY 1")
    edges = [
        f"{row.since.astimezone(ZONE):%Y-%m-%d %H:%M} to {row.until.astimezone(ZONE):%Y-%m-%d %H:%M}"
        for row in slices
    ]
    assert edges == printed.out.splitlines(), "days of the workspace, on both sides of a clock change"


def test_what_is_asked_for_must_exist(synced: Any) -> None:
    assert synced.run("backfill", "shop", "--from", "2025-04-30", "--to", "2025-01-01").code == 2
    wrong = synced.run("backfill", "shop", *RANGE, "--stream", "order")
    assert wrong.code == 2
    assert "orders" in wrong.err
    unknown = synced.run("backfill", "shopp", *RANGE)
    assert unknown.code == 2
    assert "shop" in unknown.err
    assert synced.rows("SELECT 1 FROM runs WHERE kind = 'backfill'") == []
