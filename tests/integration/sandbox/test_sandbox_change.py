"""What `change` does, as a client sees it over HTTP: exactly what its lines say, stamped with its time."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from authlib.integrations.httpx_client import OAuth1Auth

from connectors.sandbox import accounts
from connectors.sandbox.change import change
from connectors.sandbox.generated import generate
from connectors.sandbox.olist import load_olist
from connectors.sandbox.server import Server
from connectors.sandbox.state import State

FILLED = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
BEFORE = "2026-11-21T07:59:59"
OLIST = Path(__file__).parents[2] / "data" / "olist"
OLIST_SLICE = {
    "olist_marketing_qualified_leads_dataset.csv": 8000,
    "olist_closed_deals_dataset.csv": 842,
    "olist_orders_slice.csv": 300,
    "olist_order_items_slice.csv": 20000,
    "olist_order_payments_slice.csv": 20000,
    "olist_customers_slice.csv": 20000,
    "olist_products_slice.csv": 20000,
    "olist_sellers_dataset.csv": 20000,
}


class Vendors:
    """The four vendors as a client with the sandbox's keys sees them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url)

    def orders(self, **query: str) -> list[dict[str, Any]]:
        auth = OAuth1Auth(accounts.WOO_KEY, accounts.WOO_SECRET, force_include_body=False)
        found: list[dict[str, Any]] = []
        while True:
            page = len(found) // 100 + 1
            params = {"per_page": "100", "page": str(page), "dates_are_gmt": "true"} | query
            answer = self.http.get("/woocommerce/wp-json/wc/v3/orders", params=params, auth=auth)
            answer.raise_for_status()
            found += answer.json()
            if page >= int(answer.headers["X-WP-TotalPages"]):
                return found

    def meta(self, path: str, **params: str) -> list[dict[str, Any]]:
        headers = {"Authorization": f"Bearer {accounts.META_TOKEN}"}
        answer = self.http.get(f"/meta/v25.0/{path}", params={"limit": "500"} | params, headers=headers)
        answer.raise_for_status()
        return answer.json()["data"]

    def mailchimp(self, path: str, **params: str) -> dict[str, Any]:
        answer = self.http.get(f"/mailchimp/3.0/{path}", params=params, auth=("any", accounts.MAILCHIMP_KEY))
        answer.raise_for_status()
        return answer.json()

    def contacts(self, since: datetime) -> list[dict[str, Any]]:
        value = str(int(since.timestamp() * 1000))
        filters = [{"propertyName": "lastmodifieddate", "operator": "GTE", "value": value}]
        body = {
            "filterGroups": [{"filters": filters}],
            "properties": ["email", "lifecyclestage", "hs_lead_status", "rejection_reason"],
            "limit": 100,
        }
        headers = {"Authorization": f"Bearer {accounts.HUBSPOT_TOKEN}"}
        answer = self.http.post("/hubspot/crm/v3/objects/contacts/search", json=body, headers=headers)
        answer.raise_for_status()
        return answer.json()["results"]


class Changed:
    """A sandbox before and after one change, and what the change said of itself."""

    def __init__(self, folder: Path, url: str) -> None:
        self.vendors = Vendors(url)
        self.leads_csv = folder / "leads.csv"
        self.csv_before = self.leads_csv.read_text()
        self.orders_before = {order["id"]: order for order in self.vendors.orders()}
        self.spend_before = self.spend()
        self.lines = change(folder / "state.db", leads_csv=self.leads_csv, seed=5, now=NOW)

    def spend(self) -> dict[tuple[str, str], str]:
        rows = self.vendors.meta(
            f"{accounts.META_ACCOUNT}/insights",
            level="ad",
            time_increment="1",
            time_range=json.dumps({"since": "2026-10-20", "until": "2026-11-21"}),
            fields="ad_id,spend,date_start",
        )
        return {(row["date_start"], row["ad_id"]): row["spend"] for row in rows}

    def said(self, pattern: str) -> list[int]:
        """The numbers in the lines that match."""
        return [int(match[1]) for line in self.lines if (match := re.search(pattern, line))]


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changed]:
    folder = tmp_path_factory.mktemp("changed")
    generate(folder / "state.db", seed=1, leads_csv=folder / "leads.csv", people=250, today=FILLED)
    with Server(folder / "state.db") as server:
        yield Changed(folder, server.url)


