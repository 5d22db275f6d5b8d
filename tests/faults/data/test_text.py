"""Text that no database can store, and far more of it than anybody writes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from threading import Event
from typing import Any

import pytest

from connectors.contract import Stream
from connectors.sandbox.state import Doc, Fault
from sync import runs
from sync.pull import step as pulling
from tests.faults.data.shop import (
    NEW,
    ORDERS,
    answers_with,
    booked,
    campaigns,
    order,
    pulled,
    put,
    refund,
    revenue,
    set_aside,
    wrong,
)
from tests.integration.ledger.books import IDENTITY_MAPPING, Books, Fact, Told
from tests.integration.ledger.books import order as order_fact

NUMBER, OTHER = 90001, 90002
MEGABYTE = "é" * 1_000_000
BAD = [pytest.param("\x00", id="NUL"), pytest.param("\ud800", id="lone surrogate")]


def billing(**fields: str) -> dict[str, str]:
    body: dict[str, str] = order(NUMBER).body["billing"]
    return body | fields


def shown(world: Any, doc: Doc) -> None:
    """The shop's next answer shows this order as it is, and a good one; afterwards it shows two good ones."""
    good = order(OTHER, "5.00")
    put(world, order(NUMBER, "10.00"), good)
    answers_with(world, path=ORDERS)  # the trash
    answers_with(world, doc.body, good.body)


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_stored_is_left_out_of_texts_and_stays_in_evidence(synced: Any, bad: str) -> None:
    origin = {"source_type": "utm", "utm_source": f"ne{bad}ws", "utm_campaign": f"spring{bad}"}
    meta = [{"key": f"_wc_order_attribution_{name}", "value": value} for name, value in origin.items()]
    name = billing(first_name=f"An{bad}na", phone=f"60100{bad}0000")
    line = {"product_id": 11, "name": f"Ku{bad}bek", "sku": f"{bad}MUG", "quantity": 1, "total": "10.00"}
    shown(
        synced,
        order(NUMBER, "10.00", billing=name, customer_note=f"no{bad}te", meta_data=meta, line_items=[line]),
    )
    pulled(synced)
    row = synced.row("SELECT full_name, lines, evidence_id FROM orders WHERE external_id = '90001'")
    assert row.full_name == "Anna Nowak"
    assert (row.lines[0]["name"], row.lines[0]["sku"]) == ("Kubek", "MUG")
    assert booked(synced, NUMBER) == {"Credit:Campaign:utm:news/spring": 1000, "Revenue:Shop:shop": -1000}
    assert revenue(synced, OTHER) == 500
    body = synced.value("SELECT body FROM evidence WHERE id = :id", id=row.evidence_id)
    assert json.loads(bytes(body))["customer_note"] == f"no{bad}te"
    assert set_aside(synced) == []
    assert wrong(synced) == {}
    assert f"{row.evidence_id}" in synced.run("explain", f"shop:{NUMBER}").out


@pytest.mark.parametrize("bad", BAD)
def test_an_id_that_cannot_be_stored_is_set_aside_and_is_no_other_id(synced: Any, bad: str) -> None:
    shown(synced, order(NUMBER, "10.00", id=f"{NUMBER}{bad}"))
    pulled(synced, "partial")
    [(stream, record, _, reason)] = set_aside(synced)
    assert (stream, record.partition(":")[0]) == ("orders", "sha256")
    assert "its id" in reason
    assert (revenue(synced, NUMBER), revenue(synced, OTHER)) == (0, 500)
    assert wrong(synced) == {"control total of shop": f"order {NUMBER} is not booked"}
    [row] = synced.run("quarantine", "list", "shop", "--format", "json").json
    assert synced.run("quarantine", "show", str(row["id"])).json["record"] == record


@pytest.mark.parametrize("field", ["date_paid_gmt", "total", "currency"])
@pytest.mark.parametrize("bad", BAD)
def test_a_value_that_cannot_be_stored_nor_read_is_set_aside(synced: Any, field: str, bad: str) -> None:
    shown(
        synced,
        order(NUMBER, "10.00", **{field: f"so{bad}on"}) if field != "total" else order(NUMBER, f"so{bad}on"),
    )
    pulled(synced, "partial")
    [(_, record, named, reason)] = set_aside(synced)
    assert record == str(NUMBER)
    assert named in ("paid_at", "total_minor", "currency")
    assert field in reason
    assert revenue(synced, OTHER) == 500


