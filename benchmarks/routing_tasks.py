"""Each engine alone and the calibrated router on the tasks with labelled rows; see `benchmarks.routing`.

Every contestant has engines of its own, so that none finds a prompt in another's cache, and the rows go round. The
first ones are timed: each is answered by all contestants, one at a time, before the next one comes, so that a busy
machine slows all alike. More rows, several at once, make the accuracy more certain; their times do not count.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import carrara
from carrara.engines.contract import Choice
from carrara.engines.contract_shape import shape_of
from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import Event, Routed
from carrara.runtime.routing.accept import Accept
from carrara.runtime.routing.policy import AUTO, Policy
from carrara.workflows.calibration.calibrate import fitted
from carrara.workflows.calibration.fit import Metric, Target, interval, lead_over, value_of
from carrara.workflows.evaluate import evaluate_records
from carrara.workflows.evaluation import EvaluatedRow, Evaluation, spread
from carrara.workflows.labelled import labelled
from carrara.workflows.plan import plan
from carrara.workflows.records import Record
from carrara.workflows.session import Session
from carrara.workflows.yaml import load
from carrara.workflows.yaml.policy import policy_tree

PIPELINES = Path(__file__).resolve().parents[1] / "examples" / "tasks"
LABELS = ("clinc_domain", "clinc_intent", "banking77", "strategyqa_facts", "table_qa", "gsm8k")
ROUTER, AUTOMATIC = "router", "router, not calibrated"
DEV_SHARE = 0.45  # of a task's time
CHUNK, AT_ONCE = 16, 8  # rows that are not timed


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All tasks, each with an equal share of the time that is left; done ones are taken from the parts file."""
    parts = _Parts(options.parts)
    until = time.monotonic() + 60 * options.minutes
    async with AsyncExitStack() as stack:

        async def opened(names: Sequence[str]) -> Session:
            session = carrara.session(engines=names, model=options.model)
            return await stack.enter_async_context(session)

        sessions = {name: await opened([name]) for name in options.engines}
        sessions |= {name: await opened(options.engines) for name in _routers(options)}
        rooms = {name: await session.open_engines() for name, session in sessions.items()}
        identity = {
            "engines": {name: rooms[name][name].fingerprint for name in options.engines},
            **{name: getattr(options, name) for name in ("rows", "dev_rows", "timed", "seed")},
            "contestants": list(sessions),
        }
        found: dict[str, Any] = {}
        for number, task in enumerate(options.tasks):
            known = parts.find({"task": task, **identity})
            if known is None:
                share_s = max(5.0, (until - time.monotonic()) / (len(options.tasks) - number))
                print(f"{task}: {share_s:.0f} s", file=sys.stderr, flush=True)
                known = await _task(options, sessions, task, share_s)
                parts.add({"task": task, **identity}, known)
            found[task] = known
        lines = {name: rooms[name][name].health().line for name in options.engines}
    return {"engines": lines, "tasks": found}


def _routers(options: argparse.Namespace) -> list[str]:
    return [AUTOMATIC, ROUTER] if options.automatic else [ROUTER]


async def _task(
    options: argparse.Namespace, sessions: Mapping[str, Session], task: str, share_s: float
) -> dict[str, Any]:
    workflow = load(PIPELINES / f"{task}.yaml").workflow
    [contract] = [step.contract for step in plan(workflow).steps if step.contract is not None]
    metric: Metric = "accuracy" if task in LABELS else "f1"
    alone = {name: (sessions[name], name, None) for name in options.engines}
    folder, begun = options.data / task, time.monotonic()
    await _warm(workflow, str(folder / "dev.jsonl"), sessions, options)
    dev = list(labelled(str(folder / "dev.jsonl"), options.dev_rows, options.seed))
    asked = await _answered(workflow, dev, alone, DEV_SHARE * share_s, options.timed)
    seen = {name: one.evaluation for name, one in asked.items()}
    made = fitted(workflow, seen, Target(metric, None))
    contestants: dict[str, Any] = dict(alone)
    if AUTOMATIC in sessions:
        contestants[AUTOMATIC] = (sessions[AUTOMATIC], None, AUTO)
    contestants[ROUTER] = (sessions[ROUTER], None, made.policy)
    for session, _, policy in (contestants[name] for name in _routers(options)):
        # The engines alone have seen these rows: the beginnings of their prompts are in their caches.
        await evaluate_records(workflow, dev, session, policy=policy, concurrency=AT_ONCE)
    test = labelled(str(folder / "test.jsonl"), options.rows, options.seed)
    left_s = share_s - (time.monotonic() - begun)
    results = await _answered(workflow, test, contestants, left_s, options.timed)
    marks = {name: [row.score for row in found.rows] for name, found in results.items()}
    two = max(options.engines[:2], key=lambda name: value_of(marks[name], metric))
    return {
        "metric": metric,
        "shape": shape_of(contract),
        "default_policy_takes": {
            name: _taken(one, AUTO.accepts(contract.kind)) for name, one in seen.items()
        },
        "calibration": {
            "rows": made.fitted_rows,
            "alone": {
                point.named: {"value": round(point.value, 4), "mean_ms": round(point.ms, 1)}
                for point in made.single
            },
            "chosen": {
                "engines": made.chosen.named,
                "value": round(made.chosen.value, 4),
                "coverage": round(made.chosen.coverage, 4),
                "mean_ms": round(made.chosen.ms, 1),
                "lead": round(made.chosen.lead, 4),
            },
            "policy": policy_tree(made.policy),
        },
        "better_of_two": two,
        "ahead_of_it_less_one_error": round(lead_over(marks[ROUTER], marks[two], metric), 4),
        "contestants": {name: _marks(found, metric) for name, found in results.items()},
    }


