"""What all commands share: where the config is, exit codes, and how mistakes and failures are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import psycopg
import sqlalchemy.exc
import typer

from connectors.errors import ConnectorError
from sync import logs, process, runs
from sync.attribute.store import StaleConfig
from sync.cli import output
from sync.config import Config, ConfigError, load
from sync.ledger.heads import Unreadable
from sync.ledger.keys import KeyProblem
from sync.ledger.tree import Damaged
from sync.process import ProcessSettings
from sync.store import outage
from sync.store.embedded import Embedded, EmbeddedError
from sync.store.schema import TooNew
from sync.workspace import Opened, Workspace


class Exit(IntEnum):
    """Exit codes, the same for every command."""

    done = 0
    partial = 1  # records were quarantined, or pushes were refused
    config = 2  # the config or the command line is wrong; nothing ran
    failed = 3  # a connector failed
    busy = 4  # another process is doing this
    unproven = 5  # `verify` or `ledger reconcile` found something wrong
    stopped = 130  # Ctrl-C


ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The config file. [default: leadledger.yaml, or LEADLEDGER_CONFIG]"),
]
FormatOption = Annotated[output.Format, typer.Option("--format", "-f", help="How to print it.")]
PeriodOption = Annotated[
    str | None, typer.Option("--period", "-p", help="2018, 2018-Q1, 2018-03 or 2018-03-01..2018-03-15.")
]
AsOfOption = Annotated[
    str | None,
    typer.Option("--as-of", help="As it was known then: 2026-10-31T23:59, in the workspace's time zone."),
]


def config_path(given: Path | None) -> Path:
    return given or ProcessSettings().config


def read_config(given: Path | None) -> Config:
    """The config, or the end of the command with every mistake in it named."""
    path = config_path(given)
    try:
        return load(path)
    except ConfigError as error:
        for mistake in error.mistakes:
            output.complain(str(mistake))
        count = len(error.mistakes)
        output.complain(f"{count} mistake{'s' if count > 1 else ''} in {path}; nothing was run.")
        raise typer.Exit(Exit.config) from None


@contextmanager
def opened(given: Path | None) -> Iterator[Workspace]:
    """The workspace of a command, with a line of progress and failures told as messages, not as traces."""
    config = read_config(given)
    with (
        output.progress() as say,
        failures(config),
        process.interruptible(Exit.stopped),
        Opened(config, say=say) as workspace,
    ):
        logs.hide(workspace.secrets)
        yield workspace


@contextmanager
def failures(config: Config | None = None) -> Iterator[None]:
    """Turns what can be expected to go wrong into a message and an exit code."""
    try:
        yield
    except (KeyboardInterrupt, runs.Stopped):
        output.note("Stopped. What was committed stays; run it again to go on.")
        raise typer.Exit(Exit.stopped) from None
    except ConnectorError as error:
        output.complain(logs.mask(str(error)))
        raise typer.Exit(Exit.failed) from None
    except (EmbeddedError, TooNew, StaleConfig, KeyProblem, Damaged, Unreadable) as error:
        output.complain(str(error))
        raise typer.Exit(Exit.failed) from None
    except (runs.Busy, runs.Fenced) as error:
        output.complain(str(error))
        raise typer.Exit(Exit.busy) from None
    except (sqlalchemy.exc.SQLAlchemyError, psycopg.Error) as error:
        if not outage.is_outage(error):
            raise
        output.complain(logs.mask(f"{outage.told(error)}. {outage.todo(error)}"))
        if config and config.database == "embedded" and Embedded(config.data_folder).disk_is_full():
            output.complain(f"{outage.FULL}. {outage.MAKE_ROOM}")
        raise typer.Exit(Exit.failed) from None


def wrong(message: str) -> typer.Exit:
    """A mistake in how the command was called."""
    output.complain(message)
    return typer.Exit(Exit.config)


def known_connectors(workspace: Workspace, names: list[str] | None) -> list[str]:
    """The connectors named on the command line, or all; an unknown name ends the command."""
    if not names:
        return [c.name for c in workspace.config.connectors]
    for name in names:
        try:
            workspace.config.connector(name)
        except KeyError as error:
            raise wrong(str(error.args[0])) from None
    return names


def jsonable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v.isoformat() if hasattr(v, "isoformat") else v for k, v in row.items()} for row in rows]
