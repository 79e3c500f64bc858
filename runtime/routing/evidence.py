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

from carrara.runtime.routing.prospect import EXPECTED, Prospect, usual_s

_INDEX = re.compile(r"\[\d+\]")
_KEPT = 64
_TIMED = 4  # answers from which on a median says something
_SPREAD = 8  # from which on a percentile does
_WORTH_LEARNING_S = 0.25


@dataclass(slots=True)
class Seen:
    """The tally of one engine at one step. `passed_over` counts calls since it was last asked, `chosen` those that it
    was the first for. `seconds` are those of answers, waiting for a place and in batches included: load shows in
    them. `turns` are those from asking for a whole answer to a verdict, with all that was tried at the engine, and
    `after` those from a rejection to the end of the call. `answered` calls gave an answer, `broken` ones broke off on
    their way."""

    accepted: int = 0
    rejected: int = 0
    passed_over: int = 0
    chosen: int = 0
    answered: int = 0
    broken: int = 0
    confidences: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    turns: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    after: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))

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
        seen = self._at(path, engine)
        seen.answered += 1
        seen.seconds.append(seconds)

    def broke(self, path: str, engine: str) -> None:
        """Write down that a call broke off on its way."""
        self._at(path, engine).broken += 1

    def turned(self, path: str, engine: str, seconds: float) -> None:
        """Write down how long the engine had a call, from asking for the whole answer to its last verdict, or until the
        call was taken back because another engine was there first."""
        self._at(path, engine).turns.append(seconds)

    def followed(self, path: str, engine: str, seconds: float) -> None:
        """Write down how long a call went on after the engine was rejected, until another answer was taken."""
        self._at(path, engine).after.append(seconds)

    def renoised(self, path: str, engine: str, accepted: bool, seconds: float) -> None:
        """Write down what came of re-noising doubtful fields, and how long that took."""
        self.note(path, _renoising(engine), accepted)
        self.turned(path, _renoising(engine), seconds)
        self.probe(path, _renoising(engine))

    def keep_from_renoising(self, path: str, engine: str) -> None:
        """Write down that fields were not re-noised because of `renoising_loss`."""
        self.pass_over(path, _renoising(engine))

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

    def prospect(self, path: str, engine: str, following: str, expected: float) -> Prospect:
        """What is known at this step of asking `engine` before `following`."""
        first = self._seen.get((step_of(path), engine)) or Seen()
        other = self._seen.get((step_of(path), following)) or Seen()
        return Prospect(
            first.accepted,
            first.rejected,
            expected,
            usual_s(first.turns),
            usual_s(other.turns),
            usual_s(first.after),
        )

    def loss(
        self,
        path: str,
        engine: str,
        following: str,
        probe_every: int,
        expected: float = EXPECTED,
    ) -> str | None:
        """Why asking `engine` before `following` costs more than it saves, None if it does not. Now and then it is
        asked all the same: that is how it can prove itself. Reads only."""
        found = self.prospect(path, engine, following, expected)
        seen = self._seen.get((step_of(path), engine))
        if found.is_worth_it or (seen is not None and seen.passed_over + 1 >= probe_every):
            return None
        judged = found.accepted + found.rejected
        taken = f"{found.accepted} of {judged} answers of {engine} were taken here"
        if not judged:
            taken = f"{engine} expects {expected:.0%} of such answers to be taken"
        if found.first_s is None or found.next_s is None:
            return f"{taken}, a chance of {found.chance:.0%}"
        return (
            f"{taken}, a chance of {found.chance:.0%} to save {found.next_s:.2f} s of {following} "
            f"for {found.first_s:.2f} s"
        )

    def once_more_pays(self, path: str, engine: str, following: str) -> bool:
        """Whether a call that broke off had better be made once more than given to the next engine: it may work this
        time, and takes so much less time. False while a time is unknown. Reads only."""
        first, other = self._at(path, engine), self._at(path, following)
        gain_s = Prospect(
            first.answered,
            first.broken,
            first_s=usual_s(first.seconds),
            next_s=usual_s(other.turns),
        ).gain_s
        return gain_s is not None and gain_s > 0

    def renoising_loss(
        self, path: str, engine: str, following: str, probe_every: int
    ) -> str | None:
        """Why re-noising the doubtful fields costs more than it saves of what follows a rejection, None if it does not;
        now and then it is done all the same. Reads only."""
        tried = self._seen.get((step_of(path), _renoising(engine)))
        if tried is None or tried.passed_over + 1 >= probe_every:
            return None
        first, other = self._at(path, engine), self._at(path, following)
        follows_s = usual_s(first.after) or usual_s(other.turns)
        found = Prospect(
            tried.accepted, tried.rejected, first_s=usual_s(tried.turns), next_s=follows_s
        )
        if found.is_worth_it:
            return None
        judged = tried.accepted + tried.rejected
        return f"not re-noised, {tried.accepted} of {judged} such answers were taken here"

    def learning(self, path: str, engine: str, following: str, probe_every: int) -> str | None:
        """Why `following` is asked at once although `engine` is good: its time is not known, and now and then that is
        to be learned where there may be something to gain. Reads only."""
        first = self._seen.get((step_of(path), engine))
        other = self._seen.get((step_of(path), following))
        if first is None or first.typical_s is None or (other is not None and other.turns):
            return None
        worth = first.typical_s > _WORTH_LEARNING_S
        if not worth or first.chosen % probe_every != probe_every - 1:
            return None
        return f"{following} is asked once to learn how long it takes"

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


def _renoising(engine: str) -> str:
    """What the tally of an engine's re-noised answers is called."""
    return f"{engine}, re-noised"


def step_of(path: str) -> str:
    """The path without map indexes: "book/extract[3]" is "book/extract"."""
    return _INDEX.sub("", path)


__all__ = ["Evidence", "Seen", "step_of"]
