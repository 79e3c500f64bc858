"""What a repair did, exactly: edits on spans of the input, which replay to the output and can be reverted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from carrara.runtime.repair.edits import replaced, replay

Certainty = Literal["certain", "likely", "guess"]
_RANK: dict[Certainty, float] = {"certain": 1.0, "likely": 0.5, "guess": 0.0}


@dataclass(frozen=True, slots=True)
class Edit:
    """`before`, found at `start` to `end` of the input, became `after`.

    `rule` is a stable name. `tier` 1 changes structure without a model, 2 fills holes by diffusion, 3 asks an
    AR engine again. `certainty`: "certain" when no other reading of the input is left, "likely" when the
    result was checked but another reading exists, "guess" otherwise.
    """

    start: int
    end: int
    before: str
    after: str
    rule: str
    reason: str
    tier: Literal[1, 2, 3] = 1
    certainty: Certainty = "certain"


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault in a text. `path` is the JSON pointer of the failing part, "" for the whole."""

    reason: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class RepairReport:
    """The outcome. `ok`: `text` holds to what was asked, and `value` is its value (None for a plain kind).

    When not `ok`, `text` is the input itself, there are no edits, and `problems` says why.
    """

    text: str
    kind: str
    ok: bool
    value: Any = None
    edits: tuple[Edit, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.edits)

    @property
    def reason(self) -> str:
        """Why the text was refused, "" when it was not."""
        return "; ".join(problem.reason for problem in self.problems)

    @property
    def certainty(self) -> float:
        """That of the least certain edit: 1 certain, 0.5 likely, 0 guess. 1 without edits."""
        return min((_RANK[edit.certainty] for edit in self.edits), default=1.0)

    def revert(self) -> str:
        """The input, rebuilt from the output and the edits."""
        moved, inverse = 0, []
        for edit in self.edits:
            start = edit.start + moved
            inverse.append((start, start + len(edit.after), edit.before))
            moved += len(edit.after) - len(edit.before)
        return replaced(self.text, inverse)

    def to_data(self) -> dict[str, Any]:
        """JSON data for logs and traces; the value is left out."""
        return {
            "kind": self.kind,
            "ok": self.ok,
            "text": self.text,
            "edits": [asdict(edit) for edit in self.edits],
            "problems": [asdict(problem) for problem in self.problems],
        }


def rewrite(
    start: int, before: str, after: str, rule: str, reason: str, certainty: Certainty
) -> Edit:
    """The smallest single edit that turns `before`, found at `start` of the input, into `after`."""
    head = 0
    while head < min(len(before), len(after)) and before[head] == after[head]:
        head += 1
    tail = 0
    most = min(len(before), len(after)) - head
    while tail < most and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    old = before[head : len(before) - tail]
    new = after[head : len(after) - tail]
    return Edit(start + head, start + head + len(old), old, new, rule, reason, certainty=certainty)


def cut(text: str, start: int, end: int, rule: str, reason: str) -> tuple[Edit, ...]:
    """Edits that keep only `start` to `end` of `text`."""
    spans = ((0, start), (end, len(text)))
    return tuple(Edit(a, b, text[a:b], "", rule, reason) for a, b in spans if a < b)


__all__ = ["Certainty", "Edit", "Problem", "RepairReport", "cut", "replay", "rewrite"]
