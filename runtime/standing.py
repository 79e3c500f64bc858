"""Which answer a rejection takes back: routers also reject calls that were refused or failed and gave no answer."""

from __future__ import annotations

from dataclasses import dataclass, field

from carrara.runtime.events import (
    Accepted,
    EngineAnswered,
    EngineCalled,
    Escalated,
    Rejected,
    Routed,
    StepCancelled,
    StepEvent,
    StepFailed,
    StepFinished,
    StepStarted,
)


@dataclass(slots=True)
class _Talk:
    """What a node has heard in its present attempt: the engine of the answer that stands, "" without one, and the
    engines that were of no use before, each once, in order."""

    standing: str = ""
    useless: dict[str, None] = field(default_factory=dict)


class Standing:
    """Follows the events of a run, each given once and in order. Each answer is taken back at most once."""

    def __init__(self) -> None:
        self._talks: dict[tuple[str, int], _Talk] = {}

    def rejected(self, event: Rejected) -> str | None:
        """The engine whose answer `event` takes back, None where the call gave no answer."""
        talk = self._talk(event)
        talk.useless[event.engine] = None
        engine, talk.standing = talk.standing, ""
        return engine or None

    def finished(self, event: StepFinished) -> tuple[str, tuple[str, ...]]:
        """The engine whose answer the node took ("" without one), and those that were of no use before."""
        talk = self._talks.pop((event.path, event.node), None) or _Talk()
        useless = tuple(name for name in talk.useless if name != talk.standing)
        return talk.standing, useless

    def note(self, event: StepEvent) -> None:
        """Any other event."""
        match event:
            case EngineAnswered():
                self._talk(event).standing = event.engine
            case Accepted():  # what was rejected before may be taken after all
                self._talk(event).standing = event.engine
            case EngineCalled() | Escalated():
                self._talk(event).standing = ""
            case StepStarted() | Routed() | StepFailed() | StepCancelled():
                self._talks.pop((event.path, event.node), None)

    def clear(self) -> None:
        """The run is opened again."""
        self._talks.clear()

    def _talk(self, event: StepEvent) -> _Talk:
        return self._talks.setdefault((event.path, event.node), _Talk())


__all__ = ["Standing"]