def _taken(found: Evaluation, accept: Accept) -> float:
    """The share of an engine's answers that would be taken from it, were another engine behind it."""
    taken = sum(
        not row.error
        and (row.confidence is None or row.confidence >= accept.overall)
        and all(sure >= accept.field for _, sure, _ in row.sure)
        for row in found.rows
    )
    return round(taken / max(1, len(found.rows)), 4)


async def _warm(
    workflow: Any, source: str, sessions: Mapping[str, Session], options: argparse.Namespace
) -> None:
    """A row that counts for nothing through every engine of every session: the first call of an engine compiles, and
    the beginning that all prompts of a task share is in the cache of a job from its second row on."""
    for name, session in sessions.items():
        for engine in [name] if name in options.engines else options.engines:
            row = labelled(source, 1, options.seed + 1)
            await evaluate_records(workflow, row, session, engine=engine, concurrency=1)


@dataclass
class _Answers:
    """What one contestant answered; of `rows` the first `timed` were asked alone. The others have the mean time of
    these."""

    asked: tuple[Session, str | None, Policy | None]
    rows: list[EvaluatedRow] = field(default_factory=list)
    timed: int = 0
    last: Evaluation | None = None

    async def ask(self, workflow: Any, records: Sequence[Record], at_once: int) -> None:
        session, engine, policy = self.asked
        self.last = await evaluate_records(
            workflow, records, session, engine=engine, policy=policy, concurrency=at_once
        )
        if at_once == 1:
            self.rows += self.last.rows
            self.timed += len(records)
        else:
            self.rows += [replace(row, ms=fmean(self.ms)) for row in self.last.rows]

    @property
    def ms(self) -> list[float]:
        return [row.ms for row in self.rows[: self.timed]]

    @property
    def evaluation(self) -> Evaluation:
        assert self.last is not None
        return replace(self.last, rows=self.rows)


async def _answered(
    workflow: Any,
    records: Iterable[Record],
    contestants: Mapping[str, tuple[Session, str | None, Policy | None]],
    seconds: float,
    timed: int,
) -> dict[str, _Answers]:
    """The rows answered by everybody until the time is up, half of it for the timed ones; at least two of those. Who
    begins changes from round to round."""
    begun, source = time.monotonic(), iter(records)
    found = {name: _Answers(asked) for name, asked in contestants.items()}
    names, number = list(contestants), 0
    while True:
        passed_s = time.monotonic() - begun
        alone = number < timed and (number < 2 or passed_s < seconds / 2)
        chunk = list(islice(source, 1 if alone else CHUNK))
        if not chunk or not (alone or passed_s < seconds):
            return found
        for name in names[number % len(names) :] + names[: number % len(names)]:
            await found[name].ask(workflow, chunk, 1 if alone else AT_ONCE)
        number = number + 1 if alone else max(number, timed) + 1


def _marks(found: _Answers, metric: Metric) -> dict[str, Any]:
    scores = [row.score for row in found.rows]
    count = max(1, len(scores))
    low, high = interval(scores, metric)
    by_engine: dict[str, int] = {}
    for row in found.rows:
        key = "+".join(row.engines) or "none"
        by_engine[key] = by_engine.get(key, 0) + 1
    return {
        "rows": len(scores),
        "value": round(value_of(scores, metric), 4),
        "interval": [round(low, 4), round(high, 4)],
        "parse_rate": round(sum(score.parsed for score in scores) / count, 4),
        "timed_rows": found.timed,
        "ms": spread(found.ms),
        "mean_ms": round(sum(found.ms) / max(1, found.timed), 1),
        "passes": round(sum(row.passes for row in found.rows) / count, 2),
        "tokens": round(sum(row.tokens for row in found.rows) / count, 2),
        "cost": round(sum(row.cost for row in found.rows), 6),
        "answered_by": by_engine,
    }


