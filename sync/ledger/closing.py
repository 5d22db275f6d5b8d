"""Closing a period, and what may move its figures afterwards: a restatement or an adjustment, each with a reason.

A closed period never opens again. What becomes known of it later counts on the first day that is open, as an
entry that refers to the one it stands in place of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.attribute.rules import Policy
from sync.attribute.store import Ref
from sync.ledger import fx, rules, step, store
from sync.store.tables import entries, periods, postings, quarantine

MONEY_KINDS = ("order", "refund", "spend")
BATCH = 2_000


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something that is open, why a period cannot be closed, and the command that deals with it."""

    what: str
    todo: str


_WAITING = sa.text("SELECT step, count(*) AS records FROM pending WHERE step <> 'push' GROUP BY 1 ORDER BY 1")
_NOT_PUSHED = sa.text(
    """
    SELECT o.destination, o.status, count(*) AS contacts
      FROM outbox o
     WHERE o.status IN ('pending', 'refused')
       AND EXISTS (SELECT FROM attributions a
                     JOIN entries e ON e.connector = a.connector AND e.subject = 'order:' || a.order_id
                    WHERE a.person_id = o.person_id AND e.posted_on < :until
                      AND (CAST(:since AS date) IS NULL OR e.posted_on >= :since))
     GROUP BY 1, 2 ORDER BY 1, 2
    """
)


def obstacles(
    connection: Connection, *, since: date | None, until: date, today: date, money_streams: Sequence[Ref]
) -> list[Obstacle]:
    """What is open in the days from `since` (None: the first) to `until` (exclusive).

    `money_streams` are the (connector, stream) whose records become orders, refunds or spend.
    """
    found = []
    if until > today:
        found.append(
            Obstacle(f"the period ends on {until.isoformat()}, which is still to come", "wait until then")
        )
    first_open = store.closed_until(connection)
    if first_open is not None and until <= first_open:
        found.append(
            Obstacle(f"all days before {first_open.isoformat()} are closed already", "nothing to do")
        )
    for row in connection.execute(_WAITING):
        found.append(Obstacle(f"{row.records} records wait for the step {row.step}", "leadledger sync"))
    for row in connection.execute(_set_aside(money_streams)):
        found.append(
            Obstacle(
                f"{row.records} records of {row.connector}/{row.stream} are set aside",
                f"leadledger quarantine list {row.connector}",
            )
        )
    for row in connection.execute(_NOT_PUSHED, {"since": since, "until": until}):
        todo = "leadledger report pushes" if row.status == "refused" else f"leadledger push {row.destination}"
        what = f"{row.contacts} contacts with revenue of the period are {row.status} for {row.destination}"
        found.append(Obstacle(what, todo))
    return found


def unreconciled(connection: Connection, shops: Sequence[dict[str, Any]]) -> list[Obstacle]:
    """What `sync.ledger.reconcile` found of each shop, as far as it stands in the way; and whether anything was
    booked since it was asked. The caller holds the journal's lock."""
    last_id, _ = store.head(connection)
    found = []
    for shop in shops:
        last = date.fromisoformat(shop["until"]) - timedelta(days=1)
        command = (
            f"leadledger ledger reconcile --period {shop['since']}..{last} --connector {shop['connector']}"
        )
        if shop["differences"]:
            more = "" if shop["complete"] else "more than "
            what = f"{more}{len(shop['differences'])} differences from {shop['connector']}'s own orders"
            found.append(Obstacle(what, command))
        if shop["last_entry"] != last_id:
            what = f"entries were booked while {shop['connector']} was being asked"
            found.append(Obstacle(what, "close it again"))
    return found


def _set_aside(money_streams: Sequence[Ref]) -> sa.Select[Any]:
    of_money = sa.tuple_(quarantine.c.connector, quarantine.c.stream).in_(list(money_streams))
    return (
        sa.select(quarantine.c.connector, quarantine.c.stream, sa.func.count().label("records"))
        .where(quarantine.c.dropped_at.is_(None), of_money)
        .group_by(quarantine.c.connector, quarantine.c.stream)
        .order_by(quarantine.c.connector, quarantine.c.stream)
    )


_FIGURES = sa.text(
    """
    SELECT p.account, e.currency, sum(p.amount_minor)::text AS amount
      FROM entries e JOIN postings p ON p.entry_id = e.id
     WHERE e.posted_on < :until AND (CAST(:since AS date) IS NULL OR e.posted_on >= :since)
     GROUP BY 1, 2 HAVING sum(p.amount_minor) <> 0 ORDER BY p.account COLLATE "C", 2
    """
)


def figures(connection: Connection, *, since: date | None, until: date) -> dict[str, Any]:
    """What the books hold of these days: by account and currency, in minor units as text (they may exceed what
    other programs read exactly), and the entry up to which that was known."""
    rows = connection.execute(_FIGURES, {"since": since, "until": until})
    last_id, last_hash = store.head(connection)
    return {
        "accounts": {f"{row.account} {row.currency}": row.amount for row in rows},
        "last_entry": last_id,
        "last_hash": last_hash.hex(),
    }


