"""Serves the sandbox's vendors on one loopback port, each under its own prefix."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from connectors.sandbox import hubspot, mailchimp, meta_ads, rates, woocommerce
from connectors.sandbox.state import State

HOST = "127.0.0.1"
START_WITHIN_S = 10.0


class Faulty:
    """Gives an injected answer, while there is one for the vendor and path, before the vendor's own."""

    def __init__(self, app: ASGIApp, state: State, vendor: str) -> None:
        self.app, self.state, self.vendor = app, state, vendor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = Request(scope).url.path
            for number, fault in self.state.faults(self.vendor):
                if re.search(fault.path, path):
                    self.state.use_fault(number)
                    answer = Response(fault.body, fault.status, fault.headers)
                    await answer(scope, receive, send)
                    return
        await self.app(scope, receive, send)


def application(state: State) -> Starlette:
    """All vendors over one state: /woocommerce, /meta, /mailchimp, /hubspot, /nbp, /ecb."""
    vendors = {
        "woocommerce": woocommerce.app(state),
        "meta": meta_ads.app(state),
        "mailchimp": mailchimp.app(state),
        "hubspot": hubspot.app(state),
        "nbp": rates.nbp(state),
        "ecb": rates.ecb(state),
    }
    return Starlette(routes=[Mount(f"/{name}", Faulty(app, state, name)) for name, app in vendors.items()])


def _config(state: State) -> uvicorn.Config:
    return uvicorn.Config(application(state), log_level="error", lifespan="off", timeout_keep_alive=30)


def listen(host: str, port: int) -> socket.socket:
    # Without the protocol number asyncio does not set TCP_NODELAY, and each answer waits for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def serve(state: Path, *, port: int, host: str = HOST) -> None:
    """Serve until SIGTERM, then return. Raises KeyboardInterrupt after SIGINT, OSError when the port is taken."""
    with listen(host, port) as listener:
        # uvicorn stops on a signal and then sends it again to whoever handled it before: the process would die.
        signal.signal(signal.SIGTERM, _stopped_already)
        uvicorn.Server(_config(State(state))).run(sockets=[listener])


def _stopped_already(number: int, frame: FrameType | None) -> None:
    """Serving has ended; the process may go on to its own end."""


class Server:
    """The sandbox in a thread of this process: a context manager with `url`. Port 0 takes a free one."""

    def __init__(self, state: Path, *, port: int = 0) -> None:
        self.state = State(state)
        self._listener = listen(HOST, port)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://{HOST}:{self.port}"
        self._server = uvicorn.Server(_config(self.state))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True, name="sandbox"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + START_WITHIN_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the sandbox did not start; is its port taken?")
            threading.Event().wait(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(START_WITHIN_S)
        self._listener.close()
