"""Pushing: what a destination should hold, and that no value never overwrites one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.contract import Outcome
from sync.push import rules
from sync.push.rules import FieldRule, PushRule, Standing

AT = datetime(2024, 7, 1, 12, 30, 15, 999_999, tzinfo=timezone(timedelta(hours=2)))
STANDING = Standing(
    stage="won",
    campaign="Spring",
    campaign_source="meta",
    revenue_minor=123_456,
    digits=2,
    currency="PLN",
    orders=3,
    times={"lead_at": AT, "mql_at": None},
    rejected_reason=None,
)
texts = st.dictionaries(st.sampled_from("abcd"), st.text(min_size=1, max_size=3), max_size=4)


def test_a_standing_as_text():
    assert rules.values(STANDING) == {
        "stage": "won",
        "campaign": "Spring",
        "campaign_source": "meta",
        "revenue": "1234.56",
        "currency": "PLN",
        "orders": "3",
        "rejected_reason": None,
        "lead_at": "2024-07-01T10:30:15.000Z",
        "mql_at": None,
    }


@pytest.mark.parametrize(
    ("minor", "digits", "text"),
    [(0, 2, "0.00"), (5, 2, "0.05"), (-5, 2, "-0.05"), (1000, 0, "1000"), (1234, 3, "1.234"),
     (10**20, 2, "1" + "0" * 18 + ".00")],
)  # fmt: skip
def test_revenue_has_the_decimals_of_its_currency(minor, digits, text):
    assert rules.values(replace(STANDING, revenue_minor=minor, digits=digits))["revenue"] == text


def test_desired_fields_come_from_a_name_a_stage_or_a_constant():
    rule = PushRule(
        "crm",
        frozenset({"won"}),
        (
            FieldRule("revenue_total", source="revenue"),
            FieldRule("lifecycle", by_stage={"won": "customer", "sql": "salesqualifiedlead"}),
            FieldRule("status", by_stage={"sql": "OPEN"}),
            FieldRule("origin", const="leadledger"),
            FieldRule("reason", source="rejected_reason"),
            FieldRule("nothing", const=""),
            FieldRule("mql", source="mql_at"),
        ),
    )
    wanted = rules.desired(STANDING, rule)
    assert wanted == {"lifecycle": "customer", "origin": "leadledger", "revenue_total": "1234.56"}
    assert list(wanted) == sorted(wanted)


def test_no_value_is_no_opinion():
    rule = PushRule(
        "crm", frozenset({"won"}), (FieldRule("c", source="campaign"), FieldRule("o", source="orders"))
    )
    accepted = rules.desired(STANDING, rule)
    unknown = rules.desired(replace(STANDING, campaign=None), rule)
    assert "c" not in unknown
    assert rules.changed(unknown, accepted) == frozenset()
    assert rules.desired(replace(STANDING, campaign=""), rule) == unknown


@given(texts, texts)
def test_only_differences_are_sent_and_after_that_none(wanted, accepted):
    sent = rules.upsert(key="k", email="a@example.com", remote_id=None, wanted=wanted, accepted=accepted)
    assert sent.changed == {n for n in wanted if n not in accepted or accepted[n] != wanted[n]}
    assert dict(sent.fields) == wanted
    held = rules.now_accepted(sent, Outcome("k", "accepted"))
    assert held == accepted | wanted
    assert rules.changed(wanted, held) == frozenset()


@given(texts, texts, texts, st.sampled_from(["accepted", "refused", "retry"]))
def test_what_an_answer_shows_counts_for_the_fields_that_were_sent(wanted, accepted, shown, status):
    sent = rules.upsert(key="k", email="a@example.com", remote_id="9", wanted=wanted, accepted=accepted)
    held = rules.now_accepted(sent, Outcome("k", status, shown=shown))
    for name in set(wanted) | set(accepted) | set(shown):
        if name in wanted and name in shown:
            assert held[name] == shown[name]
        elif name in wanted and status == "accepted":
            assert held[name] == wanted[name]
        else:
            assert held.get(name) == accepted.get(name)


def test_a_refused_upsert_is_still_to_be_sent():
    sent = rules.upsert(
        key="k", email="a@example.com", remote_id=None, wanted={"a": "1"}, accepted={"a": "0"}
    )
    held = rules.now_accepted(sent, Outcome("k", "refused", reason="no such option"))
    assert rules.changed({"a": "1"}, held) == {"a"}
