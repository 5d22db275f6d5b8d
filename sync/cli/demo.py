"""The demo: the main job from empty, on the sandbox's vendors, with a report that a manager can read."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import sqlalchemy as sa

from connectors.sandbox import accounts
from connectors.sandbox.generated import generate
from connectors.sandbox.olist import load_olist
from connectors.sandbox.server import HOST, START_WITHIN_S, listen
from sync import logs, process, work
from sync.cli import closing as closes
from sync.cli import look, output, reports
from sync.config import Config, load
from sync.ledger.verify import Check
from sync.report import campaigns as campaign_report
from sync.report import funnel as funnel_report
from sync.report import period
from sync.report.period import EVER
from sync.store.embedded import Embedded
from sync.store.tables import credits, entries, journeys
from sync.workspace import Opened, Workspace

PORT = 8787
STOP_WITHIN_S = 10.0
SANDBOX = "sandbox"
STATE = "state.sqlite"
PORT_FILE = "port"
LEADS_CSV = "web_leads.csv"
MARKER = ".leadledger-demo"
TOP = 15
CLOSED = "2018-03"  # a month amid the real data
OLIST_FILE = "olist_marketing_qualified_leads_dataset.csv"


class DemoError(Exception):
    """The demo cannot begin; the message says why and what to do."""


def run(*, folder: Path, data: Path | None, port: int, seed: int, form: output.Format) -> bool:
    """Make the folder afresh, run the job, print the report; returns whether everything was right."""
    if data is not None and not (data / OLIST_FILE).exists():
        raise DemoError(f"{data} does not hold the Olist files ({OLIST_FILE} is missing).")
    folder = folder.absolute()
    began = time.monotonic()
    with output.progress() as say:
        say("making the folder afresh")
        _afresh(folder)
        state = folder / SANDBOX / STATE
        leads_csv = folder / SANDBOX / LEADS_CSV
        if data is not None:
            load_olist(data, state, leads_csv=leads_csv, seed=seed, progress=say)
        else:
            generate(state, leads_csv=leads_csv, seed=seed, today=datetime.now(UTC), progress=say)
        with _serving(state, port) as served:
            config = write_config(folder, served, olist=data is not None)
            with Opened(config, say=say) as workspace:
                logs.hide(workspace.secrets)
                workspace.say = say
                summary = work.sync(workspace, [c.name for c in config.connectors])
                checks = look.run_checks(workspace, offline=False)
                found = _read(workspace)
                order = _example(workspace)
                closed = _close(workspace) if data is not None else ""
    seconds = time.monotonic() - began
    failed = [f"{run.connector}: {what}" for run in summary.runs for what, _ in run.errors]
    if form is output.Format.json:
        output.print_json(
            found | {"verified": all(c.ok for c in checks), "errors": failed, "seconds": round(seconds)}
        )
    else:
        _print(found, checks, config, olist=data is not None)
        if closed:
            output.line(closed)
        _next(folder, order, seconds)
    for what in failed:
        output.complain(logs.mask(what))
    return not failed and all(check.ok for check in checks)


@contextmanager
def _serving(state: Path, port: int) -> Iterator[int]:
    """The sandbox in a process of its own; gives its port, and ends it in any case."""
    try:
        with closing(listen(HOST, port)) as probe:
            free: int = probe.getsockname()[1]
    except OSError as error:
        raise DemoError(
            f"Port {port} cannot be used ({error.strerror}): choose another with --port, or 0 for any."
        ) from None
    command = [sys.executable, "-m", "connectors.sandbox", str(state), str(free)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            _wait_for(free, process)
            yield free
        finally:
            process.terminate()
            process.wait(STOP_WITHIN_S)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise DemoError(f"The sandbox did not start on port {port}.")


def _afresh(folder: Path) -> None:
    """An empty folder of ours. One that holds other things is refused, never emptied."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            raise DemoError(f"{folder} holds other things: choose another folder with --dir.")
        Embedded(folder / "data").remove()
        shutil.rmtree(folder)
    (folder / SANDBOX).mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text("Made by `leadledger demo`; a repeated run starts afresh.\n")


