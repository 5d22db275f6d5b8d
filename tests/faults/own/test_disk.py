"""A disk that is full: a small one of the test's own under the database, which only root may mount."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.faults.own.conftest import Own, command, running_rows
from tests.faults.vendor import hostile as bad
from tests.faults.vendor.checks import ends_as_undisturbed
from tests.faults.vendor.hostile import Hostile
from tests.integration.flow.conftest import World

MIB = 1024 * 1024


@contextmanager
def disk(own: Own, folder: Path, *, size_mib: int) -> Iterator[None]:
    """A disk in memory at `folder`, for the server's user alone."""
    folder.mkdir(mode=0o700, exist_ok=True)
    owner = own.place.owner
    rights = f"size={size_mib}m,mode=0700,uid={owner.uid},gid={owner.gid}"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", rights, "tmpfs", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"a disk of one's own cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        own.stop()
        subprocess.run(["umount", str(folder)], check=True)


def leave(folder: Path, room: int) -> Path:
    """Fill the disk of `folder` up to `room` bytes; returns what fills it."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(folder).free - room)
    return ballast


@pytest.fixture
def tablespace(own: Own) -> Iterator[Path]:
    """The world's tables on a disk of 64 MiB."""
    folder = own.place.base / "small"
    home = sql.SQL("ALTER DATABASE leadledger SET TABLESPACE {}")
    own.world.engine.dispose()
    with disk(own, folder, size_mib=64):
        with psycopg.connect(own.world.url.replace("/leadledger?", "/postgres?"), autocommit=True) as server:
            location = sql.SQL("CREATE TABLESPACE small LOCATION {}").format(sql.Literal(str(folder)))
            server.execute(location)
            server.execute(home.format(sql.Identifier("small")))
        yield folder


@pytest.fixture
def cluster(own: Own) -> Iterator[Path]:
    """The whole of the world's server on a disk of 160 MiB."""
    own.embed()
    own.stop()
    data, kept = own.place.data, own.place.base / "kept"
    data.rename(kept)
    with disk(own, data, size_mib=160):
        subprocess.run(["cp", "-a", f"{kept}/.", str(data)], check=True)
        yield data
    data.rmdir()
    kept.rename(data)


@pytest.mark.parametrize("room", [0, MIB // 2, 2 * MIB])
def test_a_full_disk_is_named_and_the_sync_after_room_is_made_goes_on(
    own: Own, tablespace: Path, synced_once: World, room: int
) -> None:
    ballast = leave(tablespace, room)
    code, said = command(own.world, "sync")
    assert code == 3, said
    assert "The disk that holds the database is full: could not extend file" in said
    assert "Make room on it." in said
    assert "Traceback" not in said
    ballast.unlink()
    ends_as_undisturbed(own.world, synced_once)
    assert running_rows(own.world) == 0


def test_a_server_that_ends_itself_on_a_full_disk_is_started_again_once_there_is_room(
    own: Own, vendors: Hostile, cluster: Path, synced_once: World
) -> None:
    """It does so where its log of changes finds no room."""

    def fill() -> None:
        leave(cluster, 12 * MIB)
        with suppress(psycopg.OperationalError), psycopg.connect(own.world.url, autocommit=True) as server:
            while True:
                server.execute("SELECT pg_logical_emit_message(false, '', repeat('x', 8000000))")

    own.start()
    vendors.spoil(r"/wc/v3/orders$", bad.meanwhile(fill), times=1)
    code, said = command(own.world, "sync")
    assert code == 3, said
    assert "The disk that holds the database is full. Make room on it." in said
    assert "Traceback" not in said
    code, said = command(own.world, "sync")
    assert code == 3, said
    assert "The embedded database did not start." in said
    assert "No space left on device" in said
    assert "Traceback" not in said
    (cluster / "ballast").unlink()
    own.start()
    ends_as_undisturbed(own.world, synced_once)
    assert running_rows(own.world) == 0
