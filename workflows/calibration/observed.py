"""What two engines answered to the same labelled rows: the ground on which thresholds are fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from carrara.engines.contract import Json
from carrara.workflows.calls import Definition
from carrara.workflows.evaluation import EvaluatedRow, Evaluation
from carrara.workflows.scoring.places import Places
from carrara.workflows.scoring.rule import Marker
from carrara.workflows.scoring.score import Score, score
from carrara.workflows.scoring.sure import part_at
from carrara.workflows.step_answer import StepAnswer

Spot = tuple[str, ...]
"""The keys that lead to a step's value in the answer of the row."""


_UNMARKED = Score(False, False, 0, 0, 0)


class Place(NamedTuple):
    """A field of a step's answer, and where it is in the answer of the row."""

    step: str
    field: str
    whole: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One engine's answer to a row: its marks, the confidence of each step that asked (by the step's name), that of
    each field of them (the lowest where a place occurs several times), its time. `calls` are its answers step by step,
    by path, in order; `spots` tell where the value of some of them stands in `answer`, by path. `marked` scores another
    answer to the row."""

    score: Score
    steps: Mapping[str, float]
    places: Mapping[Place, float]
    ms: float
    cost: float = 0.0
    answer: Any = None
    calls: Mapping[str, StepAnswer] = field(default_factory=dict)
    spots: Mapping[str, Spot] = field(default_factory=dict)
    marked: Callable[[Any], Score] = field(default=lambda answer: _UNMARKED, repr=False)

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


def pair_of(first: str, last: str, found: Mapping[str, Sequence[Answer]]) -> Pair:
    """The pair of the answers of two engines to the same rows."""
    return Pair(first, last, list(zip(found[first], found[last], strict=True)))


def answers_of(
    workflow: Definition[..., Any], marker: Marker, found: Mapping[str, Evaluation]
) -> dict[str, list[Answer]]:
    """The answers of evaluations of the same rows, each with one engine only; rows in the order of the first."""
    given_on = getattr(workflow, "given_on", {})
    spots = {
        f"{workflow.name}/{step}": () if marker.output else (output,)
        for output, step in given_on.items()
        if marker.output in ("", output)
    }
    order = [row.key for row in next(iter(found.values())).rows]
    by_key = {name: {row.key: row for row in one.rows} for name, one in found.items()}
    return {
        name: [answer_of(rows[key], marker, spots) for key in order]
        for name, rows in by_key.items()
    }


def answer_of(row: EvaluatedRow, marker: Marker, spots: Mapping[str, Spot]) -> Answer:
    """One row's; `spots` by the path of a step."""
    calls = dict(row.calls)
    if len(calls) == 1 and not row.error:
        [(path, call)] = calls.items()
        if call.value == row.answer:
            spots = {path: ()}
    scoring = marker.scoring_for(row.gold)

    def marked(answer: Any) -> Score:
        return score(scoring, row.gold, answer, places=marker.places)

    places: dict[Place, float] = {}
    for path, call in calls.items():
        spot = spots.get(path)
        if spot is None or scoring.rule != "fields" or row.error:
            continue
        output = call.call.output
        own = Places(output.schema if isinstance(output, Json) else None)
        for pointer, sure in call.completion.confidence.fields.items():
            at = part_at(call.value, pointer, scoring)
            if at is not None and at[0]:
                place = Place(call.step, own.of(at[0]), marker.places.of((*spot, *at[0])))
                places[place] = min(sure, places.get(place, 1.0))
    return Answer(
        row.score,
        dict(row.steps),
        places,
        row.ms,
        row.cost,
        row.answer,
        calls,
        {path: spot for path, spot in spots.items() if path in calls},
        marked,
    )


__all__ = ["Answer", "Pair", "Place", "Spot", "answer_of", "answers_of", "pair_of"]
