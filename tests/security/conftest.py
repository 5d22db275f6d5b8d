"""Worlds as the flows have them, reached through the proxy that spoils what vendors say."""

from __future__ import annotations

from tests.faults.own.conftest import own
from tests.faults.vendor.conftest import other, vendors, waits
from tests.integration.flow.conftest import _quiet, fresh, shop, synced, synced_once

__all__ = ["_quiet", "fresh", "other", "own", "shop", "synced", "synced_once", "vendors", "waits"]
