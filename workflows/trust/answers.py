"""The accepted answers behind each record of a job, gathered from its events."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from carrara.runtime.events import Accepted, Event, ValueShown
from carrara.workflows.plain import plain

_RECORD = re.compile(r"/record\[(\d+)\](?:/(.*))?$")


@dataclass(slots=True)
class Answer:
    """One accepted answer: the step's path within the record, its value as JSON data, and what was told of it.

    `told` None: the step was taken from a journal that does not say who answered. `call` is the question, where it was
    asked in this process.
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

    def __init__(self, accepted: Callable[[int], Accepted | None]) -> None:
        """`accepted` gives what was told of a step's answer by its place in the journal (see `Reader.accepted`)."""
        self._open: dict[int, _Open] = {}
        self._accepted = accepted

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
        told = self._accepted(event.place) if event.reused else record.told.get(event.node)
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


__all__ = ["Answer", "Answers"]
