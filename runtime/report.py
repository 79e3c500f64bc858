"""What a run did, computed from its events alone: live ones, or those that a journal gives back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from carrara.engines.occupancy import Occupancy
from carrara.engines.request import Timings, Usage
from carrara.runtime.alike import Alike
from carrara.runtime.events import (
    Accepted,
    CalledOff,
    EngineAnswered,
    EngineCalled,
    EngineFilled,
    Escalated,
    Event,
    Hedged,
    HedgeEnded,
    Rejected,
    Repaired,
    Routed,
    RunFinished,
    RunStarted,
    StepCancelled,
    StepChanged,
    StepEvent,
    StepFailed,
    StepFinished,
    StepReady,
    StepRetrying,
    StepSkipped,
    StepStarted,
)
from carrara.runtime.standing import Standing

_INDEX = re.compile(r"\[\d+\]")


@dataclass(slots=True)
class EngineReport:
    """What one engine did for one step: 0 <= `rejected` <= `answers`.

    `unanswered` counts the calls that it refused or that failed: they gave no answer that could be rejected.
    `reasons` tell why it was chosen, `rejections` why its answers were not taken, `failures` why it gave none,
    all counted (`Alike`); `confidences` the lowest and the highest of the answers that were not taken, None where the
    engine could not tell. `cost` in US dollars, by the policy's prices, with the prompts of calls that were taken back.
    `replaced_by` counts the steps that took another engine's answer after this one was asked in vain, `doubts` why
    answers that were not sure enough were taken all the same, `unjudged` why others were taken without their judge.
    `unpriced` counts the answers that a budget of cost could not count, as the engine's price is not known.
    """

    calls: int = 0
    answers: int = 0
    rejected: int = 0
    unanswered: int = 0
    usage: Usage = field(default_factory=Usage)
    queued_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    reasons: Alike = field(default_factory=Alike)
    rejections: Alike = field(default_factory=Alike)
    failures: Alike = field(default_factory=Alike)
    replaced_by: Counter[str] = field(default_factory=Counter)
    doubts: Alike = field(default_factory=Alike)
    unjudged: Alike = field(default_factory=Alike)
    cost: float = 0.0
    unpriced: int = 0
    confidences: tuple[float, float] | None = None

    @property
    def accepted(self) -> int:
        return self.answers - self.rejected


@dataclass(slots=True)
class StepReport:
    """One step of the definition; the items of a map count together.

    How many nodes ended how is counted for the last opening of the run, times and tokens over all of them.
    `done` ended well in this process, `reused` came from the journal. `busy_s` sums the attempts,
    `waited_s` the time between a node's inputs being there and its first start. `escalations` count "from
    -> to", `hedges` how often an engine was started beside another, `wasted_s`, `wasted_tokens` and
    `wasted_passes` what those that lost had done, `changes` what made earlier results stale, `errors` the messages of
    final failures.
    """

    path: str
    done: int = 0
    reused: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0
    running: int = 0
    retries: int = 0
    repairs: Counter[str] = field(default_factory=Counter)
    edits: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    busy_s: float = 0.0
    waited_s: float = 0.0
    engines: dict[str, EngineReport] = field(default_factory=dict)
    escalations: Counter[str] = field(default_factory=Counter)
    hedges: int = 0
    wasted_s: float = 0.0
    wasted_tokens: int = 0
    wasted_passes: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    errors: Alike = field(default_factory=Alike)

    def reopen(self) -> None:
        """The run begins again: its nodes are counted anew, what they have cost stays."""
        self.done = self.reused = self.failed = self.skipped = self.cancelled = self.running = 0
        self.errors = Alike()

    @property
    def count(self) -> int:
        return self.done + self.reused + self.failed + self.skipped + self.cancelled + self.running

    @property
    def usage(self) -> Usage:
        return sum((engine.usage for engine in self.engines.values()), Usage())


@dataclass(slots=True)
class RunReport:
    """A run as its events tell it. `ok` None: it has not ended; `cut`: it was stopped. `seconds` from the first
    start to the last event, over all openings without the time between them (`opened_at`: when the last one
    began). `degraded` says in words what ran in a lesser mode. `occupancy` tells of a job how full the batches of its
    engines were while it had records to begin."""

    run_id: str = ""
    workflow: str = ""
    ok: bool | None = None
    error: str = ""
    cut: bool = False
    started_at: float = 0.0
    opened_at: float = 0.0
    seconds: float = 0.0
    openings: int = 0
    steps: dict[str, StepReport] = field(default_factory=dict)
    occupancy: dict[str, Occupancy] = field(default_factory=dict)

    @property
    def usage(self) -> Usage:
        return sum((step.usage for step in self.steps.values()), Usage())

    @property
    def cost(self) -> float:
        """US dollars, by the policy's prices."""
        return sum(engine.cost for step in self.steps.values() for engine in step.engines.values())

    @property
    def degraded(self) -> list[str]:
        return [line for step in self.steps.values() for line in _degraded(step)]

    def total(self, name: str) -> int:
        """The sum of a count ("done", "reused", "failed", …) over all steps."""
        return sum(getattr(step, name) for step in self.steps.values())

    def to_data(self) -> dict[str, Any]:
        """JSON data, the computed parts included."""
        found = _data(self)
        found["steps"] = [
            {**_data(step), "count": step.count, "usage": _data(step.usage)}
            for step in self.steps.values()
        ]
        return {**found, "usage": _data(self.usage), "cost": self.cost, "degraded": self.degraded}


