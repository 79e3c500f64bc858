"""The accepted answers behind each record of a job, gathered from its events."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Any

from carrara.runtime.events import Accepted, Event, ValueShown
from carrara.workflows.plain import plain
from carrara.workflows.trust.earlier import Earlier

_RECORD = re.compile(r"/record\[(\d+)\](?:/(.*))?$")


@dataclass(slots=True)
class Answer:
    """One accepted answer: the step's path within the record, its value as JSON data, and what was told of it.

    `told` None: the step was taken from the journal, which does not say (any more) who answered. `call` is the
    question, where it was asked in this process.
    """

    step: str
    value: Any
    told: Accepted | None = None
    call: Any = None


@dataclass(slots=True)
class _Open:
    """A record at work: what was told of its nodes, and their values in order."""

    told: dict[int, Accepted] = field(default_factory=dict)
    answers: dict[int, Answer] = field(default_factory=dict)


class Answers:
    """A listener. It holds the answers of the records at work; `take` lets go of those of one that ended."""

    def __init__(self, earlier: Iterable[Event] = (), done: Container[int] = ()) -> None:
        """`earlier` are the events of the job before it was cut: steps that are taken from the journal are told
        there; the records that were `done` by then are not looked at again."""
        self._open: dict[int, _Open] = {}
        self._earlier = Earlier(event for event in earlier if _is_of_open(event, done))

    def listen(self, event: Event) -> None:
        if not isinstance(event, Accepted | ValueShown):
            return
        match = _RECORD.search(event.path)
        if match is None:
            return
        place, step = int(match[1]), match[2] or ""
        record = self._open.setdefault(place, _Open())
        if isinstance(event, Accepted):
            record.told[event.node] = event
            return
        told = self._earlier.get(event.path) if event.reused else record.told.get(event.node)
        try:
            value = plain(event.value, exact=True)  # as in the row
        except TypeError:  # no JSON form: no field of a row is this value
            return
        record.answers.pop(event.node, None)  # an earlier attempt of the same node
        record.answers[event.node] = Answer(step, value, told, event.call)

    def take(self, place: int) -> list[Answer]:
        """The answers of the record at a place, in the order in which they came."""
        record = self._open.pop(place, None)
        return [] if record is None else list(record.answers.values())

    def close(self) -> None:
        """No record is at work any more."""
        self._earlier.close()


def _is_of_open(event: Event, done: Container[int]) -> bool:
    """Whether an event is of a record that is not among those done, or of none."""
    match = _RECORD.search(event.path) if isinstance(event, Accepted) else None
    return match is None or int(match[1]) not in done


__all__ = ["Answer", "Answers"]
