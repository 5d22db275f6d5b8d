"""The bundle and its verifier: a good one is accepted, each altered one is refused and the alteration named."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from connectors.contract import Outcome, Upsert
from sync.ledger import bundle, heads, seal
from sync.push import store as push_store
from sync.report import period as periods
from sync.store import db
from tests.integration.ledger.books import NOW, Books, campaign, lead, order, refund, spend, touch

VERIFIER = str(files("sync.ledger.verifier").joinpath("verify_bundle.py"))
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = heads.public_bytes(KEY).hex()


@pytest.fixture(scope="module")
def good(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle of books with three heads, and one of their May's first half."""
    folder = tmp_path_factory.mktemp("bundle")
    admin = sa.make_url(postgres)
    server = sa.create_engine(
        admin.set(drivername="postgresql+psycopg", database="postgres"), isolation_level="AUTOCOMMIT"
    )
    with server.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE bundled TEMPLATE leadledger"))
    server.dispose()
    engine = db.make_engine(admin.set(database="bundled").render_as_string(hide_password=False))
    books = Books(engine)
    books.told(campaign("c1", 'Wiosna „żółta”\n\u2028\t"x" 🌻'), lead("l1", day=1, email="a@x.example"))
    books.told(*(touch(f"t{n}", day=2, campaign_id="c1", email=f"p{n}@x.example") for n in range(9)))
    books.told(*(order(f"o{n}", f"{n}0.07", day=3 + n, email=f"p{n}@x.example") for n in range(1, 12)))
    _sent(books, "p1")
    _seal(books, minutes=1)
    books.told(order("zł\u2029", "12.30", day=9, email="a@x.example"), refund("r1", "o3", "5.00", day=20))
    _seal(books, minutes=2)
    _sent(books, "p2")
    books.told(*(spend(f"s{n}", f"{n}.55", day=n, campaign="c1", version=1) for n in range(1, 8)))
    _seal(books, minutes=3)
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        bundle.write(connection, folder / "books.zip", None)
        bundle.write(connection, folder / "part.zip", periods.parse("2026-05-01..2026-05-08"))
        (folder / "kept.jsonl").write_text(seal.read_heads(connection)[1].line() + "\n")
    engine.dispose()
    return {path.stem: path for path in folder.iterdir()}


def _seal(books: Books, *, minutes: int) -> None:
    with books.engine.begin() as connection:
        assert seal.seal(connection, KEY, now=NOW + timedelta(minutes=minutes)) is not None


def _sent(books: Books, person: str) -> None:
    item = Upsert(
        key=person,
        email=f"{person}@x.example",
        fields={"stage": "won"},
        changed=frozenset({"stage"}),
        remote_id="7",
    )
    with books.engine.begin() as connection:
        push_store.record(
            connection, "crm", [item], {person: Outcome(person, "accepted", remote_id="7")},
            run_id=1, sent_at=NOW, answered_at=datetime.now(UTC),
        )  # fmt: skip


def run(*arguments: str | Path, blind: bool = False) -> tuple[int, str]:
    """The verifier as an auditor runs it, alone; `blind`: without the library that checks signatures."""
    code = "import sys; sys.modules['cryptography'] = None; " if blind else ""
    code += "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, VERIFIER, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == "", done.stderr
    return done.returncode, done.stdout


def test_a_good_bundle_is_accepted(good: dict[str, Path]) -> None:
    code, said = run(good["books"], "--key", PUBLIC, "--head", good["kept"])
    assert code == 0, said
    assert said.startswith("21 entries, 3 heads: all right.\n")
    assert f"Public key: {PUBLIC}\n" in said
    assert "NOT CHECKED" not in said


def test_a_bundle_of_a_period_is_accepted_and_says_what_it_does_not_show(good: dict[str, Path]) -> None:
    code, said = run(good["part"], "--key", PUBLIC)
    assert code == 0, said
    assert "all right" in said
    assert "2026-05-01..2026-05-08: that none is missing, only a whole bundle shows" in said


def test_without_the_library_it_says_that_signatures_were_not_checked(good: dict[str, Path]) -> None:
    code, said = run(good["books"], blind=True)
    assert code == 0
    assert "SIGNATURES WERE NOT CHECKED" in said


def test_the_verifier_is_short_and_shares_nothing_with_us() -> None:
    text = Path(VERIFIER).read_text("utf-8")
    assert len(text.splitlines()) < 300
    names = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(text))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert names - set(sys.stdlib_module_names) == {"cryptography"}


# What an alteration is: of each line of a file, or of the whole list of lines.
Lines = list[dict[str, Any]]
Alter = Callable[[dict[str, Lines]], None]


