"""The SQL of the reconciliation. Both sides stand in temporary tables, so that neither is held in memory, and both
are read at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.ledger import accounts
from sync.ledger.differences import Booked, Shown
from sync.store import db

_META = sa.MetaData()


def _temporary(name: str, *columns: sa.Column[Any]) -> sa.Table:
    return sa.Table(name, _META, *columns, prefixes=["TEMPORARY"], postgresql_on_commit="DROP")


_SHOWN = _temporary(
    "shown_orders",
    sa.Column("seq", sa.Integer),
    sa.Column("order_id", sa.Text),
    sa.Column("day", sa.Date),
    sa.Column("created_at", sa.DateTime(timezone=True)),
    sa.Column("modified_at", sa.DateTime(timezone=True)),
    sa.Column("status", sa.Text),
    sa.Column("sold", sa.Boolean),
    sa.Column("paid", sa.Boolean),
    sa.Column("counted", sa.Boolean),
    sa.Column("currency", sa.Text),
    sa.Column("gross", sa.BigInteger),
    sa.Column("tax", sa.BigInteger),
    sa.Column("shipping", sa.BigInteger),
    sa.Column("refunded", sa.BigInteger),
    sa.Column("total", sa.Numeric),
)
_SHOWN_REFUNDS = _temporary(
    "shown_refunds",
    sa.Column("seq", sa.Integer),
    sa.Column("refund_id", sa.Text),
    sa.Column("order_id", sa.Text),
    sa.Column("day", sa.Date),
    sa.Column("created_at", sa.DateTime(timezone=True)),
    sa.Column("currency", sa.Text),
    sa.Column("amount", sa.BigInteger),
    sa.Column("exact", sa.Boolean),
    sa.Column("total", sa.Numeric),
)
_BOOKED = _temporary(
    "booked_orders",
    sa.Column("order_id", sa.Text),
    sa.Column("day", sa.Date),
    sa.Column("happened_at", sa.DateTime(timezone=True)),
    sa.Column("currency", sa.Text),
    sa.Column("gross", sa.BigInteger),
    sa.Column("tax", sa.BigInteger),
    sa.Column("shipping", sa.BigInteger),
    sa.Column("refunded", sa.BigInteger),
)
_BOOKED_REFUNDS = _temporary(
    "booked_refunds",
    sa.Column("refund_id", sa.Text),
    sa.Column("order_id", sa.Text),
    sa.Column("day", sa.Date),
    sa.Column("happened_at", sa.DateTime(timezone=True)),
    sa.Column("currency", sa.Text),
    sa.Column("amount", sa.BigInteger),
)
TABLES = (_SHOWN, _SHOWN_REFUNDS, _BOOKED, _BOOKED_REFUNDS)


def begin(connection: Connection) -> None:
    for table in TABLES:
        connection.execute(sa.schema.CreateTable(table))


def end(connection: Connection) -> None:
    for table in TABLES:
        table.drop(connection)


def copy_shown(
    connection: Connection, rows: Iterable[tuple[Shown, bool, Decimal | None]], *, table: sa.Table = _SHOWN
) -> int:
    """Orders as the shop shows them, each with whether its own totals count it, and its exact total."""
    lines = (
        (
            seq,
            s.order_id,
            s.day,
            s.created_at,
            s.modified_at,
            s.status,
            s.sold,
            s.paid,
            counted,
            s.currency,
            s.gross,
            s.tax,
            s.shipping,
            s.refunded,
            total,
        )
        for seq, (s, counted, total) in enumerate(rows)
    )
    return db.copy_rows(connection, table.name, [c.name for c in table.c], lines)


def copy_refunds(connection: Connection, rows: Iterable[Sequence[Any]], *, first: int) -> int:
    """Refunds as the shop shows them; `first` is how many came before these."""
    lines = ((first + seq, *row) for seq, row in enumerate(rows))
    return db.copy_rows(connection, _SHOWN_REFUNDS.name, [c.name for c in _SHOWN_REFUNDS.c], lines)


# A row may come twice when a list moves while it is read: what came last is how the shop shows it now.
_ONCE = sa.text(
    "DELETE FROM shown_orders a USING shown_orders b WHERE a.order_id = b.order_id AND a.seq < b.seq"
)
_REFUNDS_ONCE = sa.text(
    "DELETE FROM shown_refunds a USING shown_refunds b WHERE a.refund_id = b.refund_id AND a.seq < b.seq"
)


def keep_last(connection: Connection) -> None:
    db.analyze(connection, [_SHOWN.name, _SHOWN_REFUNDS.name])
    connection.execute(_ONCE)
    connection.execute(_REFUNDS_ONCE)


# A day's entries count on that day, unless they came after its period was closed: those are few, and have an
# index of their own.
_BOOK_ORDERS = sa.text(
    """
    WITH sale AS (
        SELECT e.id, e.connector, e.subject, e.business_day, e.happened_at, e.currency
          FROM entries e
         WHERE e.connector = :connector AND e.part = 'sale' AND e.reverses IS NULL
           AND (e.posted_on >= :since AND e.posted_on < :until AND e.posted_on = e.business_day
                OR e.posted_on <> e.business_day AND e.business_day >= :since AND e.business_day < :until)
           AND NOT EXISTS (SELECT FROM entries r WHERE r.reverses = e.id)
    )
    INSERT INTO booked_orders
    SELECT substr(s.subject, length('order:') + 1), s.business_day, s.happened_at, s.currency, p.gross,
           coalesce(p.tax, o.tax_minor, 0),
           CASE WHEN p.shipping IS NULL OR p.shipping IN (o.shipping_minor, o.shipping_minor + o.shipping_tax_minor)
                THEN coalesce(o.shipping_minor, 0) ELSE p.shipping END,
           coalesce(g.refunded, 0)
      FROM sale s
      LEFT JOIN orders o ON o.connector = s.connector
                        AND o.external_id = substr(s.subject, length('order:') + 1)
      CROSS JOIN LATERAL (
           SELECT -sum(amount_minor) FILTER (WHERE account = :revenue) AS gross,
                  sum(amount_minor) FILTER (WHERE account = :tax) AS tax,
                  sum(amount_minor) FILTER (WHERE account = :shipping) AS shipping
             FROM postings WHERE entry_id = s.id) p
      CROSS JOIN LATERAL (
           SELECT sum(q.amount_minor) AS refunded
             FROM entries f JOIN postings q ON q.entry_id = f.id AND q.account = :revenue
            WHERE f.connector = s.connector AND f.subject = s.subject AND f.part LIKE 'refund:%'
              AND f.reverses IS NULL AND NOT EXISTS (SELECT FROM entries r WHERE r.reverses = f.id)) g
    """
)
_BOOK_REFUNDS = sa.text(
    """
    INSERT INTO booked_refunds
    SELECT substr(e.part, length('refund:') + 1), substr(e.subject, length('order:') + 1), e.business_day,
           e.happened_at, e.currency, p.amount
      FROM entries e
      CROSS JOIN LATERAL (
           SELECT sum(amount_minor) AS amount FROM postings WHERE entry_id = e.id AND account = :revenue) p
     WHERE e.connector = :connector AND e.part LIKE 'refund:%' AND e.reverses IS NULL
       AND (e.posted_on >= :since AND e.posted_on < :until AND e.posted_on = e.business_day
            OR e.posted_on <> e.business_day AND e.business_day >= :since AND e.business_day < :until)
       AND NOT EXISTS (SELECT FROM entries r WHERE r.reverses = e.id)
    """
)


def copy_booked(connection: Connection, connector: str, *, since: date, until: date) -> None:
    """The sales and refunds in force that happened within these days, whenever they count."""
    named = {
        "connector": connector,
        "since": since,
        "until": until,
        "revenue": accounts.revenue(connector),
        "tax": accounts.tax(connector),
        "shipping": accounts.shipping(connector),
    }
    connection.execute(_BOOK_ORDERS, named)
    connection.execute(
        _BOOK_REFUNDS, {k: v for k, v in named.items() if k in ("connector", "since", "until", "revenue")}
    )
    db.analyze(connection, [_BOOKED.name, _BOOKED_REFUNDS.name])


_TOTALS = sa.text(
    """
    SELECT side, currency, day, sum(orders)::bigint AS orders, sum(gross)::bigint AS gross,
           sum(tax)::bigint AS tax, sum(shipping)::bigint AS shipping, sum(refunds)::bigint AS refunds,
           sum(refunded)::bigint AS refunded
      FROM (
        SELECT 'shop' AS side, currency, day, count(*) AS orders, sum(gross) AS gross, sum(tax) AS tax,
               sum(shipping) AS shipping, 0 AS refunds, sum(refunded) AS refunded
          FROM shown_orders WHERE sold AND gross <> 0 GROUP BY 1, 2, 3
         UNION ALL
        SELECT 'journal', currency, day, count(*), sum(gross), sum(tax), sum(shipping), 0, sum(refunded)
          FROM booked_orders GROUP BY 1, 2, 3
         UNION ALL
        SELECT 'shop', s.currency, s.day, 0, 0, 0, 0, sum(s.amount), 0
          FROM shown_refunds s WHERE NOT (s.refund_id = ANY(CAST(:no_sale AS text[]))) GROUP BY 1, 2, 3
         UNION ALL
        SELECT 'journal', currency, day, 0, 0, 0, 0, sum(amount), 0 FROM booked_refunds GROUP BY 1, 2, 3
      ) AS sides
     WHERE day >= :since AND day < :until
     GROUP BY 1, 2, 3 ORDER BY 2, 3, 1
    """
)


def totals(connection: Connection, *, since: date, until: date, no_sale: Sequence[str]) -> list[sa.Row[Any]]:
    """Count, gross, tax, shipping and refunds by currency and day, a row a side. `refunds` are those of the day,
    `refunded` all that was ever given back of the day's orders; `no_sale` are refunds of what is no sale."""
    return list(connection.execute(_TOTALS, {"since": since, "until": until, "no_sale": list(no_sale)}))


