"""Python types as contracts, and answers as typed values."""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, Optional

import pytest
from annotated_types import MaxLen
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator
from typing_extensions import TypedDict

from carrara.engines.contract import Choice, Column, Contract, Json, Outline, Regex, Text
from carrara.engines.contract import Table as TableContract
from carrara.workflows.errors import DefinitionError, Refusal
from carrara.workflows.markers import Columns, Depth, JsonSchema, Pattern
from carrara.workflows.types import type_name, value_type
from carrara.workflows.values import Outline as OutlineValue
from carrara.workflows.values import OutlineItem, Table


class Course(enum.Enum):
    MAIN = "main course"
    DESSERT = "dessert"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Unit(BaseModel):
    name: str = Field(min_length=1)
    grams: float | None = None


class Recipe(BaseModel):
    title: str
    serves: int = Field(ge=1, le=50)
    day: datetime.date
    parts: list[Unit]


@dataclass
class Point:
    x: int
    label: Optional[str] = None  # noqa: UP045 - both spellings are in use


class Pair(TypedDict):
    left: str
    right: int


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    day: datetime.date
    pair: tuple[int, int]


UserId = NewType("UserId", str)


def json_schema(schema: dict[str, Any], name: str) -> Contract:
    return Json.of(schema, name)


CONTRACTS: list[tuple[Any, Contract]] = [
    (str, Text()),
    (UserId, Text()),
    (Annotated[str, Pattern(r"[A-Z]\d+")], Regex(r"[A-Z]\d+")),
    (Annotated[str, Field(max_length=9)], Text(9)),
    (Annotated[str, StringConstraints(max_length=8), MaxLen(9)], Text(8)),
    (Annotated[str, Field(min_length=1)], Text()),
    (Literal["a", "b"], Choice(("a", "b"))),
    (Literal["a", 2, True], Choice(("a", "2", "yes"))),
    (Literal["a", "b"] | None, Choice(("a", "b", "none"))),
    (Course, Choice(("main course", "dessert"))),
    (Optional[Course], Choice(("main course", "dessert", "none"))),  # noqa: UP045
    (Level, Choice(("LOW", "HIGH"))),
    (bool, Choice(("yes", "no"))),
    (int, json_schema({"type": "integer"}, "int")),
    (float, json_schema({"type": "number"}, "float")),
    (Decimal, json_schema({"type": "number"}, "Decimal")),
    (Annotated[int, Field(ge=3)], json_schema({"minimum": 3, "type": "integer"}, "int")),
    (datetime.date, json_schema({"format": "date", "type": "string"}, "date")),
    (datetime.datetime, json_schema({"format": "date-time", "type": "string"}, "datetime")),
    (list[str], json_schema({"items": {"type": "string"}, "type": "array"}, "list[str]")),
    (
        dict[str, int],
        json_schema(
            {"additionalProperties": {"type": "integer"}, "type": "object"}, "dict[str, int]"
        ),
    ),
    (
        str | None,
        json_schema({"anyOf": [{"type": "string"}, {"type": "null"}]}, "str | None"),
    ),
    (
        Pair,
        json_schema(
            {
                "properties": {"left": {"type": "string"}, "right": {"type": "integer"}},
                "required": ["left", "right"],
                "type": "object",
            },
            "Pair",
        ),
    ),
    (
        Annotated[Any, JsonSchema.of({"type": "object"}, "thing")],
        Json('{"type":"object"}', "thing"),
    ),
    (
        Annotated[Any, JsonSchema.of({"type": "string", "nullable": True})],
        Json('{"type":["string","null"]}'),
    ),
    (
        Table[Unit],
        TableContract((Column("name", "string"), Column("grams", "number"))),
    ),
    (
        Annotated[Table, Columns("title", "qty:int", min_rows=1)],
        TableContract((Column("title"), Column("qty", "integer")), 1),
    ),
    (
        Annotated[Table[Unit], Columns(max_rows=3)],
        TableContract((Column("name"), Column("grams", "number")), 0, 3),
    ),
    (OutlineValue, Outline(3)),
    (Annotated[OutlineValue, Depth(2, min_items=0)], Outline(2, 0)),
]


