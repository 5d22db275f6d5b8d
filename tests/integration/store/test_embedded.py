"""The embedded server, for real: as the user who runs the tests and, when that is root, as another one."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from sync.store import embedded_cluster, embedded_place
from sync.store.embedded import Embedded, EmbeddedError

ROOT = Path(__file__).resolve().parents[3]
AS_ROOT = os.geteuid() == 0

PRELUDE = """
import os, sys, time
from pathlib import Path
import psycopg
from sync.store.embedded import Embedded, EmbeddedError
folder = Path(sys.argv[1])
def line():
    return sys.stdin.readline().strip()
def tell(*words):
    print(*words, flush=True)
def pid(url):
    with psycopg.connect(url) as c:
        return c.execute("SELECT pg_postmaster_start_time()::text").fetchone()[0]
"""


def _python_for(user: str) -> str | None:
    """A Python that `user` can run, with our packages (a private home may hide the tests' own)."""
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        script = "import sync.store.embedded, pydantic"
        try:
            done = subprocess.run(
                [python, "-c", script],
                check=False,
                env=_environment(),
                user=user,
                extra_groups=[],
                cwd="/",
                capture_output=True,
            )
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return None


def _environment(**more: str) -> dict[str, str]:
    packages = str(Path(psycopg.__file__).parents[1])
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join((str(ROOT), packages)),
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


@dataclass
class Someone:
    """Runs scripts as one OS user, in folders that are his."""

    user: str | None
    python: str
    home: Path

    def script(self, text: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.python, "-c", PRELUDE + text, str(folder)],
            env=_environment(TMPDIR="/tmp", **environment),
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **({"user": self.user, "extra_groups": []} if self.user else {}),
        )

    def run(self, text: str, folder: Path, **environment: str) -> str:
        out, err = self.script(text, folder, **environment).communicate(timeout=120)
        assert not err, err
        return out.strip()


BOTH = pytest.mark.parametrize("someone", ["self", "nobody"], indirect=True)


@pytest.fixture
def someone(request: pytest.FixtureRequest) -> Iterator[Someone]:
    """Ourselves; with BOTH, an ordinary user as well."""
    home = Path("/tmp", f"ll-{os.getpid()}-{time.monotonic_ns() % 10**9}")  # short, as sockets want it
    home.mkdir(mode=0o755)
    if getattr(request, "param", "self") == "self":
        yield Someone(None, sys.executable, home)
    else:
        python = _python_for("nobody") if AS_ROOT else None
        if python is None:
            home.rmdir()
            pytest.skip("only root can be somebody else, with a Python that everybody can run")
        os.chown(home, pwd.getpwnam("nobody").pw_uid, -1)
        yield Someone("nobody", python, home)
    for location in home.rglob("postgres.location"):
        shutil.rmtree(location.read_text().splitlines()[-1], ignore_errors=True)
    shutil.rmtree(home)


@pytest.fixture
def folder(someone: Someone) -> Path:
    return someone.home / "data"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A data folder for an `Embedded` inside this process, removed with its data."""
    yield tmp_path / "data"
    if (tmp_path / "data").exists():
        Embedded(tmp_path / "data").stop(force=True)
        Embedded(tmp_path / "data").remove()


def servers(home: Path) -> list[int]:
    """The living PostgreSQL processes that work in a data folder that belongs to `home`."""
    bases = [home, *(Path(f.read_text().splitlines()[-1]) for f in home.rglob("postgres.location"))]
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                cwd = (process / "cwd").readlink()
            except OSError:
                continue
            if any(cwd.is_relative_to(base) for base in bases):
                found.append(int(process.name))
    return found


def guards(home: Path) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if b"embedded_guard" in command and os.fsencode(home) in command:
                found.append(int(process.name))
    return found


def eventually(condition: object, *, within_s: float = 20.0) -> bool:
    end = time.monotonic() + within_s
    while not condition():  # type: ignore[operator]
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


@BOTH
def test_start_makes_a_private_database_with_a_fixed_order_and_stop_leaves_nothing(someone, folder):
    out = someone.run(
        """
e = Embedded(folder)
assert not e.running()
url = e.start()
assert e.running() and e.start() == url
with psycopg.connect(url) as c:
    one = lambda q: c.execute(q).fetchone()
    print(one("SELECT current_setting('server_version_num')::int / 10000, current_database(), current_user"))
    print(one("SELECT datcollate, datctype, pg_encoding_to_char(encoding) FROM pg_database"
              " WHERE datname = 'leadledger'"))
    names = "data_checksums", "listen_addresses", "timezone", "jit"
    print(*[one(f"SELECT current_setting('{name}')")[0] for name in names], sep="|")
    print(one("SELECT string_agg(type || ' ' || auth_method, ','), max(error) FROM pg_hba_file_rules"))
    print(one("SELECT max(error) FROM pg_ident_file_mappings"))