_FREE = sa.text(
    "SELECT count(*) FROM shown_orders WHERE sold AND gross = 0 AND day >= :since AND day < :until"
)


def free_orders(connection: Connection, *, since: date, until: date) -> int:
    """Orders of these days that cost nothing: they have no entry."""
    return int(connection.execute(_FREE, {"since": since, "until": until}).scalar_one())


_DIFFERENT = sa.text(
    """
    SELECT coalesce(s.order_id, b.order_id) AS id,
           s.order_id, s.day, s.created_at, s.modified_at, s.status, s.sold, s.paid, s.currency, s.gross, s.tax,
           s.shipping, s.refunded,
           b.order_id AS b_order_id, b.day AS b_day, b.happened_at AS b_happened_at, b.currency AS b_currency,
           b.gross AS b_gross, b.tax AS b_tax, b.shipping AS b_shipping, b.refunded AS b_refunded
      FROM shown_orders s FULL JOIN booked_orders b USING (order_id)
     WHERE (coalesce(s.day, b.day, :since) >= :since AND coalesce(s.day, b.day, :since) < :until
            OR b.day >= :since AND b.day < :until)
       AND (s.order_id IS NULL
            OR b.order_id IS NULL AND (s.sold AND s.gross IS DISTINCT FROM 0 OR s.paid AND NOT s.sold)
            OR b.order_id IS NOT NULL
               AND (NOT s.sold OR s.currency <> b.currency OR s.gross IS DISTINCT FROM b.gross
                    OR s.tax <> b.tax OR s.shipping <> b.shipping OR s.day <> b.day OR s.refunded <> b.refunded))
     ORDER BY length(coalesce(s.order_id, b.order_id)), coalesce(s.order_id, b.order_id) COLLATE "C"
     LIMIT :limit
    """
)


