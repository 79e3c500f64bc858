"""Sums are shown with the digits that tell something."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.runtime.dollars import as_given, dollars, told_apart

SUMS = st.floats(1e-9, 1e6)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0.0, "$0.00"),
        (0.000000042, "$0.000000042"),
        (0.000123, "$0.00012"),
        (0.0456, "$0.046"),
        (0.12, "$0.12"),
        (1234.5, "$1,234.50"),
    ],
)
def test_a_small_sum_is_shown_with_two_digits(amount: float, shown: str) -> None:
    assert dollars(amount) == shown


@given(SUMS)
def test_a_shown_sum_is_never_far_off(amount: float) -> None:
    assert float(dollars(amount)[1:].replace(",", "")) == pytest.approx(amount, rel=0.05, abs=0)


@given(SUMS, SUMS)
def test_two_sums_are_told_apart(one: float, other: float) -> None:
    first, second = told_apart(one, other)
    assert (first != second) or one == pytest.approx(other, rel=1e-12)


def test_a_sum_that_was_given_keeps_its_digits() -> None:
    assert [as_given(sum_) for sum_ in (5.0, 0.005, 1e-6, 12.345)] == [
        "$5",
        "$0.005",
        "$0.000001",
        "$12.345",
    ]
