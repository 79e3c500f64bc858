"""A job or run that is stopped in the middle: Ctrl-C, kill -9, a full disk. Nothing finished is lost or done twice."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

TEXTS = ("a", "b", "c", "d", "e", "f")
JOB = ("run", "flows.py:shout", "-i", "in.jsonl", "-o", "out.jsonl", "--concurrency", "1")
WHOLE = [{"key": text, "said": text.upper() + "!"} for text in TEXTS]


@pytest.fixture(autouse=True)
def records(shell: Any) -> None:
    shell.write("in.jsonl", "".join(json.dumps({"id": t, "text": t}) + "\n" for t in TEXTS))


def test_ctrl_c_ends_a_job_with_130_and_resume_finishes_it(shell: Any) -> None:
    ended = shell.stopped(*JOB, at="d", by=signal.SIGINT)
    assert (ended.code, ended.out) == (130, "")
    assert "interrupted" in ended.err
    (run,) = shell("runs", "--json").data
    assert (run["status"], run["error"]) == ("interrupted", "cancelled from outside")
    assert f"`carrara resume {run['run_id']}` goes on from there" in ended.err
    assert shell.rows("out.jsonl") == WHOLE[:3]
    again = shell(*JOB, "--resume")
    assert again.code == 0, again.err
    assert shell.rows("out.jsonl") == WHOLE
    assert shell.read("calls.log").split() == ["a", "b", "c", "d", "d", "e", "f"]


def test_a_killed_job_goes_on_where_it_was(shell: Any) -> None:
    ended = shell.stopped(*JOB, at="e", by=signal.SIGKILL)
    assert ended.code == -signal.SIGKILL
    assert shell("runs", "--json").data[0]["status"] == "interrupted"
    again = shell("resume", "last")
    assert again.code == 0, again.err
    assert "(4 from before)" in again.err
    assert shell.rows("out.jsonl") == WHOLE
    assert shell.read("calls.log").split() == ["a", "b", "c", "d", "e", "e", "f"]


def test_a_job_can_be_killed_over_and_over(shell: Any) -> None:
    for count, text in enumerate(TEXTS):
        go_on = ("--resume",) if count else ()
        shell.stopped(*JOB, *go_on, at=text, by=signal.SIGKILL)
        assert shell.rows("out.jsonl") == WHOLE[:count]
    assert shell(*JOB, "--resume").code == 0
    assert shell.rows("out.jsonl") == WHOLE


def test_an_output_cut_in_the_middle_of_a_row_is_made_whole(shell: Any) -> None:
    shell.stopped(*JOB, at="d", by=signal.SIGKILL)
    shell.write("out.jsonl", shell.read("out.jsonl")[:-9])
    assert shell(*JOB, "--resume").code == 0
    assert shell.rows("out.jsonl") == WHOLE


def test_rows_that_waited_for_an_earlier_one_are_not_lost(shell: Any) -> None:
    job = (*JOB[:-1], "3")
    ended = shell.stopped(*job, at="a", by=signal.SIGINT)
    assert ended.code == 130
    kept = shell.rows("out.jsonl")
    assert kept == [row for row in WHOLE if row in kept]
    again = shell(*job, "--resume")
    assert f"({len(kept)} from before)" in again.err or not kept
    assert shell.rows("out.jsonl") == WHOLE


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_a_single_run_goes_on_after_the_steps_it_finished(shell: Any, by: signal.Signals) -> None:
    call = ("run", "flows.py:chain", "--set", 'words=["a", "b", "c"]', "-q")
    ended = shell.stopped(*call, at="c", by=by)
    assert ended.code == (130 if by == signal.SIGINT else -by)
    again = shell("resume", "last", "-q")
    assert (again.code, again.data) == (0, ["A", "B", "C"])
    assert shell.read("calls.log").split() == ["a", "b", "c", "c"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_ctrl_c_does_not_wait_for_a_body_that_blocks_its_thread(shell: Any, kind: str) -> None:
    shell.write(
        "blocked.py",
        "import asyncio, os, threading\n"
        "from carrara import step, workflow\n"
        "def block() -> None:\n"
        "    os.write(int(os.environ['REACHED']), b'reached')\n"
        "    threading.Event().wait()\n"
        "@step\n"
        + (
            "def wait(n: int) -> int:\n    block()\n"
            if kind == "sync"
            else "async def wait(n: int) -> int:\n    await asyncio.to_thread(block)\n"
        )
        + "@workflow\n"
        "async def blocked(n: int = 1) -> int:\n"
        "    return await wait(n)\n",
    )
    ended = shell.stopped("run", "blocked.py", "-q", at="", by=signal.SIGINT)
    assert ended.code == 130
    assert ("left a thread behind in step 'blocked/wait'" in ended.err) is (kind == "sync")


def test_a_step_that_timed_out_in_its_thread_does_not_keep_the_process(shell: Any) -> None:
    shell.write(
        "late.py",
        "import threading\n"
        "from carrara import step, workflow\n"
        "@step(timeout_s=0.5)\n"
        "def wait(n: int) -> int:\n"
        "    threading.Event().wait()\n"
        "@workflow\n"
        "async def late(n: int = 1) -> int:\n"
        "    return await wait(n)\n",
    )
    ended = shell("run", "late.py", "-q")
    assert ended.code == 1
    assert "left a thread behind in step 'late/wait'" in ended.err
    assert "longer than its timeout_s of 0.5 s" in ended.errors[0]


def limit_files(size: int) -> Any:
    """What keeps a child from writing files larger than `size` bytes: its disk is full from there on."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_journal_on_a_full_disk_is_one_error_and_what_it_holds_is_kept(shell: Any) -> None:
    texts = [f"{n:03d}" + "x" * 2000 for n in range(200)]
    shell.write("in.jsonl", "".join(json.dumps({"id": t[:3], "text": t}) + "\n" for t in texts))
    full = shell.cold(*JOB, "-q", before=limit_files(300_000))
    assert full.code == 1
    (error,) = full.errors
    assert ".carrara/journal.db" in error
    kept = shell.rows("out.jsonl")
    assert 0 < len(kept) < len(texts)
    again = shell(*JOB, "-q", "--resume")
    assert again.code == 0, again.err
    assert [row["key"] for row in shell.rows("out.jsonl")] == [text[:3] for text in texts]
    done = shell.read("calls.log").split()
    assert done.count(texts[0]) == 1