def write_config(folder: Path, port: int, *, olist: bool) -> Config:
    secrets = folder / "secrets"
    secrets.mkdir(mode=0o700)
    for name, value in (
        ("woocommerce_key", accounts.WOO_KEY),
        ("woocommerce_secret", accounts.WOO_SECRET),
        ("meta_token", accounts.META_TOKEN),
        ("mailchimp_key", accounts.MAILCHIMP_KEY),
        ("hubspot_token", accounts.HUBSPOT_TOKEN),
    ):
        _private(secrets / name, value)
    (folder / SANDBOX / PORT_FILE).write_text(str(port))
    template = Template(files("sync.cli").joinpath("demo.yaml").read_text("utf-8"))
    values = {
        "url": f"http://{HOST}:{port}",
        "account": accounts.META_ACCOUNT,
        "app": accounts.HUBSPOT_APP_ID,
        **(OLIST if olist else GENERATED),
    }
    path = folder / "leadledger.yaml"
    # The config has ${file:…} of its own; only the names of `values` are filled in.
    path.write_text(template.safe_substitute(values), "utf-8")
    return load(path)


OLIST = {
    "name": "Olist demo",
    "note": "the spend is simulated",
    "timezone": "America/Sao_Paulo",
    "currency": "BRL",
    "since": "2016-01-01",
    "region": "BR",
    "lookback": "365",
}
GENERATED = {
    "name": "Generated shop",
    "note": "all of it is simulated",
    "timezone": "Europe/Warsaw",
    "currency": "PLN",
    "since": "2016-01-01",
    "region": "PL",
    "lookback": "90",
}


def _private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _read(workspace: Workspace) -> dict[str, Any]:
    with workspace.engine.connect() as connection:
        return {
            "funnel": funnel_report.funnel(connection, EVER, workspace.zone),
            "campaigns": campaign_report.campaigns(connection, EVER, workspace.zone, workspace.rules.currency)
            | {"note": workspace.config.workspace.note},
        }


def _close(workspace: Workspace) -> str:
    """Close a month of the real data, reconciled with the shop; says what came of it."""
    month = period.parse(CLOSED)
    found, body = closes.close_period(workspace, month, name=CLOSED, why="the demo", author=process.user())
    if found:
        return f"{CLOSED} was not closed: {found[0].what}"
    orders = sum(len(result["differences"]) for result in body["reconciled"].values())
    return f"{closes.said(month, body)} Orders that differ from the shop's: {orders}."


def _example(workspace: Workspace) -> str:
    """A credited order of a person that went through the whole funnel: the first one by the journal."""
    statement = (
        sa.select(credits.c.connector, credits.c.order_id)
        .join(
            entries,
            sa.and_(
                entries.c.connector == credits.c.connector,
                entries.c.subject == sa.literal("order:") + credits.c.order_id,
            ),
        )
        .where(credits.c.campaign.is_not(None), sa.exists(sa.select(journeys.c.person_id)))
        .order_by(entries.c.id)
        .limit(1)
    )
    with workspace.engine.connect() as connection:
        row = connection.execute(statement).first()
    return f"{row.connector}:{row.order_id}" if row else ""


def _print(found: dict[str, Any], checks: list[Check], config: Config, *, olist: bool) -> None:
    output.heading(f"{config.workspace.name}: what the leads brought")
    if olist:
        output.line(
            "Leads, deals and orders are real (Olist, CC BY-NC-SA 4.0). Simulated are: the ad spend, the e-mail "
            "addresses, and the four vendors, which a sandbox on this machine plays."
        )
    else:
        output.line("Everything here is simulated: shop, people, campaigns and spend, made from a seed.")
    reports.print_funnel(found["funnel"])
    language = config.workspace.language
    reports.print_campaigns(found["campaigns"], language=language, top=TOP)
    output.heading("Verified")
    look.print_checks(checks)


def _next(folder: Path, order: str, seconds: float) -> None:
    try:
        shown = folder.relative_to(Path.cwd())
    except ValueError:
        shown = folder
    command = _command()
    output.line(f"Done in {seconds:.0f} s. Worth trying next:")
    output.line(f"  cd {shown}")
    output.line(f"  {command} explain {order}")
    output.line(f"  {command} sandbox        # in another terminal: serves the vendors again, then")
    output.line(f"  {command} sandbox change && {command} sync")


def _command() -> str:
    """How this command is called from anywhere: by its name where the shell finds it, else by its path."""
    here = Path(sys.argv[0])
    found = shutil.which("leadledger")
    if found is not None and here.exists() and Path(found).samefile(here):
        return "leadledger"
    return str(here.absolute()) if here.name == "leadledger" else "leadledger"
