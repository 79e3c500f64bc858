"""Valid answers that were not sure enough: the best is kept, and taken where no engine behind it answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from carrara.engines.request import Completion
from carrara.runtime.bell import Bell
from carrara.runtime.routing.router import DOUBTED, JUDGED, Rejection
from carrara.runtime.routing.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A valid answer that was rejected in doubt. `answer` is the completion with the text of the whole answer, also
    where only some fields were asked for; `origins` as in Dialogue."""

    verdict: Verdict
    rejection: Rejection
    answer: Completion
    origins: Mapping[str, str] = field(default_factory=dict)


class Fallback:
    """Follows the rejections of one call. `names` are its engines in order. `offered` rings when an answer is kept."""

    def __init__(self, names: Sequence[str]) -> None:
        self._places = {name: place for place, name in enumerate(names)}
        self.offered = Bell()
        self._best: Doubtful | None = None
        self._rejections: list[Rejection] = []

    def note(self, rejection: Rejection) -> None:
        """An answer was not taken, or none came."""
        self._rejections.append(rejection)

    def offer(self, found: Doubtful) -> None:
        """Keep the answer if it is the best so far: of the engine furthest back, and of its answers the surest, for
        confidences of different engines are no common measure."""
        if found.rejection.cause in DOUBTED and (
            self._best is None or self._rank(found) >= self._rank(self._best)
        ):
            self._best = found
            self.offered.ring()

    def taken(self) -> tuple[Doubtful, str] | None:
        """The answer to take when no move is left, and why it is; None if there is none, or an engine behind it gave an
        answer that breaks the contract or the step's check."""
        best = self._best
        if best is None:
            return None
        place = self._places[best.rejection.engine]
        behind = [one for one in self._rejections if self._places[one.engine] > place]
        if any(one.cause in JUDGED for one in behind):
            return None
        last = {one.engine: f"{one.engine} {_NO_ANSWER[one.cause]}: {one.reason}" for one in behind}
        why = "; ".join(last.values()) or "no attempt is left"
        return best, f"{best.rejection.reason}; {why}"

    def _rank(self, found: Doubtful) -> tuple[int, float]:
        completion = found.verdict.completion
        sure = None if completion is None else completion.confidence.overall
        return self._places[found.rejection.engine], 0.0 if sure is None else sure


_NO_ANSWER = {
    "refused": "refused",
    "failed": "failed",
    "busy": "is busy",
    "passed over": "was not asked",
    "too dear": "was not asked",
}

__all__ = ["Doubtful", "Fallback"]