def test_a_journal_that_cannot_be_made_is_one_error(shell: Any) -> None:
    ended = shell(*JOB, "-q", "--journal", "flows.py/journal.db")
    assert (ended.code, len(ended.errors)) == (1, 1)
    assert "journal flows.py/journal.db" in ended.err
    assert not (shell.folder / "out.jsonl").exists()


def test_rows_on_a_full_disk_are_kept_and_written_elsewhere(shell: Any) -> None:
    full = shell("run", "flows.py:shout", "-i", "in.jsonl", "-o", "/dev/full", "-q")
    assert full.code == 1
    (error,) = full.errors
    assert "cannot write /dev/full: No space left on device" in error
    assert shell("resume", "last", "--output", "out.jsonl", "-q").code == 0
    assert shell.rows("out.jsonl") == WHOLE


def test_beside_a_device_nothing_is_left_and_failed_records_are_told(shell: Any) -> None:
    shell.write("numbers.jsonl", '{"number": 1}\n{"number": 0}\n')
    call = ("run", "flows.py:inverse", "-i", "numbers.jsonl", "-q", "-o")
    ended = shell(*call, "/dev/stdout")
    assert ended.code == 1
    assert [json.loads(line) for line in ended.out.splitlines()] == [
        {"key": "line:1", "value": 1.0}
    ]
    assert "failed: numbers.jsonl:2: " in ended.err
    assert "division by zero" in ended.err
    assert shell(*call, "/dev/null").code == 1
    assert not list(Path("/dev").glob("*.failed.jsonl"))


def test_a_result_on_a_full_disk_is_kept_and_written_elsewhere(shell: Any) -> None:
    full = shell("run", "flows.py:shout", "--set", "text=a", "-o", "/dev/full", "-q")
    assert full.code == 1
    (error,) = full.errors
    assert "cannot write /dev/full: No space left on device" in error
    assert "--output PLACE` writes the result of this run" in error
    assert shell("resume", "last", "-o", "here.json", "-q").code == 0
    assert json.loads(shell.read("here.json")) == {"said": "A!"}
    assert shell.read("calls.log") == "a\n"


def test_a_full_standard_output_is_one_error(shell: Any) -> None:
    import subprocess

    with open("/dev/full", "w") as full:
        found = subprocess.run(
            shell.command(("run", "flows.py:quadruple", "--set", "number=1", "-q")),
            cwd=shell.folder,
            env=shell.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert found.returncode == 1
    assert found.stderr == "error: cannot write the result: No space left on device\n"


def test_a_character_that_standard_output_has_not_is_one_error(shell: Any) -> None:
    import subprocess

    found = subprocess.run(
        shell.command(("run", "flows.py:chain", "--set", 'words=["caf\u00e9"]', "-q")),
        cwd=shell.folder,
        env={**shell.environment, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 1
    said = "error: cannot write the result: standard output takes ascii, which has no '\\xc9'\n"
    assert (found.stdout, found.stderr) == ("", said)
