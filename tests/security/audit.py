"""Known vulnerabilities of all that is installed, by pip-audit; says plainly when its service cannot be asked.

    python tests/security/audit.py

Exit code 0: nothing is known. 1: something is. 2: the service could not be asked, so nothing is known either way.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

COMMAND = (
    sys.executable,
    "-m",
    "pip_audit",
    "--format",
    "json",
    "--skip-editable",
    "--progress-spinner",
    "off",
)
ASKED_IN_VAIN = 2
UNREACHABLE = (
    "The vulnerability service cannot be reached from here, so known vulnerabilities were not looked up. "
    "Run `make audit` where pypi.org (or, with pip-audit's --vulnerability-service osv, osv.dev) can be reached."
)


def verdict(report: str, said: str) -> tuple[int, list[str]]:
    """Exit code and lines to print, from pip-audit's JSON and what it said beside it."""
    try:
        packages: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError):
        return ASKED_IN_VAIN, [UNREACHABLE, *said.strip().splitlines()[-1:]]
    audited = [one for one in packages if "skip_reason" not in one]
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    if not audited:
        return ASKED_IN_VAIN, [UNREACHABLE]
    found = [(one, flaw) for one in audited for flaw in one.get("vulns", ())]
    lines = [
        f"{one['name']} {one['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for one, flaw in found
    ]
    if skipped:
        lines.append(f"not known to the service: {', '.join(skipped)}")
    return int(bool(found)), [
        *lines,
        f"{len(audited)} packages looked up, {len(found)} vulnerabilities known",
    ]


def main() -> int:
    done = subprocess.run(COMMAND, check=False, capture_output=True, text=True)
    code, lines = verdict(done.stdout, done.stderr)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
