"""Thresholds reach their target on rows drawn alike, and the frontier tells the truth about the rows it saw."""

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from carrara.engines.contract import Choice, Contract, Json
from carrara.engines.request import Completion, Confidence, Message
from carrara.runtime.routing.call import LlmCall
from carrara.workflows.calibration.fit import (
    Point,
    Target,
    between,
    choose,
    compared,
    interval,
    is_sure,
    part_thresholds,
    smoothed,
    value_of,
)
from carrara.workflows.calibration.observed import Answer, Pair, Place
from carrara.workflows.scoring.score import Score, Scoring, score
from carrara.workflows.step_answer import StepAnswer


def mark(exact: bool) -> Score:
    return Score(exact, True, int(exact), 1, 1)


def answer(
    rule: Any, gold: Any, given: Any, sure: Confidence, ms: float, output: Contract | None = None
) -> Answer:
    """The answer of a workflow of the one step `answer`."""
    output = output or Choice(("yes", "no"))
    call = StepAnswer(
        "answer",
        given,
        LlmCall((Message("user", "?"),), output),
        Completion("", confidence=sure),
        ms=ms,
    )

    def marked(found: Any) -> Score:
        return score(Scoring(rule), gold, found)

    places = {Place("answer", place, place): one for place, one in sure.fields.items()}
    steps = {} if sure.overall is None else {"answer": sure.overall}
    calls = {"answer": call}
    spots: dict[str, tuple[str, ...]] = {"answer": ()}
    return Answer(marked(given), steps, places, ms, 0.0, given, calls, spots, marked)


def choice(right: bool, sure: float, ms: float) -> Answer:
    return answer("label", "yes", "yes" if right else "no", Confidence(sure), ms)


