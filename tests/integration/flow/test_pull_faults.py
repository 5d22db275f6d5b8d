"""What a vendor does wrong over HTTP: errors that pass or stay, broken records, HTML, counts that differ."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from connectors.sandbox.state import Fault

ORDERS = r"/wc/v3/orders$"
REFUNDS = r"/wc/v3/refunds$"
HTML = "<!doctype html><html><body>Please log in</body></html>"


def break_order(world: Any, **fields: Any) -> str:
    """Put wrong values into the shop's newest order; returns its id."""
    [doc], _ = world.state.select("woocommerce", "order", order="changed", descending=True, limit=1)
    world.state.put("woocommerce", "order", [replace(doc, body=doc.body | fields)])
    return str(doc.id)


def test_an_error_that_passes_is_tried_again(fresh: Any) -> None:
    fresh.fault("woocommerce", ORDERS, 500, times=2)
    summary = fresh.sync("shop")
    [run] = summary.runs
    assert (run.status, run.errors) == ("done", [])
    assert fresh.state.faults("woocommerce") == []
    _, held = fresh.state.select("woocommerce", "order", limit=0)
    assert fresh.value("SELECT count(*) FROM orders") == held


def test_a_stream_that_fails_leaves_the_others_and_the_next_sync_goes_on(
    fresh: Any, synced_once: Any
) -> None:
    fresh.fault("woocommerce", REFUNDS, 503, times=100)
    printed = fresh.run("sync", "--no-push")
    assert printed.code == 3
    assert "shop: refunds: " in printed.err
    assert "503" in printed.err
    run = fresh.row("SELECT status, error, hint, counts FROM runs WHERE connector = 'shop'")
    assert run.status == "failed"
    assert run.hint == "The next run tries again."
    assert "refunds" in run.error
    assert run.counts["orders"]["new"] > 0
    assert run.counts["products"]["new"] > 0
    assert fresh.value("SELECT count(*) FROM refunds") == 0
    assert fresh.rows("SELECT 1 FROM cursors WHERE connector = 'shop' AND stream = 'refunds'") == []
    others = dict(fresh.rows("SELECT connector, status FROM runs WHERE connector <> 'shop'"))
    assert others == dict.fromkeys(("meta", "newsletter", "web", "crm"), "done")
    [todo] = [
        r for r in fresh.run("status", "--format", "json").json["connectors"] if r["connector"] == "shop"
    ]
    assert (todo["state"], todo["todo"]) == ("failed", "The next run tries again.")

    heal(fresh)
    assert {run.status for run in fresh.sync(pushes=False).runs} == {"done"}
    assert fresh.canonical() == synced_once.canonical()
    assert fresh.verify() == []
    for account, amount in balances(synced_once).items():
        assert balances(fresh)[account] == amount


def balances(world: Any) -> dict[str, int]:
    rows = world.rows(
        "SELECT p.account, e.currency, sum(p.amount_minor) AS amount"
        " FROM postings p JOIN entries e ON e.id = p.entry_id GROUP BY 1, 2"
    )
    return {f"{row.account} {row.currency}": int(row.amount) for row in rows if row.amount}


def test_an_error_amid_the_pages_keeps_what_came_before_it(fresh: Any, synced_once: Any) -> None:
    """The shop's products come by page; the second page fails for good, the first one stays."""
    fresh.edit(("      consumer_key: ", "      per_page: 5\n      consumer_key: "))
    [docs, total] = fresh.state.select("woocommerce", "product", order="changed")
    shown = json.dumps([doc.body for doc in docs[:5]])
    headers = {"X-WP-Total": str(total), "X-WP-TotalPages": "2", "Content-Type": "application/json"}
    fresh.state.inject(Fault("woocommerce", r"/wc/v3/products$", 200, headers, shown))
    fresh.fault("woocommerce", r"/wc/v3/products$", 401, times=100)
    assert [run.status for run in fresh.sync("shop").runs] == ["failed"]
    assert fresh.value("SELECT count(*) FROM products") == 5
    heal(fresh)
    assert [run.status for run in fresh.sync("shop").runs] == ["done"]
    assert fresh.canonical()["products"] == synced_once.canonical()["products"]


def heal(world: Any) -> None:
    """Take the faults that are left away."""
    for number, fault in world.state.faults("woocommerce"):
        for _ in range(fault.remaining):
            world.state.use_fault(number)


