"""What the CRM receives: only differences, each record's outcome its own, sales' own work never undone."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from connectors.http import Http
from connectors.sandbox import marketing_documents as marketing
from sync import work

ORDER = ("lead", "marketingqualifiedlead", "salesqualifiedlead", "opportunity", "customer", "evangelist")
NOBODY = "no.campaign@example.com"


def add_web_lead(world: Any, email: str, *, campaign: str = "", minute: int = 0) -> None:
    """A row of the web form, after all others."""
    with world.leads_csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    row = rows[-1] | {
        "lead_id": f"web-{email}",
        "email": email,
        "created": f"2025-06-01 10:{minute:02d}:00",
        "origin": "",
        "campaign": campaign,
    }
    with world.leads_csv.open("a", newline="") as file:
        csv.DictWriter(file, list(row), lineterminator="\n").writerow(row)


def add_form_lead(world: Any, *, after_minutes: int, **answers: str) -> None:
    """A lead of Meta's form, a while after the newest one."""
    [newest], _ = world.state.select("meta", "lead", order="at", descending=True, limit=1)
    at = marketing.datetime.fromtimestamp(newest.at, marketing.UTC) + timedelta(minutes=after_minutes)
    number = world.state.next_number("meta", "lead")
    world.state.put("meta", "lead", [marketing.meta_lead(number, at, None, answers)])


def contacts(world: Any) -> dict[str, dict[str, Any]]:
    """What the CRM holds, by id."""
    docs, _ = world.state.select("hubspot", "contact")
    return {doc.id: doc.body["properties"] for doc in docs if not doc.body.get("archived")}


def contact_of(world: Any, email: str) -> tuple[str, dict[str, Any]]:
    [found] = [(id, held) for id, held in contacts(world).items() if held["email"] == email]
    return found


def set_by_hand(world: Any, id: str, **values: str) -> None:
    """What a salesperson types: later than all that was written."""
    doc = world.state.get("hubspot", "contact", id)
    changed = doc.changed + 60
    stamp = marketing.hubspot_time(marketing.datetime.fromtimestamp(changed, marketing.UTC))
    properties = doc.body["properties"] | values | {"lastmodifieddate": stamp}
    body = doc.body | {"properties": properties}
    world.state.put("hubspot", "contact", [replace(doc, body=body, changed=changed)])


def outbox(world: Any, email: str) -> Any:
    return world.row("SELECT * FROM outbox WHERE email = :email AND status <> 'superseded'", email=email)


def counts_of(summary: Any) -> dict[str, int]:
    [run] = [run for run in summary.runs if run.kind == "push"]
    return {name: n for name, n in run.counts.get("push", {}).items() if n}


# the dry run


def test_a_dry_run_prints_exactly_the_calls_that_the_push_then_makes(fresh: Any, monkeypatch: Any) -> None:
    with fresh.opened() as workspace:  # pulled, and nothing of it booked yet
        for name in ("meta", "newsletter", "shop", "web", "crm"):
            work.pull(workspace, name)
    untouched = fresh.value("SELECT count(*) FROM pending")
    printed = fresh.run("push", "--dry-run", "--format", "json")
    assert printed.code == 0
    assert fresh.writes() == [], "a dry run sends nothing"
    assert fresh.value("SELECT count(*) FROM pending") == untouched > 0
    assert fresh.value("SELECT count(*) FROM entries") == 0, "a dry run books nothing"
    assert fresh.value("SELECT count(*) FROM policies") == 0, "a dry run puts no policy in force"

    made: list[Any] = []
    post = Http.post

    def noted(self: Http, path: str, json: Any = None, params: Any = None) -> Any:
        made.append(("POST", path, json))
        return post(self, path, json, params)

    monkeypatch.setattr(Http, "post", noted)
    assert fresh.run("push", "--format", "json").code == 0
    assert [(call["method"], call["path"], call["body"]) for call in printed.json] == made
    assert {call["destination"] for call in printed.json} == {"crm"}
    assert made[0][1].endswith("/groups")
    assert made[1][1].endswith("/batch/create")
    assert sum(call["records"] for call in printed.json) > 40

    assert fresh.run("push", "--dry-run", "--format", "json").json == []
    assert "0 calls would be made" in fresh.run("push", "--dry-run").out


def test_a_dry_run_shows_refused_records_where_they_are_to_be_tried_again(fresh: Any) -> None:
    fresh.sync()
    with fresh.engine.begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE outbox SET status = 'refused', accepted = '{}' WHERE email = (SELECT min(email) FROM outbox)"
            )
        )
    assert fresh.run("push", "--dry-run", "--format", "json").json == []
    [call] = fresh.run("push", "--dry-run", "--refused", "--format", "json").json
    assert call["records"] == 1
    assert fresh.value("SELECT count(*) FROM outbox WHERE status = 'refused'") == 1


