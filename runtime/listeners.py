"""The stream of a run's events: to the listeners, and to the journal what it cannot know by itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from carrara.runtime.events import (
    DraftShown,
    Event,
    Listener,
    OfRun,
    RunFinished,
    RunStarted,
    StepEvent,
    StepFinished,
    StepReady,
    StepStarted,
    ValueShown,
)
from carrara.runtime.journal.api import Journal
from carrara.runtime.node import StepNode

_NOT_KEPT = (StepReady, StepStarted, StepFinished, RunStarted, RunFinished, DraftShown, ValueShown)
_log = logging.getLogger(__name__)


class Stream:
    """`watched`: somebody listens to the events of steps; `kept`: the journal takes those that are not its own."""

    __slots__ = ("_listeners", "journal", "kept", "run_id", "watched")

    def __init__(self, run_id: str, listeners: Sequence[Listener], journal: Journal | None) -> None:
        self.run_id = run_id
        self._listeners = list(listeners)
        self.journal = journal
        self.watched = any(not isinstance(each, OfRun) for each in listeners)
        self.kept = journal is not None

    def emit(self, event: Event) -> None:
        if self.journal is not None and _is_kept(type(event), getattr(event, "reused", False)):
            self.journal.event(self.run_id, event)
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:
                # A broken display must not end a run that has cost hours.
                _log.exception("listener %r failed and gets no more events", listener)
                self._listeners.remove(listener)

    def tell(self, kind: type[StepEvent], node: StepNode, /, **fields: Any) -> None:
        """Build and emit an event about a node, if anybody takes it."""
        if self.watched or (self.kept and _is_kept(kind, fields.get("reused", False))):
            self.emit(kind(self.run_id, time.time(), node.path, node.seq, **fields))


def _is_kept(kind: type[Event], reused: bool) -> bool:
    """Of a step that was reused there is no record in this opening of the run, only the event."""
    return kind not in _NOT_KEPT or (reused and kind is StepFinished)
