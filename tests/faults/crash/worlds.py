"""Two worlds that are alike to the byte: vendors, config and database. One is disturbed, the other is not."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql

from connectors.sandbox.change import change
from connectors.sandbox.generated import generate
from connectors.sandbox.server import Server
from sync.cli import demo

AS_OF = datetime(2025, 6, 1, 12, tzinfo=UTC)
SINCE = "2024-06-01"
PEOPLE = 60
OURS = ("leadledger_", "lifecyclestage")

# Times of our own (when something was fetched, sent or booked) are not part of it, nor what depends on how the
# work fell into batches: the numbers of entries and evidence, and entries that cancel each other out.
DUMP = {
    "balances": """
        SELECT p.account, e.currency, sum(p.amount_minor)::bigint FROM entries e
          JOIN postings p ON p.entry_id = e.id
         GROUP BY 1, 2 HAVING sum(p.amount_minor) <> 0 ORDER BY 1, 2""",
    "subjects": """
        SELECT e.connector, e.subject, e.part, e.currency, e.business_day::text, p.account,
               sum(p.amount_minor)::bigint
          FROM entries e JOIN postings p ON p.entry_id = e.id
         GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(p.amount_minor) <> 0 ORDER BY 1, 2, 3, 4, 5, 6""",
    "entries in force": "SELECT count(*) - 2 * count(reverses) FROM entries",
    "attributions": "SELECT * FROM attributions ORDER BY connector, order_id",
    "credits": "SELECT * FROM credits ORDER BY connector, order_id, line",
    "journeys": "SELECT to_jsonb(j) FROM journeys j ORDER BY person_id",
    "stages": "SELECT to_jsonb(s) FROM stage_events s ORDER BY person_id, seq",
    # The ids of stage changes hold the CRM's time of the change, which for our own writes is that of the test.
    "members": """
        SELECT * FROM members WHERE kind <> 'stage_change' ORDER BY kind, connector, external_id""",
    "outbox": """
        SELECT destination, person_id, email, remote_id, desired, accepted, status FROM outbox ORDER BY 1, 2""",
    "heads": """
        SELECT connector, stream, external_id, encode(digest, 'hex'), deleted FROM heads
         WHERE connector <> 'crm' ORDER BY 1, 2, 3""",
    "heads of the CRM": """
        SELECT connector, stream, external_id, deleted FROM heads WHERE connector = 'crm' ORDER BY 1, 2, 3""",
    "pending": "SELECT step, kind, ref FROM pending",
    "quarantine": "SELECT connector, stream, external_id FROM quarantine ORDER BY 1, 2, 3",
    "runs under way": "SELECT count(*) FROM runs WHERE status IN ('queued', 'running')",
}


@dataclass
class World:
    """A workspace folder, the vendors behind it and its database."""

    folder: Path
    vendors: Server
    url: str

    @property
    def config(self) -> Path:
        return self.folder / "leadledger.yaml"

    def change(self, *, seed: int, now: datetime) -> None:
        """Make things happen at the vendors."""
        sandbox = self.folder / demo.SANDBOX
        change(sandbox / demo.STATE, leads_csv=sandbox / demo.LEADS_CSV, seed=seed, now=now)

    def even_out(self, now: datetime) -> None:
        """Contacts that we made get one time of creation, whenever it was: a change takes the newest first."""
        docs, _ = self.vendors.state.select("hubspot", "contact")
        made = [d for d in docs if d.body["properties"].get("hs_object_source") == "INTEGRATION"]
        self.vendors.state.put("hubspot", "contact", [replace(doc, at=now.timestamp()) for doc in made])

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql.SQL(statement)).fetchall()  # type: ignore[arg-type]

    def dump(self) -> dict[str, str]:
        return {
            name: "\n".join(json.dumps(row, sort_keys=True, default=str) for row in self.ask(statement))
            for name, statement in DUMP.items()
        }

    def contacts(self) -> dict[str, dict[str, str]]:
        """What the CRM holds of our fields, by e-mail address."""
        docs, _ = self.vendors.state.select("hubspot", "contact")
        return {str(doc.body["properties"].get("email")): _ours(doc.body["properties"]) for doc in docs}

    def told(self) -> dict[str, list[dict[str, str]]]:
        """By contact of the CRM: the states that it was given one after another, each counted once however
        often it came in a row."""
        states: dict[str, list[dict[str, str]]] = {}
        for id, sent in self.vendors.state.writes("hubspot"):
            before = states.setdefault(id, [{}])
            before.append(before[-1] | _ours(sent))
        return {id: [state for state, _ in itertools.groupby(held)] for id, held in states.items()}


def _ours(properties: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in properties.items() if name.startswith(OURS)}


def furnish(folder: Path) -> None:
    """Give the folder a sandbox with a small generated shop."""
    sandbox = folder / demo.SANDBOX
    generate(sandbox / demo.STATE, leads_csv=sandbox / demo.LEADS_CSV, seed=1, people=PEOPLE, today=AS_OF)


def twin(folder: Path, other: Path) -> None:
    """Give the folder the sandbox of the other, to which nobody has written yet."""
    shutil.copytree(other / demo.SANDBOX, folder / demo.SANDBOX)


@contextmanager
def opened(folder: Path, url: str, *, database: str) -> Iterator[World]:
    """Serve the folder's vendors and write a config over them; `database` is what it names, `url` where it is."""
    with Server(folder / demo.SANDBOX / demo.STATE) as vendors:
        path = demo.write_config(folder, vendors.port, olist=False).path
        text = path.read_text().replace("database: embedded", f'database: "{database}"')
        # Years in which nothing happened would make most of the time, and of the moments to be killed at.
        path.write_text(text.replace("from: 2016-01-01", f"from: {SINCE}"))
        yield World(folder, vendors, url)


@contextmanager
def own_database(postgres: str, name: str) -> Iterator[str]:
    """A migrated database of its own on a server that is shared; gives its URL."""
    address = sa.make_url(postgres)
    admin = address.set(database="postgres").render_as_string(hide_password=False)
    with psycopg.connect(admin, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE leadledger").format(sql.Identifier(name)))
    try:
        yield address.set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(admin, autocommit=True) as server:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
