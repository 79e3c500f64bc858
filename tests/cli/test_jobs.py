"""Jobs on the command line: records in, one row each out, failed ones beside them, and going on."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest


def lines(*texts: str) -> str:
    return "".join(json.dumps({"id": text, "text": text}) + "\n" for text in texts)


def job(source: str, output: str = "out.jsonl") -> tuple[str, ...]:
    return ("run", "flows.py:shout", "--input", source, "--output", output)


def test_json_lines_give_a_row_each_in_input_order(shell: Any) -> None:
    shell.write("in.jsonl", lines("a", "b", "c"))
    ended = shell(*job("in.jsonl"))
    assert (ended.code, ended.out) == (0, "")
    assert shell.rows("out.jsonl") == [
        {"key": "a", "said": "A!"},
        {"key": "b", "said": "B!"},
        {"key": "c", "said": "C!"},
    ]
    assert "3 rows in out.jsonl, 0 failed" in ended.err
    assert not (shell.folder / "out.failed.jsonl").exists()


def test_a_glob_gives_a_row_for_each_file(shell: Any) -> None:
    for name in ("b", "a"):
        shell.write(f"texts/{name}.txt", f"text {name}")
    shell.write("texts/other.md", "not asked for")
    assert shell(*job("texts/*.txt")).code == 0
    assert shell.rows("out.jsonl") == [
        {"key": "texts/a.txt", "said": "TEXT A!"},
        {"key": "texts/b.txt", "said": "TEXT B!"},
    ]


def test_csv_columns_are_inputs(shell: Any) -> None:
    shell.write("in.csv", 'id,words,mark\n1,"one, two",?\n2,three,.\n')
    assert shell(*job("in.csv"), "--map", "text=words").code == 0
    assert [row["said"] for row in shell.rows("out.jsonl")] == ["ONE, TWO?", "THREE."]


def test_standard_input_is_a_source(shell: Any) -> None:
    assert shell(*job("-"), stdin=lines("a", "b")).code == 0
    assert [row["key"] for row in shell.rows("out.jsonl")] == ["a", "b"]


def test_constants_and_a_limit_hold_for_all_records(shell: Any) -> None:
    shell.write("in.jsonl", lines("a", "b", "c"))
    ended = shell(*job("in.jsonl"), "--set", "mark=?", "--limit", "2", "--concurrency", "1")
    assert ended.code == 0
    assert [row["said"] for row in shell.rows("out.jsonl")] == ["A?", "B?"]


def test_rows_may_come_as_they_are_completed(shell: Any) -> None:
    shell.write("in.jsonl", lines(*"abcdef"))
    assert shell(*job("in.jsonl"), "--order", "completed").code == 0
    assert {row["key"] for row in shell.rows("out.jsonl")} == set("abcdef")


def test_a_pipeline_answers_records_from_a_cassette(shell: Any, recorded: Any) -> None:
    cassette = recorded("greet.yaml", {"name": "Ada"}, {"name": "Alan"})
    shell.write("in.csv", "name\nAda\nAlan\nGrace\n")
    ended = shell(
        "run", "greet.yaml", "-i", "in.csv", "-o", "out.jsonl", "--replay", cassette, "-q"
    )
    assert ended.code == 1
    assert [row["mood"] for row in shell.rows("out.jsonl")] == ["glad", "glad"]
    (failed,) = shell.rows("out.failed.jsonl")
    assert failed["where"] == "in.csv:4"
    assert "CassetteMiss" in failed["error"]


def test_records_that_fail_stand_beside_the_output_with_their_reason(shell: Any) -> None:
    shell.write("in.jsonl", '{"id": "x", "number": 4}\n{"id": "y", "number": 0}\n')
    ended = shell("run", "flows.py:inverse", "-i", "in.jsonl", "-o", "out.jsonl")
    assert ended.code == 1
    assert shell.rows("out.jsonl") == [{"key": "x", "value": 0.25}]
    (failed,) = shell.rows("out.failed.jsonl")
    assert (failed["key"], failed["where"]) == ("y", "in.jsonl:2")
    assert "division by zero" in failed["error"]
    assert "out.failed.jsonl" in ended.err


def test_failed_records_are_tried_again_and_finished_ones_are_not(shell: Any) -> None:
    shell.write("in.jsonl", '{"id": "x", "number": 4}\n{"id": "y", "number": 0}\n')
    call = ("run", "flows.py:inverse", "-i", "in.jsonl", "-o", "out.jsonl")
    assert shell(*call).code == 1
    shell.write("flows.py", shell.read("flows.py").replace("1 / number", "number and 1 / number"))
    ended = shell(*call, "--resume")
    assert ended.code == 0
    assert "(1 from before)" in ended.err
    assert "flows.py:inverse has changed since the job began: 1 of the rows" in ended.err
    assert re.search(r"kept; `carrara resume \w+ --accept-changes` makes them again", ended.err)
    assert [row["value"] for row in shell.rows("out.jsonl")] == [0.25, 0]
    assert not (shell.folder / "out.failed.jsonl").exists()


CHAIN = """
from carrara import step, workflow


