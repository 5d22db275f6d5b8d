"""The database groups records as the naive way does, whatever came in which batch, and names persons alike."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sync.match import rules
from tests.integration.ledger.books import Books, Fact, contact, lead, touch

EMAILS = [f"p{n}@example.com" for n in range(3)]
PHONES = [f"+4860010020{n}" for n in range(3)]
MAKERS = {"lead": lead, "touch": touch, "contact": contact}
Shown = dict[tuple[str, str], tuple[str | None, str | None]]  # (kind, id) → e-mail address, phone

states = st.dictionaries(
    st.tuples(st.sampled_from(sorted(MAKERS)), st.integers(1, 5).map(str)),
    st.tuples(st.none() | st.sampled_from(EMAILS), st.none() | st.sampled_from(PHONES)),
    min_size=1,
    max_size=9,
)


def facts(shown: Shown, version: int) -> list[Fact]:
    made = []
    for (kind, id_), (email, phone) in shown.items():
        said = {"email": email, "phone": phone, "version": version}
        made.append(contact(id_, **said) if kind == "contact" else MAKERS[kind](id_, day=1, **said))
    return made


def connectors(books: Books) -> dict[tuple[str, str], str]:
    return {
        (kind, id_): connector
        for kind, connector, id_ in books.ask("SELECT kind, connector, external_id FROM members")
    }


def naive(shown: Shown, home: dict[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """By record: the person, found by joining groups until none have a key in common."""
    groups = [
        ({(kind, home[kind, id_], id_)}, {key for key in (("e", email), ("p", phone)) if key[1]})
        for (kind, id_), (email, phone) in shown.items()
    ]
    at = 0
    while at < len(groups):
        other = next((g for g in groups[at + 1 :] if g[1] & groups[at][1]), None)
        if other is None:
            at += 1
            continue
        groups.remove(other)
        groups[at] = (groups[at][0] | other[0], groups[at][1] | other[1])
        at = 0
    found = {}
    for members, _ in groups:
        anchor = min(members, key=lambda ref: (rules.ANCHORS.index(ref[0]), *ref[1:]))
        found |= {(ref[0], ref[2]): rules.person_id(anchor) for ref in members}
    return found


@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(states, min_size=1, max_size=3))
def test_persons_are_those_of_the_naive_way(new_books: Callable[[], Books], steps: list[Shown]) -> None:
    books = new_books()
    now: Shown = {}
    for version, step in enumerate(steps, 1):
        books.told(*facts(step, version))
        now |= step
        held = {
            (kind, id_): person
            for kind, id_, person in books.ask("SELECT kind, external_id, person_id FROM members")
        }
        assert held == naive(now, connectors(books))
