"""The SQL of the bridge: what the books, the records and the platforms have of a period."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.ledger import accounts

# Of sales in force on their own day, with what stands on which side of them; and of those that count later.
_SALES = sa.text(
    """
    SELECT e.connector || ':' || substr(e.subject, length('order:') + 1) AS ref, e.business_day, e.posted_on,
           -p.revenue AS gross, p.tax, p.shipping, p.credited, p.to_others, p.unattributed
      FROM entries e
      CROSS JOIN LATERAL (
           SELECT coalesce(sum(amount_minor) FILTER (WHERE account LIKE 'Revenue:%'), 0) AS revenue,
                  coalesce(sum(amount_minor) FILTER (WHERE account LIKE 'Tax:%'), 0) AS tax,
                  coalesce(sum(amount_minor) FILTER (WHERE account LIKE 'Shipping:%'), 0) AS shipping,
                  coalesce(sum(amount_minor) FILTER (WHERE account LIKE 'Credit:Campaign:%'
                      AND split_part(account, ':', 3) = ANY(CAST(:platforms AS text[]))), 0) AS credited,
                  coalesce(sum(amount_minor) FILTER (WHERE account LIKE 'Credit:%'
                      AND NOT (account LIKE 'Credit:Campaign:%'
                          AND split_part(account, ':', 3) = ANY(CAST(:platforms AS text[])))), 0) AS to_others,
                  coalesce(sum(amount_minor) FILTER (WHERE account LIKE 'Unattributed:%'), 0) AS unattributed
             FROM postings WHERE entry_id = e.id) p
     WHERE e.connector = ANY(CAST(:shops AS text[])) AND e.part = 'sale' AND e.reverses IS NULL
       AND e.currency = :currency
       AND (e.posted_on >= :since AND e.posted_on < :until AND e.posted_on = e.business_day
            OR e.posted_on <> e.business_day AND e.business_day >= :since AND e.business_day < :until)
       AND NOT EXISTS (SELECT FROM entries r WHERE r.reverses = e.id)
    """
)
# All that counts in these days on the campaigns of the claiming platforms, by what it is about.
_CREDITED = sa.text(
    """
    SELECT CASE WHEN e.subject LIKE 'order:%' THEN e.connector || ':' || substr(e.subject, length('order:') + 1)
                ELSE e.subject END AS ref,
           split_part(p.account, ':', 3) AS platform, sum(p.amount_minor)::bigint AS amount,
           coalesce(sum(p.amount_minor) FILTER (
               WHERE e.part LIKE 'refund:%' AND e.reverses IS NULL AND e.posted_on = e.business_day
                 AND NOT EXISTS (SELECT FROM entries r WHERE r.reverses = e.id)), 0)::bigint AS refunds
      FROM entries e
      CROSS JOIN LATERAL (
           SELECT account, amount_minor FROM postings
            WHERE entry_id = e.id AND account LIKE 'Credit:Campaign:%'
              AND split_part(account, ':', 3) = ANY(CAST(:platforms AS text[]))) p
     WHERE (e.connector = ANY(CAST(:shops AS text[])) OR e.connector = '') AND e.currency = :currency
       AND e.posted_on >= :since AND e.posted_on < :until
     GROUP BY 1, 2
    """
)
_RECORDS = sa.text(
    """
    SELECT o.connector || ':' || o.external_id AS ref, o.occurred_at, o.status, o.currency, o.total_minor, m.person_id
      FROM orders o
      LEFT JOIN members m ON m.kind = 'order' AND m.connector = o.connector AND m.external_id = o.external_id
     WHERE o.occurred_at >= :since AND o.occurred_at < :until AND o.connector = ANY(CAST(:shops AS text[]))
    """
)
_REFUSED = sa.text(
    """
    SELECT person_id FROM (
        SELECT m.person_id, l.consent FROM members m
          JOIN leads l ON m.kind = 'lead' AND (l.connector, l.external_id) = (m.connector, m.external_id)
         WHERE m.person_id = ANY(CAST(:persons AS text[]))
         UNION ALL
        SELECT m.person_id, c.consent FROM members m
          JOIN contacts c ON m.kind = 'contact' AND (c.connector, c.external_id) = (m.connector, m.external_id)
         WHERE m.person_id = ANY(CAST(:persons AS text[]))
    ) said GROUP BY 1 HAVING bool_or(NOT consent) AND NOT coalesce(bool_or(consent), false)
    """
)
_CLAIMS = sa.text(
    """
    SELECT connector, campaign_id, day, currency, coalesce(sum(claimed_orders), 0)::bigint AS orders,
           sum(claimed_minor)::bigint AS amount, coalesce(sum(claimed_view_minor), 0)::bigint AS viewed
      FROM spend WHERE claimed_minor IS NOT NULL AND day >= :since AND day < :until
     GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    """
)
_SPENDERS = sa.text(
    """
    SELECT DISTINCT connector FROM entries
     WHERE part = 'spend' AND posted_on >= :since AND posted_on < :until ORDER BY 1
    """
)


def claims(connection: Connection, *, since: date, until: date) -> list[sa.Row[Any]]:
    """What the platforms claim, by campaign, day and currency."""
    return list(connection.execute(_CLAIMS, {"since": since, "until": until}))


def spenders(connection: Connection, *, since: date, until: date) -> list[str]:
    """The platforms that spent in these days."""
    return list(connection.execute(_SPENDERS, {"since": since, "until": until}).scalars())


def _named(
    shops: Sequence[str], platforms: Sequence[str], currency: str, since: date, until: date
) -> dict[str, Any]:
    return {
        "shops": list(shops),
        "platforms": [accounts.part(platform) for platform in platforms],
        "currency": currency,
        "since": since,
        "until": until,
    }


def sales(
    connection: Connection,
    *,
    shops: Sequence[str],
    platforms: Sequence[str],
    currency: str,
    since: date,
    until: date,
) -> list[sa.Row[Any]]:
    return list(connection.execute(_SALES, _named(shops, platforms, currency, since, until)))


def credited(
    connection: Connection,
    *,
    shops: Sequence[str],
    platforms: Sequence[str],
    currency: str,
    since: date,
    until: date,
) -> list[sa.Row[Any]]:
    return list(connection.execute(_CREDITED, _named(shops, platforms, currency, since, until)))


def records(
    connection: Connection, *, shops: Sequence[str], since: datetime, until: datetime
) -> list[sa.Row[Any]]:
    """The orders placed between these instants, with their person."""
    return list(connection.execute(_RECORDS, {"shops": list(shops), "since": since, "until": until}))


def refused(connection: Connection, persons: Sequence[str]) -> set[str]:
    """Those of these persons who said no, and to nobody yes."""
    return set(connection.execute(_REFUSED, {"persons": list(persons)}).scalars())
