"""Two of ours on the same folder at the same time."""

from __future__ import annotations

from signal import SIGTERM

from tests.faults.own.conftest import Own, command, due, finished, same_books, started
from tests.faults.vendor import hostile as bad
from tests.faults.vendor.hostile import Hostile
from tests.integration.flow.conftest import World

CONNECTORS = {"crm", "meta", "newsletter", "shop", "web"}


def test_two_schedulers_on_one_folder_share_its_database_and_run_each_due_time_once(
    own: Own, synced: World
) -> None:
    own.embed()
    own.stop()
    world = own.world
    with started(world, "up") as first, started(world, "up") as second:
        for each in (first, second):
            each.wait_until(lambda each=each: "up: press Ctrl-C" in each.said)
        own.start()
        first.wait_until(lambda: world.value("SELECT count(*) FROM schedules") == len(CONNECTORS))
        due(world)
        first.wait_until(lambda: finished(world) == CONNECTORS)
        assert (
            world.value("SELECT max(count) FROM (SELECT count(*) FROM runs GROUP BY connector, due_at) t")
            == 1
        )
        first.send(SIGTERM)
        assert first.wait() == 0, first.said
        due(world)
        done = world.value("SELECT count(*) FROM runs WHERE status = 'done'")
        second.wait_until(lambda: world.value("SELECT count(*) FROM runs WHERE status = 'done'") > done)
        second.send(SIGTERM)
        assert second.wait() == 0, second.said
    assert "Traceback" not in first.said + second.said
    same_books(world, synced)


def test_a_sync_beside_a_sync_leaves_what_is_being_run_alone_and_says_so(
    own: Own, vendors: Hostile, synced: World
) -> None:
    def meanwhile() -> None:
        code, said = command(own.world, "sync", "shop")
        beside.append((code, said))

    beside: list[tuple[int, str]] = []
    vendors.spoil(r"/wc/v3/orders$", bad.meanwhile(meanwhile), times=1)
    assert command(own.world, "sync")[0] == 0
    [(code, said)] = beside
    assert code == 4, said
    assert "shop: another process is running it; this sync left it alone." in said
    same_books(own.world, synced)
