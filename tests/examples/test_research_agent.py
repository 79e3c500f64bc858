"""The research agent: turns of search and calculation until there is an answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import carrara
from carrara.engines.request import Request

TARGET = "research_agent/agent.py:research"
SUMS = {"weight-3": "3 * 2700", "granite-2": "2 * 2650", "railway": "1964 - 1876"}


def gold_answers(questions: list[dict[str, Any]]) -> Any:
    def reply(request: Request) -> str:
        asked = request.messages[-1].content
        row = next(row for row in questions if row["question"] in asked)
        if request.output.kind == "choice":
            if "(none)" in asked:
                return "search"
            return "calculate" if row["id"] in SUMS and " = " not in asked else "answer"
        return SUMS[row["id"]] if "arithmetic" in asked else str(row["answer"])

    return reply


def test_an_engine_that_knows_the_way_answers_every_question(
    examples: Path, known: Any, replayed: Any, rows: Any
) -> None:
    questions = rows(examples / "research_agent/questions.jsonl")
    out = replayed(TARGET, known(TARGET, gold_answers(questions)))
    score = json.loads((out / "score.json").read_text())
    assert score == {"questions": len(questions), "right": len(questions)}
    for found in rows(out / "answers.jsonl"):
        counted = found["id"] in SUMS
        assert found["moves"] == ["search", *(["calculate"] if counted else []), "answer"]
        if counted:
            (gold,) = (row["answer"] for row in questions if row["id"] == found["id"])
            assert found["notes"][0] == f"{SUMS[found['id']]} = {gold}"
        assert len(found["notes"]) > counted


@pytest.mark.parametrize(
    "expression", ["__import__('os')", "2 ** 9999", "a + 1", "1 / 0", "1 +", "(" * 300, "'a' * 9"]
)
def test_the_calculator_computes_nothing_but_arithmetic(examples: Path, expression: str) -> None:
    calculate: Any = carrara.load_workflow(str(examples / "research_agent/agent.py:calculate"))
    assert calculate("(3 + 1) * -2 / 4") == -2
    with pytest.raises(ValueError, match="comput"):
        calculate(expression)


@pytest.mark.weights
def test_the_embedded_engines_answer_with_numbers(
    examples: Path, run_embedded: Any, rows: Any, tmp_path: Path
) -> None:
    some = rows(examples / "research_agent/questions.jsonl")[:2]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in some))
    value, report = run_embedded(TARGET, questions=str(path))
    assert value["score"]["questions"] == 2
    for found in value["answers"]:
        assert found["moves"][0] == "search"
        assert found["notes"]
        assert found["answer"][0].isdigit()
    assert report.total("failed") == 0
