"""Which campaign a lead or a touch names. Pure.

A campaign's key is ``connector:id``. It may be named by the vendor's own id, by a name, or by utm
parameters; utm that fit no known campaign make a campaign of their own (``utm:source/campaign``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Named(Protocol):
    """What a lead or touch row says about its campaign."""

    connector: Any
    campaign_id: Any
    campaign_name: Any
    utm_source: Any
    utm_campaign: Any
    utm_id: Any


@dataclass(frozen=True, slots=True)
class Lookup:
    """The known campaigns: by key, and by lower-cased id or name, across connectors and within one (None:
    ambiguous)."""

    names: Mapping[str, str]
    by_word: Mapping[str, str | None]
    own_word: Mapping[tuple[str, str], str | None]


def lookup(campaigns: Iterable[tuple[str, str, str]]) -> Lookup:
    """From (connector, external id, name) of every known campaign."""
    names: dict[str, str] = {}
    words: dict[str, str | None] = {}
    own: dict[tuple[str, str], str | None] = {}
    for connector, external_id, name in sorted(campaigns):
        key = f"{connector}:{external_id}"
        names[key] = name
        for word in {external_id.lower(), name.lower()}:
            words[word] = key if words.get(word, key) == key else None
            mine = (connector, word)
            own[mine] = key if own.get(mine, key) == key else None
    return Lookup(names, words, own)


def key_of(row: Named, known: Lookup) -> str | None:
    """The campaign key of a lead or touch, or None: no campaign is known.

    Utm parameters that two campaigns answer to are not decided between: they keep a key of their own.
    """
    if row.campaign_id:
        return f"{row.connector}:{row.campaign_id}"
    if row.campaign_name:
        word = row.campaign_name.lower()
        key = known.own_word.get((row.connector, word)) or known.by_word.get(word)
        return key or f"{row.connector}:{row.campaign_name}"
    for word in (row.utm_id, row.utm_campaign):
        if word and (key := known.by_word.get(word.lower())):
            return key
    if row.utm_campaign:
        return f"utm:{row.utm_source or 'unknown'}/{row.utm_campaign}"
    return None


def display(key: str, names: Mapping[str, str], row_name: str | None = None) -> tuple[str, str]:
    """(source, name) of a campaign key for people."""
    source, _, rest = key.partition(":")
    return source, names.get(key) or row_name or rest