def test_a_broken_record_is_set_aside_with_its_field_and_the_rest_lands(fresh: Any) -> None:
    broken = break_order(fresh, total="not a number")
    printed = fresh.run("sync", "shop", "--no-push")
    assert printed.code == 1
    row = fresh.row("SELECT * FROM quarantine")
    assert (row.connector, row.stream, row.external_id, row.field) == (
        "shop",
        "orders",
        broken,
        "total_minor",
    )
    assert "not a number" not in row.reason, "a reason names the shape, never the value"
    _, held = fresh.state.select("woocommerce", "order", limit=0)
    assert fresh.value("SELECT count(*) FROM orders") == held - 1
    assert fresh.value("SELECT count(*) FROM orders WHERE external_id = :id", id=broken) == 0
    body = fresh.value("SELECT body FROM evidence WHERE id = :id", id=row.evidence_id)
    assert json.loads(bytes(body))["total"] == "not a number"
    assert fresh.value("SELECT status FROM runs WHERE connector = 'shop'") == "partial"
    assert (
        fresh.run("status", "--format", "json").json["connectors"][3]["todo"]
        == "leadledger quarantine list shop"
    )


def test_a_bad_edit_keeps_the_last_good_version_booked(synced: Any) -> None:
    [doc], _ = synced.state.select("woocommerce", "order", order="changed", descending=True, limit=1)
    before, head = synced.row("SELECT * FROM orders WHERE external_id = :id", id=doc.id), synced.head()
    later = doc.body["date_modified_gmt"][:-2] + "59"
    break_order(synced, currency="zloty", date_modified_gmt=later)
    summary = synced.sync("shop")
    assert [run.status for run in summary.runs] == ["partial"]
    assert synced.row("SELECT * FROM orders WHERE external_id = :id", id=doc.id) == before
    assert synced.head() == head


@pytest.mark.parametrize("body", [HTML, '{"message": "hello"}', "[{", ""])
def test_another_thing_in_place_of_json_fails_the_stream_and_says_what_came(fresh: Any, body: str) -> None:
    fresh.fault("mailchimp", r"/members$", 200, body=body, times=100)
    printed = fresh.run("sync", "newsletter", "--no-push")
    assert printed.code == 3
    run = fresh.row("SELECT status, error, hint FROM runs")
    assert run.status == "failed"
    assert run.error.startswith("contacts: ")
    assert "/members answered" in run.error
    assert "Please log in" not in run.error
    assert fresh.rows("SELECT 1 FROM cursors WHERE stream = 'contacts'") == []
    assert fresh.value("SELECT count(*) FROM campaigns") > 0
    if body == HTML:
        assert "answered HTML in place of JSON" in run.error
        assert "login page" in run.hint


def test_a_page_of_html_from_a_shop_may_pass(fresh: Any) -> None:
    fresh.fault("woocommerce", ORDERS, 200, body=HTML)
    assert [run.status for run in fresh.sync("shop").runs] == ["done"]
    assert fresh.state.faults("woocommerce") == []


def test_a_count_that_differs_makes_the_run_partial(fresh: Any) -> None:
    [docs, total] = fresh.state.select("woocommerce", "customer")
    body = json.dumps([doc.body for doc in docs[1:]])
    fresh.state.inject(
        Fault(
            "woocommerce",
            r"/wc/v3/customers$",
            200,
            {"X-WP-Total": str(total), "X-WP-TotalPages": "1", "Content-Type": "application/json"},
            body,
        )
    )
    printed = fresh.run("sync", "shop", "--no-push")
    assert printed.code == 1
    assert f"contacts: the vendor said {total} records, {total - 1} came" in printed.err
    run = fresh.row("SELECT status, error FROM runs WHERE connector = 'shop'")
    assert run.status == "partial"
    assert f"said {total} records" in run.error
    assert [r.status for r in fresh.sync("shop").runs] == ["done"]
    assert fresh.value("SELECT count(*) FROM contacts WHERE connector = 'shop'") == total


def test_a_wrong_key_is_not_tried_again_and_says_what_to_do(fresh: Any) -> None:
    (fresh.folder / "secrets" / "hubspot_token").write_text("pat-wrong-token")
    printed = fresh.run("sync", "crm", "--no-push")
    assert printed.code == 3
    run = fresh.row("SELECT status, error, hint FROM runs")
    assert (run.status, bool(run.hint)) == ("failed", True)
    assert "pat-wrong-token" not in f"{run.error} {run.hint} {printed.out} {printed.err}"
