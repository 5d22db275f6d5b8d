"""Which records belong to one person. Pure: keys in, persons out, the same in any order of arrival."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mappings.normalise import canonical_gmail

Ref = tuple[str, str, str]  # kind, connector, external id
Key = tuple[str, str]  # kind, value

KINDS = ("lead", "touch", "order", "contact", "stage_change")
# The record a person is named after is its first by kind, connector and id: the steadier a kind is, the
# earlier it stands.
ANCHORS = ("lead", "contact", "order", "touch", "stage_change")


@dataclass(frozen=True, slots=True)
class Rules:
    """The identity rules of the config; `caps` by kind of key, `ignore` as patterns of e-mail addresses."""

    keys: frozenset[str]
    gmail_dots: bool
    plus_tags: bool
    caps: Mapping[str, int]
    ignore: tuple[str, ...]


def keys_of(
    *,
    connector: str,
    emails: Iterable[str | None],
    phone: str | None,
    customer_id: str | None,
    crm_ids: Iterable[str | None],
    click_ids: Iterable[str],
    rules: Rules,
) -> set[Key]:
    """The identity keys of one record. The ids of a shop and a CRM hold within their connector only."""
    keys: set[Key] = set()
    for email in emails:
        if email:
            same = canonical_gmail(email, dots=rules.gmail_dots, plus=rules.plus_tags)
            keys.add(("email", same))
    if phone:
        keys.add(("phone", phone))
    if customer_id:
        keys.add(("customer_id", f"{connector}:{customer_id}"))
    keys |= {("crm_id", f"{connector}:{crm_id}") for crm_id in crm_ids if crm_id}
    keys |= {("click_id", click_id) for click_id in click_ids}
    return {key for key in keys if key[0] in rules.keys}


Listed = Callable[[Key], str | None]


def ignore_list(rules: Rules) -> Listed:
    """A function that says why a key is on the ignore list, None where it is not."""
    patterns = {pattern: fnmatch.translate(_as_key(pattern.lower(), rules)) for pattern in rules.ignore}
    any_of_them = re.compile("|".join(patterns.values()) or r"(?!)")

    def listed(key: Key) -> str | None:
        if key[0] != "email" or not any_of_them.match(key[1]):
            return None
        first = next(pattern for pattern, text in patterns.items() if re.match(text, key[1]))
        return f"is on the ignore list ({first})"

    return listed


def crowd(key: Key, seen_with: Mapping[str, int], rules: Rules) -> str | None:
    """Why `key` must not join records, or None.

    `seen_with` counts by kind the different other keys that stand beside it in records. A phone, a click id
    or a number of the shop or the CRM that stands beside more e-mail addresses than its cap belongs to a
    till, a family or a form filled in by staff; an e-mail address beside more phones than its cap to an
    office.
    """
    other = "phone" if key[0] == "email" else "email"
    count, cap = seen_with.get(other, 0), rules.caps.get(key[0])
    if cap is not None and count > cap:
        return f"stands beside {count} different {other}s, more than {cap}"
    return None


def _as_key(pattern: str, rules: Rules) -> str:
    """A whole address on the ignore list as it would stand in a key; a pattern with wildcards as it is."""
    if any(c in pattern for c in "*?["):
        return pattern
    return canonical_gmail(pattern, dots=rules.gmail_dots, plus=rules.plus_tags)


def components(count: int, together: Iterable[Sequence[int]]) -> array[int]:
    """Group the numbers below `count` of which some, over any way, stand `together`: by number, the lowest of its
    group.

    Records are numbered in the order of anchors, so that this is the anchor: it depends on what belongs
    together only, never on the order in which it came.
    """
    parent = array("q", range(count))

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    for numbers in together:
        mine = root(numbers[0])
        for number in numbers[1:]:
            other = root(number)
            mine, higher = (mine, other) if mine < other else (other, mine)
            parent[higher] = mine
    for n in range(count):
        parent[n] = parent[parent[n]]  # a parent is lower, so it stands already
    return parent


def person_id(anchor: Ref) -> str:
    """``p_`` and 20 hex digits: 80 bits of the SHA-256 of the anchor's name."""
    return "p_" + hashlib.sha256("\x1f".join(anchor).encode()).hexdigest()[:20]


@dataclass(frozen=True, slots=True)
class Event:
    """Records that stood apart now belong to one person (merge), or the other way round (split)."""

    kind: str
    person_id: str
    others: tuple[str, ...]
    keys: tuple[str, ...]


def events(
    before: Mapping[Ref, str], after: Mapping[Ref, str], sightings: Mapping[Ref, Iterable[Key]]
) -> list[Event]:
    """Merges and splits between two groupings of the same records, with the keys that explain them.

    A person that only changed its name (its anchor is another) is neither.
    """
    came_from: dict[str, set[str]] = {}
    went_to: dict[str, set[str]] = {}
    for ref, new in after.items():
        old = before.get(ref)
        if old is not None:
            came_from.setdefault(new, set()).add(old)
            went_to.setdefault(old, set()).add(new)
    found = [
        Event("merge", new, tuple(sorted(olds - {new})), joining_keys(new, after, before, sightings))
        for new, olds in sorted(came_from.items())
        if len(olds) > 1
    ]
    found += [
        Event("split", old, tuple(sorted(news)), ()) for old, news in sorted(went_to.items()) if len(news) > 1
    ]
    return found


def joining_keys(
    person: str,
    after: Mapping[Ref, str],
    before: Mapping[Ref, str],
    sightings: Mapping[Ref, Iterable[Key]],
) -> tuple[str, ...]:
    """The kinds of key that records of different former persons share: what glued them together."""
    holders: dict[Key, set[str | None]] = {}
    for ref, new in after.items():
        if new == person:
            for key in sightings.get(ref, ()):
                holders.setdefault(key, set()).add(before.get(ref))
    return tuple(sorted({key[0] for key, olds in holders.items() if len(olds) > 1}))
