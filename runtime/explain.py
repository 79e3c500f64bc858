"""Why each call went where it went: the decisions about one node, told in order from its events."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from carrara.runtime.dollars import dollars
from carrara.runtime.events import (
    Accepted,
    CalledOff,
    EngineAnswered,
    EngineCalled,
    Escalated,
    Event,
    Hedged,
    HedgeEnded,
    PutOff,
    Rejected,
    Repaired,
    Routed,
    RouteRefused,
    StepEvent,
    StepFailed,
    StepFinished,
    StepRetrying,
)
from carrara.runtime.routing.evidence import step_of

_TOLD = (
    Routed,
    RouteRefused,
    EngineCalled,
    EngineAnswered,
    CalledOff,
    PutOff,
    Rejected,
    Escalated,
    Hedged,
    HedgeEnded,
    Repaired,
    StepRetrying,
)


_RECORD = re.compile(r"[^/]*/record\[(\d+)\](?:/|$)")  # see `workflows.batch`


@dataclass(slots=True)
class Story:
    """One node that asked a model: what was decided and heard, and how it ended. `at` is its first decision."""

    path: str
    at: float
    events: list[StepEvent] = field(default_factory=list)
    end: StepFinished | StepFailed | None = None

    def lines(self) -> Iterator[str]:
        """A line for each decision, seconds after the first in front."""
        before: StepEvent | None = None
        for event in self.events:
            yield f"{event.at - self.at:8.3f} s  {_told(event, before)}"
            before = event
        if isinstance(self.end, StepFinished):
            yield f"{self.end.at - self.at:8.3f} s  taken"
        elif self.end is not None:
            yield f"{self.end.at - self.at:8.3f} s  failed: {self.end.error.splitlines()[0]}"


def stories(
    events: Iterable[Event], step: str = "", keys: Mapping[int, str] | None = None
) -> list[Story]:
    """The nodes of a run that asked a model, in the order of their first decision.

    `step` takes those of one step: by its name, its path, or the path of one node such as "book/extract[3]". Of a job,
    "extract[3]" are those of its record number 3, and of the record with the key "3" where `keys` tells the keys of the
    records by their numbers; "record[3]" are all of that record.
    """
    found: dict[tuple[str, int], Story] = {}
    for event in events:
        if not isinstance(event, StepEvent):
            continue
        node = (event.path, event.node)
        if isinstance(event, _TOLD) or _is_lesser(event):
            story = found.setdefault(node, Story(event.path, event.at))
            story.events.append(event)
        elif isinstance(event, StepFinished | StepFailed) and node in found:
            found[node].end = event
    return [
        story for story in found.values() if not step or _is_meant(story.path, step, keys or {})
    ]


def _is_lesser(event: StepEvent) -> bool:
    return isinstance(event, Accepted) and bool(event.doubt or event.unjudged)


def _is_meant(path: str, step: str, keys: Mapping[int, str]) -> bool:
    plain = step_of(path)
    return (
        step in (path, plain, path.partition("/")[2], plain.partition("/")[2])
        or step in (plain.rpartition("/")[2], path.rpartition("/")[2])
        or _is_of_record(path, plain, step, keys)
    )


def record_of(path: str) -> int | None:
    """The number of the record that a node of a job belongs to, None for a node of anything else."""
    found = _RECORD.match(path)
    return None if found is None else int(found[1])


def _is_of_record(path: str, plain: str, step: str, keys: Mapping[int, str]) -> bool:
    name, bracket, index = step.removesuffix("]").partition("[")
    number = record_of(path)
    if not bracket or number is None or index not in (str(number), keys.get(number)):
        return False
    return name == "record" or f"/{plain}".endswith(f"/{name}")


def _told(event: StepEvent, before: StepEvent | None) -> str:
    match event:
        case Routed():
            return f"route to {event.engine}: {event.reason}"
        case RouteRefused():
            return f"ask no engine: {event.reason}"
        case EngineCalled():
            return f"ask {event.engine}: {event.reason}"
        case EngineAnswered():
            return _answer(event)
        case CalledOff(broke=True):
            return f"{event.engine} broke off: {event.tokens:,} tokens in vain"
        case CalledOff():
            return f"call off {event.engine}"
        case PutOff():
            return f"{event.engine} is busy and asks for a wait of {event.wait_s:.2f} s: {event.reason}"
        case Rejected():
            return f"not taken from {event.engine}: {event.reason}"
        case Accepted(unjudged=why) if why:
            return f"take that of {event.engine} unjudged: {why}"
        case Accepted():
            return f"take that of {event.engine} all the same: {event.doubt}"
        case Escalated() if isinstance(before, Rejected) and before.engine == event.origin:
            return f"go on to {event.target}: {event.origin} gave nothing to take"
        case Escalated():
            return f"go on to {event.target}: {event.reason}"
        case Hedged() if event.target == event.engine:
            return f"ask {event.engine} a second time beside: {event.reason}"
        case Hedged():
            return f"start {event.target} beside {event.engine}: {event.reason}"
        case HedgeEnded(engine=""):
            return f"none was taken, {_wasted(event)} of {event.loser} in vain"
        case HedgeEnded() if event.loser == event.engine:
            return f"one call of {event.engine} was first, {_wasted(event)} of the other in vain"
        case HedgeEnded():
            return f"{event.engine} was first, {_wasted(event)} of {event.loser} in vain"
        case Repaired():
            rules = ", ".join(dict.fromkeys(str(edit.get("rule", "")) for edit in event.made))
            return f"repaired {event.kind}: {event.edits} edits ({rules}), certainty {event.certainty:.2f}"
        case StepRetrying():
            return f"try the step again (attempt {event.attempt}) after {event.delay_s:.2f} s"
        case _:
            return type(event).__name__


def _wasted(event: HedgeEnded) -> str:
    told = f"{event.wasted_s:.2f} s"
    told += f", {event.wasted_tokens:,} tokens" if event.wasted_tokens else ""
    return told + (f", {event.wasted_passes:,} passes" if event.wasted_passes else "")


def _answer(event: EngineAnswered) -> str:
    parts = [f"{event.usage.completion_tokens} tokens in {event.usage.passes} passes"]
    if event.confidence is not None:
        parts.append(f"confidence {event.confidence:.2f}")
    if event.fields:
        weakest = sorted(event.fields.items(), key=lambda one: one[1])[:3]
        parts.append(
            "weakest " + ", ".join(f"{path or 'answer'} {sure:.2f}" for path, sure in weakest)
        )
    if event.cost:
        parts.append(dollars(event.cost))
    return f"{event.engine} answers: {', '.join(parts)}"


__all__ = ["Story", "record_of", "stories"]
