"""What the router is worth: on labelled rows beside each engine alone, and under a faulty server.

    python -m benchmarks.routing --data FOLDER [--part tasks reasoning faults] [--out benchmarks/results]

FOLDER holds TASK/dev.jsonl and TASK/test.jsonl for the pipelines of examples/tasks. tasks: a policy is fitted to dev
rows of each task as `carrara calibrate --target accuracy=best` does (as good as the best engine alone, then the
fastest), and each engine alone and the router answer the same test rows, the first of them one at a time; --minutes
bounds all of it. reasoning: rows of reasoning tasks are mixed in, untagged; where does the default policy send them?
faults: a server on loopback that fails a fifth of its calls and stalls one in twenty.

Prints one JSON object, and writes routing.json, routing.png and routing_faults.json to the folder --out. A call that
was cut off goes on from there (routing.parts.jsonl). Accuracy is exact match for labels and field F1 for JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import routing_faults, routing_tasks
from benchmarks.machine import machine, versions

TASKS = (
    "clinc_domain",
    "clinc_intent",
    "banking77",
    "us_address",
    "ner_biomedical",
    "ner_emerging",
    "e2e_restaurant",
    "film_record",
    "citation",
)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The parts that are asked for, by name; written as they come."""
    about = {
        "machine": machine(options.threads),
        "versions": versions("torch", "llguidance", "xllamacpp", "httpx2"),
        "seed": options.seed,
    }
    found: dict[str, Any] = {}
    if "faults" in options.part:
        faults = asyncio.run(routing_faults.measure(options.records, options.usual_s, options.seed))
        found["faults"] = about | faults
        _write(options, "routing_faults.json", found["faults"])
    table: dict[str, Any] = {}
    if "reasoning" in options.part:
        table["reasoning"] = asyncio.run(routing_tasks.reasoning(options))
    if "tasks" in options.part:
        table |= asyncio.run(routing_tasks.measure(options))
        table["summary"] = routing_tasks.summary(table["tasks"], options.engines)
        if options.out is not None:
            draw(table["tasks"], options.out / "routing.png")
    if table:
        found["table"] = about | table
        _write(options, "routing.json", found["table"])
    return found


def _write(options: argparse.Namespace, name: str, found: Mapping[str, Any]) -> None:
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / name).write_text(json.dumps(found, indent=1) + "\n")


def draw(tasks: Mapping[str, Any], out: Path) -> None:
    """Accuracy against time, a panel a task."""
    from matplotlib.figure import Figure

    across = min(3, len(tasks))
    down = -(-len(tasks) // across)
    figure = Figure(figsize=(4 * across, 3.2 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flat
    for axes, (task, marks) in zip(panels, tasks.items(), strict=False):
        for name, mark in marks["contestants"].items():
            low, high = mark["interval"]
            spread = [[max(0.0, mark["value"] - low)], [max(0.0, high - mark["value"])]]
            shape = "*" if name == routing_tasks.ROUTER else "o"
            axes.errorbar(
                mark["mean_ms"], mark["value"], yerr=spread, fmt=shape, capsize=3, label=name
            )
        axes.set_title(f"{task}, {mark['rows']} rows")
        axes.set_xlabel("mean ms a row")
        axes.set_ylabel("field F1" if marks["metric"] == "f1" else "accuracy")
        axes.set_xlim(left=0)
        axes.legend(fontsize="small")
    for axes in list(figure.axes)[len(tasks) :]:
        axes.set_visible(False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("tasks", "reasoning", "faults")
    parser.add_argument("--part", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--data", type=Path, help="the folder of the labelled rows")
    parser.add_argument("--out", type=Path, help="the folder to write to")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--reasoning", nargs="+", default=["gsm8k", "strategyqa_facts"])
    parser.add_argument("--engines", nargs="+", default=["diffusion", "ar", "llamacpp"])
    parser.add_argument("--automatic", action="store_true", help="the default policy, too")
    parser.add_argument("--rows", type=int, default=150, help="of a task, if the time suffices")
    parser.add_argument("--dev-rows", type=int, default=100)
    parser.add_argument("--timed", type=int, default=12, help="of them, asked one at a time")
    parser.add_argument("--reasoning-rows", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=15.0, help="for all tasks together")
    parser.add_argument("--records", type=int, default=400, help="for the faulty server")
    parser.add_argument("--usual-s", type=float, default=0.5, help="its median time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", default=None)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    return parser


def main() -> None:
    parser = arguments()
    options = parser.parse_args()
    if options.data is None and options.part != ["faults"]:
        parser.error("--data: a folder with TASK/dev.jsonl and TASK/test.jsonl")
    options.parts = None if options.out is None else options.out / "routing.parts.jsonl"
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    print(json.dumps(measure(options), indent=1))


if __name__ == "__main__":
    main()
