"""What somebody means who asks to have WHAT explained: an order, an account, a campaign, or several of these."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.attribute import campaigns as naming
from sync.attribute.store import known_campaigns
from sync.ledger import accounts
from sync.report import explain
from sync.store.tables import campaign_names

Kind = Literal["order", "account", "campaign"]
LISTED_MAX = 20


@dataclass(frozen=True, slots=True)
class Subject:
    """What can be explained. `name` says it so that it means nothing else of its kind: ``connector:id`` of an order
    or a campaign, an account as it stands in the journal (with a colon at its end: all below it)."""

    kind: Kind
    name: str
    called: str = ""


# Every name once, from one to the next over the index, however many postings each has.
_ACCOUNTS = sa.text(
    """
    WITH RECURSIVE walk AS (
        (SELECT account FROM postings ORDER BY account LIMIT 1)
         UNION ALL
        SELECT (SELECT p.account FROM postings p WHERE p.account > walk.account ORDER BY p.account LIMIT 1)
          FROM walk WHERE walk.account IS NOT NULL
    )
    SELECT account FROM walk WHERE account IS NOT NULL
    """
)
_JOURNEYS = sa.text(
    "SELECT DISTINCT campaign FROM journeys WHERE campaign IS NOT NULL"
    " UNION SELECT DISTINCT campaign FROM journey_log WHERE campaign IS NOT NULL"
)


def find(connection: Connection, what: str, *, kind: Kind | None = None) -> list[Subject]:
    """All that `what` may mean, of one kind if that is given; [] for nothing that is known."""
    names = list(connection.execute(_ACCOUNTS).scalars()) if kind != "order" else []
    found: list[Subject] = []
    if kind in (None, "order"):
        found += [Subject("order", ":".join(ref)) for ref in explain.find_orders(connection, what)]
    if kind in (None, "account"):
        found += [Subject("account", name) for name in _accounts(what, names)]
    if kind in (None, "campaign"):
        found += _campaigns(connection, what, names)
    return found


def _accounts(what: str, names: Iterable[str]) -> list[str]:
    """The account of that name, as it is stored or as it reads; else all below it."""
    names = list(names)
    exact = [name for name in names if what in (name, accounts.unpart(name))]
    below = what.rstrip(":") + ":"
    if not exact and any(name.startswith(below) for name in names):
        return [below]
    return exact


def _campaigns(connection: Connection, what: str, names: Iterable[str]) -> list[Subject]:
    """The campaign of that key; else those of that name, in any case: of the present names, else of former ones."""
    known = known_campaigns(connection)
    keys = set(known.names) | set(connection.execute(_JOURNEYS).scalars())
    keys |= {accounts.campaign_key(n) for n in names if n.startswith(("Credit:Campaign:", "Spend:Campaign:"))}
    called = {key: naming.display(key, known.names)[1] for key in keys}
    if what in keys:
        return [Subject("campaign", what, called[what])]
    by_name = sorted(key for key, name in called.items() if name.lower() == what.lower())
    if not by_name:
        was = campaign_names.c
        rows = connection.execute(
            sa.select(was.connector, was.external_id)
            .distinct()
            .where(sa.func.lower(was.name) == what.lower())
        )
        by_name = sorted(f"{row.connector}:{row.external_id}" for row in rows)
    return [Subject("campaign", key, called.get(key, what)) for key in by_name]