assert e.stop_if_unused() and not e.running()
""",
        folder,
    )
    assert out.splitlines() == [
        "(18, 'leadledger', 'leadledger')",
        "('C', 'C', 'UTF8')",
        "on||UTC|off",
        "('local peer', None)",
        "(None,)",
    ]
    assert servers(someone.home) == []
    assert eventually(lambda: not guards(someone.home), within_s=5)
    assert not list(
        Path("/tmp").glob(f"leadledger-*-{embedded_place.hashlib.sha256(b'').hexdigest()[:0]}nothing")
    )


def test_second_start_keeps_the_data(someone, folder):
    write = """
with Embedded(folder) as e:
    with psycopg.connect(e.start()) as c:
        c.execute("CREATE TABLE IF NOT EXISTS t (x text)")
        c.execute("INSERT INTO t VALUES ('zażółć')")
        print(c.execute("SELECT count(*), min(x) FROM t").fetchone())
"""
    assert someone.run(write, folder) == "(1, 'zażółć')"
    assert servers(someone.home) == []
    assert someone.run(write, folder) == "(2, 'zażółć')"


@BOTH
def test_two_processes_that_start_at_once_share_one_server_and_the_last_one_stops_it(someone, folder):
    text = "e = Embedded(folder); tell(pid(e.start())); line(); tell(e.stop_if_unused())"
    a, b = someone.script(text, folder), someone.script(text, folder)
    first, second = a.stdout.readline(), b.stdout.readline()
    assert first == second != ""
    assert a.communicate("\n", timeout=30) == ("False\n", "")
    assert servers(someone.home)
    assert b.communicate("\n", timeout=30) == ("True\n", "")
    assert servers(someone.home) == []


def test_stop_and_remove_refuse_while_another_uses_it_and_force_does_not(someone, folder):
    user = someone.script("e = Embedded(folder); tell(e.start()); line(); e.stop_if_unused()", folder)
    user.stdout.readline()
    text = """
for verb in (Embedded(folder).stop, Embedded(folder).remove):
    try:
        verb()
    except EmbeddedError as error:
        print(error.message)
e = Embedded(folder)
assert e.running()
e.stop(force=True)
assert not e.running()
"""
    assert someone.run(text, folder).count("Another leadledger uses") == 2
    user.communicate("\n", timeout=30)


def test_killed_user_does_not_keep_the_server_alive(someone, folder):
    text = "e = Embedded(folder); tell(e.start()); line()"
    killed, other = someone.script(text, folder), someone.script(text + "; tell(e.stop_if_unused())", folder)
    killed.stdout.readline()
    other.stdout.readline()
    killed.kill()
    killed.communicate()
    assert other.communicate("\n", timeout=30) == ("True\n", "")
    assert servers(someone.home) == []


@BOTH
def test_guard_stops_the_server_when_the_only_user_was_killed(someone, folder):
    killed = someone.script("e = Embedded(folder); tell(e.start()); line()", folder)
    killed.stdout.readline()
    assert len(guards(someone.home)) == 1
    killed.kill()
    killed.communicate()
    assert eventually(lambda: not servers(someone.home) and not guards(someone.home))
    assert someone.run("e = Embedded(folder); e.start(); print(e.stop_if_unused())", folder) == "True"


def test_guard_stays_on_watch_through_restarts_and_remove(someone, folder):
    out = someone.run(
        """
e = Embedded(folder)
for _ in range(3):
    e.start(); e.stop_if_unused()
e.start(); e.remove()
e.start(); time.sleep(2.5)
tell("up"); os.kill(os.getpid(), 9)
""",
        folder,
    )
    assert out == "up"
    assert eventually(lambda: not servers(someone.home) and not guards(someone.home))


def test_starter_killed_while_the_server_starts_leaves_no_server(someone, folder):
    someone.run("Embedded(folder).start()", folder)
    starter = someone.script("tell('go'); Embedded(folder).start(); line()", folder)
    starter.stdout.readline()
    assert eventually(lambda: bool(servers(someone.home)))
    starter.kill()
    starter.communicate()
    assert eventually(lambda: not servers(someone.home) and not guards(someone.home))


def test_interrupt_of_the_foreground_does_not_reach_the_server(someone, folder):
    process = someone.script(
        """
e = Embedded(folder)
url = e.start()
with psycopg.connect(url) as c:
    try:
        tell("in a transaction"); time.sleep(30)
    except KeyboardInterrupt:
        c.execute("CREATE TABLE survived ()")
