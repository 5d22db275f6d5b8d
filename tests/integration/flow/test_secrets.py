"""No secret and no whole address in what a run prints, however talkative it is and whatever goes wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ADDRESS = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+", re.IGNORECASE)
TIMEOUT_S = 120


def secrets_of(world: Any) -> set[str]:
    found = {path.read_text() for path in (world.folder / "secrets").iterdir()}
    assert len(found) == 5
    return found | {f"{secret}-page" for secret in found}


def addresses_of(world: Any) -> set[str]:
    """Every whole address that the vendors and the web form hold."""
    found = set(ADDRESS.findall(world.leads_csv.read_text()))
    for vendor, kinds in {
        "woocommerce": ("order", "customer"),
        "meta": ("lead",),
        "mailchimp": ("member", "activity"),
        "hubspot": ("contact", "owner"),
    }.items():
        for kind in kinds:
            docs, _ = world.state.select(vendor, kind)
            for doc in docs:
                found.update(ADDRESS.findall(json.dumps(doc.body)))
    assert len(found) > 60
    return {address.lower() for address in found}


def run(world: Any, *command: str, form: str, level: str = "debug") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "LEADLEDGER_CONFIG": str(world.folder / "leadledger.yaml"),
        "LEADLEDGER_LOG_LEVEL": level,
        "LEADLEDGER_LOG_FORMAT": form,
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    return subprocess.run(
        [sys.executable, "-m", "sync.cli.main", *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd=world.folder,
    )


def assert_silent(text: str, world: Any) -> None:
    shown = text.lower()
    for secret in secrets_of(world):
        assert secret.lower() not in shown
    told = {address for address in addresses_of(world) if address in shown}
    assert told == set()


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_talkative_run_in_which_all_goes_wrong_tells_no_secret_and_no_address(
    fresh: Any, form: str
) -> None:
    canaries = sorted(secrets_of(fresh))
    address = sorted(addresses_of(fresh))[0]
    echo = f"{' '.join(canaries)} of {address} is not welcome"
    fresh.fault(
        "hubspot",
        "/contacts/search",
        400,
        body=json.dumps({"status": "error", "message": echo, "category": "VALIDATION_ERROR"}),
    )
    fresh.fault(
        "meta",
        "/leads",
        400,
        body=json.dumps({"error": {"message": echo, "code": 100, "type": "OAuthException"}}),
    )
    fresh.fault("mailchimp", "/members", 403, body=json.dumps({"title": "Forbidden", "detail": echo}))
    fresh.fault(
        "woocommerce", "/customers", 400, body=json.dumps({"code": "woocommerce_no", "message": echo})
    )
    fresh.edit(("      path: sandbox/web_leads.csv", f"      path: sandbox/{address}.csv"))
    done = run(fresh, "sync", form=form)
    assert done.returncode == 3, done.stderr[-2000:]
    assert_silent(done.stdout + done.stderr, fresh)
    calls = [line for line in done.stderr.splitlines() if "http_call" in line]
    assert len(calls) > 20, "debug shows the calls"
    if form == "json":
        entries = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        called = [entry for entry in entries if entry["event"] == "http_call"]
        assert {entry["connector"] for entry in called} == {"meta", "newsletter", "shop", "crm"}
        assert all(isinstance(entry["run"], int) for entry in called)
        assert {entry["level"] for entry in entries} >= {"debug", "info", "warning", "error"}
    stored = fresh.rows("SELECT error, hint FROM runs WHERE error IS NOT NULL")
    assert len(stored) == 5
    for row in stored:
        assert_silent(f"{row.error} {row.hint}", fresh)
    looked = run(fresh, "runs", "--format", "json", form=form)
    assert looked.returncode == 0
    assert_silent(looked.stdout + looked.stderr, fresh)


def test_a_run_that_goes_well_tells_none_either(fresh: Any) -> None:
    done = run(fresh, "sync", form="json")
    assert done.returncode == 0, done.stderr[-2000:]
    assert_silent(done.stdout + done.stderr, fresh)
    for vendor in ("hubspot",):
        assert fresh.state.writes(vendor), "addresses were sent, and not told"


def test_at_its_usual_level_a_run_that_goes_well_prints_its_table_only(synced: Any) -> None:
    done = run(synced, "sync", form="json", level="warning")
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if line.startswith("{")] == []
    assert "crm" in done.stdout


def test_no_secret_is_in_the_database(synced: Any) -> None:
    tables = synced.rows(
        "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'"
    )
    assert len(tables) > 20
    for table in tables:
        rows = synced.rows(f'SELECT t::text FROM "{table.name}" t')
        text = "\n".join(row[0] for row in rows)
        for secret in secrets_of(synced):
            assert secret not in text, table.name


def test_the_config_shows_no_secret_when_it_is_wrong(synced: Any) -> None:
    synced.edit(("      account_id: ", "      account_idd: "))
    done = run(synced, "check", form="text")
    assert done.returncode == 2
    assert_silent(done.stdout + done.stderr, synced)
