"""The cascade: small engine first, larger ones for what it leaves open; and the policy file beside it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import carrara
from carrara.engines.engine import Engine
from carrara.engines.request import Completion, Confidence, Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import Accepted, Event
from carrara.workflows.evaluate import evaluate
from carrara.workflows.evaluation import Evaluation
from carrara.workflows.yaml.policy import load_policy

TARGET = "cascade/cascade.py:cascade"
Reply = Callable[[Request], str | Completion]


def line_of(request: Request) -> str:
    return request.messages[-1].content.rstrip().rpartition("Text:\n")[2].strip()


def knows(rows: list[dict[str, Any]], confidence: Callable[[int], float]) -> Reply:
    """The gold of each row; `confidence` by its number."""

    def reply(request: Request) -> Completion:
        number = next(n for n, row in enumerate(rows) if row["line"] == line_of(request))
        gold = rows[number]["gold"]
        wanted = request.output.schema["properties"]  # type: ignore[union-attr]
        answer = json.dumps({name: gold[name] for name in wanted})
        return Completion(answer, confidence=Confidence(confidence(number)))

    return reply


def three(rows: list[dict[str, Any]], **sure: Callable[[int], float]) -> dict[str, Engine]:
    return {
        name: ScriptedEngine(name, knows(rows, confidence), can=("schema",))
        for name, confidence in sure.items()
    }


def test_each_line_is_answered_by_the_first_engine_that_is_sure_of_it(
    examples: Path, rows: Any
) -> None:
    gold = rows(examples / "cascade/addresses.jsonl")
    taken: dict[str, str] = {}

    def listen(event: Event) -> None:
        if isinstance(event, Accepted):
            taken[event.path] = event.engine

    engines = three(
        gold,
        diffusion=lambda n: 0.9 if n % 3 == 0 else 0.7,
        ar=lambda n: 0.65 if n % 3 == 1 else 0.5,  # below what the diffusion engine needs
        llamacpp=lambda n: 0.1,
    )

    async def main() -> Any:
        workflow: Any = carrara.load_workflow(str(examples / TARGET))
        policy = replace(workflow.policy, choose="order")  # whatever time the engines take here
        async with carrara.session(engines=engines, policy=policy, listeners=[listen]) as session:
            return await session.run(workflow)

    value = asyncio.run(main()).value
    assert value["score"] == {"addresses": 12, "field_f1": 1.0, "exact_match": 1.0}
    who = [taken[f"cascade/address[{n}]"] for n in range(len(gold))]
    assert who == ["diffusion", "ar", "llamacpp"] * 4


def test_the_plan_shows_the_order_of_the_engines(examples: Path, cli: Any) -> None:
    told = cli("plan", examples / TARGET)
    assert "[diffusion, then ar, then llamacpp: small first, large last]" in told
    pipeline, policy = examples / "cascade/cascade.yaml", examples / "cascade/policy.yaml"
    assert "[diffusion, then ar: typed extraction]" in cli("plan", pipeline)
    assert "[diffusion, then ar: diffusion first]" in cli("plan", pipeline, "--policy", policy)


def test_the_policy_file_asks_more_of_single_fields_and_less_of_another_engine(
    examples: Path,
) -> None:
    policy = load_policy(examples / "cascade/policy.yaml")
    first = policy.accepts("json", "address/address", "diffusion")
    other = policy.accepts("json", "address/address", "ar")
    assert (first.needed("/zip"), first.needed("/city")) == (0.8, 0.4)
    assert (other.overall, other.needed("/zip")) == (0.6, 0.4)


def test_right_answers_get_full_marks_under_the_policy_file(examples: Path, rows: Any) -> None:
    source = examples / "cascade/addresses.jsonl"
    gold = rows(source)
    engines = three(gold, diffusion=lambda n: 0.9 if n % 2 else 0.6, ar=lambda n: 0.5)

    async def main() -> Evaluation:
        policy = replace(load_policy(examples / "cascade/policy.yaml"), choose="order")
        async with carrara.session(engines=engines, policy=policy) as kept:
            workflow = carrara.load_workflow(str(examples / "cascade/cascade.yaml"))
            return await evaluate(workflow, str(source), kept, concurrency=1)

    found = asyncio.run(main())
    assert (found.totals.exact_match, found.totals.field_f1) == (1.0, 1.0)
    assert {use: found.engines[use].calls for use in found.engines} == {"diffusion": 12, "ar": 6}


@pytest.mark.weights
@pytest.mark.usefixtures("smollm2_folder")
def test_the_embedded_engines_work_through_some_lines(
    examples: Path, rows: Any, tmp_path: Path, run_embedded: Any, cli: Any
) -> None:
    some = rows(examples / "cascade/addresses.jsonl")[:2]
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in some))
    value, report = run_embedded(TARGET, lines=str(path))
    assert value["score"]["addresses"] == 2
    assert value["score"]["field_f1"] > 0.3
    assert report.total("failed") == 0
    pipeline, policy = examples / "cascade/cascade.yaml", examples / "cascade/policy.yaml"
    told = cli("eval", pipeline, path, "--policy", policy, "--quiet")
    assert "field F1 " in told


@pytest.fixture
def cli(tmp_path: Path, examples: Path) -> Callable[..., str]:
    """What `carrara` prints."""

    def run(*words: Any) -> str:
        found = subprocess.run(
            [sys.executable, "-m", "carrara", *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(examples.parent)},
            capture_output=True,
            text=True,
        )
        assert found.returncode == 0, found.stderr
        return found.stdout

    return run
