"""What the engines did for each row of an evaluation, heard from the run's events."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from carrara.engines.request import Completion, Confidence, Usage
from carrara.runtime.events import (
    Accepted,
    CalledOff,
    EngineAnswered,
    EngineCalled,
    Event,
    Rejected,
    StepEvent,
    StepFinished,
    ValueShown,
)
from carrara.runtime.routing.evidence import step_of
from carrara.runtime.standing import Standing
from carrara.workflows.plain import plain
from carrara.workflows.step_answer import StepAnswer

_ROW = re.compile(r"/record\[(\d+)\](?:/(.*))?$")


@dataclass(frozen=True, slots=True)
class Sureness:
    """How sure the engine was of its last answer to one step; see `Confidence`."""

    overall: float | None
    fields: Mapping[str, float]


@dataclass(slots=True)
class EngineUse:
    """What one engine did: its calls, how many of its answers were rejected, its tokens and passes."""

    calls: int = 0
    rejected: int = 0
    usage: Usage = field(default_factory=Usage)


@dataclass(slots=True)
class _Asked:
    """What was heard of a node's call so far."""

    began: float
    cost: float = 0.0
    faulty: bool = False
    accepted: Accepted | None = None


@dataclass(slots=True)
class RowUse:
    """`began` and `ended` are unix seconds: the first call of an engine, the last answer of one; None for neither.
    `last` holds the last answers by step, `engines` those that answered at all, in order. `answers` are those that were
    taken, by the step's path below the row, with "#2" for the second of the same."""

    began: float | None = None
    ended: float | None = None
    usage: Usage = field(default_factory=Usage)
    last: dict[str, Sureness] = field(default_factory=dict)
    engines: dict[str, None] = field(default_factory=dict)
    cost: float = 0.0
    answers: dict[str, StepAnswer] = field(default_factory=dict)
    asked: dict[int, _Asked] = field(default_factory=dict)

    @property
    def ms(self) -> float | None:
        """Milliseconds from the first call of an engine to the last answer; loading weights comes before."""
        if self.began is None or self.ended is None:
            return None
        return (self.ended - self.began) * 1000

    @property
    def confidence(self) -> float | None:
        """That of the least sure step, None where an engine could not tell."""
        found = [sure.overall for sure in self.last.values()]
        known = [one for one in found if one is not None]
        return min(known) if known and len(known) == len(found) else None

    @property
    def steps(self) -> Mapping[str, float]:
        """By the name of a step, the lowest confidence of its calls; without those that an engine could not tell."""
        found: dict[str, float] = {}
        for path, sure in self.last.items():
            name = _name(path)
            if sure.overall is not None:
                found[name] = min(sure.overall, found.get(name, 1.0))
        return found

    @property
    def fields(self) -> Mapping[str, float]:
        """By JSON pointer into the answer; only where one step made it."""
        return next(iter(self.last.values())).fields if len(self.last) == 1 else {}


class UseListener:
    """Listens to a run that has `record[i]` for its rows."""

    def __init__(self) -> None:
        self.rows: dict[int, RowUse] = {}
        self.engines: dict[str, EngineUse] = {}
        self._standing = Standing()

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepEvent):
            self._standing.note(event)
        match event:
            case EngineCalled():
                row = self._row(event.path)
                row.began = event.at if row.began is None else row.began
                row.asked.setdefault(event.node, _Asked(event.at))
            case EngineAnswered():
                use = self._engine(event.engine)
                use.calls += 1
                use.usage += event.usage
                row = self._row(event.path)
                row.ended = event.at
                row.usage += event.usage
                row.last[event.path] = Sureness(event.confidence, event.fields)
                row.engines[event.engine] = None
                row.cost += event.cost
                if event.node in row.asked:
                    row.asked[event.node].cost += event.cost
            case CalledOff():
                self._row(event.path).cost += event.cost
            case Rejected():
                answered = self._standing.rejected(event)
                if answered is not None:
                    self._engine(answered).rejected += 1
                    if (asked := self._row(event.path).asked.get(event.node)) is not None:
                        asked.faulty = True
            case Accepted():
                if (asked := self._row(event.path).asked.get(event.node)) is not None:
                    asked.accepted = event
            case ValueShown():
                self._took(event)
            case StepFinished():
                self._standing.finished(event)

    @property
    def seconds(self) -> float | None:
        """From the first call of an engine to the last answer, over all rows; None without any."""
        began = [row.began for row in self.rows.values() if row.began is not None]
        ended = [row.ended for row in self.rows.values() if row.ended is not None]
        return max(ended) - min(began) if began and ended else None

    def row(self, number: int) -> RowUse:
        """The use of the row that was begun as number `number`."""
        return self.rows.setdefault(number, RowUse())

    def _took(self, event: ValueShown) -> None:
        found, row = _ROW.search(event.path), self._row(event.path)
        asked = row.asked.pop(event.node, None)
        if found is None or asked is None or asked.accepted is None or event.call is None:
            return
        try:
            value = plain(event.value)
        except TypeError:  # no JSON form
            return
        sure = Confidence(asked.accepted.confidence, asked.accepted.fields)
        text = value if isinstance(value, str) else ""
        completion = Completion(text, confidence=sure, engine=asked.accepted.engine)
        ms = (event.at - asked.began) * 1000
        row.answers[_unused(found[2] or "", row.answers)] = StepAnswer(
            _name(event.path), value, event.call, completion, asked.faulty, ms, asked.cost
        )

    def _row(self, path: str) -> RowUse:
        found = _ROW.search(path)
        return self.row(int(found[1])) if found else RowUse()

    def _engine(self, name: str) -> EngineUse:
        return self.engines.setdefault(name, EngineUse())


def _name(path: str) -> str:
    return step_of(path).rpartition("/")[2]


def _unused(path: str, taken: Mapping[str, Any]) -> str:
    number, found = 1, path
    while found in taken:
        number += 1
        found = f"{path}#{number}"
    return found