def close(
    connection: Connection,
    *,
    name: str,
    since: date | None,
    until: date,
    reconciled: dict[str, Any],
    why: str,
    author: str,
    zone: ZoneInfo,
    now: datetime,
) -> dict[str, Any]:
    """Close every day before `until`, for good; returns the figures it was closed on.

    The caller holds the journal's lock since before it asked for `obstacles`. `reconciled` is what the shops
    said (JSON types), the evidence of the close.
    """
    body = figures(connection, since=since, until=until) | {
        "reconciled": reconciled,
        "author": author,
        "why": why,
    }
    digest = hashlib.sha256(msgspec.json.encode(body, order="sorted")).digest()
    memo = rules.memo("close", why, happened_at=now, sha256=digest)
    store.append(
        connection, [(("", f"period:{name}"), memo)], generations={}, zone=zone, booked_at=now, author=author
    )
    connection.execute(
        sa.insert(periods).values(
            until=until, since=since, name=name, body=body, sha256=digest, closed_at=now
        )
    )
    return body


def closed(connection: Connection) -> list[dict[str, Any]]:
    """The closed periods, oldest first."""
    rows = connection.execute(sa.select(periods).order_by(periods.c.until))
    return [
        {
            "period": row.name,
            "since": row.since,
            "until": row.until,
            "closed_at": row.closed_at,
            "author": row.body["author"],
            "why": row.body["why"],
            "last_entry": row.body["last_entry"],
            "sha256": bytes(row.sha256).hex(),
        }
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Move:
    """What a restatement does to one account of one order, on the day it counts on."""

    connector: str
    order_id: str
    account: str
    currency: str
    amount_minor: int
    posted_on: date


def orders_of(connection: Connection, *, since: date, until: date) -> list[Ref]:
    """The orders with entries that count within these days."""
    rows = connection.execute(
        sa.select(entries.c.connector, entries.c.subject)
        .distinct()
        .where(
            entries.c.posted_on >= since, entries.c.posted_on < until, entries.c.subject.startswith("order:")
        )
        .order_by(entries.c.connector, entries.c.subject)
    )
    return [(row.connector, row.subject.partition(":")[2]) for row in rows]


def restate(
    connection: Connection,
    refs: Sequence[Ref],
    policy: Policy,
    *,
    why: str,
    author: str,
    zone: ZoneInfo,
    now: datetime,
    converting: fx.Setting | None = None,
) -> list[Move]:
    """Credit these orders anew by what is known now and the policy in force, although they have settled or their
    period is closed; returns what that moved. In a transaction that is rolled back it shows what it would move.

    The caller holds the journal's lock.
    """
    last, _ = store.head(connection)
    for at in range(0, len(refs), BATCH):
        planned = step.plan_orders(
            connection, refs[at : at + BATCH], policy, now=now, restate=True, converting=converting
        )
        step.note_unconverted(connection, planned)
        drafts = [(subject, replace(draft, reason=why)) for subject, draft in planned.drafts]
        if drafts:
            store.append(
                connection,
                drafts,
                generations=planned.generations,
                sales=planned.sales,
                zone=zone,
                booked_at=now,
                author=author,
            )
    return _moves(connection, after=last)


def _moves(connection: Connection, *, after: int) -> list[Move]:
    moved = sa.func.sum(postings.c.amount_minor)
    keys = (
        entries.c.connector,
        entries.c.subject,
        postings.c.account,
        entries.c.currency,
        entries.c.posted_on,
    )
    rows = connection.execute(
        sa.select(*keys, moved.label("moved"))
        .join(postings, postings.c.entry_id == entries.c.id)
        .where(entries.c.id > after)
        .group_by(*keys)
        .having(moved != 0)
        .order_by(*keys)
    )
    return [
        Move(r.connector, r.subject.partition(":")[2], r.account, r.currency, int(r.moved), r.posted_on)
        for r in rows
    ]


class UnknownAccount(Exception):
    """An adjustment names an account that the books do not have."""


def adjust(
    connection: Connection,
    *,
    debit: str,
    credit: str,
    amount: int,
    currency: str,
    happened_at: datetime,
    why: str,
    author: str,
    zone: ZoneInfo,
    now: datetime,
) -> int:
    """Book `amount` (minor units, positive) from `credit` to `debit`, with a reason; returns the entry's id.

    Both accounts must be in the books already: an adjustment corrects, it invents nothing. Raises
    `UnknownAccount`. The caller holds the journal's lock.
    """
    known = set(
        connection.execute(
            sa.select(postings.c.account).distinct().where(postings.c.account.in_([debit, credit]))
        ).scalars()
    )
    for account in (debit, credit):
        if account not in known:
            raise UnknownAccount(account)
    next_id = store.head(connection)[0] + 1
    draft = rules.Draft(
        "adjustment",
        "adjustment",
        currency,
        happened_at,
        rules.tidy({debit: amount, credit: -amount}),
        why,
    )
    subject = ("", f"adjustment:{next_id}")
    store.append(connection, [(subject, draft)], generations={}, zone=zone, booked_at=now, author=author)
    return next_id


def money_streams(streams: Sequence[tuple[str, str, frozenset[str]]]) -> list[Ref]:
    """Of (connector, stream, kinds it becomes) those that bring money into the books."""
    return [(connector, stream) for connector, stream, kinds in streams if kinds & set(MONEY_KINDS)]
