"""`leadledger ledger …` and `verify --since` as an operator calls them, over books of a real sync."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sync import work
from sync.cli.main import app
from sync.cli.runtime import Exit
from sync.config import Config
from sync.ledger import heads, merkle
from sync.workspace import Opened, Workspace


@pytest.fixture
def synced(workspace: Workspace) -> Workspace:
    summary = work.sync(workspace, ["shop"])
    assert summary.problems == []
    return workspace


def call(workspace: Workspace, *arguments: str, code: int = 0) -> Result:
    environment = {"LEADLEDGER_CONFIG": str(workspace.config.path), "LEADLEDGER_LOG_LEVEL": "error"}
    done = CliRunner(env=environment).invoke(app, list(arguments))
    assert done.exit_code == code, f"{arguments}\n{done.output}\n{done.exception!r}"
    return done


def test_nothing_to_seal_is_said(workspace: Workspace, tmp_path: Path) -> None:
    assert "nothing to seal yet" in call(workspace, "ledger", "seal").stdout
    assert "leadledger ledger seal signs" in call(workspace, "ledger", "proof", "1", code=2).output
    bundle = str(tmp_path / "b.zip")
    assert "nothing is sealed" in call(workspace, "ledger", "export", "--bundle", bundle, code=2).output
    assert not (tmp_path / "b.zip").exists()
    assert json.loads(call(workspace, "ledger", "heads", "--format", "json").stdout) == []


def test_a_sync_seals_and_all_of_it_can_be_proven(synced: Workspace, tmp_path: Path) -> None:
    [head] = json.loads(call(synced, "ledger", "heads", "--format", "json").stdout)
    key = call(synced, "ledger", "key").stdout.strip()
    assert head["key"] == key
    assert (synced.config.data_folder / "ledger-signing-key.pem").stat().st_mode & 0o777 == 0o600

    proof = json.loads(call(synced, "ledger", "proof", "3", "--format", "json").stdout)
    leaf = merkle.leaf_hash(proof["entry"].encode())
    assert json.loads(proof["entry"])["id"] == 3
    hashes = [bytes.fromhex(h) for h in proof["hashes"]]
    assert merkle.is_included(leaf, 2, head["size"], hashes, bytes.fromhex(head["root"]))
    assert heads.decode_line(proof["head"]).is_genuine()
    assert "There is no entry 100000." in call(synced, "ledger", "proof", "100000", code=2).output

    assert "There is no head 9" in call(synced, "ledger", "consistency", "1", "9", code=2).output
    assert json.loads(call(synced, "ledger", "consistency", "1", "1", "--format", "json").stdout)["holds"]

    again = json.loads(call(synced, "ledger", "seal", "--format", "json").stdout)
    assert (again["number"], again["problems"]) == (1, []), "nothing came since"

    bundle, program = tmp_path / "books.zip", tmp_path / "verify_bundle.py"
    assert key in call(synced, "ledger", "export", "--bundle", str(bundle)).stdout
    program.write_text(call(synced, "ledger", "verifier").stdout)
    done = subprocess.run(
        [sys.executable, "-I", str(program), str(bundle), "--key", key],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "all right" in done.stdout
    where = str(tmp_path / "gone" / "books.zip")
    assert "cannot be written" in call(synced, "ledger", "export", "--bundle", where, code=2).output
    wrong = call(synced, "ledger", "export", "--bundle", str(bundle), "--period", "May", code=2)
    assert "'May' is not a period" in wrong.output


def test_heads_that_were_kept_are_compared(synced: Workspace, tmp_path: Path) -> None:
    [head] = json.loads(call(synced, "ledger", "heads", "--format", "json").stdout)
    kept = tmp_path / "kept.jsonl"
    kept.write_text(head["head"] + "\n")
    checks = json.loads(call(synced, "verify", "--offline", "--since", str(kept), "--format", "json").stdout)
    assert [c["checked"] for c in checks if c["check"] == "heads kept outside"] == [1]
    kept.write_text(head["head"].replace('"size":', '"size":1'))
    said = call(synced, "verify", "--offline", "--since", str(kept), "--format", "json", code=Exit.unproven)
    [found] = [c["wrong"] for c in json.loads(said.stdout) if not c["ok"]]
    assert found == f"{kept}, line 1: head 1 was changed after it was signed"
    assert "holds no head" in call(synced, "verify", "--since", "/dev/null", code=2).output
    assert "cannot be read" in call(synced, "verify", "--since", str(tmp_path / "none"), code=2).output


def test_another_key_is_not_trusted_until_the_config_names_the_old_one(
    synced: Workspace, config: Config
) -> None:
    old = call(synced, "ledger", "key").stdout.strip()
    (synced.config.folder / "new.key").write_text("07" * 32)
    text = config.path.read_text()
    config.path.write_text(text + "ledger:\n  signing_key: ${file:new.key}\n")
    said = call(synced, "verify", "--offline", "--format", "json", code=Exit.unproven)
    [wrong] = [c for c in json.loads(said.stdout) if not c["ok"]]
    assert wrong["wrong"] == f"head 1 is signed with a key that is not ours: {old}"
    assert "ledger.trusted_keys" in wrong["todo"]
    config.path.write_text(text + f"ledger:\n  signing_key: ${{file:new.key}}\n  trusted_keys: ['{old}']\n")
    call(synced, "verify", "--offline")


def test_a_key_that_is_none_stops_no_sync_and_is_told(config: Config) -> None:
    (config.folder / "new.key").write_text("not a key")
    config.path.write_text(config.path.read_text() + "ledger:\n  signing_key: ${file:new.key}\n")
    from sync.config import load

    with Opened(load(config.path)) as workspace:
        summary = work.sync(workspace, ["shop"])
        assert [run.status for run in summary.runs] == ["done"]
        [problem] = summary.problems
        assert "not sealed" in problem
        assert "neither an Ed25519 key" in problem
        assert "not a key" not in problem
        sealed = call(workspace, "ledger", "seal", code=Exit.partial)
        assert "not sealed" in sealed.output
        assert "neither an Ed25519 key" in call(workspace, "ledger", "key", code=3).output


def test_a_witness_that_fails_is_told_by_the_sync_and_gets_it_later(config: Config) -> None:
    from sync.config import load

    config.path.write_text(config.path.read_text() + "ledger:\n  witness:\n    - file: gone/heads.jsonl\n")
    with Opened(load(config.path)) as workspace:
        done = call(workspace, "sync", "shop")
        assert "Head 1 was not copied to file:gone/heads.jsonl" in done.output
        (workspace.config.folder / "gone").mkdir()
        assert "not copied" not in call(workspace, "sync", "shop").output
        [head] = json.loads(call(workspace, "ledger", "heads", "--format", "json").stdout)
        assert head["copies"] == ["file:gone/heads.jsonl"]
        assert (workspace.config.folder / "gone" / "heads.jsonl").read_text().startswith(head["head"])
        checks = json.loads(call(workspace, "verify", "--offline", "--format", "json").stdout)
        assert "heads kept outside" in {c["check"] for c in checks}
