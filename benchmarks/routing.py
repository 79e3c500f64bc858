"""What the router is worth: each engine alone, the default policy, and a calibrated one, on the same labelled rows.

    python -m benchmarks.routing --data FOLDER [--out benchmarks/results/routing.json] [--plot routing.png]

FOLDER holds TASK/dev.jsonl and TASK/test.jsonl for the pipelines of examples/tasks. For each of --tasks a policy is
fitted to dev rows (as `carrara calibrate` does, for the accuracy of the better engine), and all contestants answer
the same test rows, one at a time, so that times share nothing. Rows of --reasoning tasks are mixed in, untagged, to see
where the default policy sends them. --seconds bounds each task and contestant; what was done by then is a fair sample.
Prints one JSON object; accuracy is exact match for labels and field F1 for JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import carrara
from benchmarks.machine import machine, versions
from carrara.engines.contract import Choice
from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import Event, Routed
from carrara.runtime.routing.policy import AUTO, Policy
from carrara.workflows.calibration.calibrate import Calibrated, calibrate, policy_for
from carrara.workflows.calibration.fit import Metric, Target, choose, interval, value_of
from carrara.workflows.evaluate import evaluate_records
from carrara.workflows.evaluation import Evaluation, spread
from carrara.workflows.labelled import labelled
from carrara.workflows.session import Session
from carrara.workflows.yaml import load

PIPELINES = Path(__file__).resolve().parents[1] / "examples" / "tasks"
LABELS = ("clinc_domain", "clinc_intent", "banking77", "strategyqa_facts")


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All tasks, and where the reasoning rows went."""
    found: dict[str, Any] = {}
    async with carrara.session(engines=options.engines, model=options.model) as session:
        engines = await session.open_engines()
        for task in options.tasks:
            print(task, file=sys.stderr, flush=True)
            found[task] = await _task(options, session, task)
        lines = {name: engine.health().line for name, engine in engines.items()}
    reasoning = {task: await _sent(options, task) for task in options.reasoning}
    return {
        "machine": machine(options.threads),
        "versions": versions("torch", "llguidance"),
        "seed": options.seed,
        "engines": lines,
        "tasks": found,
        "reasoning": reasoning,
        "summary": _summary(found, reasoning, options.engines),
    }


async def _task(options: argparse.Namespace, session: Session, task: str) -> dict[str, Any]:
    workflow = load(PIPELINES / f"{task}.yaml").workflow
    metric: Metric = "accuracy" if task in LABELS else "f1"
    fitted = await calibrate(
        workflow,
        str(options.data / task / "dev.jsonl"),
        session,
        Target(metric, 1.0),  # unreachable: the most accurate setting is wanted, then the fastest
        engines=options.engines,
        limit=options.dev_rows,
        seed=options.seed,
        holdout=0.0,
    )
    policy = _fastest_as_good(fitted, workflow, metric, options.within)
    records = list(labelled(str(options.data / task / "test.jsonl"), options.rows, options.seed))
    contestants: list[tuple[str, str | None, Policy | None]] = [
        *((name, name, None) for name in options.engines),
        ("auto", None, AUTO),
        ("calibrated", None, policy),
    ]
    results = {}
    for name, engine, chosen in contestants:
        evaluation = await evaluate_records(
            workflow,
            records,
            session,
            engine=engine,
            policy=chosen,
            concurrency=1,
            seconds=options.seconds,
        )
        results[name] = _marks(evaluation, metric)
    return {"metric": metric, "policy": policy.name, "contestants": results}


def _fastest_as_good(fitted: Calibrated, workflow: Any, metric: Metric, within: float) -> Policy:
    """The fastest setting whose value is within `within` of the best single engine's on the dev rows."""
    best = max(point.value for point in fitted.single)
    chosen, _ = choose([*fitted.points, *fitted.single], Target(metric, best - within))
    return policy_for(chosen, workflow)


def _marks(found: Evaluation, metric: Metric) -> dict[str, Any]:
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
        "ms": spread([row.ms for row in found.rows]),
        "mean_ms": round(sum(row.ms for row in found.rows) / count, 1),
        "passes": round(sum(row.passes for row in found.rows) / count, 2),
        "tokens": round(sum(row.tokens for row in found.rows) / count, 2),
        "cost": round(sum(row.cost for row in found.rows), 6),
        "answered_by": by_engine,
    }


