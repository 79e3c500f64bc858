"""What one of two engines that race for an answer has done so far: it counts as wasted where the other is first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from carrara.engines.request import Progress, Usage
from carrara.runtime.bell import Bell
from carrara.runtime.routing.estimate import estimated_text_tokens


@dataclass(frozen=True, slots=True)
class Work:
    """Seconds of wall time, tokens of prompts and answers, and forward passes behind the prompt. Of a call that was cut
    off, tokens are estimated and passes are those that it showed."""

    seconds: float = 0.0
    tokens: int = 0
    passes: int = 0


@dataclass(slots=True, eq=False)
class Call:
    """A call that waits for its answer: from `began` on, when it was first let in to its engine, and since `tried`,
    when it was last. `is_served`: it is at the engine, and not sent away for a while."""

    engine: str
    began: float
    tried: float
    is_served: bool = True


@dataclass(slots=True, eq=False)
class Lap:
    """The calls that are made for one move of a race, from the first that is let in to an engine; several may be under
    way, each told from the others by any object. `noticed` gets the drafts, `stirs` rings when a call begins, is tried
    again or ends. Times are of one clock."""

    engine: str
    noticed: Callable[[Progress], None] = lambda _: None
    stirs: Bell = field(default_factory=Bell)
    _calls: dict[object, Call] = field(default_factory=dict)
    _begun_at: float | None = None
    _ended_at: float | None = None
    _usage: Usage = field(default_factory=Usage)
    _prompts: dict[object, int] = field(default_factory=dict)
    _drafts: dict[object, Progress] = field(default_factory=dict)

    @property
    def is_begun(self) -> bool:
        return self._begun_at is not None

    @property
    def calls(self) -> Sequence[Call]:
        """Those that wait for their answers."""
        return tuple(self._calls.values())

    def asks(self, call: object, engine: str, now: float, prompt_tokens: int) -> None:
        """A call goes to an engine, with a prompt of about so many tokens."""
        if self._begun_at is None:
            self._begun_at = now
        found = self._calls.setdefault(call, Call(engine, now, now))
        found.tried, found.is_served = now, True
        self._prompts[call] = prompt_tokens
        self.stirs.ring()

    def sees(self, call: object, progress: Progress) -> None:
        """A draft of a call under way."""
        self._drafts[call] = progress
        self.noticed(progress)

    def hears(self, call: object, usage: Usage) -> None:
        """A try has ended, with this usage; none where it gave no answer. The call may be tried again."""
        self._usage += usage
        self._prompts.pop(call, None)
        self._drafts.pop(call, None)
        if (found := self._calls.get(call)) is not None:
            found.is_served = False
            self.stirs.ring()

    def leaves(self, call: object) -> None:
        """A call is not tried again."""
        if self._calls.pop(call, None) is not None:
            self.stirs.ring()

    def ends(self, now: float) -> None:
        """Nothing more is asked for this move."""
        if self._ended_at is None:
            self._ended_at = now

    def work(self, now: float) -> Work:
        """What was done until `now`, or until it ended."""
        if self._begun_at is None:
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


__all__ = ["Call", "Lap", "Work", "here"]
