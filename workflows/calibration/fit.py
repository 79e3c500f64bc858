"""Thresholds for a target: how sure the first engine must be, as a whole and of each part. Pure.

Confidence is turned into the chance of being right by isotonic regression (Zadrozny and Elkan, 2002), so that few rows
do not bend the choice; a threshold for whole answers counts as good enough when the smoothed and the plain share of
right answers both reach the target, and the rows are enough to tell that it is hardly missed on others (`certainty`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Literal

from carrara.engines.errors import CarraraError
from carrara.runtime.routing.accept import Accept
from carrara.workflows.calibration.certainty import SLACK, lower
from carrara.workflows.calibration.observed import Answer, Pair
from carrara.workflows.calibration.routed import RoutedRow
from carrara.workflows.scoring.score import Score, total

Metric = Literal["accuracy", "f1"]
INSTALL = "pip install 'carrara[calibrate]'"

_GRID = 100
_BOOTSTRAP = 2000
_FEW = 12  # rows with a place from which on it has a threshold of its own


@dataclass(frozen=True, slots=True)
class Target:
    """`value` of the metric, in [0, 1], and the share of answers that at least are to come from the first engine. None:
    as good as the best engine alone, as far as the rows can tell."""

    metric: Metric
    value: float | None
    min_coverage: float = 0.0


@dataclass(frozen=True, slots=True)
class Point:
    """One setting on the frontier. `value` of the metric, `coverage`: the share of rows whose answer came from the
    first engine alone, mean milliseconds and dollars a row; `thresholds` of confidence by step, `fields` by step and
    place. `engines` in order. `guessed`: the share of rows for which it is not known what the policy does there (see
    `routed`). `lead`: by how much it beats the best engine alone, row by row, less one standard error of that;
    0 where it gives answers as good to every row. `low`: what the value is at least on other rows like these, with a
    certainty of 95 %."""

    engines: tuple[str, ...]
    value: float
    coverage: float
    ms: float
    cost: float
    level: float = 0.0
    thresholds: Mapping[str, float] = field(default_factory=dict)
    fields: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    lead: float = 0.0
    guessed: float = 0.0
    low: float = 0.0

    @property
    def named(self) -> str:
        return " -> ".join(self.engines)


def value_of(scores: Sequence[Score], metric: Metric) -> float:
    """The metric of some rows' marks."""
    totals = total(scores)
    return totals.exact_match if metric == "accuracy" else totals.field_f1


def compared(
    pairs: Sequence[Pair], metric: Metric, mixed: bool = True
) -> tuple[list[Point], list[Point]]:
    """The settings over each pair of engines, and each engine by itself, for the same rows. `mixed` as in Policy."""
    answers: dict[str, list[Answer]] = {}
    for pair in pairs:
        answers[pair.first] = [row[0] for row in pair.rows]
        answers[pair.last] = [row[1] for row in pair.rows]
    marks = [[answer.score for answer in found] for found in answers.values()]
    best = max(marks, key=lambda scores: value_of(scores, metric))
    points = [point for pair in pairs for point in frontier(pair, metric, best, mixed)]
    return points, [alone(name, found, metric, best) for name, found in answers.items()]


def alone(engine: str, answers: Sequence[Answer], metric: Metric, best: Sequence[Score]) -> Point:
    """What an engine reaches by itself; `best` are the marks of the best engine for the same rows."""
    scores = [answer.score for answer in answers]
    count = max(1, len(answers))
    ms, cost = sum(a.ms for a in answers) / count, sum(a.cost for a in answers) / count
    lead = lead_over(scores, best, metric)
    value = value_of(scores, metric)
    return Point((engine,), value, 1.0, ms, cost, lead=lead, low=_low(scores, value, metric))


def frontier(pair: Pair, metric: Metric, best: Sequence[Score], mixed: bool = True) -> list[Point]:
    """Settings of the router over a pair of engines, from asking the last for everything it doubts to taking
    everything; with and without thresholds for single parts. `best` as in `alone`."""
    parts = part_thresholds(pair)
    rows = [RoutedRow(first, last, mixed) for first, last in pair.rows]
    answers = [first for first, _ in pair.rows]
    chances: Sequence[float] = ()
    if metric == "accuracy":
        chances = smoothed([a.confidence for a in answers], [a.score.exact for a in answers])
    found = [_routed(pair, rows, metric, level, {}, best, chances) for level in _levels(pair)]
    if parts:
        found += [
            _routed(pair, rows, metric, level, parts, best, chances) for level in _levels(pair)
        ]
    return found


