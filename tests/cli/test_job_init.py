"""`carrara job init`: a pipeline that validates, and never over a file that is there."""

from __future__ import annotations

import json
from typing import Any

import pytest


def test_three_rows_become_a_pipeline_that_validates(shell: Any) -> None:
    rows = [
        {"text": f"{name} is {age}", "gold": {"name": name, "age": age}}
        for name, age in (("Ada", 36), ("Alan", 41), ("Grace", 85))
    ]
    shell.write("people.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert shell("job", "init", "people.jsonl").code == 0
    assert "age: int" in shell.read("people.yaml")
    assert shell("validate", "people.yaml").code == 0
    again = shell("job", "init", "people.jsonl")
    assert (again.code, len(again.errors)) == (2, 1)
    assert "people.yaml is there already" in again.err


def test_a_broken_schema_is_told(shell: Any) -> None:
    shell.write("bill.json", "{")
    ended = shell("job", "init", "bill.json")
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert "bill.json: not JSON" in ended.err
    assert not (shell.folder / "bill.yaml").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"type": "array", "items": [{"type": "string"}]}, "no JSON Schema: "),
        (
            {"properties": ["x"]},
            "bill.json: no JSON Schema: ['x'] is not of type 'object', at /prop",
        ),
        ({"properties": {"x": False}}, "the schema allows nothing for X"),
    ],
)
def test_a_schema_that_is_none_is_told(shell: Any, content: Any, told: str) -> None:
    shell.write("bill.json", json.dumps(content))
    ended = shell("job", "init", "bill.json")
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert told in ended.err


def test_a_schema_may_say_true(shell: Any) -> None:
    parts = {"x": True, "y": {"anyOf": [True, {"type": "null"}]}, "z": {"type": "array"}}
    shell.write("bill.json", json.dumps({"properties": parts}))
    assert shell("job", "init", "bill.json").code == 0
    assert "x: any" in shell.read("bill.yaml")
    assert shell("validate", "bill.yaml").code == 0


def test_a_folder_is_told(shell: Any) -> None:
    ended = shell("job", "init", ".")
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert "is a folder; name a file in it" in ended.err


@pytest.mark.parametrize("name", ["answer", "steps", "true"])
def test_a_text_under_a_name_that_means_something_else_is_told(shell: Any, name: str) -> None:
    shell.write("rows.jsonl", json.dumps({name: "a", "gold": {"n": 1}}))
    ended = shell("job", "init", "rows.jsonl")
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert f"rows.jsonl: {name!r} is no name for an input, it means something else" in ended.err


def test_a_field_that_is_null_throughout_is_told(shell: Any) -> None:
    shell.write("bills.jsonl", '{"text": "a", "gold": {"total": 1, "paid_on": null}}\n')
    ended = shell("job", "init", "bills.jsonl")
    assert ended.code == 0
    assert "paid_on is null in every example, so it is taken for a text; change it" in ended.err
    assert "paid_on: str?" in shell.read("bills.yaml")
