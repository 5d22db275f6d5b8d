"""The main job over the generated sandbox: all of it at first, nothing after that, then exactly what changed."""

from __future__ import annotations

import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.sandbox.change import change
from sync import work

KINDS = {
    "orders": ("woocommerce", "order"),
    "refunds": ("woocommerce", "refund"),
    "products": ("woocommerce", "product"),
    "spend": ("meta", "insight"),
}


def counted(summary: work.Summary, *names: str) -> dict[tuple[str, str], int]:
    """(connector, stream) → records, for the counts named."""
    found: Counter[tuple[str, str]] = Counter()
    for run in summary.runs:
        for stream, counts in run.counts.items():
            found[run.connector, stream] += sum(counts.get(name, 0) for name in names)
    return {key: count for key, count in found.items() if count}


def test_a_first_sync_brings_all_that_the_vendors_hold(synced: Any) -> None:
    for table, (vendor, kind) in KINDS.items():
        _, held = synced.state.select(vendor, kind, limit=0)
        assert held > 0
        assert synced.value(f"SELECT count(*) FROM {table}") == held, table
    _, forms = synced.state.select("meta", "lead", limit=0)
    rows = len(synced.leads_csv.read_text().splitlines()) - 1
    _, members = synced.state.select("mailchimp", "member", limit=0)
    assert dict(synced.rows("SELECT connector, count(*) FROM leads GROUP BY 1")) == {
        "meta": forms,
        "web": rows,
        "newsletter": members,
    }
    assert synced.value("SELECT count(*) FROM contacts WHERE connector = 'newsletter'") == members
    assert synced.value("SELECT count(*) FROM quarantine") == 0
    assert synced.value("SELECT count(*) FROM pending") == 0
    assert synced.verify() == []


def test_every_person_to_push_is_in_the_crm_once(synced: Any) -> None:
    wanted = synced.value("SELECT count(*) FROM outbox WHERE status = 'acknowledged'")
    assert wanted > 0
    assert synced.value("SELECT count(*) FROM outbox WHERE status <> 'acknowledged'") == 0
    assert len(synced.writes()) == wanted
    assert len({id for id, _ in synced.writes()}) == wanted


def test_a_second_sync_brings_books_and_pushes_nothing(synced: Any) -> None:
    head, writes = synced.head(), synced.writes()
    events = synced.rows("SELECT person_id, seq, stage, at, who, why FROM stage_events ORDER BY 1, 2")
    summary = synced.sync()
    assert {run.status for run in summary.runs} == {"done"}
    assert {
        name for run in summary.runs for counts in run.counts.values() for name, n in counts.items() if n
    } == {
        "fetched",
        "own",
        "unchanged",
    }
    assert synced.head() == head
    assert synced.writes() == writes
    assert synced.rows("SELECT person_id, seq, stage, at, who, why FROM stage_events ORDER BY 1, 2") == events
    third = synced.sync()
    assert counted(third, "own", "new", "changed") == {}, "our own writes came back once and are known now"
    assert synced.head() == head
    assert synced.writes() == writes


@pytest.fixture
def changed(synced: Any) -> tuple[Any, list[str], int, int, work.Summary]:
    """A synced world with changes at the vendors, synced: the lines, the journal's and the CRM's places before."""
    synced.sync()
    entry, _ = synced.head()
    writes = len(synced.writes())
    now = datetime.now(UTC).replace(microsecond=0)
    lines = change(synced.state.path, leads_csv=synced.leads_csv, seed=7, now=now)
    # Vendors count in whole seconds, so one that is not over yet is left to the next run.
    while datetime.now(UTC) < now + timedelta(seconds=1):
        time.sleep(0.05)
    return synced, lines, entry, writes, synced.sync()


def numbers(lines: list[str], pattern: str) -> set[str]:
    return {found for line in lines for found in re.findall(pattern, line)}


def test_a_change_at_the_vendors_comes_exactly(changed: Any) -> None:
    world, lines, entry, _, summary = changed
    assert {run.status for run in summary.runs} == {"done"}
    new_orders = numbers(lines, r"^order (\d+): new")
    touched = numbers(lines, r"^order (\d+): (?!new)")
    refunds = numbers(lines, r"refund (\d+),")
    [spent] = [line for line in lines if line.startswith("spend of")]
    assert (len(new_orders), len(touched), len(refunds)) == (3, 4, 2)
    assert counted(summary, "new") == {
        ("shop", "orders"): 3,
        ("shop", "refunds"): 2,
        ("meta", "leads"): 2,
        ("web", "leads"): 1,
        ("newsletter", "contacts"): 1,
        ("newsletter", "touches"): 1,
        ("crm", "contacts"): 1,
        ("crm", "stage_changes"): 1,
    }
    assert counted(summary, "changed") == {
        ("shop", "orders"): 4,
        ("meta", "spend"): 1,
        ("crm", "contacts"): 1,
        ("crm", "stage_changes"): 1,
    }

    booked = world.rows("SELECT kind, subject, part FROM entries WHERE id > :entry", entry=entry)
    assert {row.subject.partition(":")[2] for row in booked if row.subject.startswith("order:")} == (
        new_orders | touched
    )
    assert {row.part.partition(":")[2] for row in booked if row.part.startswith("refund:")} == refunds
    day, ad = re.findall(r"spend of (\S+), ad (\d+)", spent)[0]
    [subject] = {row.subject for row in booked if row.subject.startswith("spend:")}
    assert day in subject
    assert ad in subject
    assert world.verify() == []


def test_a_change_reaches_the_crm_for_those_it_concerns_only(changed: Any) -> None:
    world, lines, _, writes, _ = changed
    sent = world.writes()[writes:]
    contacts = {id: world.state.get("hubspot", "contact", id).body["properties"] for id, _ in sent}
    emails = {properties["email"] for properties in contacts.values()}
    # Whom the lines concern: the new leads, the buyers of the orders, and the contact that was accepted.
    orders = numbers(lines, r"^order (\d+):")
    buyers = {world.state.get("woocommerce", "order", id).body["billing"]["email"].lower() for id in orders}
    persons = world.rows(
        "SELECT DISTINCT o.email FROM outbox o JOIN members m USING (person_id)"
        " WHERE m.kind = 'order' AND m.external_id = ANY(:orders)",
        orders=sorted(orders),
    )
    newest = world.rows("SELECT email FROM leads WHERE occurred_at > now() - interval '10 minutes'")
    leads = {row.email for row in newest}
    assert len(leads) == 4
    assert leads <= emails
    assert emails <= leads | buyers | {row.email for row in persons}
    for id, wanted in sent:
        assert wanted.get("email", contacts[id]["email"]) == contacts[id]["email"]
    assert len({id for id, _ in sent}) == len(sent), "nobody is written twice"
    outbox = world.rows(
        "SELECT remote_id, desired FROM outbox WHERE destination = 'crm' AND status = 'acknowledged'"
    )
    for row in outbox:
        held = world.state.get("hubspot", "contact", row.remote_id).body["properties"]
        assert float(held["leadledger_revenue"]) == float(row.desired["leadledger_revenue"])
        assert int(held["leadledger_orders"]) == int(row.desired["leadledger_orders"])


def test_after_a_change_the_next_sync_has_nothing_to_do(changed: Any) -> None:
    world, *_ = changed
    head, writes = world.head(), world.writes()
    again = world.sync()
    assert counted(again, "new", "changed") == {}
    assert world.head() == head
    assert world.writes() == writes
