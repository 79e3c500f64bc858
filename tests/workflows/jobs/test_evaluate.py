"""Evaluation over labelled rows: marks, failures, samples, engine use, times, calibration."""

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from carrara.engines.engine import Engine
from carrara.engines.errors import EngineFailed
from carrara.engines.request import Completion, Confidence, Request, Usage
from carrara.engines.scripted import ScriptedEngine
from carrara.workflows.define import llm, workflow
from carrara.workflows.evaluate import evaluate
from carrara.workflows.evaluation import Evaluation, spread
from carrara.workflows.records import SourceError
from carrara.workflows.run import session
from carrara.workflows.scoring.score import Scoring
from carrara.workflows.yaml.load import loads


@llm
def course(prompt: str) -> Literal["soup", "cake"]:
    """{{ prompt }}"""


@workflow
async def classify(prompt: str) -> str:
    return await course(prompt)


ROWS = [
    {"id": "a", "prompt": "leek", "gold": "soup"},
    {"id": "b", "prompt": "plum", "gold": "cake"},
    {"id": "c", "prompt": "odd", "gold": "cake"},
]


def reply(request: Request) -> Completion:
    word = request.messages[-1].content.split()[0]
    text, sure = {"leek": ("soup", 0.9), "plum": ("soup", 0.6)}.get(word, ("pie", 0.2))
    return Completion(text, None, Confidence(sure), Usage(10, 4, 6, 2), engine="ar")


def run(
    path: Path,
    rows: list[Any],
    target: Any = classify,
    engines: Mapping[str, Callable[[Request], Completion | str]] | None = None,
    **options: Any,
) -> Evaluation:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made: dict[str, Engine] = {
        name: ScriptedEngine(name, reply) for name, reply in (engines or {"ar": reply}).items()
    }

    async def main() -> Evaluation:
        async with session(engines=made) as kept:
            return await evaluate(target, str(path), kept, **options)

    return asyncio.run(main())


def test_marks_count_answers_that_do_not_parse_as_wrong(tmp_path: Path) -> None:
    found = run(tmp_path / "rows.jsonl", ROWS)
    assert [row.score.exact for row in found.rows] == [True, False, False]
    assert "pie" in found.rows[2].error
    summary = found.summary()
    assert summary["rule"] == "label"
    assert summary["rows"] == 3
    assert summary["exact_match"] == pytest.approx(1 / 3, abs=1e-4)
    assert summary["parse_rate"] == pytest.approx(2 / 3, abs=1e-4)
    assert summary["engines"]["ar"]["calls"] == 2 + summary["engines"]["ar"]["rejected"]
    assert summary["ms_per_answer"]["median"] <= summary["ms_per_answer"]["p95"]
    assert summary["fingerprints"].keys() == {"ar"}


def test_calls_that_fail_are_no_rejected_answers(tmp_path: Path) -> None:
    def broken(request: Request) -> str:
        raise EngineFailed("it broke", engine="ar")

    summary = run(tmp_path / "rows.jsonl", ROWS, engines={"ar": broken}).summary()
    assert summary["parse_rate"] == 0
    assert summary["engines"].get("ar", {"rejected": 0})["rejected"] == 0


def test_passes_and_tokens_are_those_of_all_calls_of_a_row(tmp_path: Path) -> None:
    summary = run(tmp_path / "rows.jsonl", ROWS[:2]).summary()
    assert (summary["passes_per_row"], summary["tokens_per_row"]) == (2.0, 6.0)
    assert summary["tokens_per_pass"] == 3.0


def test_confidence_is_compared_with_what_is_right(tmp_path: Path) -> None:
    sure = run(tmp_path / "rows.jsonl", ROWS).summary()["calibration"]["overall"]
    assert (sure["count"], sure["auroc"]) == (3, 1.0)
    assert sure["accuracy"] == pytest.approx(1 / 3, abs=1e-4)
    assert sure["ece"] == pytest.approx((0.1 + 0.6 + 0.2) / 3, abs=1e-4)


