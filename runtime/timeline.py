"""The event stream of a run, rebuilt from its journal: the steps' records, and the events stored beside them.

StepReady, StepStarted and StepFinished are not stored, their facts are in the records.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from carrara.runtime.events import (
    Event,
    RunFinished,
    RunStarted,
    StepCancelled,
    StepEvent,
    StepFailed,
    StepFinished,
    StepReady,
    StepSkipped,
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


Stored = Iterable[tuple[int, Mapping[str, Any]]]
"""(place, data) of the events that are stored."""

MOST_OPEN = 10_000
"""So many nodes may wait for their end: more were left without one."""


def timeline(run_id: str, steps: Iterable[StepRow], stored: Stored) -> list[Event]:
    """All events in the order of their times; at equal times, in the order in which they were written.

    Raises:
        ValueError: stored data is no event.
    """
    return _in_order(run_id, steps, [(place, from_data(data)) for place, data in stored])


def by_node(run_id: str, steps: Iterable[StepRow], stored: Stored) -> Iterator[Event]:
    """The same events node after node, in the order in which the nodes ended; those of one node in the order of their
    times. Memory grows with the nodes under way at a time, not with the run. `steps` and `stored` come by place.

    Raises:
        ValueError: stored data is no event.
    """
    under_way: dict[Node, list[Placed]] = {}

    def ended(node: Node, row: StepRow | None = None) -> list[Event]:
        return _in_order(run_id, () if row is None else (row,), under_way.pop(node, []))

    told: Iterator[tuple[int, Event | StepRow]] = (
        (place, from_data(data)) for place, data in stored
    )
    for place, found in heapq.merge(((row.place, row) for row in steps), told, key=itemgetter(0)):
        if isinstance(found, StepRow):
            yield from ended((found.path, found.node), found)
        elif isinstance(found, StepEvent):
            node = (found.path, found.node)
            under_way.setdefault(node, []).append((place, found))
            if isinstance(found, StepFinished | StepSkipped | StepCancelled):  # it has no row
                yield from ended(node)
            elif len(under_way) > MOST_OPEN:
                yield from ended(next(iter(under_way)))
        else:
            if isinstance(found, RunStarted | RunFinished):
                for node in list(under_way):
                    yield from ended(node)
            yield found
    for node in list(under_way):
        yield from ended(node)


Node = tuple[str, int]
Placed = tuple[int, Event]


def _in_order(run_id: str, steps: Iterable[StepRow], found: Sequence[Placed]) -> list[Event]:
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
