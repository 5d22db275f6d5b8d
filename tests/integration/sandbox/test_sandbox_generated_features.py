"""The invented shop: repeatable, exact to the grosz, and holding each thing that Olist's data lacks."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.sandbox.generated import generate
from connectors.sandbox.state import Doc, State

TODAY = datetime(2026, 11, 23, 21, 0, tzinfo=UTC)
KINDS = {
    "woocommerce": ("setting", "product", "customer", "order", "refund"),
    "meta": ("account", "page", "form", "campaign", "lead", "insight"),
    "mailchimp": ("list", "member", "campaign", "activity", "unsubscribe"),
    "hubspot": ("owner", "contact"),
}
REASON = "rejection_reason"


def minor(text: str) -> int:
    whole, _, part = text.lstrip("-").partition(".")
    assert len(part) == 2, text
    return (-1 if text.startswith("-") else 1) * (int(whole) * 100 + int(part))


def docs(state: State, vendor: str, kind: str) -> list[Doc]:
    return state.select(vendor, kind)[0]


def everything(state: State) -> dict[str, list[Doc]]:
    return {f"{v}/{kind}": docs(state, v, kind) for v, kinds in KINDS.items() for kind in kinds}


def made(folder: Path, **options: Any) -> tuple[State, list[dict[str, str]]]:
    options = {"seed": 1, "people": 600, "today": TODAY} | options
    generate(folder / "state.sqlite", leads_csv=folder / "leads.csv", **options)
    with (folder / "leads.csv").open(encoding="utf-8", newline="") as file:
        return State(folder / "state.sqlite"), list(csv.DictReader(file))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[State, list[dict[str, str]]]:
    return made(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def state(shop: tuple[State, list[dict[str, str]]]) -> State:
    return shop[0]


@pytest.fixture(scope="module")
def orders(state: State) -> list[dict[str, Any]]:
    return [doc.body for doc in docs(state, "woocommerce", "order")]


@pytest.fixture(scope="module")
def contacts(state: State) -> list[dict[str, Any]]:
    return [doc.body for doc in docs(state, "hubspot", "contact")]


def meta(order: dict[str, Any]) -> dict[str, str]:
    prefix = "_wc_order_attribution_"
    return {entry["key"].removeprefix(prefix): entry["value"] for entry in order["meta_data"]}


def test_the_same_seed_and_day_give_the_same_and_another_seed_does_not(tmp_path: Path) -> None:
    first, second, other = (
        made(tmp_path / name, seed=seed, people=80) for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    assert everything(first[0]) == everything(second[0])
    assert first[1] == second[1]
    assert everything(first[0])["woocommerce/order"] != everything(other[0])["woocommerce/order"]


def test_it_tells_of_its_progress(tmp_path: Path) -> None:
    said: list[str] = []
    made(tmp_path, people=20, progress=said.append)
    assert said
    assert all(isinstance(text, str) and text for text in said)


def test_every_order_adds_up_to_the_grosz(orders: list[dict[str, Any]]) -> None:
    for order in orders:
        parts = [*order["line_items"], *order["shipping_lines"], *order["fee_lines"]]
        net, tax = sum(minor(p["total"]) for p in parts), sum(minor(p["total_tax"]) for p in parts)
        assert net + tax == minor(order["total"]), order["id"]
        assert tax == minor(order["total_tax"]) > 0, order["id"]
        assert minor(order["cart_tax"]) + minor(order["shipping_tax"]) == tax
        assert sum(minor(p["total"]) for p in order["shipping_lines"]) == minor(order["shipping_total"])
        listed = [minor(t["tax_total"]) + minor(t["shipping_tax_total"]) for t in order["tax_lines"]]
        assert sum(listed) == tax
        for part in parts:
            gross = minor(part["total"]) + minor(part["total_tax"])
            assert abs(minor(part["total_tax"]) - gross * 23 / 123) <= 0.5
        assert order["prices_include_tax"] is True


def test_every_refund_fits_its_order(state: State, orders: list[dict[str, Any]]) -> None:
    by_order: dict[int, list[Doc]] = defaultdict(list)
    for doc in docs(state, "woocommerce", "refund"):
        assert doc.parent == str(doc.body["parent_id"])
        by_order[doc.body["parent_id"]].append(doc)
        parts = [*doc.body["line_items"], *doc.body["shipping_lines"], *doc.body["fee_lines"]]
        if parts:
            returned = -sum(minor(p["total"]) + minor(p["total_tax"]) for p in parts)
            assert returned == minor(doc.body["amount"])
    assert by_order
    for order in orders:
        refunds = by_order.pop(order["id"], [])
        amounts = {doc.body["id"]: minor(doc.body["amount"]) for doc in refunds}
        assert {row["id"]: -minor(row["total"]) for row in order["refunds"]} == amounts
        assert sum(amounts.values()) <= minor(order["total"])
        assert (order["status"] == "refunded") == (sum(amounts.values()) == minor(order["total"]))
        for doc in refunds:
            assert order["date_created_gmt"] < doc.body["date_created_gmt"] <= order["date_modified_gmt"]
    assert not by_order


def test_there_are_refunds_of_each_kind(state: State, orders: list[dict[str, Any]]) -> None:
    totals = {order["id"]: order["total"] for order in orders}
    kinds = Counter(
        "full"
        if doc.body["amount"] == totals[doc.body["parent_id"]]
        else "lines"
        if doc.body["line_items"]
        else "amount"
        for doc in docs(state, "woocommerce", "refund")
    )
    assert set(kinds) == {"full", "lines", "amount"}


def test_there_are_orders_of_each_fate_with_and_without_an_address(orders: list[dict[str, Any]]) -> None:
    statuses = Counter(order["status"] for order in orders)
    fates = {"completed", "processing", "pending", "cancelled", "failed", "refunded", "trash"}
    assert fates <= set(statuses)
    assert statuses["completed"] > sum(statuses.values()) / 2
    assert any(not order["billing"]["email"] for order in orders)
    currencies = Counter(order["currency"] for order in orders)
    assert set(currencies) == {"PLN", "EUR"}
    assert currencies["EUR"] <= 0.1 * len(orders)
    for order in orders:
        paid = order["date_paid_gmt"] is not None
        assert paid or order["status"] not in ("completed", "processing", "refunded")


def test_some_buy_again(orders: list[dict[str, Any]]) -> None:
    buyers = Counter(order["billing"]["email"].lower() for order in orders if order["billing"]["email"])
    assert sum(count > 1 for count in buyers.values()) >= 10


def test_orders_tell_the_visit_that_led_to_them(orders: list[dict[str, Any]]) -> None:
    origins = [meta(order) for order in orders]
    kinds = Counter(origin.get("source_type") for origin in origins)
    assert {"utm", "typein", "organic", None} <= set(kinds)
    entries = " ".join(origin.get("session_entry", "") for origin in origins)
    assert "gclid=" in entries
    assert "fbclid=" in entries
    assert all(o.get("utm_campaign") for o in origins if o.get("source_type") == "utm")
    assert not any(o.get("utm_campaign") for o in origins if o.get("source_type") == "typein")


def test_people_are_touched_several_times_on_several_ways(
    shop: tuple[State, list[dict[str, str]]], orders: list[dict[str, Any]]
) -> None:
    state, web = shop
    touches: dict[str, set[str]] = defaultdict(set)
    times: Counter[str] = Counter()

    def touch(email: str, way: str) -> None:
        touches[email.lower()].add(way)
        times[email.lower()] += 1

    for doc in docs(state, "meta", "lead"):
        touch(next(f["values"][0] for f in doc.body["field_data"] if f["name"] == "email"), "meta")
    for doc in docs(state, "mailchimp", "activity"):
        for action in doc.body["activity"]:
            if action["action"] in ("open", "click"):
                touch(doc.body["email_address"], action["action"])
    for order in orders:
        if meta(order).get("source_type") == "utm" and order["billing"]["email"]:
            touch(order["billing"]["email"], "visit")
    for row in web:
        touch(row["email"], "web")
    assert set().union(*touches.values()) == {"meta", "open", "click", "visit", "web"}
    assert sum(len(ways) >= 3 for ways in touches.values()) >= 20
    assert sum(times[email] >= 3 and len(touches[email]) >= 2 for email in times) >= 50


def test_the_web_form_writes_what_the_other_data_set_writes(shop: tuple[State, list[dict[str, str]]]) -> None:
    web = shop[1]
    assert list(web[0]) == ["lead_id", "email", "created", "origin", "landing_page", "campaign"]
    assert len({row["lead_id"] for row in web}) == len(web) >= 40
    assert any(row["campaign"] for row in web)
    assert any(not row["campaign"] for row in web)
    for row in web:
        datetime.strptime(row["created"], "%Y-%m-%d %H:%M:%S")


def test_spend_is_there_for_every_campaign_on_most_days(state: State) -> None:
    rows = docs(state, "meta", "insight")
    campaigns = {doc.id for doc in docs(state, "meta", "campaign")}
    days: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        assert minor(row.body["spend"]) > 0
        assert row.body["account_currency"] == "PLN"
        assert row.id == f"{row.body['date_start']}|{row.body['account_id']}|{row.body['ad_id']}"
        days[row.body["campaign_id"]].add(row.body["date_start"])
    assert set(days) == campaigns
    assert all(len(found) >= 90 for found in days.values())
    assert all(max(found) >= (TODAY - timedelta(days=4)).date().isoformat() for found in days.values())
    for lead in docs(state, "meta", "lead"):
        assert lead.body.get("campaign_id") in campaigns or lead.body["is_organic"]


def test_a_contacts_history_is_newest_first_and_ends_in_its_value(contacts: list[dict[str, Any]]) -> None:
    for body in contacts:
        for name, entries in body["history"].items():
            stamps = [entry["timestamp"] for entry in entries]
            assert stamps == sorted(stamps, reverse=True)
            assert (body["properties"][name] or "") == entries[0]["value"]
        assert {"lifecyclestage", "hs_lead_status"} <= set(body["history"])


def test_salespeople_take_leads_up_to_each_stage(state: State, contacts: list[dict[str, Any]]) -> None:
    reached = Counter(
        stage for body in contacts for stage in {e["value"] for e in body["history"]["lifecyclestage"]}
    )
    stages = ("lead", "marketingqualifiedlead", "salesqualifiedlead", "opportunity")
    assert all(reached[stage] for stage in stages)
    assert [reached[stage] for stage in stages] == sorted((reached[s] for s in stages), reverse=True)
    users = {doc.body["userIdIncludingInactive"] for doc in docs(state, "hubspot", "owner")}
    sellers = {
        entry["updatedByUserId"]
        for body in contacts
        for entry in body["history"]["lifecyclestage"]
        if entry["value"] == "salesqualifiedlead"
    }
    assert len(sellers) >= 3
    assert sellers <= users
    owners = {doc.id for doc in docs(state, "hubspot", "owner")}
    assert {body["properties"]["hubspot_owner_id"] for body in contacts} <= owners


def test_rejections_say_why_a_few_seconds_later(contacts: list[dict[str, Any]]) -> None:
    kinds: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for body in contacts:
        given = [
            (datetime.fromisoformat(entry["timestamp"]), entry)
            for entry in body["history"].get(REASON, [])
            if entry["value"]
        ]
        for entry in body["history"]["hs_lead_status"]:
            if entry["value"] not in ("UNQUALIFIED", "BAD_TIMING"):
                continue
            at = datetime.fromisoformat(entry["timestamp"])
            after = [e for when, e in given if timedelta(0) < when - at <= timedelta(minutes=1)]
            assert len(after) == 1, body["properties"]["hs_object_id"]
            assert after[0]["updatedByUserId"] == entry["updatedByUserId"]
            kinds[entry["value"]] += 1
            reasons[after[0]["value"].lower()] += 1
    assert kinds["UNQUALIFIED"] >= 5
    assert kinds["BAD_TIMING"] >= 5
    assert {"no budget", "wrong product", "not reachable", "competitor"} <= set(reasons)


def test_some_leads_are_recycled_and_accepted_again(contacts: list[dict[str, Any]]) -> None:
    again = 0
    for body in contacts:
        statuses = sorted((e["timestamp"], e["value"]) for e in body["history"]["hs_lead_status"])
        rejected = [at for at, value in statuses if value in ("UNQUALIFIED", "BAD_TIMING")]
        reopened = [at for at, value in statuses if value == "OPEN" and rejected and at > rejected[0]]
        accepted = [
            entry
            for entry in body["history"]["lifecyclestage"]
            if reopened
            and entry["value"] in ("marketingqualifiedlead", "salesqualifiedlead")
            and entry["timestamp"] > reopened[0]
        ]
        again += bool(accepted)
    assert again >= 3


def test_a_phone_and_an_address_are_shared_by_many(state: State) -> None:
    emails: dict[str, set[str]] = defaultdict(set)
    phones: dict[str, set[str]] = defaultdict(set)

    def seen(email: str | None, phone: str | None) -> None:
        if email and phone:
            digits = "".join(filter(str.isdigit, phone))[-9:]
            emails[digits].add(email.lower())
            phones[email.lower()].add(digits)

    for doc in docs(state, "woocommerce", "order"):
        seen(doc.body["billing"]["email"], doc.body["billing"]["phone"])
    for doc in docs(state, "meta", "lead"):
        answers = {field["name"]: field["values"][0] for field in doc.body["field_data"]}
        seen(answers.get("email"), answers.get("phone_number"))
    for doc in docs(state, "hubspot", "contact"):
        seen(doc.body["properties"].get("email"), doc.body["properties"].get("phone"))
    for doc in docs(state, "mailchimp", "member"):
        seen(doc.body["email_address"], doc.body["merge_fields"].get("PHONE"))
    assert max(map(len, emails.values())) >= 5
    assert max(len(found) for email, found in phones.items() if email.startswith("info@")) >= 12


def test_nothing_lies_in_the_future_nor_long_ago(state: State) -> None:
    for name, found in everything(state).items():
        assert found, name
        for doc in found:
            assert doc.at <= doc.changed <= TODAY.timestamp(), (name, doc.id)
    first = min(doc.at for doc in docs(state, "woocommerce", "order"))
    assert timedelta(days=150) <= TODAY - datetime.fromtimestamp(first, UTC) <= timedelta(days=250)


def test_documents_carry_their_own_stamps(state: State) -> None:
    def unix(text: str) -> float:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

    for doc in docs(state, "woocommerce", "order"):
        assert unix(doc.body["date_created_gmt"]) == int(doc.at)
        assert unix(doc.body["date_modified_gmt"]) == int(doc.changed)
    for doc in docs(state, "mailchimp", "member"):
        assert unix(doc.body["last_changed"]) == int(doc.changed)
    for doc in docs(state, "hubspot", "contact"):
        assert unix(doc.body["properties"]["lastmodifieddate"]) == pytest.approx(doc.changed, abs=0.001)
    for doc in docs(state, "meta", "lead"):
        assert unix(doc.body["created_time"]) == int(doc.at)


def test_all_of_it_is_invented(state: State) -> None:
    for doc in [*docs(state, "hubspot", "contact"), *docs(state, "mailchimp", "member")]:
        email = doc.body.get("email_address") or doc.body["properties"]["email"]
        assert email.lower().endswith(("@example.com", "@example.net", "@example.org"))
