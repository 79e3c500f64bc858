"""Whether confidence tells right answers from wrong ones: AUROC, and the expected calibration error (ECE)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

BINS = 10

Judged = tuple[float, bool]
"""A confidence in [0, 1], and whether what it was about is right."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """`auroc`: how often a right answer is surer than a wrong one, ties as half; None where all are right or all
    wrong. `ece`: the mean distance of confidence and accuracy over BINS bins of equal width, weighted by the
    answers in them. `count` answers, `accuracy` of them right, `confidence` on average."""

    count: int
    accuracy: float
    confidence: float
    auroc: float | None
    ece: float


def calibration(judged: Iterable[Judged]) -> Calibration | None:
    """The calibration of answers with a confidence, None if there are none."""
    rows = list(judged)
    if not rows:
        return None
    count = len(rows)
    return Calibration(
        count,
        sum(right for _, right in rows) / count,
        sum(sure for sure, _ in rows) / count,
        auroc(rows),
        ece(rows),
    )


def auroc(rows: Sequence[Judged]) -> float | None:
    """The area under the ROC curve of confidence, by ranks; None where all are right or all wrong."""
    right = sum(good for _, good in rows)
    wrong = len(rows) - right
    if not right or not wrong:
        return None
    ranks, seen = 0.0, 0
    for _, tied in groupby(sorted(rows), key=lambda row: row[0]):
        group = list(tied)
        ranks += sum(good for _, good in group) * (seen + (len(group) + 1) / 2)
        seen += len(group)
    return (ranks - right * (right + 1) / 2) / (right * wrong)


def ece(rows: Sequence[Judged], bins: int = BINS) -> float:
    """The expected calibration error, in [0, 1]. The last bin includes 1."""
    found: dict[int, list[Judged]] = {}
    for row in rows:
        found.setdefault(min(int(row[0] * bins), bins - 1), []).append(row)
    gaps = (abs(sum(sure - good for sure, good in group)) for group in found.values())
    return sum(gaps) / len(rows)
