"""Rows are held to the declared types before any sink: what typed sinks take passes, other types do not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.workflows.sinks.declared import DeclaredRows
from carrara.workflows.sinks.shape import Misfit, Shape, fitting, typed

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
        ({"price": True}, "price: a decimal is needed, found 'True'"),
        ({"more": 1}, "row 'a' has the field 'more', which the workflow does not declare"),
    ],
)
def test_what_is_wrong_is_named(row: dict[str, Any], told: str) -> None:
    with pytest.raises(Misfit, match=told):
        DeclaredRows({"price": Shape("decimal")})({"key": "a", **row})
