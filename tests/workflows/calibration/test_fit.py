"""Thresholds reach their target on rows drawn alike, and the frontier tells the truth about the rows it saw."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.workflows.calibration.fit import (
    Target,
    alone,
    choose,
    frontier,
    interval,
    part_thresholds,
    smoothed,
    value_of,
)
from carrara.workflows.calibration.observed import Answer, Pair
from carrara.workflows.scoring.score import Score


def mark(exact: bool) -> Score:
    return Score(exact, True, int(exact), 1, 1)


def drawn(count: int, seed: int, last_right: float = 0.9) -> Pair:
    """Rows whose first engine is right with the chance that it says."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        sure = draw.random()
        first = Answer(mark(draw.random() < sure), {"answer": sure}, {}, 10.0)
        last = Answer(mark(draw.random() < last_right), {"answer": 0.5}, {}, 100.0)
        rows.append((first, last))
    return Pair("diffusion", "ar", rows)


def test_the_ends_of_the_frontier_are_the_engines_themselves() -> None:
    pair = drawn(300, 1)
    first, last = alone(pair, "accuracy")
    points = frontier(pair, "accuracy")
    everything, nothing = points[0], points[-1]
    assert everything.value == pytest.approx(first.value, abs=0.02)
    assert (everything.coverage, everything.ms) == (1.0, 10.0)
    assert (nothing.value, nothing.coverage, nothing.ms) == (last.value, 0.0, 110.0)


def test_the_fastest_setting_that_reaches_the_target_is_chosen() -> None:
    pair = drawn(400, 2)
    points = [*frontier(pair, "accuracy"), *alone(pair, "accuracy")]
    found, reached = choose(points, Target("accuracy", 0.85))
    assert reached
    assert found.value >= 0.85
    assert all(p.ms >= found.ms for p in points if p.value >= 0.85)
    assert 10 < found.ms < 100


def test_a_target_that_none_reaches_gets_the_closest() -> None:
    pair = drawn(200, 3, last_right=0.5)
    points = [*frontier(pair, "accuracy"), *alone(pair, "accuracy")]
    found, reached = choose(points, Target("accuracy", 0.99))
    assert not reached
    assert found.value == max(point.value for point in points)
    covered, _ = choose(points, Target("accuracy", 0.99, min_coverage=0.7))
    assert covered.coverage >= 0.7


def test_what_is_chosen_holds_on_rows_it_has_not_seen() -> None:
    misses = []
    for seed in range(10):
        points = frontier(drawn(500, seed), "accuracy")
        found, reached = choose(points, Target("accuracy", 0.85))
        assert reached
        threshold = found.thresholds["answer"]
        fresh = drawn(4000, 1000 + seed).rows
        scores = [(first if first.confidence >= threshold else last).score for first, last in fresh]
        misses.append(0.85 - value_of(scores, "accuracy"))
    assert max(misses) < 0.04  # of 500 rows 0.016 is one standard deviation
    assert sum(misses) / len(misses) < 0.02


def fields(right: dict[str, bool]) -> Score:
    parts = {place: mark(good) for place, good in right.items()}
    hits = sum(right.values())
    return Score(all(right.values()), True, hits, len(right), len(right), parts)


def parted(count: int) -> Pair:
    """The first engine is right about /a always, and about /b where it says so; the last mostly about both."""
    draw = random.Random(0)
    rows = []
    for number in range(count):
        sure = draw.random()
        sures = {"/a": 0.9, "/b": sure}
        first = Answer(fields({"/a": True, "/b": sure > 0.5}), {"answer": 0.7}, sures, 10.0)
        last = Answer(
            fields({"/a": number % 5 > 0, "/b": number % 10 > 0}), {"answer": 0.5}, {}, 100.0
        )
        rows.append((first, last))
    return Pair("diffusion", "ar", rows)


def test_a_weak_part_gets_a_threshold_and_a_mixed_answer_beats_both() -> None:
    pair = parted(200)
    thresholds = part_thresholds(pair)
    assert thresholds.keys() == {"/b"}
    assert 0.45 < thresholds["/b"] < 0.55
    best, _ = choose(frontier(pair, "accuracy"), Target("accuracy", 1.0))
    first, last = alone(pair, "accuracy")
    assert best.value > max(first.value, last.value)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
@settings(max_examples=40, deadline=None)
def test_the_smoothed_chance_rises_and_keeps_the_mean(rows: list[tuple[float, bool]]) -> None:
    found = smoothed([sure for sure, _ in rows], [right for _, right in rows])
    order = sorted(range(len(rows)), key=lambda i: rows[i][0])
    assert all(found[a] <= found[b] + 1e-9 for a, b in pairwise(order))
    assert sum(found) == pytest.approx(sum(right for _, right in rows), abs=1e-6)


def test_the_interval_holds_the_value_and_narrows() -> None:
    few, many = [mark(i % 4 > 0) for i in range(40)], [mark(i % 4 > 0) for i in range(4000)]
    low, high = interval(few, "accuracy")
    assert low < 0.75 < high
    narrow = interval(many, "accuracy")
    assert narrow[1] - narrow[0] < (high - low) / 5
    assert interval([], "accuracy") == (0.0, 1.0)