@pytest.mark.parametrize(
    ("annotation", "contract"), CONTRACTS, ids=[type_name(a) for a, _ in CONTRACTS]
)
def test_a_type_becomes_its_contract(annotation: Any, contract: Contract) -> None:
    assert value_type(annotation).contract == contract


def test_the_schema_of_a_model_is_nested_constrained_and_without_titles() -> None:
    contract = value_type(list[Recipe]).contract
    assert isinstance(contract, Json)
    recipe = contract.schema["$defs"]["Recipe"]
    assert recipe["properties"]["serves"] == {"maximum": 50, "minimum": 1, "type": "integer"}
    assert recipe["properties"]["parts"]["items"] == {"$ref": "#/$defs/Unit"}
    assert recipe["properties"]["title"] == {"type": "string"}
    assert "title" not in recipe
    assert contract.name == "list[Recipe]"


def test_a_field_called_title_keeps_its_name_in_the_schema() -> None:
    contract = value_type(Recipe).contract
    assert isinstance(contract, Json)
    assert list(contract.schema["properties"]) == ["title", "serves", "day", "parts"]


RECIPE = {
    "title": "Bread",
    "serves": 4,
    "day": "2024-02-29",
    "parts": [{"name": "flour", "grams": 500}, {"name": "salt"}],
}

VALUES: list[tuple[Any, Any, Any]] = [
    (str, "text", "text"),
    (Annotated[str, Pattern(r"[A-Z]\d+")], "A12", "A12"),
    (Literal["a", 2, True], "2", 2),
    (Literal["a", 2, True], "yes", True),
    (Literal["a"] | None, "none", None),
    (Course, "dessert", Course.DESSERT),
    (Level, "HIGH", Level.HIGH),
    (bool, "no", False),
    (int, 3, 3),
    (Decimal, 0.1, Decimal("0.1")),
    (datetime.date, "2024-02-29", datetime.date(2024, 2, 29)),
    (Point, {"x": 1, "label": "a"}, Point(1, "a")),
    (Pair, {"left": "a", "right": 1}, {"left": "a", "right": 1}),
    (
        Strict,
        {"day": "2024-02-29", "pair": [1, 2]},
        Strict(day=datetime.date(2024, 2, 29), pair=(1, 2)),
    ),
    (
        Annotated[OutlineValue, Depth(2)],
        [{"text": "a", "items": [{"text": "b", "items": []}]}],
        OutlineValue((OutlineItem("a", (OutlineItem("b"),)),)),
    ),
    (
        Table[Unit],
        [{"name": "flour", "grams": 500.0}, {"name": "salt", "grams": None}],
        Table((Unit(name="flour", grams=500), Unit(name="salt")), ("name", "grams")),
    ),
    (
        Annotated[Table, Columns("a", "b:date")],
        [{"a": "x", "b": None}],
        Table(({"a": "x", "b": None},), ("a", "b")),
    ),
]


@pytest.mark.parametrize(("annotation", "answer", "value"), VALUES)
def test_an_answer_becomes_a_typed_value_and_back(annotation: Any, answer: Any, value: Any) -> None:
    kind = value_type(annotation)
    found = kind.to_python(answer)
    assert found == value
    assert type(found) is type(value)
    assert kind.from_python(found) == answer


def test_a_model_is_built_with_all_its_parts() -> None:
    found = value_type(Recipe).to_python(RECIPE)
    assert found == Recipe(
        title="Bread",
        serves=4,
        day=datetime.date(2024, 2, 29),
        parts=[Unit(name="flour", grams=500), Unit(name="salt")],
    )


def test_a_refusal_names_every_wrong_field_and_its_pointer() -> None:
    wrong = {**RECIPE, "serves": 99, "parts": [{"name": ""}]}
    with pytest.raises(Refusal) as caught:
        value_type(Recipe).to_python(wrong)
    assert caught.value.paths == ("/serves", "/parts/0/name")
    assert "serves: Input should be less than or equal to 50, got 99" in str(caught.value)
    assert "parts[0].name: String should have at least 1 character" in str(caught.value)


