"""The funnel: the same facts give the same stages, in whatever order they became known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.funnel import rules
from sync.funnel.rules import Condition, Fact, Rule
from sync.funnel.rules import Test as Asked

T0 = datetime(2024, 3, 1, 9, tzinfo=UTC)


def fact(kind: str, minutes: float, id_: str = "", *, who: str | None = None, **values: Any) -> Fact:
    return Fact(kind, "crm", id_ or f"{kind}{minutes}", T0 + timedelta(minutes=minutes), values, who)


def lead(minutes: float = 0, **values: Any) -> Fact:
    return fact("lead", minutes, **values)


def status(minutes: float, value: str | None, *, field: str = "status", who: str | None = None) -> Fact:
    return fact("stage_change", minutes, f"{field}{value}{minutes}", who=who, field=field, value=value)


def when_status(stage: rules.Stage, *values: str, reason: str | None = None) -> Rule:
    asked = (Asked("field", one_of=("status",)), Asked("value", one_of=values))
    return Rule(stage, Condition("stage_change", asked), reason=reason)


RULES = (
    Rule("mql", Condition("lead", (Asked("consent", one_of=("granted",)),))),
    when_status("mql", "MQL"),
    when_status("sql", "SQL"),
    Rule("won", Condition("order"), name="funnel.won[1]"),
    when_status("rejected", "BAD"),
    when_status("lost", "LOST"),
    when_status("recycled", "LATER"),
)


def stages(*facts: Fact, by: tuple[Rule, ...] = RULES) -> list[str]:
    return [event.stage for event in rules.events(facts, by)]


@st.composite
def some_facts(draw: st.DrawFn) -> list[Fact]:
    made = []
    for number in range(draw(st.integers(0, 8))):
        minutes = draw(st.integers(-3, 3))
        kind = draw(st.sampled_from(["lead", "stage_change", "order", "touch"]))
        values: dict[str, Any] = {"test": draw(st.sampled_from([None, False, True]))}
        if kind == "stage_change":
            values["field"] = draw(st.sampled_from(["status", "reason"]))
            values["value"] = draw(st.sampled_from(["MQL", "SQL", "BAD", "LOST", "LATER", None]))
        if kind == "lead":
            values["consent"] = draw(st.sampled_from(["granted", None]))
        made.append(fact(kind, minutes, str(number), **values))
    return made


ALSO = (*RULES, Rule("mql", Condition("touch"), also=(Condition("stage_change"), Condition("order"))))


@given(some_facts().flatmap(lambda facts: st.tuples(st.just(facts), st.permutations(facts))))
def test_the_order_in_which_facts_become_known_does_not_matter(both):
    assert rules.events(both[0], ALSO) == rules.events(both[1], ALSO)


@given(some_facts())
def test_what_always_holds_of_a_journey(facts):
    reached = rules.events(facts, ALSO)
    leads = [f for f in facts if f.kind == "lead" and not f.values["test"]]
    assert bool(reached) == bool(leads)
    if not leads:
        assert rules.journey(reached) is None
        return
    start = min(f.at for f in leads)
    assert (reached[0].stage, reached[0].at) == ("lead", start)
    assert all(e.at >= start for e in reached if e.stage in ("won", "lead"))
    assert all(not e.fact.values["test"] for e in reached)
    effective = [max(e.at, start) for e in reached]
    assert effective == sorted(effective)
    assert [e.stage for e in reached].count("won") <= 1
    summary = rules.journey(reached)
    assert summary.stage == reached[-1].stage
    assert summary.lead_at == start
    assert set(summary.reached) == {e.stage for e in reached}
    for event in reached:
        assert summary.reached[event.stage] == next(e.at for e in reached if e.stage == event.stage)


def test_the_whole_way():
    order = fact("order", 300, who="shop")
    reached = rules.events([order, status(60, "SQL", who="Anna"), lead(consent="granted")], RULES)
    assert [(e.stage, e.at - T0, e.who) for e in reached] == [
        ("lead", timedelta(0), None),
        ("mql", timedelta(0), None),
        ("sql", timedelta(minutes=60), "Anna"),
        ("won", timedelta(minutes=300), "shop"),
    ]
    assert [e.why for e in reached] == ["a lead came in", "rule mql", "rule sql", "funnel.won[1]"]
    assert reached[-1].fact is order
    assert {e.reason for e in reached} == {None}


def test_nobody_without_a_lead_is_in_the_funnel():
    assert stages(status(0, "SQL"), fact("order", 1), fact("touch", 2)) == []
    assert stages(lead(test=True), fact("order", 1)) == []


def test_sales_was_faster_than_the_lead():
    reached = rules.events([lead(consent="granted"), status(-30, "SQL"), fact("order", 5)], RULES)
    assert [e.stage for e in reached] == ["lead", "mql", "sql", "won"]
    assert reached[2].at == T0 - timedelta(minutes=30)


def test_facts_older_than_the_lead_keep_their_own_order():
    assert stages(lead(), status(-20, "SQL"), status(-40, "MQL")) == ["lead", "mql", "sql"]


def test_who_was_out_before_the_lead_is_in_again_by_it():
    assert stages(lead(), status(-30, "LATER"), status(-20, "SQL"), status(-40, "MQL")) == [
        "lead",
        "mql",
        "sql",
    ]
    assert stages(lead(), status(0, "SQL"), status(-20, "LATER"), status(-30, "MQL"))[-1] == "sql"
    assert "rejected" not in stages(lead(), status(-5, "BAD"))
    assert stages(lead(), status(5, "BAD"))[-1] == "rejected"


@pytest.mark.parametrize(
    ("minutes", "expected"), [(-0.1, ["lead"]), (0, ["lead", "won"]), (9, ["lead", "won"])]
)
def test_an_order_before_the_first_contact_is_not_won_by_it(minutes, expected):
    assert stages(lead(), fact("order", minutes)) == expected


def test_an_order_before_the_first_contact_does_not_win_as_a_second_condition_either():
    by = (Rule("won", Condition("stage_change"), also=(Condition("order"),)),)
    assert stages(lead(), fact("order", -5), status(3, "CUSTOMER"), by=by) == ["lead"]
    assert stages(lead(), fact("order", -5), fact("order", 9), status(3, "X"), by=by) == ["lead", "won"]


def test_the_first_lead_that_is_no_test_opens_the_funnel():
    assert stages(lead(-10, test=True), fact("order", -5), lead()) == ["lead"]


def test_rejected_and_back_by_a_new_lead():
    facts = [lead(), status(1, "BAD"), status(2, "SQL"), lead(3), status(4, "SQL"), fact("order", 5)]
    assert stages(*facts) == ["lead", "rejected", "lead", "sql", "won"]


def test_recycled_and_qualified_again():
    facts = [
        lead(),
        status(1, "MQL"),
        status(2, "SQL"),
        status(3, "LATER"),
        status(4, "MQL"),
        status(5, "SQL"),
    ]
    reached = rules.events(facts, RULES)
    assert [e.stage for e in reached] == ["lead", "mql", "sql", "recycled", "mql", "sql"]
    summary = rules.journey(reached)
    assert summary.reached["mql"] == T0 + timedelta(minutes=1)
    assert summary.stage == "sql"


def test_an_order_wins_even_after_a_rejection_or_a_loss():
    assert stages(lead(), status(1, "BAD"), fact("order", 2)) == ["lead", "rejected", "won"]
    assert stages(lead(), status(1, "SQL"), status(2, "LOST"), fact("order", 3))[-2:] == ["lost", "won"]


def test_what_is_won_stays_won():
    later = (lead(3), status(4, "BAD"), status(5, "LATER"), status(6, "SQL"), fact("order", 7))
    assert stages(lead(), fact("order", 1), *later) == ["lead", "won"]


def test_steps_back_are_no_events():
    assert stages(lead(), status(1, "SQL"), status(2, "MQL"), status(3, "SQL")) == ["lead", "sql"]
    assert stages(lead(), status(1, "LOST")) == ["lead"]


class TestReason:
    """Why sales said no."""

    def reason(self, *facts: Fact, by: tuple[Rule, ...] = RULES) -> str | None:
        return rules.journey(rules.events([lead(), *facts], by)).rejected_reason

    @pytest.mark.parametrize(
        ("minutes", "expected"), [(-600, "no budget"), (9, "no budget"), (10, "no budget"), (10.1, "BAD")]
    )
    def test_written_before_or_within_ten_minutes(self, minutes, expected):
        changed = status(60 + minutes, "no budget", field="reason")
        assert self.reason(status(60, "BAD"), changed) == expected

    def test_of_several_the_last_that_was_written(self):
        written = [
            status(m, text, field="reason") for m, text in ((50, "a"), (65, "c"), (62, "b"), (90, "d"))
        ]
        assert self.reason(status(60, "BAD"), *written) == "c"

    def test_of_two_at_the_same_time_always_the_same(self):
        one, two = status(62, "a", field="reason"), status(62, "b", field="reason")
        rejected = status(60, "BAD")
        assert self.reason(rejected, one, two) == self.reason(rejected, two, one) == "b"

    def test_a_reason_that_was_cleared_is_none(self):
        assert self.reason(
            status(1, "old", field="reason"), status(2, None, field="reason"), status(3, "BAD")
        ) == ("BAD")

    def test_each_rejection_has_its_own_and_the_last_counts(self):
        facts = [
            status(1, "BAD"), status(2, "no budget", field="reason"), lead(100),
            status(101, "BAD"), status(102, "wrong person", field="reason"),
        ]  # fmt: skip
        reached = rules.events([lead(), *facts], RULES)
        assert [e.reason for e in reached if e.stage == "rejected"] == ["no budget", "wrong person"]
        assert self.reason(*facts) == "wrong person"

    def test_the_rule_may_name_it(self):
        by = (when_status("rejected", "BAD", reason="not for us"),)
        assert self.reason(status(1, "BAD"), status(2, "x", field="reason"), by=by) == "not for us"

    def test_nothing_was_written_at_all(self):
        assert self.reason(fact("touch", 1), by=(Rule("rejected", Condition("touch")),)) == "no reason given"

    def test_a_stage_forward_has_none(self):
        reached = rules.events([lead(), status(1, "SQL"), status(1, "x", field="reason")], RULES)
        assert reached[-1].reason is None


@pytest.mark.parametrize(
    ("test", "value", "holds"),
    [
        (Asked("x"), None, True),
        (Asked("x", one_of=("a", "b")), "b", True),
        (Asked("x", one_of=("a", "b")), "c", False),
        (Asked("x", one_of=("a", "b")), None, False),
        (Asked("x", one_of=("a", "b")), ["c", "a"], True),
        (Asked("x", one_of=("a", "b")), ("c",), False),
        (Asked("x", one_of=(True,)), False, False),
        (Asked("x", none_of=("a",)), "b", True),
        (Asked("x", none_of=("a",)), "a", False),
        (Asked("x", none_of=("a",)), None, True),
        (Asked("x", none_of=("a",)), ["b", "a"], False),
        (Asked("x", none_of=("a",)), [], True),
        (Asked("x", low=Decimal(5)), Decimal(5), True),
        (Asked("x", low=Decimal(5)), Decimal("4.9"), False),
        (Asked("x", low=Decimal(5)), None, False),
        (Asked("x", high=Decimal(5)), Decimal(5), True),
        (Asked("x", high=Decimal(5)), Decimal("5.1"), False),
        (Asked("x", high=Decimal(5)), None, False),
        (Asked("x", low=1, high=3), 2, True),
        (Asked("x", low=1, high=3), 0, False),
        (Asked("x", present=True), 0, True),
        (Asked("x", present=True), False, True),
        (Asked("x", present=True), None, False),
        (Asked("x", present=True), "", False),
        (Asked("x", present=True), [], False),
        (Asked("x", present=True), ["a"], True),
        (Asked("x", present=False), None, True),
        (Asked("x", present=False), (), True),
        (Asked("x", present=False), "a", False),
        (Asked("x", one_of=("a",), present=True), "a", True),
        (Asked("x", one_of=("a",), none_of=("a",)), "a", False),
    ],
)
def test_conditions(test, value, holds):
    assert test.holds({"x": value}) is holds
    assert test.holds({"x": value, "y": "a"}) is holds


def test_a_field_that_the_fact_does_not_have_is_absent():
    assert Asked("x", present=False).holds({})
    assert not Asked("x", one_of=("a",)).holds({})


def test_all_of_a_condition_must_hold_and_of_the_right_kind():
    condition = Condition("lead", (Asked("a", one_of=(1,)), Asked("b", one_of=(2,))))
    assert condition.holds(lead(a=1, b=2))
    assert not condition.holds(lead(a=1, b=3))
    assert not condition.holds(fact("touch", 0, a=1, b=2))


class TestAlso:
    """A stage that needs several things, before or after."""

    by = (Rule("mql", Condition("lead"), also=(Condition("touch"), Condition("contact"))),)

    def test_reached_when_the_last_of_them_has_happened(self):
        for touch, contact in ((5, -7), (-7, 5)):
            facts = [lead(), fact("touch", touch), fact("contact", contact), fact("touch", 99)]
            reached = rules.events(facts, self.by)
            assert [(e.stage, e.at) for e in reached] == [("lead", T0), ("mql", T0 + timedelta(minutes=5))]

    def test_not_while_one_is_missing(self):
        assert stages(lead(), fact("touch", 5), by=self.by) == ["lead"]

    def test_a_test_record_does_not_count(self):
        assert stages(lead(), fact("touch", 5, test=True), fact("contact", 5), by=self.by) == ["lead"]
