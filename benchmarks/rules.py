"""Commit rules beside each other on labelled rows: passes, tokens a pass, marks and confidence. Prints one JSON object.

    python -m benchmarks.rules [--data FOLDER] [--split dev] [--rows 36] [--out benchmarks/results/rules.json]
    python -m benchmarks.rules --small --rules "threshold, threshold 0.9, gates 0.5"
    python -m benchmarks.rules --table benchmarks/results/rules.json

The embedded model with its adapter, one engine after the other on the same weights and the same rows, drawn by --seed.
Without --data the sample rows of the examples are taken; FOLDER holds TASK/SPLIT.jsonl. With --out a run goes on where
an earlier one with the same settings stopped. Nothing here depends on how busy the machine is, so seconds are not
reported. --table prints the table of docs/diffusion.md.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

import carrara
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.diffusion.rule_table import written
from carrara.engines.diffusion.settings import PLAIN, Settings
from carrara.engines.local import LocalModel
from carrara.engines.request import Completion, Request, Rule, Watch
from carrara.workflows.evaluate import evaluate
from carrara.workflows.yaml import load

PIPELINES = Path(__file__).resolve().parents[1] / "examples" / "tasks"
TASKS = ("us_address", "e2e_restaurant")
RULES: tuple[Rule, ...] = (
    *(Rule("threshold", {"threshold": value, "gates": 0}) for value in (0.9, 0.7, 0.5)),
    Rule("threshold", {"threshold": 0.9, "gates": 0.5}),
    Rule("fixed_steps", {"steps": 4}),
    Rule("factor", {"factor": 1.0}),
    Rule("entropy_bounded", {"bound": 0.5}),
    Rule("credit", {"threshold": 0.9}),
    Rule("prophet", {"steps": 8}),
    Rule("klass", {"threshold": 0.6, "history": 1}),
    Rule("edit", {"threshold": 0.7}),
)


class Counting(DiffusionEngine):
    """The engine, keeping count of what it answered."""

    def __init__(self, local: LocalModel, settings: Settings) -> None:
        super().__init__(local, settings=settings)
        self.answers: list[Completion] = []

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        answer = await super().complete(request, watch)
        self.answers.append(answer)
        return answer


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    local = LocalModel.open(
        options.model,
        adapter=options.adapter,
        threads=options.threads,
        quick=True if options.small else None,
    )
    async with local:
        usual = Settings.of_adapter(local.adapter.folder) if local.adapter else PLAIN
        report = {
            "measures": "commit rules of the diffusion engine",
            "model": local.line + (", small copies for canvases" if options.small else ""),
            "fingerprint": local.fingerprint,
            "settings": usual.data,
            "data": "sample rows" if options.data is None else options.split,
            "rows": options.rows,
            "seed": options.seed,
            "machine": machine(),
            "versions": {name: importlib.metadata.version(name) for name in ("carrara", "torch")},
            "found": [],
        }
        found = report["found"] = earlier(options.out, report)
        for rule in rules(options.rules):
            for task, rows in tasks(options):
                key = {"task": task, "rule": written(rule)}
                if any(key.items() <= one.items() for one in found):
                    continue
                print(f"{task}: {name_of(rule)}", file=sys.stderr, flush=True)
                marks = await measured(options, local, replace(usual, rule=rule), task, rows)
                found.append({**key, **marks})
                if options.out is not None:
                    options.out.write_text(json.dumps(report, indent=1) + "\n")
    return report


def earlier(out: Path | None, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an earlier run found with the same model, settings and rows."""
    if out is None or not out.exists():
        return []
    before = json.loads(out.read_text())
    same = all(before.get(key) == value for key, value in report.items() if key != "found")
    return list(before["found"]) if same else []


async def measured(
    options: argparse.Namespace, local: LocalModel, settings: Settings, task: str, rows: Path
) -> dict[str, Any]:
    engine = Counting(local, settings)
    async with carrara.session(engines={"diffusion": engine}) as session:
        whole = await evaluate(
            load(PIPELINES / f"{task}.yaml").workflow,
            str(rows),
            session,
            limit=options.rows,
            seed=options.seed,
            concurrency=16,
            engine="diffusion",
        )
    answers, marks = engine.answers, whole.summary()
    passes = sum(one.usage.passes for one in answers)
    decided = sum(len(one.confidence.tokens) for one in answers)
    sure = [one.confidence.overall for one in answers if one.confidence.overall is not None]
    calibration = marks["calibration"]["all_fields"] or {}
    return {
        "rows": len(whole.rows),
        "failed": marks["failed"],
        "passes_per_row": round(passes / max(1, len(answers)), 2),
        "tokens_per_pass": marks["tokens_per_pass"],
        "decided_tokens_per_pass": round(decided / max(1, passes), 2),
        "field_f1": marks["field_f1"],
        "exact_match": marks["exact_match"],
        "mean_confidence": round(fmean(sure), 4) if sure else None,
        "auroc_of_fields": calibration.get("auroc"),
    }


def tasks(options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    for task in options.tasks:
        if options.data is None:
            yield task, PIPELINES / "data" / f"{task}.jsonl"
        else:
            yield task, options.data / task / f"{options.split}.jsonl"


def rules(names: Sequence[str]) -> Iterator[Rule]:
    return (rule for rule in RULES if not names or rule.name in names or name_of(rule) in names)


def name_of(rule: Rule) -> str:
    return ", ".join([rule.name, *(f"{key} {value:g}" for key, value in rule.parameters.items())])


def machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }


def table(report: Mapping[str, Any]) -> str:
    """Markdown: a line for each rule, its columns for each task."""
    found = report["found"]
    names = list(dict.fromkeys(one["task"] for one in found))
    columns = [f"{task}: {what}" for task in names for what in ("passes", "tokens a pass", "F1")]
    lines = [f"| {' | '.join(['rule', *columns])} |", f"|{' --- |' * (1 + len(columns))}"]
    by_rule: dict[str, dict[str, Mapping[str, Any]]] = {}
    for one in found:
        rule = dict(one["rule"])
        by_rule.setdefault(name_of(Rule(rule.pop("name"), rule)), {})[one["task"]] = one
    for name, of_tasks in by_rule.items():
        cells = [_cells(of_tasks[task]) if task in of_tasks else "- | - | -" for task in names]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(one: Mapping[str, Any]) -> str:
    return f"{one['passes_per_row']:.1f} | {one['tokens_per_pass']:.1f} | {one['field_f1']:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a folder of labelled rows, TASK/SPLIT.jsonl")
    parser.add_argument("--out", type=Path, help="write the JSON here")
    parser.add_argument("--table", type=Path, help="print the table of such a file instead")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument(
        "--rules", nargs="+", default=[], help="these alone, by name with or without parameters"
    )
    parser.add_argument("--small", action="store_true", help="canvas passes in int8 (or float8)")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--rows", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default="smollm2", help="a name of `carrara models` or a folder")
    parser.add_argument("--adapter", default="auto", help="a folder, or the embedded one")
    options = parser.parse_args()
    if options.table is not None:
        print(table(json.loads(options.table.read_text())))
        return
    print(json.dumps(asyncio.run(measure(options)), indent=1))


if __name__ == "__main__":
    main()