def test_a_validator_of_a_model_takes_part() -> None:
    class Even(BaseModel):
        number: int

        @field_validator("number")
        @classmethod
        def check(cls, value: int) -> int:
            if value % 2:
                raise ValueError("odd numbers are not sold here")
            return value

    with pytest.raises(Refusal, match="number: odd numbers are not sold here, got 3"):
        value_type(Even).to_python({"number": 3})


def test_a_text_with_a_bound_is_checked() -> None:
    kind = value_type(Annotated[str, Field(max_length=3)])
    assert kind.to_python("abc") == "abc"
    with pytest.raises(Refusal, match="at most 3 characters"):
        kind.to_python("abcd")


def test_an_empty_cell_is_an_empty_text_where_the_row_type_wants_text() -> None:
    class Row(BaseModel):
        name: str
        note: str | None
        price: Decimal

    found = value_type(Table[Row]).to_python([{"name": None, "note": None, "price": 2}])
    assert found[0] == Row(name="", note=None, price=Decimal(2))


def test_a_row_that_its_type_refuses_is_named() -> None:
    with pytest.raises(Refusal) as caught:
        value_type(Table[Unit]).to_python([{"name": "a", "grams": 1}, {"name": None, "grams": 1}])
    assert caught.value.paths == ("/1/name",)


class Nested(BaseModel):
    inner: list[Unit]


BAD_TYPES: list[tuple[Any, str]] = [
    (None, "None is not one"),
    (Table, "a table needs columns"),
    (Table[Nested], "column 'inner' of Nested: a table cell holds"),
    (type("Foreign", (), {}), "cannot be read from an answer"),
    (Literal["1", 1], "must be distinct"),
]


@pytest.mark.parametrize(("annotation", "message"), BAD_TYPES)
def test_a_type_that_no_model_can_answer_with_is_a_definition_error(
    annotation: Any, message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        value_type(annotation)


def test_a_misspelt_column_kind_is_named_with_the_nearest() -> None:
    with pytest.raises(DefinitionError, match=r"unknown kind 'integr'.*Did you mean 'integer'"):
        Columns("qty:integr")


def test_markers_work_inside_models() -> None:
    class Report(BaseModel):
        code: Annotated[str, Pattern(r"[A-Z]{2}")]
        rows: Annotated[Table, Columns("a", "n:int", min_rows=1)]
        units: Table[Unit]
        outline: Annotated[OutlineValue, Depth(1)]
        free: Annotated[Any, JsonSchema.of({"enum": [1, 2]})]

    good = {
        "code": "AB",
        "rows": [{"a": "x", "n": 1}],
        "units": [{"name": "flour"}],
        "outline": [{"text": "t"}],
        "free": 2,
    }
    kind = value_type(Report)
    found = kind.to_python(good)
    assert found.rows.columns == ("a", "n")
    assert found.units[0] == Unit(name="flour")
    assert found.outline.markdown() == "- t"
    assert isinstance(kind.contract, Json)
    kind.contract.check(kind.from_python(found))
    for key, bad in [("code", "ab"), ("rows", []), ("free", 3)]:
        with pytest.raises(Refusal, match=key):
            kind.to_python({**good, key: bad})


UNITS = st.builds(Unit, name=st.text(min_size=1), grams=st.none() | st.floats(0, 1e6))
RECIPES = st.builds(
    Recipe,
    title=st.text(),
    serves=st.integers(1, 50),
    day=st.dates(),
    parts=st.lists(UNITS, max_size=4),
)


@given(RECIPES)
def test_every_model_comes_back_from_its_answer(recipe: Recipe) -> None:
    kind = value_type(Recipe)
    assert kind.to_python(kind.from_python(recipe)) == recipe


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (str | None, "str | None"),
        (list[Recipe], "list[Recipe]"),
        (Annotated[Table, Columns("a")], "Table"),
        (Literal["a", "b"], "Literal['a', 'b']"),
    ],
)
def test_a_type_is_named_as_a_person_writes_it(annotation: Any, name: str) -> None:
    assert type_name(annotation) == name
