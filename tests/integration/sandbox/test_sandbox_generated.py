"""The invented shop: what it has that Olist lacks, and that its figures agree with each other."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from connectors.sandbox.generated import generate
from connectors.sandbox.state import Doc, State

TODAY = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
KINDS = (
    ("woocommerce", "order"),
    ("woocommerce", "refund"),
    ("woocommerce", "product"),
    ("woocommerce", "customer"),
    ("meta", "account"),
    ("meta", "form"),
    ("meta", "page"),
    ("meta", "campaign"),
    ("meta", "lead"),
    ("meta", "insight"),
    ("mailchimp", "list"),
    ("mailchimp", "member"),
    ("mailchimp", "campaign"),
    ("mailchimp", "activity"),
    ("mailchimp", "unsubscribe"),
    ("hubspot", "contact"),
    ("hubspot", "owner"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated")
    generate(folder / "state.db", seed=1, leads_csv=folder / "leads.csv", today=TODAY)
    return folder


@pytest.fixture(scope="module")
def state(folder: Path) -> State:
    return State(folder / "state.db")


def every(state: State, vendor: str, kind: str) -> list[Doc]:
    return state.select(vendor, kind)[0]


def attribution(order: Doc) -> dict[str, str]:
    prefix = "_wc_order_attribution_"
    return {entry["key"].removeprefix(prefix): entry["value"] for entry in order.body["meta_data"]}


def gross(line: dict) -> Decimal:
    return Decimal(line["total"]) + Decimal(line["total_tax"])


def answers(lead: Doc) -> dict[str, str]:
    return {field["name"]: field["values"][0] for field in lead.body["field_data"]}


def test_every_order_sums_up_and_its_tax_is_23_percent(state: State) -> None:
    orders = every(state, "woocommerce", "order")

    assert len(orders) > 300
    for order in orders:
        body = order.body
        lines = [*body["line_items"], *body["shipping_lines"]]
        assert sum(gross(line) for line in lines) == Decimal(body["total"])
        assert sum(Decimal(line["total_tax"]) for line in lines) == Decimal(body["total_tax"])
        for line in lines:
            assert abs(Decimal(line["total"]) * Decimal("0.23") - Decimal(line["total_tax"])) <= Decimal(
                "0.01"
            )


def test_refunds_of_each_kind_never_exceed_their_order(state: State) -> None:
    orders = {order.id: order for order in every(state, "woocommerce", "order")}
    refunds = every(state, "woocommerce", "refund")
    kinds = Counter()
    for refund in refunds:
        order = orders[refund.parent].body
        amount = Decimal(refund.body["amount"])
        assert [(r["id"], -Decimal(r["total"])) for r in order["refunds"]] == [(refund.body["id"], amount)]
        assert order["date_modified_gmt"] == refund.body["date_created_gmt"]
        assert order["date_paid_gmt"] < refund.body["date_created_gmt"]
        lines = [*refund.body["line_items"], *refund.body["shipping_lines"]]
        if amount == Decimal(order["total"]):
            kinds["full"] += 1
            assert order["status"] == "refunded"
        else:
            kinds["lines" if lines else "amount"] += 1
            assert order["status"] == "completed"
            assert amount < Decimal(order["total"])
        if lines:
            assert -sum(gross(line) for line in lines) == amount
    assert min(kinds[kind] for kind in ("full", "lines", "amount")) >= 2


def test_orders_and_refunds_share_their_numbers_in_order_of_time(state: State) -> None:
    posts = [doc for kind in ("order", "refund") for doc in every(state, "woocommerce", kind)]
    posts.sort(key=lambda doc: int(doc.id))

    assert [int(doc.id) for doc in posts] == list(range(10001, 10001 + len(posts)))
    assert [doc.at for doc in posts] == sorted(doc.at for doc in posts)


def test_there_are_all_sorts_of_orders(state: State) -> None:
    orders = every(state, "woocommerce", "order")
    statuses = Counter(order.body["status"] for order in orders)
    buyers = Counter(order.body["billing"]["email"].lower() for order in orders)
    unpaid = [order for order in orders if order.body["status"] == "pending"]
    entries = " ".join(attribution(order).get("session_entry", "") for order in orders)

    assert set(statuses) == {"completed", "processing", "pending", "cancelled", "failed", "refunded", "trash"}
    assert all(order.body["date_paid_gmt"] is None for order in unpaid)
    assert {order.body["currency"] for order in orders} == {"PLN", "EUR"}
    assert 0 < sum(order.body["currency"] == "EUR" for order in orders) < len(orders) / 20
    assert buyers[""] >= 1
    assert sum(count > 1 for email, count in buyers.items() if email) > 30
    assert "gclid=" in entries
    assert "fbclid=" in entries
    assert {attribution(order).get("source_type") for order in orders} == {
        "utm",
        "organic",
        "referral",
        "typein",
        None,
    }


def test_many_people_have_several_touches(state: State) -> None:
    touches: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for lead in every(state, "meta", "lead"):
        touches[answers(lead)["email"]].add(("meta", lead.id))
    for row in every(state, "mailchimp", "activity"):
        for action in row.body["activity"]:
            if action["action"] == "click":
                touches[row.body["email_address"]].add(("click", action["timestamp"]))
    for order in every(state, "woocommerce", "order"):
        if attribution(order):
            touches[order.body["billing"]["email"].lower()].add(("visit", order.id))

    assert sum(len(kinds) >= 2 for kinds in touches.values()) > 100
    assert sum(len({kind for kind, _ in found}) >= 2 for found in touches.values()) > 50


def test_sales_rejects_with_reasons_and_recycles(state: State) -> None:
    contacts = every(state, "hubspot", "contact")
    rejected = [
        c for c in contacts if c.body["properties"].get("hs_lead_status") in ("UNQUALIFIED", "BAD_TIMING")
    ]
    recycled = 0
    users = set()
    for contact in contacts:
        properties, history = contact.body["properties"], contact.body["history"]
        for name, entries in history.items():
            assert properties[name] == entries[0]["value"]
            stamps = [entry["timestamp"] for entry in entries]
            assert stamps == sorted(stamps, reverse=True)
            assert stamps[0] <= properties["lastmodifieddate"]
            users |= {entry["updatedByUserId"] for entry in entries if "updatedByUserId" in entry}
        stages = [entry["value"] for entry in reversed(history["lifecyclestage"])]
        if "" in stages:
            recycled += 1
            assert stages[stages.index("") + 1] == "lead"

    assert len(rejected) >= 20
    assert len({c.body["properties"]["rejection_reason"] for c in rejected}) >= 4
    assert all(c.body["properties"]["rejection_reason"] for c in rejected)
    assert recycled >= 5
    assert users <= {doc.body["userIdIncludingInactive"] for doc in every(state, "hubspot", "owner")}
    assert len(users) == 4


def test_a_contact_is_there_once_for_each_address(state: State) -> None:
    emails = Counter(c.body["properties"]["email"] for c in every(state, "hubspot", "contact"))

    assert set(emails.values()) == {1}


def test_phones_and_an_address_are_shared(state: State) -> None:
    names: dict[str, set[str]] = defaultdict(set)
    for order in every(state, "woocommerce", "order"):
        billing = order.body["billing"]
        name = f"{billing['first_name']} {billing['last_name']}"
        names[billing["phone"].replace(" ", "")].add(name)
        names[billing["email"].lower()].add(name)

    assert len(names["225550100"]) >= 3
    assert len(names["info@example.com"]) >= 2


def test_spend_is_by_day_and_ad_within_the_days_of_the_shop(state: State) -> None:
    rows = [row.body for row in every(state, "meta", "insight")]
    keys = {(row["date_start"], row["ad_id"]) for row in rows}
    campaigns = {doc.id for doc in every(state, "meta", "campaign")}

    assert len(keys) == len(rows) > 1000
    assert max(row["date_start"] for row in rows) == "2026-11-19"
    assert {row["campaign_id"] for row in rows} == campaigns
    assert all(Decimal(row["spend"]) > 0 for row in rows)


def test_mail_actions_come_after_the_mail_and_the_sign_up(state: State) -> None:
    sent = {doc.id: doc.body["send_time"] for doc in every(state, "mailchimp", "campaign")}
    members = {doc.body["email_address"]: doc.body for doc in every(state, "mailchimp", "member")}
    for row in every(state, "mailchimp", "activity"):
        assert members[row.body["email_address"]]["timestamp_signup"] < sent[row.parent]
        assert all(action["timestamp"] > sent[row.parent] for action in row.body["activity"])
    left = {doc.body["email_address"] for doc in every(state, "mailchimp", "unsubscribe")}

    assert {email for email, body in members.items() if body["status"] == "unsubscribed"} == left
    assert left


def test_nothing_lies_in_the_future(state: State, folder: Path) -> None:
    for vendor, kind in KINDS:
        docs = every(state, vendor, kind)
        assert docs, kind
        assert max(max(doc.at, doc.changed) for doc in docs) <= TODAY.timestamp(), kind
    with (folder / "leads.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 50
    assert max(row["created"] for row in rows) < "2026-11-20 13:30:00"  # local: an hour ahead of UTC
    assert len({row["lead_id"] for row in rows}) == len(rows)
    assert {"", "referral/partner-blog"} <= {row["campaign"] for row in rows}


@pytest.mark.parametrize("seed", range(10, 16))
def test_what_would_come_later_is_cut_off(seed: int, tmp_path: Path) -> None:
    generate(tmp_path / "s.db", seed=seed, leads_csv=tmp_path / "l.csv", people=300, today=TODAY)
    state = State(tmp_path / "s.db")
    newest = {
        (vendor, kind): max((max(d.at, d.changed) for d in every(state, vendor, kind)), default=0.0)
        for vendor, kind in KINDS
    }

    assert {key for key, at in newest.items() if at > TODAY.timestamp()} == set()


def documents(path: Path) -> dict[tuple[str, str], dict[str, dict]]:
    state = State(path)
    return {(v, k): {doc.id: doc.body for doc in every(state, v, k)} for v, k in KINDS}


def test_the_same_seed_and_day_give_the_same_shop(folder: Path, tmp_path: Path) -> None:
    generate(tmp_path / "same.db", seed=1, leads_csv=tmp_path / "same.csv", today=TODAY)
    generate(tmp_path / "other.db", seed=2, leads_csv=tmp_path / "other.csv", today=TODAY)

    assert documents(tmp_path / "same.db") == documents(folder / "state.db")
    assert (tmp_path / "same.csv").read_text() == (folder / "leads.csv").read_text()
    assert documents(tmp_path / "other.db") != documents(folder / "state.db")


def test_a_day_without_a_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="time zone"):
        generate(tmp_path / "s.db", seed=1, leads_csv=tmp_path / "l.csv", today=datetime(2026, 11, 20))
