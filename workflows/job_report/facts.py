"""The facts of a job, gathered from its events and rows. Pure; what is shown is made from these alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from carrara.runtime.events import (
    EngineAnswered,
    Escalated,
    Event,
    Rejected,
    Repaired,
    RunFinished,
    RunStarted,
    StepCancelled,
    StepEvent,
    StepFailed,
    StepFinished,
    StepStarted,
)
from carrara.runtime.report import Reporter, RunReport
from carrara.workflows.job_report.duplicates import Alike, values_hash
from carrara.workflows.job_report.ledger import Ledger, RecordFacts

BINS = 20
BUCKETS = 60
SLOWEST = 20
MOST_LINES = 240
"""Of the picture of all records: more are thinned out evenly."""
MOST_FAILURES = 200
MOST_REASONS = 100
MOST_GROUPS, MOST_KEYS = 50, 11
MOST_FIELDS = 1000
"""Fields whose filling is counted: a mapping may have any keys."""

_RECORD = re.compile(r"/record\[(\d+)\](?:/|$)")
_ATTEMPTS = re.compile(r" answer in \d+ attempts?\.$")
_ATTEMPT = re.compile(r"^  \d+\. (.+)$", re.MULTILINE)
_STEP = re.compile(r"(?:\w+Error: )?step '[^']*'(?: in run \w+ failed)?: ")


@dataclass(frozen=True, slots=True)
class JobRow:
    """One record's row: its place in the input, its key, its fields as JSON data, or why it failed."""

    place: int
    key: str
    ok: bool
    fields: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


@dataclass(slots=True)
class JobFacts:
    """A job as its report shows it. `seconds` of all openings without the time between. `reasons` counts failures,
    alike ones as the first of them (see `shown_as`), the MOST_REASONS most frequent; `confidence` the accepted
    answers by engine in BINS bins of [0, 1]; `fill` the share of rows in which a field holds something; `throughput`
    the records that ended in each of BUCKETS equal times. `slowest`, `most_escalated`, `failures` and `duplicates`
    (rows with equal values) hold the first of each, without records that are still open; `spread` every
    `spread_step`th record that ended, in the order of their beginnings."""

    run: RunReport
    workflow: str
    done: int
    failed: int
    seconds: float
    ended: bool
    reasons: Counter[str]
    confidence: dict[str, list[int]]
    fill: dict[str, float]
    throughput: list[int]
    escalated: int = 0
    repaired: int = 0
    records_ended: int = 0
    slowest: list[RecordFacts] = field(default_factory=list)
    most_escalated: list[RecordFacts] = field(default_factory=list)
    spread: list[RecordFacts] = field(default_factory=list)
    spread_step: int = 1
    failures: list[JobRow] = field(default_factory=list)
    duplicates: list[Alike] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Records a second."""
        return (self.done + self.failed) / self.seconds if self.seconds else 0.0


def job_facts(events: Iterable[Event], rows: Iterable[JobRow]) -> JobFacts:
    """Gather the facts of a job from all of its events, in order or node after node, and its rows. Both are read once,
    and memory does not grow with their number."""
    with Ledger() as ledger:
        gatherer = _Gatherer(ledger)
        for event in events:
            gatherer.take(event)
        return gatherer.facts(rows)


class _Gatherer:
    def __init__(self, ledger: Ledger) -> None:
        self.reporter = Reporter()
        self.ledger = ledger
        self.answers: dict[tuple[str, int], tuple[str, float]] = {}
        self.confidence: dict[str, list[int]] = {}
        self.ended = False
        self.before = 0.0
        self.opened_at = 0.0

    def take(self, event: Event) -> None:
        self.reporter(event)
        if isinstance(event, RunStarted):
            self.before, self.opened_at = self.reporter.report.seconds, event.at
            self.ended = False
            self.answers.clear()
        elif isinstance(event, RunFinished):
            self.ended = True
        elif isinstance(event, StepEvent):
            self._step(event)

    def _step(self, event: StepEvent) -> None:
        found = _RECORD.search(event.path)
        if found is None:
            return
        at = self.before + event.at - self.opened_at
        record = self.ledger.record(int(found[1]), at)
        if isinstance(event, StepStarted):
            record.began = min(record.began, at)
        elif isinstance(event, StepFinished | StepFailed):
            # Of its last step: the record itself is no step of the journal.
            record.ended = at if record.ended is None else max(record.ended, at)
        node = (event.path, event.node)
        match event:
            case EngineAnswered(confidence=sure):
                record.engines[event.engine] = None
                if sure is not None:
                    self.answers[node] = (event.engine, sure)
            case Rejected():
                self.answers.pop(node, None)
            case StepFinished():
                self._accepted(self.answers.pop(node, None))
            case StepFailed() | StepCancelled():
                self.answers.pop(node, None)
            case Escalated():
                record.escalations += 1
            case Repaired():
                record.repairs += 1

    def _accepted(self, answer: tuple[str, float] | None) -> None:
        if answer is None:
            return
        engine, sure = answer
        counts = self.confidence.setdefault(engine, [0] * BINS)
        counts[min(BINS - 1, int(sure * BINS))] += 1

    def facts(self, rows: Iterable[JobRow]) -> JobFacts:
        run, ledger = self.reporter.in_order(), self.ledger
        told = _Rows(ledger)
        for row in rows:
            told.take(row)
        ended, escalated, repaired = ledger.totals()
        step = max(1, -(-ended // MOST_LINES))
        return JobFacts(
            run,
            run.workflow.removesuffix(" (job)"),
            told.done,
            told.failed,
            run.seconds,
            self.ended,
            ledger.reasons(MOST_REASONS),
            self.confidence,
            told.fill.rates(),
            ledger.throughput(run.seconds, BUCKETS),
            escalated,
            repaired,
            ended,
            ledger.slowest(SLOWEST),
            ledger.most_escalated(SLOWEST),
            ledger.spread(step),
            step,
            told.failures,
            [Alike(count, keys) for count, keys in ledger.alike(MOST_GROUPS, MOST_KEYS)],
        )


class _Rows:
    """Counts rows as they come, and puts them into the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.done = self.failed = 0
        self.failures: list[JobRow] = []
        self.fill = Fill()

    def take(self, row: JobRow) -> None:
        values = values_hash(row.fields) if row.ok else None
        self._ledger.add_row(row.place, row.key, failed=not row.ok, values=values)
        if row.ok:
            self.done += 1
            self.fill.take(row.fields)
            return
        self.failed += 1
        self._ledger.count_reason(reason_of(row.error))
        if len(self.failures) < MOST_FAILURES:
            self.failures.append(row)