print(e.stop_if_unused())
""",
        folder,
    )
    process.stdout.readline()
    for pid in [process.pid]:
        os.kill(pid, signal.SIGINT)
    assert process.communicate(timeout=30) == ("True\n", "")
    # the terminal signals the foreground group: the server must not be in it
    sleeper = someone.script("e = Embedded(folder); e.start(); tell(1); line(); e.stop_if_unused()", folder)
    sleeper.stdout.readline()
    assert os.getsid(sleeper.pid) not in {os.getsid(pid) for pid in servers(someone.home)}
    sleeper.communicate("\n", timeout=30)


@BOTH
def test_crash_of_the_server_is_recovered_and_told(someone, folder):
    out = someone.run(
        """
import signal
e = Embedded(folder)
url = e.start()
with psycopg.connect(url, autocommit=True) as c:
    c.execute("CREATE TABLE t AS SELECT 1 AS x")
from sync.store import embedded_cluster
place = e._place()
os.kill(embedded_cluster.find(place).pid, signal.SIGKILL)
while e.running():
    time.sleep(0.05)
with psycopg.connect(e.start()) as c:
    print(c.execute("SELECT x FROM t").fetchone())
print(e.stop_if_unused())
""",
        folder,
    )
    assert out.splitlines() == ["(1,)", "True"]
    assert servers(someone.home) == []


@BOTH
def test_process_id_taken_by_a_stranger_does_not_block_the_start(someone, folder):
    someone.run("e = Embedded(folder); e.start(); e.stop_if_unused()", folder)
    out = someone.run(
        """
import subprocess
e = Embedded(folder)
place = e._place()
stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
lines = stranger.pid, place.data, 1, 5432, place.base / "socket", "", "1 1", "ready", ""
place.pidfile.write_text("\\n".join(map(str, lines)))
assert not e.running()
e.start()
print(e.stop_if_unused(), stranger.poll())
stranger.kill(); stranger.wait()
""",
        folder,
    )
    assert out == "True None"


@BOTH
def test_long_path_puts_the_socket_into_a_private_folder_and_takes_it_away(someone):
    deep = someone.home / ("d" * 60) / ("é" * 40)
    out = someone.run(
        """
