"""A key is shown only to whom the certificate names: real TLS on loopback, with certificates of the test's own."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from connectors.errors import ConnectorError
from connectors.http import Http, HttpSettings

KEY = "key-that-nobody-else-sees"
DAY = timedelta(days=1)


def certificate(folder: Path, name: x509.GeneralName, *, until: timedelta = DAY) -> Path:
    """A certificate that signs itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vendor")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 3 * DAY)
        .not_valid_after(now + until)
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "certificate.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


LOOPBACK = x509.IPAddress(ip_address("127.0.0.1"))
Serve = Callable[[Path], str]


@pytest.fixture
def shown() -> list[str]:
    """The keys that came to the server."""
    return []


@pytest.fixture
def serve(shown: list[str]) -> Iterator[Serve]:
    servers: list[ThreadingHTTPServer] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers["Authorization"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    def start(path: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return f"https://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(url: str) -> None:
    settings = HttpSettings(base_url=url, headers={"authorization": KEY}, retries=0, secrets=(KEY,))
    with Http(settings) as client:
        client.get("/x")


def assert_refused(url: str, shown: list[str]) -> None:
    with pytest.raises(ConnectorError) as caught:
        ask(url)
    assert caught.value.kind == "config"
    assert "shows a certificate that does not hold" in caught.value.message
    assert caught.value.hint == "Renew it, or correct the address."
    assert shown == []


def test_a_certificate_that_nobody_vouches_for_is_refused(
    serve: Serve, shown: list[str], tmp_path: Path
) -> None:
    assert_refused(serve(certificate(tmp_path, LOOPBACK)), shown)


@pytest.mark.parametrize(
    ("name", "until"), [(x509.DNSName("other.example"), DAY), (LOOPBACK, -DAY)], ids=["other name", "expired"]
)
def test_a_certificate_that_is_vouched_for_holds_for_its_name_and_time_only(
    serve: Serve,
    shown: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: x509.GeneralName,
    until: timedelta,
) -> None:
    path = certificate(tmp_path, name, until=until)
    trust(path, monkeypatch)
    assert_refused(serve(path), shown)


def test_a_certificate_that_holds_is_taken(
    serve: Serve, shown: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certificate(tmp_path, LOOPBACK)
    trust(path, monkeypatch)
    ask(serve(path))
    assert shown == [KEY]


def trust(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process take the certificate for one that is vouched for."""
    whole = ssl.create_default_context

    def create(*arguments: object, **named: object) -> ssl.SSLContext:
        context = whole()
        context.load_verify_locations(path)
        return context

    monkeypatch.setattr(ssl, "create_default_context", create)