@step
def half(number: int) -> float:
    with open("done.log", "a") as log:
        print("half", number, file=log)
    return number / 2


@step
def said(found: float) -> str:
    return f"about {found:g}"


@workflow
async def chain(number: int) -> str:
    return await said(await half(number))
"""


def test_only_what_has_changed_is_done_again(shell: Any) -> None:
    shell.write("in.jsonl", '{"id": "x", "number": 4}\n{"id": "y", "number": 6}\n')
    shell.write("chain.py", CHAIN)
    call = ("run", "chain.py", "-i", "in.jsonl", "-o")
    assert shell(*call, "out.jsonl").code == 0
    shell.write("chain.py", CHAIN.replace("about", "nearly"))
    ended = shell(*call, "out.jsonl", "--resume", "--accept-changes")
    assert ended.code == 0, ended.err
    assert "2 rows of the earlier definition were made again" in ended.err
    assert [row["value"] for row in shell.rows("out.jsonl")] == ["nearly 2", "nearly 3"]
    shell.write("chain.py", CHAIN)
    assert shell(*call, "old.jsonl", "--reuse").code == 0
    assert [row["value"] for row in shell.rows("old.jsonl")] == ["about 2", "about 3"]
    assert sorted(shell.read("done.log").splitlines()) == ["half 4", "half 6"]
    assert shell(*call, "new.jsonl").code == 0
    assert len(shell.read("done.log").splitlines()) == 4


def test_a_finished_job_goes_on_with_nothing_left_to_do(shell: Any) -> None:
    shell.write("in.jsonl", lines("a", "b"))
    shell(*job("in.jsonl"))
    before = shell.read("out.jsonl")
    ended = shell(*job("in.jsonl"), "--resume")
    assert (ended.code, shell.read("out.jsonl")) == (0, before)
    assert "has changed" not in ended.err
    assert shell.read("calls.log").split() == ["a", "b"]


def test_an_output_that_is_there_is_never_overwritten(shell: Any) -> None:
    shell.write("in.jsonl", lines("a"))
    shell.write("out.jsonl", "precious\n")
    ended = shell(*job("in.jsonl"))
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert "out.jsonl is there already" in ended.err
    assert shell.read("out.jsonl") == "precious\n"


def test_a_changed_input_is_not_mixed_into_an_earlier_job(shell: Any) -> None:
    shell.write("in.jsonl", lines("a", "b"))
    shell(*job("in.jsonl"))
    shell.write("in.jsonl", lines("z", "b"))
    ended = shell(*job("in.jsonl"), "--resume")
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert "in.jsonl:1: this record was 'a'" in ended.err


@pytest.mark.parametrize("words", [("--resume",), ("resume", "last")], ids=" ".join)
def test_what_was_never_begun_cannot_go_on(shell: Any, words: tuple[str, ...]) -> None:
    shell.write("in.jsonl", lines("a"))
    ended = shell(*job("in.jsonl"), *words) if words[0] == "--resume" else shell(*words)
    assert ended.code in {1, 2}
    assert len(ended.errors) == 1


def test_a_step_that_exits_loses_its_record_alone(shell: Any) -> None:
    shell.write(
        "leaves.py",
        "import sys\n\nfrom carrara import step, workflow\n\n\n"
        "@step\ndef odd(number: int) -> int:\n"
        "    return sys.exit('no ones') if number == 1 else number\n\n\n"
        "@workflow\nasync def keep(number: int) -> int:\n    return await odd(number)\n",
    )
    shell.write("numbers.jsonl", "".join(f'{{"number": {n}}}\n' for n in range(3)))
    ended = shell("run", "leaves.py", "-i", "numbers.jsonl", "-o", "rows.jsonl", "-q")
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert len(shell.read("rows.jsonl").splitlines()) == 2
    assert "sys.exit('no ones') was called" in shell.read("rows.failed.jsonl")
