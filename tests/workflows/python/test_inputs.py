"""Inputs from plain data, workflows from their names."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from carrara import DefinitionError, InputError, Table, load_workflow, workflow
from carrara.workflows.inputs import InputReader, assignments, read_inputs
from carrara.workflows.steps import Workflow
from carrara.workflows.target import load_workflows


class Recipe(BaseModel):
    title: str
    minutes: int


@workflow
async def book(
    title: str,
    day: datetime.date | None = None,
    recipes: list[Recipe] = [],  # noqa: B006 - never changed
    count: Annotated[int, Field(ge=1)] = 1,
    table: Table[Recipe] | None = None,
) -> None:
    return None


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"title": "x"}, "title", "x"),
        ({"title": "x", "day": "2024-02-29"}, "day", datetime.date(2024, 2, 29)),
        ({"title": "x", "count": "3"}, "count", 3),
        (
            {"title": "x", "recipes": '[{"title": "a", "minutes": 1}]'},
            "recipes",
            [Recipe(title="a", minutes=1)],
        ),
        (
            {"title": "x", "recipes": [{"title": "a", "minutes": 1}]},
            "recipes",
            [Recipe(title="a", minutes=1)],
        ),
        (
            {"title": "x", "table": [{"title": "a", "minutes": 1}]},
            "table",
            Table((Recipe(title="a", minutes=1),), ("title", "minutes")),
        ),
    ],
)
def test_plain_data_becomes_typed_inputs(given: dict[str, Any], name: str, value: Any) -> None:
    assert read_inputs(book, given)[name] == value


@pytest.mark.parametrize(
    ("given", "name", "message"),
    [
        ({}, "title", "book needs the input 'title'"),
        ({"titel": "x"}, "titel", "takes no input 'titel'. Did you mean 'title'?"),
        ({"title": "x", "zzz": 1}, "zzz", "It takes: title, day, recipes, count, table."),
        ({"title": "x", "count": "0"}, "count", "input 'count' of book: Input should be greater"),
        ({"title": "x", "count": "many"}, "count", "valid integer.*got 'many'"),
        (
            {"title": "x", "recipes": [{"title": "a"}]},
            "recipes",
            r"\[0\].minutes: Field required",
        ),
        (
            {"title": "x", "recipes": '[{"title": "a", "minutes": "long"}]'},
            "recipes",
            r"input 'recipes' of book: \[0\].minutes: Input should be a valid integer.*got 'long'",
        ),
        ({"title": "x", "recipes": '[{"title": "a"'}, "recipes", "of book: Invalid JSON: EOF"),
        ({"title": "x", "recipes": "none", "count": "many"}, "", "'recipes' (.|\n)*'count'"),
    ],
)
def test_what_is_wrong_with_an_input_is_said_by_name(
    given: dict[str, Any], name: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        InputReader(book).read(given)
    assert caught.value.name == name


def test_assignments_are_read_as_the_command_line_writes_them() -> None:
    assert assignments(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    with pytest.raises(InputError, match="NAME=VALUE, not 'nothing'"):
        assignments(["nothing"])


TWO = """
from carrara import workflow, step

@workflow
async def one(doc: str) -> str:
    return doc

@workflow
async def two(doc: str) -> str:
    return doc

@step
def part(doc: str) -> str:
    return doc

number = 3
"""


class TestTargets:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [*sys.path])
        Path("two_flows.py").write_text(TWO, encoding="utf-8")
        Path("bad_syntax.py").write_text("def broken(:\n", encoding="utf-8")
        Path("bad_import.py").write_text("x = 1\nimport no_such_thing\n", encoding="utf-8")
        Path("bad_value.py").write_text("x = 1\n\nint('a')\n", encoding="utf-8")
        Path("empty_flows.py").write_text("x = 1\n", encoding="utf-8")
        yield
        for file in tmp_path.glob("*.py"):
            if file.stem != "json":
                sys.modules.pop(file.stem, None)

    def test_a_workflow_is_found_by_file_or_module_and_name(self) -> None:
        by_file = load_workflow("two_flows.py:one")
        assert by_file.name == "one"
        assert load_workflow("two_flows:one") is by_file
        assert load_workflow("two_flows.py:part").name == "part"
        assert isinstance(by_file, Workflow)
        assert by_file.source == f"{Path.cwd() / 'two_flows.py'}:one"
        assert load_workflow(by_file.source) is by_file

    def test_all_workflows_of_a_file_can_be_had(self) -> None:
        assert [found.name for found in load_workflows("two_flows.py")] == ["one", "two"]

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            ("two_flows.py", "several workflows; write two_flows.py:one or two_flows.py:two"),
            ("two_flows.py:on", "there is no 'on'. Did you mean 'one'?"),
            ("two_flows.py:number", "'number' is a int, not a workflow. Decorate it"),
            ("empty_flows.py", "defines no workflow"),
            ("two_flow.py", "there is no file two_flow.py. Did you mean 'two_flows.py'?"),
            ("nowhere.module:x", "there is no module 'nowhere.module'"),
            ("missing.yaml", "there is no file missing.yaml"),
            ("bad_syntax.py", r"bad_syntax.py:1:\d+: "),
            ("bad_import.py", "bad_import.py:2: module 'bad_import' cannot be imported: ModuleNot"),
            ("bad_value.py", "bad_value.py:3: module 'bad_value' cannot be imported: ValueError"),
        ],
    )
    def test_a_target_that_is_wrong_says_why(self, target: str, message: str) -> None:
        with pytest.raises(DefinitionError, match=message):
            load_workflow(target)

    def test_a_file_called_like_a_loaded_module_is_refused(self) -> None:
        Path("json.py").write_text(TWO, encoding="utf-8")
        with pytest.raises(
            DefinitionError, match=r"'json' is loaded already; give json\.py another"
        ):
            load_workflow("json.py:one")
