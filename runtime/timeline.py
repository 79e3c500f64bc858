"""The event stream of a run, rebuilt from its journal: the steps' records, and the events stored beside them.

StepReady, StepStarted and StepFinished are not stored, their facts are in the records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from carrara.runtime.events import (
    Event,
    StepFailed,
    StepFinished,
    StepReady,
    StepStarted,
    from_data,
)


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step that ended, as recorded. `place` orders it among the stored events; times in unix seconds."""

    place: int
    path: str
    node: int
    failed: bool
    error: str
    attempt: int
    ready_at: float
    started_at: float
    seconds: float


def timeline(
    run_id: str, steps: Iterable[StepRow], stored: Iterable[tuple[int, Mapping[str, Any]]]
) -> list[Event]:
    """All events in the order of their times; at equal times, in the order in which they were written.

    `stored` holds (place, data) of the other events.

    Raises:
        ValueError: stored data is no event.
    """
    found = [(place, from_data(data)) for place, data in stored]
    told = {
        (event.path, event.node, event.attempt)
        for _, event in found
        if isinstance(event, StepFailed)
    }
    placed = [(event.at, place, 3, event) for place, event in found]
    for place, event in found:
        if isinstance(event, StepFailed) and event.will_retry:
            begun = event.at - event.seconds
            start = StepStarted(run_id, begun, event.path, event.node, event.attempt)
            placed.append((begun, place, 1, start))
    for row in steps:
        for order, event in enumerate(_of_step(run_id, row, told)):
            placed.append((event.at, row.place, order, event))
    placed.sort(key=lambda item: item[:3])
    return [event for _, _, _, event in placed]


def _of_step(run_id: str, row: StepRow, told: set[tuple[str, int, int]]) -> Iterator[Event]:
    ended = row.started_at + row.seconds
    yield StepReady(run_id, row.ready_at, row.path, row.node)
    yield StepStarted(run_id, row.started_at, row.path, row.node, row.attempt)
    if not row.failed:
        yield StepFinished(run_id, ended, row.path, row.node, row.seconds, attempt=row.attempt)
    elif (row.path, row.node, row.attempt) not in told:
        yield StepFailed(
            run_id, ended, row.path, row.node, row.attempt, row.error, seconds=row.seconds
        )
