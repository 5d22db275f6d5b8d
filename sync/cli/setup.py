"""Commands that set up: init, check, schema, mapping test."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from connectors import catalog
from connectors.contract import Finding
from connectors.errors import ConnectorError
from mappings.engine import Mapping
from sync import logs
from sync.cli import output
from sync.cli.runtime import ConfigOption, Exit, config_path, failures, read_config, wrong
from sync.config import Config, mapping_of
from sync.config_schema import text
from sync.workspace import Connected

mapping_app = typer.Typer(no_args_is_help=True, help="Try a mapping before it runs.")


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Set up")(init)
    app.command(rich_help_panel="Set up")(check)
    app.command("schema", rich_help_panel="Set up")(print_schema)
    app.command("connectors", rich_help_panel="Set up")(list_connectors)


def init(
    config: ConfigOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a commented leadledger.yaml to start from.

    Example: leadledger init
    """
    path = config_path(config)
    if path.exists() and not force:
        raise wrong(f"{path} is there already; --force replaces it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(files("sync.cli").joinpath("starter.yaml").read_text("utf-8"), "utf-8")
    output.line(f"Wrote {path}. Fill it in, then: leadledger check --online")


def check(
    config: ConfigOption = None,
    online: Annotated[bool, typer.Option("--online", help="Also try each credential and right.")] = False,
    form: Annotated[
        output.Format, typer.Option("--format", "-f", help="How to print it.")
    ] = output.Format.table,
) -> None:
    """Check the config: every mistake with its line, and what would be right.

    Example: leadledger check --online
    """
    loaded = read_config(config)
    if not online:
        output.line(f"{loaded.path.name} is right: {len(loaded.connectors)} connectors.")
        return
    rows: list[dict[str, Any]] = []
    with output.progress() as say, failures():
        for connector in loaded.connectors:
            say(f"trying {connector.name}")
            findings = _try(connector.name, loaded)
            rows += [
                {"connector": connector.name, "what": f.what, "ok": f.ok, "todo": logs.mask(f.hint)}
                for f in findings
            ]
    if form is output.Format.json:
        output.print_json(rows)
    elif form is output.Format.csv:
        output.print_csv(rows)
    else:
        cells = [[r["connector"], r["what"], "ok" if r["ok"] else "NO", r["todo"]] for r in rows]
        output.table("", ["connector", "what", "", "what to do"], cells)
    if not all(row["ok"] for row in rows):
        raise typer.Exit(Exit.failed)


def _try(name: str, config: Config) -> list[Finding]:
    """What the connector needs for all that the config uses it for: to be read from, to be written to."""
    connector = config.connector(name)
    is_read = connector.streams != ()
    is_written = any(rule.to == name for rule in config.push)
    found: dict[str, Finding] = {}
    with Connected(connector, config, config.zone) as connected:
        try:
            if connected.is_source and (is_read or not connected.is_destination):
                found |= {finding.what: finding for finding in connected.source().check()}
            if connected.is_destination and (is_written or not connected.is_source):
                for finding in connected.destination().check():
                    found.setdefault(finding.what, finding)
        except ConnectorError as error:
            found["connect"] = Finding("connect", False, str(error))
    return list(found.values())


def print_schema() -> None:
    """Print the JSON Schema of leadledger.yaml, for editors.

    Example: leadledger schema > leadledger.schema.json
    """
    typer.echo(text(), nl=False)


def list_connectors() -> None:
    """List the connector types that are installed, ours and others'."""
    found, broken = catalog.find()
    rows = [
        [
            c.type,
            "source" * bool(c.source)
            + " and " * bool(c.source and c.destination)
            + "destination" * bool(c.destination),
            ", ".join(s.name for s in c.streams) or "named by its options",
            c.description,
        ]
        for c in found.values()
    ]
    output.table("", ["type", "is a", "streams", ""], rows)
    for each in broken:
        output.complain(f"{each.name}: {each.why}")


@mapping_app.command("test")
def mapping_test(
    connector: Annotated[str, typer.Argument(help="A connector of the config.")],
    file: Annotated[Path, typer.Argument(help="One raw record as JSON, or a list of them.")],
    config: ConfigOption = None,
    stream: Annotated[str | None, typer.Option("--stream", help="Needed when it has several.")] = None,
    context: Annotated[str, typer.Option("--context", help="What stands around the record, as JSON.")] = "{}",
) -> None:
    """Print the canonical records that raw records become, or the field that is wrong.

    Example: leadledger mapping test shop order.json --stream orders
    """
    loaded = read_config(config)
    try:
        mapping = mapping_of(loaded.connector(connector))
    except KeyError as error:
        raise wrong(str(error.args[0])) from None
    name = _stream(mapping, stream)
    try:
        bodies = _bodies(file.read_bytes())
        around = msgspec.json.decode(context, type=dict[str, Any])
    except OSError as error:
        raise wrong(f"{file} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise wrong(f"not JSON: {error}") from None
    bad = 0
    for body in bodies:
        found = mapping.apply(name, body, around, phone_region=loaded.identity.phone_region, zone=loaded.zone)
        for problem in found.problems:
            output.complain(str(problem))
        bad += bool(found.problems)
        for kind, record, _ in found.records:
            output.print_json({"kind": kind, **msgspec.to_builtins(record)})
    if bad:
        raise typer.Exit(Exit.partial)


def _stream(mapping: Mapping, asked: str | None) -> str:
    names = list(mapping.streams)
    if asked in names:
        return str(asked)
    if asked is None and len(names) == 1:
        return names[0]
    raise wrong(f"say which stream: --stream {' | '.join(names)}")


def _bodies(body: bytes) -> list[bytes]:
    if body.lstrip()[:1] == b"[":
        return [bytes(item) for item in msgspec.json.decode(body, type=list[msgspec.Raw])]
    return [body]
