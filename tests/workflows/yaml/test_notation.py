"""The type notation means the Python types that a person would have written."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from carrara.engines.contract import Choice, Contract, Json, Outline, Regex, Table, Text
from carrara.workflows.markers import Columns, Depth, JsonSchema, Pattern
from carrara.workflows.types import value_type
from carrara.workflows.values import Outline as OutlineValue
from carrara.workflows.values import Table as TableValue
from carrara.workflows.yaml import Pipeline, loads


class Part(BaseModel):
    name: str
    within: Part | None = None


class Recipe(BaseModel):
    title: Annotated[str, Field(min_length=1, max_length=80)] = Field(description="As written.")
    servings: int | None = None
    course: Literal["starter", "main"]
    parts: list[Part]
    tags: Annotated[list[str], Field(max_length=3)] = []
    on: datetime.date | None = None


TYPES = """
types:
  Recipe:
    title: {type: str, min_length: 1, max_length: 80, description: As written.}
    servings: int?
    course: Course
    parts: [Part]
    tags: {list: str, max_items: 3, default: []}
    on: date?
  Part: {name: str, within: Part?}
  Course: {one_of: [starter, main]}
  Table: {table: [a, b]}
"""


def contract_of(notation: str) -> Contract:
    pipeline = loads(f"{TYPES}\nsteps:\n  answer:\n    llm: hi\n    returns: {notation}\n")
    return step_of(pipeline).contract


def step_of(pipeline: Pipeline) -> Any:
    (planned,) = pipeline.workflow.static_plan().nodes  # type: ignore[misc]
    return planned.step


@pytest.mark.parametrize(
    ("notation", "annotation"),
    [
        ("str", str),
        ("int", int),
        ("int?", int | None),
        ("float", float),
        ("bool", bool),
        ("bool?", bool | None),
        ("date", datetime.date),
        ("datetime", datetime.datetime),
        ("any", Any),
        ("[str]", list[str]),
        ('"[str]"', list[str]),
        ('"[str?]?"', list[str | None] | None),
        ("[[int]]", list[list[int]]),
        ("{list: str, min_items: 1}", Annotated[list[str], Field(min_length=1)]),
        ("{map: int}", dict[str, int]),
        ("{type: int, min: 1, max: 5}", Annotated[int, Field(ge=1, le=5)]),
        ("{type: float, min: 0.5, optional: true}", Annotated[float, Field(ge=0.5)] | None),
        ("{one_of: [a, b]}", Literal["a", "b"]),
        ("{one_of: [1, 2]}", Literal[1, 2]),
        ("{one_of: [a, b], optional: true}", Literal["a", "b"] | None),
        ("{regex: '[a-z]+'}", Annotated[str, Pattern("[a-z]+")]),
        ("{table: [a, b]}", Annotated[TableValue, Columns("a", "b")]),
        (
            "{table: {item: str, n: int, x: float, ok: bool, on: date}, min_rows: 1, max_rows: 9}",
            Annotated[
                TableValue,
                Columns("item", "n:int", "x:float", "ok:bool", "on:date", min_rows=1, max_rows=9),
            ],
        ),
        ("{outline: {}}", OutlineValue),
        ("{outline: {depth: 2, max_items: 5}}", Annotated[OutlineValue, Depth(2, max_items=5)]),
        (
            "{schema: {type: object, required: [x]}}",
            Annotated[Any, JsonSchema('{"type":"object","required":["x"]}', "Answer")],
        ),
        ("Recipe", Recipe),
        ("[Recipe]", list[Recipe]),
        ("Course", Literal["starter", "main"]),
        ("Table", Annotated[TableValue, Columns("a", "b")]),
    ],
)
def test_a_notation_has_the_contract_of_the_python_type(notation: str, annotation: Any) -> None:
    found, expected = contract_of(notation), value_type(annotation).contract
    if isinstance(found, Json) and isinstance(expected, Json):
        assert found.schema == expected.schema
    else:
        assert found == expected


def test_an_object_written_in_place_is_called_after_its_step() -> None:
    found = contract_of("{title: str, parts: [{name: str}]}")
    assert isinstance(found, Json)
    assert found.name == "Answer"
    assert list(found.schema["properties"]) == ["title", "parts"]


@pytest.mark.parametrize(
    ("notation", "kind"),
    [
        ("str", Text),
        ("bool", Choice),
        ("{regex: a}", Regex),
        ("{table: [a]}", Table),
        ("{outline: {}}", Outline),
    ],
)
def test_kinds_of_contract(notation: str, kind: Any) -> None:
    assert isinstance(contract_of(notation), kind)


def test_a_field_called_like_a_kind_is_written_with_fields() -> None:
    found = contract_of("{fields: {type: str, list: [str], table: int}}")
    assert isinstance(found, Json)
    assert list(found.schema["properties"]) == ["type", "list", "table"]


def test_the_description_of_an_object_reaches_the_model() -> None:
    found = contract_of("{fields: {a: str}, description: An answer.}")
    assert isinstance(found, Json)
    assert found.schema["description"] == "An answer."


def test_objects_of_one_step_and_one_type_keep_names_of_their_own() -> None:
    pipeline = loads(
        "types: {Answer: {x: int}}\n"
        "steps:\n"
        "  answer: {llm: hi, returns: {y: {list: str, default: []}, z: [{a: str}], more: {b: int}}}\n"
        "  answer_z: {llm: hi, returns: {c: int}}\n"
    )
    plan = pipeline.workflow.static_plan
    assert plan is not None
    names = [node.step.returns.__name__ for node in plan().nodes]
    assert names == ["Answer2", "AnswerZ"]


@pytest.mark.parametrize("name", ["copy", "json", "schema", "dict", "model_name", "validate"])
def test_a_field_may_be_called_like_a_method_of_pydantic(name: str) -> None:
    found = contract_of(f"{{fields: {{{name}: str}}}}")
    assert isinstance(found, Json)
    assert list(found.schema["properties"]) == [name]


def test_inputs_are_annotated_and_defaults_converted() -> None:
    pipeline = loads(
        "inputs:\n  day: {type: date, default: 2026-01-31}\n  n: int?\n  course: {one_of: [a, b]}\n"
        "steps:\n  a: {llm: hi}\n"
    )
    assert pipeline.inputs == {
        "day": datetime.date,
        "n": int | None,
        "course": Literal["a", "b"],
    }
    assert pipeline.workflow.parameters.defaults == {"day": "2026-01-31", "n": None}


def test_a_recursive_type_validates_at_every_depth() -> None:
    pipeline = loads(f"{TYPES}\ninputs: {{part: Part}}\nsteps:\n  a: {{llm: hi}}\n")
    adapter: TypeAdapter[Any] = TypeAdapter(pipeline.inputs["part"])
    assert adapter.validate_python({"name": "a", "within": {"name": "b"}}).within.name == "b"
    with pytest.raises(ValidationError):
        adapter.validate_python({"name": "a", "within": {"name": 3}})


def test_equal_types_are_the_same_classes_again() -> None:
    text = f"{TYPES}\ninputs: {{part: Part}}\nsteps:\n  a: {{llm: hi}}\n"
    assert loads(text).inputs["part"] is loads(text).inputs["part"]
