"""What we write is for this user alone, whatever the umask of the shell is."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.store import embedded_root
from sync.store.embedded import Embedded

ROOT = Path(__file__).parents[2]
WITHIN_S = 180


def leadledger(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sync.cli.start", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "LEADLEDGER_CONFIG": str(folder / "leadledger.yaml")},
        umask=0,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=True,
    )


def open_to_others(folder: Path, *, but: frozenset[str] = frozenset()) -> list[str]:
    return [
        f"{path} {stat.filemode(path.lstat().st_mode)}"
        for path in (folder, *folder.rglob("*"))
        if not path.is_symlink() and path.lstat().st_mode & 0o077 and path.name not in but
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "made"
    made.mkdir(mode=0o700)
    yield made
    for data in made.rglob("data"):
        Embedded(data).stop(force=True)
        Embedded(data).remove()


def test_the_config_that_init_writes_is_private(folder: Path) -> None:
    deep = folder / "deep" / "leadledger.yaml"
    leadledger(folder, "init", "--config", str(deep))
    assert deep.exists()
    assert open_to_others(folder) == []


def test_all_that_the_demo_writes_is_private(folder: Path) -> None:
    """The vendors' state, their secrets, the config, the database and its logs."""
    leadledger(folder, "demo", "--dir", "demo", "--port", "0")
    leadledger(folder / "demo", "sandbox", "change", "--seed", "1")
    written = {path.name for path in folder.rglob("*")}
    assert {"leadledger.yaml", "state.sqlite", "web_leads.csv", "meta_token", "data"} <= written
    # Only the path of a folder that is private itself stands in it.
    assert open_to_others(folder, but=frozenset({embedded_root.LOCATION})) == []
    place = Embedded(folder / "demo" / "data")._place()
    assert place is not None
    assert any(place.log.iterdir())
    assert open_to_others(place.base) == []
