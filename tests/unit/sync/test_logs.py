"""Logs: no secret and no whole e-mail address is ever written, in whatever way it got there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync import logs

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests(monkeypatch):
    monkeypatch.setattr(logs, "_secrets", set())


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("jan.kowalski@example.com", "j***@example.com"),
        ("to <jan+shop@mail.example.co.uk>, and b@x.pl.", "to <j***@mail.example.co.uk>, and b***@x.pl."),
        ("_jan@example.com", "_***@example.com"),
        ("o'brien@example.com", "o***@example.com"),
        ("żółw@żółw.pl", "ż***@żółw.pl"),
        ("jan@xn--kgbechtv.xn--p1ai", "j***@xn--kgbechtv.xn--p1ai"),
        ("GET /c?email=jan%2Bx%40example.com&a=1", "GET /c?email=j***%40example.com&a=1"),
        ("GET /contacts/jan@example.com?x", "GET /contacts/j***@example.com?x"),
        ("mailto:jan@example.com", "mailto:j***@example.com"),
        ('{"email":"jan@example.com"}', '{"email":"j***@example.com"}'),
        ("postgresql://u:pass@db.example.com/x", "postgresql://u:p***@db.example.com/x"),
        ("a***@example.com", "a***@example.com"),
        ("no address: @ home, a@b, 5 @ 3.20", "no address: @ home, a@b, 5 @ 3.20"),
    ],
)
def test_addresses_are_cut(text, masked):
    assert logs.mask(text) == masked
    assert logs.mask(masked) == masked


@given(st.emails(), st.sampled_from(["{}", "to <{}>: failed", "?email={}&x=1", '{{"e":"{}"}}', "a@b.pl,{}"]))
def test_no_address_survives(address, around):
    local = address.rpartition("@")[0]
    for spelled in (address, quote(address, safe="")):
        masked = logs.mask(around.format(spelled))
        assert spelled not in masked or set(local) == {"*"}  # that is masked as it is
        assert logs.mask(masked) == masked
        assert len(local) < 2 or f"{local}@" not in masked


@given(st.text(max_size=80))
def test_masking_twice_changes_nothing(text):
    once = logs.mask(text)
    assert logs.mask(once) == once


# Letters that the words put in their place do not have.
secrets = st.text(
    st.characters(categories=["Lu", "Nd", "Sm"], include_characters='/+"\\%ł'), min_size=4, max_size=20
)


@given(st.lists(secrets, min_size=1, max_size=4), st.text(max_size=10), st.text(max_size=10))
def test_no_secret_survives(hidden, before, after):
    logs._secrets.clear()
    logs.hide(hidden)
    for secret in hidden:
        for written in (secret, quote(secret, safe=""), json.dumps(secret)):
            assert secret not in logs.mask(before + written + after)
            assert quote(secret, safe="") not in logs.mask(f"{before} {written} {after}")


def test_a_secret_that_is_part_of_another_leaves_nothing_of_it():
    logs.hide(["ABCD", "ABCDEFGH", "EFGHIJ"])
    assert logs.mask("x ABCDEFGH y ABCD") == "x [secret] y [secret]"


def test_a_secret_that_looks_like_an_address():
    logs.hide(["key@example.com"])
    assert logs.mask("user key@example.com") == "user [secret]"


def test_what_is_too_short_for_a_secret_is_left_alone():
    logs.hide(["", "abc"])
    assert logs.mask("abc") == "abc"


def test_a_long_line_is_masked_quickly():
    assert logs.mask("x" * 200_000) == "x" * 200_000


PROGRAM = """
import logging
import structlog
from pathlib import Path
from sync import logs

logs.configure(form="{form}", level="info")
logs.hide(["TOP-SECRET"])

class Thing:
    def __repr__(self):
        return "Thing(TOP-SECRET, jan@example.com)"

log = structlog.get_logger()
log.info("pulled TOP-SECRET", email="jan@example.com", nested={{"TOP-SECRET": ["jan@example.com", Thing()]}},
         path=Path("/TOP-SECRET"), thing=Thing(), many={{"jan@example.com"}}, raw=b"TOP-SECRET", count=3)
try:
    raise ValueError("TOP-SECRET of jan@example.com", Thing())
except ValueError as error:
    log.exception("failed", error=error)
    logging.getLogger("a.library").exception("failed for %s", "jan@example.com TOP-SECRET")
logging.getLogger("httpx").info("GET https://x/?key=TOP-SECRET")
log.debug("not asked for")
"""


@pytest.mark.parametrize("form", ["json", "text", "auto"])
def test_whatever_is_logged_by_us_or_a_library_is_masked(form):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(form=form)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == ""
    assert "TOP-SECRET" not in done.stderr
    assert "jan@example.com" not in done.stderr
    assert "j***@example.com" in done.stderr
    assert "[secret]" in done.stderr
    assert "not asked for" not in done.stderr
    assert "GET https" not in done.stderr
    if form != "text":
        first, *others = (json.loads(line) for line in done.stderr.splitlines())
        assert first["event"] == "pulled [secret]"
        assert (first["level"], first["count"]) == ("info", 3)
        assert first["nested"] == {"[secret]": ["j***@example.com", "Thing([secret], j***@example.com)"]}
        assert [o["event"] for o in others] == ["failed", "failed for j***@example.com [secret]"]
        assert all("Traceback" in o["exception"] for o in others)
