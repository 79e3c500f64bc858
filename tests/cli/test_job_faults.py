"""What befalls a job: a fault costs the records that it hits, the report names them, and the rest comes out right."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from benchmarks.kills import killed

UNRULY = """
import ctypes, os, shutil, threading
from carrara import step, workflow


@step(isolated=True)
def crash(text: str) -> str:
    if text == "exit":
        os._exit(7)
    if text == "fault":
        ctypes.string_at(0)
    return text.upper()


@step(timeout_s=0.2)
def hang(text: str) -> str:
    if text == "hang":
        threading.Event().wait()
    return text.upper()


@step
def lose(text: str) -> str:
    if text == "b" and os.environ.get("LOSE"):
        shutil.rmtree("place")
    return text.upper()


@workflow
async def crashing(text: str) -> str:
    return await crash(text)


@workflow
async def hanging(text: str) -> str:
    return await hang(text)


@workflow
async def losing(text: str) -> str:
    return await lose(text)
"""

ISOLATED = """
name: isolated
inputs: {text: str}
types:
  Word: {letters: str}
steps:
  word:
    python: ./parts.py:word
    with: {text: "{{ text }}"}
    returns: Word
  checked:
    python: ./parts.py:check
    with: {word: "{{ word }}", patience: "{{ text }}"}
    isolated: true
    timeout: 200ms
outputs: {said: "{{ checked }}"}
"""

PARTS = """
import os, threading


def word(text):
    return {"letters": text.upper()}


def check(word, patience):
    if patience == "hang":
        threading.Event().wait()
    if patience == "exit":
        os._exit(7)
    return word.letters
