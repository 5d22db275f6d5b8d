"""Amounts as shops should not write them, and currencies whose minor unit is not a hundredth."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.faults.data.shop import (
    NEW,
    booked,
    campaigns,
    order,
    pulled,
    put,
    refund,
    revenue,
    set_aside,
    wrong,
)

COMMA = """    mapping:
      orders:
        order:
          total_minor: {first: [{path: total, lenient: true}, {path: total, decimal_comma: true}]}
"""
GOOD, BAD = 90001, 90002


@pytest.mark.parametrize(
    ("total", "shape", "right"),
    [
        ("1 234,50", 'text "9 999,99"', "decimal_comma: true"),
        ("1,234.50", 'text "9,999.99"', "a point"),
        ("12,50 zł", 'text "99,99 aa"', "a point"),
        (24.380000000000003, 'number "99.999999999999999"', 'as text such as "24.38"'),
        ("1e5", 'text "9a9"', "a point"),
        ("9" * 30, "beyond 64 bits", "a real amount"),
        (True, "true", "as text"),
        ([], "a list of 0", "a decimal"),
        ({"raw": "1.00"}, "an object with 1 names", "a decimal"),
        (None, "nothing", "required"),
    ],
)
def test_an_amount_that_cannot_be_read_costs_its_own_order_only(
    synced: Any, total: Any, shape: str, right: str
) -> None:
    put(synced, order(GOOD, "70.00"), order(BAD, total))
    pulled(synced, "partial")
    assert revenue(synced, GOOD) == 7000
    [(stream, record, field, reason)] = set_aside(synced)
    assert (stream, record, field) == ("orders", str(BAD), "total_minor")
    assert shape in reason
    assert right in reason
    assert list(wrong(synced)) == ["control total of shop"]
    assert wrong(synced)["control total of shop"].startswith(f"order {BAD}")

    put(synced, order(BAD, "30.00", modified=NEW.replace(hour=10)))
    pulled(synced)
    assert set_aside(synced) == []
    assert revenue(synced, BAD) == 3000
    assert wrong(synced) == {}


def test_amounts_with_a_comma_are_booked_where_the_mapping_says_so(synced: Any) -> None:
    put(synced, order(GOOD, "1 234,50"), order(BAD, "1.234,50"))
    pulled(synced, "partial")
    assert {record for _, record, _, _ in set_aside(synced)} == {str(GOOD), str(BAD)}

    put(synced, order(90003, "5"), order(90004, "0,99"))
    synced.edit(("    type: woocommerce\n", "    type: woocommerce\n" + COMMA))
    pulled(synced)
    assert [revenue(synced, id) for id in (GOOD, BAD, 90003, 90004)] == [123450, 123450, 500, 99]
    assert set_aside(synced) == []
    assert wrong(synced) == {}


def test_json_numbers_are_exact(synced: Any) -> None:
    put(synced, order(GOOD, 1234.56), order(BAD, 7), order(90003, 0.1))
    pulled(synced)
    assert [revenue(synced, id) for id in (GOOD, BAD, 90003)] == [123456, 700, 10]
    assert wrong(synced) == {}


@pytest.mark.parametrize(
    ("currency", "total", "parts", "minor"),
    [
        ("JPY", "1200", ("500", "700"), 1200),
        ("KWD", "12.345", ("0.005", "12.340"), 12345),
        ("TND", "0.999", ("0.333", "0.666"), 999),
        ("pln", "10.00", ("10.00",), 1000),
    ],
)
def test_a_currency_is_counted_in_its_own_minor_unit(
    synced: Any, currency: str, total: str, parts: tuple[str, ...], minor: int
) -> None:
    code, euros = currency.upper(), campaigns(synced)["other_currencies"]
    sold = order(GOOD, total, currency=currency)
    put(synced, sold)
    pulled(synced)
    assert revenue(synced, GOOD) == minor
    assert synced.value("SELECT currency FROM entries WHERE subject = :s", s=f"order:{GOOD}") == code
    if code != "PLN":
        assert campaigns(synced)["other_currencies"] == euros | {
            code: {"revenue_minor": minor, "spend_minor": 0}
        }
    assert wrong(synced) == {}
    [control] = [c for c in synced.run("verify", "--format", "json").json if c["check"].startswith("control")]
    if code != "PLN":
        assert f"{Decimal(total):,f} {code}" in control["found"]

    for number, part in enumerate(parts, start=95001):
        put(synced, refund(number, sold, part, at=NEW.replace(hour=9, minute=number - 95000)), kind="refund")
    pulled(synced)
    assert booked(synced, GOOD) == {}
    assert campaigns(synced)["other_currencies"] == euros
    assert wrong(synced) == {}


@pytest.mark.parametrize(
    ("currency", "total", "parts"),
    [
        ("JPY", "10.00", ["2.50"] * 4),
        ("JPY", "11.50", ["5.75"] * 2),
        ("JPY", "7.5", ["0.5"] * 15),
        ("PLN", "0.02", ["0.005"] * 4),
    ],
)
def test_refunds_finer_than_the_currency_bring_the_order_back_to_zero(
    synced: Any, currency: str, total: str, parts: list[str]
) -> None:
    """Shops set up with two decimals write them in yen as well."""
    sold = order(GOOD, total, currency=currency)
    put(synced, sold)
    made = [refund(95001 + n, sold, part, at=NEW.replace(minute=1 + n)) for n, part in enumerate(parts)]
    put(synced, *made, kind="refund")
    pulled(synced)
    assert booked(synced, GOOD) == {}
    assert wrong(synced) == {}


def test_an_unknown_currency_is_named_and_the_books_stay_as_they_were(synced: Any) -> None:
    put(synced, order(GOOD, "10.00"))
    pulled(synced)
    head = synced.head()
    put(
        synced,
        order(GOOD, "10.00", currency="zloty", modified=NEW.replace(hour=10)),
        order(BAD, currency=" "),
    )
    pulled(synced, "partial")
    assert [(record, field) for _, record, field, _ in set_aside(synced)] == [
        (str(GOOD), "currency"),
        (str(BAD), "currency"),
    ]
    assert synced.head() == head
    assert wrong(synced) == {
        "control total of shop": f"order {GOOD}: what the shop says it comes to cannot be read"
    }
    [todo] = [check.todo for check in synced.verify()]
    [shown] = [
        row for row in synced.run("quarantine", "list", "--format", "json").json if row["record"] == str(GOOD)
    ]
    assert f"quarantine show {shown['id']}" in todo


def test_a_workspace_may_count_in_a_currency_of_three_decimals(synced: Any) -> None:
    put(synced, order(GOOD, "1234.567", currency="KWD"))
    pulled(synced)
    synced.edit(("currency: PLN", "currency: KWD"))
    report = campaigns(synced, "2025-06")
    assert (report["currency"], report["total"]["revenue_minor"]) == ("KWD", 1234567)
    printed = synced.run("report", "campaigns", "--period", "2025-06")
    assert "1,234.567" in printed.out
    assert wrong(synced) == {}


@pytest.mark.parametrize(
    "amount", ["-5.00", "9" * 30, "99999999999999999", "1 234,50", "", None, 5.000000000000001]
)
def test_a_refund_of_an_amount_that_is_none_is_set_aside(synced: Any, amount: Any) -> None:
    sold, other = order(GOOD, "100.00"), order(BAD, "50.00")
    put(synced, sold, other)
    put(synced, refund(95001, sold, amount), refund(95002, other, "20.00"), kind="refund")
    pulled(synced, "partial")
    [(stream, record, field, reason)] = set_aside(synced)
    assert (stream, record, field) == ("refunds", "95001", "amount")
    assert "positive" in reason or "it must" in reason or "required" in reason or "as text" in reason
    assert (revenue(synced, GOOD), revenue(synced, BAD)) == (10000, 3000)
    assert wrong(synced) == {}

    put(synced, refund(95001, sold, "5.00"), kind="refund")
    pulled(synced)
    assert set_aside(synced) == []
    assert revenue(synced, GOOD) == 9500
    assert wrong(synced) == {}
