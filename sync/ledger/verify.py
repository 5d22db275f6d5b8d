"""Checks the books against themselves, the evidence and the shop; names the first wrong thing of each check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connectors.contract import ControlItem
from mappings import normalise
from mappings.currencies import exponent
from mappings.unfit import Unfit
from sync.attribute.rules import Policy
from sync.attribute.step import is_sale
from sync.ledger import fx, logs, step, verify_evidence, verify_heads
from sync.ledger import walk as walking
from sync.ledger.check import RESTORE, Check
from sync.pull.step import Plan
from sync.store import db
from sync.store.tables import CANONICAL, entries, quarantine

__all__ = ["Check", "verify"]

Say = Callable[[str], None]
BATCH = 2_000


def verify(
    connection: Connection,
    policy: Policy,
    *,
    zone: ZoneInfo,
    now: datetime,
    shops: Mapping[str, Iterable[ControlItem]],
    say: Say,
    plans: Sequence[Plan] = (),
    trust: verify_heads.Trust | None = None,
    converting: fx.Setting | None = None,
) -> list[Check]:
    """Every check, in the order in which an auditor would ask. `shops` yields each shop's orders as it shows
    them now; a shop that was not asked is not checked, nor is the mapping of what is not among `plans`."""
    trust = trust or verify_heads.Trust()
    say("the signed heads, the chain and the tree of entries")
    known = verify_heads.read(connection, trust)
    walked = walking.walk(connection, verify_heads.signed_sizes(known, trust))
    say("evidence, policies and what was sent")
    wanted = verify_heads.wanted_logs(known, trust)
    evidence, fetched = verify_evidence.evidence(connection, wanted["evidence"])
    found_logs = {
        kept.name: verify_heads.read_log(connection, kept, wanted[kept.name])
        for kept in logs.ALL
        if kept.name != "evidence"
    }
    found_logs["evidence"] = fetched
    found = [walked.check, verify_heads.against_rows(known, walked, found_logs)]
    if trust.outside or trust.witnesses:
        found.append(verify_heads.against_outside(connection, trust, known, walked, found_logs))
    found += [evidence, verify_evidence.policy(connection, walked), verify_evidence.closed(connection)]
    if plans:
        say("what the mapping makes of the evidence")
        found.append(verify_evidence.mapping(connection, plans))
    say("completeness: every order and every day of spend")
    found += _complete(connection, policy, now=now, converting=converting)
    found += [_spend(connection, zone=zone), _credited(connection)]
    for name, items in shops.items():
        say(f"the control total of {name}")
        found.append(_control(connection, name, items, policy))
    return found


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


def _complete(
    connection: Connection, policy: Policy, *, now: datetime, converting: fx.Setting | None
) -> list[Check]:
    """Every order's entries are there; and, where other currencies are converted, which orders are not."""
    unconverted: dict[tuple[str, str], str] = {}
    found = _booked(connection, policy, now=now, converting=converting, unconverted=unconverted)
    if converting is None:
        return [found]
    said = ""
    for (connector, order_id), why in list(unconverted.items())[:1]:
        said = (
            f"{len(unconverted)} not booked in {converting.currency}; the first: {connector} order:{order_id},"
            f" as {why}"
        )
    return [found, Check("orders converted", found.checked, found=said)]


def _booked(
    connection: Connection,
    policy: Policy,
    *,
    now: datetime,
    converting: fx.Setting | None,
    unconverted: dict[tuple[str, str], str],
) -> Check:
    count = 0
    unshared = connection.execute(_UNSHARED).first()
    if unshared is not None:
        order = f"{unshared.connector} order:{unshared.order_id}"
        wrong = f"{order}: revenue {unshared.revenue_minor}, credits {unshared.shared}"
        return Check("orders booked", count, wrong, RESTORE)
    for refs in _refs(connection, "order"):
        count += len(refs)
        planned = step.plan_orders(connection, refs, policy, now=now, converting=converting)
        unconverted |= planned.unconverted
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
            return Check("credits complete", count, wrong, RESTORE)
    return Check("credits complete", count)


