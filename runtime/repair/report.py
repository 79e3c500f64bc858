"""What a repair did, exactly: edits on spans of the input, which replay to the output and can be reverted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from carrara.engines.errors import CarraraError
from carrara.runtime.repair.edits import replaced, replay

Certainty = Literal["certain", "likely", "guess"]
Tier = Literal[1, 2, 3]
_RANK: dict[Certainty, float] = {"certain": 1.0, "likely": 0.5, "guess": 0.0}


@dataclass(frozen=True, slots=True)
class Edit:
    """`before`, found at `start` to `end` of the input, became `after`.

    `rule` is a stable name; two repairs of one place are joined by "+". `tier` 1 changes structure without a model,
    2 fills holes by diffusion, 3 asks an AR engine again. `certainty`: "certain" when no other reading of the input is
    left, "likely" when another reading exists and evidence speaks for this one, "guess" otherwise.
    """

    start: int
    end: int
    before: str
    after: str
    rule: str
    reason: str
    tier: Tier = 1
    certainty: Certainty = "certain"


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault in a text. `path` is the JSON pointer of the failing part, "" for the whole; `line` counts from 1, 0
    where no line is known; `rule` names the repair that there is for it, if any."""

    reason: str
    path: str = ""
    line: int = 0
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Hole:
    """A place at `start` to `end` of the mended text whose content is lost. `path`: a JSON pointer, or
    "/line/cell" in Markdown (lines from 0, cell 0 outside of tables); `type` as in JSON Schema, or "any" for a scalar
    of which nothing says what it is; `items` is the type of a list's elements, "" for no list; `options` are the
    values that the schema allows, empty where it does not list them. `filled_by` names the engine that filled it."""

    start: int
    end: int
    path: str
    type: str = "string"
    max_tokens: int = 16
    items: str = ""
    options: tuple[Any, ...] = ()
    filled_by: str = ""


@dataclass(frozen=True, slots=True)
class RepairReport:
    """The outcome. `ok`: `text` holds to what was asked, and `value` is its value (None for a plain kind).

    `problems` are those left in `text`, `problems_before` those of the input. `proposals` are edits of `text` that the
    policy did not allow. For a contract, `text` is the input itself unless it is `ok`. `tier` is the highest that took
    part; `model_calls`, `tokens` and `seconds` are what it took.
    """

    text: str
    kind: str
    ok: bool
    value: Any = None
    edits: tuple[Edit, ...] = ()
    problems: tuple[Problem, ...] = ()
    proposals: tuple[Edit, ...] = ()
    holes: tuple[Hole, ...] = ()
    problems_before: tuple[Problem, ...] = ()
    model_calls: int = 0
    tokens: int = 0
    seconds: float = 0.0

    @property
    def changed(self) -> bool:
        return bool(self.edits)

    @property
    def tier(self) -> int:
        """The highest tier of the edits, 0 without any."""
        return max((edit.tier for edit in self.edits), default=0)

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

    def told(self, most: int, longest: int = 200) -> tuple[dict[str, Any], ...]:
        """The first `most` edits as data, their texts cut to `longest` characters."""
        found = []
        for edit in self.edits[:most]:
            data = asdict(edit)
            data["before"], data["after"] = edit.before[:longest], edit.after[:longest]
            found.append(data)
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """JSON data for logs and traces; the value is left out."""
        return {
            "kind": self.kind,
            "ok": self.ok,
            "text": self.text,
            "edits": [asdict(edit) for edit in self.edits],
            "problems": [asdict(problem) for problem in self.problems],
            "proposals": [asdict(edit) for edit in self.proposals],
            "holes": [asdict(hole) for hole in self.holes],
            "problems_before": [asdict(problem) for problem in self.problems_before],
            "tier": self.tier,
            "model_calls": self.model_calls,
            "tokens": self.tokens,
            "seconds": self.seconds,
        }


class RepairFailed(CarraraError):
    """A text was not mended in full, and the policy asks to raise then. `report` says what is left."""

    def __init__(self, report: RepairReport) -> None:
        super().__init__(
            f"{report.kind} not repaired: {report.reason}. "
            "Allow likelier edits with a lower min_certainty, fill holes with max_tier=2, or keep the text with "
            "on_fail='keep'."
        )
        self.report = report


def rewrite(
    start: int, before: str, after: str, rule: str, reason: str, certainty: Certainty
) -> Edit:
    """The smallest single edit that turns `before`, found at `start` of the input, into `after`."""
    most = min(len(before), len(after))
    head = 0
    while head < most and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < most - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    old = before[head : len(before) - tail]
    new = after[head : len(after) - tail]
    return Edit(start + head, start + head + len(old), old, new, rule, reason, certainty=certainty)


def cut(text: str, start: int, end: int, rule: str, reason: str) -> tuple[Edit, ...]:
    """Edits that keep only `start` to `end` of `text`."""
    spans = ((0, start), (end, len(text)))
    return tuple(Edit(a, b, text[a:b], "", rule, reason) for a, b in spans if a < b)


__all__ = [
    "Certainty",
    "Edit",
    "Hole",
    "Problem",
    "RepairFailed",
    "RepairReport",
    "cut",
    "replay",
    "rewrite",
]
