"""`carrara explain`: one call of a job is found by its record, whatever came of that."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from carrara.engines.errors import EngineBusy, EngineRefused
from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.workflows.job import Job, run_job
from carrara.workflows.run import session

FLOW = """
name: parity
inputs: {number: int}
steps:
  answer: {llm: "Is {{ number }} even?", returns: {one_of: [even, odd]}}
  why: {llm: "Why is {{ number }} {{ answer }}?"}
outputs: {answer: "{{ answer }}", why: "{{ why }}"}
"""
KEYS = ["c", "b", "1", "bad[0]"]


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a job of four records; the third is sent away once, the last one is refused."""
    folder = tmp_path_factory.mktemp("job")
    (folder / "p.yaml").write_text(FLOW)
    rows = (json.dumps({"id": key, "number": at}) for at, key in enumerate(KEYS))
    (folder / "in.jsonl").write_text("\n".join(rows))
    waits = iter([EngineBusy("429: slow down", engine="ar", retry_after_s=0.01)])

    def reply(request: Request) -> Any:
        if "Is 3" in request.messages[-1].content:
            return EngineRefused("the number is bad", engine="ar")
        if "Is 2" in request.messages[-1].content:
            return next(waits, "even")
        return "even"

    async def main() -> None:
        engines = {"ar": ScriptedEngine("ar", reply)}
        async with session(engines=engines, journal=folder / "j.db") as kept:
            job = Job("p.yaml", "in.jsonl", "out.jsonl", folder=str(folder), trust=True)
            await run_job(job, kept)

    asyncio.run(main())
    return folder / "j.db"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("answer[0]", ["record[0]/parity/answer  (record c)"]),
        ("answer[b]", ["record[1]/parity/answer  (record b)"]),
        ("parity/answer[c]", ["record[0]/parity/answer  (record c)"]),
        (
            "answer[1]",
            ["record[1]/parity/answer  (record b)", "record[2]/parity/answer  (record 1)"],
        ),  # a number, and a key
        ("record[0]", ["record[0]/parity/answer  (record c)", "record[0]/parity/why  (record c)"]),
        ("record[0]/parity/why", ["record[0]/parity/why  (record c)"]),
        ("answer[bad[0]]", ["record[3]/parity/answer  (record bad[0])"]),
        ("record[3]", ["record[3]/parity/answer  (record bad[0])"]),
    ],
)
def test_a_call_of_a_job_is_found_by_the_number_or_the_key_of_its_record(
    shell: Any, journal: Path, asked: str, told: list[str]
) -> None:
    done = shell("explain", "last", asked, "--journal", journal)
    found = [line for line in done.out.splitlines() if not line.startswith(" ")]
    assert [line.removeprefix("parity (job)/") for line in found] == told


def test_a_failed_record_and_a_wait_are_told(shell: Any, journal: Path) -> None:
    failed = shell("explain", "last", "answer[3]", "--journal", journal).out
    assert "failed: " in failed
    assert "the number is bad" in failed
    waited = shell("explain", "last", "answer[2]", "--journal", journal).out.splitlines()
    assert [line.split("s  ", 1)[-1].partition(":")[0] for line in waited[2:5]] == [
        "ask ar",
        "ar is busy and asks for a wait of 0.01 s",
        "ask ar",
    ]


def test_a_record_that_is_not_there_is_an_error(shell: Any, journal: Path) -> None:
    done = shell("explain", "last", "answer[9]", "--journal", journal)
    assert done.code == 2
    assert "holds no call of step 'answer[9]'; steps that asked one: answer, why" in done.err
