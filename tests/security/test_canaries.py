"""A whole life with a canary in every secret and personal field: none turns up where nobody asked for it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from signal import SIGTERM

import pytest

from connectors.sandbox import accounts
from tests.faults.own.conftest import Own, command, due, own_world, started
from tests.security import canaries, crashing
from tests.security.canaries import Canaries

pytestmark = pytest.mark.long

CONNECTORS = {"crm", "meta", "newsletter", "shop", "web"}
IN_ENVIRONMENT = {"LIFE_TOKEN": accounts.HUBSPOT_TOKEN, "LIFE_PASSWORD": canaries.DATABASE_PASSWORD}
TALKATIVE = {**IN_ENVIRONMENT, "LEADLEDGER_LOG_LEVEL": "debug"}
ASKED = (
    ("check",),
    ("status",),
    ("status", "--format", "json"),
    ("runs",),
    ("runs", "--format", "json"),
    ("quarantine", "list"),
    ("report", "campaigns", "--format", "csv"),
    ("verify",),
)
NO_DATABASE = ("write", "thread")  # there only words of Python
CRASHER = str(Path(crashing.__file__))
QUEUE = (
    "procrastinate_jobs",
    "procrastinate_events",
    "procrastinate_periodic_defers",
    "procrastinate_workers",
)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory, shop: Path) -> Iterator[tuple[Own, Canaries]]:
    """A world full of canaries that the tests below live through one after the other: a password in the address
    of its database, a token in the environment."""
    with own_world(tmp_path_factory.mktemp("canaries") / "life", shop) as own:
        world = own.world
        planted = canaries.plant(world)
        world.edit(
            (world.url, world.url.replace("://leadledger@", "://leadledger:${env:LIFE_PASSWORD}@")),
            ("${file:secrets/hubspot_token}", "${env:LIFE_TOKEN}"),
        )
        assert "LIFE_PASSWORD" in world.config_text()
        yield own, planted


def server_log(own: Own) -> str:
    return "\n".join(path.read_text("utf-8", "replace") for path in own.place.log.iterdir())


def kept(own: Own) -> str:
    """What runs and the queue keep, which anybody reads who looks after the system."""
    rows = own.world.rows("SELECT r::text FROM runs r")
    for table in QUEUE:
        rows += own.world.rows(f"SELECT t::text FROM {table} t")
    rows += own.world.rows("SELECT reason || problems::text FROM quarantine")
    rows += own.world.rows("SELECT p::text FROM schedules p")
    return "\n".join(row[0] for row in rows)


def relatives(pid: int, place: Path) -> set[int]:
    """The processes that a process started, their children too, and those of the server."""
    found, grown = {pid}, True
    while grown:
        grown = False
        for each in map(int, filter(str.isdigit, os.listdir("/proc"))):
            with suppress(OSError, IndexError):
                parent = int(Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[1])
                named = str(place) in Path(f"/proc/{each}/cmdline").read_bytes().decode("utf-8", "replace")
                if each not in found and (parent in found or named):
                    found.add(each)
                    grown = True
    return found


def shown_in_process_list(own: Own, pid: int) -> str:
    """The command lines of all processes, and the environment of those that were started."""
    told = []
    for each in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            told.append(Path(f"/proc/{each}/cmdline").read_bytes().decode("utf-8", "replace"))
    started_here = relatives(pid, own.place.base) - {pid}
    assert len(started_here) > 3, "the server, its workers and the guard"
    for each in started_here:
        with suppress(OSError):
            told.append(Path(f"/proc/{each}/environ").read_bytes().decode("utf-8", "replace"))
    return "\n".join(told)


def assert_silent(own: Own, planted: Canaries, *said: str) -> None:
    for text in (*said, server_log(own), kept(own)):
        assert planted.told_in(text) == {}


def spoil(own: Own, planted: Canaries) -> None:
    """Every vendor refuses something once, in words that tell all it knows."""
    told = canaries.echo(planted)
    world = own.world
    world.fault("hubspot", "/contacts/search", 400, body=f'{{"status":"error","message":"{told}"}}')
    world.fault("meta", "/leads", 400, body=f'{{"error":{{"message":"{told}","code":100}}}}')
    world.fault("mailchimp", "/members", 403, body=f'{{"title":"Forbidden","detail":"{told}"}}')
    world.fault("woocommerce", "/customers", 400, body=f'{{"code":"{told}","message":"{told}"}}')


def test_each_step_that_crashes_tells_what_and_where_and_no_record(life: tuple[Own, Canaries]) -> None:
    own, planted = life
    world = own.world
    assert command(world, "sync", "web", **TALKATIVE)[0] == 0  # there are records to stumble over
    named = {"python": "RuntimeError in", "duplicate": "UniqueViolation", "cast": "InvalidTextRepresentation"}
    for number, step in enumerate(crashing.STEPS):
        refused = "duplicate" if number % 2 else "cast"
        for form, words in (("json", "python"), ("text", "python" if step in NO_DATABASE else refused)):
            program = (CRASHER, step, words)
            with started(world, "sync", program=program, **TALKATIVE, LEADLEDGER_LOG_FORMAT=form) as sync:
                code, said = sync.wait(), sync.said
            assert code != 0, (step, said)
            assert named[words] in said, (step, words)
            assert named[words] in kept(own), (step, words)
            assert words != "python" or "Traceback" in said, "where it crashed stands in the log"
            assert_silent(own, planted, said)
            if form == "json":
                assert all(json.loads(line) for line in said.splitlines() if line.startswith("{"))


@pytest.mark.parametrize(("step", "form"), [("map", "json"), ("outbox", "text"), ("outbox", "json")])
def test_a_job_that_crashes_under_up_tells_no_record(
    life: tuple[Own, Canaries], step: str, form: str
) -> None:
    own, planted = life
    world = own.world
    program = (CRASHER, step, "python")
    with started(world, "up", program=program, **TALKATIVE, LEADLEDGER_LOG_FORMAT=form) as up:
        up.wait_until(lambda: world.value("SELECT count(*) FROM schedules") == len(CONNECTORS))
        before = world.value("SELECT max(id) FROM runs")
        due(world)
        failed = "SELECT count(*) FROM runs WHERE id > :id AND error LIKE '%RuntimeError in%'"
        up.wait_until(lambda: world.value(failed, id=before))
        up.send(SIGTERM)
        assert up.wait() == 0, up.said
    assert "Traceback" in up.said
    assert_silent(own, planted, up.said)


def test_a_life_without_crashes_tells_nothing(life: tuple[Own, Canaries]) -> None:
    own, planted = life
    spoil(own, planted)
    code, said = command(own.world, "sync", **TALKATIVE, LEADLEDGER_LOG_FORMAT="json")
    assert code == 3, said
    assert_silent(own, planted, said)
    code, said = command(own.world, "sync", **TALKATIVE, LEADLEDGER_LOG_FORMAT="text")
    assert code == 0, said
    assert own.world.writes(), "it pushed"
    assert own.world.value("SELECT count(*) FROM leads WHERE email LIKE 'qzv%'") > 20, "canaries came through"
    assert_silent(own, planted, said)
    for asked in ASKED:
        code, said = command(own.world, *asked, **TALKATIVE)
        assert code == 0, said
        assert_silent(own, planted, said)


def test_nothing_stands_in_the_process_list_while_it_is_up(life: tuple[Own, Canaries]) -> None:
    """The embedded server and its guard are started by `up`, which has a secret in its environment."""
    own, planted = life
    text = own.world.config_text()
    address = re.search(r'database: "(.*)"', text)
    assert address
    own.world.edit((address[0], "database: embedded"))
    own.stop()
    with started(own.world, "up", **TALKATIVE, LEADLEDGER_LOG_FORMAT="json") as up:
        schedules = "SELECT count(*) FROM schedules"
        up.wait_until(lambda: own.pid and "up: press" in up.said and own.world.value(schedules))
        before = own.world.value("SELECT max(id) FROM runs")
        due(own.world)
        done = "SELECT count(*) FROM runs WHERE id > :id AND finished_at IS NOT NULL"
        up.wait_until(lambda: own.world.value(done, id=before) >= 2)
        shown = shown_in_process_list(own, up.process.pid)
        core = Path(f"/proc/{up.process.pid}/limits").read_text()
        up.send(SIGTERM)
        assert up.wait() == 0, up.said
        assert planted.told_in(shown) == {}
        assert re.search(r"Max core file size +0 +0 ", core), "a crash leaves no memory on disk"
        own.start()
        assert_silent(own, planted, up.said)


def test_a_canary_that_is_told_is_found() -> None:
    """The other tests of this page would see one."""
    planted = Canaries()
    address = planted.address("jan@example.com")
    planted.phone("591 566 591")
    for told in (address, accounts.META_TOKEN, "call 591 566 591", "+48591566591", address.upper()):
        assert planted.told_in(f"cannot go on with {told}, sorry")
    assert planted.told_in("cannot go on") == {}
