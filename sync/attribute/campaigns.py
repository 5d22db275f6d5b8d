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
    """The known campaigns: names by key, and keys by lower-cased id or name, across connectors (connector
    None) and within one. A word that two campaigns answer to has no key (None)."""

    names: Mapping[str, str]
    words: Mapping[tuple[str | None, str], str | None]

    def find(self, word: str, connector: str | None = None) -> str | None:
        """The one campaign that goes by `word`, whether its own connector or any other knows it."""
        word = word.lower()
        return (connector and self.words.get((connector, word))) or self.words.get((None, word))


def lookup(campaigns: Iterable[tuple[str, str, str]], former: Iterable[tuple[str, str, str]] = ()) -> Lookup:
    """From (connector, external id, name) of every campaign that is, and of every name that one ever had, the
    oldest first.

    Links with a former name stay in the world, so it goes on naming its campaign, renamed or deleted, as long
    as none goes by that name now.
    """
    was_names, was_words = _index(former)
    is_names, is_words = _index(sorted(campaigns))
    return Lookup(names=was_names | is_names, words=was_words | is_words)


def _index(
    campaigns: Iterable[tuple[str, str, str]],
) -> tuple[dict[str, str], dict[tuple[str | None, str], str | None]]:
    names: dict[str, str] = {}
    words: dict[tuple[str | None, str], str | None] = {}
    for connector, external_id, name in campaigns:
        key = f"{connector}:{external_id}"
        names[key] = name
        for word in {external_id.lower(), name.lower()}:
            for place in ((None, word), (connector, word)):
                words[place] = key if words.get(place, key) == key else None
    return names, words


def key_of(row: Named, known: Lookup) -> str | None:
    """The campaign key of a lead or touch, or None: no campaign is known.

    Utm parameters that two campaigns answer to are not decided between: they keep a key of their own.
    """
    if row.campaign_id:
        return f"{row.connector}:{row.campaign_id}"
    if row.campaign_name:
        return known.find(row.campaign_name, row.connector) or f"{row.connector}:{row.campaign_name}"
    for word in (row.utm_id, row.utm_campaign):
        if word and (key := known.find(word)):
            return key
    if row.utm_campaign:
        return f"utm:{row.utm_source or 'unknown'}/{row.utm_campaign}"
    return None


def display(key: str, names: Mapping[str, str], row_name: str | None = None) -> tuple[str, str]:
    """(source, name) of a campaign key for people."""
    source, _, rest = key.partition(":")
    return source, names.get(key) or row_name or rest
