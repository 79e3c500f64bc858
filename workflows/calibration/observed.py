"""What two engines answered to the same labelled rows: the ground on which thresholds are fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from carrara.workflows.evaluation import EvaluatedRow, Evaluation
from carrara.workflows.scoring.score import Score


@dataclass(frozen=True, slots=True)
class Answer:
    """One engine's answer to a row: its marks, the confidence of each step that asked (by the step's name), that of
    each of its parts (by place; the lowest where a place occurs several times), its time."""

    score: Score
    steps: Mapping[str, float]
    places: Mapping[str, float]
    ms: float
    cost: float = 0.0

    @property
    def confidence(self) -> float:
        """That of the least sure step; 0 where no engine could tell, so that it is never taken for its sureness."""
        return min(self.steps.values(), default=0.0)


@dataclass(frozen=True, slots=True)
class Pair:
    """The answers of engine `first` and of engine `last` to the same rows, in the same order."""

    first: str
    last: str
    rows: Sequence[tuple[Answer, Answer]] = field(repr=False)


def pair_of(first: str, last: str, found: Mapping[str, Evaluation]) -> Pair:
    """The pair of two evaluations of the same rows, each with one engine only."""
    by_key = {row.key: row for row in found[last].rows}
    rows = [(answer_of(row), answer_of(by_key[row.key])) for row in found[first].rows]
    return Pair(first, last, rows)


def answer_of(row: EvaluatedRow) -> Answer:
    places: dict[str, float] = {}
    for place, sure, _ in row.sure:
        places[place] = min(sure, places.get(place, 1.0))
    return Answer(row.score, dict(row.steps), places, row.ms, row.cost)


__all__ = ["Answer", "Pair", "answer_of", "pair_of"]
