"""Jobs: one row for each record, exactly once; nothing finished is lost, nothing is written twice."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.workflows.errors import InputError
from carrara.workflows.job import Job, JobResult, find_job, run_job
from carrara.workflows.places import OutputError
from carrara.workflows.records import SourceError
from carrara.workflows.run import session

PIPELINE = """
name: shout
inputs: {text: str, suffix: {type: str, default: "!"}}
steps:
  loud: {llm: "Shout: {{ text }}{{ suffix }}"}
outputs: {loud: "{{ loud }}"}
"""


def shouted(request: Request) -> str:
    said = request.messages[-1].content.removeprefix("Shout: ")
    if "bad" in said:
        raise RuntimeError(f"cannot shout {said!r}")
    return said.upper()


@pytest.fixture
def pipeline(tmp_path: Path) -> str:
    path = tmp_path / "shout.yaml"
    path.write_text(PIPELINE)
    return str(path)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    journal = SqliteJournal(tmp_path / "journal.db")
    yield journal
    journal.close()


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def lines_file(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"id": t, "text": t}) + "\n" for t in texts))
    return str(path)


def run(
    job: Job,
    journal: SqliteJournal,
    reply: Callable[[Request], Any] = shouted,
    run_id: str | None = None,
) -> tuple[JobResult, ScriptedEngine]:
    engine = ScriptedEngine("ar", reply)

    async def main() -> JobResult:
        async with session(journal=journal, engines={"ar": engine}) as kept:
            return await run_job(job, kept, run_id=run_id)

    return asyncio.run(main()), engine


def test_each_record_becomes_one_row_in_input_order(
    tmp_path: Path, pipeline: str, journal: SqliteJournal
) -> None:
    source = lines_file(tmp_path / "in.jsonl", ["a", "b", "c"])
    first_may_go = asyncio.Event()

    async def last_first(request: Request) -> str:
        if "a!" in request.messages[-1].content:
            await first_may_go.wait()
        else:
            first_may_go.set()
        return shouted(request)

    result, _ = run(Job(pipeline, source, str(tmp_path / "out.jsonl")), journal, last_first)
    assert rows_of(result.output) == [
        {"key": "a", "loud": "A!"},
        {"key": "b", "loud": "B!"},
        {"key": "c", "loud": "C!"},
    ]
    assert (result.done, result.failed, result.reused) == (3, 0, 0)
    assert not result.failed_output.exists()


def test_failed_and_broken_records_go_to_the_side_file_with_their_reason(
    tmp_path: Path, pipeline: str, journal: SqliteJournal
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a"}\n{"text": \n{"txt": "b"}\n{"text": "bad"}\n')
    result, _ = run(Job(pipeline, str(source), str(tmp_path / "out.jsonl")), journal)
    assert [row["key"] for row in rows_of(result.output)] == ["line:1"]
    broken, unfit, failed = rows_of(result.failed_output)
    assert broken["where"] == f"{source}:2"
    assert "not JSON" in broken["error"]
    assert "no field 'text'" in unfit["error"]
    assert "txt" in unfit["error"]
    assert "--map text=FIELD" in unfit["error"]
    assert "cannot shout 'bad!'" in failed["error"]
    assert failed["step"].endswith("shout/loud")


def test_the_only_input_takes_the_text_of_a_file_even_if_it_has_a_default(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    path = tmp_path / "greet.yaml"
    path.write_text(
        "inputs: {who: {type: str, default: Bo}}\nsteps: {a: {llm: 'Shout: {{ who }}'}}\n"
    )
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "al"}\n{"whoo": "cy"}\n')
    result, _ = run(Job(str(path), str(source), str(tmp_path / "out.jsonl")), journal)
    assert [row["a"] for row in rows_of(result.output)] == ["AL"]
    (unfit,) = rows_of(result.failed_output)
    assert "no field for any input (who); its fields are: whoo" in unfit["error"]


def test_null_is_the_default_of_an_input_that_has_one(
    tmp_path: Path, pipeline: str, journal: SqliteJournal
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a", "suffix": null}\n{"text": null}\n')
    result, _ = run(Job(pipeline, str(source), str(tmp_path / "out.jsonl")), journal)
    assert [row["key"] for row in rows_of(result.output)] == ["line:1"]
    (unfit,) = rows_of(result.failed_output)
    assert "Give the input a default if it may be empty" in unfit["error"]


def test_columns_and_constants_are_bound(
    tmp_path: Path, pipeline: str, journal: SqliteJournal
) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,body\n7,hey\n")
    job = Job(pipeline, str(source), str(tmp_path / "o.jsonl"), {"text": "body"}, {"suffix": "?"})
    result, _ = run(job, journal)
    assert rows_of(result.output) == [{"key": "7", "loud": "HEY?"}]


@pytest.mark.parametrize("part", ["columns", "constants"])
def test_an_unknown_input_is_refused_with_a_hint(
    tmp_path: Path, pipeline: str, journal: SqliteJournal, part: str
) -> None:
    source = lines_file(tmp_path / "in.jsonl", ["a"])
    job = Job(pipeline, source, str(tmp_path / "o.jsonl"), **{part: {"sufix": "x"}})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Did you mean 'suffix'"):
        run(job, journal)


@pytest.mark.parametrize("order", ["input", "completed"])
def test_a_job_goes_on_with_what_is_missing(
    tmp_path: Path, pipeline: str, journal: SqliteJournal, order: Any
) -> None:
    texts = ["a", "b", "bad", "d"]
    source = lines_file(tmp_path / "in.jsonl", texts)
    job = Job(pipeline, source, str(tmp_path / "out.jsonl"), order=order, concurrency=1)
    first, _ = run(job, journal)
    assert (first.done, first.failed) == (3, 1)
    first.output.write_text('{"key": "a", "loud": "A!"}\n{"key": "b", "lo')  # as if it was cut

    found = find_job(job, journal)
    assert found == first.run_id
    second, engine = run(job, journal, lambda r: r.messages[-1].content[7:].upper(), found)
    assert [r.messages[-1].content for r in engine.requests] == ["Shout: bad!"]
    assert (second.done, second.failed, second.reused) == (4, 0, 3)
    keys = [row["key"] for row in rows_of(second.output)]
    assert keys == (texts if order == "input" else ["a", "b", "d", "bad"])
    assert not second.failed_output.exists()


def test_a_job_never_overwrites_an_output(
    tmp_path: Path, pipeline: str, journal: SqliteJournal
) -> None:
    source = lines_file(tmp_path / "in.jsonl", ["a"])
    (tmp_path / "out.jsonl").write_text("mine\n")
    with pytest.raises(OutputError, match="is there already"):
        run(Job(pipeline, source, str(tmp_path / "out.jsonl")), journal)
    assert (tmp_path / "out.jsonl").read_text() == "mine\n"


def test_a_job_refuses_to_go_on_with_another_input(
    tmp_path: Path, pipeline: str, journal: SqliteJournal
) -> None:
    source = lines_file(tmp_path / "in.jsonl", ["a", "b"])
    job = Job(pipeline, source, str(tmp_path / "out.jsonl"))
    first, _ = run(job, journal)
    lines_file(tmp_path / "in.jsonl", ["z", "b"])
    with pytest.raises(SourceError, match="goes on with the input that it began with"):
        run(job, journal, run_id=first.run_id)


def test_a_full_disk_stops_the_job_and_its_rows_are_kept(
    tmp_path: Path, pipeline: str, journal: SqliteJournal
) -> None:
    source = lines_file(tmp_path / "in.jsonl", ["a", "b"])
    job = Job(pipeline, source, "/dev/full", concurrency=1)
    with pytest.raises(OutputError, match="No space left on device"):
        run(job, journal)
    (summary,) = journal.runs()
    assert [row.key for row in journal.rows(summary.run_id) if row.state == "done"] == ["a"]


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, pipeline: str, journal: SqliteJournal
) -> None:
    source = lines_file(tmp_path / "in.jsonl", ["a"])
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        run(Job(pipeline, source, str(tmp_path / "file" / "out.jsonl")), journal)


def test_a_limit_takes_the_first_records(
    tmp_path: Path, pipeline: str, journal: SqliteJournal
) -> None:
    source = lines_file(tmp_path / "in.jsonl", ["a", "b", "c"])
    result, engine = run(Job(pipeline, source, str(tmp_path / "o.jsonl"), limit=2), journal)
    assert result.done == len(engine.requests) == 2


def test_what_a_pipeline_says_of_engines_holds_for_its_jobs(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    path = tmp_path / "gentle.yaml"
    path.write_text(f"{PIPELINE}engines: {{ar: {{concurrency: 1}}}}\n")
    source = lines_file(tmp_path / "in.jsonl", ["a", "b", "c"])

    async def reply(request: Request) -> str:
        await asyncio.sleep(0)
        return shouted(request)

    engine = ScriptedEngine("ar", reply)

    async def main() -> None:
        async with session(engines={"ar": engine}, journal=journal) as kept:
            await run_job(Job(str(path), source, str(tmp_path / "o.jsonl")), kept)

    asyncio.run(main())
    assert (len(engine.requests), engine.most_in_flight) == (3, 1)


def test_a_result_with_a_field_called_key_leaves_the_key_of_its_record(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    path = tmp_path / "keyed.yaml"
    path.write_text(PIPELINE.replace("outputs: {loud:", "outputs: {key:"))
    source = lines_file(tmp_path / "in.jsonl", ["a"])
    result, _ = run(Job(str(path), source, str(tmp_path / "o.jsonl")), journal)
    assert rows_of(result.output) == [{"key": "a", "value": {"key": "A!"}}]


def test_a_job_ends_whatever_half_characters_its_records_hold(
    tmp_path: Path, pipeline: str, journal: SqliteJournal
) -> None:
    source = tmp_path / "in.jsonl"
    lines = ['{"id": "\\ud800", "text": "a"}', '{"id": "b", "text": "\\ud800 bad"}']
    source.write_text("\n".join([*lines, '{"id": "c", "text": "c"}']))
    result, _ = run(Job(pipeline, str(source), str(tmp_path / "out.jsonl")), journal)
    assert [row["key"] for row in rows_of(result.output)] == ["c"]
    unnamed, unsaid = rows_of(result.failed_output)
    assert (unnamed["key"], unnamed["where"]) == ("\\ud800", f"{source}:1")
    assert unsaid["key"] == "b"
