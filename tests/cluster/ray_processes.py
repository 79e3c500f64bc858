"""Ray clusters and jobs on them as processes, for the tests that kill them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import psutil

from tests.cluster.conftest import free_port, missing
from tests.cluster.gate import Gate

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LONGEST_S = 240.0
"""That a test waits for one thing; it goes on as soon as the thing is there."""

FLOW = """
from pathlib import Path
from typing import TypedDict

from carrara import llm, step, workflow
from tests.cluster.gate import pass_gate


class Turned(TypedDict):
    text: str
    turned: str
    length: int


@llm(engine="script")
def turn_word(text: str) -> str:
    '''Turn this around: {{ text }}'''


@step
def count(text: str) -> int:
    pass_gate(Path(__file__).with_name(f"step-{text}"))
    return len(text)


@workflow
async def turn(text: str) -> Turned:
    return {"text": text, "turned": await turn_word(text), "length": await count(text)}
"""


def environment() -> dict[str, str]:
    """Ray gives its workers the niceness 15: beside much other work they would get hardly a turn, and tests wait for
    them."""
    more = {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    return {**os.environ, **more, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}


class Nodes:
    """A Ray cluster of `count` nodes with two CPUs each, and all its files in a folder of its own. `environment` is for
    jobs on it; `elsewhere` is the address for clients that are no node of it, where `client` asks for one."""

    def __init__(self, count: int = 1, *, client: bool = False) -> None:
        if find_spec("ray") is None:
            missing("Ray is not installed (pip install 'carrara[ray]')")
        # Not below TMPDIR: sockets lie in there, whose names are 107 bytes at most.
        self._folder = tempfile.TemporaryDirectory(
            prefix="ray-", dir="/tmp", ignore_cleanup_errors=True
        )
        self.environment = {**environment(), "RAY_TMPDIR": self._folder.name}
        port = [str(free_port())] if client else []
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "nodes.py"), str(count), *port],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        address, *elsewhere = self._process.stdout.readline().split() or [""]
        if not address:
            self.stop()
            raise AssertionError("no Ray cluster has started; standard error tells why")
        self.environment["RAY_ADDRESS"] = address
        self.elsewhere = "".join(elsewhere)

    def lose(self) -> None:
        """Kill a node, with all that runs on it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("lose\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "lost\n"

    def actors(self, kind: str) -> list[psutil.Process]:
        found = []
        for process in psutil.Process(self._process.pid).children(recursive=True):
            with suppress(psutil.Error):
                if process.cmdline()[:1] and process.cmdline()[0].startswith(f"ray::{kind}"):
                    found.append(process)
        return found

    def stop(self) -> None:
        """End the cluster with all its processes, by force where it does not end by itself."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        begun: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._process.pid)
            begun = [root, *root.children(recursive=True)]
        self._process.stdin.close()
        try:
            self._process.wait(60)
        finally:
            for process in begun:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._folder.cleanup()


def write_job(folder: Path, count: int, flow: str = FLOW) -> None:
    (folder / "flow.py").write_text(flow)
    rows = ({"id": f"r{n:05}", "text": f"word{n:05}"} for n in range(count))
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def expected(count: int) -> list[dict[str, Any]]:
    texts = [f"word{n:05}" for n in range(count)]
    return [
        {"key": f"r{n:05}", "text": text, "turned": text[::-1], "length": len(text)}
        for n, text in enumerate(texts)
    ]


class Driver:
    """The job's process, started again for as long as it ends before its job does. Used in `with`: gone at the end."""

    def __init__(self, folder: Path, nodes: Nodes, *words: str) -> None:
        self._folder = folder
        self._environment = nodes.environment
        self._words = [sys.executable, str(HERE / "driver.py"), *words]
        self.starts = 0
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.kill()

    def start(self) -> None:
        self.starts += 1
        self.log = self._folder / f"driver{self.starts}.log"
        with self.log.open("w") as told:
            self.process = subprocess.Popen(
                self._words, cwd=self._folder, env=self._environment, stdout=told, stderr=told
            )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def meet(self, gate: Gate) -> psutil.Process:
        """Wait for the next process that comes to the gate."""
        deadline = time.monotonic() + LONGEST_S
        while (found := gate.next()) is None:
            waits = self.process.poll() is None and time.monotonic() < deadline
            assert waits, f"nobody has come to {gate.path.name}\n{self.log.read_text()}"
            time.sleep(0.02)
        return psutil.Process(found)

    def finish(self) -> str:
        """Wait until the job has ended well; what it has told."""
        try:
            code = self.process.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            code = None
        told = self.log.read_text()
        assert code == 0, told
        return told

    def has_ended(self) -> bool:
        """Whether the job has; a process that ended otherwise is followed by another."""
        code = self.process.poll()
        if code == 0:
            return True
        if code is not None:
            told = self.log.read_text()
            assert self.starts < 60, told
            # By itself it ends only where the database has gone under it.
            killed = code == -signal.SIGKILL
            assert killed or re.search("OutputError|PlaceError|JournalError", told), told
            self.start()
        return False
