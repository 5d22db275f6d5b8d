"""Finds the connectors: ours and those of installed packages, by entry point."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

from connectors.contract import Connector

GROUP = "leadledger.connectors"


@dataclass(frozen=True, slots=True)
class Broken:
    """An entry point that could not be used, and why."""

    name: str
    why: str


@cache
def find() -> tuple[dict[str, Connector], tuple[Broken, ...]]:
    """All connectors by type, and the entry points that do not hold one.

    A broken package never hides the others: what is wrong with it is reported where its type is asked for.
    """
    found: dict[str, Connector] = {}
    broken: list[Broken] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda e: (e.name, e.value)):
        try:
            connector = entry.load()
        except Exception as error:
            broken.append(Broken(entry.name, f"{entry.value} cannot be imported: {error}"))
            continue
        if not isinstance(connector, Connector):
            broken.append(Broken(entry.name, f"{entry.value} is not a connectors.contract.Connector"))
        elif connector.type in found and found[connector.type] is not connector:
            broken.append(Broken(entry.name, f"type {connector.type!r} is taken by another package"))
        else:
            found[connector.type] = connector
    return found, tuple(broken)
