"""A record that had a row in a table and fails now has none any more; no row of anybody else goes with it."""

from __future__ import annotations

import asyncio
import importlib
import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.workflows.job import Job, JobResult, run_job
from carrara.workflows.places import PlaceError
from carrara.workflows.run import session

DUCK, LITE = "duckdb:///t.duckdb#t", "sqlite:///t.db#t"
TABLES = pytest.mark.parametrize("place", [LITE, DUCK])

FLOW = """
    from typing import TypedDict
    from carrara import step, workflow

    class Number(TypedDict):
        n: int

    class Numbers(TypedDict):
        numbers: list[Number]

    @step
    def read(text: str) -> list[int]:
        return [int(part) for part in text.strip("-").split()]

    @workflow
    async def flow(text: str) -> Numbers:
        return {"numbers": [{"n": n} for n in await read(text)]}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    define()
    yield
    sys.modules.pop("flow", None)


def define(old: str = "", new: str = "") -> None:
    lines = [line.removeprefix("    ") for line in FLOW.replace(old, new).splitlines()]
    Path("flow.py").write_text("\n".join(lines))
    sys.modules.pop("flow", None)
    importlib.invalidate_caches()


def give(*records: tuple[str, str]) -> None:
    lines = (json.dumps({"id": key, "text": text}) + "\n" for key, text in records)
    Path("in.jsonl").write_text("".join(lines))


def job(place: str, run_id: str | None = None, **more: Any) -> JobResult:
    """Runs the job, or goes on with it and accepts changes."""

    async def run() -> JobResult:
        async with session(journal=journal) as begun:
            made = replace(Job("flow.py:flow", "in.jsonl", place), **more)
            return await run_job(made, begun, run_id=run_id, accept_changes=run_id is not None)

    with SqliteJournal(Path("journal.db")) as journal:
        return asyncio.run(run())


def ask(place: str, statement: str) -> list[Any]:
    file = place.partition("///")[2].partition("#")[0]
    if place.startswith("duckdb"):
        with duckdb.connect(file) as connection:
            return connection.execute(statement).fetchall()
    with closing(sqlite3.connect(file)) as found, found:
        return found.execute(statement).fetchall()


def keys(place: str) -> list[str]:
    return [key for (key,) in ask(place, "SELECT key FROM t ORDER BY key")]


@TABLES
@pytest.mark.parametrize(
    ("flatten", "before", "after"),
    [
        (None, ["a", "b", "c"], ["a", "c"]),
        ("numbers", ["a/0", "b/0", "b/1", "c"], ["a/0", "c"]),
    ],
)
def test_a_changed_record_that_fails_leaves_no_row(
    place: str, flatten: str | None, before: list[str], after: list[str]
) -> None:
    give(("a", "1"), ("b", "2 3"), ("c", "-"))
    first = job(place, flatten=flatten)
    assert keys(place) == before
    give(("a", "1"), ("b", "two"), ("c", "-"))
    again = job(place, first.run_id, flatten=flatten)
    assert (again.done, again.failed, again.dropped) == (2, 1, 1)
    assert keys(place) == after


@TABLES
def test_an_empty_list_that_fails_now_leaves_no_row(place: str) -> None:
    give(("a", "1"), ("b", "-"))
    first = job(place, flatten="numbers")
    assert keys(place) == ["a/0", "b"]
    give(("a", "1"), ("b", "two"))
    job(place, first.run_id, flatten="numbers")
    assert keys(place) == ["a/0"]


@TABLES
def test_a_record_that_moved_and_changed_and_fails_leaves_no_row(place: str) -> None:
    give(("a", "1"), ("b", "2"))
    first = job(place)
    give(("new", "0"), ("a", "1"), ("b", "two"))
    job(place, first.run_id)
    assert keys(place) == ["a", "new"]


@TABLES
def test_a_record_that_the_changed_workflow_fails_leaves_no_row(place: str) -> None:
    give(("a", "1"), ("b", "2"))
    first = job(place)
    define("int(part)", "1 // (2 - int(part))")
    again = job(place, first.run_id)
    assert (again.done, again.failed, again.remade) == (1, 1, 1)
    assert keys(place) == ["a"]


@TABLES
def test_a_record_whose_new_row_the_table_refuses_leaves_none(place: str) -> None:
    ask(place, "CREATE TABLE t (key VARCHAR PRIMARY KEY, n BIGINT CHECK (n < 90))")
    define("Numbers:\n        return {\"numbers\": [{\"n\": n} for n in await read(text)]}",
           "Number:\n        return {\"n\": (await read(text))[0]}")  # fmt: skip
    give(("a", "1"), ("b", "2"))
    first = job(place)
    assert keys(place) == ["a", "b"]
    give(("a", "3"), ("b", "95"))
    again = job(place, first.run_id)
    assert (again.done, again.failed) == (1, 1)
    assert ask(place, "SELECT * FROM t") == [("a", 3)]


@TABLES
def test_a_row_that_was_made_again_and_refused_is_not_counted_as_made(place: str) -> None:
    ask(place, "CREATE TABLE t (key VARCHAR PRIMARY KEY, n BIGINT CHECK (n < 90))")
    define("Numbers:\n        return {\"numbers\": [{\"n\": n} for n in await read(text)]}",
           "Number:\n        return {\"n\": (await read(text))[0]}")  # fmt: skip
    give(("a", "1"), ("b", "2"), ("c", "3"))
    first = job(place)
    define("Numbers:\n        return {\"numbers\": [{\"n\": n} for n in await read(text)]}",
           "Number:\n        return {\"n\": 45 * (await read(text))[0]}")  # fmt: skip
    again = job(place, first.run_id)
    assert (again.done, again.failed, again.remade, again.reused) == (1, 2, 1, 0)
    assert ask(place, "SELECT * FROM t") == [("a", 45)]


@TABLES
def test_a_row_that_somebody_else_put_for_a_failed_record_stays(place: str) -> None:
    give(("a", "1"), ("b", "two"))
    first = job(place)
    ask(place, "INSERT INTO t (key) VALUES ('b')")
    give(("a", "1"), ("b", "three"))
    job(place, first.run_id)
    assert keys(place) == ["a", "b"]


@TABLES
def test_the_row_of_a_key_that_comes_a_second_time_stays(place: str) -> None:
    give(("a", "1"), ("b", "2"))
    first = job(place)
    give(("b", "2"), ("b", "3"))
    again = job(place, first.run_id)
    assert (again.done, again.failed) == (1, 1)
    assert keys(place) == ["a", "b"]  # that of a record which is gone is kept


@TABLES
def test_a_job_that_moves_to_another_table_deletes_nothing_there(place: str) -> None:
    give(("a", "1"), ("b", "2"))
    first = job(place)
    other = place.replace("///t.", "///other.")
    asked = "CREATE TABLE t (key VARCHAR PRIMARY KEY, numbers {})"
    text = place.startswith("sqlite")
    ask(other, asked.format("VARCHAR" if text else "STRUCT(n BIGINT)[]"))
    ask(other, "INSERT INTO t (key) VALUES ('b')")
    give(("a", "1"), ("b", "two"))
    job(other, first.run_id)
    assert keys(other) == ["a", "b"]


@TABLES
@pytest.mark.parametrize("other", ["rows.jsonl", "other"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_table_to_which_a_job_comes_back_holds_no_row_that_failed_meanwhile(
    place: str, other: str, times: int
) -> None:
    other = place.replace("///t.", "///other.") if other == "other" else other
    give(("a", "1"), ("b", "2"), ("c", "3"), ("d", "x"))
    first = job(place)
    ask(place, "INSERT INTO t (key) VALUES ('d')")  # by somebody else: d has had no row
    job(other, first.run_id)
    give(("a", "1"), ("b", "two"), ("c", "3"), ("d", "x"))
    for _ in range(times):
        job(other, first.run_id)
    define("int(part)", "10 // (int(part) - 3)")
    job(other, first.run_id)
    assert keys(place) == ["a", "b", "c", "d"]
    back = job(place, first.run_id)
    assert (back.done, back.failed) == (1, 3)
    assert keys(place) == ["a", "d"]
    define()
    give(("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"))
    assert job(place, first.run_id).done == 4
    with SqliteJournal(Path("journal.db")) as journal:
        assert {key for _, key in journal.rows_aside(first.run_id)} <= (
            set() if other == "rows.jsonl" else {"a", "b", "c"}
        )


@TABLES
def test_a_row_that_another_table_refuses_stays_in_none(place: str) -> None:
    other = place.replace("///t.", "///other.")
    define("Numbers:\n        return {\"numbers\": [{\"n\": n} for n in await read(text)]}",
           "Number:\n        return {\"n\": (await read(text))[0]}")  # fmt: skip
    give(("a", "1"), ("b", "95"))
    first = job(place)
    ask(other, "CREATE TABLE t (key VARCHAR PRIMARY KEY, n BIGINT CHECK (n < 90))")
    assert job(other, first.run_id).failed == 1
    give(("a", "1"), ("b", "two"))
    assert job(place, first.run_id).failed == 1
    assert keys(place) == ["a"]


@TABLES
def test_a_table_without_the_new_column_is_refused_before_a_row_is_forgotten(place: str) -> None:
    give(("a", "1"), ("b", "2"))
    first = job(place)
    define("numbers: list[Number]", "numbers: list[Number]\n        more: int")
    with pytest.raises(PlaceError, match="more"):
        job(place, first.run_id)
    with SqliteJournal(Path("journal.db")) as journal:
        assert [row.key for row in journal.rows(first.run_id)] == ["a", "b"]
    assert keys(place) == ["a", "b"]
    define()
    assert job(place, first.run_id).reused == 2
