"""The pipelines of the tasks: their prompts and types fit labelled rows, and evaluation tells right from wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carrara.engines.contract import Contract, Json
from carrara.engines.diffusion.scaffold.compile import refusal
from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.workflows.batch import Binder
from carrara.workflows.evaluate import evaluate
from carrara.workflows.evaluation import Evaluation
from carrara.workflows.plan import plan
from carrara.workflows.records import read_records
from carrara.workflows.run import session
from carrara.workflows.steps import Llm
from carrara.workflows.yaml import load

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "tasks"
TASKS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
each_task = pytest.mark.parametrize("task", TASKS)


def rows_of(task: str) -> list[dict[str, Any]]:
    lines = (FOLDER / "data" / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def step_of(task: str) -> Llm[..., Any]:
    found = load(FOLDER / f"{task}.yaml").workflow.steps["answer"]
    assert isinstance(found, Llm)
    return found


def written(gold: Any, contract: Contract) -> str:
    """Gold as a model writes it."""
    if isinstance(contract, Json):
        return json.dumps(gold, ensure_ascii=False)
    return "; ".join(gold) if isinstance(gold, list) else str(gold)


def evaluated(task: str, reply: Callable[[Request], str]) -> Evaluation:
    source = str(FOLDER / "data" / f"{task}.jsonl")

    async def main() -> Evaluation:
        async with session(engines={"ar": ScriptedEngine("ar", reply)}) as kept:
            return await evaluate(load(FOLDER / f"{task}.yaml").workflow, source, kept)

    return asyncio.run(main())


def answers(task: str, shift: int = 0) -> Callable[[Request], str]:
    """An engine that knows the rows, and gives to each the gold of the one `shift` places on."""
    rows = rows_of(task)
    binder, step = Binder(load(FOLDER / f"{task}.yaml").workflow), step_of(task)
    prompts = {}
    for record in read_records(str(FOLDER / "data" / f"{task}.jsonl")):
        (message,) = step.prompt.build(binder.bind(record), step.answer)
        gold = rows[(record.index + shift) % len(rows)]["gold"]
        prompts[message.content] = written(gold, step.contract)

    def reply(request: Request) -> str:
        asked = request.messages[-1].content
        return next(gold for prompt, gold in prompts.items() if asked.startswith(prompt))

    return reply


def test_every_task_has_rows() -> None:
    assert len(TASKS) == 21
    assert {path.stem for path in (FOLDER / "data").glob("*.jsonl")} == set(TASKS)


@each_task
def test_a_pipeline_is_one_step_that_a_scaffold_and_a_plan_hold(task: str) -> None:
    workflow = load(FOLDER / f"{task}.yaml").workflow
    assert len(plan(workflow).steps) == 1
    assert refusal(step_of(task).contract) is None


@each_task
def test_the_template_makes_the_prompt_of_the_row(task: str) -> None:
    step, binder = step_of(task), Binder(load(FOLDER / f"{task}.yaml").workflow)
    shown = 0
    for record in read_records(str(FOLDER / "data" / f"{task}.jsonl")):
        (message,) = step.prompt.build(binder.bind(record), step.answer)
        if "prompt" in record.fields:
            assert message.content == record.fields["prompt"].strip()
            shown += 1
    assert shown


@each_task
def test_properties_stand_in_the_order_of_the_gold(task: str) -> None:
    contract = step_of(task).contract
    if not isinstance(contract, Json):
        return
    names = list(contract.schema.get("properties", {}))
    for row in rows_of(task):
        contract.check(row["gold"])
        assert not names or list(row["gold"]) == names


@each_task
def test_right_answers_get_full_marks(task: str) -> None:
    found = evaluated(task, answers(task))
    assert [row.error for row in found.rows] == [""] * len(found.rows)
    totals = found.totals
    assert (totals.exact_match, totals.field_f1, totals.parse_rate) == (1.0, 1.0, 1.0)


@each_task
def test_answers_to_other_rows_are_wrong(task: str) -> None:
    totals = evaluated(task, answers(task, shift=1)).totals
    assert totals.exact_match < 1.0
    assert totals.field_f1 < 1.0
    assert totals.parse_rate == 1.0 or task == "format_repair"


@pytest.mark.weights
@pytest.mark.parametrize("task", ["strategyqa_facts", "clinc_domain", "us_address"])
@pytest.mark.parametrize("engine", ["diffusion", "ar"])
def test_the_embedded_engines_answer_within_the_contract(
    task: str, engine: str, embedded: Any
) -> None:
    source = str(FOLDER / "data" / f"{task}.jsonl")

    async def work(engines: Any) -> Evaluation:
        async with session(engines={engine: engines[engine]}) as kept:
            workflow = load(FOLDER / f"{task}.yaml").workflow
            return await evaluate(workflow, source, kept, limit=1, engine=engine)

    summary = embedded(work).summary()
    assert summary["parse_rate"] == 1.0
    assert summary["tokens_per_row"] >= 1
    assert summary["calibration"]["overall"]["count"] == 1
    assert set(summary["engines"]) == {engine}
