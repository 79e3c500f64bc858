"""Which JSON is flat and which is nested."""

from enum import Enum
from typing import Any, Literal

import pytest
from pydantic import BaseModel, TypeAdapter

from carrara.engines.contract import Choice, Column, Json, Table, Text
from carrara.engines.contract_shape import SHAPES, shape_of


class Kind(Enum):
    A = "a"


class Flat(BaseModel):
    name: str
    kind: Kind | None = None
    size: Literal[1, 2] = 1


class Outer(BaseModel):
    inner: Flat | None


class Tree(BaseModel):
    below: "Tree | None" = None


@pytest.mark.parametrize(
    ("kind", "nested"),
    [
        (Flat, False),
        (int, False),
        (list[int], True),
        (dict[str, str], True),
        (Outer, True),
        (Tree, True),
        (Flat | Outer, True),
    ],
)
def test_json_is_nested_where_a_field_holds_more_than_one_value(kind: Any, nested: bool) -> None:
    found = shape_of(Json.of(TypeAdapter(kind).json_schema()))
    assert found == ("nested json" if nested else "json")
    assert found in SHAPES


def test_other_contracts_have_the_shape_of_their_kind() -> None:
    assert shape_of(Text()) == "text"
    assert shape_of(Choice(("a", "b"))) == "choice"
    assert shape_of(Table((Column("a"),))) == "table"