def report(events: Iterable[Event]) -> RunReport:
    """The report of the events of one run, in the order of their times, or node after node (`Reader.events`)."""
    reporter = Reporter()
    for event in events:
        reporter(event)
    return reporter.in_order()


class Reporter:
    """A listener that keeps the report of a run up to date."""

    def __init__(self) -> None:
        self.report = RunReport()
        self._ready: dict[tuple[str, int], float] = {}
        self._before_s = 0.0
        self._started: set[tuple[str, int]] = set()
        self._standing = Standing()
        self._first: dict[str, float] = {}

    def in_order(self) -> RunReport:
        """The report, with its steps in the order in which they first appeared."""
        steps = self.report.steps
        self.report.steps = dict(sorted(steps.items(), key=lambda item: self._first[item[0]]))
        return self.report

    def __call__(self, event: Event) -> None:
        found = self.report
        if isinstance(event, RunStarted):
            self._open(event)
        if event.at > found.opened_at:
            found.seconds = max(found.seconds, self._before_s + event.at - found.opened_at)
        if isinstance(event, RunFinished):
            found.ok, found.error, found.cut = event.ok, event.error, event.cut
            found.seconds = self._before_s + event.seconds
        elif isinstance(event, EngineFilled):
            counted = Occupancy(event.rounds, event.seats, event.taken, event.denoised)
            found.occupancy[event.engine] = found.occupancy.get(event.engine, Occupancy()) + counted
        elif isinstance(event, StepEvent):
            self._on_step(event)

    def _open(self, event: RunStarted) -> None:
        found = self.report
        if not found.openings:
            found.started_at = event.at
        found.run_id, found.workflow, found.ok, found.error = event.run_id, event.workflow, None, ""
        found.cut = False
        found.openings += 1
        found.opened_at = event.at
        self._before_s = found.seconds
        self._started.clear()
        self._ready.clear()
        self._standing.clear()
        for step in found.steps.values():
            step.reopen()

    def _step(self, event: StepEvent) -> StepReport:
        plain = _INDEX.sub("", event.path)
        steps = self.report.steps
        if plain not in steps:
            steps[plain] = StepReport(plain)
            self._first[plain] = event.at
        elif event.at < self._first[plain]:
            self._first[plain] = event.at
        return steps[plain]

    def _on_step(self, event: StepEvent) -> None:
        step = self._step(event)
        node = (event.path, event.node)
        self._standing.note(event)
        match event:
            case StepReady():
                self._ready[node] = event.at
            case StepStarted():
                step.waited_s += max(0.0, event.at - self._ready.pop(node, event.at))
                if node not in self._started:
                    self._started.add(node)
                    step.running += 1
            case StepFinished(reused=True):
                self._end(node, step)
                step.reused += 1
            case StepFinished():
                _replaced(step, *self._standing.finished(event))
                self._end(node, step)
                step.done += 1
                step.busy_s += event.seconds
            case StepFailed(will_retry=True):
                step.busy_s += event.seconds
            case StepFailed():
                self._end(node, step)
                step.failed += 1
                step.busy_s += event.seconds
                if not event.within:
                    step.errors.note(event.error)
            case StepSkipped():
                self._end(node, step)
                step.skipped += 1
            case StepCancelled():
                self._end(node, step)
                step.cancelled += 1
            case StepRetrying():
                step.retries += 1
            case StepChanged():
                step.changes[event.what] += 1
            case Rejected():
                _on_rejection(step, event, self._standing.rejected(event))
            case _:
                _on_answer(step, event)

    def _end(self, node: tuple[str, int], step: StepReport) -> None:
        self._ready.pop(node, None)
        if node in self._started:
            self._started.discard(node)
            step.running -= 1


