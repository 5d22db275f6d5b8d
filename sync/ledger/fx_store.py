"""The SQL of the rates: which table holds for a day, what waits for one, what a new table concerns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.attribute.store import Ref
from sync.ledger import fx
from sync.store import canonical
from sync.store.tables import CANONICAL, cursors, quarantine

STREAM = "rates"
EVER = datetime(9999, 12, 31, tzinfo=UTC)
EARLY, LATE = date(1900, 1, 1), date(9000, 1, 1)
NOT_READ = "the bank's tables are not read up to its day yet"
SET_ASIDE = "a table of the bank is in quarantine"
NO_TABLE = "the bank had no table in the days before it"
NOT_QUOTED = "the bank's table does not have its currency"

_TABLES = sa.text(
    """
    SELECT asked.day AS asked, r.connector, r."table", r.day, r.base, r.quote, r.rate, r.evidence_id, e.sha256
      FROM unnest(CAST(:days AS date[])) AS asked (day)
      JOIN LATERAL (SELECT max(day) AS day FROM rates
                     WHERE connector = :connector AND day < asked.day AND day >= asked.day - CAST(:gap AS int)) last
        ON true
      JOIN rates r ON r.connector = :connector AND r.day = last.day
      JOIN evidence e ON e.id = r.evidence_id
     ORDER BY asked.day, r.external_id
    """
)

# Orders of another currency whose day some table may hold for.
_CONCERNED = sa.text(
    """
    SELECT connector, external_id FROM orders
     WHERE currency <> :currency
       AND occurred_at >= (CAST(:first AS date) + 1)::timestamp AT TIME ZONE :zone
       AND occurred_at < (CAST(:last AS date) + CAST(:gap AS int) + 1)::timestamp AT TIME ZONE :zone
     ORDER BY connector, external_id
    """
)

_DUE = sa.text(
    """
    WITH due AS (
        SELECT p.id FROM pending p
          LEFT JOIN orders o ON (o.connector, o.external_id) = (p.connector, p.ref)
         WHERE p.step = 'convert'
           AND (o.external_id IS NULL OR (o.occurred_at AT TIME ZONE :zone)::date <= :known)
         ORDER BY p.id LIMIT :limit
    ), gone AS (
        DELETE FROM pending USING due WHERE pending.id = due.id RETURNING pending.connector, pending.ref
    )
    INSERT INTO pending (step, kind, connector, ref)
    SELECT DISTINCT 'book', 'order', connector, ref FROM gone
    """
)

_UNCONVERTED = sa.text(
    """
    SELECT e.currency, count(*) AS orders, -sum(p.amount)::bigint AS gross_minor
      FROM entries e
      JOIN LATERAL (SELECT sum(amount_minor) AS amount FROM postings
                     WHERE entry_id = e.id AND account LIKE 'Revenue:%') p ON true
     WHERE e.part = 'sale' AND e.reverses IS NULL AND e.currency <> :currency
       AND e.posted_on >= :since_day AND e.posted_on < :until_day AND e.booked_at <= :known
       AND NOT EXISTS (SELECT FROM entries r WHERE r.reverses = e.id AND r.booked_at <= :known)
       AND NOT EXISTS (SELECT FROM entries f
                        WHERE (f.connector, f.subject) = (e.connector, e.subject) AND f.part = 'fx:sale'
                          AND f.currency = :currency AND f.reverses IS NULL AND f.booked_at <= :known
                          AND NOT EXISTS (SELECT FROM entries r WHERE r.reverses = f.id AND r.booked_at <= :known))
     GROUP BY 1 ORDER BY 1
    """
)


@dataclass(frozen=True, slots=True)
class Bank:
    """The tables of some days as far as they are known."""

    setting: fx.Setting
    known: date | None  # the tables before this day are all read
    has_quarantine: bool
    tables: Mapping[date, Sequence[fx.Rate]]  # by the day that asks

    def worth(self, currency: str, day: date) -> fx.Worth | str:
        """How an order of that day is converted, or why it is not."""
        if self.known is None or day > self.known:
            return NOT_READ
        if self.has_quarantine:
            return SET_ASIDE
        rates = self.tables.get(day)
        if not rates:
            return NO_TABLE
        return fx.worth(rates, currency, self.setting.currency) or NOT_QUOTED


def read_bank(connection: Connection, setting: fx.Setting, days: Iterable[date]) -> Bank:
    rows = connection.execute(
        _TABLES, {"days": sorted(set(days)), "connector": setting.rates, "gap": fx.GAP_MAX.days}
    )
    tables: dict[date, list[fx.Rate]] = {}
    for row in rows:
        rate = fx.Rate(
            source=row.connector,
            table=row.table,
            day=row.day,
            base=row.base,
            quote=row.quote,
            rate=row.rate,
            evidence_id=row.evidence_id,
            evidence_sha256=bytes(row.sha256),
        )
        tables.setdefault(row.asked, []).append(rate)
    return Bank(setting, known_until(connection, setting), _is_set_aside(connection, setting), tables)


def known_until(connection: Connection, setting: fx.Setting) -> date | None:
    """The day before which every table is read: that of the cursor, as a table counts from a day that is over."""
    at = connection.execute(
        sa.select(cursors.c.at).where(cursors.c.connector == setting.rates, cursors.c.stream == STREAM)
    ).scalar()
    return at.astimezone(setting.zone).date() if at is not None else None


def _is_set_aside(connection: Connection, setting: fx.Setting) -> bool:
    found = sa.select(quarantine.c.id).where(
        quarantine.c.connector == setting.rates,
        quarantine.c.stream == STREAM,
        quarantine.c.dropped_at.is_(None),
    )
    return connection.execute(found.limit(1)).first() is not None


def note_concerned(connection: Connection, setting: fx.Setting, refs: Sequence[Ref]) -> None:
    """Name for booking the orders for whose day one of these rates (connector, external id) may hold.

    A rate that is no longer there no longer says its day: then it is every order of another currency.
    """
    rate = CANONICAL["rate"]
    ours = [ref for connector, ref in refs if connector == setting.rates]
    if not ours:
        return
    known = connection.execute(
        sa.select(sa.func.count(), sa.func.min(rate.c.day), sa.func.max(rate.c.day)).where(
            rate.c.connector == setting.rates, rate.c.external_id.in_(ours)
        )
    ).one()
    first, last = (known[1], known[2]) if known[0] == len(set(ours)) else (EARLY, LATE)
    note_between(connection, setting, first, last)


def note_everything(connection: Connection, setting: fx.Setting) -> None:
    """Name for booking every order of another currency."""
    note_between(connection, setting, EARLY, LATE)


def note_between(connection: Connection, setting: fx.Setting, first: date, last: date) -> None:
    """Name for booking the orders of other currencies after `first`, until tables of `last` no longer hold."""
    values = {
        "currency": setting.currency,
        "zone": setting.zone.key,
        "first": first,
        "last": last,
        "gap": fx.GAP_MAX.days,
    }
    by_connector: dict[str, list[str]] = {}
    for connector, ref in connection.execute(_CONCERNED, values):
        by_connector.setdefault(connector, []).append(ref)
    for connector, orders in by_connector.items():
        canonical.note(connection, step="book", kind="order", connector=connector, refs=orders)


def wake(connection: Connection, setting: fx.Setting, *, limit: int) -> int:
    """Name for booking the orders that waited for tables which are read by now; returns how many."""
    known = known_until(connection, setting)
    if known is None:
        return 0
    return connection.execute(_DUE, {"zone": setting.zone.key, "known": known, "limit": limit}).rowcount


def read_unconverted(
    connection: Connection,
    currency: str,
    since: date = EARLY,
    until: date = LATE,
    known: datetime = EVER,
) -> dict[str, dict[str, int]]:
    """Sales in force that count on these days, in other currencies, and are not booked in `currency`, as it was
    known then: orders and gross, by currency."""
    asked = {"currency": currency, "since_day": since, "until_day": until, "known": known}
    rows = connection.execute(_UNCONVERTED, asked)
    return {row.currency: {"orders": row.orders, "gross_minor": row.gross_minor} for row in rows}
