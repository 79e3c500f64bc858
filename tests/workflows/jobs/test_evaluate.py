"""Evaluation over labelled rows: marks, failures, engine use."""

import asyncio
import json
from pathlib import Path
from typing import Any, Literal

import pytest

from carrara.engines.request import Completion, Request, Usage
from carrara.engines.scripted import ScriptedEngine
from carrara.workflows.define import llm, workflow
from carrara.workflows.evaluate import Evaluation, evaluate
from carrara.workflows.records import SourceError
from carrara.workflows.run import session


@llm
def course(prompt: str) -> Literal["soup", "cake"]:
    """{{ prompt }}"""


@workflow
async def classify(prompt: str) -> str:
    return await course(prompt)


ROWS = [
    {"id": "a", "kind": "classify", "prompt": "leek", "gold": "soup"},
    {"id": "b", "kind": "classify", "prompt": "plum", "gold": "cake"},
    {"id": "c", "kind": "classify", "prompt": "odd", "gold": "cake"},
]


def reply(request: Request) -> Completion:
    text = {"leek": "soup", "plum": "soup"}.get(request.messages[-1].content.split()[0], "pie")
    return Completion(text, usage=Usage(10, 0, 1, 1), engine="ar")


def run(path: Path, rows: list[Any], **options: Any) -> Evaluation:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    async def main() -> Evaluation:
        async with session(engines={"ar": ScriptedEngine("ar", reply)}) as kept:
            return await evaluate(classify, str(path), kept, **options)

    return asyncio.run(main())


def test_marks_count_answers_that_do_not_parse_as_wrong(tmp_path: Path) -> None:
    found = run(tmp_path / "rows.jsonl", ROWS)
    assert [row.score.exact for row in found.rows] == [True, False, False]
    assert "pie" in found.rows[2].error
    summary = found.summary()
    assert summary["rows"] == 3
    assert summary["exact_match"] == pytest.approx(1 / 3, abs=1e-4)
    assert summary["parse_rate"] == pytest.approx(2 / 3, abs=1e-4)
    assert summary["engines"]["ar"]["calls"] == 2 + summary["engines"]["ar"]["rejected"]
    assert summary["latency_s"]["p50"] <= summary["latency_s"]["p99"]


def test_a_limit_takes_the_first_rows(tmp_path: Path) -> None:
    assert run(tmp_path / "rows.jsonl", ROWS, limit=1).totals.exact_match == 1.0


def test_a_row_without_gold_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"rows.jsonl:2: a labelled row needs gold"):
        run(tmp_path / "rows.jsonl", [ROWS[0], {"kind": "classify", "prompt": "x"}])
