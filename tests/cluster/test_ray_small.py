"""Jobs on a Ray cluster of one node that loses what they run on, in the middle of a record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.conftest import Server
from tests.cluster.gate import Gate
from tests.cluster.ray_processes import Driver, Nodes, expected, write_job

pytestmark = pytest.mark.cluster

RECORDS = 40


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    found = Nodes()
    yield found
    found.stop()


def lose(process: psutil.Process) -> None:
    process.kill()
    process.wait(60)


def test_the_record_of_a_lost_worker_runs_elsewhere(nodes: Nodes, tmp_path: Path) -> None:
    write_job(tmp_path, RECORDS)
    step = Gate(tmp_path / "step-word00020")
    with Driver(tmp_path, nodes, "journal.db", "rows.jsonl", "2") as driver:
        lose(driver.meet(step))
        driver.meet(step)
        step.open()
        assert f"{RECORDS} done, 0 failed" in driver.finish()
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected(RECORDS)
    assert len(set(step.visitors())) == 2, "the record has run in two workers"


def test_a_job_on_postgresql_outlives_engines_a_worker_and_its_driver(
    nodes: Nodes, own_server: Server, tmp_path: Path
) -> None:
    write_job(tmp_path, RECORDS)
    engine, step = Gate(tmp_path / "engine-word00010"), Gate(tmp_path / "step-word00020")
    with Driver(tmp_path, nodes, own_server.url, f"{own_server.url}#rows", "2") as driver:
        for _ in range(2):  # of two: who comes third has been started anew
            lose(driver.meet(engine))
        driver.meet(engine)
        engine.open()
        lose(driver.meet(step))
        driver.meet(step)
        driver.kill()
        driver.start()
        driver.meet(step)
        step.open()
        assert f"{RECORDS} done, 0 failed" in driver.finish()
    assert json.loads(own_server.ask("SELECT json_agg(r ORDER BY key) FROM rows r")) == expected(
        RECORDS
    )
    kept = own_server.ask("SELECT state, count(*) FROM carrara.rows GROUP BY state").strip()
    assert kept == f"done|{RECORDS}"
    assert own_server.ask("SELECT count(*), max(openings) FROM carrara.runs").strip() == "1|2"
    assert len(set(engine.visitors())) == 3, "the call has been in three processes with engines"
    assert len(set(step.visitors())) == 3, "the record has run in three workers"
