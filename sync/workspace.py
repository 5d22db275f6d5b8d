"""A config, its database and its rules, opened together and closed together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from threading import Event
from types import TracebackType
from typing import Any
from zoneinfo import ZoneInfo

import pydantic
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Engine

from connectors import catalog
from connectors.contract import Connector, Context, Stream
from connectors.http import Http, HttpSettings
from sync import rulebook
from sync.config import Config, mapping_of
from sync.config_types import ConnectorConfig
from sync.ledger import heads, keys
from sync.pull.step import Plan
from sync.runs import Stopped
from sync.store import db, schema
from sync.store.embedded import Embedded

Say = Callable[[str], None]


def silent(_: str) -> None:
    """For callers that show no progress."""


@dataclass
class Workspace:
    """An open workspace. `stop` asks everything that runs to stop at the next safe point."""

    config: Config
    url: str
    engine: Engine
    rules: rulebook.Rulebook
    say: Say = silent
    stop: Event = field(default_factory=Event)

    @property
    def zone(self) -> ZoneInfo:
        return self.rules.zone

    def declared(self, name: str) -> Connector:
        return declaration_of(self.config.connector(name))

    def signing_key(self) -> Ed25519PrivateKey:
        """The key that signs heads, made at first use. Raises `keys.KeyProblem`."""
        given = self.config.ledger.signing_key
        if given is not None:
            return keys.parse(given.get_secret_value())
        return keys.read_or_make(self.config.data_folder / keys.FILE)

    def trusted_keys(self) -> frozenset[bytes]:
        """The public keys whose heads are ours; makes none. Raises `keys.KeyProblem`."""
        trusted = {bytes.fromhex(key) for key in self.config.ledger.trusted_keys}
        given = self.config.ledger.signing_key
        path = self.config.data_folder / keys.FILE
        own = keys.parse(given.get_secret_value()) if given is not None else keys.read(path)
        return frozenset(trusted | ({heads.public_bytes(own)} if own is not None else set()))

    @property
    def secrets(self) -> list[str]:
        """Every secret of the config, so that no log line shows one."""
        found = [
            value.get_secret_value()
            for connector in self.config.connectors
            for value in dict(connector.options or {}).values()
            if isinstance(value, pydantic.SecretStr)
        ]
        ledger = self.config.ledger
        held = [ledger.signing_key]
        for witness in ledger.witness:
            held += [witness.password, witness.access_key, witness.secret_key]
        found += [value.get_secret_value() for value in held if value is not None]
        password = sa.make_url(self.url).password
        return [*found, *([str(password)] if password else [])]

    @contextmanager
    def connected(self, name: str) -> Iterator[Connected]:
        """The connector `name`, with its HTTP clients closed at the end."""
        with Connected(self.config.connector(name), self.config, self.zone, stop=self.stop) as connected:
            yield connected


class Connected(AbstractContextManager["Connected"]):
    """A configured connector's source and destination, made when first asked for."""

    def __init__(
        self, connector: ConnectorConfig, config: Config, zone: ZoneInfo, *, stop: Event | None = None
    ) -> None:
        self.config = connector
        self.declaration = declaration_of(connector)
        self._zone = zone
        self._stop = stop or Event()
        self._phone_region = config.identity.phone_region
        self._stack = ExitStack()
        self._context = Context(name=connector.name, zone=zone, folder=config.folder, http=self._http)

    def _http(self, settings: HttpSettings) -> Http:
        return self._stack.enter_context(Http(settings, sleep=self._sleep))

    def _sleep(self, seconds: float) -> None:
        """Wait, unless the run is asked to stop: no wait for a vendor holds a shutdown up."""
        if self._stop.wait(seconds):
            raise Stopped("stopped by the operator")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def is_source(self) -> bool:
        return self.declaration.source is not None

    @property
    def is_destination(self) -> bool:
        return self.declaration.destination is not None

    def source(self) -> Any:
        return self.declaration.source(self.config.options, self._context)

    def destination(self) -> Any:
        return self.declaration.destination(self.config.options, self._context)

    def plan(self) -> Plan:
        """What a pull of this connector needs."""
        return Plan(
            connector=self.config.name,
            source=self.source(),
            mapping=mapping_of(self.config),
            streams=chosen_streams(self.config),
            start=start_of(self.config, self._zone),
            zone=self._zone,
            phone_region=self._phone_region,
        )


def declaration_of(connector: ConnectorConfig) -> Connector:
    return catalog.find()[0][connector.type]


def start_of(connector: ConnectorConfig, zone: ZoneInfo) -> datetime:
    """The begin of the config's `from:` day, in UTC."""
    assert connector.start is not None, "the config of a source has a from:"
    return datetime.combine(connector.start, time(), zone).astimezone(UTC)


def chosen_streams(connector: ConnectorConfig) -> list[Stream]:
    """The streams that the config chose, of those that the connector has with these options."""
    declared = declaration_of(connector)
    streams = declared.streams or declared.source.streams(connector.options)
    return [s for s in streams if connector.streams is None or s.name in connector.streams]


class Opened:
    """Opens the workspace of a config: starts its database if it is embedded, brings it to this version.

    A context manager; leaving it closes everything, and stops the embedded database if nobody else uses it.
    """

    def __init__(self, config: Config, *, say: Say = silent) -> None:
        self.config = config
        self.say = say
        self._stack = ExitStack()

    def __enter__(self) -> Workspace:
        try:
            return self._open()
        except BaseException:
            self._stack.close()
            raise

    def _open(self) -> Workspace:
        if self.config.database == "embedded":
            server = Embedded(self.config.data_folder, say=self.say)
            url = server.start()
            self._stack.callback(server.stop_if_unused)
        else:
            url = self.config.database
        engine = db.make_engine(url)
        self._stack.callback(engine.dispose)
        schema.migrate(engine)
        return Workspace(
            config=self.config, url=url, engine=engine, rules=rulebook.of(self.config), say=self.say
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
