"""`carrara eval`: marks over labelled rows, as text and as JSON, and rows that cannot be used."""

from __future__ import annotations

import json
from typing import Any

import pytest

from carrara.engines.request import Request

MOOD = """
name: mood
inputs: {input: str}
types: {Mood: {one_of: [glad, sad]}}
steps:
  answer: {llm: "Mood? {{ input }}", returns: Mood}
outputs: {answer: "{{ answer }}"}
"""
ROWS = [
    {"id": "1", "task": "mood", "input": "sun", "gold": "glad"},
    {"id": "2", "task": "mood", "input": "rain", "gold": "sad"},
    {"id": "3", "task": "other", "input": "fog", "gold": "sad"},
]


def mood(request: Request) -> str:
    said = request.messages[-1].content
    return "glad" if "sun" in said or "fog" in said else "sad"


@pytest.fixture
def cassette(shell: Any, recorded: Any) -> Any:
    shell.write("mood.yaml", MOOD)
    shell.write("rows.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS))
    return recorded("mood.yaml", *({"input": row["input"]} for row in ROWS), reply=mood)


def test_the_marks_are_printed_as_text(shell: Any, cassette: Any) -> None:
    ended = shell("eval", "mood.yaml", "rows.jsonl", "--replay", cassette)
    assert ended.code == 0
    for line in ("exact match  0.667", "parse rate   1.000", "an answer    median "):
        assert line in ended.out
    assert "diffusion    3 calls" in ended.out
    assert "task mood: exact match 1.000" in ended.out


def test_the_marks_and_rows_are_given_as_json(shell: Any, cassette: Any) -> None:
    words = ("--replay", cassette, "--json", "--output", "rows.out.jsonl", "-q")
    ended = shell("eval", "mood.yaml", "rows.jsonl", *words)
    assert (ended.code, ended.err) == (0, "")
    marks = ended.data
    assert (marks["rows"], marks["failed"]) == (3, 0)
    assert marks["exact_match"] == pytest.approx(2 / 3, abs=1e-4)
    assert marks["tasks"]["mood"]["exact_match"] == 1.0
    assert marks["engines"]["diffusion"]["calls"] == 3
    assert [row["answer"] for row in shell.rows("rows.out.jsonl")] == ["glad", "sad", "glad"]


def test_a_row_that_fails_is_told_and_counts_as_not_parsed(shell: Any, cassette: Any) -> None:
    shell.write("rows.jsonl", shell.read("rows.jsonl").replace('"sun"', '"snow"'))
    ended = shell("eval", "mood.yaml", "rows.jsonl", "--replay", cassette, "-q")
    assert ended.code == 0
    assert "parse rate   0.667" in ended.out
    assert "failed: 1 x" in ended.err


def test_rows_that_all_fail_end_with_1(shell: Any, cassette: Any) -> None:
    shell.write("rows.jsonl", shell.read("rows.jsonl").replace('"input"', '"text2"'))
    ended = shell("eval", "mood.yaml", "rows.jsonl", "--replay", cassette, "-q")
    assert ended.code == 1
    assert "no field 'input'" in ended.err


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{}", "rows.jsonl:1: a labelled row needs 'gold'"),
        ('{"gold": 1', "rows.jsonl:1: not JSON"),
        ("", "rows.jsonl: empty"),
    ],
)
def test_rows_that_cannot_be_used_are_named(
    shell: Any, cassette: Any, row: str, reason: str
) -> None:
    shell.write("rows.jsonl", row)
    ended = shell("eval", "mood.yaml", "rows.jsonl", "--replay", cassette, "-q")
    assert (ended.code, ended.out) == (2, "")
    assert ended.errors[0].startswith(f"error: {reason}")


def test_rows_are_drawn_and_scored_as_asked(shell: Any, cassette: Any) -> None:
    words = ("--limit", "2", "--seed", "3", "--score", "answers", "--concurrency", "1")
    ended = shell("eval", "mood.yaml", "rows.jsonl", "--replay", cassette, "--json", "-q", *words)
    assert (ended.code, ended.err) == (0, "")
    assert (ended.data["rows"], ended.data["rule"], ended.data["concurrency"]) == (2, "answers", 1)


def test_an_unknown_rule_is_refused(shell: Any, cassette: Any) -> None:
    ended = shell("eval", "mood.yaml", "rows.jsonl", "--replay", cassette, "--score", "poem")
    assert (ended.code, ended.out) == (2, "")
    assert "there is no scoring rule 'poem'; there are: fields, label" in ended.err


def test_the_engine_asked_for_is_the_only_one(shell: Any, cassette: Any) -> None:
    ended = shell(
        "eval", "mood.yaml", "rows.jsonl", "--replay", cassette, "--engine", "ar", "--json", "-q"
    )
    assert ended.code == 1, "the cassette holds no answers of this engine"
    assert set(ended.data["engines"]) <= {"ar"}