def test_an_id_of_half_a_surrogate_pair_from_any_connector_is_set_aside(books: Books) -> None:
    plan = pulling.Plan(
        connector="shop",
        source=Told([Fact("order", "half\ud800", {"total_minor": "1.00"}), order_fact("o1", "5.00", day=5)]),
        mapping=IDENTITY_MAPPING,
        streams=[Stream("orders")],
        start=NEW,
        zone=books.rules.zone,
        phone_region="PL",
    )
    with runs.begin(books.engine, connector="shop", kind="pull", stop=Event()) as run:
        pulling.pull(books.engine, run, plan, now=books.now, say=lambda _: None)
    books.derive()
    assert run.status == "partial"
    assert books.ask("SELECT reason LIKE '%its id%' FROM quarantine") == [(True,)]
    assert books.balances()["Revenue:Shop:shop"] == -500
    assert set(books.verify().values()) == {""}


@pytest.mark.parametrize("bad", ["\x00", "\ud800"], ids=["NUL", "lone surrogate"])
def test_a_form_may_be_called_anything(synced: Any, bad: str) -> None:
    """Its name and questions are not in its leads but beside them, in their context."""
    [form], _ = synced.state.select("meta", "form", limit=1)
    [like], _ = synced.state.select("meta", "lead", order="at", descending=True, limit=1)
    late = like.at + 60
    lead = like.body | {
        "id": "700000000000999",
        "created_time": f"{datetime.fromtimestamp(late, UTC):%FT%T+0000}",
    }
    synced.state.put("meta", "lead", [Doc("700000000000999", lead, late, late, parent=like.parent)])
    answer = json.dumps({"data": [form.body | {"name": f"Zapy{bad}tanie"}]})
    json_type = {"Content-Type": "application/json"}
    synced.state.inject(Fault("meta", r"/leadgen_forms$", 200, json_type, answer))
    [run] = synced.sync("meta", pushes=False).runs
    assert (run.status, run.errors) == ("done", [])
    assert run.counts["leads"]["new"] == 1
    assert synced.value("SELECT count(*) FROM leads WHERE external_id = '700000000000999'") == 1
    assert set_aside(synced) == []
    assert wrong(synced) == {}


def test_a_megabyte_in_every_text_of_an_order_is_cut(synced: Any) -> None:
    origin = {
        "source_type": "utm",
        "utm_source": MEGABYTE,
        "utm_campaign": f"{MEGABYTE}1",
        "session_entry": f"https://shop.example/?gclid={MEGABYTE}",
        "session_start_time": MEGABYTE,
    }
    meta = [{"key": f"_wc_order_attribution_{name}", "value": value} for name, value in origin.items()]
    line = {"product_id": 11, "name": MEGABYTE, "sku": MEGABYTE, "quantity": 1, "total": "10.00"}
    big = billing(first_name=MEGABYTE, phone=MEGABYTE)
    sold = order(NUMBER, "10.00", billing=big, customer_note=MEGABYTE, meta_data=meta, line_items=[line])
    put(synced, sold, order(OTHER, "5.00", billing=billing(email=MEGABYTE)))
    put(synced, refund(95001, sold, "1.00", reason=MEGABYTE), kind="refund")
    pulled(synced)
    row = synced.row("SELECT * FROM orders WHERE external_id = '90001'")
    assert (len(row.full_name), len(row.lines[0]["name"])) == (10_000, 10_000)
    body = synced.value("SELECT body FROM evidence WHERE id = :id", id=row.evidence_id)
    assert json.loads(bytes(body))["customer_note"] == MEGABYTE
    assert (revenue(synced, NUMBER), revenue(synced, OTHER)) == (900, 500)
    [credit] = [account for account in booked(synced, NUMBER) if account.startswith("Credit:")]
    assert len(credit) < 1000
    assert set_aside(synced) == []
    assert wrong(synced) == {}
    assert any(row["revenue_minor"] == 900 for row in campaigns(synced, "2025-06")["campaigns"])


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ("id", ""),
        ("currency", "currency"),
        ("total", "total_minor"),
        ("total_tax", "tax_minor"),
        ("date_paid_gmt", "paid_at"),
        ("date_created_gmt", "occurred_at"),
    ],
)
def test_a_megabyte_where_none_can_be_is_set_aside_with_a_short_reason(
    synced: Any, field: str, named: str
) -> None:
    doc = order(NUMBER, "10.00")
    put(synced, Doc(doc.id, doc.body | {field: MEGABYTE}, doc.at, doc.changed), order(OTHER, "5.00"))
    pulled(synced, "partial")
    [(_, record, said, reason)] = set_aside(synced)
    assert said == named
    assert len(record) < 100
    assert len(reason) < 500
    assert revenue(synced, OTHER) == 500
    listed = synced.run("quarantine", "list", "shop")
    assert listed.code == 0
    assert len(listed.out) < 10_000
    put(synced, order(NUMBER, "10.00", modified=NEW.replace(hour=10)))
    synced.sync("shop", pushes=False)
    assert revenue(synced, NUMBER) == 1000
    assert wrong(synced) == {}
