"""Where a job may write: never over what it reads, nor over files that are not its own."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

import pytest

RECORDS = '{"id": "a", "text": "one"}\n{"id": "b", "text": "two"}\n'
JOB = ("run", "flows.py:shout", "-i", "in.jsonl", "-q", "-o")
FAILING = '{"number": 1}\n{"number": 0}\n'


@pytest.fixture
def finished(shell: Any) -> Any:
    """A job from in.jsonl to out.jsonl has ended."""
    shell.write("in.jsonl", RECORDS)
    assert shell(*JOB, "out.jsonl").code == 0
    return shell


@pytest.mark.parametrize("name", ["theirs.jsonl", "theirs.csv", "theirs.parquet"])
def test_a_job_that_moves_overwrites_no_other_file(finished: Any, name: str) -> None:
    finished.write(name, "somebody's\n")
    ended = finished("resume", "last", "--output", name, "-q")
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert f"{name} is there already. Remove it, or name another --output." in ended.err
    assert finished.read(name) == "somebody's\n"


@pytest.mark.parametrize("output", ["new.jsonl", "new.parquet", "sqlite:///new.db#rows"])
def test_a_job_that_moves_overwrites_no_file_of_failed_records(finished: Any, output: str) -> None:
    beside = {"new.jsonl": "new.failed.jsonl", "new.parquet": "new.parquet.failed.jsonl"}
    name = beside.get(output, "new.db.rows.failed.jsonl")
    finished.write(name, "somebody's\n")
    ended = finished("resume", "last", "--output", output, "-q")
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert f"{name} is there already" in ended.err
    assert finished.read(name) == "somebody's\n"


def test_a_job_that_goes_on_makes_its_own_output_anew(finished: Any) -> None:
    whole = finished.read("out.jsonl")
    finished.write("out.jsonl", "broken")
    assert finished("resume", "last", "--output", "./out.jsonl", "-q").code == 0
    assert finished.read("out.jsonl") == whole
    os.symlink("out.jsonl", finished.folder / "link.jsonl")
    finished.write("out.jsonl", "broken")
    assert finished("resume", "last", "-q").code == 0
    assert finished.read("out.jsonl") == whole


def test_a_job_that_moved_and_was_ended_goes_on_where_it_had_moved(shell: Any) -> None:
    shell.write("in.jsonl", FAILING)
    job = ("run", "flows.py:inverse", "-i", "in.jsonl", "-q", "-o", "out.jsonl")
    assert shell(*job).code == 1
    moved = ("resume", "last", "-q", "--output", "z two.jsonl")
    ended = shell(*moved, "--deadline", "0.0001ms")
    assert ended.code == 1
    assert " --output 'z two.jsonl' --deadline 0.0001ms` goes on" in ended.err
    assert shell.read("z two.jsonl")
    again = shell(*moved)
    assert (again.code, "1 failed" in again.err) == (1, True)
    assert shell.read("z two.jsonl") == shell.read("out.jsonl")
    assert shell.read("z two.failed.jsonl")
    assert shell(*job, "--resume").code == 1  # it is that of its first output still
    assert shell.read("out.failed.jsonl")


@pytest.mark.parametrize("name", ["in.jsonl", "./in.jsonl", "hard.jsonl", "soft.jsonl"])
def test_a_job_never_writes_over_its_source(finished: Any, name: str) -> None:
    os.link(finished.folder / "in.jsonl", finished.folder / "hard.jsonl")
    os.symlink("in.jsonl", finished.folder / "soft.jsonl")
    for call in (("resume", "last", "-q", "-o"), JOB):
        ended = finished(*call, name)
        assert (ended.code, len(ended.errors)) == (2, 1)
        assert f"{name.removeprefix('./')} is a file that the job reads" in ended.err
        assert finished.read("in.jsonl") == RECORDS


def test_failed_records_are_not_written_over_the_source(shell: Any) -> None:
    shell.write("rows.failed.jsonl", FAILING)
    assert shell("run", "flows.py:inverse", "-i", "*.jsonl", "-q", "-o", "other.csv").code == 1
    ended = shell("resume", "last", "-q", "--output", "rows.jsonl")
    assert ended.code == 2
    assert "rows.failed.jsonl is a file that the job reads" in ended.err
    assert shell.read("rows.failed.jsonl") == FAILING


@pytest.mark.parametrize("scheme", ["sqlite", "duckdb"])
@pytest.mark.parametrize(
    "what", ["texts", "main.texts", "SELECT key, said FROM texts WHERE key > ''"]
)
def test_a_job_never_writes_into_the_table_that_it_reads(
    shell: Any, scheme: str, what: str
) -> None:
    shell.write("in.jsonl", RECORDS)
    assert shell(*JOB, f"{scheme}:///my.db#texts").code == 0
    before = (shell.folder / "my.db").read_bytes()
    ended = shell(
        "run", "flows.py:shout", "-i", f"{scheme}:///my.db#{what}", "--map", "text=said", "-q",
        "-o", f"{scheme}:///./my.db#Texts",
    )  # fmt: skip
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert "is the table that the job reads: name another --output" in ended.err
    assert (shell.folder / "my.db").read_bytes() == before


def test_a_new_table_may_stand_beside_the_one_that_is_read(shell: Any) -> None:
    with sqlite3.connect(shell.folder / "my.db") as connection:
        connection.execute("CREATE TABLE texts (id TEXT PRIMARY KEY, text TEXT)")
        connection.execute("INSERT INTO texts VALUES ('a', 'one')")
    connection.close()
    ended = shell(
        "run", "flows.py:shout", "-i", "sqlite:///my.db#texts", "-q", "-o", "sqlite:///other.db#texts"
    )  # fmt: skip
    assert ended.code == 0, ended.err
