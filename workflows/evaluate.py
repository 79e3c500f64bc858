"""Evaluation: a workflow over labelled rows, with marks, times, calibration and what the engines did for it.

A row is a JSON object with `gold`, the right answer, and the fields that the workflow takes as inputs; `id` and `task`
name it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from carrara.runtime.events import Listener
from carrara.runtime.routing.policy import Policy
from carrara.workflows.batch import Binder, Outcome, batch_of
from carrara.workflows.broken_calls import broke
from carrara.workflows.calls import Definition
from carrara.workflows.evaluation import EvaluatedRow, Evaluation
from carrara.workflows.labelled import GOLD, labelled
from carrara.workflows.records import Record, SourceError
from carrara.workflows.row_use import RowUse, UseListener
from carrara.workflows.scoring.rule import Marker, marker_of
from carrara.workflows.scoring.score import Scoring, score
from carrara.workflows.scoring.sure import judged_parts
from carrara.workflows.session import Session


async def evaluate(
    workflow: Definition[..., Any],
    source: str,
    session: Session,
    *,
    limit: int | None = None,
    seed: int | None = None,
    seconds: float | None = None,
    concurrency: int = 16,
    engine: str | None = None,
    scoring: Scoring | None = None,
    seen: Callable[[Outcome], None] | None = None,
    listeners: Sequence[Listener] = (),
) -> Evaluation:
    """Run `workflow` over the labelled rows in `source` (JSON lines) and score the answers.

    `limit` takes the first rows, with a `seed` a sample; after `seconds` no further row is begun. `engine` is asked
    at every step, whatever the step says, and no other. `scoring` None: as the workflow tells. A row whose step
    fails counts as not parsed.

    Raises:
        SourceError: the file cannot be read, or a row has no gold or gold that cannot be.
        InputError: the workflow's inputs cannot be read from rows.
    """
    return await evaluate_records(
        workflow,
        labelled(source, limit, seed),
        session,
        source=source,
        seconds=seconds,
        concurrency=concurrency,
        engine=engine,
        scoring=scoring,
        seen=seen,
        listeners=listeners,
    )


async def evaluate_records(
    workflow: Definition[..., Any],
    records: Iterable[Record],
    session: Session,
    *,
    source: str = "",
    seconds: float | None = None,
    concurrency: int = 16,
    engine: str | None = None,
    policy: Policy | None = None,
    scoring: Scoring | None = None,
    seen: Callable[[Outcome], None] | None = None,
    listeners: Sequence[Listener] = (),
) -> Evaluation:
    """`evaluate` of labelled records from anywhere. `policy` goes before that of session and workflow."""
    marker = marker_of(workflow, scoring)
    use = UseListener()
    outcomes: dict[int, Outcome] = {}
    begun: list[tuple[int, Any]] = []

    def rows() -> Iterator[Record]:
        until = None if seconds is None else time.monotonic() + seconds
        for record in records:
            if until is not None and begun and time.monotonic() >= until:
                return
            begun.append((record.index, gold_of(record, marker)))
            yield record

    async def each(outcome: Outcome) -> None:
        outcomes[outcome.record.index] = outcome
        if seen is not None:
            seen(outcome)

    batch = batch_of(
        workflow, rows(), Binder(workflow, can_map=False), each, concurrency=concurrency
    )
    result = await session.execute(
        batch,
        name=f"{workflow.name} (evaluation)",
        listeners=(use, *listeners),
        settings_of=workflow,
        engine=engine,
        policy=policy,
    )
    return Evaluation(
        workflow.name,
        source,
        marker.scoring.rule if marker.scoring else "",
        result.seconds if use.seconds is None else use.seconds,
        concurrency,
        use.engines,
        session.fingerprints(use.engines),
        [
            evaluated(outcomes[index], gold, use.row(number), marker)
            for number, (index, gold) in sorted(enumerate(begun), key=lambda row: row[1][0])
        ],
    )


def evaluated(outcome: Outcome, gold: Any, use: RowUse, marker: Marker) -> EvaluatedRow:
    """The marks of one row, whose gold is JSON data."""
    record = outcome.record
    scoring = marker.scoring_for(gold)
    error = "" if outcome.error is None else str(outcome.error)
    answer = None if error else marker.answer(outcome.value)
    sure = [] if error else judged_parts(scoring, gold, answer, use.fields, marker.places)
    return EvaluatedRow(
        key=record.key,
        task=str(record.fields.get("task", "")),
        gold=gold,
        answer=answer,
        error=error,
        score=score(scoring, gold, answer, parsed=not error, places=marker.places),
        ms=outcome.seconds * 1000 if use.ms is None else use.ms,
        passes=use.usage.passes,
        tokens=use.usage.completion_tokens,
        confidence=use.confidence,
        sure=tuple(sure),
        steps=use.steps,
        engines=tuple(use.engines),
        cost=use.cost,
        broke=broke(outcome.error),
        calls=use.answers,
    )


def gold_of(record: Record, marker: Marker) -> Any:
    """
    Raises:
        SourceError: no answer can equal it.
    """
    try:
        return marker.gold(record.fields[GOLD])
    except ValueError as error:
        raise SourceError(f"{record.where}: {error}") from error
