"""`change` does to the vendors' data exactly what its lines say: compared document by document."""

from __future__ import annotations

import csv
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.sandbox.change import change
from connectors.sandbox.generated import generate
from connectors.sandbox.olist import load_olist
from connectors.sandbox.state import Doc, State

OLIST = Path(__file__).resolve().parents[2] / "data" / "olist"
TODAY = datetime(2026, 11, 23, 21, 0, tzinfo=UTC)
NOW = TODAY + timedelta(hours=5, seconds=7)
KINDS = {
    "woocommerce": ("setting", "product", "customer", "order", "refund"),
    "meta": ("account", "page", "form", "campaign", "lead", "insight"),
    "mailchimp": ("list", "member", "campaign", "activity", "unsubscribe"),
    "hubspot": ("owner", "contact", "property", "group"),
}
Documents = dict[tuple[str, str, str], Doc]


@dataclass(frozen=True)
class Done:
    """The data before and after one call, and what it said."""

    before: Documents
    after: Documents
    lines: list[str]
    rows_before: list[dict[str, str]]
    rows_after: list[dict[str, str]]
    now: datetime
    currency: str

    def new(self, vendor: str, kind: str) -> list[Doc]:
        return [
            doc for key, doc in self.after.items() if key[:2] == (vendor, kind) and key not in self.before
        ]

    def changed(self, vendor: str, kind: str) -> list[tuple[Doc, Doc]]:
        return [
            (self.before[key], doc)
            for key, doc in self.after.items()
            if key[:2] == (vendor, kind) and key in self.before and self.before[key] != doc
        ]

    def becoming(self, status: str) -> list[tuple[Doc, Doc]]:
        return [
            pair
            for pair in self.changed("woocommerce", "order")
            if pair[1].body["status"] == status != pair[0].body["status"]
        ]


def documents(state: Path) -> Documents:
    sandbox = State(state)
    return {
        (vendor, kind, doc.id): doc
        for vendor, kinds in KINDS.items()
        for kind in kinds
        for doc in sandbox.select(vendor, kind)[0]
    }


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def minor(text: str) -> int:
    whole, _, part = text.lstrip("-").partition(".")
    assert len(part) == 2, text
    return (-1 if text.startswith("-") else 1) * (int(whole) * 100 + int(part))


