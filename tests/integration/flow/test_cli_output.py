"""What commands print and end with: names in JSON, table and CSV, periods, mistakes, missing rights."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest

FUNNEL = {"leads", "mql", "sql", "won", "rejected", "lost"}
CAMPAIGN = {
    "campaign",
    "source",
    "leads",
    "mql",
    "sql",
    "won",
    "revenue_minor",
    "spend_minor",
    "cost_per_won_minor",
    "roas",
}
MONTHS = [*(f"2024-{month:02d}" for month in range(6, 13)), *(f"2025-{month:02d}" for month in range(1, 7))]


def table_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# reports


def test_the_funnel_has_the_names_it_is_known_by(readable: Any) -> None:
    found = readable.run("report", "funnel", "--format", "json").json
    assert set(found) >= FUNNEL
    assert all(isinstance(found[name], int) for name in FUNNEL)
    assert found["leads"] == readable.value("SELECT count(*) FROM journeys")
    assert found["leads"] >= found["mql"] >= found["sql"] > 0
    assert found["won"] > 0
    assert sum(found["rejected_reasons"].values()) == found["rejected"] > 0
    seconds = found["median_seconds"]
    assert set(seconds) >= {"lead_to_mql", "mql_to_sql", "sql_to_won"}
    assert all(s is None or isinstance(s, int) for s in seconds.values())
    assert seconds["mql_to_sql"] > 0


def test_the_campaigns_have_the_names_they_are_known_by_and_tie_to_the_total(readable: Any) -> None:
    found = readable.run("report", "campaigns", "--format", "json").json
    assert set(found) >= {"currency", "campaigns", "unattributed", "total"}
    assert found["currency"] == "PLN"
    assert all(set(row) >= CAMPAIGN for row in found["campaigns"])
    rest, total = found["unattributed"], found["total"]
    assert set(rest) >= {"revenue_minor", "orders", "reasons"}
    assert sum(reason["revenue_minor"] for reason in rest["reasons"].values()) == rest["revenue_minor"]
    credited = sum(row["revenue_minor"] for row in found["campaigns"])
    assert total["revenue_minor"] == credited + rest["revenue_minor"]
    shop = readable.value(
        "SELECT sum(o.total_minor) - coalesce((SELECT sum(round(r.amount * 100)) FROM refunds r"
        " JOIN orders x ON x.external_id = r.order_id WHERE x.currency = 'PLN'), 0)"
        " FROM orders o WHERE o.currency = 'PLN' AND"
        " (o.status IN ('completed', 'processing') OR o.status = 'refunded')"
    )
    assert total["shop_gross_minor"] == int(shop)
    for name in ("leads", "mql", "sql", "won"):
        assert sum(row[name] for row in found["campaigns"]) + found["no_campaign"][name] == total[name]
    for row in found["campaigns"]:
        spend = row["spend_minor"]
        assert row["roas"] == (round(row["revenue_minor"] / spend, 4) if spend else None)
        if spend and row["won"]:
            assert abs(row["cost_per_won_minor"] - spend / row["won"]) <= 0.5
        else:
            assert row["cost_per_won_minor"] is None


@pytest.mark.parametrize("report", ["funnel", "campaigns", "identity"])
def test_every_report_comes_as_table_csv_and_json(readable: Any, report: str) -> None:
    table = readable.run("report", report)
    lines = readable.run("report", report, "--format", "csv")
    values = readable.run("report", report, "--format", "json")
    assert (table.code, lines.code, values.code) == (0, 0, 0)
    assert table.out.strip()
    if report == "campaigns":
        rows = table_of(lines.out)
        assert [row["campaign"] for row in rows] == [row["campaign"] for row in values.json["campaigns"]]
        assert [int(row["revenue_minor"]) for row in rows] == [
            r["revenue_minor"] for r in values.json["campaigns"]
        ]
        assert "Campaigns, amounts in PLN" in table.out
    if report == "funnel":
        [row] = table_of(lines.out)
        assert {name: int(row[name]) for name in FUNNEL} == {name: values.json[name] for name in FUNNEL}
        assert re.search(rf"leads\s+{values.json['leads']}\s+100.0%", table.out)


def test_top_sums_the_rest(readable: Any) -> None:
    count = len(readable.run("report", "campaigns", "--format", "json").json["campaigns"])
    table = readable.run("report", "campaigns", "--top", "2").out
    assert f"{count - 2} more campaigns" in table


def test_the_months_come_to_the_whole(readable: Any) -> None:
    def read(report: str, *period: str) -> Any:
        return readable.run("report", report, "--format", "json", *period).json

    funnels = [read("funnel", "--period", month) for month in MONTHS]
    whole = read("funnel")
    for name in FUNNEL:
        assert sum(found[name] for found in funnels) == whole[name], name
    assert sum(found["leads"] > 0 for found in funnels) > 3
    months = [read("campaigns", "--period", month) for month in MONTHS]
    total = read("campaigns")["total"]
    for name in ("revenue_minor", "spend_minor", "unattributed_minor", "shop_gross_minor", "leads", "won"):
        assert sum(found["total"][name] for found in months) == total[name], name
    quarter = read("campaigns", "--period", "2025-Q1")["total"]
    assert quarter["revenue_minor"] == sum(
        found["total"]["revenue_minor"]
        for month, found in zip(MONTHS, months, strict=True)
        if month in {"2025-01", "2025-02", "2025-03"}
    )
    assert read("funnel", "--period", "2019")["leads"] == 0


def test_a_period_that_cannot_be_read_is_named(readable: Any) -> None:
    printed = readable.run("report", "funnel", "--period", "2025-13")
    assert printed.code == 2
    assert "'2025-13' is not a period" in printed.err


# status and runs


def test_status_names_every_connector(readable: Any) -> None:
    found = readable.run("status", "--format", "json").json
    assert [row["connector"] for row in found["connectors"]] == ["meta", "newsletter", "web", "shop", "crm"]
    for row in found["connectors"]:
        assert set(row) >= {
            "state",
            "last_success",
            "next_run",
            "late",
            "lag_s",
            "quarantined",
            "push_pending",
            "push_refused",
            "todo",
        }
        assert row["state"] == "done"
        assert row["last_success"]
        assert row["lag_s"] >= 0
        assert (row["quarantined"], row["push_pending"], row["push_refused"]) == (0, 0, 0)
    assert found["waiting"] == {}
    assert len(table_of(readable.run("status", "--format", "csv").out)) == 5
    assert "newsletter" in readable.run("status").out


def test_runs_show_counts_and_cursors(readable: Any) -> None:
    found = readable.run("runs", "--format", "json").json
    assert len(found) == 6
    assert found[0]["run"] > found[-1]["run"]
    [shop] = [row for row in found if row["connector"] == "shop"]
    assert set(shop) >= {"kind", "status", "started_at", "finished_at", "counts", "cursors", "error", "todo"}
    assert shop["counts"]["orders"]["new"] == readable.value("SELECT count(*) FROM orders")
    assert shop["cursors"]["orders"]["before"] is None
    assert shop["cursors"]["orders"]["after"] is not None
    assert [row["connector"] for row in readable.run("runs", "crm", "-n", "1", "--format", "json").json] == [
        "crm"
    ]
    assert len(table_of(readable.run("runs", "--format", "csv").out)) == 6
    assert "took" in readable.run("runs").out


def test_explain_opens_an_order_down_to_the_bytes(readable: Any) -> None:
    id = readable.value("SELECT order_id FROM credits WHERE touch_id IS NOT NULL ORDER BY 1 LIMIT 1")
    found = readable.run("explain", f"shop:{id}", "--format", "json").json
    assert f'"id":{id}' in found["evidence"]["body"]
    assert sum(c["amount_minor"] for c in found["credits"]) == found["order"]["total_minor"]
    shown = readable.run("explain", id)
    assert f"Order {id} of shop" in shown.out
    assert found["evidence"]["sha256"] in shown.out
    nothing = readable.run("explain", "no-such-order")
    assert nothing.code == 2


def test_verify_prints_every_check(readable: Any) -> None:
    found = readable.run("verify", "--format", "json")
    assert found.code == 0
    assert len(found.json) >= 5
    assert all(row["ok"] and set(row) >= {"check", "checked", "ok", "wrong", "todo"} for row in found.json)


# mistakes


def test_a_wrong_config_runs_nothing_and_names_every_place(synced: Any) -> None:
    synced.edit(
        ("  timezone: Europe/Warsaw", "  timezone: Europe/Warszawa"), ("  model: last", "  modell: last")
    )
    lines = synced.config_text().splitlines()
    runs = synced.value("SELECT count(*) FROM runs")
    for command in (("sync",), ("check",), ("status",), ("report", "funnel"), ("push", "--dry-run")):
        printed = synced.run(*command)
        assert printed.code == 2, command
        assert printed.out == ""
        zone = lines.index("  timezone: Europe/Warszawa") + 1
        model = lines.index("  modell: last") + 1
        assert f"leadledger.yaml:{zone}:13: workspace.timezone: " in printed.err
        assert f"leadledger.yaml:{model}:3: attribution.modell: " in printed.err
        assert "Europe/Warsaw" in printed.err
        assert "model" in printed.err.split("attribution.modell", 1)[1]
        assert "2 mistakes in " in printed.err
    assert synced.value("SELECT count(*) FROM runs") == runs


def test_a_config_that_is_not_there_says_how_to_begin(tmp_path: Any, readable: Any) -> None:
    printed = readable.run("sync", "--config", str(tmp_path / "none.yaml"))
    assert printed.code == 2
    assert "leadledger init" in printed.err


@pytest.mark.parametrize(
    "command", [("sync", "shopp"), ("push", "crmm"), ("runs", "shopp"), ("quarantine", "list", "shopp")]
)
def test_an_unknown_connector_is_named_with_the_nearest_one(readable: Any, command: tuple[str, ...]) -> None:
    printed = readable.run(*command)
    assert printed.code == 2
    wrong = command[-1]
    assert wrong in printed.err
    assert wrong[:-1] in printed.err.replace(wrong, "")


def test_a_push_to_what_cannot_be_written_to_is_a_mistake(readable: Any) -> None:
    printed = readable.run("push", "meta")
    assert printed.code == 2
    assert "meta" in printed.err


# check


def test_check_online_tries_every_credential(readable: Any) -> None:
    assert "is right: 5 connectors" in readable.run("check").out
    found = readable.run("check", "--online", "--format", "json")
    assert found.code == 0
    assert {row["connector"] for row in found.json} == {"meta", "newsletter", "web", "shop", "crm"}
    assert all(row["ok"] for row in found.json)
    assert any("contacts.write" in row["what"] for row in found.json), "what is written needs rights too"


@pytest.mark.parametrize(
    ("secret", "connector"),
    [
        ("woocommerce_secret", "shop"),
        ("meta_token", "meta"),
        ("mailchimp_key", "newsletter"),
        ("hubspot_token", "crm"),
    ],
)
def test_check_online_names_the_connector_whose_key_is_wrong(
    synced: Any, secret: str, connector: str
) -> None:
    (synced.folder / "secrets" / secret).write_text("a-wrong-secret-us1")
    printed = synced.run("check", "--online", "--format", "json")
    assert printed.code == 3
    bad = [row for row in printed.json if not row["ok"]]
    assert {row["connector"] for row in bad} == {connector}
    assert all(row["todo"] for row in bad)
    assert "a-wrong-secret" not in printed.out + printed.err
    table = synced.run("check", "--online")
    assert table.code == 3
    assert "NO" in table.out
