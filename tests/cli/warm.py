"""The command line started by a fork: a process that has imported Carrara once, and forks one for each call.

Starting Python and importing costs a call about a second of CPU, and tests/cli makes hundreds. What is forked is a
process like any other: its own folder, environment, streams, signals and exit code. `python warm.py FD` serves the
other end of a socket pair until that is closed; a request is one packet with the three streams and what `passed`
names, the answers are the process id and, at the end, the exit code as in `subprocess` (negative for a signal).
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

LARGEST = 200_000  # bytes of a request
PACKAGES = ("carrara.cli", "carrara.runtime", "carrara.workflows")  # they load nothing heavy


class Warm:
    """The client: `Warm(environment).run([...], folder, env, …)`; one call at a time."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            command = [sys.executable, str(Path(__file__)), str(other.fileno())]
            self._server = subprocess.Popen(
                command, env=environment, pass_fds=(other.fileno(),), stdin=subprocess.DEVNULL
            )

    def start(
        self,
        words: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        stdin: bytes = b"",
        passed: Mapping[str, int] | None = None,
    ) -> Forked:
        """Start `carrara WORDS`; `passed` are descriptors that it gets, their numbers in these variables."""
        passed = passed or {}
        pipes = [os.pipe() for _ in range(3)]
        (child_in, to_child), (from_out, child_out), (from_err, child_err) = pipes
        request = {"words": list(words), "folder": str(folder), "env": dict(env)}
        packet = json.dumps(request | {"passed": list(passed)}).encode()
        fds = [child_in, child_out, child_err, *passed.values()]
        try:
            socket.send_fds(self._socket, [packet], fds)
        finally:
            for fd in (child_in, child_out, child_err):
                os.close(fd)
        pid = self._answer(None)
        return Forked(pid, stdin, to_child, from_out, from_err, self._answer)

    def close(self) -> None:
        self._socket.close()
        self._server.wait()

    def _answer(self, timeout_s: float | None) -> int:
        self._socket.settimeout(timeout_s)
        answer = self._socket.recv(100)
        assert answer, "the process that forks the command line has ended"
        return int(answer)


class Forked:
    """A running command."""

    def __init__(
        self, pid: int, stdin: bytes, to_child: int, from_out: int, from_err: int, answer: Any
    ) -> None:
        self.pid = pid
        self._answer = answer
        self._said: dict[int, bytes] = {}
        self._out, self._err = from_out, from_err
        self._threads = [
            Thread(target=self._write, args=(to_child, stdin), daemon=True),
            Thread(target=self._read, args=(from_out,), daemon=True),
            Thread(target=self._read, args=(from_err,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def wait(self, timeout_s: float) -> tuple[int, bytes, bytes]:
        """Exit code, standard output and standard error; TimeoutError, and the end of it, after `timeout_s`."""
        try:
            code = self._answer(timeout_s)
        except TimeoutError:
            os.kill(self.pid, signal.SIGKILL)
            self._answer(None)
            raise
        for thread in self._threads:
            thread.join()
        return code, self._said[self._out], self._said[self._err]

    def _read(self, fd: int) -> None:
        with open(fd, "rb") as stream:
            self._said[fd] = stream.read()

    @staticmethod
    def _write(fd: int, content: bytes) -> None:
        try:
            with open(fd, "wb", buffering=0) as stream:
                stream.write(content)
        except BrokenPipeError:
            pass  # it read no further


def serve(connection: socket.socket) -> dict[str, Any] | None:
    """In the server: answer calls until the client closes, then None. In each fork: what it was asked."""
    while True:
        packet, fds, _, _ = socket.recv_fds(connection, LARGEST, 16)
        if not packet:
            return None
        request: dict[str, Any] = json.loads(packet)
        pid = os.fork()
        if pid == 0:
            for target, fd in enumerate(fds[:3]):
                os.dup2(fd, target)
                os.close(fd)
            names = request["passed"]
            request["env"] |= {name: str(fd) for name, fd in zip(names, fds[3:], strict=True)}
            return request
        for fd in fds:
            os.close(fd)
        connection.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def become(request: dict[str, Any]) -> None:
    """Be `python -m carrara WORDS` in the folder and the environment that were asked for."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[0] = os.getcwd()
    sys.argv[1:] = request["words"]
    importlib.invalidate_caches()
    runpy.run_module("carrara", run_name="__main__", alter_sys=True)


def preload() -> None:
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(path, package + "."):
            importlib.import_module(module.name)
    gc.freeze()  # no fork collects, and copies, what is shared


if __name__ == "__main__":
    preload()
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        asked = serve(connection)
    if asked is not None:
        become(asked)
