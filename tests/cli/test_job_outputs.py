"""Jobs into Parquet files and tables on the command line, killed and gone on with."""

from __future__ import annotations

import json
import signal
from typing import Any

import duckdb
import pyarrow.parquet
import pytest

TYPED = """

from datetime import date
from typing import TypedDict


class Said(TypedDict):
    said: str
    day: date
    parts: list[str]


@workflow
async def typed(text: str) -> Said:
    return {"said": await loud(text), "day": date(2026, 1, 2), "parts": [text, text]}
"""

OUTPUTS = ["out.parquet", "sqlite:///out.db#rows", "duckdb:///out.duckdb#rows"]


def lines(*texts: str) -> str:
    return "".join(json.dumps({"id": text, "text": text}) + "\n" for text in texts)


@pytest.fixture
def typed(shell: Any) -> Any:
    shell.write("typed.py", shell.read("flows.py") + TYPED)
    return shell


def call(output: str, *more: str) -> tuple[str, ...]:
    return ("run", "typed.py:typed", "-i", "in.jsonl", "-o", output, *more)


def rows_of(shell: Any, output: str) -> list[dict[str, Any]]:
    """The rows as `carrara` itself reads them again, and DuckDB's by DuckDB."""
    from carrara.workflows.records import read_records

    if output.startswith("duckdb"):
        with duckdb.connect(str(shell.folder / "out.duckdb")) as connection:
            found = connection.sql(
                "SELECT key, said, day::VARCHAR AS day, parts FROM rows ORDER BY key"
            )
            return list(found.to_arrow_table().to_pylist())
    source = output if output.startswith("sqlite") else str(shell.folder / output)
    found_rows = [dict(record.fields) for record in read_records(source, str(shell.folder))]
    return sorted(found_rows, key=lambda row: str(row["key"]))


def expected(*texts: str) -> list[dict[str, Any]]:
    return [
        {"key": text, "said": text.upper(), "day": "2026-01-02", "parts": [text, text]}
        for text in texts
    ]


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_killed_job_goes_on_and_its_output_is_complete(typed: Any, output: str) -> None:
    texts = [f"t{number:02}" for number in range(30)]
    typed.write("in.jsonl", lines(*texts))
    words = call(output, "--concurrency", "4")
    typed.stopped(*words, at="t20", by=signal.SIGKILL)
    assert not (typed.folder / "out.parquet").exists()
    before = typed.read("calls.log").split()
    assert "t29" not in before
    ended = typed(*words, "--resume")
    assert ended.code == 0, ended.err
    assert "from before" in ended.err
    assert rows_of(typed, output) == expected(*texts)
    again = typed.read("calls.log").split()[len(before) :]
    assert len(again) <= 10 + 3  # t20 to t29, and the three at work beside t20
    assert not [path for path in typed.folder.iterdir() if "partial" in path.name]


def test_parquet_keeps_the_order_and_the_types(typed: Any) -> None:
    typed.write("in.jsonl", lines("b", "a"))
    assert typed(*call("out.parquet")).code == 0
    table = pyarrow.parquet.read_table(typed.folder / "out.parquet")
    assert table["key"].to_pylist() == ["b", "a"]
    assert [str(kind) for kind in table.schema.types] == [
        "string", "string", "date32[day]", "list<element: string>",
    ]  # fmt: skip
    ended = typed(*call("out.parquet"))
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert "is there already" in ended.err


def test_a_job_into_a_table_replaces_rows_by_key(typed: Any) -> None:
    output = "sqlite:///out.db#rows"
    for texts in (["a", "b"], ["b", "c"]):
        typed.write("in.jsonl", lines(*texts))
        ended = typed(*call(output))
        assert ended.code == 0, ended.err
    assert f"2 rows in {output}, 0 failed" in ended.err
    assert rows_of(typed, output) == expected("a", "b", "c")


def test_a_finished_job_can_be_written_elsewhere(typed: Any) -> None:
    typed.write("in.jsonl", lines("a", "b"))
    assert typed(*call("out.jsonl")).code == 0
    ended = typed("resume", "last", "-o", "duckdb:///out.duckdb#rows")
    assert ended.code == 0, ended.err
    assert rows_of(typed, "duckdb:///out.duckdb#rows") == expected("a", "b")
    assert typed.read("calls.log").split() == ["a", "b"]


def test_lists_become_rows_where_they_are_told_to(typed: Any) -> None:
    typed.write("in.jsonl", lines("a"))
    assert typed(*call("out.csv", "--flatten", "parts")).code == 0
    assert typed.read("out.csv").splitlines() == [
        "key,said,day,parts",
        "a/0,A,2026-01-02,a",
        "a/1,A,2026-01-02,a",
    ]


def test_shards_together_are_the_whole(typed: Any) -> None:
    texts = [f"t{number}" for number in range(12)]
    typed.write("in.jsonl", lines(*texts))
    for part in (1, 2, 3):
        ended = typed(*call("sqlite:///out.db#rows", "--shard", f"{part}/3", "-q"))
        assert ended.code == 0, ended.err
    assert rows_of(typed, "sqlite:///out.db#rows") == expected(*sorted(texts))
    assert sorted(typed.read("calls.log").split()) == sorted(texts)


