"""Match: a million sightings to persons, and what twenty thousand new ones cost.

The floor reads the keys, finds the connected components of records and keys with polars and scipy, and writes
who belongs to whom: no sightings are kept, no key is capped, no merge is recorded or can be undone.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from sync.bench import columns, history, measure
from sync.bench.place import Place
from sync.match import rules, step

RECORDS, PERSONS, NEW, WITH_PHONE = 1_000_000, 280_000, 20_000, 10
RULES = rules.Rules(
    keys=frozenset({"email", "phone", "click_id", "customer_id", "crm_id"}),
    gmail_dots=True,
    plus_tags=True,
    caps={"email": 5, "phone": 3, "click_id": 3},
    ignore=("info@*", "office@*"),
)


def results(place: Place) -> Iterator[measure.Result]:
    records, new = place.size(RECORDS), place.size(NEW)
    place.say(f"match {records:,} sightings")
    wholes: list[float] = []
    parts: list[float] = []

    def floor() -> float:
        with place.database() as engine:
            _pull(engine, records, place)
            return measure.timed(lambda: _components(engine))

    def ours() -> float:
        with place.database() as engine:
            _pull(engine, records, place)
            wholes.append(_match(engine))
            with engine.begin() as connection:
                history.note(connection, "match", "touch", table="touches", limit=new)
            parts.append(_match(engine))
            return wholes[-1]

    against = "polars + scipy connected components, keys read and members written"
    yield measure.contest(
        f"match {records:,} sightings", goal=2.0, floor=floor, ours=ours, rounds=place.rounds, against=against
    )
    yield measure.compared(
        f"match {new:,} more", goal=0.05, whole_s=min(wholes), ours_s=min(parts), against="the whole"
    )


def _pull(engine: Engine, records: int, place: Place) -> None:
    with engine.begin() as connection:
        history.make(
            connection, touches=records, persons=place.size(PERSONS), with_phone=WITH_PHONE, matched=False
        )
        history.note(connection, "match", "touch", table="touches")


def _match(engine: Engine) -> float:
    return measure.timed(lambda: history.until_nothing(engine, lambda c: step.match(c, RULES)))


def _components(engine: Engine) -> None:
    import polars
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    with engine.begin() as connection:
        touches = columns.read(connection, "SELECT connector, external_id, email, phone FROM touches")
        keys = polars.concat(
            [
                polars.DataFrame({"record": range(len(touches)), "key": touches[name].cast(polars.String)})
                for name in ("email", "phone")
            ]
        ).drop_nulls()
        numbers = keys["key"].rank("dense").to_numpy() - 1
        count = len(touches)
        size = count + int(numbers.max()) + 1
        graph = coo_array(([1] * len(keys), (keys["record"].to_numpy(), count + numbers)), shape=(size, size))
        _, labels = connected_components(graph, directed=False)
        found = touches.select("connector", "external_id").with_columns(
            polars.lit("touch").alias("kind"),
            polars.concat_str(polars.lit("p_"), polars.Series(labels[:count])).alias("person_id"),
        )
        connection.execute(sa.text("TRUNCATE members"))
        columns.write(connection, "members", found)
