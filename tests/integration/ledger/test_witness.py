"""Witnesses: each gets the newest head once, over real files, git, SMTP and HTTP; one that fails is told."""

from __future__ import annotations

import hashlib
import hmac
import socketserver
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_string
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pydantic
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy.engine import Engine

from sync.config_ledger import Witness as Declared
from sync.ledger import heads, keys, s3, seal, witness
from sync.ledger.witness_error import WitnessError
from tests.integration.ledger.test_tree import KEY, NOW, book


@pytest.fixture
def signed(engine: Engine) -> heads.Signed:
    return more(engine)


def more(engine: Engine) -> heads.Signed:
    """The head over one more entry."""
    with engine.begin() as connection:
        book(connection, 1)
        found = seal.seal(connection, KEY, now=NOW)
    assert found is not None
    return found


def made(folder: Path, **declared: object) -> witness.Witness:
    return witness.of(Declared.model_validate(declared), folder=folder, books="My shop")


# file


def test_a_file_gets_each_head_once(engine: Engine, signed: heads.Signed, tmp_path: Path) -> None:
    kept = made(tmp_path, file="heads.jsonl")
    assert witness.copy(engine, signed, [kept]) == []
    assert witness.copy(engine, signed, [kept]) == []
    second = more(engine)
    assert witness.copy(engine, second, [kept]) == []
    assert witness.copy(engine, signed, [kept]) == [], "an older head does not follow a newer one"
    assert [each.signed for each in witness.read(tmp_path / "heads.jsonl")] == [signed, second]


def test_a_line_that_a_crash_tore_stays_apart(signed: heads.Signed, tmp_path: Path) -> None:
    path = tmp_path / "heads.jsonl"
    path.write_text(signed.line()[:40])
    witness.append(path, signed.line())
    witness.append(path, signed.line())
    torn, whole = witness.read(path)
    assert torn.signed is None
    assert whole.signed == signed
    assert whole.where == f"{path}, line 2"


def test_what_fails_is_told_and_tried_again(engine: Engine, signed: heads.Signed, tmp_path: Path) -> None:
    kept = [made(tmp_path, file="gone/heads.jsonl"), made(tmp_path, file="here.jsonl")]
    [problem] = witness.copy(engine, signed, kept)
    assert problem.startswith(
        f"Head 1 was not copied to file:gone/heads.jsonl: {tmp_path}/gone/heads.jsonl cannot"
    )
    assert "make it writable. The next sync tries again." in problem
    assert (tmp_path / "here.jsonl").read_text() == f"{signed.line()}\n", "the others get it"
    (tmp_path / "gone").mkdir()
    assert witness.copy(engine, signed, kept) == []
    assert (tmp_path / "gone" / "heads.jsonl").read_text() == f"{signed.line()}\n"


def test_two_processes_copy_once(engine: Engine, signed: heads.Signed, tmp_path: Path) -> None:
    kept = made(tmp_path, file="heads.jsonl")
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: witness.copy(engine, signed, [kept]), range(4))) == [[]] * 4
    assert len(witness.read(tmp_path / "heads.jsonl")) == 1


# git


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = tmp_path / "heads"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    return folder


def test_git_gets_a_commit_for_each_head(engine: Engine, signed: heads.Signed, repository: Path) -> None:
    (repository / "other").write_text("not ours")
    git(repository, "add", "other")
    kept = made(repository.parent, git="heads")
    assert witness.copy(engine, signed, [kept]) == []
    assert witness.copy(engine, more(engine), [kept]) == []
    log = git(repository, "log", "--format=%s %an").splitlines()
    assert [line.partition(",")[0] for line in log] == ["Head 2: 2 entries", "Head 1: 1 entries"]
    assert log[0].endswith(" leadledger")
    assert git(repository, "show", "--stat", "--format=", "HEAD").strip().startswith("heads.jsonl | 1 +")
    assert git(repository, "status", "--porcelain") == "A  other\n", "what others staged is left alone"
    assert kept.path == repository / "heads.jsonl"


def test_git_that_was_interrupted_before_its_commit(
    engine: Engine, signed: heads.Signed, repository: Path
) -> None:
    witness.append(repository / "heads.jsonl", signed.line())
    assert witness.copy(engine, signed, [made(repository.parent, git="heads")]) == []
    assert git(repository, "show", "HEAD:heads.jsonl") == f"{signed.line()}\n"


