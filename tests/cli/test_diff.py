"""`carrara diff`: 0 for the same, 1 for a difference, 2 for what cannot be compared."""

from __future__ import annotations

from typing import Any

import pytest


def test_the_same_rows_in_two_forms_are_the_same(shell: Any) -> None:
    shell.write("a.jsonl", '{"key": "a", "x": 1, "day": "2026-01-02"}\n')
    shell.write("b.csv", "key,x,day\na,1,2026-01-02\n")
    ended = shell("diff", "a.jsonl", "b.csv")
    assert (ended.code, ended.out) == (
        0,
        "1 rows before, 1 after; 0 changed, 0 added, 0 removed\n",
    )


def test_differences_are_told_with_types_apart(shell: Any) -> None:
    shell.write("a.jsonl", '{"key": "a", "x": 1, "y": 1}\n{"key": "b", "x": 2, "y": 2}\n')
    shell.write("b.jsonl", '{"key": "a", "x": "1", "z": 1}\n{"key": "c", "x": "3", "z": 2}\n')
    ended = shell("diff", "a.jsonl", "b.jsonl")
    assert ended.code == 1
    assert ended.out.splitlines() == [
        "2 rows before, 2 after; 0 changed, 1 added, 1 removed",
        "field z: only after",
        "field y: only before",
        "type of /x: number before, text after, in 1 value",
        "added: c",
        "removed: b",
    ]
    data = shell("diff", "a.jsonl", "b.jsonl", "--json").data
    assert data["retyped"] == [{"field": "/x", "before": "number", "after": "text", "count": 1}]


def test_a_table_of_duckdb_is_compared_with_parquet(shell: Any) -> None:
    shell.write("in.jsonl", '{"id": "a", "text": "x"}\n{"id": "b", "text": "y"}\n')
    for output in ("out.parquet", "duckdb:///out.duckdb#rows"):
        assert shell("run", "flows.py:shout", "-i", "in.jsonl", "-o", output, "-q").code == 0
    assert shell("diff", "out.parquet", "duckdb:///out.duckdb#rows").code == 0


@pytest.mark.parametrize(
    ("one", "told"),
    [
        ("gone.jsonl", "there is no file 'gone.jsonl'"),
        ("duckdb:///gone.duckdb#rows", "there is no file gone.duckdb"),
        ("duckdb:///gone.duckdb", "a table or a query behind '#'"),
        ("sqlite:///gone.db#rows", "there is no file gone.db"),
        ("rows.txt", "not '.txt'"),
        ("broken.jsonl", "broken.jsonl:1: not JSON"),
        ("twice.jsonl", "the id 'a' stands already at twice.jsonl:1"),
    ],
)
def test_what_cannot_be_compared_is_a_wrong_call(shell: Any, one: str, told: str) -> None:
    shell.write("a.jsonl", '{"key": "a"}\n')
    shell.write("rows.txt", "a")
    shell.write("broken.jsonl", "{\n")
    shell.write("twice.jsonl", '{"key": "a"}\n{"key": "a"}\n')
    ended = shell("diff", one, "a.jsonl")
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert told in ended.err


def test_standard_input_is_read_once(shell: Any) -> None:
    ended = shell("diff", "-", "-", stdin='{"key": "a"}\n')
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert "only one of the two outputs may be -" in ended.err


def test_long_texts_are_shown_where_they_differ(shell: Any) -> None:
    same = "x" * 200
    shell.write("a.jsonl", f'{{"key": "a", "t": "{same}one{same}", "u": "{same}"}}\n')
    shell.write("b.jsonl", f'{{"key": "a", "t": "{same}two{same}", "u": "y"}}\n')
    told = shell("diff", "a.jsonl", "b.jsonl").out.splitlines()[-2:]
    before = "… " + 20 * "x"
    assert told[0] == f"a /t: {before}one{'x' * 33} … -> {before}two{'x' * 33} …"
    assert told[1] == f'a /u: "{57 * "x"} … -> "y"'
