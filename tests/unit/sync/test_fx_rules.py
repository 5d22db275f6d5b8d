"""Conversion: which table holds, exactly what it comes to, and nothing left after a full refund."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.ledger import encoding, fx, rules

AT = datetime(2026, 5, 1, tzinfo=UTC)
DAY = date(2026, 4, 30)


def rate(base: str, quote: str, value: str, source: str = "nbp") -> fx.Rate:
    return fx.Rate(source, "083/A/NBP/2026", DAY, base, quote, Decimal(value), 7, b"\x07" * 32)


NBP = [rate("EUR", "PLN", "4.2567"), rate("USD", "PLN", "3.9001"), rate("JPY", "PLN", "0.026123")]
ECB = [rate("EUR", "PLN", "4.25", "ecb"), rate("EUR", "USD", "1.09", "ecb")]


@pytest.mark.parametrize(
    ("rates", "source", "target", "wanted"),
    [
        (NBP, "EUR", "PLN", Fraction("4.2567")),
        (NBP, "PLN", "EUR", 1 / Fraction("4.2567")),
        (NBP, "USD", "EUR", Fraction("3.9001") / Fraction("4.2567")),
        (ECB, "USD", "PLN", Fraction("4.25") / Fraction("1.09")),
        (NBP, "GBP", "PLN", None),
        ([], "EUR", "PLN", None),
        ([rate("EUR", "PLN", "0")], "PLN", "EUR", None),
    ],
)
def test_a_table_converts_directly_backwards_and_through_its_own_currency(
    rates: list[fx.Rate], source: str, target: str, wanted: Fraction | None
) -> None:
    found = fx.factor(rates, source, target)
    assert (found[0] if found else None) == wanted


def test_minor_units_are_those_of_iso_4217() -> None:
    yen = fx.worth(NBP, "JPY", "PLN")
    assert yen is not None
    assert yen.per_minor == Fraction("2.6123")  # one yen in grosz
    back = fx.worth(NBP, "PLN", "JPY")
    assert back is not None
    assert back.per_minor == 1 / Fraction("2.6123")


@pytest.mark.parametrize(
    ("amount", "wanted"), [("0.5", 1), ("1.5", 2), ("-0.5", -1), ("2.4999", 2), ("-2.5", -3)]
)
def test_a_half_counts_as_one(amount: str, wanted: int) -> None:
    assert fx.rounded(Fraction(amount)) == wanted


def order(gross: int, credits: list[tuple[str, int]], refunds: list[int], currency: str) -> list[rules.Draft]:
    sale = rules.Sale("shop", currency, AT, gross, 0, 0, credits, 1, 1, b"")
    back = [rules.Refund(f"{n:03}", AT, amount, None, None, None, 1, b"") for n, amount in enumerate(refunds)]
    return rules.desired(sale, back)


def sums(drafts: list[rules.Draft]) -> dict[str, int]:
    found: dict[str, int] = {}
    for draft in drafts:
        for account, amount in draft.postings:
            found[account] = found.get(account, 0) + amount
    return {account: amount for account, amount in found.items() if amount}


amounts = st.lists(st.integers(1, 10_000_000), min_size=1, max_size=6)
values = st.decimals("0.0001", "500", places=4).filter(lambda d: d > 0)


@given(amounts, values, st.sampled_from(["EUR", "JPY", "KWD"]), st.data())
def test_every_conversion_balances_and_a_full_refund_leaves_nothing(
    shares: list[int], value: Decimal, currency: str, data: st.DataObject
) -> None:
    gross = sum(shares)
    credits = [(f"Credit:Campaign:ads:{n}", share) for n, share in enumerate(shares)]
    cuts = sorted([*data.draw(st.lists(st.integers(1, gross), max_size=4, unique=True)), gross])
    refunds = [b - a for a, b in zip([0, *cuts], cuts, strict=False) if b > a]
    worth = fx.worth([rate(currency, "PLN", str(value))], currency, "PLN")
    assert worth is not None
    sale = fx.conversions(order(gross, credits, [], currency), worth)
    assert sum(sums(sale).values()) == 0
    expected = fx.rounded(gross * worth.per_minor)
    assert sums(sale).get(f"Converted:{currency}:Revenue:Shop:shop", 0) == -expected
    for account, amount in credits:
        held = sums(sale).get(f"Converted:{currency}:{account}", 0)
        assert abs(held - amount * worth.per_minor) <= 1
    found = fx.conversions(order(gross, credits, refunds, currency), worth)
    assert all(sum(n for _, n in draft.postings) == 0 for draft in found)
    assert sums(found) == {}


def test_a_refund_above_the_sale_is_converted_as_it_is_booked() -> None:
    worth = fx.worth(NBP, "EUR", "PLN")
    assert worth is not None
    found = fx.conversions(order(100, [("Credit:Campaign:ads:1", 100)], [150], "EUR"), worth)
    assert sums(found) == {
        "Converted:EUR:Revenue:Shop:shop": 213,
        "Converted:EUR:Unattributed:refund exceeds the sale": -213,
    }


def test_an_entry_says_by_which_table() -> None:
    worth = fx.worth(NBP, "USD", "EUR")
    assert worth is not None
    [entry] = fx.conversions(order(100, [("Credit:Campaign:ads:1", 100)], [], "USD"), worth)
    assert (entry.kind, entry.part, entry.currency, entry.happened_at) == ("fx", "fx:sale", "EUR", AT)
    assert entry.reason == (
        "1 USD = 3.9001 PLN by 083/A/NBP/2026 of 2026-04-30 (nbp),"
        " 1 EUR = 4.2567 PLN by 083/A/NBP/2026 of 2026-04-30 (nbp)"
    )
    assert entry.evidence_id == 7
    assert entry.rate is not None
    assert [used.evidence_sha256 for used in entry.rate] == ["07" * 32] * 2


def live(draft: rules.Draft, id: int) -> rules.Live:
    return rules.Live(
        id, draft.kind, draft.part, draft.currency, draft.happened_at, draft.postings, 1, AT, rate=draft.rate
    )


def test_another_rate_is_a_correction_even_where_the_amount_stays() -> None:
    worth = fx.worth([rate("EUR", "PLN", "4.2567")], "EUR", "PLN")
    assert worth is not None
    [before] = fx.conversions(order(1, [("Credit:Campaign:ads:1", 1)], [], "EUR"), worth)
    again = fx.worth([rate("EUR", "PLN", "4.2568")], "EUR", "PLN")
    assert again is not None
    [after] = fx.conversions(order(1, [("Credit:Campaign:ads:1", 1)], [], "EUR"), again)
    assert before.postings == after.postings
    assert rules.corrections([live(before, 1)], [before], why_gone="") == []
    back, anew = rules.corrections([live(before, 1)], [after], why_gone="")
    assert (back.kind, back.reverses, back.rate) == ("correction", 1, before.rate)
    assert back.reason == "another rate holds"
    assert (anew.kind, anew.rate) == ("fx", after.rate)


def test_a_hash_without_a_rate_is_what_it_always_was() -> None:
    fields = {
        "author": "leadledger",
        "booked_at": AT,
        "business_day": DAY,
        "posted_on": DAY,
        "refers_to": None,
        "connector": "shop",
        "currency": "PLN",
        "evidence_id": 1,
        "evidence_sha256": b"",
        "generation": 1,
        "happened_at": AT,
        "id": 1,
        "kind": "sale",
        "part": "sale",
        "policy_version": 1,
        "reason": "order paid",
        "reverses": None,
        "subject": "order:1",
    }
    postings = (("Credit:Campaign:ads:1", 100), ("Revenue:Shop:shop", -100))
    plain = encoding.canonical_bytes(fields, postings)
    assert b"rate" not in plain
    assert plain == encoding.canonical_bytes({**fields, "rate": None}, postings)
    worth = fx.worth(NBP, "EUR", "PLN")
    assert worth is not None
    [entry] = fx.conversions(order(100, [("Credit:Campaign:ads:1", 100)], [], "EUR"), worth)
    booked = encoding.canonical_bytes({**fields, "rate": entry.rate}, postings)
    stored = [{name: getattr(used, name) for name in used.__struct_fields__} for used in entry.rate or ()]
    assert booked == encoding.canonical_bytes({**fields, "rate": stored}, postings)
    assert b'"rate":[{"base":"EUR","day":"2026-04-30","evidence_sha256":"0707' in booked
    assert replace(entry, rate=None) != entry