def as_text(id: str, values: dict[str, Any]) -> str:
    return f"{id} {json.dumps(values, sort_keys=True)}"


def id_of(emails: dict[str, str], email: str) -> str:
    [id] = [id for id, held in emails.items() if held == email]
    return id


def test_a_dry_run_in_words_counts_calls_and_records(fresh: Any) -> None:
    fresh.sync(pushes=False)
    printed = fresh.run("push", "--dry-run")
    wanted = fresh.value("SELECT count(*) FROM outbox WHERE status = 'pending'")
    lines = printed.out.splitlines()
    assert lines[0] == "4 calls would be made."
    assert (
        sum(int(line.split("(")[1].split()[0]) for line in lines if line.startswith("crm: POST ")) == wanted
    )
    table = fresh.run("push", "--dry-run", "--format", "csv").out.splitlines()
    assert table[0] == "destination,method,path,records,body"
    assert len(table) == 5


# partial failures


def test_an_invalid_address_is_refused_alone_and_tried_again_only_when_something_changes(fresh: Any) -> None:
    path = fresh.folder / "leadledger.yaml"
    path.write_text(fresh.config_text().replace("  email: email\n", "  email: {path: email, as: text}\n"))
    add_web_lead(fresh, "nobody at home")
    printed = fresh.run("sync")
    assert printed.code == 1
    row = outbox(fresh, "nobody at home")
    assert (row.status, row.tries) == ("refused", 1)
    assert "invalid" in row.reason
    rest = fresh.rows("SELECT status, count(*) FROM outbox GROUP BY 1 ORDER BY 1")
    assert [tuple(r) for r in rest] == [("acknowledged", len(fresh.writes())), ("refused", 1)]
    delivery = fresh.row("SELECT * FROM deliveries WHERE outcome <> 'accepted'")
    assert (delivery.outcome, delivery.reason) == ("refused", row.reason)

    attempts = fresh.value("SELECT count(*) FROM deliveries")
    fresh.sync()
    assert fresh.value("SELECT count(*) FROM deliveries") == attempts, "a refusal is not asked for again"
    again = fresh.run("push", "--refused")
    assert again.code == 1
    assert outbox(fresh, "nobody at home").status == "refused"
    assert fresh.value("SELECT count(*) FROM deliveries") == attempts + 1
    [crm] = [r for r in fresh.run("status", "--format", "json").json["connectors"] if r["connector"] == "crm"]
    assert crm["push_refused"] == 1


def test_an_unknown_option_is_refused_for_those_who_have_it_alone(fresh: Any) -> None:
    fresh.edit(("won: customer,", "won: no_such_stage,"))
    summary = fresh.sync()
    won = fresh.value("SELECT count(*) FROM outbox o JOIN journeys j USING (person_id) WHERE j.stage = 'won'")
    counts = counts_of(summary)
    assert won > 0
    assert counts["refused"] == won
    assert counts["accepted"] == counts["sent"] - won > 0
    reasons = {r.reason for r in fresh.rows("SELECT reason FROM outbox WHERE status = 'refused'")}
    assert all("no_such_stage was not one of the allowed options" in reason for reason in reasons)


def test_a_push_that_cannot_be_made_stays_pending_and_goes_with_the_next_one(fresh: Any) -> None:
    fresh.sync(pushes=False)
    fresh.fault("hubspot", "/batch/", 401, times=50)
    printed = fresh.run("push")
    assert printed.code == 3
    assert fresh.rows("SELECT 1 FROM outbox WHERE status <> 'pending'") == []
    for number, fault in fresh.state.faults("hubspot"):
        for _ in range(fault.remaining):
            fresh.state.use_fault(number)
    assert fresh.run("push").code == 0
    assert fresh.rows("SELECT 1 FROM outbox WHERE status <> 'acknowledged'") == []


# what is in the CRM already


def test_no_value_never_overwrites_one(synced: Any) -> None:
    add_web_lead(synced, NOBODY)
    synced.sync()
    id, held = contact_of(synced, NOBODY)
    assert not held.get("leadledger_campaign")
    set_by_hand(synced, id, leadledger_campaign="Typed by hand")
    synced.sync()
    # Something else of the person changes, so that there is a write.
    add_web_lead(synced, NOBODY.upper(), minute=5)
    before = len(synced.writes())
    add_paid_order(synced, NOBODY)
    synced.sync()
    sent = [values for written, values in synced.writes()[before:] if written == id]
    assert len(sent) == 1
    assert "leadledger_campaign" not in sent[0]
    assert contacts(synced)[id]["leadledger_campaign"] == "Typed by hand"
    assert contacts(synced)[id]["leadledger_orders"] == "1"


