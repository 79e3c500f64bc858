"""How far a step goes to mend an answer: the same switch in Python and in YAML, each repair told and counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from carrara import llm, workflow
from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.errors import StepError
from carrara.runtime.events import Event, Repaired
from carrara.runtime.report import report
from carrara.runtime.run import RunResult
from carrara.workflows.run import run_sync
from carrara.workflows.yaml import load

Mode = Literal["off", "structural", "infill", "escalate"]
Run = Callable[[Mode, ScriptedEngine, Path, list[Event]], RunResult[Any]]
GOOD = '{"name": "Ann", "age": 3}'
CROOKED = "{'name': 'Ann', 'age': 3,}"
LOST = "{'name': , 'age': 3}"
REFUSED = '{"name": "Ann"}'


class Person(BaseModel):
    name: str
    age: int


def in_python(
    mode: Mode, engine: ScriptedEngine, folder: Path, told: list[Event]
) -> RunResult[Any]:
    @llm(repair=mode)
    def person(text: str) -> Person:
        """Who is in: {{ text }}"""
        ...

    @workflow
    async def flow(text: str) -> Any:
        return (await person(text)).model_dump()

    return run_sync(
        flow, inputs={"text": "Ann is 3."}, engines={"ar": engine}, listeners=[told.append]
    )


def in_yaml(mode: Mode, engine: ScriptedEngine, folder: Path, told: list[Event]) -> RunResult[Any]:
    pipeline = folder / "flow.yaml"
    pipeline.write_text(
        "inputs: {text: str}\n"
        "steps:\n"
        '  person: {llm: "Who is in: {{ text }}", returns: {fields: {name: str, age: int}}, '
        f"repair: '{mode}'}}\n",
        encoding="utf-8",
    )
    flow = load(pipeline).workflow
    return run_sync(
        flow, inputs={"text": "Ann is 3."}, engines={"ar": engine}, listeners=[told.append]
    )


def person_in(result: RunResult[Any]) -> dict[str, Any]:
    """The value of the step: a workflow gives it alone, a pipeline by name."""
    found = result.value.get("person", result.value)
    return found.model_dump() if isinstance(found, BaseModel) else dict(found)


def engine_that_first_writes(text: str) -> ScriptedEngine:
    """Right with a draft, or when it is told its faults; `text` else."""

    def reply(request: Request) -> str:
        return GOOD if request.draft is not None or len(request.messages) > 1 else text

    return ScriptedEngine("ar", reply, can=["schema", "drafts"])


@pytest.mark.parametrize("run", [in_python, in_yaml])
@pytest.mark.parametrize(
    ("mode", "mended"),
    [
        ("off", ()),
        ("structural", (CROOKED,)),
        ("infill", (CROOKED, LOST)),
        ("escalate", (CROOKED, LOST, REFUSED)),
    ],
)
def test_a_step_goes_as_far_as_its_repair_says(
    run: Run, mode: Mode, mended: tuple[str, ...], tmp_path: Path
) -> None:
    for text in (CROOKED, LOST, REFUSED):
        engine = engine_that_first_writes(text)
        if text in mended:
            assert person_in(run(mode, engine, tmp_path, [])) == {"name": "Ann", "age": 3}
            assert len(engine.requests) == (1 if text is CROOKED else 2)
        else:
            with pytest.raises(StepError):
                run(mode, engine, tmp_path, [])


@pytest.mark.parametrize("run", [in_python, in_yaml])
def test_each_repair_is_counted_in_the_report_of_the_run(run: Run, tmp_path: Path) -> None:
    told: list[Event] = []
    run("structural", engine_that_first_writes(CROOKED), tmp_path, told)
    [step] = [s for s in report(told).steps.values() if s.edits]
    [event] = [e for e in told if isinstance(e, Repaired)]
    assert (event.edits, len(event.made)) == (7, 7)
    assert dict(step.rules) == {"single_quotes": 6, "trailing_comma": 1}
    assert (step.edits, dict(step.repairs)) == (7, {"json": 1})