def lead_over(scores: Sequence[Score], others: Sequence[Score], metric: Metric) -> float:
    """The mean difference of the marks of the same rows, less its standard error."""
    ahead = [_mark(a, metric) - _mark(b, metric) for a, b in zip(scores, others, strict=True)]
    if len(ahead) < 2:
        return sum(ahead)
    return fmean(ahead) - stdev(ahead) / math.sqrt(len(ahead))


def choose(points: Sequence[Point], target: Target) -> tuple[Point, bool]:
    """The fastest setting that reaches the target and is sure of it, and whether one reaches it. Where the rows are too
    few for any to be sure, the one that is surest; where none reaches it, the one that comes closest."""
    good = [
        point
        for point in points
        if _reaches(point, target) and point.coverage >= target.min_coverage
    ]
    if sure := [point for point in good if is_sure(point, target)]:
        return min(sure, key=lambda point: (point.ms, -point.value)), True
    if good:
        return max(good, key=lambda point: (point.low, -point.ms)), True
    covered = [point for point in points if point.coverage >= target.min_coverage] or points
    return max(covered, key=lambda point: (point.value, -point.ms)), False


def is_sure(point: Point, target: Target) -> bool:
    """Whether the rows are enough to tell that the setting misses the target by no more than SLACK on others. Of a
    target that is the best engine the rows tell by `lead`."""
    return target.value is None or point.low >= target.value - SLACK


def best(points: Sequence[Point], most: int) -> list[Point]:
    """The settings that no other beats in both time and value, thinned out to about `most` of them."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (p.ms, -p.value)):
        if not found or point.value > found[-1].value:
            found.append(point)
    return found[:: max(1, len(found) // most)]


def part_thresholds(pair: Pair) -> dict[str, dict[str, float]]:
    """For each field outside lists, by step: the confidence from which on the first engine is right as often as the
    last one is there. Fields where that is always so, or never, have none."""
    seen: dict[tuple[str, str], list[tuple[float, bool, bool]]] = {}
    for first, last in pair.rows:
        for place, sure in first.places.items():
            if "[]" not in place.field:
                judged = (sure, _right(first, place.whole), _right(last, place.whole))
                seen.setdefault((place.step, place.field), []).append(judged)
    found: dict[str, dict[str, float]] = {}
    for (step, name), rows in sorted(seen.items()):
        if (threshold := _part_threshold(rows)) is not None:
            found.setdefault(step, {})[name] = threshold
    return found


def _part_threshold(seen: Sequence[tuple[float, bool, bool]]) -> float | None:
    if len(seen) < _FEW:
        return None
    wanted = sum(right for _, _, right in seen) / len(seen)
    chances = smoothed([sure for sure, _, _ in seen], [right for _, right, _ in seen])
    low = [sure for (sure, _, _), chance in zip(seen, chances, strict=True) if chance < wanted]
    if not low or len(low) == len(seen):
        return None
    least = max(low)
    return between(least, min(sure for sure, _, _ in seen if sure > least))


def smoothed(confidences: Sequence[float], right: Sequence[bool]) -> list[float]:
    """The chance of being right at each confidence, rising with it.

    Raises:
        CarraraError: scikit-learn is not installed.
    """
    try:
        from sklearn.isotonic import IsotonicRegression
    except ImportError as error:
        raise CarraraError(f"calibration needs the package scikit-learn: {INSTALL}") from error
    model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    return [
        float(chance) for chance in model.fit_transform(list(confidences), list(map(float, right)))
    ]


def interval(scores: Sequence[Score], metric: Metric, seed: int = 0) -> tuple[float, float]:
    """The 95 % bootstrap interval of the metric (percentiles of resampled rows)."""
    if not scores:
        return 0.0, 1.0
    draw = random.Random(seed)
    found = sorted(value_of(draw.choices(scores, k=len(scores)), metric) for _ in range(_BOOTSTRAP))
    return found[round(0.025 * (_BOOTSTRAP - 1))], found[round(0.975 * (_BOOTSTRAP - 1))]


def _reaches(point: Point, target: Target) -> bool:
    if target.value is None:
        return point.lead >= -1e-9
    return point.value >= target.value - 1e-9


def _mark(score: Score, metric: Metric) -> float:
    """One row's mark: 1 or 0, or its own F1."""
    if metric == "accuracy" or not score.gold + score.given:
        return float(score.exact)
    return 2 * score.hits / (score.gold + score.given)


