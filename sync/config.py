"""leadledger.yaml as types: read whole, every mistake at once, each with its place and what would be right.

``load(path)`` gives a `Config` or raises `ConfigError`. The steps: YAML with positions (`sync.config_yaml`),
secrets put in, options checked by their connector's own model, mapping overrides by the mapping engine, the
rest by `sync.config_types`, and at last what one part says about another.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import pydantic

from connectors import catalog
from connectors.contract import Connector
from mappings import engine, spec
from mappings.spec import nearest
from sync import config_options, config_yaml
from sync.config_ledger import Ledger
from sync.config_types import STAGES, ConnectorConfig, Document, stream_names
from sync.config_yaml import ConfigError, Mistake, Mistakes

__all__ = ["Config", "ConfigError", "ConnectorConfig", "Mistake", "load", "mapping_of"]


class Config(Document):
    """A config without mistakes."""

    _path: Path = pydantic.PrivateAttr()
    _fingerprint: str = pydantic.PrivateAttr()

    @property
    def path(self) -> Path:
        """The file, absolute."""
        return self._path

    @property
    def folder(self) -> Path:
        """Where relative paths start."""
        return self._path.parent

    @property
    def data_folder(self) -> Path:
        return Path(os.path.abspath(self.folder / Path(self.data).expanduser()))

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.workspace.timezone)

    def connector(self, name: str) -> ConnectorConfig:
        """The connector of that name. Raises `KeyError` with the nearest known name."""
        for connector in self.connectors:
            if connector.name == name:
                return connector
        names = [connector.name for connector in self.connectors]
        raise KeyError(f"no connector {name!r} in {self.path.name}; {nearest(name, names)}")

    def fingerprint(self) -> str:
        """Changes whenever what the file says changes. Knows the references to secrets, not the secrets."""
        return self._fingerprint


def load(path: Path, *, environ: Mapping[str, str] = os.environ) -> Config:
    """Read and check the config in `path`.

    Raises
    ------
    ConfigError : every mistake of the file.
    """
    found = Mistakes(str(path))
    path = Path(os.path.abspath(path))
    tree = config_yaml.parse(_text(path, found), found) if not found.found else None
    if not isinstance(tree, dict):
        if not found.found:
            found.add((), "must be a mapping of names to values", "leadledger init writes one to start from")
        raise ConfigError(found.found)
    resolved = config_yaml.resolve(tree, found, environ=environ, folder=path.parent)
    _check_database(tree, found)
    types = _connectors(tree, resolved, found)
    _check_push(resolved, types, found)
    config_options.note_secrets(Ledger, tree.get("ledger"), found, ("ledger",))
    _check_rates(resolved, types, found)
    try:
        config = Config.model_validate(resolved)
    except pydantic.ValidationError as error:
        config_options.note(error, Document, found, ())
        raise ConfigError(found.found) from None
    if found.found:
        raise ConfigError(found.found)
    config._path = path
    known = json.dumps(spec.plain(tree), sort_keys=True)
    config._fingerprint = hashlib.sha256(known.encode()).hexdigest()
    return config


def mapping_of(connector: ConnectorConfig) -> engine.Mapping:
    """The mapping of a configured connector, with its overrides. Raises `mappings.engine.MappingError`."""
    return _mapping(catalog.find()[0][connector.type], connector.name, connector.mapping)


def _mapping(declared: Connector, name: str, given: Mapping[str, Any]) -> engine.Mapping:
    if declared.mapping is None:
        return engine.build({"type": declared.type, "streams": given}, name=f"the mapping of {name}")
    text = resources.files(declared.package).joinpath(declared.mapping).read_text("utf-8")
    return engine.load(text, name=declared.mapping).with_overrides(given)


def _text(path: Path, found: Mistakes) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        found.add((), "there is no such file", "leadledger init writes one to start from")
    except OSError as error:
        found.add((), f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        found.add((), f"is not UTF-8 at byte {error.start + 1}", "save it as UTF-8")
    return ""


def _check_database(tree: Mapping[str, Any], found: Mistakes) -> None:
    address = tree.get("database")
    if not isinstance(address, str) or config_yaml.is_reference(address):
        return
    try:
        password = urlsplit(address).password
    except ValueError:
        return
    if password and not config_yaml.has_reference(password):
        found.secrets.add(password)
        found.add(
            ("database",), "holds a password in clear", "write ${env:NAME} or ${file:PATH} in its place"
        )


def _connectors(tree: Any, resolved: Any, found: Mistakes) -> dict[str, Connector | None]:
    """Check each connector by its type, and put its validated options into `resolved`.

    Gives the type of every connector by name; None where it is not known.
    """
    types: dict[str, Connector | None] = {}
    items = resolved.get("connectors")
    for at, item in enumerate(items if isinstance(items, list) else []):
        if not isinstance(item, dict):
            continue
        where = ("connectors", at)
        name = item.get("name")
        declared = _type_of(item.get("type"), where, found)
        if isinstance(name, str):
            if name in types:
                found.add((*where, "name"), f"another connector is called {name!r} too", "names are unique")
            types[name] = declared
        raw = tree["connectors"][at].get("options")
        item["options"] = _checked_options(item, raw, declared, where, found) if declared else None
    return types


def _type_of(type_: Any, where: tuple[str | int, ...], found: Mistakes) -> Connector | None:
    if not isinstance(type_, str) or found.is_broken((*where, "type")):
        return None
    known, broken = catalog.find()
    if type_ in known:
        return known[type_]
    why = next((each.why for each in broken if each.name == type_), None)
    if why:
        found.add(
            (*where, "type"), f"the connector type {type_!r} cannot be used: {why}", "repair its package"
        )
        return None
    found.add((*where, "type"), f"unknown connector type {type_!r}", nearest(type_, known))
    return None


def _checked_options(
    item: Mapping[str, Any], raw: Any, declared: Connector, where: tuple[str | int, ...], found: Mistakes
) -> Any:
    options = config_options.validate(item.get("options"), raw, declared.options, (*where, "options"), found)
    streams: tuple[str, ...] | None = None
    if options is not None or declared.streams:
        streams = stream_names(declared, options)
    chosen = item.get("streams")
    if streams is not None and isinstance(chosen, list):
        for at, stream in enumerate(chosen):
            if isinstance(stream, str) and stream not in streams:
                problem = f"{declared.type} has no stream {stream!r}"
                found.add((*where, "streams", at), problem, nearest(stream, streams))
    has_start = item.get("from") is not None or found.is_broken((*where, "from"))
    if declared.source is not None and chosen != [] and not has_start:
        found.add(where, "from: is missing", "the date from which on this source is read, as in 2024-01-31")
    _check_mapping(item, declared, streams, where, found)
    return options


def _check_mapping(
    item: Mapping[str, Any],
    declared: Connector,
    streams: tuple[str, ...] | None,
    where: tuple[str | int, ...],
    found: Mistakes,
) -> None:
    place = (*where, "mapping")
    given = item.get("mapping")
    if given is None and declared.mapping is None:
        if declared.source is not None and item.get("streams") != []:
            found.add(
                where, f"a {declared.type} connector needs a mapping:", "{stream: [{kind: …, fields: …}]}"
            )
        return
    if given is not None and not isinstance(given, dict):
        return  # said by the types
    if declared.mapping is None:
        for stream in given or ():
            if streams is not None and stream not in streams:
                found.add(
                    (*place, str(stream)), f"there is no stream {stream!r}", nearest(str(stream), streams)
                )
    elif not _builtin_is_sound(declared, where, found):
        return
    try:
        _mapping(declared, str(item.get("name")), given or {})
    except engine.MappingError as error:
        for problem in error.problems:
            line, column = _in_mapping(problem.line, place, found)
            near = (*place, *problem.where.split(".")) if problem.where else place
            found.add_at(line, column, near, problem.message, problem.hint)


def _builtin_is_sound(declared: Connector, where: tuple[str | int, ...], found: Mistakes) -> bool:
    """Whether the mapping that comes with the connector can be used; it is its author's to mend."""
    kind = (*where, "type")
    try:
        _mapping(declared, declared.type, {})
    except OSError as error:
        found.add(kind, f"the mapping of {declared.type} cannot be read: {error.strerror}")
    except engine.MappingError as error:
        hint = f"this is for the author of the connector {declared.type}"
        for problem in error.problems:
            found.add(kind, f"{declared.mapping}, line {problem.line}: {problem.message}", hint)
    else:
        return True
    return False