def test_git_pushes(engine: Engine, signed: heads.Signed, repository: Path) -> None:
    far = repository.parent / "far.git"
    kept = made(repository.parent, git="heads", push=True)
    [problem] = witness.copy(engine, signed, [kept])
    assert "git push failed" in problem
    git(repository, "init", "--quiet", "--bare", str(far))
    git(repository, "remote", "add", "origin", str(far))
    git(repository, "config", "push.autoSetupRemote", "true")
    assert witness.copy(engine, signed, [kept]) == []
    assert git(far, "show", "main:heads.jsonl") == f"{signed.line()}\n"


def test_git_without_a_repository(engine: Engine, signed: heads.Signed, tmp_path: Path) -> None:
    [problem] = witness.copy(engine, signed, [made(tmp_path, git="nothing")])
    assert f"{tmp_path}/nothing is no git repository; git init {tmp_path}/nothing" in problem


# e-mail


class Post(socketserver.StreamRequestHandler):
    """A mail server on loopback, as far as one message needs it (RFC 5321)."""

    taken: list[tuple[str, list[str], str]] = []
    refuses = b""

    def handle(self) -> None:
        sender, to = "", []
        self.wfile.write(b"220 loopback\r\n")
        while line := self.rfile.readline():
            verb, said = line[:4].upper(), line.decode().strip()
            if self.refuses and verb == self.refuses:
                self.wfile.write(b"550 no\r\n")
                continue
            if verb == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = iter(self.rfile.readline, b".\r\n")
                self.taken.append((sender, to, b"".join(lines).decode()))
            elif verb == b"MAIL":
                sender = said
            elif verb == b"RCPT":
                to.append(said)
            self.wfile.write(b"250 fine\r\n")


@contextmanager
def mail_server(*, refuses: bytes = b"") -> Iterator[tuple[str, list[tuple[str, list[str], str]]]]:
    handler = type("Handler", (Post,), {"taken": [], "refuses": refuses})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"smtp://127.0.0.1:{server.server_address[1]}", handler.taken
        server.shutdown()


MAIL = {"email": "auditor@audit.example", "from": "books@shop.example"}


def test_the_auditor_gets_a_mail(engine: Engine, signed: heads.Signed, tmp_path: Path) -> None:
    with mail_server() as (address, taken):
        assert witness.copy(engine, signed, [made(tmp_path, **MAIL, smtp=address)]) == []
        [(sender, to, text)] = taken
    assert "books@shop.example" in sender
    assert "auditor@audit.example" in to[0]
    message = message_from_string(text)
    assert message["subject"] == "Head 1 of the books My shop: 1 entries"
    words, attached = message.get_payload()
    assert signed.head.root.hex() in words.get_payload(decode=True).decode()
    assert attached.get_filename() == "head-00000001.jsonl"
    assert attached.get_payload(decode=True).decode() == f"{signed.line()}\n"


def test_mails_come_once_a_day(engine: Engine, signed: heads.Signed, tmp_path: Path) -> None:
    with mail_server() as (address, taken):
        kept = made(tmp_path, **MAIL, smtp=address)
        witness.copy(engine, signed, [kept])
        second = more(engine)
        assert witness.copy(engine, second, [kept]) == []
        assert len(taken) == 1
        assert witness.copy(engine, second, [made(tmp_path, **MAIL, smtp=address, every_hours=0)]) == []
        assert len(taken) == 2


@pytest.mark.parametrize(
    ("refuses", "said"), [(b"RCPT", "takes no mail for the address"), (b"DATA", "answers 550")]
)
def test_a_mail_server_that_refuses(
    engine: Engine, signed: heads.Signed, tmp_path: Path, refuses: bytes, said: str
) -> None:
    with mail_server(refuses=refuses) as (address, _):
        [problem] = witness.copy(engine, signed, [made(tmp_path, **MAIL, smtp=address)])
    assert said in problem
    with mail_server() as (address, taken):
        assert witness.copy(engine, signed, [made(tmp_path, **MAIL, smtp=address)]) == []
        assert len(taken) == 1, "it is tried again"


def test_no_password_without_tls(signed: heads.Signed, tmp_path: Path) -> None:
    with mail_server() as (address, taken):
        kept = made(tmp_path, **MAIL, smtp=address, password=pydantic.SecretStr("hush"))
        with pytest.raises(WitnessError, match="no password is sent") as error:
            kept.keep(signed)
        assert taken == []
    assert "hush" not in repr(error.value)


