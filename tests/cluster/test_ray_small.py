"""A job on a Ray cluster of one node, whose worker is killed in the middle of a record."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.conftest import missing
from tests.cluster.ray_processes import FLOW, Driver, Nodes, expected, write_job

pytestmark = pytest.mark.cluster

HELD = "word00020"
GATE = """
import os


@step
def count(text: str) -> int:
    if text == "{held}":
        with open("workers", "a") as told:
            told.write(f"{{os.getpid()}}\\n")
        with open("{gate}") as gate:  # until the test opens the other end, and closes it
            gate.read()
    return len(text)


@workflow
async def turn"""


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    try:
        import ray  # noqa: F401
    except ImportError:
        missing("Ray is not installed (pip install 'carrara[ray]')")
    found = Nodes(1)
    yield found
    found.stop()


def test_the_record_of_a_lost_worker_runs_elsewhere(nodes: Nodes, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    head, _, tail = FLOW.partition("@step")
    body = GATE.format(held=HELD, gate=gate) + tail.partition("async def turn")[2]
    write_job(tmp_path, 40, head + body.replace('"workers"', f'"{tmp_path}/workers"'))
    driver = Driver(tmp_path, nodes, "journal.db", "rows.jsonl", "2")
    held = os.open(gate, os.O_WRONLY)  # waits for a worker that has come to the record
    first = int((tmp_path / "workers").read_text())
    worker = psutil.Process(first)
    worker.kill()
    worker.wait(60)  # till then it is one that reads from the gate
    os.close(held)
    os.close(os.open(gate, os.O_WRONLY))  # waits for the other one, and lets it go on
    assert driver.process.wait(240) == 0, driver.log.read_text()
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected(40)
    both = set((tmp_path / "workers").read_text().split())
    assert len(both) == 2, "the record has run in two workers"
