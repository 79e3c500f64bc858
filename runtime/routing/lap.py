"""What one of two engines that race for an answer has done so far: it counts as wasted where the other is first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from carrara.engines.request import Progress, Usage
from carrara.runtime.routing.estimate import estimated_text_tokens


@dataclass(frozen=True, slots=True)
class Work:
    """Seconds of wall time, tokens of prompts and answers, and forward passes behind the prompt. Of a call that was cut
    off, tokens are estimated and passes are those that it showed."""

    seconds: float = 0.0
    tokens: int = 0
    passes: int = 0


@dataclass(slots=True, eq=False)
class Lap:
    """The calls that are made for one move of a race, from the first that is let in to an engine; several may be under
    way, each told from the others by any object. `noticed` gets the drafts. Times are of one clock."""

    engine: str
    noticed: Callable[[Progress], None] = lambda _: None
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    _begun_at: float = 0.0
    _ended_at: float | None = None
    _usage: Usage = field(default_factory=Usage)
    _prompts: dict[object, int] = field(default_factory=dict)
    _drafts: dict[object, Progress] = field(default_factory=dict)

    def asks(self, call: object, now: float, prompt_tokens: int) -> None:
        """A call goes to an engine, with a prompt of about so many tokens."""
        if not self.begun.is_set():
            self._begun_at = now
            self.begun.set()
        self._prompts[call] = prompt_tokens

    def sees(self, call: object, progress: Progress) -> None:
        """A draft of a call under way."""
        self._drafts[call] = progress
        self.noticed(progress)

    def hears(self, call: object, usage: Usage) -> None:
        """A call has ended, with this usage; none where it gave no answer."""
        self._usage += usage
        self._prompts.pop(call, None)
        self._drafts.pop(call, None)

    def ends(self, now: float) -> None:
        """Nothing more is asked for this move."""
        if self._ended_at is None:
            self._ended_at = now

    def work(self, now: float) -> Work:
        """What was done until `now`, or until it ended."""
        if not self.begun.is_set():
            return Work()
        until = now if self._ended_at is None else min(now, self._ended_at)
        tokens = self._usage.prompt_tokens + self._usage.completion_tokens
        tokens += sum(self._prompts.values())
        passes = self._usage.passes
        for draft in self._drafts.values():
            tokens += round(estimated_text_tokens(draft.text) * draft.settled)
            passes += draft.step
        return Work(until - self._begun_at, tokens, passes)


here: ContextVar[Lap | None] = ContextVar("carrara_lap", default=None)
"""The lap for which calls are made now, None where there is no race."""


__all__ = ["Lap", "Work", "here"]
