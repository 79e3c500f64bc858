"""Is it worth asking an engine before the one behind it? What it is expected to save against what it is expected to
cost. Pure.

With `p` the chance that the first engine's answer is taken, asking it takes `first_s + (1 - p) * after_s` on the
average, and the next engine alone `next_s`. So the first is worth it while what it saves by being taken is more than
what it costs. Few answers say little of `p`, so it begins at what is expected of the engine (a half, or what its
adapter says of such contracts) and moves with each verdict (the mean of a beta distribution).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

EXPECTED = 0.5
"""The chance of an engine of which nothing is known."""

_WEIGHT = 2.0  # how many verdicts the expectation counts as
_ASSUMED = 0.5  # the first engine's time by the next one's, while one of them is unknown
_GAIN_S, _GAIN = 0.05, 0.1  # less than that is noise
_FEW = 4  # fewer times than that: the shortest, for the first call of an engine warms it up


@dataclass(frozen=True, slots=True)
class Prospect:
    """What is known of two engines at a step. `expected`: the chance of the first before any verdict. `first_s`: what
    asking it takes, in vain or not; `after_s`: what follows when it was in vain (less than `next_s` where only some
    fields are asked of the next), None: as `next_s`. Times are seconds, None while unknown."""

    accepted: int = 0
    rejected: int = 0
    expected: float = EXPECTED
    first_s: float | None = None
    next_s: float | None = None
    after_s: float | None = None

    @property
    def chance(self) -> float:
        """That an answer of the first engine is taken."""
        judged = self.accepted + self.rejected
        return (_WEIGHT * self.expected + self.accepted) / (_WEIGHT + judged)

    @property
    def gain_s(self) -> float | None:
        """Seconds that asking the first engine saves on the average, below 0 where it costs some; None while a time is
        unknown."""
        if self.first_s is None or self.next_s is None:
            return None
        after_s = self.next_s if self.after_s is None else self.after_s
        return self.next_s - self.first_s - (1 - self.chance) * after_s

    @property
    def is_worth_it(self) -> bool:
        """Whether the first engine is to be asked first. Losses as small as noise are none; without times the first
        engine is taken to need half the time of the next one."""
        gain_s = self.gain_s
        if gain_s is None or self.next_s is None:
            return self.chance - _ASSUMED > -_GAIN
        return gain_s > -max(_GAIN_S, _GAIN * self.next_s)


def usual_s(seconds: Sequence[float]) -> float | None:
    """The median; of few the shortest; None of none."""
    if len(seconds) >= _FEW:
        return median(seconds)
    return min(seconds, default=None)


__all__ = ["EXPECTED", "Prospect", "usual_s"]
