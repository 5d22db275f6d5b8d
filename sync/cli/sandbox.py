"""Commands that try things out: demo, sandbox, sandbox change."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from connectors.sandbox.change import change as change_sandbox
from connectors.sandbox.server import HOST, serve
from sync.cli import demo as demos
from sync.cli import output
from sync.cli.runtime import ConfigOption, Exit, config_path, failures, wrong

app = typer.Typer(help="The vendors on loopback, in their own wire format, as the demo left them.")


def register(main: typer.Typer) -> None:
    main.command("demo", rich_help_panel="Try")(demo)


def demo(
    data: Annotated[
        Path | None, typer.Option("--data", help="The Olist CSV files; none: a generated shop.")
    ] = None,
    folder: Annotated[
        Path, typer.Option("--dir", help="Where it lives; a repeated run starts afresh.")
    ] = Path("leadledger-demo"),
    port: Annotated[int, typer.Option("--port", help="The sandbox's port on loopback.")] = demos.PORT,
    seed: Annotated[int, typer.Option("--seed", help="Of what is simulated.")] = 1,
    form: Annotated[
        output.Format, typer.Option("--format", "-f", help="table or json.")
    ] = output.Format.table,
) -> None:
    """Run the whole job on a sandbox: pull, match, attribute, book, push, verify, report.

    Examples: leadledger demo   |   leadledger demo --data tests/data/olist --dir /tmp/olist
    """
    try:
        with failures():
            good = demos.run(folder=folder, data=data, port=port, seed=seed, form=form)
    except demos.DemoError as error:
        raise wrong(str(error)) from None
    if not good:
        raise typer.Exit(Exit.unproven)


@app.callback(invoke_without_command=True)
def sandbox(context: typer.Context, config: ConfigOption = None) -> None:
    """Serve the sandbox's vendors at the addresses in the demo's config, until stopped.

    Example (in the demo's folder): leadledger sandbox
    """
    if context.invoked_subcommand is not None:
        return
    state, port = _state(config)
    output.note(f"WooCommerce, Meta, Mailchimp and HubSpot at http://{HOST}:{port}; Ctrl-C stops them.")
    try:
        serve(state, port=port)
    except OSError as error:
        raise wrong(
            f"Port {port} cannot be used: {error.strerror}. Is the sandbox being served already?"
        ) from None
    except KeyboardInterrupt:
        output.note("down")


@app.command()
def change(
    config: ConfigOption = None,
    seed: Annotated[int | None, typer.Option("--seed", help="For the same changes again.")] = None,
) -> None:
    """Make things happen at the vendors: orders, edits, refunds, leads. The next sync brings exactly those.

    Example (in the demo's folder): leadledger sandbox change && leadledger sync
    """
    state, _ = _state(config)
    now = datetime.now(UTC).replace(microsecond=0)
    for line in change_sandbox(state, leads_csv=state.parent / demos.LEADS_CSV, seed=seed, now=now):
        output.line(line)


def _state(config: Path | None) -> tuple[Path, int]:
    folder = config_path(config).absolute().parent / demos.SANDBOX
    state = folder / demos.STATE
    if not state.exists():
        raise wrong(f"There is no sandbox beside {config_path(config)}. Make one: leadledger demo")
    return state, int((folder / demos.PORT_FILE).read_text())
