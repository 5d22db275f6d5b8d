"""The option `zone:`: where a time without an offset was written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from mappings import sources
from mappings.functions import Evaluate
from mappings.paths import Scope
from mappings.spec import Report, nearest
from mappings.unfit import Unfit


def compile_zone(spec: Mapping[Any, Any], where: str, report: Report) -> Evaluate | None:
    """A function from scope to `ZoneInfo`; None without the option. Mistakes go to `report`."""
    name = spec.get("zone")
    if name is None:
        return None
    if name == "workspace":
        return lambda scope: scope.zone
    if isinstance(name, str) and name.startswith(("$.", "^.")):
        return _zone_of(sources.compile_source(name, f"{where}.zone", report, owner=spec, key="zone"))
    try:
        fixed = ZoneInfo(str(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = (*available_timezones(), "workspace")
        report.add(spec, "zone", where, f"unknown time zone {str(name)!r}", _near_zone(str(name), known))
        return None
    return lambda _: fixed


def _near_zone(name: str, known: tuple[str, ...]) -> str:
    hint = nearest(name, [zone.lower() for zone in known])
    return "it must be UTC, workspace, $.name or a name such as Europe/Warsaw" if "known:" in hint else hint


def _zone_of(get: Evaluate) -> Evaluate:
    def zone(scope: Scope) -> Any:
        name = get(scope)
        if name is None:
            return None
        try:
            return ZoneInfo(str(name))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise Unfit("its time zone is unknown", "the zone must be a name such as Europe/Warsaw") from None

    return zone