def _low(scores: Sequence[Score], value: float, metric: Metric) -> float:
    if metric == "accuracy":
        return lower([(float(score.exact), 1.0) for score in scores], value)
    return lower([(2.0 * score.hits, float(score.gold + score.given)) for score in scores], value)


def _levels(pair: Pair) -> list[float]:
    """Shares of the rows to reject by their confidence, each a different set of rows."""
    count = len(pair.rows)
    return (
        [step / _GRID for step in range(_GRID + 1)]
        if count > _GRID
        else [number / max(1, count) for number in range(count + 1)]
    )


def _routed(
    pair: Pair,
    rows: Sequence[RoutedRow],
    metric: Metric,
    level: float,
    fields: Mapping[str, Mapping[str, float]],
    best: Sequence[Score],
    chances: Sequence[float],
) -> Point:
    """The router with the thresholds that reject the share `level` at each step. `chances` that the first engine's
    answers are right, where the metric is accuracy."""
    names = sorted({name for first, _ in pair.rows for name in first.steps} | set(fields))
    thresholds = {name: _quantile(pair, name, level) for name in names}
    accepts = accepts_of(thresholds, fields)
    found = [row.under(accepts) for row in rows]
    scores = [one.score for one in found]
    count = max(1, len(rows))
    value = value_of(scores, metric)
    if metric == "accuracy" and not fields:
        value = min(value, _smoothed_accuracy(chances, scores, [one.alone for one in found]))
    return Point(
        (pair.first, pair.last),
        value,
        sum(one.alone for one in found) / count,
        sum(one.ms for one in found) / count,
        sum(one.cost for one in found) / count,
        level,
        thresholds,
        fields,
        lead_over(scores, best, metric),
        1 - sum(one.known for one in found) / count,
        _low(scores, value, metric),
    )


def accepts_of(
    thresholds: Mapping[str, float], fields: Mapping[str, Mapping[str, float]]
) -> dict[str, Accept]:
    """What the first engine's answers need, by step."""
    return {
        name: Accept(
            sure, 0.0, {_pointer(place): one for place, one in fields.get(name, {}).items()}
        )
        for name, sure in thresholds.items()
    }


def _pointer(place: str) -> str:
    return place.replace("[]", "/*")


def _smoothed_accuracy(
    chances: Sequence[float], scores: Sequence[Score], kept: Sequence[bool]
) -> float:
    """Exact match with the chance of being right in place of being right, where the first engine's answer stays."""
    expected = (
        chance if keeps else float(score.exact)
        for chance, keeps, score in zip(chances, kept, scores, strict=True)
    )
    return sum(expected) / max(1, len(scores))


def _quantile(pair: Pair, step: str, level: float) -> float:
    """The confidence below which the share `level` of the answers of a step lies; above all of them for 1."""
    sures = sorted(first.steps[step] for first, _ in pair.rows if step in first.steps)
    if not sures:  # the engine cannot tell
        return 0.0
    place = round(level * len(sures))
    if place >= len(sures):
        return 1.0
    lower = [sure for sure in sures[:place] if sure < sures[place]]
    return between(lower[-1], sures[place]) if lower else sures[place]


def between(rejected: float, taken: float) -> float:
    """The shortest decimal that is above a confidence and not above the next: as a threshold it does what `taken` does,
    in a policy file too."""
    for digits in range(2, 17):
        found = math.floor(taken * 10**digits) / 10**digits
        if rejected < found <= taken:
            return float(found)
    return taken


def _right(answer: Answer, place: str) -> bool:
    """Whether an answer has a place right; one that neither it nor the gold names is."""
    found = answer.score.fields.get(place)
    return answer.score.parsed and (found is None or found.exact)


__all__ = [
    "INSTALL",
    "Metric",
    "Point",
    "Target",
    "accepts_of",
    "alone",
    "best",
    "between",
    "choose",
    "compared",
    "frontier",
    "interval",
    "is_sure",
    "lead_over",
    "part_thresholds",
    "smoothed",
    "value_of",
]
