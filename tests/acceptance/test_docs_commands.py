"""The commands of the pages run, in the order of the page, and the example connector works as it stands there."""

from __future__ import annotations

import json
import logging
import os
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from typer.testing import CliRunner

from sync.cli.main import app
from sync.config import Config
from sync.store.embedded import Embedded
from tests.acceptance.markdown import DOCS, PAGES, README, ROOT, Block, blocks

AUTHOR = DOCS / "connector-author.md"
# Pages whose commands run in a workspace with the small generated shop, as a reader's in the demo's folder do.
IN_A_SHOP = tuple(DOCS / f"{name}.md" for name in ("operator", "admin", "finance", "audit"))
WITHIN_S = 180
# What the pages promise of their examples: words that the command's output must hold.
SAID = {
    "operator.md": {
        "leadledger quarantine list": "lead.occurred_at",
        "leadledger quarantine show 1": "some day",
        "leadledger quarantine retry": "0 of 1 records",
        'leadledger quarantine drop 1 --why "a test line"': "1 dropped",
        "leadledger push --dry-run": "calls would be made",
        "leadledger report pushes": "refused",
    },
    "admin.md": {
        "leadledger check --online": "read orders",
        "leadledger connectors": "woocommerce",
        "leadledger mapping test fair row.json": '"phone": "+48601100200"',
        "leadledger mapping test shop order.json --stream orders": '"status": "completed"',
        "leadledger sync fair": "2 new",
        "leadledger report campaigns": "Spring fair",
    },
    "finance.md": {
        "leadledger verify": "control total of shop",
        "leadledger ledger reconcile --period 2026-05": "No difference.",
        "leadledger ledger bridge --period 2026-05": "Residual: 0.00 PLN",
        'leadledger ledger bridge --period 2026-05 --line "no match"': "in all",
        "leadledger explain 10012 --no-body": "Revenue:Shop:shop",
        "leadledger export journal --period 2026-05 --as xlsx --out 2026-05.xlsx": "Wrote 2026-05.xlsx",
        "leadledger export journal --period 2026-05 --as beancount --out 2026-05.beancount": "PLN",
        'leadledger explain "Unattributed:no lead" --period 2026-05': "closing",
        "leadledger explain Revenue: --as-of 2026-06-01T12:00": "Postings",
        "leadledger explain meta:120200000300001 --period 2026-05": "Spend by day",
    },
    "audit.md": {
        "leadledger ledger export --bundle books.zip": "up to head",
        "python3 verify_bundle.py books.zip": "all right",
        "python3 verify_bundle.py may.zip": "only a whole bundle shows",
        "leadledger ledger proof 8": "Proven: entry 8",
        "leadledger ledger consistency 1 1": "Proven",
        "leadledger verify --offline": "heads",
    },
    "README.md": {
        "leadledger demo": "Verified",
        "leadledger verify --offline": "credits complete",
        "leadledger init": "Wrote leadledger.yaml",
    },
    "connector-author.md": {
        "leadledger connectors": "acme_forms",
        "leadledger check --online": "read leads",
        "leadledger mapping test forms lead.json": '"phone": "+48601100200"',
        "leadledger sync forms": "3 new",
        "leadledger report campaigns": "spring",
    },
}


@dataclass
class Shell:
    """A terminal in a folder, with the command `leadledger` of this tree."""

    folder: Path
    more: Mapping[str, str] = field(default_factory=dict)
    python_path: tuple[Path, ...] = ()
    in_process: bool = False

    def run(self, command: str, *, wanted: int = 0) -> str:
        if self.in_process and command.startswith("leadledger ") and not set(command) & set("|&;<>$"):
            return self._call(shlex.split(command)[1:], wanted)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        assert done.returncode == wanted, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _call(self, arguments: list[str], wanted: int) -> str:
        """The same in this process, which saves the start of another."""
        root = logging.getLogger()
        before, level = root.handlers[:], root.level
        try:
            with chdir(self.folder):
                done = CliRunner(env={"LEADLEDGER_LOG_LEVEL": "error", **self.more}).invoke(app, arguments)
        finally:
            root.handlers[:], root.level = before, level
        assert done.exit_code == wanted, f"{arguments}\n{done.output}\n{done.exception!r}"
        return done.stdout

    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{_command_folder(self.folder)}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "PYTHONPATH": os.pathsep.join(map(str, (*self.python_path, ROOT))),
            "LEADLEDGER_LOG_LEVEL": "error",
            **self.more,
        }


def _command_folder(folder: Path) -> Path:
    home = folder / ".bin"
    home.mkdir(exist_ok=True)
    command = home / "leadledger"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sync.cli.main "$@"\n')
    command.chmod(0o755)
    return home


def follow(page: Path, shell: Shell, *, here: Callable[[str], str] = str) -> None:
    """Do what a page tells its reader to do, from its top to its end; `here` fits its config to the test."""
    printed: dict[str, str] = {}
    for block in blocks(page):
        _write(block, shell.folder, here)
        if block.kind != "console" or "not run" in block.notes:
            continue
        if "new folder" in block.notes:
            shell = replace(shell, folder=shell.folder / "new")
            shell.folder.mkdir()
        for command in block.commands:
            if command.startswith("cd "):
                shell = replace(shell, folder=shell.folder / command[3:])
                continue
            # Another test may hold the port that the demo takes by itself.
            typed = f"{command} --port 0" if command == "leadledger demo" else command
            printed[command] = shell.run(typed, wanted=int(block.notes.get("exit", "0")))
    for command, words in SAID[page.name].items():
        assert words in printed[command], f"{command}\n{printed[command]}"


