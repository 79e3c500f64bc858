"""A record whose key is made that of an earlier one has no row any more, as in a fresh run."""

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from carrara.engines.scripted import ScriptedEngine
from carrara.workflows.job import Job, JobResult, run_job
from carrara.workflows.records import SourceError, read_records
from carrara.workflows.run import session

PIPELINE = """
name: loud
inputs: {text: str}
steps:
  said: {llm: "{{ text }}"}
outputs: {said: "{{ said }}"}
"""
PLACES = pytest.mark.parametrize("output", ["rows.jsonl", "rows.parquet", "sqlite:///t.db#t"])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(PIPELINE)
    return tmp_path


def give(*records: tuple[str, str]) -> None:
    lines = (json.dumps({"name": key, "text": text}) + "\n" for key, text in records)
    Path("in.jsonl").write_text("".join(lines))


def run(output: str, go_on: JobResult | None = None, accept: bool = True) -> JobResult:
    async def main() -> JobResult:
        engine = ScriptedEngine("ar", lambda request: request.messages[-1].content.upper())
        async with session(engines={"ar": engine}, journal="j.db") as kept:
            return await run_job(
                Job("p.yaml", "in.jsonl", output, key="name"),
                kept,
                run_id=go_on.run_id if go_on else None,
                accept_changes=accept and go_on is not None,
            )

    return asyncio.run(main())


def said(output: str) -> Sequence[tuple[Any, Any]]:
    if output.startswith("sqlite"):
        with closing(sqlite3.connect("t.db")) as table:
            return table.execute("SELECT key, said FROM t ORDER BY key").fetchall()
    return [(record.fields["key"], record.fields["said"]) for record in read_records(output)]


@PLACES
def test_two_records_of_one_key_have_one_row(output: str) -> None:
    give(("a", "one"), ("b", "two"))
    first = run(output)
    give(("a", "one"), ("a", "two"))
    again = run(output, first)
    assert (again.done, again.failed) == (1, 1)
    rows = dict(said(output))
    assert rows["a"] == "ONE"
    if not output.startswith("sqlite"):  # which keeps the rows of keys that are gone
        assert len(said(output)) == 1


def test_a_key_that_has_come_again_is_a_changed_record() -> None:
    give(("a", "one"), ("b", "two"))
    first = run("rows.jsonl")
    give(("a", "one"), ("a", "two"))
    with pytest.raises(SourceError, match=r"the id 'a' stands already at in\.jsonl:1"):
        run("rows.jsonl", first, accept=False)


@PLACES
def test_a_journal_with_two_rows_of_one_key_is_put_right(output: str) -> None:
    give(("a", "one"), ("b", "two"))
    first = run(output)
    give(("a", "one"), ("a", "two"))
    with closing(sqlite3.connect("j.db", isolation_level=None)) as journal:
        journal.execute("UPDATE rows SET key='a', payload=replace(payload, '\"b\"', '\"a\"')")
    assert (run(output, first).done, dict(said(output))["a"]) == (1, "ONE")
