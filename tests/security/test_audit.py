"""What `make audit` makes of pip-audit's answer."""

from __future__ import annotations

import json

from tests.security import audit

CLEAN = {"name": "httpx", "version": "1.0", "vulns": []}
UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found on PyPI and could not be audited: ours (1.0)"}
FLAWED = {"name": "old", "version": "0.9", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.0"]}]}


def report(*packages: object) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_nothing_known_is_a_pass() -> None:
    code, lines = audit.verdict(report(CLEAN, UNKNOWN), "")
    assert code == 0
    assert lines == ["not known to the service: ours", "1 packages looked up, 0 vulnerabilities known"]


def test_a_vulnerability_is_named_with_the_version_that_mends_it() -> None:
    code, lines = audit.verdict(report(CLEAN, FLAWED), "")
    assert (code, lines[0]) == (1, "old 0.9: PYSEC-1, mended in 1.0")


def test_a_service_that_cannot_be_asked_is_no_pass() -> None:
    for answer, said in ((report(UNKNOWN, UNKNOWN), ""), ("", "ServiceError: connection failed"), ("{}", "")):
        code, lines = audit.verdict(answer, said)
        assert code == 2
        assert lines[0].startswith("The vulnerability service cannot be reached from here")
