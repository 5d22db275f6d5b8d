"""Checks the books against themselves, the evidence and the shop; names the first wrong thing of each check."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connectors.contract import ControlItem
from mappings.currencies import exponent
from sync.attribute.rules import Policy
from sync.attribute.step import is_sale
from sync.ledger import rules, step, store
from sync.store.tables import CANONICAL, entries, evidence

Say = Callable[[str], None]
BATCH = 2_000


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was asked, of how many, the first thing that was wrong ("" when none was), and for a
    control total what the shop's own total is."""

    name: str
    checked: int
    wrong: str = ""
    todo: str = ""
    found: str = ""

    @property
    def ok(self) -> bool:
        return not self.wrong


def verify(
    connection: Connection,
    policy: Policy,
    *,
    zone: ZoneInfo,
    now: datetime,
    shops: Mapping[str, Iterable[ControlItem]],
    say: Say,
) -> list[Check]:
    """Every check, in the order in which an auditor would ask. `shops` yields each shop's orders as it shows
    them now; a shop that was not asked is not checked."""
    say("the chain, the balances and the evidence of entries")
    found = [_chain(connection), _evidence(connection)]
    say("completeness: every order and every day of spend")
    found += [_complete(connection, policy, now=now), _spend(connection, zone=zone), _credited(connection)]
    for name, items in shops.items():
        say(f"the control total of {name}")
        found.append(_control(connection, name, items, policy))
    return found


def _chain(connection: Connection) -> Check:
    last, previous, count = 0, rules.GENESIS, 0
    for row, lines in store.stream(connection):
        count += 1
        fields = {name: getattr(row, name) for name in store.SEALED_COLUMNS}
        if row.id != last + 1:
            return Check("chain", count, f"entry {last + 1} is missing", _RESTORE)
        if bytes(row.prev_hash) != previous:
            return Check("chain", count, f"entry {row.id} is not sealed to entry {last}", _RESTORE)
        if sum(amount for _, amount in lines) != 0 or not lines:
            return Check("chain", count, f"entry {row.id} does not balance", _RESTORE)
        if rules.seal(fields, lines, previous).hash != bytes(row.hash):
            return Check("chain", count, f"entry {row.id} was changed after it was booked", _RESTORE)
        last, previous = row.id, bytes(row.hash)
    return Check("chain", count)


_RESTORE = "Somebody changed the journal outside leadledger: restore it from a backup and compare."


def _evidence(connection: Connection) -> Check:
    after, count = 0, 0
    while True:
        rows = connection.execute(
            sa.select(evidence.c.id, evidence.c.body, evidence.c.sha256)
            .where(evidence.c.id > after)
            .order_by(evidence.c.id)
            .limit(BATCH)
        ).all()
        if not rows:
            return Check("evidence", count)
        for row in rows:
            count += 1
            if hashlib.sha256(bytes(row.body)).digest() != bytes(row.sha256):
                return Check(
                    "evidence", count, f"evidence {row.id} was changed after it was fetched", _RESTORE
                )
        after = rows[-1].id


def _refs(connection: Connection, kind: str) -> Iterator[list[tuple[str, str]]]:
    """All subjects of a kind, of the canonical table and of the journal, in batches; each side is paged by its
    own key, so that the cost grows with the history and not with its square."""
    table, prefix = CANONICAL[kind], f"{kind}:"
    after = ("", "")
    while True:
        held = _page(connection, table.c.connector, table.c.external_id, after)
        booked = _page(
            connection, entries.c.connector, entries.c.subject, (after[0], prefix + after[1]), prefix
        )
        # Beyond the end of a full page the other side may know subjects that this one has still to show.
        ends = [page[-1] for page in (held, booked) if len(page) == BATCH]
        refs = sorted(ref for ref in {*held, *booked} if not ends or ref <= min(ends))
        if not refs:
            return
        after = refs[-1]
        yield refs


def _page(
    connection: Connection,
    connector: sa.ColumnElement[str],
    id_: sa.ColumnElement[str],
    after: tuple[str, str],
    prefix: str = "",
) -> list[tuple[str, str]]:
    """The next subjects after `after`, sorted as Python sorts text; ids without `prefix`."""
    keys = (sa.collate(connector, "C"), sa.collate(id_, "C"))
    rows = connection.execute(
        sa.select(*keys)
        .distinct()
        .where(sa.tuple_(*keys) > sa.tuple_(*after), id_.startswith(prefix, autoescape=True))
        .order_by(*keys)
        .limit(BATCH)
    )
    return [(row[0], row[1].removeprefix(prefix)) for row in rows]


_UNSHARED = sa.text(
    """
    SELECT a.connector, a.order_id, a.revenue_minor, coalesce(sum(c.amount_minor), 0) AS shared
      FROM attributions a LEFT JOIN credits c USING (connector, order_id)
     GROUP BY 1, 2, 3 HAVING a.revenue_minor <> coalesce(sum(c.amount_minor), 0)
     ORDER BY 1, 2 LIMIT 1
    """
)


