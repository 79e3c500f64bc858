"""A bound below a share holds on all rows like those that it was counted on, and says when they are too few."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.workflows.calibration.certainty import lower, rows_for


def marks(right: int, rows: int) -> list[tuple[float, float]]:
    return [(float(number < right), 1.0) for number in range(rows)]


@pytest.mark.parametrize(
    ("right", "rows", "low"),
    [(90, 100, 0.840), (108, 120, 0.846), (20, 20, 0.881), (120, 120, 0.978), (0, 20, 0.0)],
)
def test_the_bound_is_that_of_wilson(right: int, rows: int, low: float) -> None:
    assert lower(marks(right, rows), right / rows) == pytest.approx(low, abs=5e-4)


def test_no_rows_say_nothing() -> None:
    assert lower([], 0.0) == 0.0
    assert lower([(0.0, 0.0)], 0.0) == 0.0


@pytest.mark.parametrize(("chance", "rows"), [(0.9, 120), (0.8, 120), (0.9, 300), (0.97, 60)])
def test_the_bound_lies_above_the_truth_in_hardly_more_than_one_case_of_twenty(
    chance: float, rows: int
) -> None:
    draw, above = random.Random(0), 0
    for _ in range(2000):
        right = sum(draw.random() < chance for _ in range(rows))
        above += lower(marks(right, rows), right / rows) > chance
    assert above / 2000 < 0.07


@given(st.integers(1, 200), st.integers(0, 200), st.integers(1, 8))
def test_fields_that_stand_and_fall_together_count_as_one(rows: int, right: int, size: int) -> None:
    right = min(right, rows)
    many = [(size * a, size * b) for a, b in marks(right, rows)]
    assert lower(many, right / rows) == pytest.approx(lower(marks(right, rows), right / rows))
    assert lower(many, right / rows) <= right / rows


def test_fields_that_are_wrong_by_themselves_say_more_than_as_many_rows() -> None:
    draw = random.Random(1)
    rows = [(float(sum(draw.random() < 0.9 for _ in range(8))), 8.0) for _ in range(100)]
    share = sum(right for right, _ in rows) / 800
    assert lower(marks(round(100 * share), 100), share) < lower(rows, share) < share


def test_so_many_rows_as_are_wanted_are_enough() -> None:
    wanted = rows_for(0.9, lower(marks(90, 100), 0.9), 0.88, 100)
    assert lower(marks(round(0.9 * wanted), wanted), 0.9) == pytest.approx(0.88, abs=0.005)
    assert 500 < wanted < 1500
