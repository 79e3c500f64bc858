"""The result of an evaluation: each row's answer and marks, and the numbers over all of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median, quantiles
from typing import Any

from carrara.workflows.row_use import EngineUse
from carrara.workflows.scoring.calibration import BINS, Judged, calibration
from carrara.workflows.scoring.score import Score, Totals, by_field, total
from carrara.workflows.step_answer import StepAnswer

_STEP = re.compile(r"(?:\w+Error: )?step '[^']*'(?: in run \w+ failed)?: ")
_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class EvaluatedRow:
    """One row's answer as JSON data, or the error; `score` are its marks. `task` is "" where the row names none.

    `ms` passed from the first call of an engine to its end, with `passes` and `tokens` of all calls. `confidence`
    is None where no engine could tell, `steps` holds it step by step; `sure` holds place, confidence and whether it
    is right for each part. `engines` are those that answered, `cost` in US dollars. `broke`: it failed because a call
    broke (`broken_calls`), not for its answer. `calls` are the answers
    that its steps took, by their path below the row; they are no part of its data.
    """

    key: str
    task: str
    gold: Any
    answer: Any
    error: str
    score: Score
    ms: float
    passes: int
    tokens: int
    confidence: float | None = None
    sure: Sequence[tuple[str, float, bool]] = ()
    steps: Mapping[str, float] = field(default_factory=dict)
    engines: Sequence[str] = ()
    cost: float = 0.0
    broke: bool = False
    calls: Mapping[str, StepAnswer] = field(default_factory=dict, repr=False, compare=False)

    def to_data(self) -> dict[str, Any]:
        """For a file of rows."""
        found = asdict(replace(self, calls={}))
        del found["calls"]
        return found

    @property
    def judged(self) -> Judged | None:
        return None if self.confidence is None else (self.confidence, self.score.exact)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`rule` is the scoring rule, "" where it depended on the row's gold. `seconds` is the wall time of all rows from
    the first call of an engine on, with `concurrency` rows at once; `fingerprints` tell the weights of each engine
    that answered."""

    workflow: str
    source: str
    rule: str
    seconds: float
    concurrency: int
    engines: Mapping[str, EngineUse]
    fingerprints: Mapping[str, str]
    rows: Sequence[EvaluatedRow] = field(repr=False)

    @property
    def totals(self) -> Totals:
        return total(row.score for row in self.rows)

    def summary(self) -> dict[str, Any]:
        """Everything but the rows, as JSON data. Shares are in [0, 1].

        `failed` counts the rows without an answer, `failures` their reasons; `fields` and `tasks` hold the marks
        of each place in the answers and of each task that rows name. Of times and passes a row's are meant.
        """
        failures = Counter(reason_of(row.error) for row in self.rows if row.error)
        return {
            "workflow": self.workflow,
            "data": self.source,
            "rule": self.rule,
            **marks(self.totals),
            "failed": failures.total(),
            "failures": dict(failures.most_common(5)),
            "fields": {name: marks(one) for name, one in by_field(self._scores()).items()},
            "tasks": {name: marks(total(scores)) for name, scores in self._by_task().items()},
            **self._speed(),
            "engines": {name: _use(use) for name, use in sorted(self.engines.items())},
            "fingerprints": dict(self.fingerprints),
            "calibration": calibrated(self.rows),
        }

    def _speed(self) -> dict[str, Any]:
        count = max(1, len(self.rows))
        passes, tokens = sum(r.passes for r in self.rows), sum(r.tokens for r in self.rows)
        return {
            "passes_per_row": round(passes / count, 2),
            "tokens_per_row": round(tokens / count, 2),
            "tokens_per_pass": round(tokens / passes, 2) if passes else None,
            "ms_per_answer": spread([row.ms for row in self.rows]),
            "concurrency": self.concurrency,
            "seconds": round(self.seconds, 2),
            "rows_per_s": round(len(self.rows) / self.seconds, 3) if self.seconds else None,
        }

    def _scores(self) -> list[Score]:
        return [row.score for row in self.rows]

    def _by_task(self) -> dict[str, list[Score]]:
        found: dict[str, list[Score]] = {}
        for row in self.rows:
            if row.task:
                found.setdefault(row.task, []).append(row.score)
        return found


def marks(totals: Totals) -> dict[str, Any]:
    return {
        "rows": totals.count,
        "exact_match": round(totals.exact_match, 4),
        "field_f1": round(totals.field_f1, 4),
        "parse_rate": round(totals.parse_rate, 4),
    }


def calibrated(rows: Iterable[EvaluatedRow]) -> dict[str, Any]:
    """Confidence against correctness: of whole answers, of all their fields together, and place by place."""
    known = list(rows)
    places: dict[str, list[Judged]] = {}
    for row in known:
        for place, sure, right in row.sure:
            places.setdefault(place, []).append((sure, right))
    parts = [judged for found in places.values() for judged in found]
    return {
        "bins": BINS,
        "overall": _calibration([row.judged for row in known if row.judged is not None]),
        "all_fields": _calibration(parts),
        "fields": {place: _calibration(found) for place, found in places.items()},
    }


def spread(ms: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile; 0 of nothing."""
    if len(ms) < 2:
        return dict.fromkeys(("median", "p95"), round(ms[0], 1) if ms else 0.0)
    return {
        "median": round(median(ms), 1),
        "p95": round(quantiles(ms, n=20, method="inclusive")[-1], 1),
    }


def _calibration(judged: Iterable[Judged]) -> dict[str, Any] | None:
    found = calibration(judged)
    if found is None:
        return None
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in asdict(found).items()
    }


def reason_of(error: str) -> str:
    """An error without what differs from row to row: the paths of steps, and the raw text behind the first lines."""
    bare = _STEP.sub("", error)
    return "\n".join(bare.splitlines()[:2])[:_LONGEST_REASON]


def _use(use: EngineUse) -> dict[str, int]:
    return {
        "calls": use.calls,
        "rejected": use.rejected,
        "prompt_tokens": use.usage.prompt_tokens,
        "cached_tokens": use.usage.cached_tokens,
        "completion_tokens": use.usage.completion_tokens,
        "passes": use.usage.passes,
    }
