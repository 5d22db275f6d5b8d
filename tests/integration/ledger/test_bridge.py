"""`ledger bridge` over the sandbox's HTTP: it starts at the shop, passes the claims and ends at the books."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from connectors.sandbox.shop_documents import minor
from connectors.sandbox.state import Doc
from tests.integration.flow.conftest import World, shop, synced, synced_once

__all__ = ["shop", "synced", "synced_once"]  # fixtures

PERIOD = "2024-06-01..2025-06-01"


def bridged(world: World, *more: str, period: str = PERIOD) -> dict[str, Any]:
    printed = world.run("ledger", "bridge", "--period", period, "--format", "json", *more)
    assert printed.code == 0, printed.err
    return dict(printed.json)


def lines(found: dict[str, Any]) -> dict[str, int]:
    return {line["line"]: line["amount_minor"] for line in found["lines"]}


def execute(world: World, statement: str) -> None:
    with world.engine.begin() as connection:
        connection.execute(sa.text(statement))


CREDITED = """
    SELECT coalesce(sum(p.amount_minor), 0)::bigint FROM entries e JOIN postings p ON p.entry_id = e.id
     WHERE p.account LIKE 'Credit:Campaign:meta:%' AND e.currency = 'PLN'
       AND e.posted_on >= :since AND e.posted_on < :until