"""


def lines(*texts: str) -> str:
    return "".join(json.dumps({"id": text, "text": text}) + "\n" for text in texts)


def call(target: str, *more: str, output: str = "out.jsonl") -> tuple[str, ...]:
    return ("run", target, "-i", "in.jsonl", "-o", output, "-q", *more)


def said(shell: Any) -> list[str]:
    return [row["value"] for row in shell.rows("out.jsonl")]


def failed(shell: Any) -> dict[str, str]:
    return {row["key"]: row["error"] for row in shell.rows("out.failed.jsonl")}


@pytest.fixture
def unruly(shell: Any) -> Any:
    shell.write("unruly.py", UNRULY)
    return shell


# -- the process -----------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["out.jsonl", "sqlite:///out.db#rows"])
def test_a_job_killed_at_random_moments_loses_and_repeats_nothing(
    tmp_path: Path, output: str
) -> None:
    found = killed(tmp_path, kills=3, records=300, output=output, seed=1)
    wrong = ("missing", "twice", "wrong", "seen_and_lost")
    assert {name: found[name] for name in wrong} == dict.fromkeys(wrong, 0)
    assert (found["kills"], found["rows"]) == (3, 300)


# -- steps -----------------------------------------------------------------------------------------


def test_a_record_that_crashes_its_process_fails_alone(unruly: Any) -> None:
    unruly.write("in.jsonl", lines("a", "exit", "b", "fault", "c"))
    ended = unruly(*call("unruly.py:crashing"))
    assert ended.code == 1, ended.err
    assert said(unruly) == ["A", "B", "C"]
    errors = failed(unruly)
    assert "the process of 'crash' ended with exit code 7" in errors["exit"]
    assert "the process of 'crash' was ended by SIGSEGV" in errors["fault"]


def test_a_record_that_hangs_fails_alone_after_its_time(unruly: Any) -> None:
    unruly.write("in.jsonl", lines("a", "hang", "b"))
    ended = unruly(*call("unruly.py:hanging"))
    assert ended.code == 1
    assert said(unruly) == ["A", "B"]
    assert "took longer than its timeout_s of 0.2 s" in failed(unruly)["hang"]


def test_steps_of_pipelines_are_isolated_with_their_types(shell: Any) -> None:
    shell.write("isolated.yaml", ISOLATED)
    shell.write("parts.py", PARTS)
    shell.write("in.jsonl", lines("a", "exit", "hang", "b"))
    ended = shell(*call("isolated.yaml"))
    assert ended.code == 1
    assert [row["said"] for row in shell.rows("out.jsonl")] == ["A", "B"]
    errors = failed(shell)
    assert "ended with exit code 7" in errors["exit"]
    assert "longer than its timeout_s of 0.2 s; its process was ended" in errors["hang"]
    assert "left a thread behind" not in ended.err


# -- the source ------------------------------------------------------------------------------------


def test_a_changed_source_is_refused_and_can_be_accepted(shell: Any) -> None:
    job = call("flows.py:shout")
    shell.write("in.jsonl", lines("a", "b", "c", "d"))
    assert shell(*job).code == 0
    changed = lines("new", "a") + json.dumps({"id": "c", "text": "other"}) + "\n"
    shell.write("in.jsonl", changed)
    refused = shell(*job, "--resume")
    assert refused.code == 2
    (error,) = refused.errors
    assert "in.jsonl:1: this record was 'a' when the job began and is 'new' now" in error
    assert "--accept-changes" in error
    accepted = shell("resume", "last", "-q", "--accept-changes")
    assert accepted.code == 0, accepted.err
    assert "3 rows of before were dropped: their records have changed or gone" in accepted.err
    assert "1 rows were put elsewhere: their records have only moved" in accepted.err
    assert shell.rows("out.jsonl") == [
        {"key": "new", "said": "NEW!"},
        {"key": "a", "said": "A!"},
        {"key": "c", "said": "OTHER!"},
    ]
    # What only stands elsewhere is not asked for again.
    assert shell.read("calls.log").split() == ["a", "b", "c", "d", "new", "other"]
    assert shell(*job, "--resume").code == 0  # and from now on this is the source
    assert len(shell.read("calls.log").split()) == 6


def test_changes_are_accepted_where_a_job_goes_on(shell: Any) -> None:
    shell.write("in.jsonl", lines("a"))
    ended = shell(*call("flows.py:shout", "--accept-changes"))
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert shell("run", "flows.py:quadruple", "--set", "number=1", "-q").code == 0
    ended = shell("resume", "last", "--accept-changes")
    assert (ended.code, len(ended.errors)) == (2, 1), ended.err


def test_a_document_of_fifty_megabytes_fails_alone_where_no_model_can_read_it(
    shell: Any, recorded: Any
) -> None:
    shell.write("texts/a.txt", "Ada")
    shell.write("texts/b.txt", "lorem ipsum dolor " * 2_900_000)
    shell.write("texts/c.txt", "Alan")
    shell.write("ask.yaml", "inputs: {text: str}\nsteps:\n  ask: {llm: 'Greet {{ text }}'}\n")
    cassette = recorded("ask.yaml", {"text": "Ada"}, {"text": "Alan"})
    ended = shell(
        "run", "ask.yaml", "-i", "texts/*.txt", "-o", "out.jsonl", "--replay", cassette, "-q"
    )
    assert ended.code == 1
    assert [row["key"] for row in shell.rows("out.jsonl")] == ["texts/a.txt", "texts/c.txt"]
    assert list(failed(shell)) == ["texts/b.txt"]
    assert len(shell.read("out.failed.jsonl")) < 10_000


def test_pages_that_no_reader_should_try_fail_alone(shell: Any) -> None:
    shell.write("pages/a.html", "<p>fine</p>")
    shell.write("pages/b.html", "<div>" * 5000 + "deep" + "</div>" * 5000)
    shell.write("pages/c.html", "<p>long</p>" * 900_000)
    shell.write("pages/d.html", "<p>fine, too</p>")
    ended = shell("run", "flows.py:shout", "-i", "pages/*.html", "-o", "out.jsonl", "-q")
    assert ended.code == 1
    assert [row["key"] for row in shell.rows("out.jsonl")] == ["pages/a.html", "pages/d.html"]
    errors = failed(shell)
    assert "nests its elements too deeply" in errors["pages/b.html"]
    assert "an HTML page of 9 MiB, at most 8 are read" in errors["pages/c.html"]


def test_values_of_an_unexpected_type_in_parquet_fail_alone(shell: Any) -> None:
    far = pyarrow.array([5, 2**31 - 1, None, 7], pyarrow.date32())
    raw = pyarrow.array([None, None, b"\xff", None], pyarrow.binary())
    table = pyarrow.table({"id": list("abcd"), "text": list("abcd"), "day": far, "raw": raw})
    pyarrow.parquet.write_table(table, shell.folder / "in.parquet")
    job = ("run", "flows.py:shout", "-i", "in.parquet", "-q", "-o")
    ended = shell(*job, "all.jsonl")  # asks for neither
    assert ended.code == 0
    assert [row["key"] for row in shell.rows("all.jsonl")] == ["a", "b", "c", "d"]
    ended = shell(*job, "out.jsonl", "--where", "(raw is none or raw) and (day is none or day)")
    assert ended.code == 1
    assert [row["key"] for row in shell.rows("out.jsonl")] == ["a", "d"]
    errors = failed(shell)
    assert "column 'day' holds a date32[day] that is out of range" in errors["b"]
    assert "column 'raw' holds binary data" in errors["c"]


def test_a_parquet_column_of_another_type_than_the_input_is_named(shell: Any) -> None:
    table = pyarrow.table({"id": ["a"], "text": [datetime.date(2026, 1, 2)], "mark": [3]})
    pyarrow.parquet.write_table(table, shell.folder / "in.parquet")
    ended = shell("run", "flows.py:shout", "-i", "in.parquet", "-o", "out.jsonl", "-q")
    assert ended.code == 1
    assert "in.parquet:row 1: input 'mark' of shout" in failed(shell)["a"]


def test_a_key_that_comes_again_fails_with_both_places(shell: Any) -> None:
    shell.write("in.jsonl", lines("a", "b") + lines("a", "c"))
    assert shell(*call("flows.py:shout")).code == 1
    assert [row["key"] for row in shell.rows("out.jsonl")] == ["a", "b", "c"]
    assert "the id 'a' stands already at in.jsonl:1" in failed(shell)["a"]


# -- the sink --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "output",
    ["place/out.jsonl", "place/out.parquet", "sqlite:///place/db#t", "duckdb:///place/db#t"],
)
def test_a_sink_that_is_taken_away_is_told_and_made_whole_again(unruly: Any, output: str) -> None:
    unruly.write("in.jsonl", lines("a", "b", "c"))
    job = call("unruly.py:losing", "--concurrency", "1", output=output)
    gone = unruly(*job, env={"LOSE": "yes"})
    assert gone.code == 1
    (error,) = gone.errors
    assert "place/" in error
    assert "--resume" in error
    back = unruly("resume", "last")
    assert back.code == 0, back.err
    assert f"3 rows in {output} (3 from before)" in back.err
    if output.endswith(".jsonl"):
        assert [row["value"] for row in unruly.rows(output)] == ["A", "B", "C"]