def different(
    connection: Connection, *, since: date, until: date, limit: int
) -> list[tuple[str, Shown | None, Booked | None]]:
    rows = connection.execute(_DIFFERENT, {"since": since, "until": until, "limit": limit})
    return [(row.id, _shown(row), _booked(row)) for row in rows]


def _shown(row: sa.Row[Any]) -> Shown | None:
    if row.order_id is None:
        return None
    names = ("order_id", "day", "created_at", "modified_at", "status", "sold", "paid", "currency")
    amounts = ("gross", "tax", "shipping", "refunded")
    return Shown(**{name: getattr(row, name) for name in (*names, *amounts)})


def _booked(row: sa.Row[Any]) -> Booked | None:
    if row.b_order_id is None:
        return None
    names = ("order_id", "day", "happened_at", "currency", "gross", "tax", "shipping", "refunded")
    return Booked(**{name: getattr(row, f"b_{name}") for name in names})


# An amount finer than its currency is booked so that the refunds of an order add up, hence up to a minor unit
# beside what it is alone; that they add up exactly is seen at the order.
_DIFFERENT_REFUNDS = sa.text(
    """
    SELECT coalesce(s.refund_id, b.refund_id) AS id, coalesce(s.order_id, b.order_id) AS order_id,
           s.refund_id IS NOT NULL AS is_shown, b.refund_id IS NOT NULL AS is_booked, s.day, s.created_at,
           s.currency, s.amount, s.exact, b.day AS b_day, b.happened_at AS b_happened_at, b.currency AS b_currency,
           b.amount AS b_amount
      FROM shown_refunds s FULL JOIN booked_refunds b USING (refund_id)
     WHERE (coalesce(s.day, b.day, :since) >= :since AND coalesce(s.day, b.day, :since) < :until
            OR b.day >= :since AND b.day < :until)
       AND (s.refund_id IS NULL AND b.amount <> 0
            OR b.refund_id IS NULL AND (s.amount IS DISTINCT FROM 0 OR NOT s.exact)
            OR abs(s.amount - b.amount) > CASE WHEN s.exact THEN 0 ELSE 1 END
            OR s.amount IS NULL OR s.day <> b.day)
     ORDER BY length(coalesce(s.refund_id, b.refund_id)), coalesce(s.refund_id, b.refund_id) COLLATE "C"
     LIMIT :limit
    """
)


