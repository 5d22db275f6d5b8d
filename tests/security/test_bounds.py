"""Whatever a vendor or a file sends without end is cut: headers, digits, items of a page, columns, rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from connectors import _answer
from connectors.errors import ConnectorError
from connectors.generic import rows
from connectors.http import Http, HttpSettings
from tests.faults.vendor import hostile as bad
from tests.faults.vendor.checks import ends_as_undisturbed, run_of
from tests.faults.vendor.hostile import Exchange, Hostile
from tests.integration.flow.conftest import World

DIGITS = b"9" * 1_000_000
NUMBERS = {"digits": DIGITS, "fraction": b"0." + DIGITS, "exponent": b"1e999999999", "tiny": b"1e-999999999"}


def asked(vendor: Hostile) -> Any:
    with Http(HttpSettings(base_url=vendor.url, retries=0)) as http:
        return http.get("/list")


@pytest.mark.parametrize("kind", ["many", "long"])
def test_headers_without_end_are_given_up(other: Hostile, kind: str) -> None:
    def answer(exchange: Exchange) -> None:
        headers = {f"x-{n}": "y" for n in range(100_000)} if kind == "many" else {"x": "y" * 10_000_000}
        exchange.begin(200, {**headers, "Content-Length": "2"})
        exchange.write(b"[]")

    other.spoil("/list", answer)
    with pytest.raises(ConnectorError, match="the connection broke"):
        asked(other)


def test_a_page_of_too_many_items_is_refused(other: Hostile) -> None:
    other.spoil("/list", bad.instead(200, b"[" + b"{}," * _answer.ITEMS_MAX + b"{}]"))
    with pytest.raises(ConnectorError, match="a list of 50,001 items, at most 50,000 are read") as refused:
        asked(other).raw_items()
    assert refused.value.kind == "too_large"
    other.heal()
    other.spoil("/list", bad.instead(200, b"[" + b"{}," * (_answer.ITEMS_MAX - 1) + b"{}]"))
    assert len(asked(other).raw_items()) == _answer.ITEMS_MAX


def test_a_body_of_nothing_but_members_is_refused_before_it_is_decoded(other: Hostile) -> None:
    other.spoil("/list", bad.instead(200, b"[" + b"0," * (_answer.MEMBERS_MAX + 1) + b"0]"))
    for read in (lambda answer: answer.raw_items(), lambda answer: answer.decode()):
        with pytest.raises(ConnectorError, match="JSON of more than 4,000,000 members"):
            read(asked(other))


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_without_end_sets_its_record_aside(
    fresh: World, vendors: Hostile, synced_once: World, number: str
) -> None:
    docs, _ = fresh.state.select("woocommerce", "order", order="changed")
    total = json.dumps(docs[3].body["total"]).encode()

    def endless(body: bytes) -> bytes:
        first = body.find(b'"total":' + total)
        return (
            body
            if first < 0
            else body[:first] + b'"total":' + NUMBERS[number] + body[first + 8 + len(total) :]
        )

    vendors.spoil(r"/wc/v3/orders$", bad.raw(endless), status="any")
    run = run_of(fresh.sync(pushes=False), "shop")
    assert run.status == "partial", run.errors
    assert run.counts["orders"]["quarantined"] >= 1
    [longest] = fresh.rows("SELECT max(length(reason)) AS n FROM quarantine")
    assert longest.n < 500
    vendors.heal()
    assert fresh.run("backfill", "shop", "--from", "2024-06-01", "--to", "2026-12-31").code == 0
    ends_as_undisturbed(fresh, synced_once)


def test_a_count_without_end_is_no_count(fresh: World, vendors: Hostile, synced_once: World) -> None:
    def counts(exchange: Exchange) -> None:
        reply = exchange.ask()
        for name in ("X-WP-Total", "X-WP-TotalPages"):
            reply.headers[name] = "9" * 6_000
        exchange.answer(reply)

    vendors.spoil(r"/wc/v3/", counts)
    ends_as_undisturbed(fresh, synced_once)


def test_a_row_of_quotes_that_goes_on_from_line_to_line_is_cut(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('id,name\n1,"' + 'x","\n' * (rows.LINE_MAX // 2) + "\n2,Ewa\n")
    first = next(iter(rows.csv_rows(file, encoding="utf-8", delimiter=",")))
    assert "too long" in first.broken
    assert len(first.body) < 100


def test_a_table_of_too_many_columns_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(",".join(f"c{n}" for n in range(rows.COLUMNS_MAX + 1)) + "\n")
    with pytest.raises(rows.UnreadableFile, match="2001 columns, at most 2000 are read"):
        list(rows.csv_rows(file, encoding="utf-8", delimiter=None))


def test_a_huge_row_of_parquet_is_cut_and_the_next_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    duckdb.execute(
        "COPY (SELECT n AS id, repeat('x', CASE n WHEN 1 THEN $long ELSE 3 END) AS note FROM range(3) t (n))"
        f" TO '{file}' (FORMAT parquet)",
        {"long": rows.ROW_MAX + 1},
    )
    good, cut, last = rows.parquet_rows(file)
    assert "the row is too long" in cut.broken
    assert len(cut.body) == rows.CUT_KEPT
    assert (good.values["id"], last.values["id"]) == (0, 2)