async def _sent(options: argparse.Namespace, task: str) -> dict[str, Any]:
    """Where the default policy sends untagged rows: to whom the first call goes. Scripted engines answer."""
    workflow = load(PIPELINES / f"{task}.yaml").workflow
    path = str(options.data / task / "test.jsonl")
    records = list(labelled(path, options.reasoning_rows, options.seed))
    routes: dict[str, int] = {}

    def listen(event: Event) -> None:
        if isinstance(event, Routed):
            routes[event.engine] = routes.get(event.engine, 0) + 1

    def reply(request: Request) -> str:
        output = request.output
        return output.options[0] if isinstance(output, Choice) else "Answer: 1"

    engines = {name: ScriptedEngine(name, reply) for name in options.engines}
    async with carrara.session(engines=engines) as session:
        await evaluate_records(workflow, records, session, policy=AUTO, listeners=[listen])
    return {"rows": sum(routes.values()), "routed_to": routes}


def _summary(
    tasks: Mapping[str, Any], reasoning: Mapping[str, Any], engines: Sequence[str]
) -> dict[str, Any]:
    """The figures that the design asks for, as they are."""
    first, last = engines[0], engines[-1]
    per_task = {}
    for task, found in tasks.items():
        marks = found["contestants"]
        best = max(marks[name]["value"] for name in engines)
        per_task[task] = {
            "loss_points": round(100 * (best - marks["calibrated"]["value"]), 2),
            "auto_loss_points": round(100 * (best - marks["auto"]["value"]), 2),
            "speedup": _ratio(marks[last], marks["calibrated"]),
            "auto_speedup": _ratio(marks[last], marks["auto"]),
            f"{first}_speedup": _ratio(marks[last], marks[first]),
        }
    wins = [found for found in per_task.values() if found[f"{first}_speedup"] > 1]
    rows = sum(found["rows"] for found in reasoning.values())
    to_ar = sum(found["routed_to"].get(last, 0) for found in reasoning.values())
    return {
        "tasks": per_task,
        "mean_speedup_where_first_wins": round(sum(f["speedup"] for f in wins) / len(wins), 3)
        if wins
        else None,
        "reasoning_to_last_share": round(to_ar / rows, 4) if rows else None,
    }


def _ratio(slow: Mapping[str, Any], fast: Mapping[str, Any]) -> float:
    return round(slow["mean_ms"] / fast["mean_ms"], 3) if fast["mean_ms"] else 0.0


def draw(found: Mapping[str, Any], out: Path) -> None:
    """Accuracy against time, a panel a task."""
    from matplotlib.figure import Figure

    tasks = found["tasks"]
    figure = Figure(figsize=(4 * len(tasks), 3.6), layout="constrained")
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axes, (task, marks) in zip(panels, tasks.items(), strict=True):
        for name, mark in marks["contestants"].items():
            low, high = mark["interval"]
            spread_ = [[mark["value"] - low], [high - mark["value"]]]
            axes.errorbar(
                mark["mean_ms"], mark["value"], yerr=spread_, fmt="o", capsize=3, label=name
            )
        axes.set_title(task)
        axes.set_xlabel("mean ms a row")
        axes.set_ylabel("field F1" if marks["metric"] == "f1" else "accuracy")
        axes.set_xlim(left=0)
    panels[0].legend()
    figure.savefig(out, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    tasks = ["us_address", "e2e_restaurant", "clinc_domain", "clinc_intent"]
    parser.add_argument("--tasks", nargs="*", default=tasks)
    parser.add_argument("--reasoning", nargs="*", default=["gsm8k", "strategyqa_facts"])
    parser.add_argument("--engines", nargs="+", default=["diffusion", "ar"])
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--dev-rows", type=int, default=60)
    parser.add_argument("--reasoning-rows", type=int, default=200)
    parser.add_argument("--within", type=float, default=0.0, help="of the better engine's value")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", default=None)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    found = asyncio.run(measure(options))
    text = json.dumps(found, indent=1)
    if options.out is not None:
        options.out.write_text(text + "\n")
    if options.plot is not None:
        draw(found, options.plot)
    print(text)


if __name__ == "__main__":
    main()
