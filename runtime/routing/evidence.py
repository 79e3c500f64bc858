"""What has been seen of each engine at each step in this session: the ground for not asking it in vain."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

_INDEX = re.compile(r"\[\d+\]")
_KEPT = 64


@dataclass(slots=True)
class Seen:
    """The tally of one engine at one step. `passed_over` counts calls since it was last asked."""

    accepted: int = 0
    rejected: int = 0
    passed_over: int = 0
    confidences: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))


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

    def to_data(self) -> list[Mapping[str, Any]]:
        """JSON data for reports: one row a step and engine."""
        return [
            {
                "step": step,
                "engine": engine,
                "accepted": seen.accepted,
                "rejected": seen.rejected,
                "median_confidence": median(seen.confidences) if seen.confidences else None,
            }
            for (step, engine), seen in sorted(self._seen.items())
        ]

    def _at(self, path: str, engine: str) -> Seen:
        return self._seen.setdefault((step_of(path), engine), Seen())


def step_of(path: str) -> str:
    """The path without map indexes: "book/extract[3]" is "book/extract"."""
    return _INDEX.sub("", path)


__all__ = ["Evidence", "Seen", "step_of"]
