"""Evaluation: a workflow over labelled rows, with marks, latencies and what the engines did for it.

A row is a JSON object with `gold`, `kind` (extract, classify, qa, reason or format) and the fields that the workflow
takes as inputs, usually `prompt` or `input`; `task` and `id` name it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import quantiles
from typing import Any

from carrara.engines.request import Usage
from carrara.runtime.events import EngineAnswered, Event, Listener, Rejected
from carrara.workflows.batch import Binder, Outcome, batch_of
from carrara.workflows.calls import Definition
from carrara.workflows.plain import plain
from carrara.workflows.records import Record, SourceError, read_records
from carrara.workflows.score import KINDS, Score, Totals, score, total
from carrara.workflows.session import Session


@dataclass(frozen=True, slots=True)
class EvaluatedRow:
    """One row's answer as JSON data, or the error; `score` are its marks. `task` is "" where the row names none."""

    key: str
    task: str
    kind: str
    gold: Any
    answer: Any
    error: str
    score: Score
    seconds: float


@dataclass(slots=True)
class EngineUse:
    """What one engine did: its calls, how many of its answers were rejected, its tokens and passes."""

    calls: int = 0
    rejected: int = 0
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`totals` over the rows; `latency_s` holds the percentiles 50, 90 and 99 of a row's wall time, with
    `concurrency` rows at once; `seconds` is the wall time of all."""

    workflow: str
    source: str
    totals: Totals
    seconds: float
    concurrency: int
    latency_s: dict[str, float]
    engines: dict[str, EngineUse]
    rows: Sequence[EvaluatedRow] = field(repr=False)

    def summary(self) -> dict[str, Any]:
        """Everything but the rows, as JSON data. Shares are in [0, 1].

        `accuracy` is that of the classifications, None where there are none; `failed` counts the rows without an
        answer, `failures` their reasons; `tasks` holds the marks of each task that rows name.
        """
        classified = [row.score.exact for row in self.rows if row.kind == "classify"]
        failures = Counter(row.error for row in self.rows if row.error)
        return {
            "workflow": self.workflow,
            "data": self.source,
            **_marks(self.totals),
            "accuracy": round(sum(classified) / len(classified), 4) if classified else None,
            "failed": failures.total(),
            "failures": dict(failures.most_common(5)),
            "tasks": {task: _marks(total(scores)) for task, scores in self._by_task().items()},
            "seconds": round(self.seconds, 2),
            "concurrency": self.concurrency,
            "latency_s": {name: round(value, 3) for name, value in self.latency_s.items()},
            "engines": {name: _use(use) for name, use in sorted(self.engines.items())},
        }

    def _by_task(self) -> dict[str, list[Score]]:
        found: dict[str, list[Score]] = {}
        for row in self.rows:
            if row.task:
                found.setdefault(row.task, []).append(row.score)
        return found


async def evaluate(
    workflow: Definition[..., Any],
    source: str,
    session: Session,
    *,
    limit: int | None = None,
    concurrency: int = 16,
    seen: Callable[[Outcome], None] | None = None,
    listeners: Sequence[Listener] = (),
) -> Evaluation:
    """Run `workflow` over the labelled rows in `source` (JSON lines) and score the answers.

    A row whose step fails counts as not parsed.

    Raises:
        SourceError: the file cannot be read, or a row has no gold.
        InputError: the workflow's inputs cannot be read from rows.
    """
    found: dict[int, EvaluatedRow] = {}
    engines: dict[str, EngineUse] = {}

    async def each(outcome: Outcome) -> None:
        found[outcome.record.index] = evaluated(outcome)
        if seen is not None:
            seen(outcome)

    def listen(event: Event) -> None:
        if isinstance(event, EngineAnswered):
            use = engines.setdefault(event.engine, EngineUse())
            use.calls += 1
            use.usage += event.usage
        elif isinstance(event, Rejected):
            engines.setdefault(event.engine, EngineUse()).rejected += 1

    batch = batch_of(
        workflow, _labelled(source, limit), Binder(workflow), each, concurrency=concurrency
    )
    name = f"{workflow.name} (evaluation)"
    heard = (listen, *listeners)
    result = await session.execute(batch, name=name, listeners=heard, settings_of=workflow)
    rows = [found[index] for index in sorted(found)]
    return Evaluation(
        workflow.name,
        source,
        total(row.score for row in rows),
        result.seconds,
        concurrency,
        _percentiles([row.seconds for row in rows]),
        engines,
        rows,
    )


def evaluated(outcome: Outcome) -> EvaluatedRow:
    """The marks of one row."""
    row = outcome.record.fields
    answer, error = None, ""
    if outcome.error is None:
        answer = _answer(plain(outcome.value))
    else:
        error = str(outcome.error)
    task, kind, gold = str(row.get("task", "")), row["kind"], row["gold"]
    marks = score(kind, gold, answer, task=task, parsed=not error)
    key = outcome.record.key
    return EvaluatedRow(key, task, kind, gold, answer, error, marks, outcome.seconds)


def _labelled(source: str, limit: int | None) -> Iterator[Record]:
    for record in islice(read_records(source), limit):
        if record.problem is not None:
            raise SourceError(f"{record.where}: {record.problem}")
        missing = [name for name in ("gold", "kind") if name not in record.fields]
        if missing:
            raise SourceError(f"{record.where}: a labelled row needs {' and '.join(missing)}")
        if record.fields["kind"] not in KINDS:
            kind, known = record.fields["kind"], ", ".join(KINDS)
            raise SourceError(
                f"{record.where}: there is no kind {kind!r} of task; there are: {known}"
            )
        yield record


def _answer(value: Any) -> Any:
    """The answer among a pipeline's outputs: the one called `answer`, or the only one."""
    if isinstance(value, dict):
        if "answer" in value:
            return value["answer"]
        if len(value) == 1 and isinstance(next(iter(value.values())), str | dict | list):
            return next(iter(value.values()))
    return value


def _percentiles(seconds: list[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return dict.fromkeys(("p50", "p90", "p99"), seconds[0] if seconds else 0.0)
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98]}


def _marks(totals: Totals) -> dict[str, Any]:
    return {
        "rows": totals.count,
        "exact_match": round(totals.exact_match, 4),
        "field_f1": round(totals.field_f1, 4),
        "parse_rate": round(totals.parse_rate, 4),
    }


def _use(use: EngineUse) -> dict[str, int]:
    return {
        "calls": use.calls,
        "rejected": use.rejected,
        "prompt_tokens": use.usage.prompt_tokens,
        "cached_tokens": use.usage.cached_tokens,
        "completion_tokens": use.usage.completion_tokens,
        "passes": use.usage.passes,
    }
