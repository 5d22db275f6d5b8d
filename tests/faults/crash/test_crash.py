"""Struck at whatever point, however often, and started again, a sync ends as if nobody had disturbed it.

Struck are the process that syncs, a process of PostgreSQL (which then restarts itself) and all of PostgreSQL,
while it pulls, books and pushes. The world goes on between. LEADLEDGER_SEED replays the same points,
LEADLEDGER_KILLS says how many.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sync.cli import look
from sync.config import load
from sync.store.embedded import Embedded
from sync.workspace import Opened
from tests.faults.crash import worlds
from tests.faults.crash.driver import Driver, Order, Report
from tests.faults.crash.points import Fault, Phase, Point
from tests.faults.crash.worlds import AS_OF, World

KILLS = int(os.environ.get("LEADLEDGER_KILLS", "12"))
SEED = int(os.environ.get("LEADLEDGER_SEED", "20260601"))
KILLS_A_ROUND = 6
SECOND = timedelta(seconds=1)
PHASES: tuple[Phase, ...] = ("pull", "book", "push")
FAULTS: tuple[Fault, ...] = ("process", "process", "process", "backend", "server")


@dataclass
class Pair:
    """An undisturbed world and one on a server of its own, which may be killed."""

    driver: Driver
    undisturbed: World
    struck: World
    server: Embedded
    kills: Counter[tuple[Phase, Fault]] = field(default_factory=Counter)

    def change(self, *, seed: int) -> None:
        """Make the same things happen at both worlds' vendors."""
        # Later than all that was written to the CRM; and over, since vendors show whole seconds.
        now = datetime.now(UTC).replace(microsecond=0) + SECOND
        for world in (self.undisturbed, self.struck):
            world.even_out(AS_OF)
            world.change(seed=seed, now=now)
        time.sleep((now + SECOND - datetime.now(UTC)).total_seconds())

    def sync(self, world: World) -> Report:
        """A sync that nothing disturbs."""
        report = self.driver.run(Order(str(world.config)))
        assert not report.hung
        assert report.problems == report.lost_database == []
        return report

    def finish(self, world: World) -> Report:
        """Sync until nothing is left: what was pushed comes back with the next pull. Returns the first report."""
        report = self.sync(world)
        self.sync(world)
        return report

    def strike_all(self, points: Iterable[Point]) -> None:
        """Strike until a sync comes to its end before its point; what is left then is done."""
        if all(self.strike(point) for point in points):
            self.sync(self.struck)
        self.sync(self.struck)

    def strike(self, point: Point) -> bool:
        """A sync that is struck at the point, if it gets there; whether it did."""
        # A pull that loses its database brings half of the news, and the sync goes on with that: right, but not
        # what the undisturbed world tells the CRM.
        pushes = point.fault == "process" or point.phase == "push"
        report = self.driver.run(Order(str(self.struck.config), point, pushes))
        assert not report.hung, point
        assert not report.problems, (point, report)
        assert report.struck or not report.lost_database, (point, report)
        self.kills[point.phase, point.fault] += report.struck
        if report.struck and point.fault == "server":
            self.server.start()
        if not report.struck and not pushes:
            self.sync(self.struck)
        return report.struck

    def assert_alike(self) -> None:
        expected, found = self.undisturbed.dump(), self.struck.dump()
        for name in worlds.DUMP:
            assert found[name] == expected[name], name
        assert self.struck.contacts() == self.undisturbed.contacts()
        assert self.struck.told() == self.undisturbed.told()


@pytest.fixture
def pair(postgres: str, tmp_path: Path) -> Iterator[Pair]:
    calm, struck = tmp_path / "undisturbed", tmp_path / "struck"
    worlds.furnish(calm)
    worlds.twin(struck, calm)
    with ExitStack() as stack:
        server = Embedded(struck / "data")
        stack.callback(server.remove)
        url = server.start()
        shared = stack.enter_context(worlds.own_database(postgres, f"undisturbed_{os.getpid()}"))
        log = stack.enter_context((tmp_path / "driver.log").open("w"))
        yield Pair(
            driver=stack.enter_context(Driver(log)),
            undisturbed=stack.enter_context(worlds.opened(calm, shared, database=shared)),
            struck=stack.enter_context(worlds.opened(struck, url, database="embedded")),
            server=server,
        )


def test_struck_at_any_point_it_ends_as_if_undisturbed(pair: Pair) -> None:
    print(f"seed {SEED}, {KILLS} kills")
    rounds = itertools.count(1)
    while (left := KILLS - pair.kills.total()) > 0:
        # Each round has chances of its own, so that a seed means the same whatever struck how fast before.
        chance = random.Random(f"{SEED}/{next(rounds)}")
        counts = pair.finish(pair.undisturbed).counts
        pair.strike_all(points(chance, counts, some=min(left, KILLS_A_ROUND)))
        pair.assert_alike()
        pair.change(seed=chance.randrange(2**32))
    for (phase, fault), number in sorted(pair.kills.items()):
        print(f"{number} x {fault} in {phase}")
    assert {phase for phase, _ in +pair.kills} == set(PHASES)
    with Opened(load(pair.struck.config)) as workspace:
        assert [check.wrong for check in look.run_checks(workspace, offline=True) if not check.ok] == []


def points(chance: random.Random, counts: dict[str, int], *, some: int) -> Iterator[Point]:
    """Points spread over the work, not over the time it takes: most of that is pulling. The early ones come more
    often, since what was done before the last blow is not done again."""
    phases = itertools.cycle(chance.sample(PHASES, len(PHASES)))
    for phase in itertools.islice(phases, some):
        nth = round(chance.triangular(1, counts[phase], 1))
        yield Point(phase, nth, chance.choice(FAULTS))
