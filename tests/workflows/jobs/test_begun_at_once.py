"""The journal knows of a job before anything of it is written: what a start leaves behind can be gone on with."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import carrara
from carrara.runtime.journal.reading import Reader
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.workflows.job import Job, JobResult, find_job, run_job
from carrara.workflows.places import PlaceError
from carrara.workflows.run import session

FLOW = """
from carrara import workflow


@workflow
async def same(text: str) -> str:
    return text
"""
KILLED = """
import asyncio
import os
import signal
import sys

from carrara.workflows.job import Job, run_job
from carrara.workflows.run import session


def kill(event, args):
    if event == "os.remove" and "rows.csv.trust.jsonl" in str(args[0]):  # what it does once the header is there
        os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(kill)


async def main():
    async with session(journal="j.db") as opened:
        await run_job(Job(sys.argv[1], "in.jsonl", "rows.csv", trust=True), opened)


asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"flow_{tmp_path.name}.py").write_text(FLOW)
    (tmp_path / "in.jsonl").write_text(json.dumps({"id": "a", "text": "a"}) + "\n")
    return tmp_path


def target() -> str:
    return f"flow_{Path.cwd().name}.py:same"


def job() -> Job:
    return Job(target(), "in.jsonl", "rows.csv", trust=True)


def go(run_id: str | None = None) -> JobResult:
    async def main() -> JobResult:
        async with session(journal="j.db") as opened:
            return await run_job(job(), opened, run_id=run_id)

    return asyncio.run(main())


def left() -> str | None:
    with Reader.open("j.db") as journal:
        return find_job(job(), journal)


def test_a_job_that_could_not_write_all_of_its_files_goes_on(folder: Path) -> None:
    (folder / ".rows.csv.trust.jsonl.partial").mkdir()
    with pytest.raises(PlaceError, match="cannot write"):
        go()
    assert (folder / "rows.csv").read_text() == "key,value\n"
    (folder / ".rows.csv.trust.jsonl.partial").rmdir()
    with pytest.raises(PlaceError, match="--resume"):
        go()
    assert go(left()).done == 1
    assert (folder / "rows.csv").read_text() == "key,value\na,a\n"


def test_a_job_that_is_killed_while_it_begins_goes_on(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(carrara.__file__).parents[1])}
    killed = subprocess.run([sys.executable, "-c", KILLED, target()], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (folder / "rows.csv").read_text() == "key,value\n"
    assert go(left()).done == 1
    assert (folder / "rows.csv").read_text() == "key,value\na,a\n"


def test_a_place_that_is_taken_begins_no_run(folder: Path) -> None:
    (folder / "rows.csv").write_text("key,value\nz,z\n")
    with pytest.raises(PlaceError):
        go()
    with SqliteJournal(folder / "j.db") as journal:
        assert journal.runs() == []
