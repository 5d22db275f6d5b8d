"""Push: contacts to a destination that takes 20 ms a call, outbox included; and under a rate limit.

The floor sends the same bodies with httpx, eight calls at once, and keeps no books of it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import httpx
import msgspec
import sqlalchemy as sa
import uvicorn
from sqlalchemy.engine import Engine
from starlette.applications import Starlette
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connectors.contract import Finding, Outcome, Request, Upsert
from connectors.http import Http, HttpSettings
from sync import runs
from sync.bench import measure
from sync.bench.place import Place
from sync.push import step

CONTACTS, BATCH, AT_ONCE, CALL_S = 50_000, 100, 8, 0.02
LIMIT = 40.0
"""Calls a second in the part with a limit."""
NAME = "crm"
FIELDS = ("stage", "campaign", "revenue", "orders")
_OUTBOX = """
    INSERT INTO outbox (destination, person_id, email, remote_id, desired, status)
    SELECT 'crm', 'p_' || n, 'p' || n || '@bench.example', n::text,
           jsonb_build_object('stage', 'won', 'campaign', 'c' || n % 40, 'revenue', n % 900 || '.00',
                              'orders', '1'), 'pending'
      FROM generate_series(1::bigint, :contacts) AS n
"""


class Destination:
    """Writes batches of contacts, as a CRM's connector does (`connectors.contract.Destination`)."""

    batch_size = BATCH
    parallel = AT_ONCE

    def __init__(self, http: Http) -> None:
        self._http = http

    def preparation(self, fields: Sequence[str]) -> list[Request]:
        return []

    def prepare(self, fields: Sequence[str]) -> None:
        """There is nothing to make."""

    def plan(self, batch: Sequence[Upsert]) -> list[Request]:
        body = {"inputs": [{"id": item.remote_id, "properties": dict(item.fields)} for item in batch]}
        return [Request("POST", "/contacts", body, tuple(item.key for item in batch))]

    def write(self, batch: Sequence[Upsert]) -> list[Outcome]:
        [call] = self.plan(batch)
        answer = self._http.post(call.path, call.body).decode(dict)
        accepted = set(answer["accepted"])
        return [
            Outcome(item.key, "accepted" if item.remote_id in accepted else "refused", item.remote_id)
            for item in batch
        ]

    def check(self) -> list[Finding]:
        return []


def results(place: Place) -> Iterator[measure.Result]:
    contacts = place.size(CONTACTS)
    place.say(f"push {contacts:,} contacts")
    with serving() as address:
        yield measure.contest(
            f"push {contacts:,} contacts",
            goal=1.5,
            floor=lambda: measure.timed(lambda: _send_all(address, contacts)),
            ours=lambda: _push(place, address, contacts, per_second=None),
            rounds=place.rounds,
            against="httpx, 8 calls at once, no bookkeeping",
        )
        calls = -(-contacts // BATCH)
        # A burst of one, so that the first call goes at once and each other waits for its turn.
        least_s = (calls - 1) / LIMIT
        limited_s = _push(place, address, contacts, per_second=LIMIT)
        yield measure.compared(
            f"push {contacts:,} contacts at {LIMIT:.0f} calls a second (never below 1)",
            goal=1 / 0.9,
            whole_s=least_s,
            ours_s=limited_s,
            against="the time that the limit asks for",
        )


def _push(place: Place, address: str, contacts: int, *, per_second: float | None) -> float:
    settings = HttpSettings(address, per_second=per_second, parallel=AT_ONCE)
    with place.database() as engine, Http(settings) as http:
        with engine.begin() as connection:
            connection.execute(sa.text(_OUTBOX), {"contacts": contacts})
            connection.execute(sa.text("ANALYZE outbox"))
        with runs.begin(engine, connector=NAME, kind="push", stop=Event()) as run:
            seconds = measure.timed(
                lambda: step.send(engine, run, NAME, Destination(http), fields=FIELDS, say=lambda _: None)
            )
        _all_accepted(engine, contacts)
    return seconds


def _all_accepted(engine: Engine, contacts: int) -> None:
    with engine.connect() as connection:
        done = connection.execute(
            sa.text("SELECT count(*) FROM outbox WHERE status = 'acknowledged' AND accepted = desired")
        ).scalar_one()
    assert done == contacts, f"{done} of {contacts} contacts were accepted"


def _send_all(address: str, contacts: int) -> None:
    bodies = [
        msgspec.json.encode(
            {
                "inputs": [
                    {
                        "id": str(n),
                        "properties": {
                            "stage": "won",
                            "campaign": f"c{n % 40}",
                            "revenue": "9.00",
                            "orders": "1",
                        },
                    }
                    for n in range(first, min(first + BATCH, contacts))
                ]
            }
        )
        for first in range(0, contacts, BATCH)
    ]
    with httpx.Client(base_url=address) as client, ThreadPoolExecutor(AT_ONCE) as pool:
        for answer in pool.map(lambda body: client.post("/contacts", content=body), bodies):
            answer.raise_for_status()


async def _take(request: Asked) -> Response:
    ids = [item["id"] for item in msgspec.json.decode(await request.body())["inputs"]]
    await asyncio.sleep(CALL_S)
    return JSONResponse({"accepted": ids})


@contextmanager
def serving() -> Iterator[str]:
    """The address of the destination, in a process of its own."""
    command = [sys.executable, "-m", "sync.bench.pushing"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def main() -> None:
    app = Starlette(routes=[Route("/contacts", _take, methods=["POST"])])
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="off")
    socket = config.bind_socket()
    print(socket.getsockname()[1], flush=True)  # noqa: T201 - read by `serving`
    uvicorn.Server(config).run(sockets=[socket])


if __name__ == "__main__":
    main()
