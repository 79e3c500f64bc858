"""A job whose rows have got another type meanwhile does not mix rows of two types."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from pathlib import Path

import pytest

from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.workflows.job import Job, JobResult, run_job
from carrara.workflows.places import PlaceError
from carrara.workflows.run import session

FLOW = """
from typing import Any, NotRequired, TypedDict
from pydantic import BaseModel
from carrara import step, workflow
class R({base}):
    {fields}
@step(inline=True)
def made(text: str) -> R:
    if text == "bad":
        raise ValueError(text)
    return {made}
@workflow
async def rows(text: str) -> R:
    return await made(text)
"""
BEFORE = FLOW.format(base="TypedDict", fields="a: int", made="{'a': 1}")
OUTPUTS = [
    "rows.jsonl", "rows.csv", "rows.parquet", "sqlite:///rows.db#t", "duckdb:///rows.duckdb#t",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"id": "ok", "text": "x"}\n{"id": "bad", "text": "bad"}\n')
    return tmp_path


def run(flow: str, output: str, run_id: str | None = None, accept: bool = False) -> JobResult:
    Path("flow.py").write_text(flow)
    sys.modules.pop("flow", None)
    importlib.invalidate_caches()
    journal = SqliteJournal(Path("journal.db"))

    async def main() -> JobResult:
        async with session(journal=journal, engines={}) as begun:
            job = Job("flow.py:rows", "in.jsonl", output)
            return await run_job(job, begun, run_id=run_id, accept_changes=accept)

    try:
        return asyncio.run(main())
    finally:
        journal.close()


def files() -> dict[str, bytes]:
    made = Path().glob("rows*")
    return {path.name: path.read_bytes() for path in made}


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_job_with_rows_of_another_type_is_refused_and_touches_nothing(
    folder: Path, output: str
) -> None:
    first = run(BEFORE, output)
    before = files()
    after = FLOW.format(base="TypedDict", fields="a: str; b: str", made="{'a': 'x', 'b': 'y'}")
    with pytest.raises(PlaceError, match=r"1 of the rows .* another type .* 'ok': ") as told:
        run(after, output, first.run_id)
    assert "--accept-changes" in str(told.value)
    assert files() == before


@pytest.mark.parametrize(
    ("base", "fields", "made"),
    [
        ("BaseModel", "a: int\n    b: int | None = None", "R(a=1)"),
        ("TypedDict", "b: int", "{'b': 1}"),
        ("TypedDict", "a: list[int]", "{'a': [1]}"),
    ],
)
def test_a_field_more_or_less_or_another_one_is_another_type(
    folder: Path, base: str, fields: str, made: str
) -> None:
    first = run(BEFORE, "rows.jsonl")
    with pytest.raises(PlaceError, match="another type"):
        run(FLOW.format(base=base, fields=fields, made=made), "rows.jsonl", first.run_id)


@pytest.mark.parametrize("fields", ["a: float", "a: int | None", "a: int; b: NotRequired[int]"])
def test_a_type_that_has_a_place_for_the_rows_of_before_goes_on(folder: Path, fields: str) -> None:
    first = run(BEFORE, "rows.jsonl")
    after = FLOW.format(base="TypedDict", fields=fields, made="{'a': 1}")
    assert run(after, "rows.jsonl", first.run_id).reused == 1


def test_accepted_changes_make_such_rows_again(folder: Path) -> None:
    first = run(BEFORE, "rows.jsonl")
    after = FLOW.format(base="TypedDict", fields="b: str", made="{'b': 'y'}")
    second = run(after, "rows.jsonl", first.run_id, accept=True)
    assert (second.done, second.failed, second.dropped) == (1, 1, 1)
    rows = Path("rows.jsonl").read_text().splitlines()
    assert [json.loads(row) for row in rows] == [{"key": "ok", "b": "y"}]


def test_a_model_whose_rows_lack_a_field_goes_on_as_long_as_it_is_the_same(folder: Path) -> None:
    flow = FLOW.format(base="BaseModel", fields="a: int\n    b: int = 2", made="{'a': 1}")
    first = run(flow, "rows.jsonl")
    assert first.done == 1
    assert run(flow, "rows.jsonl", first.run_id).reused == 1
