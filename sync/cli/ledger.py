"""The commands of the books: leadledger ledger …"""

from __future__ import annotations

import typer

from sync.cli import bridge, closing, proving, reconcile

app = typer.Typer(
    no_args_is_help=True, help="The books: tie them to the shop, close periods, restate, adjust, prove."
)
for part in (reconcile, bridge, closing, proving):
    part.register(app)
