"""Rows as JSON lines and as CSV: the suffix says which, and a CSV file has one header, whatever happens to the job."""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import carrara
from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.workflows.calls import Definition
from carrara.workflows.job import Job, JobResult, run_job
from carrara.workflows.outputs import write_outputs
from carrara.workflows.places import OutputError, PlaceError
from carrara.workflows.row_format import csv_of, csv_of_values, declared_fields, job_format
from carrara.workflows.run import session
from carrara.workflows.values import Table

PIPELINE = """
name: look
inputs: {text: str}
types:
  Seen: {words: [str], count: int}
steps:
  seen: {llm: "Look: {{ text }}", returns: Seen}
outputs:
  text: "{{ text }}"
  count: "{{ seen.count }}"
  seen: "{{ seen }}"
  nothing: "{{ none }}"
"""


def looked(request: Request) -> str:
    words = request.messages[-1].content.removeprefix("Look: ").splitlines()[0].split()
    if "bad" in words:
        raise RuntimeError("cannot look at it")
    return json.dumps({"words": words, "count": len(words)})


def run(job: Job, folder: Path, run_id: str | None = None) -> JobResult:
    async def main() -> JobResult:
        journal = SqliteJournal(folder / "journal.db")
        try:
            engines = {"ar": ScriptedEngine("ar", looked)}
            async with session(journal=journal, engines=engines) as kept:
                return await run_job(job, kept, run_id=run_id)
        finally:
            journal.close()

    return asyncio.run(main())


def looking(folder: Path, texts: list[str], output: str) -> Job:
    (folder / "look.yaml").write_text(PIPELINE)
    lines = [json.dumps({"id": f"r{n}", "text": text}) + "\n" for n, text in enumerate(texts)]
    (folder / "in.jsonl").write_text("".join(lines))
    return Job(str(folder / "look.yaml"), str(folder / "in.jsonl"), str(folder / output))


HEADER = "key,text,count,seen,nothing\n"
FIRST = 'r0,"a ""b"", c",3,"{""words"": [""a"", ""\\""b\\"","", ""c""], ""count"": 3}",\n'


def test_a_csv_file_has_the_outputs_as_columns_under_one_header(tmp_path: Path) -> None:
    result = run(looking(tmp_path, ['a "b", c', "bad", "d"], "out.CSV"), tmp_path)
    header, first, last = result.output.read_text().splitlines(keepends=True)
    assert (header, first) == (HEADER, FIRST)
    assert last.startswith("r2,d,1,")
    assert result.failed_output == tmp_path / "out.CSV.failed.jsonl"
    assert json.loads(result.failed_output.read_text())["key"] == "r1"


def test_a_csv_job_that_was_cut_goes_on_under_the_same_header(tmp_path: Path) -> None:
    job = looking(tmp_path, ['a "b", c', "bad", "d"], "out.csv")
    first = run(job, tmp_path)
    first.output.write_text(HEADER + FIRST[:20])
    (tmp_path / "in.jsonl").write_text((tmp_path / "in.jsonl").read_text().replace("bad", "good"))
    again = run(job, tmp_path, first.run_id)
    rows = list(csv.DictReader(io.StringIO(again.output.read_text())))
    assert [(row["key"], row["text"], row["count"]) for row in rows] == [
        ("r0", 'a "b", c', "3"),
        ("r1", "good", "1"),
        ("r2", "d", "1"),
    ]
    assert json.loads(rows[0]["seen"]) == {"words": ["a", '"b",', "c"], "count": 3}


@pytest.mark.parametrize("name", ["rows.ndjson", "rows.JSONL"])
def test_other_names_of_json_lines_hold_them(tmp_path: Path, name: str) -> None:
    result = run(looking(tmp_path, ["a"], name), tmp_path)
    assert json.loads(result.output.read_text())["key"] == "r0"


@pytest.mark.parametrize(
    ("name", "told"),
    [("rows.xlsx", "not '.xlsx'"), ("rows.json", "not '.json'"), ("rows", "does not say which")],
)
def test_a_suffix_that_says_no_format_is_refused_before_anything_runs(
    tmp_path: Path, name: str, told: str
) -> None:
    with pytest.raises(PlaceError, match=told):
        run(looking(tmp_path, ["a"], name), tmp_path)
    assert not (tmp_path / name).exists()


