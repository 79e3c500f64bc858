"""The receipts and the fixtures: jobs with spans, validators, review and nested rows, and their scores."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from carrara.engines.request import Completion, Confidence, Request, Usage
from carrara.engines.scripted import ScriptedEngine
from carrara.workflows.evaluate import evaluate
from carrara.workflows.evaluation import Evaluation
from carrara.workflows.job import Job, JobResult, run_job
from carrara.workflows.run import session
from carrara.workflows.target import load_workflow

Reply = Callable[[Request], str | Completion]

FILES = {"receipts": "receipts.jsonl", "fixtures": "rounds.jsonl"}
each_job = pytest.mark.parametrize("name", FILES)


def knows(rows: list[dict[str, Any]]) -> Callable[[Request], Any]:
    """The gold of the row whose text is asked about."""

    def gold(request: Request) -> Any:
        asked = "\n".join(message.content for message in request.messages)
        return next(row["gold"] for row in rows if row["text"].strip() in asked)

    return gold


def job_of(folder: Path, name: str, output: Path, reply: Reply, **options: Any) -> JobResult:
    job = Job(
        str(folder / name / f"{name}.yaml"),
        str(folder / name / FILES[name]),
        str(output),
        **options,
    )

    async def main() -> JobResult:
        engines = {"ar": ScriptedEngine("ar", reply)}
        async with session(engines=engines, journal=output.with_suffix(".db")) as kept:
            return await run_job(job, kept)

    return asyncio.run(main())


@each_job
def test_right_answers_get_full_marks_and_every_value_stands_in_its_text(
    name: str, examples: Path, rows: Any, tmp_path: Path
) -> None:
    source = rows(examples / name / FILES[name])
    gold = knows(source)
    output = tmp_path / "out.jsonl"
    found = job_of(examples, name, output, lambda request: json.dumps(gold(request)), trust=True)
    assert (found.done, found.failed) == (len(source), 0)
    for line, row in zip(rows(tmp_path / "out.trust.jsonl"), source, strict=True):
        fields = line["fields"]
        lost = [at for at, facts in fields.items() if facts["found"] == "nowhere"]
        assert [at for at in lost if at != "/page"] == []
        spans = [facts["span"] for facts in fields.values() if facts["span"]]
        assert all(0 <= start < end <= len(row["text"]) for start, end in spans)
        assert fields[next(iter(fields))]["engine"] == "ar"

    async def main() -> Evaluation:
        engines = {"ar": ScriptedEngine("ar", lambda request: json.dumps(gold(request)))}
        workflow = load_workflow(str(examples / name / f"{name}.yaml"))
        async with session(engines=engines) as kept:
            return await evaluate(workflow, str(examples / name / FILES[name]), kept)

    totals = asyncio.run(main()).totals
    assert (totals.exact_match, totals.field_f1, totals.parse_rate) == (1.0, 1.0, 1.0)


def test_a_receipt_that_does_not_add_up_is_refused_and_told(
    examples: Path, rows: Any, tmp_path: Path
) -> None:
    gold = knows(rows(examples / "receipts/receipts.jsonl"))

    def wrong(request: Request) -> str:
        right = gold(request)
        return json.dumps(right | {"total": 99.0} if right["company"] == "CAFE MIRADOR" else right)

    found = job_of(examples, "receipts", tmp_path / "out.jsonl", wrong)
    assert (found.done, found.failed) == (7, 1)
    (failed,) = rows(tmp_path / "out.failed.jsonl")
    assert "total is 99.00, the items add up to 14.00" in failed["error"]


def test_an_unsure_total_goes_to_review_with_its_span(
    examples: Path, rows: Any, tmp_path: Path
) -> None:
    source = rows(examples / "receipts/receipts.jsonl")
    gold = knows(source)

    def unsure(request: Request) -> Completion:
        sure = Confidence(
            0.95, {"/company": 0.99, "/total": 0.4 if "PETROL" in str(request) else 1.0}
        )
        return Completion(json.dumps(gold(request)), None, sure, Usage(), engine="ar")

    job_of(examples, "receipts", tmp_path / "out.jsonl", unsure, review=0.8)
    (line,) = rows(tmp_path / "out.review.jsonl")
    assert line["doubtful"] == ["/receipt/total"]
    start, end = line["fields"]["/receipt/total"]["span"]
    assert source[-1]["text"][start:end] == "1,054.56"


def test_rounds_become_a_parquet_file_of_nested_lists_and_markdown_tables(
    examples: Path, rows: Any, tmp_path: Path
) -> None:
    source = rows(examples / "fixtures/rounds.jsonl")
    gold = knows(source)
    output = tmp_path / "out.parquet"
    job_of(examples, "fixtures", output, lambda request: json.dumps(gold(request)))
    table = pyarrow.parquet.read_table(output)
    matches = table.schema.field("answer").type.field("days").type.value_type.field("matches").type
    assert [field.name for field in matches.value_type] == ["time", "home", "away", "score"]
    assert table["answer"].to_pylist() == [row["gold"] for row in source]
    first = table.to_pylist()[0]
    assert "### Thu Dec/19" in first["page"]
    (line,) = [line for line in first["page"].splitlines() if "Tottenham" in line]
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "20.00", "Tottenham Hotspur", "Manchester United", "4-3",
    ]  # fmt: skip

    async def main() -> Any:
        workflow = load_workflow(str(examples / "fixtures/fixtures.py:book"))
        async with session(engines={"ar": ScriptedEngine("ar", lambda request: "")}) as kept:
            return (await kept.run(workflow, rows=str(output))).value

    book = asyncio.run(main())["book"]
    assert book.startswith("# Fixtures")
    assert book.count("\n## ") == 8
    assert book.count("| home") == sum(len(row["gold"]["days"]) for row in source)


@pytest.mark.weights
@pytest.mark.parametrize(("name", "limit"), [("receipts", 1), ("fixtures", 1)])
def test_the_embedded_engines_do_some_of_the_job(
    name: str, limit: int, examples: Path, embedded: Any, capsys: Any
) -> None:
    async def work(engines: Any) -> Evaluation:
        workflow = load_workflow(str(examples / name / f"{name}.yaml"))
        async with session(engines=engines) as kept:
            return await evaluate(workflow, str(examples / name / FILES[name]), kept, limit=limit)

    found = embedded(work)
    summary = found.summary()
    with capsys.disabled():
        scores = {key: summary[key] for key in ("rows", "exact_match", "field_f1", "parse_rate")}
        print(f"\n{name}: {json.dumps(scores)}")
    assert summary["rows"] == limit
    for (
        row
    ) in found.rows:  # an answer holds to its contract and adds up, or it is told why there is none
        assert row.answer is not None or row.error
