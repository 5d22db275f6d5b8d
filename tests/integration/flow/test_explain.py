"""Every posting explains itself: an order, an account and a campaign, each tied to the reports to the minor unit."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.integration.flow import test_fx as fx_world


def told(world: Any, *arguments: str) -> Any:
    done = world.run("explain", *arguments, "--format", "json")
    assert done.code == 0, done.err
    return done.json


PERIODS = (None, "2025-03", "2025-Q2")


def options(period: str | None) -> list[str]:
    return ["--period", period] if period else []


# campaigns


@pytest.mark.parametrize("period", PERIODS)
def test_every_campaign_ties_to_its_report(readable: Any, period: str | None) -> None:
    report = readable.run("report", "campaigns", "--format", "json", *options(period)).json
    assert len(report["campaigns"]) >= 3
    for row in report["campaigns"]:
        found = told(readable, row["key"], "--kind", "campaign", *options(period))
        names = ("leads", "mql", "sql", "won", "rejected", "revenue_minor", "spend_minor", "roas")
        assert {n: found["totals"][n] for n in names} == {n: row[n] for n in names}, row["key"]
        assert found["totals"]["cost_per_won_minor"] == row["cost_per_won_minor"]
        assert (found["campaign"], found["source"]) == (row["campaign"], row["source"])
        _the_parts_sum_to_the_totals(found, report["currency"])


def _the_parts_sum_to_the_totals(found: Any, currency: str) -> None:
    totals = found["totals"]
    for name in ("mql", "sql", "won", "rejected"):
        assert sum(person[f"{name}_at"] is not None for person in found["people"]) == totals[name]
    assert len({person["person"] for person in found["people"]}) == len(found["people"]) == totals["leads"]
    for list_, name in (("spend", "spend_minor"), ("orders", "revenue_minor")):
        rows = [row for row in found[list_] if row["currency"] == currency]
        assert sum(row["amount_minor"] for row in rows) == totals[name]
        for row in found[list_]:
            assert sum(entry["amount_minor"] for entry in row["entries"]) == row["amount_minor"]


def test_a_campaigns_credits_have_touch_weight_and_evidence(readable: Any) -> None:
    campaign = readable.value("SELECT campaign FROM credits WHERE campaign IS NOT NULL ORDER BY 1 LIMIT 1")
    found = told(readable, campaign)
    assert found["orders"]
    for order in found["orders"]:
        assert order["model"] == "last"
        assert not order["held"]
        for credit in order["credits"]:
            assert (credit["share"]["weight"], credit["share"]["weights_in_all"]) == (1, 1)
            evidence = credit["touch"]["evidence"]
            stored = readable.value(
                "SELECT encode(sha256, 'hex') FROM evidence WHERE id = :id", id=evidence["id"]
            )
            assert stored == evidence["sha256"]
    spent = [entry for day in found["spend"] for entry in day["entries"]]
    assert all(entry["evidence"]["sha256"] for entry in spent if entry["kind"] == "spend")
    days = [day["posted_on"] for day in found["spend"]]
    assert days == sorted(set(days))


def test_a_campaign_is_found_by_its_name(readable: Any) -> None:
    row = readable.rows("SELECT connector, external_id, name FROM campaigns ORDER BY 1, 2 LIMIT 1")[0]
    found = told(readable, row.name.upper())
    assert found["key"] == f"{row.connector}:{row.external_id}"


# accounts


@pytest.mark.parametrize("period", PERIODS)
def test_accounts_tie_to_the_journal_and_the_report(readable: Any, period: str | None) -> None:
    report = readable.run("report", "campaigns", "--format", "json", *options(period)).json
    total = report["total"]
    for prefix, wanted in (
        ("Revenue:", -total["shop_gross_minor"]),
        ("Credit:", total["credited_minor"]),
        ("Unattributed:", total["unattributed_minor"]),
        ("Spend:", total["spend_minor"]),
    ):
        found = told(readable, prefix, *options(period))
        [balance] = [b for b in found["balances"] if b["currency"] == report["currency"]]
        assert balance["moved_minor"] == wanted, prefix
        lines = [e for e in found["entries"] if e["currency"] == report["currency"]]
        assert len(lines) == balance["postings"]
        assert sum(line["amount_minor"] for line in lines) == wanted
        assert lines[0]["balance_minor"] == balance["opening_minor"] + lines[0]["amount_minor"]
        assert lines[-1]["balance_minor"] == balance["closing_minor"]
        assert [line["posted_on"] for line in lines] == sorted(line["posted_on"] for line in lines)
        assert all(sum(p["amount_minor"] for p in line["postings"]) == 0 for line in lines)


def test_the_opening_balance_is_what_the_days_before_left(readable: Any) -> None:
    before = told(readable, "Revenue:Shop:shop", "--period", "2024-01-01..2025-02-28")["balances"]
    march = told(readable, "Revenue:Shop:shop", "--period", "2025-03")["balances"]
    assert [b["closing_minor"] for b in before] == [b["opening_minor"] for b in march]
    assert march[0]["opening_minor"] < 0


def test_an_account_without_postings_in_the_period_is_empty(readable: Any) -> None:
    found = told(readable, "Revenue:Shop:shop", "--period", "2020")
    assert found["entries"] == []
    shown = readable.run("explain", "Revenue:Shop:shop", "--period", "2020")
    assert shown.code == 0


def test_as_of_before_the_first_entry_nothing_is_there(readable: Any) -> None:
    found = told(readable, "Revenue:Shop:shop", "--as-of", "2020-01-01")
    assert (found["entries"], found["balances"], found["head"]) == ([], [], None)


# orders


def test_an_order_tells_its_shares_and_why_this_person(readable: Any) -> None:
    id = readable.value("SELECT order_id FROM credits WHERE touch_id IS NOT NULL ORDER BY 1 LIMIT 1")
    found = told(readable, f"shop:{id}")
    [credit] = found["credits"]
    assert Fraction(credit["share"]["exact_minor"]) == credit["amount_minor"]
    assert credit["path"][-1]["record"] == f"touch {credit['touch']['id']}"
    assert credit["no_path"] is None
    shown = readable.run("explain", f"shop:{id}", "--no-body")
    assert "why this person: order shop:" in shown.out
    assert "weight 1 of 1" in shown.out
    email = readable.value("SELECT email FROM orders WHERE external_id = :id", id=id)
    assert email
    assert email not in shown.out, "without the vendor's bytes nobody is named"
    bare = readable.run("explain", f"shop:{id}", "--no-body", "--format", "json").out
    assert email not in bare
    assert json.loads(bare)["evidence"]["sha256"] == found["evidence"]["sha256"]


def test_the_refunds_of_every_order_are_taken_by_the_rule(readable: Any) -> None:
    orders = readable.rows("SELECT DISTINCT order_id FROM refunds ORDER BY 1")
    assert orders
    for row in orders:
        for refund in told(readable, f"shop:{row.order_id}")["refund_shares"]:
            for account, share in refund["shares"].items():
                whole = share["whole_minor"] + share["extra_minor"]
                assert whole == refund["taken"][account]


# what is meant


def test_what_is_not_known_is_said_with_what_to_try(readable: Any) -> None:
    done = readable.run("explain", "nothing of the kind")
    assert done.code == 2
    assert "There is no order, account or campaign 'nothing of the kind'" in done.err


def test_what_may_be_several_things_is_listed(synced: Any) -> None:
    number = synced.value("SELECT number FROM orders ORDER BY 1 LIMIT 1")
    with synced.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE campaigns SET name = %s WHERE external_id = (SELECT min(external_id) FROM campaigns)",
            (number,),
        )
    done = synced.run("explain", number)
    assert done.code == 2
    assert "order shop:" in done.err
    assert "campaign " in done.err
    assert "--kind" in done.err
    assert synced.run("explain", number, "--kind", "order").code == 0
    assert synced.run("explain", number, "--kind", "campaign").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("Revenue:", "--period", "soon"), "is not a period"),
        (("Revenue:", "--as-of", "soon"), "is not a time"),
        (("Revenue:", "--out", "x.txt"), "--out takes"),
        (("shop:10012", "--period", "2025"), "leave --period out"),
        (("Revenue:", "--format", "html", "--out", "/no/such/folder/x.html"), "cannot be written"),
    ],
)
def test_mistakes_are_named(readable: Any, arguments: tuple[str, ...], said: str) -> None:
    done = readable.run("explain", *arguments)
    assert done.code == 2
    assert said in done.err


def test_text_says_when_it_does_not_show_all(readable: Any) -> None:
    done = readable.run("explain", "Revenue:", "--top", "2")
    assert "The first 2 are shown" in done.err
    whole = readable.run("explain", "Revenue:", "--top", "100000")
    assert "are shown" not in whole.err
    assert len(whole.out) > len(done.out)


@pytest.mark.parametrize("what", ["Revenue:", "Unattributed:no lead"])
def test_a_page_is_written_whole_or_not_at_all(readable: Any, tmp_path: Path, what: str) -> None:
    out = tmp_path / "page.html"
    out.write_text("before")
    done = readable.run("explain", what, "--format", "html", "--out", str(out))
    assert done.code == 0
    assert out.stat().st_mode & 0o777 == 0o600
    assert out.read_text("utf-8").rstrip().endswith("</html>")
    assert list(tmp_path.iterdir()) == [out]
    assert readable.run("explain", what, "--format", "html").out == out.read_text("utf-8")


# currencies


def test_converted_orders_tie_to_the_report_too(synced: Any) -> None:
    """Orders in other currencies count in the reporting currency, and open to the rate of each."""
    id = synced.value("SELECT order_id FROM credits WHERE campaign IS NOT NULL ORDER BY 1 LIMIT 1")
    email = synced.value("SELECT email FROM orders WHERE external_id = :id", id=id)
    at = synced.value(
        'SELECT to_char(occurred_at, \'YYYY-MM-DD"T"HH24:MI:SS"Z"\') FROM orders WHERE external_id = :id',
        id=id,
    )
    market = fx_world.MARKET.replace("external_id: id", "external_id: id\n            email: email", 1)
    synced.edit(("\nidentity:\n", market + "\nidentity:\n"))
    row = {"id": "EURO", "at": at, "status": "completed", "currency": "EUR", "total": "100.01", "refunds": []}
    (synced.folder / "market.jsonl").write_text(json.dumps(row | {"email": email}) + "\n")
    synced.sync("market", pushes=False)
    fx_world.name_bank(synced, "nbp")
    synced.sync("nbp", pushes=False)
    report = synced.run("report", "campaigns", "--format", "json").json
    converted = 0
    for row in report["campaigns"]:
        found = told(synced, row["key"], "--kind", "campaign")
        assert found["totals"]["revenue_minor"] == row["revenue_minor"], row["key"]
        _the_parts_sum_to_the_totals(found, report["currency"])
        for order in found["orders"]:
            if order["converted_from"]:
                assert (order["currency"], order["converted_from"], order["credits"]) == ("PLN", ["EUR"], [])
                assert all(entry["rate"][0]["table"] for entry in order["entries"])
                converted += order["amount_minor"]
    assert converted > 0
    plain, worth = (told(synced, f"{prefix}Credit:") for prefix in ("", "Converted:EUR:"))
    moved = sum(b["moved_minor"] for f in (plain, worth) for b in f["balances"] if b["currency"] == "PLN")
    assert moved == report["total"]["credited_minor"]
