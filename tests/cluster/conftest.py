"""PostgreSQL servers of their own: new clusters in temporary folders, on Unix sockets and loopback, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest

_HOMES = (Path("/usr/lib/postgresql"), Path("/usr/local/pgsql"), Path("/opt/homebrew/bin"))
SECRET = "w0nt-t3ll"
REQUIRED = "CARRARA_TEST_SERVERS"
"""Where this variable is set, servers that are not installed fail the tests that need them; else they are skipped."""
EXAMPLES = int(os.environ.get("CLUSTER_EXAMPLES", "15"))
"""Of the generated cases that ask a server."""


def missing(what: str) -> NoReturn:
    """What a test needs is not there."""
    if os.environ.get(REQUIRED):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


def program(name: str) -> str:
    """Where a program of PostgreSQL is; see `missing` for where there is none."""
    found = shutil.which(name) or next(
        (
            str(path)
            for home in _HOMES
            for path in sorted(home.glob(f"**/bin/{name}"), reverse=True)
        ),
        None,
    )
    if found is None:
        missing(
            f"PostgreSQL's {name} is not installed (Debian: apt-get install postgresql); "
            "these tests run a server of their own"
        )
    return found


def owner() -> str | None:
    """The user that the server runs as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


class Server:
    """A PostgreSQL server in `folder`. The user `me` needs no password on the socket, and SECRET on loopback."""

    def __init__(self, folder: Path) -> None:
        self._user = owner()
        self._data, self._socket = folder / "data", folder / "socket"
        self._log = self._data / "log"
        self.port = free_port()
        for made in (self._data, self._socket):
            made.mkdir(mode=0o700)
            if self._user is not None:
                shutil.chown(made, self._user)
        words = ["-U", "me", "-A", "trust", "-E", "UTF8", "--locale=C"]
        self._call(program("initdb"), "-D", str(self._data), *words)
        rules = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (self._data / "pg_hba.conf").write_text(rules)

    @property
    def url(self) -> str:
        """By the socket: no password."""
        return f"postgresql://me@/postgres?host={self._socket}&port={self.port}"

    @property
    def secret_url(self) -> str:
        return f"postgresql://me:{SECRET}@127.0.0.1:{self.port}/postgres"

    @property
    def open_url(self) -> str:
        """The same without the password."""
        return f"postgresql://me@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        # Without fsync a server that is killed loses nothing as long as the machine itself stays up.
        options = (
            f"-k {self._socket} -p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off "
            "-c max_connections=200"
        )
        self._control("-w", "-l", str(self._log), "-o", options, "start")

    def stop(self) -> None:
        self._control("-m", "immediate", "-w", "stop")

    def kill(self) -> None:
        """SIGKILL for the server and all its processes."""
        lines = (self._data / "postmaster.pid").read_text().splitlines()
        first = int(lines[0])
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(first)], capture_output=True, text=True
        ).stdout.split()
        pids = [first, *map(int, children)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while any(_lives(pid) for pid in pids):
            time.sleep(0.01)
        # A dead server whose parent has not looked at it yet counts as one that runs.
        for left in (self._data / "postmaster.pid", *self._socket.glob(".s.PGSQL*")):
            left.unlink(missing_ok=True)

    def ask(self, sql: str) -> str:
        """The rows of a query as text."""
        words = ["-h", str(self._socket), "-p", str(self.port), "-U", "me", "-d", "postgres"]
        return self._call(program("psql"), *words, "-X", "-A", "-t", "-c", sql)

    def _control(self, *words: str) -> None:
        self._call(program("pg_ctl"), "-D", str(self._data), *words)

    def _call(self, *words: str) -> str:
        # To files: a server that is started keeps the ends of pipes open.
        with tempfile.TemporaryFile("w+") as told:
            done = subprocess.run(
                words, cwd="/", user=self._user, stdout=told, stderr=told, timeout=120
            )
            told.seek(0)
            text = told.read()
        assert done.returncode == 0, text
        return text


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = Server(folder)
        server.start()
        try:
            with_secret = f"ALTER USER me PASSWORD '{SECRET}'"
            server.ask(with_secret)
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with running() as found:
        yield found


@pytest.fixture
def own_server() -> Iterator[Server]:
    """One that the test may kill."""
    with running() as found:
        yield found


@pytest.fixture(scope="session")
def postgres(server: Server) -> str:
    """The URL of an empty database."""
    return server.url


@pytest.fixture
def journal_url(server: Server) -> Iterator[str]:
    """The URL of a journal that is not there yet."""
    yield f"{server.url}#journal"
    server.ask("DROP SCHEMA IF EXISTS journal CASCADE")
