"""Ids and names that a vendor, or a visitor, makes longer than the database can look up."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from connectors.contract import RawRecord
from mappings.canonical import Touch
from sync.pull import rules


def touch(**values: str) -> Touch:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Touch(**{"external_id": "1", "kind": "visit", "occurred_at": at} | values)


@pytest.mark.parametrize("bad", ["a\x00b", "x" * 513, "ż" * 300])
def test_a_record_whose_id_cannot_be_stored_is_a_broken_one(bad: str) -> None:
    (sealed,) = rules.latest([RawRecord(bad, b"{}")])
    assert sealed.raw.external_id.startswith("sha256:")
    assert "broken" in sealed.raw.context
    assert sealed.raw.body == b"{}"


def test_a_good_id_stays() -> None:
    record = RawRecord("x" * 512, b"{}")
    assert rules.usable(record) is record


def test_two_long_names_stay_two() -> None:
    first, second = (rules.bounded(touch(utm_campaign="c" * 6000 + end)) for end in "ab")
    assert len(first.utm_campaign) < 250
    assert first.utm_campaign != second.utm_campaign
    assert rules.bounded(touch(utm_campaign="c" * 6000 + "a")) == first


def test_a_short_name_is_not_touched() -> None:
    record = touch(utm_campaign="c" * 200)
    assert rules.bounded(record) is record


def test_a_long_id_names_its_field() -> None:
    assert rules.too_long(touch(customer_id="9" * 600)) == "customer_id"
    assert rules.too_long(touch(customer_id="9" * 512)) is None
