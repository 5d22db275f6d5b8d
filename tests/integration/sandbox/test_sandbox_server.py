"""The server itself: one port for all vendors, injected faults, a second process, and how it stops."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from connectors.sandbox import accounts
from connectors.sandbox.server import Server
from connectors.sandbox.state import Doc, Fault, State

MAILCHIMP = ("any", accounts.MAILCHIMP_KEY)
SERVE = """
import sys
from pathlib import Path
from connectors.sandbox.server import serve
serve(Path(sys.argv[1]), port=int(sys.argv[2]))
print("returned")
"""


def test_an_injected_fault_comes_as_often_as_it_was_asked_for(tmp_path: Path) -> None:
    with Server(tmp_path / "s.db") as server, httpx.Client(base_url=server.url, auth=MAILCHIMP) as http:
        # From outside the server, as another process would.
        State(tmp_path / "s.db").inject(
            Fault("mailchimp", r"/lists$", 429, {"Retry-After": "7"}, "<html>wait</html>", remaining=2)
        )
        ping = http.get("/mailchimp/3.0/ping")
        answers = [http.get("/mailchimp/3.0/lists") for _ in range(3)]
        other = http.get("/hubspot/crm/v3/objects/contacts/lists")

    assert ping.status_code == 200
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert (answers[0].headers["Retry-After"], answers[0].text) == ("7", "<html>wait</html>")
    assert other.status_code == 401


def test_what_another_process_writes_is_served(tmp_path: Path) -> None:
    with Server(tmp_path / "s.db") as server, httpx.Client(base_url=server.url, auth=MAILCHIMP) as http:
        before = http.get("/mailchimp/3.0/lists").json()["total_items"]
        code = (
            "import sys; from pathlib import Path; from connectors.sandbox.state import Doc, State;"
            " State(Path(sys.argv[1])).put('mailchimp', 'list', [Doc('abc', {'id': 'abc'}, 1.0, 1.0)])"
        )
        subprocess.run([sys.executable, "-c", code, tmp_path / "s.db"], check=True)
        after = http.get("/mailchimp/3.0/lists").json()["total_items"]

    assert (before, after) == (0, 1)


def test_every_vendor_is_there_and_nothing_else(tmp_path: Path) -> None:
    paths = {
        "/woocommerce/wp-json/wc/v3/orders": 401,
        "/meta/v25.0/me/accounts": 400,
        "/mailchimp/3.0/lists": 401,
        "/hubspot/crm/v3/owners": 401,
        "/shopify/admin": 404,
    }
    with Server(tmp_path / "s.db") as server:
        found = {path: httpx.get(server.url + path).status_code for path in paths}

    assert server.url.startswith("http://127.0.0.1:")
    assert found == paths


def test_what_the_crm_accepted_can_be_asked_for(tmp_path: Path) -> None:
    state = State(tmp_path / "s.db")
    state.put("hubspot", "contact", [_contact()])
    headers = {"Authorization": f"Bearer {accounts.HUBSPOT_TOKEN}"}
    with Server(tmp_path / "s.db") as server:
        url = f"{server.url}/hubspot/crm/v3/objects/contacts/7"
        good = httpx.patch(url, headers=headers, json={"properties": {"firstname": "Anna"}})
        bad = httpx.patch(url, headers=headers, json={"properties": {"no_such": "x"}})

    assert (good.status_code, bad.status_code) == (200, 400)
    assert [id for id, _ in state.writes("hubspot")] == ["7"]
    assert "Anna" in str(state.writes("hubspot")[0][1])


@pytest.mark.parametrize(
    ("number", "code", "printed"), [(signal.SIGTERM, 0, "returned\n"), (signal.SIGINT, -signal.SIGINT, "")]
)
def test_a_signal_stops_it(tmp_path: Path, number: signal.Signals, code: int, printed: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, tmp_path / "s.db", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
    )
    try:
        url = f"http://127.0.0.1:{port}/mailchimp/3.0/ping"
        _wait_for(url)
        assert httpx.get(url, auth=MAILCHIMP).status_code == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()

    assert (process.returncode, out) == (code, printed)
    assert err == "" or number is signal.SIGINT


def test_a_taken_port_is_an_error(tmp_path: Path) -> None:
    with Server(tmp_path / "s.db") as server, pytest.raises(OSError, match="in use"):
        Server(tmp_path / "other.db", port=server.port)


def _contact() -> Doc:
    properties = {"email": "a@example.com", "firstname": "A", "lifecyclestage": "lead"}
    return Doc("7", {"properties": properties, "history": {}, "archived": False}, at=1.0, changed=1.0)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the server did not answer")
