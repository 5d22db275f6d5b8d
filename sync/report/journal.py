"""The lines of the journal that make up a figure: sums, and every posting behind them, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.report.known import EVER
from sync.report.period import Period

ROWS_AT_ONCE = 1_000

_HEAD = sa.text(
    "SELECT id, hash, booked_at FROM entries WHERE booked_at <= :known_until ORDER BY id DESC LIMIT 1"
)
_SUMS = sa.text(
    """
    SELECT p.account, e.currency,
           coalesce(sum(p.amount_minor) FILTER (WHERE e.posted_on < :since), 0) AS opening,
           coalesce(sum(p.amount_minor) FILTER (WHERE e.posted_on >= :since), 0) AS moved,
           count(*) FILTER (WHERE e.posted_on >= :since) AS postings
      FROM postings p JOIN entries e ON e.id = p.entry_id
     WHERE (p.account = ANY(CAST(:accounts AS text[]))
            OR CAST(:below AS text) <> '' AND starts_with(p.account, :below))
       AND e.posted_on < :until AND e.booked_at <= :known_until
     GROUP BY 1, 2 ORDER BY p.account COLLATE "C", 2
    """
)
_LINES = sa.text(
    """
    SELECT e.*, p.account, p.amount_minor, v.connector AS evidence_connector, v.stream AS evidence_stream,
           v.external_id AS evidence_external_id, v.fetched_at AS evidence_fetched_at,
           (SELECT array_agg(o.account ORDER BY o.line) FROM postings o WHERE o.entry_id = e.id) AS accounts,
           (SELECT array_agg(o.amount_minor ORDER BY o.line) FROM postings o WHERE o.entry_id = e.id) AS amounts
      FROM postings p JOIN entries e ON e.id = p.entry_id LEFT JOIN evidence v ON v.id = e.evidence_id
     WHERE (p.account = ANY(CAST(:accounts AS text[]))
            OR CAST(:below AS text) <> '' AND starts_with(p.account, :below))
       AND e.posted_on >= :since AND e.posted_on < :until AND e.booked_at <= :known_until
     ORDER BY CASE WHEN CAST(:by_subject AS boolean) THEN e.connector ELSE '' END COLLATE "C",
              CASE WHEN CAST(:by_subject AS boolean) THEN e.subject ELSE '' END COLLATE "C", e.posted_on, e.id, p.line
    """
)


def head(connection: Connection, as_of: datetime | None) -> dict[str, Any] | None:
    """The last entry that was known at `as_of`, and its hash, which pins all before it. None for empty books."""
    row = connection.execute(_HEAD, {"known_until": as_of or EVER}).first()
    if row is None:
        return None
    return {"entry": row.id, "hash": bytes(row.hash).hex(), "booked_at": row.booked_at.isoformat()}


def sums(
    connection: Connection,
    *,
    accounts: Sequence[str],
    below: str = "",
    period: Period,
    as_of: datetime | None,
) -> list[sa.Row[Any]]:
    """By account and currency: `opening` before the period, `moved` and `postings` in it.

    Taken are `accounts`, and those whose names start with `below`, where that is not empty.
    """
    return list(connection.execute(_SUMS, _bounds(accounts, below, period, as_of)))


def lines(
    connection: Connection,
    *,
    accounts: Sequence[str],
    below: str = "",
    period: Period,
    as_of: datetime | None,
    by_subject: bool = False,
) -> Iterator[dict[str, Any]]:
    """Each posting to these accounts that counts in the period, with its entry, by the day it counts on, or by
    order. Read a part at a time: the whole may be larger than memory."""
    bounds = _bounds(accounts, below, period, as_of) | {"by_subject": by_subject}
    found = connection.execute(_LINES, bounds, execution_options={"yield_per": ROWS_AT_ONCE})
    for row in found:
        yield _line(row)


def _bounds(accounts: Sequence[str], below: str, period: Period, as_of: datetime | None) -> dict[str, Any]:
    return {
        "accounts": list(accounts),
        "below": below,
        "since": period.since,
        "until": period.until,
        "known_until": as_of or EVER,
    }


def _line(row: Any) -> dict[str, Any]:
    proof = None
    if row.evidence_id is not None:
        proof = {
            "id": row.evidence_id,
            "source": f"{row.evidence_connector}/{row.evidence_stream}/{row.evidence_external_id}",
            "sha256": bytes(row.evidence_sha256).hex(),
            "fetched_at": row.evidence_fetched_at.isoformat() if row.evidence_fetched_at else None,
        }
    return {
        "entry": row.id,
        "kind": row.kind,
        "connector": row.connector,
        "subject": row.subject,
        "part": row.part,
        "account": row.account,
        "currency": row.currency,
        "amount_minor": row.amount_minor,
        "business_day": row.business_day.isoformat(),
        "posted_on": row.posted_on.isoformat(),
        "happened_at": row.happened_at.isoformat(),
        "booked_at": row.booked_at.isoformat(),
        "reason": row.reason,
        "author": row.author,
        "policy_version": row.policy_version,
        "reverses": row.reverses,
        "refers_to": row.refers_to,
        "rate": row.rate,
        "evidence": proof,
        "hash": bytes(row.hash).hex(),
        "postings": [
            {"account": account, "amount_minor": amount}
            for account, amount in zip(row.accounts, row.amounts, strict=True)
        ],
    }