def _altered(source: Path, to: Path, alter: Alter) -> Path:
    with zipfile.ZipFile(source) as old:
        contents = {
            name.removesuffix(".jsonl"): [json.loads(line) for line in old.read(name).decode().splitlines()]
            for name in old.namelist()
            if name.endswith(".jsonl")
        }
        about = old.read("bundle.json")
    alter(contents)
    with zipfile.ZipFile(to, "w") as new:
        new.writestr("bundle.json", about)
        for name, lines in contents.items():
            new.writestr(f"{name}.jsonl", "".join(f"{_canonical(line)}\n" for line in lines))
    return to


def _canonical(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _amount(b: dict[str, Lines]) -> None:
    for posting in b["entries"][3]["postings"]:
        posting["amount_minor"] *= 2


def _unbalanced(b: dict[str, Lines]) -> None:
    b["entries"][3]["postings"][0]["amount_minor"] += 1


def _chained_anew(b: dict[str, Lines]) -> None:
    """The amount is changed and every hash after it made anew, and the balances too."""
    _amount(b)
    chain, balances = bytes(32), {}
    for entry in b["entries"]:
        known = {k: v for k, v in entry.items() if k != "hash"}
        known["postings"] = [[p["account"], p["amount_minor"]] for p in entry["postings"]]
        chain = hashlib.sha256(chain + _canonical(known).encode()).digest()
        entry["hash"] = chain.hex()
        for account, amount in known["postings"]:
            balances[account] = balances.get(account, 0) + amount
    for row in b["balances"]:
        row["amount_minor"] = balances[row["account"]]


def _swapped(b: dict[str, Lines]) -> None:
    b["entries"][4], b["entries"][5] = b["entries"][5], b["entries"][4]


def _resigned(b: dict[str, Lines]) -> None:
    """The last head is signed with another key over what is there."""
    other, line = Ed25519PrivateKey.generate(), b["heads"][-1]
    line["head"]["key"] = heads.public_bytes(other).hex()
    line["signature"] = other.sign(_canonical(line["head"]).encode()).hex()


def _resigned_tail(b: dict[str, Lines]) -> None:
    """The thief of the key signs the second head again, with another time, and the third after it."""
    b["heads"][1]["head"]["sealed_at"] = b["heads"][2]["head"]["sealed_at"]
    before = b["heads"][0]["head"]
    for line in b["heads"][1:]:
        line["head"]["previous"] = hashlib.sha256(_canonical(before).encode()).hexdigest()
        line["signature"] = KEY.sign(_canonical(line["head"]).encode()).hex()
        before = line["head"]


def _set(name: str, number: int, field: str, value: Any) -> Alter:
    def alter(b: dict[str, Lines]) -> None:
        b[name][number][field] = value

    return alter


def _drop(name: str, number: int) -> Alter:
    def alter(b: dict[str, Lines]) -> None:
        del b[name][number]

    return alter


def _head(number: int, field: str, value: Any) -> Alter:
    def alter(b: dict[str, Lines]) -> None:
        b["heads"][number]["head"][field] = value

    return alter


def _proof(b: dict[str, Lines]) -> None:
    b["proofs"][0]["hashes"][0] = "00" * 32


def _policy_with_its_hash(b: dict[str, Lines]) -> None:
    row = b["policies"][0]
    row["body"] = row["body"].replace('"lookback_days":90', '"lookback_days":91')
    row["sha256"] = hashlib.sha256(row["body"].encode()).hexdigest()


ALTERED: dict[str, tuple[Alter, str]] = {
    "changed amount": (_amount, "entry 4 was changed"),
    "unbalanced": (_unbalanced, "entry 4 does not balance"),
    "chained anew": (_chained_anew, "an entry up to 12 is not that of head 1"),
    "removed entry": (_drop("entries", 4), "entry 5 is missing"),
    "removed last entry": (_drop("entries", -1), "entry 21 is missing"),
    "swapped order": (_swapped, "entry 5 is missing"),
    "moved period": (_set("entries", 2, "business_day", "2026-06-01"), "entry 3 was changed"),
    "rewound clock": (_set("entries", 2, "booked_at", "2026-01-01T00:00:00.000000Z"), "entry 3 was changed"),
    "another author": (_set("entries", 2, "author", "somebody"), "entry 3 was changed"),
    "a field that was added": (_set("entries", 2, "more", None), "entry 3 was changed"),
    "another kind of number": (_set("entries", 2, "generation", 1.0), "entry 3 was changed"),
    "edited evidence": (_set("evidence", 0, "sha256", "00" * 32), "evidence up to "),
    "removed evidence": (_drop("evidence", -1), "evidence up to "),
    "another hash of a push": (_set("deliveries", 0, "sha256", "00" * 32), "deliveries up to 1 are not"),
    "removed push": (_drop("deliveries", 0), "deliveries up to 1 are not"),
    "forged policy": (_set("policies", 0, "body", "{}"), "policy 1: its body is not what its hash says"),
    "forged policy with its hash": (_policy_with_its_hash, "policies up to 1 are not"),
    "removed policy": (_drop("policies", 0), "policies up to 1 are not"),
    "removed head": (_drop("heads", 1), "head 3 is out of order, or one is missing"),
    "removed first head": (_drop("heads", 0), "head 2 is out of order, or one is missing"),
    "another root": (_head(1, "root", "00" * 32), "head 3 does not follow the head before it"),
    "another last root": (_head(2, "root", "00" * 32), "head 3: the signature is not one of its key"),
    "another time": (_head(2, "sealed_at", "2030-01-01T00:00:00.000000Z"), "head 3: the signature is not"),
    "another signature": (_set("heads", 2, "signature", "00" * 64), "head 3: the signature is not"),
    "another key": (_resigned, "head 3 is signed with another key"),
    "signed anew by our own key": (_resigned_tail, "head 2 as you kept it is not in the bundle"),
    "another proof": (_proof, "the tree of 14 entries does not continue that of 12"),
    "removed proof": (_drop("proofs", 0), "the proof that 14 entries continue 12 is missing"),
    "another balance": (_set("balances", 0, "amount_minor", 1), "the bundle says 1, its entries come to"),
    "removed balance": (_drop("balances", 0), "the balance is missing"),
}


@pytest.mark.parametrize(("alter", "named"), list(ALTERED.values()), ids=list(ALTERED))
def test_an_altered_bundle_is_refused(
    good: dict[str, Path], tmp_path: Path, alter: Alter, named: str
) -> None:
    path = _altered(good["books"], tmp_path / "altered.zip", alter)
    code, said = run(path, "--key", PUBLIC, "--head", good["kept"])
    assert (code, said.splitlines()[0].startswith("WRONG: ")) == (1, True), said
    assert named in said


def test_rewriting_without_an_alteration_is_accepted(good: dict[str, Path], tmp_path: Path) -> None:
    """The test's own way of writing a bundle breaks none."""
    assert run(_altered(good["books"], tmp_path / "same.zip", lambda b: None), "--key", PUBLIC)[0] == 0


@pytest.mark.parametrize(
    ("alter", "named"),
    [
        (_unbalanced, "entry "),
        (_amount, "is not in the tree of the last head"),
        (_set("proofs", -1, "hashes", []), "is not in the tree of the last head"),
        (_drop("proofs", -1), "the proof is missing"),
        (_drop("evidence", 0), "which is missing"),
        (_set("evidence", 0, "sha256", "00" * 32), "rests on other bytes than those of evidence"),
    ],
)
def test_an_altered_bundle_of_a_period_is_refused(
    good: dict[str, Path], tmp_path: Path, alter: Alter, named: str
) -> None:
    code, said = run(_altered(good["part"], tmp_path / "altered.zip", alter))
    assert code == 1
    assert named in said


def test_what_is_no_bundle_is_refused(good: dict[str, Path], tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.zip"
    assert run(nothing)[0] == 1
    nothing.write_bytes(b"no zip")
    assert run(nothing)[0] == 1
    with zipfile.ZipFile(good["books"]) as old, zipfile.ZipFile(nothing, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("more.txt", "x")
    code, said = run(nothing)
    assert (code, said) == (1, "WRONG: the files are not those of a bundle, each once\n")


def test_lines_in_another_encoding_are_refused(good: dict[str, Path], tmp_path: Path) -> None:
    spaced = tmp_path / "spaced.zip"
    with zipfile.ZipFile(good["books"]) as old, zipfile.ZipFile(spaced, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data.replace(b'"id":3,', b'"id": 3,') if name == "entries.jsonl" else data)
    assert run(spaced) == (1, "WRONG: entries.jsonl, line 3: not in its encoding\n")


def test_the_same_books_make_the_same_bytes(good: dict[str, Path]) -> None:
    with zipfile.ZipFile(good["books"]) as found:
        assert {info.date_time for info in found.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert good["books"].stat().st_mode & 0o777 == 0o600


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | texts | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="ascii")), inner),
)


@given(value=st.dictionaries(st.text(st.characters(codec="ascii")), values))
def test_the_two_encoders_agree(value: dict[str, Any]) -> None:
    """Ours and the verifier's, which share no code."""
    assert heads.canonical(value).decode() == _canonical(value)