def different_refunds(connection: Connection, *, since: date, until: date, limit: int) -> list[sa.Row[Any]]:
    return list(connection.execute(_DIFFERENT_REFUNDS, {"since": since, "until": until, "limit": limit}))


_CURRENCIES = sa.text(
    """
    SELECT n.id, coalesce(o.currency, s.currency) AS currency
      FROM unnest(CAST(:ids AS text[])) AS n (id)
      LEFT JOIN orders o ON o.connector = :connector AND o.external_id = n.id
      LEFT JOIN shown_orders s ON s.order_id = n.id
    """
)


def currencies(connection: Connection, connector: str, ids: Sequence[str]) -> dict[str, str]:
    """The currency of each of these orders, by its record or as the shop shows it."""
    rows = connection.execute(_CURRENCIES, {"connector": connector, "ids": list(ids)})
    return {row.id: row.currency for row in rows if row.currency}


_ELSEWHERE = sa.text(
    """
    SELECT e.currency,
           coalesce(sum(p.gross) FILTER (WHERE e.posted_on >= :until), 0)::bigint AS later,
           coalesce(sum(p.gross) FILTER (WHERE e.posted_on < :until), 0)::bigint AS earlier
      FROM entries e
      CROSS JOIN LATERAL (
           SELECT -sum(amount_minor) AS gross FROM postings WHERE entry_id = e.id AND account = :revenue) p
     WHERE e.connector = :connector AND e.posted_on <> e.business_day
       AND (e.business_day >= :since AND e.business_day < :until AND e.posted_on >= :until
            OR e.posted_on >= :since AND e.posted_on < :until AND e.business_day < :since)
     GROUP BY 1 ORDER BY 1
    """
)


def restated(connection: Connection, connector: str, *, since: date, until: date) -> list[dict[str, Any]]:
    """By currency, what happened in these days and counts in a later period (`later_minor`), and what happened
    before and counts in these days (`earlier_minor`)."""
    rows = connection.execute(
        _ELSEWHERE,
        {"connector": connector, "since": since, "until": until, "revenue": accounts.revenue(connector)},
    )
    return [
        {"currency": row.currency, "later_minor": row.later, "earlier_minor": row.earlier} for row in rows
    ]


_COUNTED = sa.text(
    """
    SELECT count(*) AS orders, coalesce(sum(total), 0) AS gross, count(DISTINCT currency) AS currencies,
           count(*) FILTER (WHERE total IS NULL) AS unreadable
      FROM shown_orders WHERE counted AND created_at >= :since AND created_at < :until
    """
)
_GIVEN_BACK = sa.text(
    """
    SELECT coalesce(sum(total), 0) FROM shown_refunds WHERE created_at >= :since AND created_at < :until
    """
)


def counted(connection: Connection, since: datetime, until: datetime) -> sa.Row[Any]:
    """The orders between these instants that the shop's own totals count, and what they come to in all."""
    return connection.execute(_COUNTED, {"since": since, "until": until}).one()


def given_back(connection: Connection, since: datetime, until: datetime) -> Decimal:
    found: Decimal = connection.execute(_GIVEN_BACK, {"since": since, "until": until}).scalar_one()
    return found


_SHOWN_SOLD = sa.text("SELECT order_id, sold FROM shown_orders WHERE order_id = ANY(CAST(:ids AS text[]))")


def shown_sold(connection: Connection, ids: Sequence[str]) -> dict[str, bool]:
    return {row.order_id: row.sold for row in connection.execute(_SHOWN_SOLD, {"ids": list(ids)})}