class Model(BaseModel):
    title: str
    pages: int | None = None


@dataclasses.dataclass
class Record:
    title: str
    pages: int


class Keyed(BaseModel):
    key: str
    title: str


class Typed(TypedDict):
    title: str
    pages: int


def giving(kind: Any) -> Definition[..., Any]:
    async def made() -> Any: ...

    made.__annotations__["return"] = kind
    return carrara.workflow(made)


@pytest.mark.parametrize("kind", [Model, Record, Typed])
def test_the_fields_of_a_declared_class_are_columns(kind: Any) -> None:
    assert declared_fields(giving(kind)) == ("title", "pages")


@pytest.mark.parametrize("kind", [str, dict[str, int], Model | None, Any, Keyed])
def test_what_cannot_be_told_beforehand_goes_into_one_column(kind: Any) -> None:
    form = job_format(Path("rows.csv"), giving(kind))
    assert form.header == b"key,value\n"
    assert form.line({"key": "a", "value": "text, more"}) == b'a,"text, more"\n'
    assert form.line({"key": "a", "x": 1, "y": None}) == b'a,"{""x"": 1, ""y"": null}"\n'


def test_a_field_without_a_column_is_an_error_that_names_row_and_field() -> None:
    with pytest.raises(OutputError, match="row 'a' has the field 'more'"):
        csv_of(("key", "title")).line({"key": "a", "title": "x", "more": 1})


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner | texts, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.tuples(texts, values), max_size=4))
def test_what_is_written_as_csv_is_read_back(rows: list[tuple[str, Any]]) -> None:
    form = csv_of(("key", "text", "value"))
    lines = [form.line({"key": "k", "text": text, "value": value}) for text, value in rows]
    whole = b"".join([form.header, *lines]).decode()
    found = list(csv.DictReader(io.StringIO(whole, newline="")))
    assert [row["text"] for row in found] == [text for text, _ in rows]
    read = [json.loads(row["value"]) if row["value"] else None for row in found]
    assert read == [value for _, value in rows]


def test_a_cell_that_holds_all_reads_back_too() -> None:
    line = csv_of_values().line({"key": "k", "value": {"a": [1, None]}})
    assert next(csv.reader([line.decode()])) == ["k", '{"a": [1, null]}']


SHOPPING = Table.of([{"item": "flour", "n": 2}, {"item": "eggs, fresh", "n": None}], ("item", "n"))


@pytest.mark.parametrize(
    ("value", "name", "content"),
    [
        (SHOPPING, "a.csv", 'item,n\nflour,2\n"eggs, fresh",\n'),
        ({"shopping": SHOPPING}, "a.csv", 'item,n\nflour,2\n"eggs, fresh",\n'),
        ([{"a": 1}, {"a": 2, "b": [3]}], "a.csv", "a,b\n1,\n2,[3]\n"),
        ({"a": 1, "b": "x"}, "a.csv", "a,b\n1,x\n"),
        (Table.of([], ("item", "n")), "a.csv", "item,n\n"),
        ({"a": 1}, "a.jsonl", '{"a": 1}\n'),
        ([{"a": 1}, 2], "a.ndjson", '{"a": 1}\n2\n'),
        ({"book": "# A book"}, "a.md", "# A book\n"),
        ({"a": 1}, "a.json", '{\n  "a": 1\n}\n'),
    ],
)
def test_the_result_of_one_run_has_the_form_that_its_suffix_says(
    tmp_path: Path, value: Any, name: str, content: str
) -> None:
    (path,) = write_outputs(value, tmp_path / name)
    assert path.read_text() == content


@pytest.mark.parametrize(
    ("value", "name"),
    [({"a": 1, "b": 2}, "a.md"), ([1, 2], "a.csv"), ("text", "a.csv"), ({"a": 1}, "a.xml")],
)
def test_a_result_without_such_a_form_is_refused(
    tmp_path: Path, value: Mapping[str, Any], name: str
) -> None:
    with pytest.raises(OutputError, match=r"cannot be written as \.\w+\. Use .json"):
        write_outputs(value, tmp_path / name)
    assert not (tmp_path / name).exists()
