"""What another process told of its part of a run, told again in the run itself: events to those who listen, steps to
the journal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from carrara.runtime.errors import ScopeError
from carrara.runtime.events import (
    Event,
    StepEvent,
    StepFailed,
    StepFinished,
    StepReady,
    StepStarted,
)
from carrara.runtime.journal.api import Journal, Key, StepRecord
from carrara.runtime.node import current
from carrara.runtime.scope import Scope
from carrara.runtime.step import StepSpec


def retell(events: Iterable[Event]) -> None:
    """Take events of nodes that ran elsewhere, in order, into the run whose workflow function runs here. Their nodes
    get numbers of this run. Their steps are noted in the journal without values: they are never reused.

    Raises:
        ScopeError: no workflow runs here.
    """
    scope = current.get()
    if not isinstance(scope, Scope):
        raise ScopeError("no workflow runs here whose events these could be")
    executor = scope.executor
    numbers: dict[int, int] = {}
    ready: dict[int, float] = {}
    begun: dict[int, float] = {}
    for event in events:
        if not isinstance(event, StepEvent):
            continue
        if event.node not in numbers:
            executor.seq = numbers[event.node] = executor.seq + 1
        node = numbers[event.node]
        executor.stream.emit(replace(event, run_id=executor.info.id, node=node))
        if isinstance(event, StepReady):
            ready[node] = event.at
        elif isinstance(event, StepStarted):
            begun[node] = event.at
        elif executor.stream.journal is not None and _ends(event):
            started = begun.get(node, event.at)
            _note(executor.stream.journal, executor.info.id, event, node, started, ready)


def _ends(event: StepEvent) -> bool:
    if isinstance(event, StepFailed):
        return not event.will_retry
    return isinstance(event, StepFinished) and not event.reused


def _note(
    journal: Journal, run: str, event: Any, node: int, started: float, ready: dict[int, float]
) -> None:
    failed = isinstance(event, StepFailed)
    journal.record(
        StepRecord(
            run_id=run,
            key=Key(event.path, "", 0),
            node=node,
            spec=_spec(event.path),
            status="failed" if failed else "done",
            value=None,
            error=event.error if failed else "",
            attempt=event.attempt,
            started_at=started,
            seconds=event.seconds,
            ready_at=ready.get(node, started),
            ordinal=0,
            keep=False,
        ),
        _heard,
    )


def _heard(_: BaseException | None) -> None:
    """Nobody waits for it: the record's row is written after it, and says what is wrong."""


def _spec(path: str) -> StepSpec:
    return StepSpec(path.rpartition("/")[2].partition("[")[0], _heard)


__all__ = ["retell"]