_SHOWN = sa.Table(
    "shop_shows",
    sa.MetaData(),
    sa.Column("order_id", sa.Text),
    sa.Column("currency", sa.Text),
    sa.Column("gross", sa.BigInteger),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)
_SHOWN_TOTALS = sa.text(
    """
    SELECT currency, count(*) AS orders, sum(gross) AS gross
      FROM (SELECT DISTINCT * FROM shop_shows) s GROUP BY 1 ORDER BY 1
    """
)
_DIFFERENCE = sa.text(
    """
    WITH booked AS (
        SELECT substr(e.subject, length('order:') + 1) AS order_id, e.currency, -sum(p.amount_minor) AS gross
          FROM entries e JOIN postings p ON p.entry_id = e.id
         WHERE e.connector = :connector AND e.part = 'sale' AND p.account LIKE 'Revenue:%'
         GROUP BY 1, 2 HAVING sum(p.amount_minor) <> 0
    )
    SELECT order_id, s.currency AS shown_currency, s.gross AS shown, b.currency AS booked_currency, b.gross AS booked
      FROM (SELECT DISTINCT * FROM shop_shows) s FULL JOIN booked b USING (order_id)
     WHERE (s.currency, s.gross) IS DISTINCT FROM (b.currency, b.gross)
       AND (b.order_id IS NULL AND s.gross = 0) IS NOT TRUE
     ORDER BY order_id LIMIT 1
    """
)
_SET_ASIDE = sa.select(quarantine.c.id).where(
    quarantine.c.connector == sa.bindparam("connector"), quarantine.c.external_id == sa.bindparam("order_id")
)


def _control(connection: Connection, name: str, items: Iterable[ControlItem], policy: Policy) -> Check:
    """The shop's orders beside the journal's sales, compared by the database: neither is held in memory."""
    check = f"control total of {name}"
    connection.execute(sa.schema.CreateTable(_SHOWN))
    sold = (item for item in items if is_sale(item.status, policy))
    db.copy_rows(connection, _SHOWN.name, [c.name for c in _SHOWN.c], map(_shown, sold))
    found = connection.execute(_DIFFERENCE, {"connector": name}).first()
    totals = list(connection.execute(_SHOWN_TOTALS))
    _SHOWN.drop(connection)
    count = sum(row.orders for row in totals)
    if found is not None:
        return Check(check, count, _difference(found), _todo(connection, name, found.order_id))
    said = " and ".join(_say((row.currency, row.gross)) for row in totals)
    return Check(check, count, found=f"the shop says {said}" if said else "")


def _shown(item: ControlItem) -> tuple[str, str, int | None]:
    """An order as the mapping reads it; without an amount where what the shop shows is none."""
    order_id = normalise.text(item.external_id) or ""
    try:
        currency = normalise.currency_code(item.currency)
    except Unfit:
        return order_id, "", None
    # An override may read a comma: what cannot be read otherwise is.
    for decimal_comma in (False, True):
        try:
            found = normalise.money(item.total, currency, decimal_comma=decimal_comma)
        except Unfit:
            continue
        return order_id, currency, None if found is None else found[0]
    return order_id, currency, None


def _todo(connection: Connection, name: str, order_id: str) -> str:
    aside = connection.execute(_SET_ASIDE, {"connector": name, "order_id": order_id}).scalar()
    if aside is not None:
        return f"The order is set aside: `leadledger quarantine show {aside}` says why."
    return f"Run `leadledger sync {name}`; if it stays, `leadledger backfill {name} --from … --to …`."


def _difference(row: Any) -> str:
    if row.shown_currency is not None and row.shown is None:
        return f"order {row.order_id}: what the shop says it comes to cannot be read"
    if row.booked is None:
        return f"order {row.order_id} is not booked"
    if row.shown is None:
        return f"order {row.order_id} is booked, but the shop does not show it as sold"
    shown, booked = (row.shown_currency, row.shown), (row.booked_currency, row.booked)
    return f"order {row.order_id}: the shop says {_say(shown)}, the journal {_say(booked)}"


def _say(amount: tuple[str, int]) -> str:
    return f"{Decimal(int(amount[1])).scaleb(-exponent(amount[0])):,f} {amount[0]}"
