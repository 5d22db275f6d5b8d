"""Attribute: credits in minor units for orders with many touches, and for a few that changed.

The floor reads orders and touches into columns, shares the revenue out linearly with numpy over sorted arrays,
the odd units to the earliest touches, and writes the credits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from sync.attribute import rules, step
from sync.bench import columns, history, measure
from sync.bench.place import Place

ORDERS, TOUCHES, PERSONS, CHANGED = 100_000, 1_000_000, 50_000, 2_000
LOOKBACK_DAYS = 90
POLICY = rules.Policy(version=1, model="linear", lookback_days=LOOKBACK_DAYS, touches=frozenset({"visit"}))


def results(place: Place) -> Iterator[measure.Result]:
    orders, touches, changed = place.size(ORDERS), place.size(TOUCHES), place.size(CHANGED)
    place.say(f"attribute {orders:,} orders with {touches:,} touches")
    wholes: list[float] = []
    parts: list[float] = []
    with place.database() as engine:
        with engine.begin() as connection:
            history.make(connection, orders=orders, touches=touches, persons=place.size(PERSONS))
            connection.execute(sa.text("CREATE TABLE floor_credits (LIKE credits INCLUDING ALL)"))

        def floor() -> float:
            with engine.begin() as connection:
                connection.execute(sa.text("TRUNCATE floor_credits"))
            return measure.timed(lambda: _share_out(engine))

        def ours() -> float:
            with engine.begin() as connection:
                connection.execute(sa.text("TRUNCATE credits, attributions"))
                history.note(connection, "attribute", "order", table="orders")
            wholes.append(_attribute(engine))
            with engine.begin() as connection:
                history.note(connection, "attribute", "order", table="orders", limit=changed)
            parts.append(_attribute(engine))
            return wholes[-1]

        yield measure.contest(
            f"attribute {orders:,} orders, {touches:,} touches",
            goal=2.5,
            floor=floor,
            ours=ours,
            rounds=place.rounds,
            against="numpy over sorted arrays, read and written",
        )
        _compare(engine)
    yield measure.compared(
        f"attribute {changed:,} changed orders",
        goal=0.05,
        whole_s=min(wholes),
        ours_s=min(parts),
        against="the whole",
    )


def _attribute(engine: Engine) -> float:
    return measure.timed(lambda: history.until_nothing(engine, lambda c: step.attribute(c, POLICY)))


def _compare(engine: Engine) -> None:
    """Both gave the same credits, or the measurement means nothing."""
    asked = """
        SELECT count(*) FROM (
            (SELECT order_id, touch_id, amount_minor FROM credits WHERE touch_id IS NOT NULL
             EXCEPT SELECT order_id, touch_id, amount_minor FROM floor_credits)
             UNION ALL
            (SELECT order_id, touch_id, amount_minor FROM floor_credits
             EXCEPT SELECT order_id, touch_id, amount_minor FROM credits)) AS different
    """
    with engine.connect() as connection:
        different = connection.execute(sa.text(asked)).scalar_one()
    assert different == 0, f"{different} credits differ from those of the floor"


def _share_out(engine: Engine) -> None:
    import numpy as np
    import polars

    with engine.begin() as connection:
        orders = columns.read(connection, _ORDERS)
        touches = columns.read(connection, _TOUCHES)
        at, person = touches["at"].to_numpy(), touches["person"].to_numpy()
        # One number that sorts by person, then by time, then by id as text.
        by = np.lexsort((touches["rank"].to_numpy(), at, person))
        key = (person * _BEYOND + at)[by]
        order_at, order_person = orders["at"].to_numpy(), orders["person"].to_numpy()
        first = np.searchsorted(key, order_person * _BEYOND + order_at - LOOKBACK_DAYS * 86_400, "left")
        last = np.searchsorted(key, order_person * _BEYOND + order_at, "right")
        chosen, order, line = _ranges(np, first, last)
        revenue, count = orders["revenue"].to_numpy()[order], (last - first)[order]
        amount = revenue // count + (line < revenue % count)
        ids = touches["touch_id"].to_numpy()[by][chosen]
        campaign = [f"ads:{one}" for one in touches["campaign_id"].to_numpy()[by][chosen]]
        frame = polars.DataFrame(
            {
                "connector": ["shop"] * len(order),
                "order_id": orders["order_id"].to_numpy()[order],
                "line": line,
                "account": [f"Credit:Campaign:{one}" for one in campaign],
                "campaign": campaign,
                "touch_connector": ["ads"] * len(order),
                "touch_id": ids,
                "amount_minor": amount,
            }
        )
        columns.write(connection, "floor_credits", frame)


_BEYOND = 10**10
_ORDERS = """
    SELECT o.external_id::bigint AS order_id, substr(m.person_id, 4)::bigint AS person,
           extract(epoch FROM o.occurred_at)::bigint AS at, o.total_minor AS revenue
      FROM orders o JOIN members m ON (m.kind, m.connector, m.external_id) = ('order', o.connector, o.external_id)
"""
_TOUCHES = """
    SELECT t.external_id::bigint AS touch_id, substr(m.person_id, 4)::bigint AS person,
           extract(epoch FROM t.occurred_at)::bigint AS at, t.campaign_id,
           rank() OVER (ORDER BY t.external_id COLLATE "C") AS rank
      FROM touches t JOIN members m ON (m.kind, m.connector, m.external_id) = ('touch', t.connector, t.external_id)
"""


def _ranges(np: Any, first: Any, last: Any) -> tuple[Any, Any, Any]:
    """All positions from `first` to `last` of every order, with the order's number and the place in its range."""
    count = last - first
    order = np.repeat(np.arange(len(first)), count)
    line = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    return first[order] + line, order, line