def test_a_dry_run_writes_nothing(typed: Any) -> None:
    typed.write("in.jsonl", lines("a", "b", "c", "d"))
    ended = typed("run", "typed.py:typed", "-i", "in.jsonl", "--dry-run", "--sample", "2")
    assert ended.code == 0, ended.err
    assert "4 records, about 1 tokens" in ended.out
    assert "2 of them were run (0 failed)" in ended.out
    assert len(typed.read("calls.log").split()) == 2
    assert not list(typed.folder.glob("out*"))
    assert not (typed.folder / ".carrara").exists()


def test_a_deadline_ends_a_job_and_says_how_to_go_on(typed: Any) -> None:
    typed.write("in.jsonl", lines(*"abc"))
    ended = typed(*call("out.jsonl", "--deadline", "0.0001ms", "-q"))
    assert ended.code == 1
    assert "the deadline of 1e-07 s has passed; `carrara resume" in ended.err
    assert " --deadline 0.0001ms` goes on" in ended.err
    again = typed("resume", "last", "--deadline", "0.0001ms", "-q")
    assert again.code == 1
    assert "0 rows in out.jsonl" in again.err
    assert " --deadline 0.0001ms` goes on" in again.err
    priceless = typed("resume", "last", "--max-cost", "1")
    assert (priceless.code, len(priceless.errors)) == (2, 1)
    assert "--max-cost: no engine has a price" in priceless.err
    assert typed(*call("out.jsonl", "--resume", "-q")).code == 0
    assert [row["key"] for row in typed.rows("out.jsonl")] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--shard", "4/3"), "--shard: '4/3' is not one of 1/n to n/n"),
        (("--where", "text =="), "--where: 'text ==' is no expression"),
        (("--where", ""), "--where is given no expression"),
        (("--flatten", "part"), "Did you mean 'parts'"),
        (("--sample", "0"), "it is for --dry-run"),
        (("--deadline", "soon"), "--deadline: 'soon' is no duration"),
        (("--max-cost", "1"), "no engine has a price"),
        (("--input", " "), "--input is empty"),
    ],
)
def test_a_choice_that_cannot_be_is_refused_before_anything_runs(
    typed: Any, more: tuple[str, ...], told: str
) -> None:
    typed.write("in.jsonl", lines("a"))
    ended = typed(*call("out.jsonl", *more))
    assert (ended.code, len(ended.errors)) == (2, 1), ended.err
    assert told in ended.err
    assert not (typed.folder / "calls.log").exists()


def test_a_sqlite_file_is_no_duckdb_file(typed: Any) -> None:
    typed.write("in.jsonl", lines("a"))
    assert typed(*call("sqlite:///x.db#t")).code == 0
    for words in (call("duckdb:///x.db#t"), ("diff", "duckdb:///x.db#t", "in.jsonl")):
        ended = typed(*words)
        assert (ended.code, len(ended.errors)) == (2, 1), ended.err
        assert "x.db is a SQLite file; write 'sqlite:///x.db#t'" in ended.err


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_rows_do_not_go_into_the_file_that_is_read(typed: Any, kind: str) -> None:
    typed.write("in.jsonl", lines("a", "b"))
    assert typed(*call(f"{kind}:///x.db#t")).code == 0
    source = f"{kind}:///x.db#SELECT key AS id, said AS text FROM t"
    words = ("run", "typed.py:typed", "--input", source, "--output")
    ended = typed(*words, f"{kind}:///{typed.folder}/x.db#new")
    assert (ended.code, len(ended.errors)) == (2, 1), ended.err
    assert "the input is in the same file, which cannot be written while it is read" in ended.err
    assert typed(*words, f"{kind}:///y.db#new").code == 0


def test_limits_of_jobs_are_refused_for_other_runs(shell: Any) -> None:
    assert shell("run", "flows.py:quadruple", "--set", "number=4", "-q").code == 0
    ended = shell("resume", "last", "--max-cost", "1")
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert "--max-cost and --deadline are for jobs, and run " in ended.err


def test_options_of_jobs_need_an_input(shell: Any) -> None:
    ended = shell("run", "flows.py:shout", "--set", "text=a", "--where", "true")
    assert (ended.code, len(ended.errors)) == (2, 1)


@pytest.mark.parametrize("output", ["out.jsonl", *OUTPUTS])
def test_no_row_of_a_flat_job_takes_the_key_of_another(typed: Any, output: str) -> None:
    typed.write("in.jsonl", lines("a", "b", "a/0"))
    ended = typed(*call(output, "--flatten", "parts", "-q"))
    assert ended.code == 1
    assert {row["key"] for row in rows_of(typed, output)} == {"a/0", "a/1", "b/0", "b/1"}
    (failed,) = [path for path in typed.folder.iterdir() if path.name.endswith("failed.jsonl")]
    assert "'a/0' is that of an item of the record at in.jsonl:1" in failed.read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--limit 3 --order completed --replicas 2", "--limit, --order, --replicas are for jobs"),
        ("--sample 0", "--sample is for jobs"),
        ("--review 0", "--review is for jobs"),
        ("--seed 4", "--seed is for jobs"),
    ],
)
def test_options_of_jobs_are_refused_for_a_single_run(shell: Any, options: str, said: str) -> None:
    ended = shell("run", "flows.py:quadruple", "--set", "number=4", "-q", *options.split())
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert f"{said}: give --input too" in ended.err
