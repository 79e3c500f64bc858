"""What one call tells the evidence of the engines that it asked: verdicts, times, and what followed a rejection.

An answer that the run was given before shows nothing new of its engine: neither its verdict counts, nor the time of
the moves that it is one of, nor what followed it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from carrara.runtime.routing.evidence import Evidence
from carrara.runtime.routing.policy import Hedge
from carrara.runtime.routing.router import JUDGED, How, Rejection
from carrara.runtime.routing.verdict import Verdict


@dataclass(slots=True, eq=False)
class Witness:
    """Of the call at `path`; `now` is the clock of all its times, in seconds."""

    evidence: Evidence
    path: str
    now: Callable[[], float]
    _rejected: list[tuple[str, float]] = field(default_factory=list)

    def routed(self, engine: str, passed_over: Sequence[str]) -> None:
        """The engine is the first; evidence spoke against asking others."""
        for name in passed_over:
            self.passed_over(name)
        self.evidence.choose(self.path, engine)

    def passed_over(self, engine: str) -> None:
        self.evidence.pass_over(self.path, engine)

    def asked(self, engine: str) -> None:
        """Though evidence might have spoken against it."""
        self.evidence.probe(self.path, engine)

    def took(self, engine: str, seconds: float) -> None:
        """An answer came after so many."""
        self.evidence.took(self.path, engine, seconds)

    def broke(self, engine: str) -> None:
        self.evidence.broke(self.path, engine)

    def kept_from_renoising(self, engine: str) -> None:
        self.evidence.keep_from_renoising(self.path, engine)

    def cut_off(self, engine: str, seconds: float) -> None:
        """It had so many before one that was asked after it was first."""
        self.evidence.turned(self.path, engine, seconds)

    def late_s(self, engine: str, hedge: Hedge) -> float | None:
        """After how many seconds the engine is late, by what is known of it now; None while too little is."""
        return self.evidence.late_s(self.path, engine, hedge.times, hedge.share)

    def stay(self, engine: str, how: How) -> Stay:
        """The call turns to an engine; `how` is its first move there."""
        return Stay(self, engine, how == "ask", self.now())

    def goes_on(self, stay: Stay, rejection: Rejection) -> None:
        """No answer of the stay is taken, and the call goes on without it."""
        if not stay.is_new:
            self._rejected.clear()
        if rejection.cause in JUDGED:
            self._rejected.append((rejection.engine, self.now()))

    def ends(self, stay: Stay) -> None:
        """An answer of the stay is taken, after those that were not."""
        if not stay.is_new:
            return
        for engine, at in self._rejected:
            self.evidence.followed(self.path, engine, self.now() - at)


@dataclass(slots=True, eq=False)
class Stay:
    """The moves at one engine, until another is asked or an answer taken. `whole`: it was asked for a whole answer.
    `is_new`: the run was given none of its answers before."""

    told: Witness
    engine: str
    whole: bool
    began: float
    is_new: bool = True
    _moved: float = 0.0
    _last_is_new: bool = True

    def moves(self) -> None:
        """A move begins."""
        self._moved, self._last_is_new = self.told.now(), True

    def answered(self, remembered: bool) -> None:
        """Its answer is there; `remembered`: the run was given it before."""
        self._last_is_new = not remembered
        self.is_new = self.is_new and self._last_is_new

    def judged(self, accepted: bool, confidence: float | None) -> None:
        """The verdict on it that counts."""
        if self._last_is_new:
            self.told.evidence.note(self.told.path, self.engine, accepted, confidence)

    def moved(self, how: How, verdict: Verdict) -> None:
        """What came of a move."""
        if how == "renoise" and verdict.completion is not None and self._last_is_new:
            told, taken = self.told, verdict.rejection is None
            told.evidence.renoised(told.path, self.engine, taken, told.now() - self._moved)

    def ends(self, verdict: Verdict) -> None:
        """Its last verdict."""
        if self.whole and verdict.completion is not None and self.is_new:
            told = self.told
            told.evidence.turned(told.path, self.engine, told.now() - self.began)


__all__ = ["Stay", "Witness"]
