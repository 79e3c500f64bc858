"""`carrara run --review` and `carrara review`, on a terminal of its own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from typing import Any

import pytest

from carrara.engines.request import Completion, Confidence, Request, Usage


def reviewed(shell: Any, keys: list[bytes]) -> tuple[int, str]:
    """Exit code and what was drawn; a key is pressed when the screen has come to rest behind the last one."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 110, 0, 0))
    child = subprocess.Popen(
        [sys.executable, "-m", "carrara", "review", "out.review.jsonl"],
        cwd=shell.folder,
        env={**shell.environment, "TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    drawn, waiting, seen = b"", list(keys), 0
    try:
        while some := os.read(ours, 65536):
            drawn += some
            if waiting and drawn.count(b"quit") + drawn.count(b"clear") > seen:
                seen = drawn.count(b"quit") + drawn.count(b"clear")  # the last line of each screen
                os.write(ours, waiting.pop(0))
    except OSError:  # Linux says EIO where the other side has gone
        pass
    finally:
        os.close(ours)
    return child.wait(timeout=60), drawn.decode()


def test_a_job_is_reviewed_and_its_edits_are_labelled_rows(shell: Any, recorded: Any) -> None:
    def unsure(request: Request) -> Completion:
        text = "glad" if request.output.kind == "choice" else "Hello!"
        return Completion(text, None, Confidence(0.8), Usage())

    cassette = recorded("greet.yaml", {"name": "Ada"}, {"name": "Alan"}, reply=unsure)
    shell.write("in.jsonl", '{"id": 1, "name": "Ada"}\n{"id": 2, "name": "Alan"}\n')
    job = ("run", "greet.yaml", "-i", "in.jsonl", "-o", "out.jsonl", "--replay", cassette, "-q")
    ended = shell(*job, "--review", "1.0")
    assert ended.code == 0, ended.err
    assert "2 of them to look at: carrara review out.review.jsonl" in ended.err
    trusted = shell.rows("out.trust.jsonl")
    assert [row["key"] for row in trusted] == ["1", "2"]
    assert trusted[0]["fields"]["/mood"]["engine"] == "diffusion"
    assert [row["doubtful"] for row in shell.rows("out.review.jsonl")] == [
        ["", "/greeting", "/mood"]
    ] * 2
    code, drawn = reviewed(shell, [b"\x1b[B", b"e", b"\x15", b"sad", b"\r", b"a", b"q"])
    assert code == 1, drawn  # one is left
    assert "1 of 2 rows decided" in drawn
    (row,) = shell.rows("out.labelled.jsonl")
    assert (row["name"], row["gold"]["mood"]) == ("Ada", "sad")
    code, drawn = reviewed(shell, [b"r"])  # it goes on at the second one, and ends behind it
    assert (code, "2 of 2 rows decided" in drawn) == (0, True)
    decided = [json.loads(line) for line in shell.read("out.decided.jsonl").splitlines()]
    assert [line["decision"] for line in decided] == ["edited", "rejected"]


ROW = {
    "key": "a\u2028b", "where": "in.jsonl:1", "row": {"said": "x"}, "fields": {}, "doubtful": [""],
    "confidence": None, "inputs": {"text": "x"}, "text": "text", "gold_at": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no file in.review.jsonl"),
        ("", "empty, there is no row to review"),
        (
            '{"key": "a", "said": "x"}\n',
            "in.review.jsonl:1: not a row to review, it has no 'where'",
        ),
        ("{\n", "in.review.jsonl:1: not JSON"),
        (b"\xff", "not UTF-8 text (byte 0)"),
        (json.dumps(ROW, ensure_ascii=False), "a review needs a terminal"),
    ],
)
def test_what_cannot_be_reviewed_is_a_wrong_call(shell: Any, content: Any, told: str) -> None:
    if content is not None:
        shell.write("in.review.jsonl", content)
    ended = shell("review", "in.review.jsonl")
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert told in ended.err


def test_a_broken_file_of_decisions_names_its_line(shell: Any) -> None:
    shell.write("in.review.jsonl", json.dumps(ROW))
    shell.write("in.decided.jsonl", '{"key": "a", "decision": "perhaps", "row": null}\n')
    ended = shell("review", "in.review.jsonl")
    assert ended.code == 2
    assert "in.decided.jsonl:1: no decision is called 'perhaps'; there are accepted" in ended.err


def test_nothing_can_be_put_beside_a_device(shell: Any) -> None:
    shell.write("in.jsonl", '{"text": "a"}\n')
    words = ("run", "flows.py:shout", "-i", "in.jsonl", "-o", "/dev/stdout", "--trust")
    ended = shell(*words)
    assert (ended.code, ended.out, len(ended.errors)) == (2, "", 1)


def test_trust_is_for_jobs(shell: Any) -> None:
    ended = shell("run", "flows.py:quadruple", "--set", "number=4", "--trust")
    assert (ended.code, len(ended.errors)) == (2, 1)


def test_a_job_goes_on_with_the_files_that_it_began_with(shell: Any) -> None:
    shell.write("in.jsonl", '{"text": "a"}\n{"text": "b"}\n')
    job = ("run", "flows.py:shout", "-i", "in.jsonl", "-o", "out.jsonl", "-q")
    assert shell.stopped(*job, "--trust", "--concurrency", "1", at="b", by=signal.SIGKILL).code != 0
    ended = shell(*job, "--resume")
    assert ended.code == 0, ended.err
    found = shell.rows("out.trust.jsonl")
    assert [line["key"] for line in found] == ["line:1", "line:2"]
    said = found[0]["fields"]["/said"]
    assert said == {
        "confidence": None,
        "engine": None,
        "repaired": [],
        "span": None,
        "found": "nowhere",
    }
