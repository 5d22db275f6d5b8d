"""An admin's own mapping of a field: tried on a file, then applied to what is stored already, without a fetch."""

from __future__ import annotations

import json
from typing import Any

import pytest

STATUS = """    mapping:
      orders:
        order:
          status: {path: status, map: {pending: completed}, otherwise: keep}
"""
META = """    mapping:
      orders:
        touch:
          utm_content: "meta_data[key=_wc_order_attribution_device_type].value"
"""


def override(world: Any, text: str) -> None:
    world.edit(("    type: woocommerce\n", "    type: woocommerce\n" + text))


def stored(world: Any) -> Any:
    return world.row("SELECT count(*) AS n, max(id) AS last, max(fetched_at) AS at FROM evidence")


def test_a_status_name_changes_what_is_booked_from_stored_evidence(synced: Any) -> None:
    rows = synced.rows("SELECT * FROM orders WHERE status = 'pending'")
    unpaid = {row.external_id: row.total_minor for row in rows}
    assert unpaid
    before, evidence = synced.canonical(), stored(synced)
    override(synced, STATUS)
    # The shop does not answer at all: what changes can only come from what is stored.
    synced.fault("woocommerce", "/wc/v3/", 401, times=100)
    summary = synced.sync("shop", pushes=False)
    [run] = summary.runs
    assert run.status == "failed"
    assert run.counts["orders"] == {"mapped_again": len(before["orders"]), "quarantined": 0}
    assert stored(synced) == evidence
    assert synced.rows("SELECT 1 FROM orders WHERE status = 'pending'") == []
    for id, total in unpaid.items():
        [sale] = synced.rows("SELECT id, part FROM entries WHERE subject = :s", s=f"order:{id}")
        assert sale.part == "sale"
        revenue = "SELECT -sum(amount_minor) FROM postings WHERE entry_id = :id AND account LIKE 'Revenue:%'"
        assert synced.value(revenue, id=sale.id) == total
    for number, fault in synced.state.faults("woocommerce"):
        for _ in range(fault.remaining):
            synced.state.use_fault(number)
    head = synced.head()
    again = synced.sync("shop", pushes=False)
    assert "mapped_again" in again.runs[0].counts["orders"], "a run that failed did not note the new mapping"
    assert "mapped_again" not in synced.sync("shop", pushes=False).runs[0].counts["orders"]
    assert synced.head() == head

    synced.edit((STATUS, ""))
    assert [run.status for run in synced.sync("shop", pushes=False).runs] == ["done"]
    assert synced.canonical() == before
    assert stored(synced) == evidence
    assert synced.verify() == []


def test_custom_order_meta_fills_a_field(synced: Any) -> None:
    assert (
        synced.value("SELECT count(*) FROM touches WHERE connector = 'shop' AND utm_content IS NOT NULL") == 0
    )
    evidence, head = stored(synced), synced.head()
    override(synced, META)
    summary = synced.sync("shop")
    assert {run.status for run in summary.runs} == {"done"}
    kinds = synced.rows("SELECT DISTINCT utm_content FROM touches WHERE connector = 'shop' ORDER BY 1")
    assert [row[0] for row in kinds] == ["Desktop", "Mobile"]
    assert stored(synced) == evidence
    assert synced.head() == head, "what does not concern the money books nothing"


@pytest.fixture
def order(readable: Any) -> dict[str, Any]:
    docs, _ = readable.state.select("woocommerce", "order", order="number", limit=1)
    return docs[0].body


def test_mapping_test_prints_the_canonical_record(
    readable: Any, order: dict[str, Any], tmp_path: Any
) -> None:
    file = tmp_path / "order.json"
    file.write_text(json.dumps(order))
    printed = readable.run("mapping", "test", "shop", str(file), "--stream", "orders")
    assert printed.code == 0
    shown, _ = json.JSONDecoder().raw_decode(printed.out)
    held = readable.row("SELECT * FROM orders WHERE external_id = :id", id=str(order["id"]))
    assert shown["kind"] == "order"
    assert (shown["external_id"], shown["total_minor"], shown["status"], shown["currency"]) == (
        held.external_id,
        held.total_minor,
        held.status,
        held.currency,
    )


def test_mapping_test_names_the_wrong_field(readable: Any, order: dict[str, Any], tmp_path: Any) -> None:
    file = tmp_path / "orders.json"
    file.write_text(json.dumps([order, order | {"total": "12,x", "id": 77}]))
    printed = readable.run("mapping", "test", "shop", str(file), "--stream", "orders")
    assert printed.code == 1
    assert "woocommerce.yaml:" in printed.err
    assert "order.total_minor: " in printed.err
    assert "(total: " in printed.err
    assert f'"external_id": "{order["id"]}"' in printed.out
    assert '"external_id": "77"' not in printed.out


def test_mapping_test_tries_the_override_of_the_config(synced: Any, tmp_path: Any) -> None:
    override(synced, STATUS)
    docs, _ = synced.state.select("woocommerce", "order", order="number", limit=1)
    file = tmp_path / "order.json"
    file.write_text(json.dumps(docs[0].body | {"status": "pending"}))
    printed = synced.run("mapping", "test", "shop", str(file), "--stream", "orders")
    assert '"status": "completed"' in printed.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("shopp", "{file}"), "shop"),
        (("shop", "{file}"), "--stream orders | refunds"),
        (("shop", "{file}", "--stream", "order"), "--stream orders | refunds"),
        (("shop", "/nowhere.json", "--stream", "orders"), "cannot be read"),
        (("shop", "{bad}", "--stream", "orders"), "not JSON"),
    ],
)
def test_mapping_test_says_what_is_wrong_with_the_call(
    readable: Any, tmp_path: Any, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "order.json").write_text("{}")
    (tmp_path / "bad.json").write_text("[{")
    places = {"file": str(tmp_path / "order.json"), "bad": str(tmp_path / "bad.json")}
    printed = readable.run("mapping", "test", *(a.format(**places) for a in arguments))
    assert printed.code == 2
    assert said in printed.err


def test_a_wrong_override_is_named_with_its_line_and_nothing_runs(synced: Any) -> None:
    override(synced, STATUS.replace("status: {path", "statuss: {path"))
    line = (
        synced.config_text()
        .splitlines()
        .index("          statuss: {path: status, map: {pending: completed}, otherwise: keep}")
    )
    runs = synced.value("SELECT count(*) FROM runs")
    printed = synced.run("sync", "shop")
    assert printed.code == 2
    assert f"leadledger.yaml:{line + 1}:" in printed.err
    assert "status" in printed.err
    assert synced.value("SELECT count(*) FROM runs") == runs
