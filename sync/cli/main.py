"""The command `leadledger`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from sync import logs
from sync.cli import bench, export, ledger, look, operate, quarantine, reports, sandbox, setup
from sync.process import ProcessSettings

app = typer.Typer(
    name="leadledger",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Links each sale to its originating campaign, keeps the books, tells the CRM.",
    epilog="Start with: [bold]leadledger demo[/bold], or [bold]leadledger init[/bold] for your own shop. "
    "Exit codes: 0 done, 1 some records set aside or refused, 2 config, 3 a connector failed, 4 busy, "
    "5 verify or reconcile found something wrong.",
)
for part in (setup, operate, look, sandbox, bench):
    part.register(app)
app.add_typer(reports.app, name="report")
app.add_typer(export.app, name="export")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(ledger.app, name="ledger")
app.add_typer(setup.mapping_app, name="mapping")
app.add_typer(sandbox.app, name="sandbox")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"leadledger {version('leadledger')}")
        raise typer.Exit


@app.callback()
def _start(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    settings = ProcessSettings()
    logs.configure(form=settings.log_format, level=settings.log_level)


def main() -> None:
    """The entry point; what is not expected to fail ends with a trace without local values."""
    app()


if __name__ == "__main__":
    main()
