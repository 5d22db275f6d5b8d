"""A CRM on a bad day while it is written to: nothing is lost, and what is sent again is the same state."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.sandbox import accounts
from tests.faults.vendor import hostile as bad
from tests.faults.vendor.checks import crm, run_of, sent
from tests.faults.vendor.hostile import Call, Exchange, Hostile, Spoil
from tests.integration.flow.conftest import World

BATCH = r"/contacts/batch/(upsert|update)$"
UPSERT = r"/contacts/batch/upsert$"
UPDATE = r"/contacts/batch/update$"


@pytest.fixture
def pulled(fresh: World, vendors: Hostile) -> World:
    """All is read and booked, and waits to be pushed."""
    assert {run.status for run in fresh.sync(pushes=False).runs} == {"done"}
    assert fresh.writes() == []
    return fresh


def push(world: World) -> Any:
    return run_of(world.sync("crm"), "crm", "push")


def statuses(world: World) -> dict[str, int]:
    rows = world.rows("SELECT status, count(*) AS total FROM outbox WHERE status <> 'superseded' GROUP BY 1")
    return {row.status: row.total for row in rows}


def states(calls: list[Call]) -> list[Any]:
    """What each call wants the CRM to hold."""
    return [json.loads(call.body)["inputs"] for call in calls]


def ends_pushed(world: World, undisturbed: World) -> None:
    """The CRM holds what it would hold had nothing happened, and nobody is left to be told anything."""
    assert set(statuses(world)) == {"acknowledged"}
    assert crm(world) == crm(undisturbed)
    contacts = [doc.body["properties"]["email"] for doc in world.state.select("hubspot", "contact")[0]]
    assert len(contacts) == len(set(contacts)), "nobody is there twice"
    before = len(world.writes())
    assert push(world).counts.get("push", {}).get("sent", 0) == 0
    assert len(world.writes()) == before
    assert world.verify() == []


@pytest.mark.parametrize("breaks", [bad.lost, bad.chunks_without_end])
def test_an_answer_cut_after_the_batch_was_written_is_asked_for_again_with_the_same_state(
    pulled: World, vendors: Hostile, synced_once: World, breaks: Spoil
) -> None:
    spoilt = [vendors.spoil(path, breaks, times=1) for path in (UPSERT, UPDATE)]
    assert push(pulled).status == "done"
    assert [rule.used for rule in spoilt] == [1, 1]
    for path in (UPSERT, UPDATE):
        calls = vendors.asked(path)
        cut = next(exchange.call for exchange in vendors.spoiled if exchange.call in calls)
        [same] = [call for call in calls if call is not cut and call.body == cut.body]
        assert states([same]) == states([cut])
    ends_pushed(pulled, synced_once)


@pytest.mark.parametrize("breaks", [bad.lost, bad.done_and_gone])
def test_a_batch_whose_answer_never_comes_whole_stays_to_be_sent_and_the_next_push_changes_nothing_twice(
    pulled: World, vendors: Hostile, synced_once: World, breaks: Spoil
) -> None:
    vendors.spoil(BATCH, breaks)
    run = push(pulled)
    sent = run.counts["push"]["sent"]
    assert (run.status, run.counts["push"]["retry"]) == ("partial", sent)
    assert statuses(pulled) == {"pending": sent}
    reasons = {row.reason for row in pulled.rows("SELECT reason FROM outbox WHERE status = 'pending'")}
    assert all(
        "the connection broke" in reason and "The next run tries again." in reason for reason in reasons
    )
    told = vendors.asked(BATCH)
    vendors.heal()
    assert push(pulled).status == "done"
    ends_pushed(pulled, synced_once)
    wanted = {state["id"]: state["properties"] for call in states(told) for state in call}
    again = {state["id"]: state["properties"] for call in states(vendors.asked(BATCH)) for state in call}
    assert {id: again[id] for id in wanted} == wanted


def refused(status: int, body: Any = None, **headers: str) -> Spoil:
    return bad.instead(status, body if body is not None else {"status": "error", "message": "no"}, **headers)


def test_a_429_in_the_push_is_waited_for(
    pulled: World, vendors: Hostile, synced_once: World, waits: list[float]
) -> None:
    vendors.spoil(UPSERT, refused(429, Retry_After="77"), times=2)
    ten_secondly = {"status": "error", "errorType": "RATE_LIMIT", "policyName": "TEN_SECONDLY_ROLLING"}
    vendors.spoil(UPDATE, refused(429, ten_secondly), times=2)
    assert push(pulled).status == "done"
    assert len(vendors.spoiled) == 4
    assert waits.count(77.0) == 2
    assert waits.count(10.0) == 2
    ends_pushed(pulled, synced_once)
    is_sent_once(pulled, synced_once)


def is_sent_once(world: World, undisturbed: World) -> None:
    assert sorted(sent(world)) == sorted(sent(undisturbed)), "what was refused was not written"


def test_a_daily_limit_in_the_push_leaves_the_rest_to_a_later_one(
    pulled: World, vendors: Hostile, synced_once: World
) -> None:
    daily = {"status": "error", "errorType": "RATE_LIMIT", "policyName": "DAILY", "message": "used up"}
    limited = vendors.spoil(BATCH, refused(429, daily))
    run = push(pulled)
    assert run.status == "partial"
    assert limited.used == 1, "the day's calls are used up: no other batch is tried"
    assert set(statuses(pulled)) == {"pending"}
    [reason] = {row.reason for row in pulled.rows("SELECT reason FROM outbox WHERE status = 'pending'")}
    assert "they return at midnight" in reason
    assert pulled.writes() == []
    vendors.heal()
    assert push(pulled).status == "done"
    ends_pushed(pulled, synced_once)
    is_sent_once(pulled, synced_once)


def test_a_500_in_the_push_that_passes_is_not_seen(
    pulled: World, vendors: Hostile, synced_once: World
) -> None:
    for path in (UPSERT, UPDATE):
        vendors.spoil(path, refused(500), times=2)
    assert push(pulled).status == "done"
    assert len(vendors.spoiled) == 4
    ends_pushed(pulled, synced_once)
    is_sent_once(pulled, synced_once)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (refused(500), "500"),
        (refused(200, b"<html>Please log in</html>"), "answered HTML in place of JSON"),
        (refused(200, {"status": "error"}), "names this record neither as written nor as wrong"),
        (refused(302, Location="http://127.0.0.1:9/elsewhere"), "credentials do not follow redirects"),
    ],
    ids=["500", "html", "error-200", "redirect"],
)
def test_what_stays_wrong_in_the_push_leaves_the_records_pending_with_the_reason(
    pulled: World, vendors: Hostile, synced_once: World, spoil: Spoil, said: str
) -> None:
    vendors.spoil(BATCH, spoil)
    run = push(pulled)
    assert run.status == "partial"
    assert set(statuses(pulled)) == {"pending"}
    reasons = {row.reason for row in pulled.rows("SELECT reason FROM outbox WHERE status = 'pending'")}
    assert all(said in reason for reason in reasons)
    assert pulled.writes() == []
    vendors.heal()
    assert push(pulled).status == "done"
    ends_pushed(pulled, synced_once)
    is_sent_once(pulled, synced_once)


def test_a_token_revoked_before_the_push_fails_it_and_a_new_one_sends_all(
    pulled: World, vendors: Hostile, synced_once: World
) -> None:
    revoked = vendors.spoil(BATCH, refused(401))
    run = push(pulled)
    assert run.status == "failed"
    [(what, todo)] = run.errors
    assert "401" in what
    assert "Make a new token in HubSpot" in todo
    assert accounts.HUBSPOT_TOKEN not in str(run.errors)
    assert revoked.used >= 1
    assert set(statuses(pulled)) == {"pending"}
    vendors.heal()
    assert push(pulled).status == "done"
    ends_pushed(pulled, synced_once)
    is_sent_once(pulled, synced_once)


def test_an_answer_that_leaves_some_records_out_sends_only_those_again(
    pulled: World, vendors: Hostile, synced_once: World
) -> None:
    """As a page that comes short, but of a batch: what is not named is not taken for written."""
    left_out: list[str] = []

    def shorter(exchange: Exchange) -> None:
        reply = exchange.ask()
        body = reply.json
        left_out.extend(body["results"].pop()["properties"]["email"] for _ in range(2))
        exchange.answer(bad.Reply(reply.status, reply.headers, bad.compact(body)))

    vendors.spoil(UPSERT, shorter, times=1)
    run = push(pulled)
    assert (run.status, run.counts["push"]["retry"]) == ("partial", 2)
    waiting = {row.email for row in pulled.rows("SELECT email FROM outbox WHERE status = 'pending'")}
    assert waiting == set(left_out)
    assert push(pulled).counts["push"]["sent"] == 2
    ends_pushed(pulled, synced_once)
