"""Matching: who is one person depends on the records alone, never on the order in which they came."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.match import rules
from sync.match.rules import Key, Ref, Rules

PLAIN = Rules(
    keys=frozenset({"email", "phone", "click_id", "customer_id", "crm_id"}),
    gmail_dots=False,
    plus_tags=False,
    caps={"email": 3, "phone": 3, "click_id": 1},
    ignore=(),
)
refs = st.tuples(st.sampled_from(rules.KINDS), st.sampled_from(["shop", "crm"]), st.integers(0, 5).map(str))
some_keys = st.sets(st.tuples(st.sampled_from(["email", "phone"]), st.integers(0, 7).map(str)), max_size=3)
sightings = st.dictionaries(refs, some_keys, max_size=12)


def lead(id_: str) -> Ref:
    return ("lead", "ads", id_)


def order(id_: str) -> Ref:
    return ("order", "shop", id_)


EMAIL: Key = ("email", "a@example.com")
PHONE: Key = ("phone", "+48123456789")


def anchor_order(ref: Ref) -> tuple[int, str, str]:
    return (rules.ANCHORS.index(ref[0]), ref[1], ref[2])


def persons(seen: dict[Ref, set[Key]]) -> dict[Ref, str]:
    """Who each record is, with the records numbered in the order of anchors."""
    order = sorted(seen, key=anchor_order)
    holders: dict[Key, list[int]] = {}
    for ref, keys in seen.items():
        for key in keys:
            holders.setdefault(key, []).append(order.index(ref))
    anchors = rules.components(len(order), holders.values())
    return {ref: rules.person_id(order[anchor]) for ref, anchor in zip(order, anchors, strict=True)}


def _closure(seen: dict[Ref, set[Key]]) -> set[frozenset[Ref]]:
    """The partition, naively: join any two groups with a key in common until there are none."""
    groups = [({ref}, set(keys)) for ref, keys in seen.items()]
    joined = True
    while joined:
        joined = False
        for i, (members, keys) in enumerate(groups):
            for other in groups[i + 1 :]:
                if keys & other[1]:
                    members.update(other[0])
                    keys.update(other[1])
                    groups.remove(other)
                    joined = True
                    break
    return {frozenset(members) for members, _ in groups}


def _partition(grouped: dict[Ref, str]) -> set[frozenset[Ref]]:
    return {frozenset(r for r in grouped if grouped[r] == person) for person in grouped.values()}


@given(sightings)
def test_persons_are_the_transitive_closure_of_shared_keys(seen):
    assert _partition(persons(seen)) == _closure(seen)


@given(sightings.flatmap(lambda seen: st.tuples(st.just(seen), st.permutations(list(seen)))))
def test_persons_and_their_ids_do_not_depend_on_the_order_of_arrival(given_):
    seen, mixed = given_
    assert persons(seen) == persons({ref: sorted(seen[ref], reverse=True) for ref in mixed})


@given(sightings)
def test_a_person_is_named_after_its_steadiest_record(seen):
    grouped = persons(seen)
    for members in _partition(grouped):
        anchor = min(members, key=anchor_order)
        assert {grouped[ref] for ref in members} == {rules.person_id(anchor)}


def test_the_id_of_a_person_is_fixed_for_ever():
    assert rules.person_id(("lead", "meta", "17")) == (
        "p_" + hashlib.sha256(b"lead\x1fmeta\x1f17").hexdigest()[:20]
    )
    assert rules.person_id(("lead", "meta", "17")) == "p_a659b3a0b942edf7cbb3"


def test_leads_name_a_person_before_contacts_orders_touches_and_stage_changes():
    seen = {(kind, "x", "1"): {EMAIL} for kind in reversed(rules.KINDS)}
    expected = ["lead", "contact", "order", "touch", "stage_change"]
    for anchor in expected:
        assert set(persons(seen).values()) == {rules.person_id((anchor, "x", "1"))}
        del seen[(anchor, "x", "1")]


def test_a_record_without_a_key_is_a_person_of_its_own():
    grouped = persons({lead("1"): set(), lead("2"): set()})
    assert grouped[lead("1")] != grouped[lead("2")]


def keys(rules_: Rules = PLAIN, **said: object) -> set[Key]:
    nothing = {"emails": (), "phone": None, "customer_id": None, "crm_ids": (), "click_ids": ()}
    return rules.keys_of(**{"connector": "shop"} | nothing | said, rules=rules_)


def test_the_keys_of_a_record():
    found = keys(
        emails=["a@example.com", None, "", "b@example.com"],
        phone="+48123456789",
        customer_id="7",
        crm_ids=["9", None],
        click_ids=["gclid:x"],
    )
    assert found == {
        ("email", "a@example.com"),
        ("email", "b@example.com"),
        ("phone", "+48123456789"),
        ("customer_id", "shop:7"),
        ("crm_id", "shop:9"),
        ("click_id", "gclid:x"),
    }
    assert keys() == set()


def test_only_the_kinds_of_key_that_the_config_names():
    few = Rules(frozenset({"phone"}), False, False, {}, ())
    assert keys(few, emails=["a@example.com"], phone="+48123456789") == {PHONE}


def test_numbers_of_two_shops_are_not_the_same_customer():
    assert keys(customer_id="7") & keys(connector="other", customer_id="7") == set()


def test_gmail_rules_only_when_they_are_switched_on():
    merged = Rules(PLAIN.keys, True, True, {}, ())
    assert keys(emails=["jan.k+shop@gmail.com"]) == {("email", "jan.k+shop@gmail.com")}
    assert keys(merged, emails=["jan.k+shop@gmail.com"]) == keys(merged, emails=["jank@googlemail.com"])
    assert keys(merged, emails=["jan.k+shop@wp.pl"]) == {("email", "jan.k+shop@wp.pl")}


@pytest.mark.parametrize(
    ("key", "seen_with", "why"),
    [
        (EMAIL, {"phone": 3}, None),
        (EMAIL, {"phone": 4}, "stands beside 4 different phones, more than 3"),
        (EMAIL, {"email": 99}, None),
        (PHONE, {"email": 3, "phone": 99}, None),
        (PHONE, {"email": 4}, "stands beside 4 different emails, more than 3"),
        (("click_id", "gclid:x"), {"email": 2}, "stands beside 2 different emails, more than 1"),
        (("customer_id", "shop:7"), {"email": 1000}, None),
        (EMAIL, {}, None),
    ],
)
def test_a_key_that_stands_beside_too_many_others_joins_nobody(key, seen_with, why):
    assert rules.crowd(key, seen_with, PLAIN) == why


@pytest.mark.parametrize(
    ("pattern", "email", "hit"),
    [
        ("info@*", "info@example.com", True),
        ("INFO@*", "info@example.com", True),
        ("info@*", "xinfo@example.com", False),
        ("*@example.com", "jan@example.com", True),
        ("*@example.com", "jan@sub.example.com", False),
        ("a@example.com", "a@example.com", True),
    ],
)
def test_the_ignore_list(pattern, email, hit):
    listed = rules.ignore_list(Rules(PLAIN.keys, False, False, {}, ("nobody@example.org", pattern)))
    why = listed(("email", email))
    assert why == (f"is on the ignore list ({pattern})" if hit else None)
    assert listed(("phone", email)) is None


def test_an_empty_ignore_list_ignores_nobody():
    assert rules.ignore_list(PLAIN)(EMAIL) is None


def test_an_ignored_gmail_address_is_ignored_in_every_spelling():
    listed = Rules(PLAIN.keys, True, True, {}, ("Front.Desk+x@gmail.com",))
    (key,) = keys(listed, emails=["frontdesk@googlemail.com"])
    assert rules.ignore_list(listed)(key) == "is on the ignore list (Front.Desk+x@gmail.com)"
    assert rules.ignore_list(listed)(("email", "frontdesk2@gmail.com")) is None
    tagged = Rules(PLAIN.keys, True, True, {}, ("*+test@gmail.com",))
    assert rules.ignore_list(tagged)(("email", "anybody@gmail.com")) is None


class TestEvents:
    """Merges and splits, with what explains them."""

    apart = {lead("1"): {EMAIL}, order("1"): {PHONE}}
    joined = {**apart, ("contact", "crm", "1"): {EMAIL, PHONE}}

    def test_a_merge_names_who_became_one_and_by_which_keys(self):
        before, after = persons(self.apart), persons(self.joined)
        (event,) = rules.events(before, after, self.joined)
        assert event.kind == "merge"
        assert event.person_id == rules.person_id(lead("1"))
        assert event.others == (rules.person_id(order("1")),)
        assert event.keys == ("email", "phone")

    def test_a_split_when_the_evidence_goes(self):
        before, after = persons(self.joined), persons(self.apart)
        (event,) = rules.events(before, after, self.apart)
        assert (event.kind, event.person_id) == ("split", rules.person_id(lead("1")))
        assert set(event.others) == set(after.values())
        assert event.keys == ()

    def test_a_new_name_is_no_event(self):
        before = persons({order("1"): {EMAIL}, order("2"): {EMAIL}})
        seen = {order("1"): {EMAIL}, order("2"): {EMAIL}, lead("1"): {EMAIL}}
        after = persons(seen)
        assert before[order("1")] != after[order("1")]
        assert rules.events(before, after, seen) == []

    def test_newcomers_and_leavers_are_no_event(self):
        one = {lead("1"): {EMAIL}}
        assert rules.events({}, persons(one), one) == []
        assert rules.events(persons(one), {}, {}) == []

    @given(sightings, sightings)
    def test_events_are_exactly_the_changes_of_who_belongs_together(self, old, new):
        before, after = persons(old), persons(new)
        stayed = [ref for ref in before if ref in after]
        merged = {after[a] for a in stayed for b in stayed if after[a] == after[b] and before[a] != before[b]}
        split = {before[a] for a in stayed for b in stayed if before[a] == before[b] and after[a] != after[b]}
        found = rules.events(before, after, new)
        assert [e.person_id for e in found if e.kind == "merge"] == sorted(merged)
        assert [e.person_id for e in found if e.kind == "split"] == sorted(split)
        assert all(e.keys for e in found if e.kind == "merge" and set(old) >= set(new))

    @given(sightings)
    def test_nothing_changed_is_no_event(self, seen):
        grouped = persons(seen)
        assert rules.events(grouped, grouped, seen) == []
