"""Why two records are one person's: the shortest way over shared keys, the same one every time."""

from __future__ import annotations

from sync.match.rules import Key, Ref
from sync.report.identity_path import between, told

ORDER, LEAD, CONTACT, TOUCH = (
    ("order", "shop", "1"),
    ("lead", "ads", "l1"),
    ("contact", "crm", "7"),
    ("touch", "ads", "t1"),
)
MAIL: Key = ("email", "anna@example.com")
PHONE: Key = ("phone", "+48601100200")
CLICK: Key = ("click_id", "gclid:x")
CRM: Key = ("crm_id", "crm:7")
KEYS: dict[Ref, list[Key]] = {
    ORDER: [MAIL],
    CONTACT: [CRM, MAIL, PHONE],
    LEAD: [PHONE, CLICK],
    TOUCH: [CLICK],
}


def test_the_way_leads_over_every_key_that_is_needed() -> None:
    assert between(ORDER, TOUCH, KEYS) == [(MAIL, CONTACT), (PHONE, LEAD), (CLICK, TOUCH)]


def test_the_shortest_way_is_taken() -> None:
    assert between(ORDER, TOUCH, {**KEYS, TOUCH: [CLICK, MAIL]}) == [(MAIL, TOUCH)]


def test_of_equal_ways_the_same_one_is_taken_in_any_order() -> None:
    keys = {**KEYS, TOUCH: [PHONE, MAIL], ORDER: [PHONE, MAIL]}
    backwards = {ref: list(reversed(keys[ref])) for ref in reversed(keys)}
    assert between(ORDER, TOUCH, keys) == between(ORDER, TOUCH, backwards) == [(MAIL, TOUCH)]


def test_no_key_no_way() -> None:
    assert between(ORDER, TOUCH, {**KEYS, LEAD: [PHONE]}) is None
    assert between(ORDER, TOUCH, {}) is None
    assert between(ORDER, ORDER, KEYS) == []


def test_whom_it_is_about_is_not_told() -> None:
    way = between(ORDER, TOUCH, KEYS)
    assert way is not None
    steps = told(way)
    assert steps[0] == {"by": "email", "key": "a***@example.com", "record": "contact crm:7"}
    assert steps[1]["key"] == "…0200"
    assert steps[2] == {"by": "click_id", "key": "gclid:x", "record": "touch ads:t1"}