def gmt(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def meta(order: dict[str, Any]) -> dict[str, str]:
    prefix = "_wc_order_attribution_"
    return {
        e["key"].removeprefix(prefix): e["value"] for e in order["meta_data"] if e["key"].startswith(prefix)
    }


def done(folder: Path, currency: str, *, seed: int | None = 3, now: datetime = NOW) -> Done:
    state, leads = folder / "state.sqlite", folder / "leads.csv"
    before, rows_before = documents(state), rows(leads)
    lines = change(state, leads_csv=leads, seed=seed, now=now)
    return Done(before, documents(state), lines, rows_before, rows(leads), now, currency)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with each of the two data sets, to be copied."""
    folders = {"PLN": tmp_path_factory.mktemp("generated"), "BRL": tmp_path_factory.mktemp("olist")}
    for currency, folder in folders.items():
        state, leads = folder / "state.sqlite", folder / "leads.csv"
        if currency == "PLN":
            generate(state, leads_csv=leads, seed=2, people=300, today=TODAY)
        else:
            load_olist(OLIST, state, leads_csv=leads)
        State(state)._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folders


def copied(filled: dict[str, Path], currency: str, target: Path) -> Path:
    target.mkdir(parents=True)
    for name in ("state.sqlite", "leads.csv"):
        shutil.copy(filled[currency] / name, target / name)
    return target


@pytest.fixture(scope="module", params=["PLN", "BRL"])
def once(
    request: pytest.FixtureRequest, filled: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Done:
    folder = copied(filled, request.param, tmp_path_factory.mktemp("once") / "copy")
    return done(folder, request.param)


def test_it_changes_what_is_listed_and_nothing_else(once: Done) -> None:
    assert not set(once.before) - set(once.after)
    new = Counter(key[:2] for key in once.after if key not in once.before)
    altered = Counter(
        key[:2] for key, doc in once.after.items() if key in once.before and once.before[key] != doc
    )
    assert new == {
        ("woocommerce", "order"): 3,
        ("woocommerce", "refund"): 2,
        ("meta", "lead"): 2,
        ("mailchimp", "member"): 1,
        ("mailchimp", "activity"): 1,
        ("hubspot", "contact"): 1,
    }
    assert altered == {
        ("woocommerce", "order"): 4,
        ("meta", "insight"): 1,
        ("hubspot", "contact"): 1,
    }
    assert once.rows_after[:-1] == once.rows_before


def test_each_happening_has_a_line_with_its_id_and_no_whole_address(once: Done) -> None:
    ids = [doc.id for kind in ("order", "refund") for doc in once.new("woocommerce", kind)]
    ids += [doc.id for _, doc in once.changed("woocommerce", "order")]
    ids += [doc.id for doc in once.new("meta", "lead")]
    ids += [doc.id for doc in once.new("hubspot", "contact")]
    ids += [doc.id for _, doc in once.changed("hubspot", "contact")]
    ids.append(once.rows_after[-1]["lead_id"])
    for id in ids:
        assert any(re.search(rf"\b{re.escape(id)}\b", line) for line in once.lines), id
    (_, spend) = once.changed("meta", "insight")[0]
    assert any(spend.body["date_start"] in line and spend.body["spend"] in line for line in once.lines)
    assert all(line and "\n" not in line for line in once.lines)
    assert len(once.lines) == 14
    for address in re.findall(r"\S+@\S+", " ".join(once.lines)):
        assert re.match(r"\W*[^@*]{0,2}\*+@", address), address


def test_everything_new_or_changed_bears_the_time_of_the_change(once: Done) -> None:
    now = once.now.timestamp()
    for key, doc in once.after.items():
        if key not in once.before:
            assert doc.changed == now, key
            # A contact is made a moment before sales accepts it.
            assert doc.at == pytest.approx(now, abs=5 if key[1] == "contact" else 0), key
        elif once.before[key] != doc:
            assert (doc.changed, doc.at) == (now, once.before[key].at), key
            assert doc.number == once.before[key].number
        else:
            continue
        if key[:2] == ("woocommerce", "order"):
            assert gmt(doc.body["date_modified_gmt"]) == now
        if key[:2] == ("mailchimp", "member"):
            assert datetime.fromisoformat(doc.body["last_changed"]).timestamp() == now
        if key[:2] == ("hubspot", "contact"):
            stamp = datetime.fromisoformat(doc.body["properties"]["lastmodifieddate"]).timestamp()
            assert stamp == pytest.approx(now, abs=0.001)


def test_every_order_touched_adds_up(once: Done) -> None:
    for doc in [
        *once.new("woocommerce", "order"),
        *(after for _, after in once.changed("woocommerce", "order")),
    ]:
        body = doc.body
        parts = [*body["line_items"], *body["shipping_lines"], *body["fee_lines"]]
        net, tax = sum(minor(p["total"]) for p in parts), sum(minor(p["total_tax"]) for p in parts)
        assert net + tax == minor(body["total"])
        assert tax == minor(body["total_tax"])
        assert minor(body["cart_tax"]) + minor(body["shipping_tax"]) == tax
        assert sum(minor(t["tax_total"]) + minor(t["shipping_tax_total"]) for t in body["tax_lines"]) == tax
        assert (tax > 0) == (once.currency == "PLN")


def test_three_new_orders_are_paid_by_a_known_and_an_unknown_buyer(once: Done) -> None:
    orders = once.new("woocommerce", "order")
    known = {
        field["values"][0].lower()
        for key, doc in once.before.items()
        if key[:2] == ("meta", "lead")
        for field in doc.body["field_data"]
        if field["name"] == "email"
    }
    known |= {doc.body["email_address"].lower() for key, doc in once.before.items() if key[1] == "member"}
    known |= {row["email"].lower() for row in once.rows_before}
    bought = {
        doc.body["billing"]["email"].lower()
        for key, doc in once.before.items()
        if key[:2] == ("woocommerce", "order")
    }
    emails = [doc.body["billing"]["email"].lower() for doc in orders]
    assert any(email in known for email in emails)
    assert any(email and email not in known | bought for email in emails)
    zone = once.after["woocommerce", "setting", "timezone"].body["value"]
    for doc in orders:
        assert doc.body["status"] in ("processing", "completed")
        assert doc.body["currency"] == once.currency
        assert gmt(doc.body["date_paid_gmt"]) == once.now.timestamp()
        assert gmt(doc.body["date_created_gmt"]) == once.now.timestamp()
        local = datetime.fromisoformat(doc.body["date_created"])
        assert local - datetime.fromisoformat(doc.body["date_created_gmt"]) == timedelta(
            hours={"Europe/Warsaw": 1, "America/Sao_Paulo": -3}[zone]
        )
        assert doc.body["id"] == int(doc.id) == doc.number
    with_campaign = [doc for doc in orders if meta(doc.body).get("source_type") == "utm"]
    assert len(with_campaign) >= (1 if once.currency == "PLN" else 0)
    assert all(meta(doc.body)["utm_campaign"] for doc in with_campaign)


def test_one_order_is_edited_upwards(once: Done) -> None:
    edited = [
        (before.body, after.body)
        for before, after in once.changed("woocommerce", "order")
        if before.body["total"] != after.body["total"]
    ]
    assert len(edited) == 1
    before, after = edited[0]
    assert minor(after["total"]) > minor(before["total"])
    assert after["status"] == before["status"]
    assert after["refunds"] == before["refunds"]
    differing = [
        (old, new) for old, new in zip(before["line_items"], after["line_items"], strict=True) if old != new
    ]
    assert len(differing) == 1
    assert minor(differing[0][1]["total"]) > minor(differing[0][0]["total"])
    assert differing[0][1]["id"] == differing[0][0]["id"]


def test_one_refund_is_partial_and_one_is_full(once: Done) -> None:
    refunds = once.new("woocommerce", "refund")
    kinds = set()
    for refund in refunds:
        key = ("woocommerce", "order", str(refund.body["parent_id"]))
        before, after = once.before[key].body, once.after[key].body
        assert refund.parent == key[2]
        amount, total = minor(refund.body["amount"]), minor(after["total"])
        assert 0 < amount <= total
        kinds.add("full" if amount == total else "partial")
        assert after["status"] == ("refunded" if amount == total else before["status"])
        assert before["status"] in ("processing", "completed")
        added = [row for row in after["refunds"] if row not in before["refunds"]]
        assert [(row["id"], -minor(row["total"])) for row in added] == [(refund.body["id"], amount)]
        parts = [*refund.body["line_items"], *refund.body["shipping_lines"], *refund.body["fee_lines"]]
        if parts:
            assert -sum(minor(p["total"]) + minor(p["total_tax"]) for p in parts) == amount
        assert gmt(refund.body["date_created_gmt"]) == once.now.timestamp()
    assert kinds == {"partial", "full"}


def test_one_order_is_cancelled(once: Done) -> None:
    ((before, after),) = once.becoming("cancelled")
    assert before.body["status"] in ("processing", "completed", "pending", "on-hold")
    assert after.body["total"] == before.body["total"]


def test_new_leads_come_from_a_known_campaign_and_an_added_row_fits_the_file(once: Done) -> None:
    campaigns = {key[2] for key in once.before if key[:2] == ("meta", "campaign")}
    for lead in once.new("meta", "lead"):
        assert lead.body["campaign_id"] in campaigns
        assert ("meta", "form", lead.parent) in once.before
        assert datetime.fromisoformat(lead.body["created_time"]).timestamp() == once.now.timestamp()
    row = once.rows_after[-1]
    assert None not in row.values()
    assert row["lead_id"] not in {old["lead_id"] for old in once.rows_before}
    zone = {"PLN": timedelta(hours=1), "BRL": timedelta(hours=-3)}[once.currency]
    assert datetime.fromisoformat(row["created"]) == (once.now + zone).replace(tzinfo=None)


def test_a_new_member_clicks_a_known_mailing(once: Done) -> None:
    (member,) = once.new("mailchimp", "member")
    (activity,) = once.new("mailchimp", "activity")
    assert activity.body["email_id"] == member.body["id"]
    assert member.id == f"{member.parent}:{member.body['id']}"
    assert ("mailchimp", "campaign", activity.parent) in once.before
    assert "click" in [entry["action"] for entry in activity.body["activity"]]


def test_sales_accept_a_new_contact_and_reject_a_known_one(once: Done) -> None:
    (new,) = once.new("hubspot", "contact")
    assert new.body["properties"]["lifecyclestage"] == "salesqualifiedlead"
    stages = [entry["value"] for entry in new.body["history"]["lifecyclestage"]]
    assert stages[0] == "salesqualifiedlead"
    stamps = [entry["timestamp"] for entry in new.body["history"]["lifecyclestage"]]
    assert stamps == sorted(stamps, reverse=True)
    owners = {key[2] for key in once.before if key[:2] == ("hubspot", "owner")}
    assert new.body["properties"]["hubspot_owner_id"] in owners
    ((before, after),) = once.changed("hubspot", "contact")
    assert before.body["properties"].get("hs_lead_status") not in ("UNQUALIFIED", "BAD_TIMING")
    assert after.body["properties"]["hs_lead_status"] == "UNQUALIFIED"
    assert after.body["properties"]["rejection_reason"]
    for name in ("hs_lead_status", "rejection_reason"):
        newest = after.body["history"][name][0]
        assert newest["value"] == after.body["properties"][name]
        assert after.body["history"][name][1:] == before.body["history"].get(name, [])
        late = datetime.fromisoformat(newest["timestamp"]).timestamp() - once.now.timestamp()
        assert -60 <= late <= 60
    assert after.body["history"]["lifecyclestage"] == before.body["history"]["lifecyclestage"]


def test_spend_of_one_of_the_last_days_is_restated(once: Done) -> None:
    ((before, after),) = once.changed("meta", "insight")
    assert minor(after.body["spend"]) != minor(before.body["spend"])
    assert minor(after.body["spend"]) > 0
    latest = max(doc.body["date_start"] for key, doc in once.before.items() if key[1] == "insight")
    age = datetime.fromisoformat(latest) - datetime.fromisoformat(after.body["date_start"])
    assert age <= timedelta(days=28)
    assert {k: v for k, v in after.body.items() if k != "spend"}.keys() == before.body.keys() - {"spend"}


def test_the_same_state_seed_and_time_give_the_same(filled: dict[str, Path], tmp_path: Path) -> None:
    first, second, other = (
        done(copied(filled, "PLN", tmp_path / name), "PLN", seed=seed)
        for name, seed in (("a", 9), ("b", 9), ("c", 10))
    )
    assert first.lines == second.lines
    assert first.after == second.after
    assert first.rows_after == second.rows_after
    assert first.after != other.after


@pytest.mark.parametrize("seed", [None, 4])
def test_it_can_be_repeated_and_never_touches_a_dead_order(
    filled: dict[str, Path], tmp_path: Path, seed: int | None
) -> None:
    folder = copied(filled, "PLN", tmp_path / "again")
    for hour in range(6):
        result = done(folder, "PLN", seed=seed, now=NOW + timedelta(hours=hour))
        assert len(result.lines) == 14
        assert len(result.new("woocommerce", "order")) == 3
        assert len(result.new("woocommerce", "refund")) == 2
        assert len(result.new("hubspot", "contact")) == 1
        assert len(result.new("mailchimp", "member")) == 1
        assert len(result.new("meta", "lead")) == 2
        assert len(result.rows_after) == len(result.rows_before) + 1
        for before, _ in result.changed("woocommerce", "order"):
            assert before.body["status"] not in ("refunded", "cancelled", "failed", "trash")


def test_even_in_the_same_second_nothing_is_overwritten(filled: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(filled, "PLN", tmp_path / "twice")
    done(folder, "PLN")
    again = done(folder, "PLN")
    assert len(again.new("woocommerce", "order")) == 3
    assert len(again.new("mailchimp", "member")) == 1
    assert len(again.rows_after) == len({row["lead_id"] for row in again.rows_after})


def test_without_a_time_it_is_now_in_whole_seconds(filled: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(filled, "PLN", tmp_path / "now")
    began = int(datetime.now(UTC).timestamp())
    change(folder / "state.sqlite", leads_csv=folder / "leads.csv")
    newest, _ = State(folder / "state.sqlite").select(
        "woocommerce", "order", order="changed", descending=True, limit=1
    )
    assert newest[0].changed == int(newest[0].changed)
    assert began <= newest[0].changed <= datetime.now(UTC).timestamp()