def by_post_number(orders: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {order["id"]: order for order in orders}


def gross(lines: list[dict[str, Any]]) -> Decimal:
    return sum((Decimal(line["total"]) + Decimal(line["total_tax"]) for line in lines), Decimal(0))


def test_the_shop_shows_exactly_the_orders_that_were_named(changed: Changed) -> None:
    orders = by_post_number(changed.vendors.orders(modified_after=BEFORE, orderby="modified"))
    new = changed.said(r"new order (\d+)")
    old = changed.said(r"(?:edited order|cancelled order|refund \d+ of order) (\d+)")

    assert (len(new), len(old)) == (4, 4)
    assert set(orders) == {*new, *old}
    assert len(orders) == 8
    assert not set(new) & set(changed.orders_before)
    assert {order["date_modified_gmt"] for order in orders.values()} == {"2026-11-21T08:00:00"}
    untouched = [order for order in changed.vendors.orders() if order["id"] not in orders]
    assert all(order == changed.orders_before[order["id"]] for order in untouched)


def test_new_orders_are_paid_by_the_new_people(changed: Changed) -> None:
    orders = by_post_number(changed.vendors.orders())
    people = [line.rsplit(" ", 1)[1] for line in changed.lines if "new order" in line]

    assert [orders[id]["billing"]["email"] for id in changed.said(r"new order (\d+)")] == people
    for id in changed.said(r"new order (\d+)"):
        order = orders[id]
        assert (order["status"], order["date_paid_gmt"]) == ("processing", "2026-11-21T08:00:00")
        assert gross([*order["line_items"], *order["shipping_lines"]]) == Decimal(order["total"])
    visits = [
        {entry["key"]: entry["value"] for entry in orders[id]["meta_data"]}
        for id in changed.said(r"new order (\d+)")
    ]
    assert visits[:3] == [{}, {}, {}]
    assert visits[3]["_wc_order_attribution_utm_source"] == "google"
    assert "gclid=" in visits[3]["_wc_order_attribution_session_entry"]


def test_an_edited_order_sums_up_again(changed: Changed) -> None:
    [id] = changed.said(r"edited order (\d+)")
    before, after = changed.orders_before[id], by_post_number(changed.vendors.orders())[id]
    lines = [*after["line_items"], *after["shipping_lines"]]

    assert after["line_items"][0]["quantity"] == before["line_items"][0]["quantity"] + 1
    assert Decimal(after["total"]) > Decimal(before["total"])
    assert gross(lines) == Decimal(after["total"])
    assert sum(Decimal(line["total_tax"]) for line in lines) == Decimal(after["total_tax"])
    assert sum(Decimal(line["tax_total"]) for line in after["tax_lines"]) == Decimal(after["cart_tax"])


def test_one_refund_is_partial_and_one_full(changed: Changed) -> None:
    orders = by_post_number(changed.vendors.orders())
    [part] = changed.said(r"partial refund \d+ of order (\d+)")
    [full] = changed.said(r"full refund \d+ of order (\d+)")
    amounts = {id: -Decimal(orders[id]["refunds"][0]["total"]) for id in (part, full)}

    assert orders[full]["status"] == "refunded"
    assert amounts[full] == Decimal(orders[full]["total"]) == Decimal(changed.orders_before[full]["total"])
    assert orders[part]["status"] == changed.orders_before[part]["status"]
    assert 0 < amounts[part] < Decimal(orders[part]["total"])
    posts = [*changed.said(r"refund (\d+) of"), *orders]
    assert max(Counter(posts).values()) == 1


def test_an_order_is_cancelled_and_keeps_its_total(changed: Changed) -> None:
    [id] = changed.said(r"cancelled order (\d+)")
    order = by_post_number(changed.vendors.orders())[id]

    assert order["status"] == "cancelled"
    assert order["total"] == changed.orders_before[id]["total"]


def test_two_new_leads_come_from_the_form(changed: Changed) -> None:
    since = int(NOW.timestamp()) - 1
    leads = changed.vendors.meta(
        f"{accounts.META_FORM}/leads",
        fields="id,created_time,campaign_name,field_data",
        filtering=json.dumps([{"field": "time_created", "operator": "GREATER_THAN", "value": since}]),
    )

    assert sorted(int(lead["id"]) for lead in leads) == changed.said(r"meta: new lead (\d+)")
    assert len(leads) == 2
    assert all(lead["created_time"] == "2026-11-21T08:00:00+0000" for lead in leads)
    assert all(lead["campaign_name"].startswith("Leads | ") for lead in leads)


def test_a_new_member_clicked(changed: Changed) -> None:
    since = {"since_last_changed": f"{BEFORE}+00:00"}
    [member] = changed.vendors.mailchimp(f"lists/{accounts.MAILCHIMP_LIST}/members", **since)["members"]
    reports = changed.vendors.mailchimp("reports", count="1000")["reports"]
    [report] = [r for r in reports if r["clicks"]["last_click"] == "2026-11-21T08:00:00+00:00"]
    rows = changed.vendors.mailchimp(
        f"reports/{report['id']}/email-activity", since=f"{BEFORE}+00:00", count="1000"
    )
    active = [row for row in rows["emails"] if row["activity"]]

    assert (member["status"], member["timestamp_signup"]) == ("subscribed", "2026-11-21T08:00:00+00:00")
    assert [row["email_address"] for row in active] == [member["email_address"]]
    assert [action["action"] for action in active[0]["activity"]] == ["click"]
    assert report["emails_sent"] == rows["total_items"]


def test_the_web_form_has_one_line_more(changed: Changed) -> None:
    text = changed.leads_csv.read_text()
    assert text.startswith(changed.csv_before)
    [row] = list(csv.DictReader(text.splitlines()))[len(changed.csv_before.splitlines()) - 1 :]

    assert row["created"] == "2026-11-21 09:00:00"  # Warsaw, in winter
    assert f"{row['lead_id']}, {row['email']}" in next(line for line in changed.lines if "web form" in line)


def test_sales_accepted_one_contact_and_rejected_another(changed: Changed) -> None:
    contacts = {int(c["id"]): c["properties"] for c in changed.vendors.contacts(NOW)}
    [accepted] = changed.said(r"contact (\d+) is now salesqualifiedlead")
    [rejected] = changed.said(r"contact (\d+) is now UNQUALIFIED")

    assert set(contacts) == {accepted, rejected}
    assert contacts[accepted]["lifecyclestage"] == "salesqualifiedlead"
    assert contacts[rejected]["hs_lead_status"] == "UNQUALIFIED"
    assert contacts[rejected]["rejection_reason"] == "No budget"


def test_spend_is_new_for_today_and_restated_for_a_day_before(changed: Changed) -> None:
    after = changed.spend()
    different = {key for key in after if after[key] != changed.spend_before.get(key)}
    days = {day for day, _ in different}

    assert set(changed.spend_before) <= set(after)
    assert len(different) == 2
    assert "2026-11-21" in days
    [restated] = different - {key for key in different if key[0] == "2026-11-21"}
    assert Decimal(after[restated]) > Decimal(changed.spend_before[restated])


def test_the_same_seed_makes_the_same_changes(tmp_path: Path) -> None:
    def lines(name: str, seed: int | None) -> list[str]:
        folder = tmp_path / name
        generate(folder / "s.db", seed=1, leads_csv=folder / "l.csv", people=150, today=FILLED)
        return change(folder / "s.db", leads_csv=folder / "l.csv", seed=seed, now=NOW)

    assert lines("a", 5) == lines("b", 5)
    assert lines("c", 6) != lines("d", 5)


def test_changes_follow_each_other_without_a_collision(tmp_path: Path) -> None:
    generate(tmp_path / "s.db", seed=1, leads_csv=tmp_path / "l.csv", people=150, today=FILLED)
    state = State(tmp_path / "s.db")
    before = state.select("woocommerce", "order")[1]
    said = [change(tmp_path / "s.db", leads_csv=tmp_path / "l.csv", now=NOW) for _ in range(3)]

    new = [line for lines in said for line in lines if re.search(r"new (lead|member|order)", line)]
    assert len(set(new)) == len(new)
    assert state.select("woocommerce", "order")[1] == before + 12
    rows = list(csv.DictReader((tmp_path / "l.csv").open(encoding="utf-8")))
    assert len({row["lead_id"] for row in rows}) == len(rows)


def test_olist_changes_too(tmp_path: Path) -> None:
    """Its CRM knows nobody before sales, its shop has no tax, its spend is years old."""
    data = tmp_path / "olist"
    data.mkdir()
    kept: set[str] = set()
    for name, rows in OLIST_SLICE.items():
        header, *lines = (OLIST / name).read_text(encoding="utf-8").splitlines()
        if name == "olist_orders_slice.csv":
            kept = {line.split(",")[0].strip('"') for line in lines[:rows]}
        if name == "olist_order_items_slice.csv":
            lines = [line for line in lines if line.split(",")[0].strip('"') in kept]
        (data / name).write_text("\n".join([header, *lines[:rows]]) + "\n", encoding="utf-8")
    load_olist(data, tmp_path / "s.db", leads_csv=tmp_path / "l.csv")

    lines = change(tmp_path / "s.db", leads_csv=tmp_path / "l.csv", seed=1, now=NOW)

    state = State(tmp_path / "s.db")
    orders, _ = state.select("woocommerce", "order", changed_from=NOW.timestamp())
    assert len(orders) == 8
    assert {order.body["currency"] for order in orders} == {"BRL"}
    assert {order.body["total_tax"] for order in orders} == {"0.00"}
    [contact] = [line for line in lines if "hubspot: new contact" in line]
    number = re.search(r"(\d+),", contact)[1]
    doc = state.get("hubspot", "contact", number)
    assert [e["value"] for e in doc.body["history"]["lifecyclestage"]] == ["salesqualifiedlead", "lead"]
    rows, _ = state.select("meta", "insight", at_from=NOW.timestamp() - 86400)
    assert [row.body["account_currency"] for row in rows] == ["BRL"]
    again, next_day = (
        [
            line
            for line in change(tmp_path / "s.db", leads_csv=tmp_path / "l.csv", seed=1, now=when)
            if "was" in line
        ]
        for when in (NOW, NOW + timedelta(days=1))
    )
    assert not [line for line in again if "spend" in line]  # only earlier days are corrected
    assert ["2026-11-21" in line for line in next_day if "spend" in line] == [True]


def test_an_empty_sandbox_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("lead_id,email\n")

    with pytest.raises(ValueError, match="fill it first"):
        change(tmp_path / "s.db", leads_csv=path, now=NOW)
    assert path.read_text() == "lead_id,email\n"