def _on_answer(step: StepReport, event: StepEvent) -> None:
    """Events of routing, engines and repair."""
    match event:
        case Accepted():
            _on_acceptance(step, event)
        case Routed():
            _engine(step, event.engine).reasons.note(event.reason)
        case EngineCalled():
            _engine(step, event.engine).calls += 1
        case EngineAnswered():
            engine = _engine(step, event.engine)
            engine.answers += 1
            engine.usage += event.usage
            engine.cost += event.cost
            engine.unpriced += event.unpriced
            _add_timings(engine, event.timings)
        case CalledOff():
            _engine(step, event.engine).cost += event.cost
        case Hedged():
            step.hedges += 1
            _engine(step, event.target).reasons.note(event.reason)
        case HedgeEnded():
            step.wasted_s += event.wasted_s
            step.wasted_tokens += event.wasted_tokens
            step.wasted_passes += event.wasted_passes
        case Escalated():
            step.escalations[f"{event.origin} -> {event.target}"] += 1
            _engine(step, event.target).reasons.note(event.reason)
        case Repaired():
            step.repairs[event.kind] += 1
            step.edits += event.edits
            step.rules.update(str(edit.get("rule", "")) for edit in event.made)


def _on_acceptance(step: StepReport, event: Accepted) -> None:
    if event.doubt:
        _engine(step, event.engine).doubts.note(event.doubt)
    if event.unjudged:
        _engine(step, event.engine).unjudged.note(event.unjudged)


def _on_rejection(step: StepReport, event: Rejected, answered: str | None) -> None:
    """`answered` is the engine whose answer was not taken, None where the call gave none."""
    engine = _engine(step, answered or event.engine)
    if answered is None:
        engine.unanswered += 1
        engine.failures.note(event.reason)
        return
    engine.rejected += 1
    engine.rejections.note(event.reason)
    if event.confidence is not None:
        low, high = engine.confidences or (event.confidence, event.confidence)
        engine.confidences = min(low, event.confidence), max(high, event.confidence)


def _replaced(step: StepReport, taken: str, useless: tuple[str, ...]) -> None:
    """A node took the answer of engine `taken` after those of `useless` were asked in vain."""
    if taken:
        for name in useless:
            _engine(step, name).replaced_by[taken] += 1


def _engine(step: StepReport, name: str) -> EngineReport:
    if name not in step.engines:
        step.engines[name] = EngineReport()
    return step.engines[name]


def _add_timings(engine: EngineReport, timings: Timings) -> None:
    engine.queued_s += timings.queued_s
    engine.prefill_s += timings.prefill_s
    engine.decode_s += timings.decode_s


def _data(value: Any) -> Any:
    """Dataclasses and counters as JSON data; `dataclasses.asdict` of Python 3.11 breaks counters."""
    if is_dataclass(value):
        return {f.name: _data(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: _data(part) for key, part in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _degraded(step: StepReport) -> list[str]:
    """What a reader must know: an engine that was asked in vain, and who answered in its place.

    Calls without any answer are told where another engine answered; else the step's own error tells them.
    """
    lines: list[str] = []
    for name, engine in step.engines.items():
        others = " and ".join(engine.replaced_by)
        then = f"; answered by {others}" if others else ""
        if engine.rejected:
            why = engine.rejections.most_common(1)[0][0] + _between(engine.confidences)
            told = f"{engine.rejected} of {engine.answers} answers rejected"
            lines.append(f"{step.path}: {name}: {told} ({why}){then}")
        if engine.doubts:
            why = engine.doubts.most_common(1)[0][0]
            told = f"{engine.doubts.total()} of its doubtful answers taken all the same"
            lines.append(f"{step.path}: {name}: {told} ({why})")
        if engine.unjudged:
            why = engine.unjudged.most_common(1)[0][0]
            told = f"{engine.unjudged.total()} of its answers taken unjudged"
            lines.append(f"{step.path}: {name}: {told} ({why})")
        if engine.unpriced:
            told = f"{engine.unpriced} of its answers are not in the budget of cost"
            lines.append(
                f"{step.path}: {name}: {told} (its price is not known: give it in `prices`)"
            )
        if engine.unanswered and others:
            why = engine.failures.most_common(1)[0][0]
            told = f"{engine.unanswered} of its calls gave no answer"
            lines.append(f"{step.path}: {name}: {told} ({why}){then}")
    return lines


def _between(confidences: tuple[float, float] | None) -> str:
    if confidences is None:
        return ""
    low, high = confidences
    return f"; confidence {low:.2f}" + (f" to {high:.2f}" if high - low >= 0.005 else "")