def _complete(connection: Connection, policy: Policy, *, now: datetime) -> Check:
    count = 0
    unshared = connection.execute(_UNSHARED).first()
    if unshared is not None:
        order = f"{unshared.connector} order:{unshared.order_id}"
        wrong = f"{order}: revenue {unshared.revenue_minor}, credits {unshared.shared}"
        return Check("orders booked", count, wrong, _RESTORE)
    for refs in _refs(connection, "order"):
        count += len(refs)
        planned = step.plan_orders(connection, refs, policy, now=now)
        if planned.waiting:
            connector, order_id = planned.waiting[0]
            wrong = f"{connector} order:{order_id} was changed by the shop and is not booked again yet"
            return Check("orders booked", count, wrong, "Run `leadledger sync`, which books what is missing.")
        if planned.drafts:
            (connector, subject), draft = planned.drafts[0]
            wrong = f"{connector} {subject} lacks an entry: {draft.kind} of {draft.part} ({draft.reason})"
            return Check("orders booked", count, wrong, "Run `leadledger sync`, which books what is missing.")
    return Check("orders booked", count)


def _spend(connection: Connection, *, zone: ZoneInfo) -> Check:
    count = 0
    for refs in _refs(connection, "spend"):
        count += len(refs)
        planned = step.plan_spend(connection, refs, zone=zone)
        if planned.drafts:
            (connector, subject), draft = planned.drafts[0]
            wrong = f"{connector} {subject} lacks an entry: {draft.kind} ({draft.reason})"
            return Check("spend booked", count, wrong, "Run `leadledger sync`, which books what is missing.")
    return Check("spend booked", count)


_UNEQUAL = sa.text(
    """
    SELECT e.connector, e.subject,
           -sum(p.amount_minor) FILTER (WHERE p.account LIKE 'Revenue:%') AS revenue,
           sum(p.amount_minor) FILTER (WHERE p.account NOT LIKE 'Revenue:%') AS explained
      FROM entries e JOIN postings p ON p.entry_id = e.id
     WHERE e.subject LIKE 'order:%'
     GROUP BY 1, 2, e.currency
    """
)


def _credited(connection: Connection) -> Check:
    """Completeness: revenue = credited to campaigns + unattributed (+ tax and shipping left out)."""
    count = 0
    for row in connection.execute(_UNEQUAL):
        count += 1
        if (row.revenue or 0) != (row.explained or 0):
            wrong = f"{row.connector} {row.subject}: revenue {row.revenue}, credited {row.explained}"
            return Check("credits complete", count, wrong, _RESTORE)
    return Check("credits complete", count)


def _control(connection: Connection, name: str, items: Iterable[ControlItem], policy: Policy) -> Check:
    held = _held(connection, name)
    totals: dict[str, int] = {}
    count = 0
    todo = f"Run `leadledger sync {name}`; if it stays, `leadledger backfill {name} --from … --to …`."
    for item in items:
        if not is_sale(item.status, policy):
            continue
        count += 1
        digits = exponent(item.currency)
        shown = (item.currency, rules.minor(Decimal(item.total), digits))
        totals[item.currency] = totals.get(item.currency, 0) + shown[1]
        booked = held.pop(item.external_id, None)
        if booked is None and shown[1] != 0:
            return Check(f"control total of {name}", count, f"order {item.external_id} is not booked", todo)
        if booked is not None and booked != shown:
            wrong = f"order {item.external_id}: the shop says {_say(shown)}, the journal {_say(booked)}"
            return Check(f"control total of {name}", count, wrong, todo)
    if held:
        wrong = f"order {min(held)} is booked, but the shop does not show it as sold"
        return Check(f"control total of {name}", count, wrong, todo)
    found = " and ".join(_say(total) for total in sorted(totals.items()))
    return Check(f"control total of {name}", count, found=f"the shop says {found}" if found else "")


def _say(amount: tuple[str, int]) -> str:
    return f"{Decimal(amount[1]).scaleb(-exponent(amount[0])):,f} {amount[0]}"


_SALES = sa.text(
    """
    SELECT substr(e.subject, length('order:') + 1) AS order_id, e.currency, -sum(p.amount_minor) AS gross
      FROM entries e JOIN postings p ON p.entry_id = e.id
     WHERE e.connector = :connector AND e.part = 'sale' AND p.account LIKE 'Revenue:%'
     GROUP BY 1, 2 HAVING sum(p.amount_minor) <> 0
    """
)


def _held(connection: Connection, connector: str) -> dict[str, tuple[str, int]]:
    """By order: currency and gross of the sale that is in force."""
    rows: Iterable[Any] = connection.execute(_SALES, {"connector": connector})
    return {row.order_id: (row.currency, int(row.gross)) for row in rows}
