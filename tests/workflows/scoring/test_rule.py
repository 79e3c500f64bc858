"""Which rule a workflow is scored by, told by its types unless its file says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from carrara.workflows.define import llm, workflow
from carrara.workflows.scoring.rule import marker_of
from carrara.workflows.scoring.score import Scoring
from carrara.workflows.yaml import load
from carrara.workflows.yaml.dump import dumps
from carrara.workflows.yaml.load import loads

STEP = "steps:\n  found: {{llm: hi, returns: {returns}}}\n"


@pytest.mark.parametrize(
    ("returns", "rule"),
    [
        ("str", "label"),
        ("{one_of: [a, b]}", "label"),
        ("bool", "label"),
        ("{regex: 'a+'}", "label"),
        ("{a: str, b: int?}", "fields"),
        ("[str]", "fields"),
        ("{table: {a: str}}", "fields"),
        ("{outline: {depth: 2}}", "fields"),
    ],
)
def test_the_type_of_the_answer_tells_the_rule(returns: str, rule: str) -> None:
    marker = marker_of(loads(STEP.format(returns=returns)).workflow)
    assert marker.scoring == Scoring(rule)  # type: ignore[arg-type]
    assert marker.output == "found"


def test_a_pipeline_can_say_how_it_is_scored_and_the_caller_has_the_last_word() -> None:
    text = "score: {rule: fields, unordered: [cast]}\n" + STEP.format(returns="{cast: [str]}")
    pipeline = loads(text)
    said = Scoring("fields", frozenset({"cast"}))
    assert marker_of(pipeline.workflow).scoring == said
    assert marker_of(pipeline.workflow, Scoring("label")).scoring == Scoring("label")
    assert loads(dumps(pipeline.definition)).definition.score == said


def test_gold_from_a_row_has_its_decimals_as_text_and_counts_as_numbers() -> None:
    marker = marker_of(loads(STEP.format(returns="{total: float, name: str}")).workflow)
    assert marker.gold({"total": "2.50", "name": "2.50"}) == {"total": 2.5, "name": "2.50"}


def test_of_several_outputs_the_one_called_answer_is_scored() -> None:
    steps = "steps: {a: {llm: hi, returns: bool}, b: {llm: ho}}\n"
    both = loads(steps).workflow
    assert marker_of(both).output == ""
    assert marker_of(both).answer({"a": True, "b": "x"}) == {"a": True, "b": "x"}
    named = loads(steps + 'outputs: {answer: "{{ a }}", more: "{{ b }}"}\n').workflow
    assert marker_of(named).answer({"answer": True, "more": "x"}) is True
    assert marker_of(named).scoring == Scoring("label")


def test_a_python_workflow_is_scored_by_its_annotation() -> None:
    @llm
    def course(prompt: str) -> Literal["soup", "cake"]:
        """{{ prompt }}"""

    @workflow
    async def typed(prompt: str) -> str:
        return await course(prompt)

    @workflow
    async def untyped(prompt):  # type: ignore[no-untyped-def]
        return await course(prompt)

    assert marker_of(typed).scoring == Scoring("label")
    marker = marker_of(untyped)
    assert marker.scoring is None
    assert marker.scoring_for({"a": 1}) == Scoring("fields")
    assert marker.scoring_for("a") == Scoring("label")


def test_gold_of_a_table_may_be_markdown() -> None:
    marker = marker_of(loads(STEP.format(returns="{table: {item: str, qty: int}}")).workflow)
    text = "| item | qty |\n| --- | --- |\n| egg | 2 |"
    assert marker.gold(text) == [{"item": "egg", "qty": 2}]
    assert marker.gold([{"item": "egg"}]) == [{"item": "egg"}]
    with pytest.raises(ValueError, match="gold does not fit"):
        marker.gold("no table")


def test_the_pipelines_of_the_tasks_say_what_their_types_do_not(root: Path) -> None:
    def rule(task: str) -> Any:
        return marker_of(load(root / f"examples/tasks/{task}.yaml").workflow).scoring

    assert rule("banking77") == Scoring("label")
    assert rule("us_address") == Scoring("fields")
    assert rule("gsm8k") == Scoring("number")
    assert rule("table_qa") == Scoring("answers")
    assert rule("table_write") == Scoring("cells")
    assert rule("format_repair") == Scoring("form")
    assert rule("film_record") == Scoring("fields", frozenset({"genres", "cast"}))


def test_gold_of_a_choice_is_one_of_its_options_as_answers_are_compared() -> None:
    step = STEP.format(returns="{one_of: [Very glad, sad]}")
    marker = marker_of(loads(step).workflow)
    assert marker.gold(" very  GLAD") == " very  GLAD"
    assert marker.gold(None) is None  # of a step that was skipped
    for gold in ("furious", 3, ["sad"]):
        with pytest.raises(ValueError, match="the answer is one of Very glad, sad"):
            marker.gold(gold)
    apart = marker_of(loads(step).workflow, Scoring("answers"))
    assert apart.gold("sad; very glad") == "sad; very glad"