def test_a_mail_server_that_is_not_there(signed: heads.Signed, tmp_path: Path) -> None:
    for scheme in ("smtp", "smtps"):
        with pytest.raises(WitnessError, match=r"127\.0\.0\.1 does not take mail"):
            made(tmp_path, **MAIL, smtp=f"{scheme}://127.0.0.1:1").keep(signed)
    assert ssl.create_default_context().verify_mode is ssl.CERT_REQUIRED


# S3


def test_the_signature_is_that_of_the_published_example() -> None:
    """The PUT of "Signature Calculations for the Authorization Header: Examples" in the S3 API reference."""
    found = s3.signed_headers(
        "PUT",
        "/test%24file.text",
        {
            "date": "Fri, 24 May 2013 00:00:00 GMT",
            "host": "examplebucket.s3.amazonaws.com",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
        },
        b"Welcome to Amazon S3.",
        s3.Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1"),
        now=datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert found["authorization"].endswith(
        "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )


class Store(BaseHTTPRequestHandler):
    """A bucket that takes what is signed with its key, and nothing else."""

    kept: dict[str, bytes] = {}
    secret = "a-secret"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        said = dict(part.split("=", 1) for part in self.headers["authorization"].split(" ", 1)[1].split(","))
        names = said["SignedHeaders"].split(";")
        digest = hashlib.sha256(body).hexdigest()
        lines = [f"{name}:{self.headers[name]}" for name in names]
        request = "\n".join(["PUT", self.path, "", *lines, "", ";".join(names), digest])
        scope = said["Credential"].split("/", 1)[1]
        text = "\n".join(
            [
                "AWS4-HMAC-SHA256",
                self.headers["x-amz-date"],
                scope,
                hashlib.sha256(request.encode()).hexdigest(),
            ]
        )
        key = b"AWS4" + self.secret.encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        if hmac.digest(key, text.encode(), "sha256").hex() != said["Signature"]:
            answer = b"<Error><Code>SignatureDoesNotMatch</Code><StringToSign>x</StringToSign></Error>"
            self.send_response(403)
        else:
            self.kept[self.path] = body
            answer = b""
            self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: the test says what went wrong."""


def test_a_bucket_gets_an_object_a_head(engine: Engine, signed: heads.Signed, tmp_path: Path) -> None:
    handler = type("Handler", (Store,), {"kept": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/bucket/my books/"

        def bucket(secret: str) -> witness.Witness:
            return made(
                tmp_path, s3=address, access_key="AKID", secret_key=pydantic.SecretStr(secret), region="eu-1"
            )

        [problem] = witness.copy(engine, signed, [bucket("another-secret")])
        assert "answers 403 SignatureDoesNotMatch" in problem
        assert "another-secret" not in problem
        assert witness.copy(engine, signed, [bucket("a-secret")]) == []
        server.shutdown()
    assert handler.kept == {"/bucket/my%20books/head-00000001.jsonl": f"{signed.line()}\n".encode()}
    [problem] = witness.copy(engine, more(engine), [bucket("a-secret")])
    assert "cannot be reached" in problem


# keys


def test_a_key_is_made_once_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / keys.FILE
    assert keys.read(path) is None
    with ThreadPoolExecutor(8) as pool:
        made_keys = list(pool.map(lambda _: heads.public_bytes(keys.read_or_make(path)), range(8)))
    assert len(set(made_keys)) == 1, "all that come at once use one key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == [keys.FILE]


def test_keys_are_read_in_both_forms() -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    raw = key.private_bytes_raw().hex()
    assert {heads.public_bytes(keys.parse(text)) for text in (pem, raw, f" {raw}\n")} == {
        heads.public_bytes(key)
    }


@pytest.mark.parametrize(
    "text", ["", "xyz", "00" * 31, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
)
def test_what_is_no_key_is_told_and_not_shown(text: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    with pytest.raises(keys.KeyProblem, match="neither an Ed25519 key in PEM nor 32 bytes in hex") as error:
        keys.read(path)
    assert not text or text not in str(error.value)


def test_copies_are_told_by_head(engine: Engine, signed: heads.Signed, tmp_path: Path) -> None:
    witness.copy(engine, signed, [made(tmp_path, file="a.jsonl"), made(tmp_path, file="b.jsonl")])
    with engine.connect() as connection:
        assert seal.read_copies(connection, [1, 2]) == {1: ["file:a.jsonl", "file:b.jsonl"]}
        at = connection.execute(sa.text("SELECT max(copied_at) FROM seal_copies")).scalar()
    assert at is not None
    assert datetime.now(UTC) - at < timedelta(minutes=5)
