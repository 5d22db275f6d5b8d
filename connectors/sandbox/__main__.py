"""Serves a sandbox as a process of its own: ``python -m connectors.sandbox STATE PORT``."""

from __future__ import annotations

import sys
from pathlib import Path

from connectors.sandbox.server import serve

if __name__ == "__main__":
    serve(Path(sys.argv[1]), port=int(sys.argv[2]))