async def reasoning(options: argparse.Namespace) -> dict[str, Any]:
    """Where the default policy's rules send untagged rows, those of reasoning tasks mixed among the others. Scripted
    engines answer, for only the first choice counts."""
    draw = random.Random(options.seed)
    rows = [
        (task, record)
        for task in (*options.reasoning, *options.tasks)
        for record in labelled(
            str(options.data / task / "test.jsonl"), options.reasoning_rows, options.seed
        )
    ]
    draw.shuffle(rows)
    first: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Routed):
            first.append(event.engine)

    def reply(request: Request) -> str:
        output = request.output
        return output.options[0] if isinstance(output, Choice) else "Answer: 1"

    engines = {name: ScriptedEngine(name, reply) for name in options.engines}
    workflows = {task: load(PIPELINES / f"{task}.yaml").workflow for task, _ in rows}
    rules = replace(AUTO, choose="order", give_up_after=1_000_000)  # not what it learns of scripts
    found: dict[str, dict[str, int]] = {}
    async with carrara.session(engines=engines, listeners=[listen]) as session:
        for task, record in rows:
            first.clear()
            await evaluate_records(workflows[task], [record], session, policy=rules)
            counts = found.setdefault(task, {})
            counts[first[0]] = counts.get(first[0], 0) + 1
    last = "ar"
    return {
        "routed_to": {task: found[task] for task in sorted(found)},
        "reasoning_to_ar": _share(found, options.reasoning, last),
        "others_to_ar": _share(
            found, [task for task in options.tasks if task not in options.reasoning], last
        ),
    }


def _share(found: Mapping[str, Mapping[str, int]], tasks: Iterable[str], engine: str) -> Any:
    counts = [found[task] for task in tasks if task in found]
    rows = sum(sum(count.values()) for count in counts)
    return round(sum(count.get(engine, 0) for count in counts) / rows, 4) if rows else None


def summary(tasks: Mapping[str, Any], engines: Sequence[str]) -> dict[str, Any]:
    """The figures that the design asks for, as they are: against the better of diffusion and AR, and in times of AR."""
    first, second = engines[:2]
    per_task = {}
    for task, found in tasks.items():
        marks = found["contestants"]
        per_task[task] = {
            "loss_points": round(
                100 * (marks[found["better_of_two"]]["value"] - marks[ROUTER]["value"]), 2
            ),
            "speedup": _ratio(marks[second], marks[ROUTER]),
            f"{first}_speedup": _ratio(marks[second], marks[first]),
        }
    wins = [one["speedup"] for one in per_task.values() if one[f"{first}_speedup"] > 1]
    everywhere = [one["speedup"] for one in per_task.values()]
    losses = [one["loss_points"] for one in per_task.values()]
    shapes: dict[str, list[float]] = {}
    for found in tasks.values():
        shapes.setdefault(found["shape"], []).append(found["default_policy_takes"][first])
    return {
        "tasks": per_task,
        f"{first}_accepted_by_shape": {shape: _mean(shares) for shape, shares in shapes.items()},
        "tasks_within_half_a_point": sum(loss <= 0.5 for loss in losses),
        "mean_loss_points": _mean(losses),
        "mean_speedup_where_first_wins": _mean(wins),
        "mean_speedup": _mean(everywhere),
    }


def _mean(numbers: Sequence[float]) -> float | None:
    return round(sum(numbers) / len(numbers), 3) if numbers else None


def _ratio(slow: Mapping[str, Any], fast: Mapping[str, Any]) -> float:
    return round(slow["mean_ms"] / fast["mean_ms"], 3) if fast["mean_ms"] else 0.0


class _Parts:
    """What was measured by an earlier call that was cut off, by task and settings; a line of JSON each."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self.found = [json.loads(line) for line in lines]

    def find(self, identity: Mapping[str, Any]) -> Any:
        same = (part["found"] for part in self.found if part["identity"] == identity)
        return next(same, None)

    def add(self, identity: Mapping[str, Any], found: Any) -> None:
        self.found.append({"identity": dict(identity), "found": found})
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as lines:
                lines.write(json.dumps(self.found[-1]) + "\n")


__all__ = ["ROUTER", "measure", "reasoning", "summary"]