"""


def credited(world: World, since: str = "2024-06-01", until: str = "2025-06-02") -> int:
    return int(world.value(CREDITED, since=since, until=until))


def adds_up(found: dict[str, Any]) -> None:
    there = sum(line["amount_minor"] for line in found["lines"] if line["section"] == "to the claims")
    back = sum(line["amount_minor"] for line in found["lines"] if line["section"] == "to the credit")
    assert found["shop_minor"] + there == found["claimed_minor"]
    assert found["claimed_minor"] + back == found["credited_minor"]
    for line in found["lines"]:
        assert line["amount_minor"] == sum(opened["amount_minor"] for opened in line["opened"])
    assert lines(found)["residual of the credit"] == 0


def test_from_the_shop_over_the_claims_to_the_books(synced: World) -> None:
    found = bridged(synced)
    adds_up(found)
    orders = [
        doc.body
        for doc in synced.state.select("woocommerce", "order")[0]
        if doc.body["status"] in ("completed", "processing", "refunded", "on-hold")
    ]
    assert found["shop_minor"] == sum(minor(body["total"]) for body in orders)
    claims = [
        next(row for row in doc.body["action_values"] if row["action_type"] == "omni_purchase")
        for doc in synced.state.select("meta", "insight")[0]
        if "action_values" in doc.body
    ]
    assert found["claimed_minor"] == sum(minor(claim["value"]) for claim in claims) > 0
    seen = sum(minor(claim.get("1d_view", "0.00")) for claim in claims)
    assert lines(found)["view-through"] == seen > 0
    assert found["credited_minor"] == credited(synced) > 0
    assert found["platforms"]["meta"]["credited_minor"] == found["credited_minor"]
    assert found["residual_minor"] == 0, "the sandbox's claims follow from its clicks"
    foreign = sum(minor(body["total"]) for body in orders if body["currency"] != "PLN")
    assert lines(found)["currency"] == -foreign < 0
    for name in ("no match", "no consent", "refunds"):
        assert lines(found)[name] < 0


def test_each_month_adds_up_too(synced: World) -> None:
    for month, until in (("2025-02", "2025-03-01"), ("2025-03", "2025-04-01"), ("2025-05", "2025-06-01")):
        found = bridged(synced, period=month)
        adds_up(found)
        assert found["credited_minor"] == credited(synced, f"{month}-01", until)


def test_what_is_printed(synced: World) -> None:
    printed = synced.run("ledger", "bridge", "--period", PERIOD)
    assert printed.code == 0
    for words in ("the shop's own total", "view-through", "Residual: 0.00 PLN", "meta: claims "):
        assert words in printed.out
    refunds = [line for line in bridged(synced)["lines"] if line["line"] == "refunds"]
    printed = synced.run("ledger", "bridge", "--period", PERIOD, "--line", "refunds")
    assert all(opened["ref"] in printed.out for line in refunds for opened in line["opened"])
    printed = synced.run("ledger", "bridge", "--period", PERIOD, "--line", "refunds", "--format", "csv")
    assert printed.out.splitlines()[0] == "ref,amount_minor"
    printed = synced.run("ledger", "bridge", "--period", PERIOD, "--format", "csv")
    assert printed.out.splitlines()[0] == "section,line,amount_minor,orders,says"
    printed = synced.run("ledger", "bridge", "--period", PERIOD, "--line", "weather")
    assert printed.code == 2
    assert "There is no line 'weather': time zone, statuses," in printed.err
    assert synced.run("ledger", "bridge", "--period", PERIOD, "--connector", "meta").code == 2
    assert synced.run("ledger", "bridge", "--period", PERIOD, "--currency", "zloty").code == 2


def test_a_claim_that_nothing_explains_is_the_residual(synced: World) -> None:
    before = bridged(synced)
    execute(
        synced,
        "UPDATE spend SET claimed_orders = coalesce(claimed_orders, 0) + 1,"
        " claimed_minor = coalesce(claimed_minor, 0) + 333"
        " WHERE external_id = (SELECT min(external_id) FROM spend WHERE day >= '2025-01-01')",
    )
    found = bridged(synced)
    adds_up(found)
    assert found["residual_minor"] == lines(found)["residual"] == 333
    assert found["claimed_minor"] == before["claimed_minor"] + 333
    assert found["credited_minor"] == before["credited_minor"]
    assert "Residual: 3.33 PLN" in synced.run("ledger", "bridge", "--period", PERIOD).out


def test_a_platform_that_claims_nothing_is_said_to(synced: World) -> None:
    execute(synced, "UPDATE spend SET claimed_orders = NULL, claimed_minor = NULL, claimed_view_minor = NULL")
    found = bridged(synced)
    adds_up(found)
    assert found["claim_nothing"] == ["meta"]
    assert found["claimed_minor"] == 0
    assert found["credited_minor"] == credited(synced), "its credit is there all the same"
    assert found["residual_minor"] == 0
    printed = synced.run("ledger", "bridge", "--period", PERIOD)
    assert "meta: spent, and claims nothing" in printed.out
    assert "no platform claims anything" in printed.out


def test_claims_in_another_currency_stand_beside(synced: World) -> None:
    before = bridged(synced)["claimed_minor"]
    execute(synced, "UPDATE spend SET currency = 'EUR' WHERE claimed_minor IS NOT NULL")
    found = bridged(synced)
    assert found["claimed_minor"] == 0
    assert found["claims_in_other_currencies"] == {"EUR": before}


def test_a_shop_in_another_time_zone(synced: World) -> None:
    """At three in the morning of the first of April in Warsaw it is still March in New York."""
    docs, _ = synced.state.select("woocommerce", "order", order="at")
    order = next(doc for doc in docs if doc.body["status"] == "completed" and doc.body["currency"] == "PLN")
    at = datetime(2025, 4, 1, 1, tzinfo=UTC)
    body = {**order.body, "id": 99_001, "number": "99001", "date_created_gmt": "2025-04-01T01:00:00"}
    body |= {"date_modified_gmt": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"}
    synced.state.put(
        "woocommerce", "order", [Doc("99001", body, at=at.timestamp(), changed=datetime.now(UTC).timestamp())]
    )
    synced.sync("shop", pushes=False)
    assert lines(bridged(synced, period="2025-03"))["time zone"] == 0
    zone = Doc("timezone", {"value": "America/New_York"}, at=0, changed=0)
    synced.state.put("woocommerce", "setting", [zone])
    for month, sign in (("2025-03", -1), ("2025-04", 1)):
        found = bridged(synced, period=month)
        adds_up(found)
        line = next(line for line in found["lines"] if line["line"] == "time zone")
        assert {"ref": "shop:99001", "amount_minor": sign * minor(body["total"])} in line["opened"]


def test_an_order_that_the_shop_counts_and_the_policy_does_not(synced: World) -> None:
    docs, _ = synced.state.select("woocommerce", "order", order="at")
    claimed = bridged(synced)
    unmatched = {o["ref"] for line in claimed["lines"] if line["line"] == "no match" for o in line["opened"]}
    order = next(
        doc
        for doc in docs
        if doc.body["status"] == "completed"
        and not doc.body["refunds"]
        and doc.body["currency"] == "PLN"
        and f"shop:{doc.id}" not in unmatched
    )
    body = {**order.body, "status": "on-hold"}
    body |= {"date_modified_gmt": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"}
    changed = datetime.now(UTC).timestamp()
    synced.state.put("woocommerce", "order", [replace(order, body=body, changed=changed)])
    before = bridged(synced)
    adds_up(before)
    assert lines(before)["statuses"] == -minor(body["total"])
    assert lines(before)["not reconciled"] == minor(body["total"]), "the books have not heard of it yet"
    synced.sync("shop", pushes=False)
    found = bridged(synced)
    adds_up(found)
    assert lines(found)["not reconciled"] == 0
    assert lines(found)["statuses"] == -minor(body["total"])
    assert found["claimed_minor"] == claimed["claimed_minor"], "the platform keeps its claim"
    assert found["residual_minor"] == 0
