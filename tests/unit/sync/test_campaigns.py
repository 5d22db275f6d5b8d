"""Campaign keys: named by id, by name, by utm; what is ambiguous is never decided by chance."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.attribute import campaigns
from sync.funnel.step import origin

KNOWN = [("meta", "17", "Spring Sale"), ("mail", "c9", "Newsletter"), ("meta", "18", "Autumn")]
words = st.sampled_from(["17", "18", "Spring", "spring", "Żółw", "c9"])


def row(**said: Any) -> Any:
    empty = dict.fromkeys(("campaign_id", "campaign_name", "utm_source", "utm_campaign", "utm_id"))
    return SimpleNamespace(**{"connector": "meta", "kind": "touch", "occurred_at": 0} | empty | said)


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ({}, None),
        ({"utm_source": "google"}, None),
        ({"campaign_id": "17"}, "meta:17"),
        ({"campaign_id": "99", "utm_campaign": "Autumn"}, "meta:99"),
        ({"campaign_name": "SPRING sale"}, "meta:17"),
        ({"campaign_name": "Newsletter"}, "mail:c9"),
        ({"campaign_name": "Unheard of"}, "meta:Unheard of"),
        ({"utm_id": "17", "utm_campaign": "Autumn"}, "meta:17"),
        ({"utm_id": "404", "utm_campaign": "autumn"}, "meta:18"),
        ({"utm_id": "C9"}, "mail:c9"),
        ({"utm_id": "404"}, None),
        ({"utm_source": "google", "utm_campaign": "brand"}, "utm:google/brand"),
        ({"utm_campaign": "brand"}, "utm:unknown/brand"),
    ],
)
def test_the_campaign_that_a_record_names(said, key):
    assert campaigns.key_of(row(**said), campaigns.lookup(KNOWN)) == key


def test_utm_that_two_campaigns_answer_to_keep_a_key_of_their_own():
    known = campaigns.lookup([("meta", "1", "Sale"), ("google", "2", "sale"), ("tiktok", "3", "SALE")])
    assert campaigns.key_of(row(utm_source="x", utm_campaign="sale"), known) == "utm:x/sale"


def test_a_name_is_looked_up_among_the_campaigns_of_its_own_connector_first():
    known = campaigns.lookup([("meta", "1", "Sale"), ("google", "2", "Sale")])
    assert campaigns.key_of(row(campaign_name="sale"), known) == "meta:1"
    assert campaigns.key_of(row(connector="google", campaign_name="sale"), known) == "google:2"
    assert campaigns.key_of(row(connector="files", campaign_name="Sale"), known) == "files:Sale"


def test_two_campaigns_of_one_connector_with_one_name_are_not_decided_between():
    known = campaigns.lookup([("meta", "1", "Sale"), ("meta", "2", "Sale")])
    assert campaigns.key_of(row(campaign_name="Sale"), known) == "meta:Sale"


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), words, words), max_size=6, unique_by=lambda c: c[:2]
    ).flatmap(lambda cs: st.tuples(st.just(cs), st.permutations(cs)))
)
def test_the_lookup_does_not_depend_on_the_order_of_campaigns(both):
    one, other = (campaigns.lookup(cs) for cs in both)
    assert one == other
    for (place, word), key in one.words.items():
        answering = {
            f"{c}:{i}" for c, i, name in both[0] if place in (None, c) and word in (i.lower(), name.lower())
        }
        assert answering == {key} if key else len(answering) > 1


def test_a_campaign_whose_id_is_its_name_is_not_ambiguous():
    assert campaigns.key_of(row(utm_campaign="x"), campaigns.lookup([("meta", "x", "X")])) == "meta:x"


def test_a_former_name_counts_until_another_campaign_has_it():
    former = [
        ("meta", "17", "Winter"),
        ("meta", "17", "Spring Sale"),
        ("meta", "40", "Gone"),
        ("mail", "c9", "Old"),
    ]
    known = campaigns.lookup(KNOWN, former)
    assert campaigns.key_of(row(utm_campaign="winter"), known) == "meta:17"
    assert campaigns.key_of(row(utm_id="40"), known) == "meta:40"
    assert known.names["meta:40"] == "Gone"
    assert known.names["mail:c9"] == "Newsletter"
    renewed = campaigns.lookup([*KNOWN, ("tiktok", "5", "Winter")], former)
    assert campaigns.key_of(row(utm_campaign="winter"), renewed) == "tiktok:5"
    shared = campaigns.lookup([*KNOWN, ("tiktok", "5", "Winter"), ("google", "6", "Winter")], former)
    assert campaigns.key_of(row(utm_campaign="winter"), shared) == "utm:unknown/winter"


def test_what_people_read():
    names = campaigns.lookup(KNOWN).names
    assert campaigns.display("meta:17", names) == ("meta", "Spring Sale")
    assert campaigns.display("utm:google/a:b", names) == ("utm", "google/a:b")
    assert campaigns.display("meta:99", names, "As it called itself") == ("meta", "As it called itself")


class TestOrigin:
    """The campaign that brought a person."""

    known = campaigns.lookup(KNOWN)

    def test_nobody_without_a_lead(self):
        assert origin([row(campaign_id="17")], self.known) is None

    def test_that_of_the_first_lead(self):
        rows = [
            row(campaign_id="18", occurred_at=1),
            row(kind="lead", campaign_id="17", occurred_at=2),
            row(kind="lead", campaign_id="18", occurred_at=3),
        ]
        assert origin(rows, self.known) == "meta:17"

    def test_else_that_of_the_last_touch_until_the_lead(self):
        rows = [
            row(campaign_id="1", occurred_at=1),
            row(campaign_id="2", occurred_at=5),
            row(kind="lead", occurred_at=5),
            row(campaign_id="3", occurred_at=6),
        ]
        assert origin(rows, self.known) == "meta:2"
        assert origin([rows[0], row(occurred_at=4), *rows[2:]], self.known) == "meta:1"

    def test_else_that_of_the_first_touch_that_names_one(self):
        rows = [
            row(kind="lead", occurred_at=5),
            row(occurred_at=6),
            row(campaign_id="3", occurred_at=7),
            row(campaign_id="4", occurred_at=8),
        ]
        assert origin(rows, self.known) == "meta:3"
        assert origin(rows[:2], self.known) is None
