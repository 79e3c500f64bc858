"""Rows that tell nothing of an engine, because a call broke: counted apart, and left out of the fit for every engine.

Thresholds are fitted on what engines answered to the same rows; a row that one of them was not able to answer would
count as wrong where the router goes on to another engine, or waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from carrara.engines.errors import CarraraError
from carrara.workflows.batch import Outcome
from carrara.workflows.broken_calls import broke
from carrara.workflows.evaluation import Evaluation, reason_of


class EngineDown(CarraraError):
    """An engine broke so often that nothing can be fitted to its answers."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """`rows` of `of` are left out. `engines` is how many rows broke at each engine where some did, `reasons` the most
    frequent reason there, in a line."""

    rows: int = 0
    of: int = 0
    engines: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """ "" for none."""
        if not self.rows:
            return ""
        parts = [f"{name} {count} ({self.reasons[name]})" for name, count in self.engines.items()]
        return f"{self.rows} of {self.of} rows left out, their calls broke: {'; '.join(parts)}"


def without_broken(found: Mapping[str, Evaluation]) -> tuple[dict[str, Evaluation], LeftOut]:
    """The evaluations with the rows that every engine was able to answer, and what was left out."""
    engines, reasons = {}, {}
    gone: set[str] = set()
    for name, evaluation in found.items():
        broken = [row for row in evaluation.rows if row.broke]
        if broken:
            engines[name] = len(broken)
            reasons[name] = _commonest([row.error for row in broken])
            gone |= {row.key for row in broken}
    kept = {
        name: replace(evaluation, rows=[row for row in evaluation.rows if row.key not in gone])
        for name, evaluation in found.items()
    }
    of = len(next(iter(found.values())).rows)
    return kept, LeftOut(len(gone), of, engines, reasons)


def check_enough(left_out: LeftOut, fewest: int) -> None:
    """
    Raises:
        EngineDown: fewer than `fewest` rows stay to fit thresholds on.
    """
    stay = left_out.of - left_out.rows
    if stay < fewest:
        raise EngineDown(
            f"{left_out.told}. {stay} stay to fit thresholds on, at least {fewest} are needed: mend what broke, or "
            "give more rows, and calibrate again"
        )


def until_down(engine: str, most: int) -> Callable[[Outcome], None]:
    """To be told of each outcome: raises EngineDown when `most` rows in a row broke, so that an engine that is gone
    does not cost a wait for each row."""
    in_a_row = 0

    def see(outcome: Outcome) -> None:
        nonlocal in_a_row
        in_a_row = in_a_row + 1 if broke(outcome.error) else 0
        if in_a_row >= most:
            raise EngineDown(
                f"engine {engine!r} broke on {in_a_row} rows in a row, nothing was fitted: "
                f"{_commonest([str(outcome.error)])}. Mend that, or leave the engine out, and calibrate again"
            )

    return see


def _commonest(errors: list[str]) -> str:
    """The most frequent reason, on one line."""
    return " ".join(Counter(map(reason_of, errors)).most_common(1)[0][0].split()).rstrip(".")


__all__ = ["EngineDown", "LeftOut", "check_enough", "until_down", "without_broken"]