e = Embedded(folder)
url = e.start()
sockets = Path(psycopg.conninfo.conninfo_to_dict(url)["host"])
s = sockets.stat()
print(oct(s.st_mode & 0o777), len(os.fsencode(sockets)) < 90, sockets)
os.environ["XDG_RUNTIME_DIR"] = "/nowhere"
other = Embedded(folder)
assert other.start() == url  # wherever another process would put it
assert not e.stop_if_unused() and other.stop_if_unused()
""",
        deep,
    )
    mode, short, sockets = out.split(" ", 2)
    assert (mode, short) == ("0o700", "True")
    if someone.user or not AS_ROOT:
        assert sockets.startswith("/tmp/leadledger-")
        assert not Path(sockets).exists()
    assert servers(someone.home) == []


@pytest.mark.parametrize("someone", ["nobody"], indirect=True)
def test_socket_folder_of_a_stranger_is_refused(someone):
    deep = someone.home / ("d" * 100)
    place = embedded_place.Place(
        base=deep / "postgres",
        binaries=Path("/"),
        owner=embedded_place.Account("nobody", pwd.getpwnam("nobody").pw_uid, -1),
        switch=False,
        admitted=(),
    )
    trap = Path("/tmp", embedded_place._short_socket_folder(place).name)
    trap.mkdir(mode=0o777)
    try:
        text = "try:\n Embedded(folder).start()\nexcept EmbeddedError as error:\n print(error.message)"
        assert someone.run(text, deep).endswith("is not a private folder of the user nobody.")
    finally:
        trap.rmdir()


@BOTH
def test_rights_of_the_folders_above_stay_and_ours_are_private(someone):
    workspace = someone.home / "workspace"
    workspace.mkdir(mode=0o751)
    (workspace / "data").mkdir(mode=0o775)
    (workspace / "data").chmod(0o775)
    if someone.user:
        for each in (workspace, workspace / "data"):
            os.chown(each, pwd.getpwnam(someone.user).pw_uid, -1)
    before = [(p, p.stat().st_mode, p.stat().st_uid) for p in (someone.home, workspace, workspace / "data")]
    someone.run("os.umask(0); e = Embedded(folder); e.start(); e.stop_if_unused()", workspace / "data")
    assert [(p, p.stat().st_mode, p.stat().st_uid) for p, _, _ in before] == before
    ours = [workspace / "data" / "postgres"]
    if someone.user is None and AS_ROOT:
        base = Path((workspace / "data" / "postgres.location").read_text().splitlines()[-1])
        assert base.owner() == "leadledger"
        ours.append(base)
    for base in ours:
        for path in (base, *base.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_other_users_cannot_connect(own):
    if not AS_ROOT:
        pytest.skip("needs a second user")
    with Embedded(own) as embedded:
        sockets = Path(psycopg.conninfo.conninfo_to_dict(embedded.start())["host"])
        code = (
            "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])",
            str(sockets / ".s.PGSQL.5432"),
        )
        done = subprocess.run(
            ["/usr/bin/python3", "-c", *code],
            check=False,
            user="nobody",
            extra_groups=[],
            capture_output=True,
        )
        assert b"PermissionError" in done.stderr
        with pytest.raises(psycopg.OperationalError, match="Peer authentication failed"):
            psycopg.connect(embedded.start().replace("leadledger@", "postgres@"))


def test_data_of_another_version_are_refused_and_untouched(own):
    embedded = Embedded(own)
    embedded.start()
    place = embedded._place()
    embedded.stop()
    (place.data / "PG_VERSION").write_text("16\n")
    before = sorted((p, p.stat().st_mtime_ns) for p in place.data.rglob("*"))
    with pytest.raises(EmbeddedError, match=r"PostgreSQL 16; this leadledger runs PostgreSQL 18") as caught:
        embedded.start()
    assert "backup" in caught.value.hint
    assert sorted((p, p.stat().st_mtime_ns) for p in place.data.rglob("*")) == before
    (place.data / "PG_VERSION").write_text("18\n")


def test_server_that_cannot_start_shows_the_end_of_its_log(own):
    embedded = Embedded(own)
    embedded.start()
    place = embedded._place()
    embedded.stop()
    with (place.data / "postgresql.conf").open("a") as conf:
        conf.write("shared_buffers = 'a lot'\n")
    with pytest.raises(EmbeddedError, match="a lot") as caught:
        embedded.start()
    assert "start again" in caught.value.hint
    assert not embedded.running()


def test_half_made_cluster_is_made_again(own):
    embedded = Embedded(own)
    embedded.start()
    place = embedded._place()
    embedded.stop()
    place.data.rename(place.base / "data.new")
    embedded.start()
    assert not (place.base / "data.new").exists()
    embedded.stop()


def test_remove_deletes_the_data_for_good(own):
    embedded = Embedded(own)
    with psycopg.connect(embedded.start()) as connection:
        connection.execute("CREATE TABLE t ()")
    place = embedded._place()
    embedded.remove()
    assert not place.data.exists()
    assert not embedded.running()
    with psycopg.connect(embedded.start()) as connection:
        assert connection.execute("SELECT to_regclass('t')").fetchone() == (None,)
    embedded.stop()


def test_workspace_made_anew_never_meets_its_old_data(own):
    embedded = Embedded(own)
    with psycopg.connect(embedded.start()) as connection:
        connection.execute("CREATE TABLE t ()")
    embedded.stop()
    old = embedded._place().base
    shutil.rmtree(own)
    with Embedded(own) as again, psycopg.connect(again.start()) as connection:
        assert connection.execute("SELECT to_regclass('t')").fetchone() == (None,)
    shutil.rmtree(old, ignore_errors=True)


@pytest.mark.skipif(not AS_ROOT, reason="only root keeps the data elsewhere")
def test_lost_data_folder_of_root_is_an_error_and_not_an_empty_database(own):
    embedded = Embedded(own)
    embedded.start()
    base = embedded._place().base
    embedded.stop()
    moved = base.with_name(base.name + ".away")
    base.rename(moved)
    with pytest.raises(EmbeddedError, match="is gone"):
        embedded.start()
    moved.rename(base)


def test_waiting_for_another_start_is_said(own):
    said: list[str] = []
    embedded = Embedded(own, say=said.append)
    (own / "postgres").mkdir(parents=True)
    hold = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(1, flush=True)"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"{hold}; time.sleep(3)", str(own / "postgres" / "start.lock")],
        stdout=subprocess.PIPE,
    )
    holder.stdout.readline()
    embedded.start()
    holder.communicate()
    embedded.stop()
    assert said[0].startswith("Another leadledger is starting or stopping")


def test_server_of_a_copied_folder_is_not_taken_for_ours(own, tmp_path):
    if AS_ROOT:
        pytest.skip("root's data do not lie in the folder")
    with Embedded(own) as embedded:
        embedded.start()
        shutil.copytree(
            own, tmp_path / "copy", ignore=lambda _, names: [n for n in names if n.startswith(".s.")]
        )
        assert not Embedded(tmp_path / "copy").running()


def test_answers_only_where_a_server_listens(tmp_path):
    assert not embedded_cluster.answers(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / ".s.PGSQL.5432"))
        assert not embedded_cluster.answers(tmp_path)
        server.listen()
        assert embedded_cluster.answers(tmp_path)
