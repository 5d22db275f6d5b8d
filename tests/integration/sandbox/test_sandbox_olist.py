"""The sandbox filled with the whole Olist data; figures are derived from the CSV files here, by DuckDB."""

from __future__ import annotations

import calendar
import csv
import json
import sqlite3
import time
from collections import Counter
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pytest

from connectors.sandbox.accounts import MAILCHIMP_LIST, META_ACCOUNT, META_FORM, META_PAGE
from connectors.sandbox.olist import load_olist
from connectors.sandbox.state import Doc, State

DATA = Path(__file__).parents[2] / "data" / "olist"
LOAD_WITHIN_S = 30.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("olist")
    told: list[str] = []
    begun = time.monotonic()
    load_olist(DATA, folder / "state.db", leads_csv=folder / "in" / "leads.csv", progress=told.append)
    assert time.monotonic() - begun < LOAD_WITHIN_S
    assert any("order" in text for text in told)
    return folder


@pytest.fixture(scope="module")
def state(folder: Path) -> State:
    return State(folder / "state.db")


@pytest.fixture(scope="module")
def web_leads(folder: Path) -> list[dict[str, str]]:
    with (folder / "in" / "leads.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def ask(query: str) -> list[tuple]:
    """A query over the CSV files as views named `leads`, `deals`, `orders`, `items`."""
    db = duckdb.connect()
    for name, file in (
        ("leads", "olist_marketing_qualified_leads_dataset"),
        ("deals", "olist_closed_deals_dataset"),
        ("orders", "olist_orders_slice"),
        ("items", "olist_order_items_slice"),
        ("products", "olist_products_slice"),
    ):
        db.execute(f"CREATE VIEW {name} AS SELECT * FROM read_csv('{DATA}/{file}.csv', all_varchar=true)")
    return db.execute(query).fetchall()


def every(state: State, vendor: str, kind: str) -> list[Doc]:
    return state.select(vendor, kind)[0]


def meta_email(lead: Doc) -> str:
    return lead.body["field_data"][0]["values"][0]


def test_the_paid_orders_sum_to_the_figures_of_the_readme(state: State) -> None:
    paid = [
        d.body
        for d in every(state, "woocommerce", "order")
        if d.body["status"] in ("processing", "completed")
    ]

    assert len(paid) == 8891
    assert sum(Decimal(body["total"]) for body in paid) == Decimal("1472231.21")
    assert {body["currency"] for body in paid} == {"BRL"}


def test_every_order_is_that_of_the_files(state: State) -> None:
    expected = ask("""
        SELECT order_id, seller_id, order_status, order_purchase_timestamp, order_approved_at,
               sum(price::DECIMAL(12,2) + freight_value::DECIMAL(12,2)), sum(freight_value::DECIMAL(12,2)), count(*),
               epoch(timezone('America/Sao_Paulo', order_purchase_timestamp::TIMESTAMP)),
               epoch(timezone('America/Sao_Paulo', greatest(order_purchase_timestamp::TIMESTAMP,
                   order_approved_at::TIMESTAMP, order_delivered_carrier_date::TIMESTAMP,
                   order_delivered_customer_date::TIMESTAMP)))
        FROM items JOIN orders USING (order_id) GROUP BY ALL""")
    shown = {
        "delivered": "completed",
        "shipped": "completed",
        "invoiced": "completed",
        "processing": "processing",
        "canceled": "cancelled",
        "unavailable": "failed",
    }
    found = {}
    for doc in every(state, "woocommerce", "order"):
        body = doc.body
        meta = {entry["key"]: entry["value"] for entry in body["meta_data"]}
        assert body["order_key"].endswith(f"{meta['_olist_order_id']}_{meta['_olist_seller_id']}")
        found[meta["_olist_order_id"], meta["_olist_seller_id"]] = (
            body["status"],
            body["date_created"],
            body["date_paid"],
            Decimal(body["total"]),
            Decimal(body["shipping_total"]),
            len(body["line_items"]),
            doc.at,
            doc.changed,
        )

    assert found.keys() == {row[:2] for row in expected}
    for order, seller, status, bought, approved, total, shipping, lines, at, changed in expected:
        *facts, found_at, found_changed = found[order, seller]
        paid = approved and approved.replace(" ", "T")
        assert facts == [shown[status], bought.replace(" ", "T"), paid, total, shipping, lines]
        # Clocks went back at midnight, so the hour before it came twice: either reading is right.
        twice = bought.startswith(("2017-02-18 23", "2018-02-17 23"))
        assert at - found_at in ((0, 3600) if twice else (0,))
        assert changed == found_changed


def test_times_in_utc_follow_the_daylight_saving_of_sao_paulo(state: State) -> None:
    by_key = {doc.body["order_key"]: doc.body for doc in every(state, "woocommerce", "order")}
    # Bought in January (UTC-2) and in September (UTC-3).
    summer = next(b for k, b in by_key.items() if b["date_created"].startswith("2018-01"))
    winter = next(b for k, b in by_key.items() if b["date_created"].startswith("2017-09"))

    for body, hours in ((summer, 2), (winter, 3)):
        local, utc = (
            time.strptime(body[name], "%Y-%m-%dT%H:%M:%S") for name in ("date_created", "date_created_gmt")
        )
        assert calendar.timegm(utc) - calendar.timegm(local) == hours * 3600


def test_orders_are_numbered_by_time_and_sum_up_in_themselves(state: State) -> None:
    docs = every(state, "woocommerce", "order")
    products = {doc.id: doc.body for doc in every(state, "woocommerce", "product")}

    assert [doc.number for doc in docs] == list(range(docs[0].number, docs[0].number + 8925))
    assert [doc.at for doc in docs] == sorted(doc.at for doc in docs)
    ids = Counter()
    for doc in docs:
        body = doc.body
        lines = [Decimal(line["total"]) for line in body["line_items"] + body["shipping_lines"]]
        assert sum(lines) == Decimal(body["total"])
        assert str(body["id"]) == body["number"] == doc.id
        ids.update(line["id"] for line in body["line_items"] + body["shipping_lines"])
        for line in body["line_items"]:
            assert products[str(line["product_id"])]["sku"] == line["sku"]
    assert max(ids.values()) == 1


def test_every_product_is_there_with_the_time_and_price_of_its_first_sale(state: State) -> None:
    expected = ask("""
        SELECT product_id, min(order_purchase_timestamp),
               arg_min(price::DECIMAL(12,2), (order_purchase_timestamp, order_id, seller_id, order_item_id::INT))
        FROM products JOIN items USING (product_id) JOIN orders USING (order_id) GROUP BY 1""")
    found = {doc.body["sku"]: doc.body for doc in every(state, "woocommerce", "product")}

    assert found.keys() == {id for (id,) in ask("SELECT product_id FROM products")}
    for id, sold, price in expected:
        assert found[id]["date_created"] == sold.replace(" ", "T")
        assert Decimal(found[id]["price"]) == price
    # The slice has no sale of some: they have no price.
    assert sum(body["price"] == "" for body in found.values()) == len(found) - len(expected)


def test_the_billing_address_leads_to_the_lead_that_became_the_seller(state: State) -> None:
    lead_of = dict(ask("SELECT seller_id, mql_id FROM deals"))
    kinds = Counter()
    for doc in every(state, "woocommerce", "order"):
        seller = next(e["value"] for e in doc.body["meta_data"] if e["key"] == "_olist_seller_id")
        expected = f"{lead_of[seller]}@example.com" if seller in lead_of else f"{seller}@example.net"
        assert doc.body["billing"]["email"] == expected
        kinds[expected.rpartition(".")[2]] += 1
    assert min(kinds.values()) > 100


def test_the_8000_leads_come_from_three_sources_and_none_twice(
    state: State, web_leads: list[dict[str, str]]
) -> None:
    emails = {
        "meta": {meta_email(doc) for doc in every(state, "meta", "lead")},
        "mailchimp": {doc.body["email_address"] for doc in every(state, "mailchimp", "member")},
        "files": {row["email"] for row in web_leads},
    }
    expected = {
        source: {email for (email,) in ask(f"SELECT mql_id || '@example.com' FROM leads WHERE {where}")}
        for source, where in (
            ("meta", "origin IN ('social', 'display', 'paid_search', 'other_publicities')"),
            ("mailchimp", "origin = 'email'"),
            (
                "files",
                "coalesce(origin, '') NOT IN ('social', 'display', 'paid_search', 'other_publicities', 'email')",
            ),
        )
    }

    assert emails == expected
    assert (
        len(every(state, "meta", "lead")) + len(every(state, "mailchimp", "member")) + len(web_leads) == 8000
    )
    assert len(set.union(*emails.values())) == 8000


def test_leads_by_campaign_are_those_of_the_files(state: State, web_leads: list[dict[str, str]]) -> None:
    names = {doc.id: doc.body["name"] for doc in every(state, "meta", "campaign")}
    titles = {doc.id: doc.body["settings"]["title"] for doc in every(state, "mailchimp", "campaign")}
    found = Counter(names[doc.body["campaign_id"]] for doc in every(state, "meta", "lead"))
    found.update(titles[doc.parent] for doc in every(state, "mailchimp", "activity"))
    found.update(row["campaign"] for row in web_leads)

    assert found == dict(
        ask("""SELECT CASE WHEN coalesce(origin, 'unknown') = 'unknown' THEN ''
                           ELSE origin || '/' || substr(landing_page_id, 1, 8) END, count(*)
               FROM leads GROUP BY 1""")
    )


def test_a_contact_is_at_local_midnight(state: State, web_leads: list[dict[str, str]]) -> None:
    at = dict(
        ask("""SELECT mql_id || '@example.com',
                      epoch(timezone('America/Sao_Paulo', first_contact_date::TIMESTAMP)) FROM leads""")
    )
    day = dict(ask("SELECT mql_id, first_contact_date FROM leads"))
    iso = "%Y-%m-%dT%H:%M:%S"

    for doc in every(state, "meta", "lead"):
        assert doc.at == at[meta_email(doc)]
        assert doc.body["created_time"] == time.strftime(f"{iso}+0000", time.gmtime(doc.at))
    for doc in every(state, "mailchimp", "member"):
        stamp = time.strftime(f"{iso}+00:00", time.gmtime(at[doc.body["email_address"]]))
        assert {doc.body[n] for n in ("timestamp_signup", "timestamp_opt", "last_changed")} == {stamp}
    for row in web_leads:
        assert row["created"] == f"{day[row['lead_id']]} 00:00:00"


def test_meta_holds_together(state: State) -> None:
    (account,), (page,), (form,) = (every(state, "meta", kind) for kind in ("account", "page", "form"))
    leads = every(state, "meta", "lead")
    spent = Counter((d.body["campaign_id"], d.body["date_start"]) for d in every(state, "meta", "insight"))
    local_days = Counter((d.body["campaign_id"], d.at) for d in leads)

    assert (account.id, page.id, form.id, form.parent) == (META_ACCOUNT, META_PAGE, META_FORM, META_PAGE)
    assert (account.body["currency"], account.body["timezone_name"]) == ("BRL", "America/Sao_Paulo")
    assert {lead.parent for lead in leads} == {META_FORM}
    assert max(spent.values()) == 1
    assert len(spent) == len(local_days)
    for doc in every(state, "meta", "insight"):
        body = doc.body
        assert doc.id == f"{body['date_start']}|{body['account_id']}|{body['ad_id']}"
        assert (
            doc.at == time.mktime(time.strptime(f"{body['date_start']} UTC", "%Y-%m-%d %Z")) - time.timezone
        )
        assert int(body["impressions"]) >= int(body["clicks"]) > 0


def test_spend_lies_within_what_is_said_for_each_lead(state: State) -> None:
    leads = Counter()
    for doc in every(state, "meta", "lead"):
        # Midnight is 2 or 3 hours after that of UTC, so the UTC day is the local one.
        leads[doc.body["campaign_id"], doc.body["created_time"][:10]] += 1
    for doc in every(state, "meta", "insight"):
        count = leads.pop((doc.body["campaign_id"], doc.body["date_start"]))
        assert 8 * count <= Decimal(doc.body["spend"]) <= 25 * count
    assert not leads


def test_mailchimp_holds_together(state: State) -> None:
    members = {doc.body["id"]: doc for doc in every(state, "mailchimp", "member")}
    campaigns = {doc.id: doc for doc in every(state, "mailchimp", "campaign")}

    assert [doc.id for doc in every(state, "mailchimp", "list")] == [MAILCHIMP_LIST]
    for doc in every(state, "mailchimp", "activity"):
        (click,) = doc.body["activity"]
        member, campaign = members[doc.body["email_id"]], campaigns[doc.parent]
        assert doc.id == f"{campaign.id}:{member.body['id']}"
        assert (click["action"], click["timestamp"]) == ("click", member.body["timestamp_signup"])
        assert doc.changed == member.at > campaign.at
    for doc in members.values():
        assert doc.id == f"{MAILCHIMP_LIST}:{doc.body['id']}"
        assert doc.body["status"] == "subscribed"
    assert set(members) == {
        md5 for (md5,) in ask("SELECT md5(mql_id || '@example.com') FROM leads WHERE origin = 'email'")
    }


def test_the_crm_holds_the_842_deals_and_who_made_them(state: State) -> None:
    owners = {doc.id: doc.body for doc in every(state, "hubspot", "owner")}
    found = {}
    for doc in every(state, "hubspot", "contact"):
        properties = doc.body["properties"]
        (change,) = doc.body["history"]["lifecyclestage"]
        owner = owners[properties["hubspot_owner_id"]]
        assert (properties["lifecyclestage"], change["value"]) == ("salesqualifiedlead", "salesqualifiedlead")
        assert change["updatedByUserId"] == owner["userId"]
        assert change["sourceId"] == f"userId:{owner['userId']}"
        assert properties["createdate"] == properties["lastmodifieddate"] == change["timestamp"]
        assert all(value is None or isinstance(value, str) for value in properties.values())
        found[properties["email"]] = (owner["email"], owner["firstName"], properties["found_by"], doc.at)

    assert len(found) == 842
    assert found == {
        f"{lead}@example.com": (f"{sr}@example.com", "Sales", sdr, at)
        for lead, sr, sdr, at in ask("""SELECT mql_id, sr_id, sdr_id,
            epoch(timezone('America/Sao_Paulo', won_date::TIMESTAMP)) FROM deals""")
    }
    people = {f"{id}@example.com" for (id,) in ask("SELECT sr_id FROM deals UNION SELECT sdr_id FROM deals")}
    assert Counter(owner["email"] for owner in owners.values()) == dict.fromkeys(people, 1)
    assert not {owner["userId"] for owner in owners.values()} & {int(id) for id in owners}


def test_what_the_vendors_hold_leads_to_the_truth_of_the_readme(
    state: State, web_leads: list[dict[str, str]]
) -> None:
    names = {doc.id: doc.body["name"] for doc in every(state, "meta", "campaign")}
    titles = {doc.id: doc.body["settings"]["title"] for doc in every(state, "mailchimp", "campaign")}
    touches = {meta_email(d): (d.at, names[d.body["campaign_id"]]) for d in every(state, "meta", "lead")}
    touches |= {
        d.body["email_address"]: (d.changed, titles[d.parent]) for d in every(state, "mailchimp", "activity")
    }
    for row in web_leads:
        local = datetime.fromisoformat(row["created"]).replace(tzinfo=ZoneInfo("America/Sao_Paulo"))
        touches[row["email"]] = (local.timestamp(), row["campaign"])

    won, credited, unattributed = set(), Counter(), Counter()
    for doc in every(state, "woocommerce", "order"):
        if doc.body["status"] not in ("processing", "completed"):
            continue
        email, total = doc.body["billing"]["email"], Decimal(doc.body["total"])
        at, campaign = touches.get(email, (None, ""))
        if at is not None and doc.at >= at:
            won.add(email)
        if campaign:
            assert 0 <= doc.at - at <= 365 * 86_400
            credited[campaign] += total
        else:
            unattributed["no lead" if at is None else "no campaign known"] += total

    assert (len(won), len(credited)) == (234, 73)
    assert sum(credited.values()) == Decimal("130332.72")
    assert unattributed == {"no lead": Decimal("1284770.45"), "no campaign known": Decimal("57128.04")}


def rows(path: Path) -> list[tuple]:
    db = sqlite3.connect(path)
    try:
        return db.execute("SELECT * FROM docs ORDER BY vendor, kind, id").fetchall()
    finally:
        db.close()


def test_the_same_seed_gives_the_same_documents_and_another_only_other_spend(
    folder: Path, tmp_path: Path
) -> None:
    for seed in (1, 2):
        load_olist(DATA, tmp_path / f"{seed}.db", leads_csv=tmp_path / f"{seed}.csv", seed=seed)
    first, second = rows(tmp_path / "1.db"), rows(tmp_path / "2.db")

    assert first == rows(folder / "state.db")
    assert (tmp_path / "1.csv").read_bytes() == (folder / "in" / "leads.csv").read_bytes()
    changed = [(a, b) for a, b in zip(first, second, strict=True) if a != b]
    assert {a[1] for a, _ in changed} == {"insight"}
    spend = [sum(Decimal(json.loads(pair[i][-1])["spend"]) for pair in changed) for i in (0, 1)]
    assert spend[0] != spend[1]


def test_a_missing_file_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="olist_"):
        load_olist(tmp_path, tmp_path / "state.db", leads_csv=tmp_path / "leads.csv")

    assert list(tmp_path.iterdir()) == []


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    for file in DATA.glob("*.csv"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    deals = tmp_path / "olist_closed_deals_dataset.csv"
    deals.write_text("".join(deals.read_text().splitlines(keepends=True)[:3]) + "only,three,columns\n")

    with pytest.raises(ValueError, match=r"olist_closed_deals_dataset.csv, line 4"):
        load_olist(tmp_path, tmp_path / "state.db", leads_csv=tmp_path / "leads.csv")
