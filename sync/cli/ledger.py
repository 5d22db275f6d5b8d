"""The commands of the books: leadledger ledger …"""

from __future__ import annotations

import typer

from sync.cli import closing, proving

app = typer.Typer(no_args_is_help=True, help="The books: close periods, restate, adjust, prove.")
closing.register(app)
proving.register(app)
