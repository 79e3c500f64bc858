"""A job that is killed between taking back a row and its record's failure: no row of it stays in a table."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

import carrara
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.workflows.job import Job, run_job
from carrara.workflows.run import session

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(carrara.__file__).parents[1])}
DUCK, LITE = "duckdb:///t.duckdb#t", "sqlite:///t.db#t"
TABLES = pytest.mark.parametrize("place", [LITE, DUCK])

FLOW = """
import os
import signal
from pathlib import Path
from typing import TypedDict

from carrara import step, workflow


class Number(TypedDict):
    n: int


@step
def read(text: str) -> int:
    if text == "kill" and Path("armed").exists():
        Path("armed").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return 9 if text == "kill" else int(text)


@workflow
async def flow(text: str) -> Number:
    return {"n": await read(text)}
"""

DRIVE = """
import asyncio
import sys
from pathlib import Path

from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.workflows.job import Job, run_job
from carrara.workflows.run import session


async def main(place, run_id):
    async with session(journal=journal) as begun:
        job = Job("flow.py:flow", "in.jsonl", place, concurrency=1)
        await run_job(job, begun, run_id=run_id, accept_changes=True)


with SqliteJournal(Path("journal.db")) as journal:
    asyncio.run(main(*sys.argv[1:]))
"""


class Desk:
    """Jobs in one folder; those that are killed run in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "drive.py").write_text(DRIVE)
        self.define()

    def define(self, old: str = "", new: str = "") -> None:
        (self.folder / "flow.py").write_text(FLOW.replace(old, new))
        sys.modules.pop("flow", None)
        importlib.invalidate_caches()

    def give(self, **texts: str) -> None:
        lines = (json.dumps({"id": key, "text": text}) + "\n" for key, text in texts.items())
        (self.folder / "in.jsonl").write_text("".join(lines))

    def job(self, place: str, run_id: str | None = None, *, accept: bool = False) -> list[Any]:
        """Its run, how many records are done and how many failed."""

        async def run() -> list[Any]:
            async with session(journal=journal) as begun:
                made = Job("flow.py:flow", "in.jsonl", place, concurrency=1)
                found = await run_job(made, begun, run_id=run_id, accept_changes=accept)
                return [found.run_id, found.done, found.failed]

        with SqliteJournal(self.folder / "journal.db") as journal:
            return asyncio.run(run())

    def killed(self, place: str, run_id: str) -> None:
        """The job goes on, accepts changes, and is killed at the record "kill"."""
        (self.folder / "armed").touch()
        ended = subprocess.run(
            [sys.executable, "drive.py", place, run_id],
            capture_output=True,
            text=True,
            check=False,
            env=ENVIRONMENT,
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr

    def ask(self, place: str, statement: str) -> list[Any]:
        file = self.folder / place.partition("///")[2].partition("#")[0]
        if place.startswith("duckdb"):
            with duckdb.connect(str(file)) as connection:
                return connection.execute(statement).fetchall()
        with closing(sqlite3.connect(file)) as found, found:
            return found.execute(statement).fetchall()

    def rows(self, place: str) -> list[Any]:
        return self.ask(place, "SELECT key, n FROM t ORDER BY key")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.chdir(tmp_path)
    yield Desk(tmp_path)
    sys.modules.pop("flow", None)


@TABLES
@pytest.mark.parametrize("accept", [False, True])
def test_killed_before_the_changed_record_failed(desk: Desk, place: str, accept: bool) -> None:
    desk.give(a="1", k="2", b="3")
    run_id, *_ = desk.job(place)
    desk.give(a="1", k="kill", b="three")
    desk.killed(place, run_id)
    assert desk.job(place, run_id, accept=accept) == [run_id, 2, 1]
    assert desk.rows(place) == [("a", 1), ("k", 9)]


@TABLES
@pytest.mark.parametrize("accept", [False, True])
def test_killed_after_the_changed_record_failed(desk: Desk, place: str, accept: bool) -> None:
    desk.give(a="1", b="3", k="2")
    run_id, *_ = desk.job(place)
    desk.give(a="1", b="three", k="kill")
    desk.killed(place, run_id)
    assert desk.job(place, run_id, accept=accept) == [run_id, 2, 1]
    assert desk.rows(place) == [("a", 1), ("k", 9)]


@TABLES
def test_killed_when_another_record_had_the_place_of_the_old_row(desk: Desk, place: str) -> None:
    desk.give(a="1", b="3")
    run_id, *_ = desk.job(place)
    desk.give(a="1", new="2", k="kill", b="three")  # `new` has the place of b now
    desk.killed(place, run_id)
    desk.killed(place, run_id)
    assert desk.job(place, run_id) == [run_id, 3, 1]
    assert desk.rows(place) == [("a", 1), ("k", 9), ("new", 2)]


@TABLES
@pytest.mark.parametrize("accept", [False, True])
def test_killed_while_a_changed_workflow_makes_its_rows_again(
    desk: Desk, place: str, accept: bool
) -> None:
    desk.give(a="1", b="3", k="kill", c="4")
    run_id, *_ = desk.job(place)
    desk.define("int(text)", "10 // (3 - int(text))")
    desk.killed(place, run_id)  # b has failed, which no table has heard of
    desk.job(place, run_id, accept=accept)
    kept = [("a", 5), ("c", -10), ("k", 9)] if accept else [("a", 5), ("c", 4), ("k", 9)]
    assert desk.rows(place) == kept


@TABLES
def test_killed_before_the_table_refuses_the_new_row(desk: Desk, place: str) -> None:
    desk.ask(place, "CREATE TABLE t (key VARCHAR PRIMARY KEY, n BIGINT CHECK (n < 90))")
    desk.give(a="1", b="3", k="2")
    run_id, *_ = desk.job(place)
    desk.give(a="1", b="95", k="kill")
    desk.killed(place, run_id)  # the journal has the new row of b, the table the old
    assert desk.job(place, run_id) == [run_id, 2, 1]
    assert desk.rows(place) == [("a", 1), ("k", 9)]


@TABLES
def test_what_the_table_has_done_is_not_done_to_rows_of_others(desk: Desk, place: str) -> None:
    desk.give(a="1", b="3", k="2")
    run_id, *_ = desk.job(place)
    desk.give(a="1", b="three", k="kill")
    desk.killed(place, run_id)
    desk.job(place, run_id)
    desk.ask(place, "INSERT INTO t VALUES ('b', 7)")
    assert desk.job(place, run_id) == [run_id, 2, 1]  # b fails once more
    assert desk.rows(place) == [("a", 1), ("b", 7), ("k", 9)]
    with SqliteJournal(desk.folder / "journal.db") as journal:
        assert [row.key for row in journal.rows(run_id)] == ["a", "b", "k"]
        assert list(journal.rows_aside(run_id)) == []


@TABLES
def test_a_key_that_comes_a_second_time_takes_no_row_after_a_kill(desk: Desk, place: str) -> None:
    desk.give(a="1", b="2", k="3")
    run_id, *_ = desk.job(place)
    lines = [("b", "2"), ("b", "3"), ("k", "kill")]
    text = "".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in lines)
    (desk.folder / "in.jsonl").write_text(text)
    desk.killed(place, run_id)
    assert desk.job(place, run_id) == [run_id, 2, 1]
    assert desk.rows(place) == [("a", 1), ("b", 2), ("k", 9)]


@TABLES
def test_another_table_loses_nothing_for_what_the_first_has_kept(desk: Desk, place: str) -> None:
    desk.give(a="1", b="3", k="2")
    run_id, *_ = desk.job(place)
    desk.give(a="1", b="three", k="kill")
    desk.killed(place, run_id)
    other = place.replace("///t.", "///other.")
    desk.ask(other, "CREATE TABLE t (key VARCHAR PRIMARY KEY, n BIGINT)")
    desk.ask(other, "INSERT INTO t VALUES ('b', 7)")
    desk.job(other, run_id)
    desk.job(other, run_id)
    assert desk.rows(other) == [("a", 1), ("b", 7), ("k", 9)]
