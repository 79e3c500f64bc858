"""Whether a draft is worth its time, found out while working.

A draft costs denoising passes and a wider causal pass, and saves as many passes as it has tokens accepted. Both sides
depend on the weights, the contract and the processor, so both are measured: seconds a decision, for each way to
go on. The best way is taken, and now and then the one beside it. An untrained denoiser is tried a few times and then
hardly ever; a longer draft is tried only where a shorter one was worth it. The text does not depend on any of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Way = int | None
"""Denoising passes for a draft at most: 0 for no draft, None for as many as the model's settings take."""

FIRST_TRIAL, LONGEST_WAIT = 2, 256
"""Choices before another way is tried first, and between trials at most."""

_MEMORY = 0.8  # what an older measurement counts for with each new one


@dataclass(slots=True)
class _Pace:
    seconds: float = 0.0
    decisions: float = 0.0

    @property
    def each(self) -> float:
        return self.seconds / self.decisions


@dataclass(slots=True)
class Worth:
    """For one kind of answer. `ways` from the cheapest to the longest draft; `best` is the index of the best so far."""

    ways: Sequence[Way]
    best: int = 0
    _wait: int = FIRST_TRIAL
    _since: int = 0
    _downwards: bool = False
    _paces: dict[int, _Pace] = field(default_factory=dict)

    def choose(self) -> int:
        """The index of the way to take now."""
        if self._since < self._wait:
            self._since += 1
            return self.best
        self._since = 0
        self._downwards = not self._downwards
        for step in (-1, 1) if self._downwards else (1, -1):
            if 0 <= self.best + step < len(self.ways):
                return self.best + step
        return self.best

    def took(self, way: int, seconds: float, decisions: int) -> None:
        """So long took so many decisions on a way."""
        if decisions < 1:
            return
        pace = self._paces.setdefault(way, _Pace())
        pace.seconds = _MEMORY * pace.seconds + seconds
        pace.decisions = _MEMORY * pace.decisions + decisions
        best = self._paces.get(self.best)
        if way == self.best or best is None:
            return
        if pace.each < best.each:
            self.best, self._wait, self._since = way, FIRST_TRIAL, 0
        else:
            self._wait = min(2 * self._wait, LONGEST_WAIT)