def reason_of(error: str) -> str:
    """An error as `line_of`, without the paths of steps."""
    return line_of(_STEP.sub("", error)) or "no reason was given"


def line_of(error: str) -> str:
    """The first line of an error that says something, cut to what a table can hold. What ends with a colon goes on with
    the next line, and what counts attempts with the last of them (see `AnswerError`)."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    first = lines[0] if lines else ""
    attempts = _ATTEMPT.findall(error)
    if first.endswith(":") and len(lines) > 1:
        first = f"{first} {lines[1]}"
    elif _ATTEMPTS.search(first) and attempts:
        first = f"{first.removesuffix('.')}, the last: {attempts[-1]}"
    return first[:240]


class Fill:
    """The share of rows in which each field holds something; fields inside objects by their dotted names."""

    def __init__(self) -> None:
        self._rows = 0
        self._filled: dict[str, int] = {}

    def take(self, fields: Mapping[str, Any]) -> None:
        self._rows += 1
        for name, filled in _fields(fields, ""):
            if name in self._filled or len(self._filled) < MOST_FIELDS:
                self._filled[name] = self._filled.get(name, 0) + filled

    def rates(self) -> dict[str, float]:
        return {name: n / self._rows for name, n in self._filled.items() if name != "key"}


def _fields(value: Mapping[str, Any], above: str) -> Iterable[tuple[str, bool]]:
    for key, part in value.items():
        name = f"{above}{key}"
        if isinstance(part, Mapping) and part:
            yield from _fields(part, f"{name}.")
        else:
            yield name, part not in (None, "", [], {})


__all__ = [
    "BINS", "BUCKETS", "MOST_LINES", "Fill", "JobFacts", "JobRow", "RecordFacts", "job_facts", "line_of",
    "reason_of",
]  # fmt: skip