def test_the_parts_of_an_answer_have_marks_and_calibration(tmp_path: Path) -> None:
    pipeline = loads(
        "inputs: {text: str}\n"
        'steps: {record: {llm: "{{ text }}", returns: {name: str, tags: [str], zip: str?}}}\n'
    )
    rows = [{"text": "x", "gold": {"name": "Ann", "tags": ["a", "b"], "zip": None}}]

    def answer(request: Request) -> Completion:
        text = json.dumps({"name": "Ann", "tags": ["a", "c"], "zip": "1"})
        fields = {"/name": 0.9, "/tags/0": 0.8, "/tags/1": 0.4, "/zip": 0.3}
        return Completion(text, None, Confidence(0.6, fields), Usage(1, 0, 1, 1), engine="ar")

    summary = run(tmp_path / "r.jsonl", rows, pipeline.workflow, {"ar": answer}).summary()
    fields = summary["fields"]
    assert fields["/name"]["field_f1"] == 1.0
    assert fields["/tags[]"]["field_f1"] == 0.5
    assert fields["/zip"]["exact_match"] == 0.0
    sure = summary["calibration"]
    assert sure["all_fields"]["count"] == 4
    assert sure["all_fields"]["auroc"] == 1.0
    assert sure["fields"]["/tags[]"]["accuracy"] == 0.5


def test_a_limit_takes_the_first_rows_and_a_seed_draws_them(tmp_path: Path) -> None:
    rows = [{"id": str(n), "prompt": "leek", "gold": "soup"} for n in range(40)]
    path = tmp_path / "rows.jsonl"
    first = run(path, rows, limit=5)
    assert [row.key for row in first.rows] == ["0", "1", "2", "3", "4"]
    drawn = {seed: {row.key for row in run(path, rows, limit=5, seed=seed).rows} for seed in (1, 2)}
    again = {row.key for row in run(path, rows, limit=5, seed=1).rows}
    assert drawn[1] == again
    assert len(drawn[1]) == 5
    assert drawn[1] != drawn[2]


def test_after_its_time_no_further_row_is_begun(tmp_path: Path) -> None:
    found = run(tmp_path / "rows.jsonl", ROWS, seconds=0.0, concurrency=1)
    assert [row.key for row in found.rows] == ["a"]


def test_one_engine_is_asked_at_every_step_whatever_the_step_says(tmp_path: Path) -> None:
    pipeline = loads(
        "inputs: {prompt: str}\n"
        'steps: {found: {llm: "{{ prompt }}", engine: diffusion, returns: {one_of: [soup, cake]}}}\n'
    )
    engines = {"diffusion": lambda request: "cake", "ar": lambda request: "soup"}
    path = tmp_path / "rows.jsonl"
    for engine, answer in (("ar", "soup"), ("diffusion", "cake"), (None, "cake")):
        found = run(path, ROWS[:2], pipeline.workflow, engines, engine=engine)
        assert [row.answer for row in found.rows] == [answer] * 2
        assert set(found.engines) == {engine or "diffusion"}


def test_the_rule_can_be_given(tmp_path: Path) -> None:
    rows = [{"prompt": "leek", "gold": ["Soup"]}]
    assert run(tmp_path / "r.jsonl", rows, scoring=Scoring("answers")).totals.exact_match == 1.0


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "x"}, r"rows.jsonl:2: a labelled row needs 'gold'"),
        ("text", r"rows.jsonl:2: a JSON object is needed"),
    ],
)
def test_a_row_that_is_not_labelled_is_named(tmp_path: Path, row: Any, reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        run(tmp_path / "rows.jsonl", [ROWS[0], row])


def test_gold_that_is_no_table_is_named(tmp_path: Path) -> None:
    pipeline = loads('inputs: {p: str}\nsteps: {t: {llm: "{{ p }}", returns: {table: [a]}}}\n')
    rows = [{"p": "x", "gold": "none"}]
    with pytest.raises(SourceError, match=r"rows.jsonl:1: gold does not fit"):
        run(tmp_path / "rows.jsonl", rows, pipeline.workflow, {"ar": lambda r: "| a |\n| - |"})


def test_gold_that_an_enum_in_a_list_does_not_have_is_named(tmp_path: Path) -> None:
    returns = "{items: [{kind: {one_of: [fruit, dairy]}}]}"
    pipeline = loads(
        f'inputs: {{p: str}}\nsteps: {{t: {{llm: "{{{{ p }}}}", returns: {returns}}}}}\n'
    )
    rows = [{"p": "x", "gold": {"items": [{"kind": kind}]}} for kind in ("Fruit", "fruits")]
    told = r"rows.jsonl:2: gold at /items/0/kind is 'fruits', and .* Did you mean 'fruit'\?"
    with pytest.raises(SourceError, match=told):
        run(tmp_path / "rows.jsonl", rows, pipeline.workflow, {"ar": lambda r: {"items": []}})


def test_times_have_a_median_and_a_95th_percentile() -> None:
    assert spread([float(n) for n in range(101)]) == {"median": 50.0, "p95": 95.0}
    assert spread([3.0]) == {"median": 3.0, "p95": 3.0}
    assert spread([]) == {"median": 0.0, "p95": 0.0}
