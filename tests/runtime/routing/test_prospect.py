"""Expected cost: an engine is asked first while what it saves by being taken is more than what it costs."""

import random
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.runtime.routing.prospect import Prospect, usual_s

SECONDS = st.floats(0.001, 100)


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(0, 50), st.floats(0, 1), SECONDS, SECONDS)
def test_more_taken_answers_never_speak_against_an_engine(
    accepted: int, rejected: int, expected: float, first_s: float, next_s: float
) -> None:
    now = Prospect(accepted, rejected, expected, first_s, next_s)
    better = Prospect(accepted + 1, rejected, expected, first_s, next_s)
    worse = Prospect(accepted, rejected + 1, expected, first_s, next_s)
    assert 0 <= worse.chance <= now.chance <= better.chance <= 1
    assert worse.is_worth_it <= now.is_worth_it <= better.is_worth_it


@settings(deadline=None)
@given(st.floats(0, 1), SECONDS, SECONDS, SECONDS)
def test_the_gain_is_what_a_long_run_saves(
    chance: float, first_s: float, next_s: float, after_s: float
) -> None:
    found = Prospect(0, 0, chance, first_s, next_s, after_s)
    draw = random.Random(1)
    takes = [first_s + (0 if draw.random() < chance else after_s) for _ in range(4000)]
    assert found.gain_s is not None
    assert next_s - mean(takes) == pytest.approx(found.gain_s, abs=0.05 * after_s)


@settings(deadline=None)
@given(SECONDS, st.floats(0, 1))
def test_an_engine_that_needs_no_time_is_always_worth_it(next_s: float, expected: float) -> None:
    assert Prospect(0, 30, expected, 0.0, next_s).is_worth_it


def trials(first_s: float, next_s: float, expected: float = 0.5) -> int:
    """Rejections in a row until the engine is given up, both times known after the first."""
    if not Prospect(expected=expected).is_worth_it:
        return 0
    for number in range(1, 100):
        if not Prospect(0, number, expected, first_s, next_s).is_worth_it:
            return number
    return 100


@pytest.mark.parametrize(
    ("first_s", "next_s", "expected", "given_up_after"),
    [
        (60.0, 50.0, 0.5, 1),  # a slow one that fails: once
        (20.0, 50.0, 0.5, 2),
        (15.0, 50.0, 0.5, 3),  # a cheap one may fail a few times
        (1.0, 50.0, 0.5, 100),  # so cheap that it is no matter
        (60.0, 50.0, 0.05, 0),  # its adapter says that it has not learnt such answers
        (20.0, 50.0, 0.8, 4),
    ],
)
def test_the_cheaper_a_try_the_more_of_them(
    first_s: float, next_s: float, expected: float, given_up_after: int
) -> None:
    assert trials(first_s, next_s, expected) == given_up_after


def test_of_few_times_the_shortest_counts() -> None:
    assert usual_s([]) is None
    assert usual_s([9.0, 0.3]) == 0.3  # the first call of an engine warms it up
    assert usual_s([9.0, 0.3, 0.4, 0.5]) == 0.45