def _write(block: Block, folder: Path, here: Callable[[str], str]) -> None:
    """A file of the page, a connector to be added to the config, or keys to be added to a connector."""
    notes, config = block.notes, folder / "leadledger.yaml"
    if "file" in notes:
        file = folder / notes["file"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(here(block.text) if file == config else block.text, "utf-8")
    for note, line, indent in (("append", "{}:\n", "  "), ("merge", "  - name: {}\n", "    ")):
        if note in notes:
            before, place = config.read_text("utf-8"), line.format(notes[note])
            assert before.count(place) == 1, place
            added = "".join(f"{indent}{text}\n" for text in block.text.splitlines())
            config.write_text(before.replace(place, place + added), "utf-8")


def test_every_page_with_commands_is_followed() -> None:
    for page in PAGES:
        live = [b for b in blocks(page) if b.kind == "console" and "not run" not in b.notes]
        assert not live or page in (*IN_A_SHOP, AUTHOR, README), page.name


@pytest.mark.parametrize("page", IN_A_SHOP, ids=lambda page: page.name)
def test_commands_of_a_page_run_in_its_order(page: Path, tmp_path: Path, config: Config) -> None:
    follow(page, Shell(config.folder, in_process=True))


def test_commands_of_the_readme_run_from_an_empty_folder(tmp_path: Path) -> None:
    try:
        follow(README, Shell(tmp_path))
    finally:
        Embedded(tmp_path / "leadledger-demo" / "data").remove()


# the example connector

LEADS = [
    {
        "id": f"L{number}",
        "changed_at": f"2024-05-0{number}T09:00:00Z",
        "sent_at": f"2024-05-0{number}T09:00:00Z",
        "email": f"jane{number}@example.com",
        "mobile": f"60110020{number}",
        "campaign": "spring",
        "agreed": "yes",
    }
    for number in (1, 2, 3)
]


class Acme(BaseHTTPRequestHandler):
    """The vendor of the page: bearer token, sorted by time of change, a link to the next page."""

    def do_GET(self) -> None:
        asked = {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}
        if self.headers["authorization"] != "Bearer a-token":
            self._answer(401, {"error": "who are you?"})
            return
        since, before = asked.get("changed_since", ""), asked.get("changed_before", "9")
        found = [lead for lead in LEADS if since <= lead["changed_at"] < before]
        start = int(asked.get("after", "0"))
        end = start + 2
        query = f"/v1/leads?changed_since={since}&changed_before={before}&after={end}"
        link = f"http://{self.headers['host']}{query}" if end < len(found) else None
        self._answer(200, {"total": len(found), "leads": found[start:end], "next": link})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body, indent=1).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the test says what went wrong."""


@contextmanager
def _served() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Acme) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The package of the page as its author has it, and the entry points that an installer would write."""
    folder = tmp_path / "leadledger-acme"
    for block in blocks(AUTHOR):
        name = block.notes.get("file", "")
        if name.endswith((".py", ".toml")) or name.startswith("leadledger_acme/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(block.text, "utf-8")
    (folder / "leadledger_acme" / "__init__.py").touch()
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(head)
    [(group, points)] = project["entry-points"].items()
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[{group}]\n{lines}")
    return folder


def test_own_tests_of_the_example_connector_pass(package: Path) -> None:
    shell = Shell(package, python_path=(package,))
    assert "2 passed" in shell.run(f"{shlex.quote(sys.executable)} -m pytest -p no:cacheprovider tests")


def test_example_connector_works_as_it_stands_on_the_page(
    tmp_path: Path, package: Path, database: str
) -> None:
    folder = tmp_path / "workspace"
    folder.mkdir()
    shell = Shell(folder, {"ACME_TOKEN": "a-token"}, (package,))
    with _served() as url:

        def here(config: str) -> str:
            """The page's config speaks to a vendor on the internet and makes a database of its own."""
            options = f"    options:\n      base_url: {url}\n"
            return f'database: "{database}"\n' + config.replace("    options:\n", options)

        follow(AUTHOR, shell, here=here)
        again = shell.run("leadledger sync forms --format json")
    assert [(run["fetched"], run["new"], run["changed"]) for run in json.loads(again)["runs"]] == [(1, 0, 0)]
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT external_id, email, phone, consent FROM leads ORDER BY 1"
        ).fetchall()
        assert rows == [(f"L{n}", f"jane{n}@example.com", f"+4860110020{n}", True) for n in (1, 2, 3)]
        assert connection.execute("SELECT count(*) FROM touches").fetchone() == (3,)
        body = connection.execute("SELECT body FROM evidence ORDER BY id LIMIT 1").fetchone()
        assert body is not None
        assert b'\n   "id": "L1"' in bytes(body[0]), "the bytes are kept as they came"
        cursor = connection.execute("SELECT at FROM cursors").fetchone()
        assert cursor is not None
        assert cursor[0].isoformat().startswith("2024-05-03T09:00")
