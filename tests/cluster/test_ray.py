"""Jobs on a real Ray cluster of several nodes, with everything killed that can be killed."""

from __future__ import annotations

import json
import os
import random
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

from tests.cluster.ray_processes import Driver, Nodes, environment, expected, write_job

pytestmark = pytest.mark.cluster

RECORDS = int(os.environ.get("CLUSTER_RECORDS", "5000"))
"""Of the long test; a smaller number makes it a short one."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    found = Nodes(3, client=True)
    yield found
    found.stop()


@pytest.mark.parametrize("client", [False, True], ids=["on a node", "from elsewhere"])
def test_records_run_on_the_cluster(nodes: Nodes, client: bool, tmp_path: Path) -> None:
    write_job(tmp_path, 60)
    words = [nodes.elsewhere] if client else []
    with Driver(tmp_path, nodes, "journal.db", "rows.jsonl", "2", *words) as driver:
        told = driver.finish()
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected(60)
    shown = subprocess.run(
        [sys.executable, "-m", "carrara", "show", "last", "--journal", "journal.db", "--json"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert '"script"' in shown.stdout
    assert "Traceback" not in told


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
    with driver:
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
            kind = (
                missing[0] if missing else chance.choices(list(weights), list(weights.values()))[0]
            )
            killed[kind] += kinds[kind]()
    print(json.dumps({"killed": dict(killed), "starts": driver.starts}))
    found = own_server.ask("SELECT json_agg(r ORDER BY key) FROM rows r")
    assert json.loads(found) == expected(RECORDS)
    kept = own_server.ask("SELECT state, count(*) FROM carrara.rows GROUP BY state").strip()
    assert kept == f"done|{RECORDS}"
    assert own_server.ask("SELECT count(*) FROM carrara.runs").strip() == "1"
    assert all(killed[kind] for kind in kinds), killed