def add_paid_order(world: Any, email: str, **fields: Any) -> str:
    """A copy of the newest paid order, of another buyer and without a visit, a while later."""
    docs, _ = world.state.select("woocommerce", "order", order="changed", descending=True)
    like = next(d for d in docs if d.body["status"] == "completed" and d.body["currency"] == "PLN")
    number = max(world.state.next_number("woocommerce", kind) for kind in ("order", "refund"))
    changed = docs[0].changed + 60
    now = f"{marketing.datetime.fromtimestamp(changed, marketing.UTC):%Y-%m-%dT%H:%M:%S}"
    body = like.body | {
        "id": number,
        "number": str(number),
        "customer_id": 0,
        "billing": like.body["billing"] | {"email": email, "phone": ""},
        "meta_data": [],
        "refunds": [],
        **{f"date_{name}_gmt": now for name in ("created", "modified", "paid", "completed")},
    }
    world.state.put(
        "woocommerce",
        "order",
        [replace(like, id=str(number), body=body | fields, at=changed, changed=changed, number=None)],
    )
    return str(number)


def test_a_stage_that_sales_set_further_is_kept(fresh: Any) -> None:
    ahead = next(id for id, held in contacts(fresh).items() if held["lifecyclestage"] == "opportunity")
    set_by_hand(fresh, ahead, lifecyclestage="evangelist")
    behind = {id: held["lifecyclestage"] for id, held in contacts(fresh).items()}
    fresh.sync()
    for id, held in contacts(fresh).items():
        if id in behind:
            assert ORDER.index(held["lifecyclestage"]) >= ORDER.index(behind[id])
    assert contacts(fresh)[ahead]["lifecyclestage"] == "evangelist"
    row = outbox(fresh, contacts(fresh)[ahead]["email"])
    assert row.status == "acknowledged"
    assert row.accepted["lifecyclestage"] == "evangelist"
    assert row.desired["lifecyclestage"] != "evangelist"
    assert "stays evangelist" in row.reason
    writes = fresh.writes()
    fresh.sync()
    assert fresh.writes() == writes, "what the CRM keeps is not asked for again and again"


def test_a_merged_person_inherits_the_contact(synced: Any) -> None:
    email, phone = "merged.person@example.com", "+48501777888"
    add_form_lead(synced, after_minutes=1, email=email, full_name="Merged Person")
    synced.sync()
    id, _ = contact_of(synced, email)
    before = outbox(synced, email)
    assert before.remote_id == id
    count = len(contacts(synced))
    # Somebody is known by a phone alone; then a record with both shows that it is the same person.
    add_form_lead(synced, after_minutes=1, phone_number=phone, full_name="Merged Person")
    synced.sync()
    add_form_lead(synced, after_minutes=1, phone_number=phone, email=email, full_name="Merged Person")
    add_paid_order(synced, email)
    synced.sync()
    merges = synced.rows("SELECT 1 FROM person_events WHERE kind = 'merge'")
    assert merges != []
    after = outbox(synced, email)
    assert after.remote_id == id
    assert after.status == "acknowledged"
    assert len(contacts(synced)) == count, "no second contact"
    assert contacts(synced)[id]["leadledger_orders"] == "1"
    assert {written for written, values in synced.writes()[-1:]} == {id}


def test_a_person_named_after_another_record_keeps_its_contact(synced: Any) -> None:
    email, phone = "renamed.person@example.com", "+48501777999"
    add_web_lead(synced, email)
    synced.sync()
    id, _ = contact_of(synced, email)
    former, count, writes = outbox(synced, email), len(contacts(synced)), len(synced.writes())
    # Meta's record stands before the web form's, so the person takes its name.
    add_form_lead(synced, after_minutes=1, phone_number=phone, email=email, full_name="Renamed Person")
    synced.sync()
    row = outbox(synced, email)
    if row.person_id != former.person_id:
        superseded = synced.row("SELECT * FROM outbox WHERE person_id = :p", p=former.person_id)
        assert superseded.status == "superseded"
    assert row.remote_id == id
    assert len(contacts(synced)) == count
    assert len(synced.writes()) == writes + (row.desired != former.desired)


def test_our_own_writes_are_no_facts_of_the_funnel(synced: Any) -> None:
    """Push a stage that would make everybody an SQL if it were believed when it is read back."""
    sql = synced.value("SELECT count(*) FROM journeys WHERE sql_at IS NOT NULL")
    mql = synced.value("SELECT count(*) FROM journeys WHERE stage = 'mql'")
    assert mql > 0
    synced.edit(("mql: marketingqualifiedlead,", "mql: salesqualifiedlead,"))
    pushed = counts_of(synced.sync())
    assert pushed["accepted"] > 0
    back = synced.sync()
    own = sum(counts.get("own", 0) for run in back.runs for counts in run.counts.values())
    assert own >= pushed["accepted"]
    read = synced.value("SELECT count(*) FROM stage_changes WHERE value = 'salesqualifiedlead' AND by_api")
    assert read >= pushed["accepted"], "they were read back"
    assert synced.value("SELECT count(*) FROM journeys WHERE sql_at IS NOT NULL") == sql