def drawn(count: int, seed: int, last_right: float = 0.9) -> Pair:
    """Rows whose first engine is right with the chance that it says."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        sure = draw.random()
        first = choice(draw.random() < sure, sure, 10.0)
        last = choice(draw.random() < last_right, 0.5, 100.0)
        rows.append((first, last))
    return Pair("diffusion", "ar", rows)


def settings_of(*pairs: Pair) -> list[Point]:
    points, single = compared(pairs, "accuracy")
    return [*points, *single]


def test_the_ends_of_the_frontier_are_the_engines_themselves() -> None:
    pair = drawn(300, 1)
    points, (first, last) = compared([pair], "accuracy")
    everything, nothing = points[0], points[-1]
    assert everything.value == pytest.approx(first.value, abs=0.02)
    assert (everything.coverage, everything.ms) == (1.0, 10.0)
    assert (nothing.value, nothing.coverage, nothing.ms) == (last.value, 0.0, 110.0)


def test_the_fastest_setting_that_reaches_the_target_is_chosen() -> None:
    pair = drawn(400, 2)
    points = settings_of(pair)
    found, reached = choose(points, Target("accuracy", 0.85))
    assert reached
    assert found.value >= 0.85
    assert found.low >= 0.83
    assert all(p.ms >= found.ms for p in points if p.value >= 0.85 and p.low >= 0.83)
    assert 10 < found.ms < 100


def test_a_target_that_none_reaches_gets_the_closest() -> None:
    pair = drawn(200, 3, last_right=0.5)
    points = settings_of(pair)
    found, reached = choose(points, Target("accuracy", 0.99))
    assert not reached
    assert found.value == max(point.value for point in points)
    covered, _ = choose(points, Target("accuracy", 0.99, min_coverage=0.7))
    assert covered.coverage >= 0.7


def test_what_is_chosen_holds_on_rows_it_has_not_seen() -> None:
    misses = []
    for seed in range(10):
        points, _ = compared([drawn(500, seed)], "accuracy")
        found, reached = choose(points, Target("accuracy", 0.85))
        assert reached
        threshold = found.thresholds["answer"]
        fresh = drawn(4000, 1000 + seed).rows
        scores = [(first if first.confidence >= threshold else last).score for first, last in fresh]
        misses.append(0.85 - value_of(scores, "accuracy"))
    assert max(misses) < 0.04  # of 500 rows 0.016 is one standard deviation
    assert sum(misses) / len(misses) < 0.02


def test_a_target_is_rarely_missed_by_more_than_two_points_with_few_rows() -> None:
    def miss(point: Point) -> float:
        threshold = min(1.0, point.thresholds["answer"])
        return 0.9 - (threshold + (1 - threshold**2) / 2)  # right as often as sure, the last always

    misses, without_margin = [], []
    for seed in range(24):
        points, _ = compared([drawn(120, seed, 1.0)], "accuracy")
        found, reached = choose(points, Target("accuracy", 0.9))
        assert reached
        misses.append(miss(found))
        good = [point for point in points if point.value >= 0.9]
        without_margin.append(miss(min(good, key=lambda point: point.ms)))
    assert sum(one > 0.02 for one in without_margin) >= 5
    assert sum(one > 0.02 for one in misses) <= 2
    assert sum(misses) / len(misses) > -0.05  # and not by asking the last engine for everything


def test_where_rows_are_too_few_to_tell_the_surest_setting_is_taken() -> None:
    points = settings_of(drawn(40, 4, last_right=0.92))
    target = Target("accuracy", 0.9)
    found, reached = choose(points, target)
    assert reached
    assert not any(is_sure(point, target) for point in points if point.value >= 0.9)
    assert found.low == max(point.low for point in points if point.value >= 0.9)


def test_as_good_as_the_best_engine_holds_on_rows_it_has_not_seen() -> None:
    losses, times = [], []
    for seed in range(10):
        found, reached = choose(settings_of(drawn(60, seed)), Target("accuracy", None))
        assert reached
        threshold = found.thresholds.get("answer", 0.0 if found.engines == ("diffusion",) else 1.1)
        fresh = drawn(4000, 1000 + seed).rows
        scores = [(first if first.confidence >= threshold else last).score for first, last in fresh]
        losses.append(0.9 - value_of(scores, "accuracy"))
        times.append(found.ms)
    assert sum(losses) / len(losses) < 0.005
    assert max(losses) < 0.05
    assert sum(times) / len(times) < 100  # and some rows are spared the slow engine


def test_the_best_of_three_engines_is_the_measure_for_every_pair() -> None:
    one, two = drawn(200, 5, last_right=0.6), drawn(200, 5, last_right=0.95)
    other = Pair(
        "diffusion", "server", [(a[0], b[1]) for a, b in zip(one.rows, two.rows, strict=True)]
    )
    pairs = [
        one,
        other,
        Pair("ar", "server", [(a[1], b[1]) for a, b in zip(one.rows, two.rows, strict=True)]),
    ]
    found, _ = choose(settings_of(*pairs), Target("accuracy", None))
    assert found.engines[-1] == "server"


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_threshold_lies_in_the_gap_that_it_was_fitted_to(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assume(low < high)
    assert low < between(low, high) <= high


def test_a_threshold_in_a_wide_gap_is_short_and_one_in_a_narrow_gap_is_exact() -> None:
    assert between(0.61, 0.6987654) == 0.69
    assert between(0.9999, 0.99999) == 0.99999


RECORD = Json.of(
    {
        "type": "object",
        "properties": {name: {"type": "string"} for name in "abcd"},
        "required": list("abcd"),
    }
)


def record(wrong: str, sure: Confidence, ms: float) -> Answer:
    gold = dict.fromkeys("abcd", "right")
    return answer("fields", gold, gold | dict.fromkeys(wrong, "wrong"), sure, ms, RECORD)


def parted(count: int) -> Pair:
    """The first engine is right about all but /b, and there where it says so; the last mostly about /a and /b."""
    draw = random.Random(0)
    rows = []
    for number in range(count):
        sure = draw.random()
        sures = {"/a": 0.9, "/b": sure, "/c": 0.9, "/d": 0.9}
        first = record("" if sure > 0.5 else "b", Confidence(0.7, sures), 10.0)
        bad = "a" * (number % 5 == 0) + "b" * (number % 10 == 0)
        rows.append((first, record(bad, Confidence(0.5), 100.0)))
    return Pair("diffusion", "ar", rows)


def test_a_weak_part_gets_a_threshold_and_a_mixed_answer_beats_both() -> None:
    pair = parted(200)
    thresholds = part_thresholds(pair)
    assert thresholds.keys() == {"answer"}
    assert thresholds["answer"].keys() == {"/b"}
    assert 0.45 < thresholds["answer"]["/b"] < 0.55
    points, (first, last) = compared([pair], "accuracy")
    best, _ = choose(points, Target("accuracy", 1.0))
    assert best.value > max(first.value, last.value)


def test_of_an_answer_in_doubt_only_the_doubtful_fields_are_the_last_engines() -> None:
    sures = {"/a": 0.4, "/b": 0.95, "/c": 0.95, "/d": 0.95}
    doubtful = record("ab", Confidence(0.4, sures), 10.0)  # /b is wrong, and sure
    sure = record("", Confidence(0.95), 10.0)
    last = record("", Confidence(0.9), 100.0)
    pair = Pair("diffusion", "ar", [(doubtful, last), (sure, last)] * 20)
    points, _ = compared([pair], "accuracy")
    assert {point.value for point in points if point.coverage == 0.5} == {0.5}
    points, _ = compared([pair], "accuracy", mixed=False)
    assert {point.value for point in points if point.coverage == 0.5} == {1.0}


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
