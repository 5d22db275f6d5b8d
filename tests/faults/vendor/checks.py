"""What must hold of every bad day: one stream suffers, says so, and the next good sync makes up for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sync import runs, work
from tests.integration.flow.conftest import World

DERIVED = {
    "balances": """
        SELECT p.account, e.currency, sum(p.amount_minor)::bigint FROM entries e
          JOIN postings p ON p.entry_id = e.id GROUP BY 1, 2 HAVING sum(p.amount_minor) <> 0 ORDER BY 1, 2""",
    "entries that hold": """
        SELECT e.connector, e.subject, e.part, e.business_day::text, count(*) FROM entries e
         WHERE e.reverses IS NULL AND NOT EXISTS (SELECT FROM entries r WHERE r.reverses = e.id)
         GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4""",
    "credits": "SELECT * FROM credits ORDER BY connector, order_id, line",
    "journeys": "SELECT * FROM journeys ORDER BY person_id",
    "heads": """
        SELECT connector, stream, external_id, encode(digest, 'hex'), deleted FROM heads ORDER BY 1, 2, 3""",
    "outbox": """
        SELECT destination, person_id, email, desired, status FROM outbox WHERE status <> 'superseded'
         ORDER BY 1, 2""",
}
PAGES = {"meta": "page_size: 10", "newsletter": "page_size: 5", "shop": "per_page: 3", "crm": "page_size: 10"}
OPTIONS = {
    "meta": "      account_id: ",
    "newsletter": "      api_key: ",
    "shop": "      consumer_key: ",
    "crm": "      reason_property: ",
}


def set_option(world: World, connector: str, option: str) -> None:
    """Add an option to a connector of the config."""
    world.edit((OPTIONS[connector], f"      {option}\n{OPTIONS[connector]}"))


def small_pages(world: World, connector: str) -> None:
    """Let a connector read its lists in several calls."""
    set_option(world, connector, PAGES[connector])


def bad_sync(world: World, connector: str, *streams: str) -> runs.Run:
    """A sync in which these streams of a connector fail, and nothing else does."""
    summary = world.sync(pushes=False)
    failed = run_of(summary, connector)
    assert failed.status == "failed"
    assert sorted(what.partition(":")[0] for what, _ in failed.errors) == sorted(streams)
    assert all(todo for _, todo in failed.errors), "an error says what to do"
    others = {run.connector: run.status for run in summary.runs if run is not failed}
    assert others == dict.fromkeys({"meta", "newsletter", "shop", "web", "crm"} - {connector}, "done")
    stored = world.row("SELECT error, hint FROM runs WHERE id = :id", id=failed.id)
    assert all(what in stored.error and todo in stored.hint for what, todo in failed.errors)
    went_on = {name for name, counts in failed.counts.items() if counts.get("new")}
    assert went_on | set(streams) == {s.name for s in streams_of(world, connector)}
    return failed


def streams_of(world: World, connector: str) -> Any:
    with world.opened() as workspace:
        return workspace.declared(connector).streams


def run_of(summary: work.Summary, connector: str, kind: str = "pull") -> runs.Run:
    [run] = [run for run in summary.runs if (run.connector, run.kind) == (connector, kind)]
    return run


def cursor(world: World, connector: str, stream: str) -> Any:
    """The time from which a stream goes on; None when it begins at its begin."""
    found = world.rows(
        "SELECT at FROM cursors WHERE connector = :connector AND stream = :stream",
        connector=connector,
        stream=stream,
    )
    return found[0].at if found else None


def ends_as_undisturbed(world: World, undisturbed: World, *, besides: Sequence[str] = ()) -> None:
    """The next good sync brings everything, books it once and pushes it once; the one after that finds nothing."""
    summary = world.sync()
    assert {
        f"{run.connector} {run.kind}": (run.status, run.errors, run.problems) for run in summary.runs
    } == {f"{run.connector} {run.kind}": ("done", [], []) for run in summary.runs}
    assert world.canonical() == undisturbed.canonical()
    for name, statement in DERIVED.items():
        if name in besides:
            continue
        found, wanted = texts(world, statement), texts(undisturbed, statement)
        assert (name, found) == (name, wanted)
    assert world.verify() == []
    assert crm(world) == crm(undisturbed)
    assert sorted(sent(world)) == sorted(sent(undisturbed)), "nothing is pushed twice"


def texts(world: World, statement: str) -> list[str]:
    return [str(tuple(row)) for row in world.rows(statement)]


def crm(world: World) -> dict[str, dict[str, Any]]:
    """What the CRM holds, by e-mail, without the times of the test's own writes and without its own ids."""
    docs, _ = world.state.select("hubspot", "contact")
    return {
        doc.body["properties"]["email"]: {
            name: value
            for name, value in doc.body["properties"].items()
            if not name.endswith("date") and name != "hs_object_id"
        }
        for doc in docs
    }


def sent(world: World) -> list[str]:
    """What the CRM accepted of us."""
    return [str(sorted(fields.items())) for _, fields in world.writes()]
