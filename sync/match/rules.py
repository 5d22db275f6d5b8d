"""Which records belong to one person. Pure: keys in, persons out, the same in any order of arrival."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mappings.normalise import canonical_gmail

Ref = tuple[str, str, str]  # kind, connector, external id
Key = tuple[str, str]  # kind, value

KINDS = ("lead", "touch", "order", "contact", "stage_change")
# The record a person is named after: the steadier a kind is, the earlier it stands.
_ANCHORS = {"lead": 0, "contact": 1, "order": 2, "touch": 3, "stage_change": 4}


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


def ignored(key: Key, seen_with: Mapping[str, int], rules: Rules) -> str | None:
    """Why `key` must not join records, or None.

    `seen_with` counts by kind the different other keys that stand beside it in records. A phone, a click id
    or a number of the shop or the CRM that stands beside more e-mail addresses than its cap belongs to a
    till, a family or a form filled in by staff; an e-mail address beside more phones than its cap to an
    office.
    """
    kind, value = key
    if kind == "email":
        for pattern in rules.ignore:
            if fnmatchcase(value, _as_key(pattern.lower(), rules)):
                return f"is on the ignore list ({pattern})"
    other = "phone" if kind == "email" else "email"
    count, cap = seen_with.get(other, 0), rules.caps.get(kind)
    if cap is not None and count > cap:
        return f"stands beside {count} different {other}s, more than {cap}"
    return None


def _as_key(pattern: str, rules: Rules) -> str:
    """A whole address on the ignore list as it would stand in a key; a pattern with wildcards as it is."""
    if any(c in pattern for c in "*?["):
        return pattern
    return canonical_gmail(pattern, dots=rules.gmail_dots, plus=rules.plus_tags)


def persons(sightings: Mapping[Ref, Iterable[Key]]) -> dict[Ref, str]:
    """Group records that share keys, directly or over others; each gets its person's id.

    A person is named after its anchor, the first of its records in a fixed order, so that the id depends on
    what belongs together only, never on the order in which it came.
    """
    parent: dict[Ref, Ref] = {ref: ref for ref in sightings}

    def root(ref: Ref) -> Ref:
        while parent[ref] != ref:
            parent[ref] = parent[parent[ref]]
            ref = parent[ref]
        return ref

    first: dict[Key, Ref] = {}
    for ref, keys in sightings.items():
        for key in keys:
            other = root(first.setdefault(key, ref))
            mine = root(ref)
            if other != mine:
                low, high = sorted((other, mine), key=anchor_order)
                parent[high] = low
    return {ref: person_id(root(ref)) for ref in sightings}


def anchor_order(ref: Ref) -> tuple[int, str, str]:
    return (_ANCHORS[ref[0]], ref[1], ref[2])


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


def batches(items: Sequence[Ref], size: int) -> list[Sequence[Ref]]:
    return [items[i : i + size] for i in range(0, len(items), size)]
