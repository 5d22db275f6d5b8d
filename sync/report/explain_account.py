"""Opens an account: what it held before, every posting with its entry, what it holds after; per currency."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from sync.report import journal
from sync.report.period import Period


def explain(
    connection: Connection, account: str, period: Period, *, as_of: datetime | None = None
) -> dict[str, Any]:
    """An account, or with a colon at its end all accounts below that name, within the period as known at `as_of`.

    ``accounts`` has each with its balances by currency, ``balances`` their sums by currency. ``entries`` is an
    iterator, to be read within this connection's transaction, which must see one state of the books: one posting at
    a time, each with the ``balance_minor`` after it; it ends at the closing balance, which is asserted. Amounts are
    in minor units, credits negative.
    """
    asked: dict[str, Any] = {
        "accounts": [account],
        "below": account.rstrip(":") + ":",
        "period": period,
        "as_of": as_of,
    }
    listed = [
        {
            "account": row.account,
            "currency": row.currency,
            "opening_minor": int(row.opening),
            "moved_minor": int(row.moved),
            "closing_minor": int(row.opening + row.moved),
            "postings": row.postings,
        }
        for row in journal.sums(connection, **asked)
    ]
    balances: dict[str, dict[str, Any]] = {}
    for row in listed:
        total = balances.setdefault(row["currency"], {"currency": row["currency"]})
        for name in ("opening_minor", "moved_minor", "closing_minor", "postings"):
            total[name] = total.get(name, 0) + row[name]
    return {
        "what": "account",
        "account": account,
        "accounts": listed,
        "balances": [balances[currency] for currency in sorted(balances)],
        "entries": _running(journal.lines(connection, **asked), balances),
    }


def _running(
    lines: Iterator[dict[str, Any]], balances: dict[str, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    held = {currency: row["opening_minor"] for currency, row in balances.items()}
    for line in lines:
        held[line["currency"]] += line["amount_minor"]
        yield line | {"balance_minor": held[line["currency"]]}
    closing = {currency: row["closing_minor"] for currency, row in balances.items()}
    assert held == closing, f"the postings lead to {held}, the sums to {closing}"
