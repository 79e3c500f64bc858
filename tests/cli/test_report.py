"""`carrara report`: 0 for a report, 2 for a wrong call, 1 for a journal that cannot be read."""

from __future__ import annotations

from typing import Any

import pytest


def test_a_job_is_reported_as_markdown_and_as_a_page(shell: Any) -> None:
    shell.write("in.jsonl", '{"id": "a", "text": "x"}\n{"id": "b", "text": ""}\n')
    assert shell("run", "flows.py:shout", "-i", "in.jsonl", "-o", "out.jsonl", "-q").code == 1
    ended = shell("report")
    assert ended.code == 0, ended.err
    assert "1 rows, 1 failed records." in ended.out
    assert "in.jsonl:2: the field 'text' is empty" in ended.out
    assert shell("report", "last", "-o", "out.html").code == 0
    assert shell.read("out.html").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--journal", "gone.db"), 2, "there is no journal at gone.db"),
        (("--journal", "flows.py"), 1, "journal flows.py: it is no journal, or damaged"),
        (("zzzz",), 2, "holds no run 'zzzz'"),
        (("-o", "out.txt"), 2, "a report is an .html or .md file, not 'out.txt'"),
        (("last",), 2, "is no job: `carrara show"),
    ],
)
def test_what_cannot_be_reported_is_told(
    shell: Any, words: tuple[str, ...], code: int, told: str
) -> None:
    assert shell("run", "flows.py:quadruple", "--set", "number=4", "-q").code == 0
    ended = shell("report", *words)
    assert (ended.code, len(ended.errors)) == (code, 1)
    assert told in ended.err


ODD = """
from carrara import step, workflow


@step
async def read(text: str) -> str:
    raise ValueError(f"cannot open caf\\udce9{text}.txt and \\ud83d")


@workflow
async def odd(text: str) -> str:
    return await read(text)
"""


def test_half_a_character_in_a_reason_breaks_no_report(shell: Any) -> None:
    shell.write("odd.py", ODD)
    shell.write("in.jsonl", '{"id": "a", "text": "x"}\n')
    assert shell("run", "odd.py:odd", "-i", "in.jsonl", "-o", "out.jsonl", "-q").code == 1
    (failed,) = shell.rows("out.failed.jsonl")
    assert r"cannot open caf\udce9x.txt and \ud83d" in failed["error"]
    for call in (
        ("report", "last"),
        ("report", "last", "-o", "r.html"),
        ("report", "last", "-o", "r.md"),
        ("show", "last", "--events"),
        ("show", "last", "--json"),
    ):
        ended = shell(*call)
        assert ended.code == 0, ended.err
    assert r"caf\udce9x.txt" in shell.read("r.html")
