"""Ray clusters and jobs on them as processes, for the tests that kill them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.cluster.conftest import missing

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

FLOW = """
from typing import TypedDict

from carrara import llm, step, workflow


class Turned(TypedDict):
    text: str
    turned: str
    length: int


@llm(engine="script")
def turn_word(text: str) -> str:
    '''Turn this around: {{ text }}'''


@step
def count(text: str) -> int:
    return len(text)


@workflow
async def turn(text: str) -> Turned:
    return {"text": text, "turned": await turn_word(text), "length": await count(text)}
"""


def environment() -> dict[str, str]:
    more = {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    return {**os.environ, **more, "OMP_NUM_THREADS": "1"}


class Nodes:
    """A Ray cluster of `count` nodes. `address` is for RAY_ADDRESS, `elsewhere` for clients that are no node of it."""

    def __init__(self, count: int = 3) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "nodes.py"), str(count)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        places = self._process.stdout.readline().split()
        if len(places) != 2:
            missing("no Ray cluster has started; is Ray installed? pip install 'carrara[ray]'")
        self.address, self.elsewhere = places

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
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()


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
    """The job's process, started again for as long as it ends before its job does."""

    def __init__(self, folder: Path, nodes: Nodes, *words: str) -> None:
        self._folder = folder
        self._environment = {**environment(), "RAY_ADDRESS": nodes.address}
        self._words = [sys.executable, str(HERE / "driver.py"), *words]
        self.starts = 0
        self.start()

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
