"""Checks the demo's figures against the Olist CSV files, campaign by campaign.

The truth is derived here with DuckDB alone; from the project only its command is used.

Usage: python tests/acceptance/check_demo.py DEMO_FOLDER OLIST_FOLDER
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb

LEDGER = Path(sys.executable).with_name("leadledger")

VIEWS = """
CREATE VIEW lead AS
SELECT mql_id, CAST(first_contact_date AS TIMESTAMP) AS contact,
       CASE WHEN origin IS NULL OR origin = 'unknown' THEN NULL
            ELSE origin || '/' || substr(landing_page_id, 1, 8) END AS campaign
  FROM read_csv('{data}/olist_marketing_qualified_leads_dataset.csv', header = true);
CREATE VIEW deal AS SELECT mql_id, seller_id FROM read_csv('{data}/olist_closed_deals_dataset.csv', header = true);
CREATE VIEW sale AS
SELECT i.order_id, i.seller_id, CAST(any_value(o.order_purchase_timestamp) AS TIMESTAMP) AS bought,
       sum(CAST(round(i.price * 100) AS BIGINT) + CAST(round(i.freight_value * 100) AS BIGINT)) AS cents
  FROM read_csv('{data}/olist_order_items_slice.csv', header = true) i
  JOIN read_csv('{data}/olist_orders_slice.csv', header = true) o USING (order_id)
 WHERE o.order_status IN ('delivered', 'shipped', 'invoiced', 'processing')
 GROUP BY i.order_id, i.seller_id;
CREATE VIEW credited AS
SELECT sale.*, lead.mql_id, lead.contact,
       CASE WHEN lead.mql_id IS NULL THEN 'no lead'
            WHEN lead.campaign IS NULL THEN 'no campaign known'
            WHEN sale.bought < lead.contact OR sale.bought > lead.contact + INTERVAL 365 DAY THEN 'not counted'
       END AS reason, lead.campaign
  FROM sale LEFT JOIN deal USING (seller_id) LEFT JOIN lead USING (mql_id);
"""


def truth(data: Path) -> dict:
    db = duckdb.connect()
    for statement in VIEWS.format(data=data).split(";"):
        if statement.strip():
            db.execute(statement)

    def one(sql: str) -> int:
        return db.execute(sql).fetchone()[0]

    def pairs(sql: str) -> dict:
        return {row[0]: tuple(int(n) for n in row[1:]) for row in db.execute(sql).fetchall()}

    won = "EXISTS (SELECT 1 FROM credited c WHERE c.mql_id = lead.mql_id AND c.bought >= lead.contact)"
    return {
        "leads": one("SELECT count(*) FROM lead"),
        "sql": one("SELECT count(*) FROM deal"),
        "won": one(f"SELECT count(*) FROM lead WHERE {won}"),
        "orders": one("SELECT count(*) FROM sale"),
        "revenue": int(one("SELECT sum(cents) FROM sale")),
        "people": pairs(
            f"""SELECT campaign, count(*), count(deal.mql_id), count(CASE WHEN {won} THEN 1 END)
                  FROM lead LEFT JOIN deal USING (mql_id) WHERE campaign IS NOT NULL GROUP BY campaign"""
        ),
        "nobody": pairs(
            f"""SELECT 'nobody', count(*), count(deal.mql_id), count(CASE WHEN {won} THEN 1 END)
                  FROM lead LEFT JOIN deal USING (mql_id) WHERE campaign IS NULL"""
        )["nobody"],
        "credit": pairs("SELECT campaign, sum(cents) FROM credited WHERE reason IS NULL GROUP BY campaign"),
        "reasons": pairs(
            "SELECT reason, sum(cents), count(*) FROM credited WHERE reason IS NOT NULL GROUP BY reason"
        ),
    }


def asked(demo: Path, *command: str) -> dict:
    answer = subprocess.run(
        [str(LEDGER), *command, "--format", "json"], cwd=demo, check=True, capture_output=True
    )
    return json.loads(answer.stdout)


def compare(demo: Path, data: Path) -> list[str]:
    want = truth(data)
    funnel = asked(demo, "report", "funnel")
    report = asked(demo, "report", "campaigns")
    wrong: list[str] = []

    def same(what: str, ours: object, theirs: object) -> None:
        if ours != theirs:
            wrong.append(f"{what}: the report says {ours}, the CSV files {theirs}")

    same("leads", funnel["leads"], want["leads"])
    same("mql", funnel["mql"], want["leads"])
    same("sql", funnel["sql"], want["sql"])
    same("won", funnel["won"], want["won"])
    rows = {row["campaign"]: row for row in report["campaigns"]}
    same("number of campaigns with the names", len(rows), len(report["campaigns"]))
    same("campaigns", sorted(rows), sorted(want["people"]))
    for name, people in want["people"].items():
        row = rows.get(name, {})
        same(f"people of {name}", tuple(row.get(k) for k in ("leads", "sql", "won")), people)
        same(f"mql of {name}", row.get("mql"), people[0])
        same(f"revenue of {name}", row.get("revenue_minor"), want["credit"].get(name, (0,))[0])
    nobody = report["no_campaign"]
    same("people without a campaign", tuple(nobody[k] for k in ("leads", "sql", "won")), want["nobody"])
    reasons = {
        reason: (row["revenue_minor"], row["orders"])
        for reason, row in report["unattributed"]["reasons"].items()
    }
    same("unattributed", reasons, want["reasons"])
    same("credited campaigns", sum(r["revenue_minor"] != 0 for r in rows.values()), len(want["credit"]))
    same("orders", report["total"]["orders"], want["orders"])
    same("revenue", report["total"]["revenue_minor"], want["revenue"])
    same("the journal's gross", report["total"]["shop_gross_minor"], want["revenue"])
    same("currency", report["currency"], "BRL")
    return wrong


def main() -> None:
    demo, data = (Path(argument) for argument in sys.argv[1:3])
    wrong = compare(demo, data)
    for line in wrong[:20]:
        print(line)
    if wrong:
        print(f"{len(wrong)} figures differ")
        sys.exit(1)
    print("every figure of the demo ties to the CSV files")


if __name__ == "__main__":
    main()