def _in_mapping(line: int | None, place: tuple[str | int, ...], found: Mistakes) -> tuple[int, int]:
    """The position of the first name that stands in this line of the mapping."""
    inside = [
        position
        for where, position in (found.values | found.keys).items()
        if where[: len(place)] == place and position[0] == line
    ]
    return min(inside, default=found.keys.get(place, found.values.get(place, (1, 1))))


def _check_push(resolved: Mapping[str, Any], types: Mapping[str, Connector | None], found: Mistakes) -> None:
    rules = resolved.get("push")
    seen: dict[tuple[str, str, str], int] = {}
    for at, rule in enumerate(rules if isinstance(rules, list) else []):
        to = rule.get("to") if isinstance(rule, dict) else None
        if not isinstance(to, str) or found.is_broken(("push", at, "to")):
            continue
        if to not in types:
            found.add(("push", at, "to"), f"there is no connector {to!r}", nearest(to, types))
        elif (declared := types[to]) is not None and declared.destination is None:
            able = [name for name, other in types.items() if other is not None and other.destination]
            fix = f"these can: {', '.join(able)}" if able else ""
            found.add(("push", at, "to"), f"{to!r} ({declared.type}) cannot be written to", fix)
        for stage, name in _owned(rule):
            earlier = seen.setdefault((to, stage, name), at)
            if earlier != at:
                problem = f"push[{earlier}] writes {name!r} of people at {stage!r} too"
                found.add(("push", at, "fields", name), problem, "one rule a field and stage", key=True)
                break


def _check_rates(resolved: Mapping[str, Any], types: Mapping[str, Connector | None], found: Mistakes) -> None:
    """The connector whose rates convert is one that reads rates."""
    ledger = resolved.get("ledger")
    name = ledger.get("rates") if isinstance(ledger, dict) else None
    if not isinstance(name, str) or found.is_broken(("ledger", "rates")):
        return
    banks = {each for each, declared in types.items() if declared is not None and _reads_rates(declared)}
    if name not in types:
        found.add(("ledger", "rates"), f"there is no connector {name!r}", nearest(name, types))
    elif types[name] is not None and name not in banks:
        fix = f"these do: {', '.join(sorted(banks))}" if banks else "add one of the type nbp or ecb"
        found.add(("ledger", "rates"), f"{name!r} reads no rates of exchange", fix)


def _reads_rates(declared: Connector) -> bool:
    # The streams of a `files` connector are its config's own; its mapping may well make rates.
    return not declared.streams or any(stream.name == "rates" for stream in declared.streams)


def _owned(rule: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each stage and field that a push rule writes."""
    stages, fields = rule.get("stages"), rule.get("fields")
    for stage in stages if isinstance(stages, list) else STAGES:
        for name in fields if isinstance(fields, dict) else ():
            yield str(stage), str(name)
