"""What has been seen of each engine at each step in this session: the ground for not asking it in vain, or to no
gain."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

_INDEX = re.compile(r"\[\d+\]")
_KEPT = 64
_TIMED = 4  # answers from which on a median says something
_SPREAD = 8  # from which on a percentile does
_JUDGED = 8
_GAIN_S, _GAIN = 0.05, 0.1  # less than that is noise
_WORTH_LEARNING_S = 0.25


@dataclass(slots=True)
class Seen:
    """The tally of one engine at one step. `passed_over` counts calls since it was last asked, `chosen` those that it
    was the first for. `seconds` are those of answers, waiting for a place and in batches included: load shows in
    them."""

    accepted: int = 0
    rejected: int = 0
    passed_over: int = 0
    chosen: int = 0
    confidences: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))

    @property
    def acceptance(self) -> float | None:
        """The share of answers that were accepted, None of too few."""
        judged = self.accepted + self.rejected
        return self.accepted / judged if judged >= _JUDGED else None

    @property
    def typical_s(self) -> float | None:
        """The median time of an answer, None of too few."""
        return median(self.seconds) if len(self.seconds) >= _TIMED else None


class Evidence:
    """Accepted and rejected answers by step and engine. The children of one map are one step."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], Seen] = {}

    def note(self, path: str, engine: str, accepted: bool, confidence: float | None = None) -> None:
        """Write down one verdict on an answer; engine failures and refusals are none."""
        seen = self._at(path, engine)
        if accepted:
            seen.accepted += 1
        else:
            seen.rejected += 1
        if confidence is not None:
            seen.confidences.append(confidence)

    def took(self, path: str, engine: str, seconds: float) -> None:
        """Write down how long one answer took, from asking on."""
        self._at(path, engine).seconds.append(seconds)

    def choose(self, path: str, engine: str) -> None:
        """Write down that the engine is the first to be asked for a call."""
        self._at(path, engine).chosen += 1

    def pass_over(self, path: str, engine: str) -> None:
        """Write down that the engine was not asked because of `objection`."""
        self._at(path, engine).passed_over += 1

    def probe(self, path: str, engine: str) -> None:
        """Write down that the engine is being asked, which starts the wait for the next probe anew."""
        self._at(path, engine).passed_over = 0

    def is_known(self, path: str, engine: str, give_up_after: int) -> bool:
        """Whether the engine has proved itself at this step, or failed to."""
        seen = self._seen.get((step_of(path), engine))
        return seen is not None and (seen.accepted > 0 or seen.rejected >= give_up_after)

    def objection(self, path: str, engine: str, give_up_after: int, probe_every: int) -> str | None:
        """Why the engine need not be asked now, None if it should be. Reads only."""
        seen = self._seen.get((step_of(path), engine))
        if seen is None or seen.accepted or seen.rejected < give_up_after:
            return None
        if seen.passed_over + 1 >= probe_every:
            return None
        sure = f" (median confidence {median(seen.confidences):.2f})" if seen.confidences else ""
        return f"{engine} rejected {seen.rejected} of {seen.rejected} for this step{sure}"

    def typical_s(self, path: str, engine: str) -> float | None:
        """The median time of the engine's answers at this step, None while too few are known."""
        seen = self._seen.get((step_of(path), engine))
        return None if seen is None else seen.typical_s

    def late_s(
        self, path: str, engine: str, times: float | None, share: float | None
    ) -> float | None:
        """The earlier of `times` the median time of the engine's answers at this step and the time within which the
        share `share` of them came; None while too few are known."""
        seen = self._seen.get((step_of(path), engine))
        if seen is None:
            return None
        waits = []
        if times is not None and seen.typical_s is not None:
            waits.append(times * seen.typical_s)
        if share is not None and len(seen.seconds) >= _SPREAD:
            waits.append(sorted(seen.seconds)[math.ceil(share * len(seen.seconds)) - 1])
        return min(waits, default=None)

    def loss(self, path: str, engine: str, following: str, probe_every: int) -> str | None:
        """Why asking `engine` before `following` costs time at this step, None if it does not or is not known.

        First the one and then, if it is rejected, the other takes t1 + (1 - p) * t2 on the average; the other alone
        t2. Now and then the first is asked all the same, and so is the second while its time is unknown: that is
        how both are known. Reads only.
        """
        first = self._seen.get((step_of(path), engine))
        if first is None or first.typical_s is None or first.acceptance is None:
            return None
        alone_s = self.typical_s(path, following)
        if alone_s is None:
            learns = (
                first.typical_s > _WORTH_LEARNING_S
                and first.chosen % probe_every == probe_every - 1
            )
            return f"{following} is asked once to learn how long it takes" if learns else None
        both_s = first.typical_s + (1 - first.acceptance) * alone_s
        if both_s - alone_s < max(_GAIN_S, _GAIN * alone_s) or first.passed_over + 1 >= probe_every:
            return None
        return (
            f"{engine} takes {first.typical_s:.2f} s here and {first.acceptance:.0%} of its answers are taken, "
            f"{following} takes {alone_s:.2f} s"
        )

    def to_data(self) -> list[Mapping[str, Any]]:
        """JSON data for reports: one row a step and engine."""
        return [
            {
                "step": step,
                "engine": engine,
                "accepted": seen.accepted,
                "rejected": seen.rejected,
                "median_confidence": median(seen.confidences) if seen.confidences else None,
                "median_s": seen.typical_s,
            }
            for (step, engine), seen in sorted(self._seen.items())
        ]

    def _at(self, path: str, engine: str) -> Seen:
        return self._seen.setdefault((step_of(path), engine), Seen())


def step_of(path: str) -> str:
    """The path without map indexes: "book/extract[3]" is "book/extract"."""
    return _INDEX.sub("", path)


__all__ = ["Evidence", "Seen", "step_of"]
