"""`calibrate`: run the candidates on labelled rows, fit thresholds on some, try the policy on the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.engines.registry import KINDS
from carrara.runtime.routing.accept import Accept
from carrara.runtime.routing.policy import AUTO, Policy, Rule
from carrara.workflows.batch import Binder, RecordError
from carrara.workflows.calibration.broken import (
    LeftOut,
    check_enough,
    until_down,
    without_broken,
)
from carrara.workflows.calibration.certainty import SLACK, rows_for
from carrara.workflows.calibration.fit import (
    Point,
    Target,
    accepts_of,
    choose,
    compared,
    interval,
    is_sure,
    value_of,
)
from carrara.workflows.calibration.observed import answers_of, pair_of
from carrara.workflows.calls import Definition
from carrara.workflows.evaluate import evaluate_records, gold_of
from carrara.workflows.evaluation import Evaluation
from carrara.workflows.labelled import labelled
from carrara.workflows.records import Record, SourceError
from carrara.workflows.scoring.rule import Marker, marker_of
from carrara.workflows.scoring.score import Scoring
from carrara.workflows.session import Session
from carrara.workflows.steps import Llm

FEWEST_ROWS = 20
_DOWN_AFTER = 2  # rows that broke in a row, beside those under way: the router waits half a minute before the next


@dataclass(frozen=True, slots=True)
class Trial:
    """A policy on rows that it was not fitted on: `value` of the metric with its 95 % interval, `coverage` and mean
    milliseconds as in `Point`. `left_out` rows, whose calls broke, are not among `rows`."""

    rows: int
    value: float
    low: float
    high: float
    coverage: float
    ms: float
    left_out: LeftOut = field(default_factory=LeftOut)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """`chosen` among `points` of the frontier, `single` engines beside it; `reached`: on the rows it was fitted on.
    `fitted_rows` are without those that were `left_out`. `trial` None: no rows were kept for one."""

    policy: Policy
    target: Target
    chosen: Point
    reached: bool
    points: Sequence[Point]
    single: Sequence[Point]
    fitted_rows: int
    trial: Trial | None
    left_out: LeftOut = field(default_factory=LeftOut)

    @property
    def falls_short(self) -> bool:
        """Whether the target lies above the interval of the trial."""
        wanted, trial = self.target.value, self.trial
        return trial is not None and wanted is not None and trial.rows > 0 and wanted > trial.high

    @property
    def rows_wanted(self) -> int | None:
        """About how many rows to fit on it takes to tell that the chosen setting holds on others, None where there are
        enough or it does not reach the target at all."""
        wanted, chosen = self.target.value, self.chosen
        if wanted is None or not self.reached or is_sure(chosen, self.target):
            return None
        return rows_for(chosen.value, chosen.low, wanted - SLACK, self.fitted_rows)


async def calibrate(
    workflow: Definition[..., Any],
    source: str,
    session: Session,
    target: Target,
    *,
    engines: Sequence[str],
    limit: int | None = None,
    seed: int = 0,
    holdout: float = 0.4,
    concurrency: int = 1,
    scoring: Scoring | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Calibrated:
    """Fit the policy of `workflow` to the labelled rows in `source`.

    Every engine answers the rows by itself. For each two of `engines`, in their order, thresholds are fitted on the
    share 1 - `holdout` of the rows; the fastest setting that reaches the target is chosen, and run on the others. Rows
    on which a call broke are left out.

    Raises:
        SourceError: the rows cannot be read, lack an input, or are too few. EngineDown: too many calls broke.
        CarraraError: fewer than two engines, or a step that names its own.
    """
    if len(dict.fromkeys(engines)) < 2:
        raise CarraraError(f"calibration compares at least two engines, got {list(engines)}")
    _check_can_choose(workflow)
    records = list(labelled(source, limit, seed))
    _check_can_be_asked(workflow, records, marker_of(workflow, scoring))
    kept = records[: round(len(records) * (1 - holdout))]
    if len(kept) < FEWEST_ROWS:
        raise SourceError(
            f"{source}: {len(records)} rows leave {len(kept)} to fit thresholds on, "
            f"at least {FEWEST_ROWS} are needed"
        )
    found: dict[str, Evaluation] = {}
    for name in dict.fromkeys(engines):
        tell(f"{name} answers {len(kept)} rows")
        found[name] = await evaluate_records(
            workflow,
            kept,
            session,
            engine=name,
            concurrency=concurrency,
            scoring=scoring,
            seen=until_down(name, _DOWN_AFTER + concurrency),
        )
    made = fitted(workflow, found, target, FEWEST_ROWS, scoring)
    rest = records[len(kept) :]
    if not rest:
        return made
    tell(f"the policy answers the other {len(rest)} rows")
    trial = await _tried(workflow, rest, session, made, concurrency, scoring, tell)
    return replace(made, trial=trial)


def _declared_steps(workflow: Definition[..., Any]) -> Iterator[tuple[str, str | None]]:
    """The steps that ask a model, with the engine that each names, as far as that shows before a run."""
    declared = getattr(workflow, "static_plan", None)
    for step in [workflow] if declared is None else [node.step for node in declared().nodes]:
        if isinstance(step, Llm):
            yield step.name, step.options.engine


def _check_can_choose(workflow: Definition[..., Any]) -> None:
    for told in _unruled(_declared_steps(workflow)):
        raise CarraraError(f"{told}: take `engine` out of the step")


def _unruled(steps: Iterable[tuple[str, str | None]]) -> list[str]:
    """What to tell of steps that name their engine."""
    return [
        f"step {name!r} asks the engine {engine!r} whatever a policy says, so there is nothing to calibrate"
        for name, engine in dict.fromkeys(steps)
        if engine not in (None, "auto")
    ]


def _check_can_be_asked(
    workflow: Definition[..., Any], records: Sequence[Record], marker: Marker
) -> None:
    """A row that no engine is asked about, or whose gold no answer can equal, would count as answered wrongly by all of
    them."""
    binder = Binder(workflow, can_map=False)
    for record in records:
        try:
            binder.bind(record)
        except RecordError as error:
            raise SourceError(str(error)) from error
        gold_of(record, marker)


def fitted(
    workflow: Definition[..., Any],
    found: Mapping[str, Evaluation],
    target: Target,
    fewest: int = 1,
    scoring: Scoring | None = None,
) -> Calibrated:
    """The policy by what each engine answered to the same rows by itself, without those that broke. Pure. `scoring` as
    in `evaluate`.

    Raises:
        EngineDown: of fewer than `fewest` rows there are answers of all engines.
    """
    found, left_out = without_broken(found)
    check_enough(left_out, fewest)
    answers = answers_of(workflow, marker_of(workflow, scoring), found)
    pairs = [pair_of(first, last, answers) for first, last in combinations(found, 2)]
    points, single = compared(pairs, target.metric, _base(workflow).mixed)
    chosen, reached = choose([*points, *single], target)
    rows = len(next(iter(found.values())).rows)
    policy = policy_for(chosen, workflow)
    return Calibrated(policy, target, chosen, reached, points, single, rows, None, left_out)


def policy_for(point: Point, workflow: Definition[..., Any]) -> Policy:
    """The policy of a setting: the workflow's own, else the default, with these engines and thresholds. Those of a step
    are for the first engine alone, whose answers they were fitted on. Nothing is re-noised, for the rows that it was
    fitted on were not, and there are attempts enough for what it was fitted to do. A hedge goes where one engine on
    this machine is left."""
    base, first = _base(workflow), point.engines[0]
    steps = {
        name: Accept(engines={first: accept})
        for name, accept in accepts_of(point.thresholds, point.fields).items()
    }
    made = replace(
        base,
        name="calibrated",
        rules=(Rule(point.engines, reason=f"calibrated: {point.named}"),),
        steps=steps,
        renoise=0,
        max_attempts=max(base.max_attempts, AUTO.max_attempts),
        choose="order",
        give_up_after=1_000,
    )
    return replace(made, hedge=None) if made.lonely_hedge(KINDS.__contains__) else made


async def _tried(
    workflow: Definition[..., Any],
    records: Sequence[Record],
    session: Session,
    made: Calibrated,
    concurrency: int,
    scoring: Scoring | None,
    tell: Callable[[str], None],
) -> Trial:
    found = await evaluate_records(
        workflow, records, session, policy=made.policy, concurrency=concurrency, scoring=scoring
    )
    # In a Python workflow it shows only now: alone, each engine was asked whatever the step said.
    calls = [call for row in found.rows for call in row.calls.values()]
    for told in _unruled((call.step, call.call.engine) for call in calls):
        tell(f"note: {told}")
    answered, left_out = without_broken({made.policy.name: found})
    rows = answered[made.policy.name].rows
    scores = [row.score for row in rows]
    metric = made.target.metric
    low, high = interval(scores, metric)
    first = made.chosen.engines[0]
    alone_ = [set(row.engines) <= {first} for row in rows]
    count = max(1, len(rows))
    ms = sum(row.ms for row in rows) / count
    value = value_of(scores, metric)
    return Trial(len(rows), value, low, high, sum(alone_) / count, ms, left_out)


def _base(workflow: Definition[..., Any]) -> Policy:
    """The workflow's own policy, else the default, with whole answers of the last engine: that is what it was asked for
    on the rows. Asked for some fields alone, a small model that has learnt whole records answers worse."""
    own: Policy | None = getattr(workflow, "policy", None)
    return own or replace(AUTO, mixed=False)


__all__ = ["FEWEST_ROWS", "Calibrated", "Trial", "calibrate", "fitted", "policy_for"]
