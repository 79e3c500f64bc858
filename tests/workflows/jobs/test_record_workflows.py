"""The workflow of a record runs within the record: its steps have the paths of a sub-workflow, its errors, too."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from carrara.runtime.events import Event, StepFailed, StepStarted
from carrara.workflows.job import Job, JobResult, run_job
from carrara.workflows.run import session

FLOWS = """
import asyncio
from carrara import step, workflow

@step
async def shout(text: str) -> str:
    return text.upper()

@step
async def lose(text: str) -> str:
    raise RuntimeError("lost")

@workflow
async def inner(text: str) -> str:
    return await shout(text)

@workflow
async def outer(text: str) -> str:
    if text == "slip":
        raise KeyError("absent")
    if text.startswith("quote"):
        raise ValueError(f"cannot read {text}")
    if text == "out":
        raise GeneratorExit(text)
    if text == "cancelled":
        raise asyncio.CancelledError(text)
    if text == "unseen":
        lose(text)
        return "nobody looked"
    return await inner(text) + await shout(text)
"""


def run(folder: Path, *texts: str) -> tuple[JobResult, list[Event], dict[str, Any]]:
    flows = folder / f"flows_{folder.name}.py"
    flows.write_text(FLOWS)
    lines = (json.dumps({"id": text, "text": text}) + "\n" for text in texts)
    (folder / "in.jsonl").write_text("".join(lines))
    events: list[Event] = []
    job = Job(f"{flows}:outer", f"{folder}/in.jsonl", f"{folder}/out.jsonl")

    async def main() -> JobResult:
        async with session(journal=folder / "j.db") as kept:
            return await run_job(job, kept, listeners=[events.append])

    result = asyncio.run(main())
    failed = folder / "out.failed.jsonl"
    rows = map(json.loads, failed.read_text().splitlines()) if failed.exists() else ()
    return result, events, {row["key"]: row for row in rows}


def test_steps_have_the_paths_of_a_sub_workflow(tmp_path: Path) -> None:
    result, events, _ = run(tmp_path, "a")
    assert (result.done, result.failed) == (1, 0)
    paths = [event.path for event in events if isinstance(event, StepStarted)]
    assert "outer (job)/record[0]/outer/inner/shout" in paths
    assert "outer (job)/record[0]/outer/shout" in paths


def test_a_workflow_that_raises_fails_its_record_alone_and_says_where(tmp_path: Path) -> None:
    result, events, failed = run(tmp_path, "a", "slip", "unseen", "b")
    assert (result.done, result.failed) == (2, 2)
    assert failed["slip"]["step"] == "outer (job)/record[1]/outer"
    assert "'outer (job)/record[1]/outer' in run" in failed["slip"]["error"]
    assert "KeyError: 'absent'" in failed["slip"]["error"]
    assert failed["unseen"]["step"] == "outer (job)/record[2]/outer/lose"
    told = {event.path: event.error for event in events if isinstance(event, StepFailed)}
    assert told["outer (job)/record[1]"] == "KeyError: 'absent'"


def test_a_reason_that_quotes_its_document_is_cut(tmp_path: Path) -> None:
    result, _, failed = run(tmp_path, "quote" + "x" * 100_000)
    assert result.failed == 1
    (row,) = failed.values()
    assert "ValueError: cannot read quotexxx" in row["error"]
    assert len(row["error"]) < 10_000


def test_a_record_whose_workflow_raises_what_is_no_exception_fails_alone(tmp_path: Path) -> None:
    result, _, failed = run(tmp_path, "a", "out", "cancelled", "b")
    assert (result.done, result.failed) == (2, 2)
    assert "GeneratorExit: out was raised" in failed["out"]["error"]
    assert "CancelledError: cancelled was raised" in failed["cancelled"]["error"]
