"""Times without a zone, times that never were or come twice, and days of 23 and 25 hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.sandbox.state import Doc
from tests.faults.data.shop import NEW, WARSAW, campaigns, order, pulled, put, set_aside, wrong

ZONED = """    mapping:
      leads:
        lead:
          occurred_at: {path: created_time, zone: workspace}
        touch:
          occurred_at: {path: created_time, zone: workspace}
"""
UNZONED = """    mapping:
      orders:
        order:
          occurred_at: date_created
"""
NUMBER = 90001


def meta_lead(world: Any, id: str, created_time: str) -> None:
    [like], _ = world.state.select("meta", "lead", limit=1)
    body = like.body | {"id": id, "created_time": created_time}
    world.state.put("meta", "lead", [Doc(id, body, NEW.timestamp(), NEW.timestamp(), parent=like.parent)])


def web_lead(world: Any, id: str, created: str) -> None:
    with world.leads_csv.open("a", encoding="utf-8") as file:
        file.write(f"{id},{id}@example.com,{created},partner,contact,partner/expo\n")


def moment(world: Any, id: str) -> datetime | None:
    """When a lead came, by the canonical record; None where there is none."""
    rows = world.rows("SELECT occurred_at FROM leads WHERE external_id = :id", id=id)
    return rows[0][0] if rows else None


def test_a_date_without_a_zone_is_no_guess_of_ours(synced: Any) -> None:
    meta_lead(synced, "700000000000998", "2025-06-02T10:00:00+0200")
    meta_lead(synced, "700000000000999", "2025-06-02T10:00:00")
    before = synced.value("SELECT at FROM cursors WHERE connector = 'meta' AND stream = 'leads'")
    assert [run.status for run in synced.sync("meta", pushes=False).runs] == ["partial"]
    [(stream, record, field, reason)] = set_aside(synced)
    assert (stream, record, field) == ("leads", "700000000000999", "occurred_at")
    assert "a time without an offset (created_time: " in reason
    assert "zone: UTC" in reason
    assert moment(synced, "700000000000998") == datetime(2025, 6, 2, 8, tzinfo=UTC)
    assert synced.value("SELECT at FROM cursors WHERE connector = 'meta' AND stream = 'leads'") > before

    synced.edit(("    type: meta_ads\n", "    type: meta_ads\n" + ZONED))
    assert synced.run("quarantine", "retry").code == 0
    assert moment(synced, "700000000000999") == datetime(2025, 6, 2, 8, tzinfo=UTC)
    assert set_aside(synced) == []
    assert wrong(synced) == {}


def test_an_override_that_forgets_the_zone_sets_every_order_aside_and_unbooks_none(synced: Any) -> None:
    put(synced, order(NUMBER))
    pulled(synced)
    head = synced.head()
    held = synced.value("SELECT count(*) FROM orders")
    synced.edit(("    type: woocommerce\n", "    type: woocommerce\n" + UNZONED))
    synced.sync("shop", pushes=False)
    assert {field for _, _, field, _ in set_aside(synced)} == {"occurred_at"}
    assert len(set_aside(synced)) == held == synced.value("SELECT count(*) FROM orders")
    assert synced.head() == head
    assert wrong(synced) == {}


def test_a_run_whose_new_mapping_sets_records_aside_is_partial(synced: Any) -> None:
    synced.edit(("    type: woocommerce\n", "    type: woocommerce\n" + UNZONED))
    assert synced.run("sync", "shop", "--no-push").code == 1


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ("2026-03-29 01:59:59", "2026-03-29T00:59:59"),
        ("2026-03-29 02:30:00", "2026-03-29T01:30:00"),  # never was: moved forward by the gap, to 03:30
        ("2026-03-29 03:00:00", "2026-03-29T01:00:00"),
        ("2026-10-25 02:30:00", "2026-10-25T00:30:00"),  # comes twice: the first, in summer time
        ("2026-10-25 03:00:00", "2026-10-25T02:00:00"),
        ("2026-10-25 02:30:00+01:00", "2026-10-25T01:30:00"),  # the second, where the offset says so
    ],
)
def test_a_local_time_of_a_clock_change_is_one_instant(synced: Any, written: str, taken: str) -> None:
    web_lead(synced, "web-clock", written)
    assert [run.status for run in synced.sync("web", pushes=False).runs] == ["done"]
    assert moment(synced, "web-clock") == datetime.fromisoformat(taken).replace(tzinfo=UTC)
    again = synced.sync("web", pushes=False)
    assert again.steps["matching"] == 0
    assert set_aside(synced) == []
    assert wrong(synced) == {}


@pytest.mark.parametrize(
    "written", ["2026-02-30 10:00:00", "2026-03-01 24:00:00", "0000-00-00 00:00:00", "", "soon"]
)
def test_a_time_that_no_calendar_has_is_set_aside(synced: Any, written: str) -> None:
    web_lead(synced, "web-good", "2025-06-02 10:00:00")
    web_lead(synced, "web-bad", written)
    assert [run.status for run in synced.sync("web", pushes=False).runs] == ["partial"]
    [(stream, record, field, reason)] = set_aside(synced)
    assert (stream, record, field) == ("leads", "web-bad", "occurred_at")
    assert "created: " in reason
    assert moment(synced, "web-good") == datetime(2025, 6, 2, 8, tzinfo=UTC)
    assert moment(synced, "web-bad") is None
    assert wrong(synced) == {}


@pytest.mark.parametrize(("day", "hours"), [("2025-03-30", 23), ("2024-10-27", 25), ("2025-04-02", 24)])
def test_a_business_day_is_a_day_of_the_workspace_whatever_its_hours(
    synced: Any, day: str, hours: int
) -> None:
    midnight = datetime.fromisoformat(day).replace(tzinfo=WARSAW)
    following, late = midnight + timedelta(days=1), midnight.replace(hour=23, minute=30)
    assert following.astimezone(UTC) - midnight.astimezone(UTC) == timedelta(hours=hours)
    within = [midnight, midnight.replace(hour=12), late, late.replace(minute=59, second=59)]
    before = (midnight.astimezone(UTC) - timedelta(seconds=1)).astimezone(WARSAW)
    around = [before, following, following + timedelta(minutes=30)]  # uneven: a shifted day has others
    base = campaigns(synced, day)["total"]
    put(synced, *(order(NUMBER + n, "10.00", at=at) for n, at in enumerate([*within, *around])))
    for n, at in enumerate([*within, *around]):
        web_lead(synced, f"web-day-{n}", f"{at:%Y-%m-%d %H:%M:%S}")
    pulled(synced)
    synced.sync("web", pushes=False)

    total = campaigns(synced, day)["total"]
    assert total["revenue_minor"] - base["revenue_minor"] == 1000 * len(within)
    assert total["orders"] - base["orders"] == len(within)
    assert total["leads"] - base["leads"] == len(within)
    days = synced.rows(
        "SELECT business_day::text AS day FROM entries WHERE connector = 'shop' AND part = 'sale'"
        " AND split_part(subject, ':', 2)::bigint >= :first ORDER BY happened_at",
        first=NUMBER,
    )
    assert [row.day for row in days] == [
        f"{at:%Y-%m-%d}" for at in sorted([*within, *around], key=datetime.timestamp)
    ]
    names = [f"{midnight + timedelta(days=n):%Y-%m-%d}" for n in (-1, 0, 1)]
    each = [campaigns(synced, name)["total"] for name in names]
    whole = campaigns(synced, f"{names[0]}..{names[2]}")["total"]
    for figure in ("revenue_minor", "orders", "leads", "spend_minor"):
        assert sum(total[figure] for total in each) == whole[figure], figure
    assert wrong(synced) == {}
