"""Rules that an admin changes hold for everybody at the next sync, not only for those who do something new."""

from __future__ import annotations

from typing import Any


def counts(world: Any) -> tuple[int, int, int]:
    return tuple(
        world.row("SELECT count(mql_at), count(sql_at), count(won_at) FROM journeys")  # type: ignore[return-value]
    )


def settled(world: Any) -> None:
    """Our own writes were read back, so that nobody has anything new."""
    world.sync()


def test_new_funnel_rules_stage_everybody_again(synced: Any) -> None:
    settled(synced)
    before, head = counts(synced), synced.head()
    synced.edit(
        ("where: {field: stage, value: salesqualifiedlead}", "where: {field: stage, value: opportunity}")
    )
    synced.sync("web", pushes=False)
    after = counts(synced)
    assert after[0] == before[0]
    assert 0 < after[1] < before[1]
    assert synced.head() == head
    synced.edit(
        ("where: {field: stage, value: opportunity}", "where: {field: stage, value: salesqualifiedlead}")
    )
    synced.sync("web", pushes=False)
    assert counts(synced) == before


def test_new_rules_of_identity_match_everybody_again(synced: Any) -> None:
    settled(synced)
    before = synced.rows("SELECT kind, connector, external_id, person_id FROM members ORDER BY 1, 2, 3")
    persons = len({row.person_id for row in before})
    synced.edit(("  phone_region: PL", "  phone_region: PL\n  keys: [crm_id, click_id]"))
    synced.sync("web", pushes=False)
    assert synced.value("SELECT count(DISTINCT person_id) FROM members") > persons
    assert synced.value("SELECT count(*) FROM sightings WHERE key_kind IN ('email', 'phone')") == 0
    assert synced.verify() == []
    synced.edit(("\n  keys: [crm_id, click_id]", ""))
    synced.sync("web", pushes=False)
    assert (
        synced.rows("SELECT kind, connector, external_id, person_id FROM members ORDER BY 1, 2, 3") == before
    )
    assert synced.verify() == []


def test_new_push_rules_send_everybody_what_differs(synced: Any) -> None:
    settled(synced)
    writes = len(synced.writes())
    people = synced.value("SELECT count(*) FROM outbox WHERE status = 'acknowledged'")
    synced.edit(
        (
            "      leadledger_orders: orders\n",
            "      leadledger_orders: orders\n      company: {const: Known}\n",
        )
    )
    summary = synced.sync("crm")
    assert {run.status for run in summary.runs} == {"done"}
    sent = synced.writes()[writes:]
    assert len(sent) == people
    assert all(values == {"company": "Known"} for _, values in sent)
    assert synced.sync("crm").runs[-1].counts == {}


def test_what_was_refused_is_sent_again_when_its_rule_is_mended(fresh: Any) -> None:
    fresh.edit(("won: customer,", "won: no_such_stage,"))
    fresh.sync()
    refused = fresh.value("SELECT count(*) FROM outbox WHERE status = 'refused'")
    assert refused > 0
    fresh.edit(("won: no_such_stage,", "won: customer,"))
    [push] = [run for run in fresh.sync().runs if run.kind == "push"]
    assert {name: n for name, n in push.counts["push"].items() if n} == {"sent": refused, "accepted": refused}
    assert fresh.rows("SELECT 1 FROM outbox WHERE status <> 'acknowledged'") == []


def test_unchanged_rules_give_nobody_work(synced: Any) -> None:
    settled(synced)
    steps = synced.sync("web", pushes=False).steps
    assert set(steps.values()) == {0}
