"""What the journal lacks of an order's worth in the reporting currency."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from sync.ledger import fx, fx_store, rules


def bank_of(
    connection: Connection, converting: fx.Setting | None, orders: Iterable[Any]
) -> fx_store.Bank | None:
    """The tables that the days of these orders ask for; None where nothing is converted."""
    if converting is None:
        return None
    days = {
        order.occurred_at.astimezone(converting.zone).date()
        for order in orders
        if order.currency != converting.currency
    }
    return fx_store.read_bank(connection, converting, days)


def split(in_force: Sequence[rules.Live]) -> tuple[list[rules.Live], list[rules.Live]]:
    """An order's own entries, and those that convert them."""
    own = [entry for entry in in_force if not entry.part.startswith(rules.FX)]
    return own, [entry for entry in in_force if entry.part.startswith(rules.FX)]


def worth(bank: fx_store.Bank | None, wanted: Sequence[rules.Draft]) -> tuple[fx.Worth | None, str]:
    """How an order's entries are converted: by the rate of its sale. Or why they are not; "" if they need not."""
    sale = next((draft for draft in wanted if draft.part == "sale"), None)
    if bank is None or sale is None or sale.currency == bank.setting.currency:
        return None, ""
    found = bank.worth(sale.currency, sale.happened_at.astimezone(bank.setting.zone).date())
    return (None, found) if isinstance(found, str) else (found, "")


def corrections(
    converted: Sequence[rules.Live],
    wanted: Sequence[rules.Draft],
    worth: fx.Worth | None,
    *,
    is_changed: bool,
    is_known: bool,
) -> list[rules.Draft]:
    """The entries still to be booked. Without a rate (`is_known` false) what is converted stays, unless what it
    converts is changing (`is_changed`): then it is taken back, and booked anew when the rate comes."""
    if not is_known and not is_changed:
        return []
    target = fx.conversions(wanted, worth) if worth is not None else []
    return rules.corrections(converted, target, why_gone="")
