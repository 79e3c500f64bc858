"""Jobs on a real Ray cluster of several nodes, with everything killed that can be killed."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.cluster

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RECORDS = int(os.environ.get("CLUSTER_RECORDS", "5000"))
"""Of the long test; a smaller number makes it a short one."""

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


def _environment() -> dict[str, str]:
    more = {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    return {**os.environ, **more, "OMP_NUM_THREADS": "1"}


class Nodes:
    """The Ray cluster. `address` is for RAY_ADDRESS, `elsewhere` for clients that are no node of it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "nodes.py")],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        places = self._process.stdout.readline().split()
        if len(places) != 2:
            pytest.fail("no Ray cluster has started; is Ray installed? pip install 'carrara[ray]'")
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


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    found = Nodes()
    yield found
    found.stop()


def write_job(folder: Path, count: int) -> None:
    (folder / "flow.py").write_text(FLOW)
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
        self._environment = {**_environment(), "RAY_ADDRESS": nodes.address}
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


@pytest.mark.parametrize("client", [False, True], ids=["on a node", "from elsewhere"])
def test_records_run_on_the_cluster(nodes: Nodes, client: bool, tmp_path: Path) -> None:
    write_job(tmp_path, 60)
    words = [nodes.elsewhere] if client else []
    driver = Driver(tmp_path, nodes, "journal.db", "rows.jsonl", "2", *words)
    assert driver.process.wait(240) == 0, driver.log.read_text()
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected(60)
    shown = subprocess.run(
        [sys.executable, "-m", "carrara", "show", "last", "--journal", "journal.db", "--json"],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert '"script"' in shown.stdout
    assert "Traceback" not in driver.log.read_text()


def test_whatever_is_killed_every_row_is_there_once(
    nodes: Nodes, own_server: Any, tmp_path: Path
) -> None:
    write_job(tmp_path, RECORDS)
    chance = random.Random(7)
    driver = Driver(tmp_path, nodes, own_server.url, f"{own_server.url}#rows", "4")

    def one_of(kind: str) -> bool:
        found = nodes.actors(kind)
        if found:
            with suppress(psutil.Error):
                chance.choice(found).kill()
                return True
        return False

    def lose_postgres() -> bool:
        own_server.kill()
        time.sleep(chance.uniform(0, 2))
        own_server.start()
        return True

    def lose_driver() -> bool:
        driver.kill()
        return True

    def lose_node() -> bool:
        nodes.lose()
        return True

    kinds: dict[str, Callable[[], bool]] = {
        "worker": lambda: one_of("RayWorker"),
        "engines": lambda: one_of("EngineHost"),
        "driver": lose_driver,
        "postgres": lose_postgres,
        "node": lose_node,
    }
    weights = {"worker": 5, "engines": 3, "driver": 1, "postgres": 1, "node": 1}
    killed: Counter[str] = Counter()
    deadline = time.monotonic() + 1500
    done = 0
    while not driver.has_ended():
        assert time.monotonic() < deadline, (killed, done, driver.log.read_text())
        time.sleep(chance.uniform(0.5, 2.5))
        with suppress(AssertionError):  # the server is on its way
            there = own_server.ask("SELECT count(*) FROM carrara.rows").strip()
            if int(there) <= done:
                continue  # nothing is killed before something has got on: this is not a test of patience
            done = int(there)
        # Each kind once, then by weight.
        missing = [kind for kind in kinds if not killed[kind]]
        kind = missing[0] if missing else chance.choices(list(weights), list(weights.values()))[0]
        killed[kind] += kinds[kind]()
    print(json.dumps({"killed": dict(killed), "starts": driver.starts}))
    found = own_server.ask("SELECT json_agg(r ORDER BY key) FROM rows r")
    assert json.loads(found) == expected(RECORDS)
    kept = own_server.ask("SELECT state, count(*) FROM carrara.rows GROUP BY state").strip()
    assert kept == f"done|{RECORDS}"
    assert own_server.ask("SELECT count(*) FROM carrara.runs").strip() == "1"
    assert all(killed[kind] for kind in kinds), killed
