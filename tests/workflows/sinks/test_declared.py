"""Rows are held to the declared types before any sink: what typed sinks take passes, other types do not."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NotRequired, Required

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import ReadOnly, TypedDict

from carrara import workflow
from carrara.workflows.sinks.declared import DeclaredRows
from carrara.workflows.sinks.shape import Misfit, Shape, fitting, row_columns, shape_of, typed

LEAVES = st.sampled_from(
    [Shape(kind) for kind in ("text", "integer", "number", "decimal", "boolean", "date", "json")]
)
SHAPES = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(Shape, st.just("list"), inner)
        | st.dictionaries(st.sampled_from("abc"), inner, min_size=1).map(
            lambda fields: Shape("object", fields=tuple(fields.items()))
        )
    ),
    max_leaves=5,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9)
    | st.sampled_from(["", "x", "1.5", "2026-01-02"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    ),
    max_leaves=6,
)  # fmt: skip


def misfit(check: Any, value: Any, shape: Shape) -> str:
    try:
        check(value, shape, "at")
    except Misfit as error:
        return str(error)
    return ""


@given(VALUES, SHAPES)
def test_every_sink_refuses_the_same_values_for_their_type(value: Any, shape: Shape) -> None:
    told = misfit(typed, value, shape)
    if "decimal_places" not in told:  # a size, not a type: only sinks with a bound refuse it
        assert bool(misfit(fitting, value, shape)) == bool(told)


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_decimal_keeps_its_digits(number: Decimal) -> None:
    assert fitting(str(number), Shape("decimal"), "at") == str(number)


def test_a_decimal_that_came_as_a_number_is_text() -> None:
    rows = DeclaredRows({"price": Shape("decimal"), "at": Shape("datetime")})
    moment = "2026-01-02T10:00:00+02:00"
    assert rows({"key": "a", "price": 1.5, "at": moment}) == {
        "key": "a", "price": "1.5", "at": moment,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"price": True}, "price: a decimal is needed, found true"),
        ({"more": 1}, "row 'a' has the field 'more', which the workflow does not declare"),
    ],
)
def test_what_is_wrong_is_named(row: dict[str, Any], told: str) -> None:
    with pytest.raises(Misfit, match=told):
        DeclaredRows({"price": Shape("decimal")})({"key": "a", **row})


class Item(TypedDict):
    name: Required[str]
    count: NotRequired[int]
    kind: NotRequired[Annotated[Literal["a", "b"], "a mark"]]


class Rest(TypedDict, total=False):
    size: ReadOnly[int]
    name: Required[Annotated[str, "a mark"]]


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        (Item, {"name": "x", "count": "many"}, "at/count: a value of type integer is needed"),
        (Item, {"count": 1}, "at has no field 'name', which its type declares: give it, or null"),
        (Item, {"name": None, "kind": "c"}, "at/kind: one of 'a', 'b' is needed, found 'c'"),
        (Rest, {"name": "x", "size": 1.5}, "at/size: a value of type integer is needed"),
        (Rest, {"size": 1}, "at has no field 'name'"),
        (Colour, "RED", "at: one of 'red', 'blue' is needed, found 'RED'"),
        (Literal[1, 2] | Literal[3], 4, "at: one of 1, 2, 3 is needed, found the number 4"),
        (str, 3, "at: a value of type text is needed, found the number 3"),
        (str, [3], r"at: a value of type text is needed, found the list \[3\]"),
        (list[int], {"a": 1}, "at: a list is needed, found the object {'a': 1}"),
        (int, "3", "at: a value of type integer is needed, found '3'"),
        (Literal["a", 1], True, "at: one of 'a', 1 is needed, found true"),
    ],
)
def test_a_field_is_held_to_its_declared_type(kind: Any, value: Any, told: str) -> None:
    with pytest.raises(Misfit, match=told):
        fitting(value, shape_of(kind), "at")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Item, {"name": "x"}),
        (Item, {"name": "x", "count": None, "kind": "a"}),
        (Rest, {"name": "x"}),
        (Colour, "red"),
        (Literal["a"] | None, None),
        (str | Literal["a"], "b"),
    ],
)
def test_what_the_type_declares_fits(kind: Any, value: Any) -> None:
    assert fitting(value, shape_of(kind), "at") == value


def test_a_row_without_a_field_that_must_be_there_is_refused() -> None:
    @workflow
    async def made(text: str) -> Item:
        raise NotImplementedError

    with pytest.raises(Misfit, match="row 'k' has no field 'name'"):
        DeclaredRows(row_columns(made))({"key": "k", "count": 1})


@pytest.mark.parametrize(
    ("shape", "value", "told"),
    [
        (Shape("text"), "\ud800", "at is no text that UTF-8 can hold"),
        (Shape("json"), {"a": ["b", "\ud800"]}, "at/a/1 is no text that UTF-8 can hold"),
        (Shape("json"), {"\ud800": 1}, "is no text that UTF-8 can hold"),
        (
            Shape("decimal", places=2),
            "1.255",
            "at: 1.255 has more digits behind the point than the 2",
        ),
        (Shape("decimal", places=0), 0.5, "at: 0.5 has more digits behind the point than the 0"),
    ],
)
def test_what_some_sinks_cannot_hold_no_sink_takes(shape: Shape, value: Any, told: str) -> None:
    with pytest.raises(Misfit, match=told):
        fitting(value, shape, "at")


def test_zeros_behind_the_last_place_of_a_decimal_are_no_digits() -> None:
    long = "12345678901234567890123456789012345.12000"
    assert fitting(long, Shape("decimal", places=2), "at") == long
    assert fitting("1E+5", Shape("decimal", places=0), "at") == "1E+5"
