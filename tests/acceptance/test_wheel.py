"""The wheel, installed where no checkout is and nobody has set anything up."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.store.embedded import Embedded

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=180,
    )
    [found] = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; what it depends on is taken from this one, nothing is downloaded."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--quiet", str(wheel)],
        check=True,
        timeout=180,
    )
    [site] = (folder / "venv" / "lib").glob("python*/site-packages")
    # A path, not a site folder: its own .pth files, an editable install among them, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "home").mkdir()
    return folder


def _run(elsewhere: Path, cwd: Path, *command: str, timeout: int = 180) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(elsewhere / "venv" / "bin" / "leadledger"), *command],
        cwd=cwd,
        env=_environment(elsewhere),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def _environment(elsewhere: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    return {**kept, "HOME": str(elsewhere / "home"), "LANG": "C.UTF-8", "COLUMNS": "160"}


def test_what_is_in_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if "olist" in name.lower() and not name.endswith(".py")]
    assert not [name for name in names if name.endswith(".csv")]
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"connectors", "mappings", "sync"}
    for needed in (
        "sync/cli/demo.yaml",
        "sync/cli/starter.yaml",
        "sync/py.typed",
        "sync/store/migrations/env.py",
        "sync/store/migrations/versions/0001_first_tables.py",
        "mappings/vendors/woocommerce.yaml",
    ):
        assert needed in names


def test_it_is_the_installed_one_that_runs(elsewhere: Path) -> None:
    program = (
        "import sync, connectors, mappings; print(sync.__file__, connectors.__file__, mappings.__file__)"
    )
    done = subprocess.run(
        [str(elsewhere / "venv" / "bin" / "python"), "-c", program],
        cwd=elsewhere,
        env=_environment(elsewhere),
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(path.startswith(str(elsewhere)) for path in done.stdout.split())


@pytest.fixture(scope="module")
def demo(elsewhere: Path) -> Iterator[tuple[Path, str]]:
    """The demo's folder and what it printed."""
    folder = elsewhere / "demo"
    done = _run(elsewhere, elsewhere, "demo", "--dir", str(folder), "--port", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    yield folder, done.stdout
    # For root the database lies outside the folder.
    Embedded(folder / "data").remove()


def test_the_demo_prints_its_report(demo: tuple[Path, str]) -> None:
    _, printed = demo
    for word in ("simulated", "Verified", "MQL", "SQL", "unattributed", "leadledger explain shop:"):
        assert word.lower() in printed.lower(), word
    assert "WRONG" not in printed


def test_its_folder_can_be_worked_in(elsewhere: Path, demo: tuple[Path, str]) -> None:
    folder, printed = demo
    [order] = {line.split()[-1] for line in printed.splitlines() if "leadledger explain shop:" in line}
    explained = _run(elsewhere, folder, "explain", order)
    assert explained.returncode == 0, explained.stderr
    assert "Credits" in explained.stdout
    assert '"billing"' in explained.stdout, "it opens down to the vendor's bytes"

    changed = _run(elsewhere, folder, "sandbox", "change", "--seed", "7")
    assert changed.returncode == 0, changed.stderr
    assert "order " in changed.stdout

    with subprocess.Popen(
        [str(elsewhere / "venv" / "bin" / "leadledger"), "sandbox"],
        cwd=folder,
        env=_environment(elsewhere),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as vendors:
        try:
            _wait_for(int((folder / "sandbox" / "port").read_text()))
            synced = _run(elsewhere, folder, "sync")
            assert synced.returncode == 0, synced.stdout + synced.stderr
            verified = _run(elsewhere, folder, "verify")
            assert verified.returncode == 0, verified.stdout + verified.stderr
        finally:
            vendors.terminate()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the sandbox was not served in time"
            time.sleep(0.1)
