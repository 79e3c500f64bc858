"""The facts of a job, gathered from its events and rows. Pure; what is shown is made from these alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from carrara.runtime.alike import Alike
from carrara.runtime.events import (
    EngineAnswered,
    Escalated,
    Event,
    Rejected,
    Repaired,
    RunFinished,
    RunStarted,
    StepEvent,
    StepFailed,
    StepFinished,
    StepStarted,
)
from carrara.runtime.report import Reporter, RunReport
from carrara.workflows.job_report.duplicates import duplicates

BINS = 20
BUCKETS = 60
SLOWEST = 20

_RECORD = re.compile(r"/record\[(\d+)\](?:/|$)")
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
class RecordFacts:
    """What happened to one record: seconds since the job's start when it began and ended, and how."""

    place: int
    key: str = ""
    began: float = 0.0
    ended: float | None = None
    failed: bool = False
    escalations: int = 0
    repairs: int = 0
    engines: dict[str, None] = field(default_factory=dict)
    confidence: float | None = None

    @property
    def seconds(self) -> float:
        return 0.0 if self.ended is None else self.ended - self.began


@dataclass(slots=True)
class JobFacts:
    """A job as its report shows it. `seconds` of all openings without the time between. `reasons` counts
    failures (`Alike`); `confidence` the accepted answers by engine in BINS bins of [0, 1]; `fill` the share of rows in
    which a field holds something; `throughput` the records that ended in each of BUCKETS equal times;
    `duplicates` the keys of rows with equal values."""

    run: RunReport
    workflow: str
    done: int
    failed: int
    seconds: float
    ended: bool
    reasons: Counter[str]
    confidence: dict[str, list[int]]
    fill: dict[str, float]
    records: list[RecordFacts]
    throughput: list[int]
    failures: list[JobRow]
    duplicates: list[list[str]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Records a second."""
        return (self.done + self.failed) / self.seconds if self.seconds else 0.0

    @property
    def slowest(self) -> list[RecordFacts]:
        return sorted(self.records, key=lambda record: -record.seconds)[:SLOWEST]

    @property
    def most_escalated(self) -> list[RecordFacts]:
        found = [record for record in self.records if record.escalations]
        return sorted(found, key=lambda record: (-record.escalations, record.place))[:SLOWEST]


def job_facts(events: Iterable[Event], rows: Iterable[JobRow]) -> JobFacts:
    """Gather the facts of a job from all of its events, in order, and its rows."""
    gatherer = _Gatherer()
    for event in events:
        gatherer.take(event)
    return gatherer.facts(list(rows))


class _Gatherer:
    def __init__(self) -> None:
        self.reporter = Reporter()
        self.records: dict[int, RecordFacts] = {}
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
        elif isinstance(event, RunFinished):
            self.ended = True
        elif isinstance(event, StepEvent):
            self._step(event)

    def _step(self, event: StepEvent) -> None:
        found = _RECORD.search(event.path)
        if found is None:
            return
        place = int(found[1])
        at = self.before + event.at - self.opened_at
        record = self.records.setdefault(place, RecordFacts(place, began=at))
        if isinstance(event, StepStarted):
            record.began = min(record.began, at)
        elif isinstance(event, StepFinished | StepFailed):
            record.ended = at  # of its last step: the record itself is no step of the journal
        node = (event.path, event.node)
        match event:
            case EngineAnswered(confidence=sure):
                record.engines[event.engine] = None
                if sure is not None:
                    self.answers[node] = (event.engine, sure)
            case Rejected():
                self.answers.pop(node, None)
            case StepFinished():
                self._accepted(record, self.answers.pop(node, None))
            case Escalated():
                record.escalations += 1
            case Repaired():
                record.repairs += 1

    def _accepted(self, record: RecordFacts, answer: tuple[str, float] | None) -> None:
        if answer is None:
            return
        engine, sure = answer
        counts = self.confidence.setdefault(engine, [0] * BINS)
        counts[min(BINS - 1, int(sure * BINS))] += 1
        record.confidence = sure if record.confidence is None else min(sure, record.confidence)

    def facts(self, rows: list[JobRow]) -> JobFacts:
        run = self.reporter.report
        by_place = {row.place: row for row in rows}
        for place, record in self.records.items():
            row = by_place.get(place)
            if row is not None:
                record.key, record.failed = row.key, not row.ok
        done = [row for row in rows if row.ok]
        failures = [row for row in rows if not row.ok]
        return JobFacts(
            run,
            run.workflow.removesuffix(" (job)"),
            len(done),
            len(failures),
            run.seconds,
            self.ended,
            Alike(reason_of(row.error) for row in failures),
            self.confidence,
            fill_rates(done),
            list(self.records.values()),
            _throughput(self.records.values(), run.seconds),
            failures,
            duplicates(done),
        )


def reason_of(error: str) -> str:
    """The first line of an error without the paths of steps, cut to what a table can hold."""
    line = _STEP.sub("", error).strip().partition("\n")[0] or "no reason was given"
    return line[:240]


def fill_rates(rows: list[JobRow]) -> dict[str, float]:
    """The share of rows in which each field holds something; fields inside objects by their dotted names."""
    counts: Counter[str] = Counter()
    names: dict[str, None] = {}
    for row in rows:
        for name, filled in _fields(row.fields, ""):
            names[name] = None
            counts[name] += filled
    return {name: counts[name] / len(rows) for name in names if name != "key"}


def _fields(value: Mapping[str, Any], above: str) -> Iterable[tuple[str, bool]]:
    for key, part in value.items():
        name = f"{above}{key}"
        if isinstance(part, Mapping) and part:
            yield from _fields(part, f"{name}.")
        else:
            yield name, part not in (None, "", [], {})


def _throughput(records: Iterable[RecordFacts], seconds: float) -> list[int]:
    counts = [0] * BUCKETS
    for record in records:
        if record.ended is not None and seconds > 0:
            counts[min(BUCKETS - 1, int(record.ended / seconds * BUCKETS))] += 1
    return counts


__all__ = ["BINS", "BUCKETS", "JobFacts", "JobRow", "RecordFacts", "job_facts", "reason_of"]
