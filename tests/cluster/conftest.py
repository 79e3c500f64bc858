"""A PostgreSQL server of its own: a new cluster in a temporary folder, on a Unix socket, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_HOMES = (Path("/usr/lib/postgresql"), Path("/usr/local/pgsql"), Path("/opt/homebrew/bin"))


def program(name: str) -> str:
    """Where a program of PostgreSQL is; the test fails, and says so, where there is none."""
    found = shutil.which(name) or next(
        (
            str(path)
            for home in _HOMES
            for path in sorted(home.glob(f"**/bin/{name}"), reverse=True)
        ),
        None,
    )
    if found is None:
        pytest.fail(
            f"PostgreSQL's {name} is not installed (Debian: apt-get install postgresql); "
            "these tests run a server of their own",
            pytrace=False,
        )
    return found


def owner() -> str | None:
    """The user that the server runs as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of an empty database."""
    user = owner()
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        data, socket = folder / "data", folder / "socket"
        for made in (data, socket):
            made.mkdir(mode=0o700)
            if user is not None:
                shutil.chown(made, user)

        def call(*words: str) -> None:
            done = subprocess.run(
                words, cwd="/", user=user, capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, done.stderr + done.stdout

        call(
            program("initdb"),
            "-D",
            str(data),
            "-U",
            "me",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
        )
        control = program("pg_ctl")
        options = f"-k {socket} -c listen_addresses='' -c fsync=off"
        call(control, "-D", str(data), "-w", "-l", str(data / "log"), "-o", options, "start")
        try:
            yield f"postgresql://me@/postgres?host={socket}"
        finally:
            call(control, "-D", str(data), "-m", "immediate", "-w", "stop")
