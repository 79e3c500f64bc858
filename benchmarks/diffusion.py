"""The diffusion engine on the embedded model: passes, tokens a pass, and milliseconds an answer at batch 1 and 4.

    python benchmarks/diffusion.py [--rounds 3] [--steps 8] [--model smollm2] [--threads N] [--dtype float32]

Prints one JSON object. A few extraction prompts go through all batch sizes in turn, round after round,
so that a busy moment hits all of them; each number is the best and the median over the rounds. "settled"
answers take as many passes as the model needs, "bounded" ones --steps at most. "canvas_ms" is the part
that needs no model: the scaffold of a new contract, and of one met before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import replace
from typing import Any

from benchmarks.machine import machine, versions
from carrara.engines.contract import Choice, Contract, Json
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.diffusion.prepare import CanvasMaker
from carrara.engines.diffusion.scaffold.compile import compiled
from carrara.engines.diffusion.scaffold.lexicon import Lexicon
from carrara.engines.diffusion.settings import PLAIN, Settings
from carrara.engines.local import LocalModel
from carrara.engines.request import Completion, Limits, Message, Request

BATCHES = (1, 4)
ADDRESS = {
    "type": "object",
    "properties": {
        key: {"type": ["string", "null"]}
        for key in ("number", "street", "unit", "city", "state", "zip")
    },
    "required": ["number", "street", "unit", "city", "state", "zip"],
}
ORDER = {
    "type": "object",
    "properties": {
        "customer": {"type": "string"},
        "day": {"type": "string", "format": "date"},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
                "required": ["name", "count"],
            },
        },
        "paid": {"type": "boolean"},
    },
    "required": ["customer", "day", "items", "paid"],
}
TASKS: dict[str, tuple[str, Contract]] = {
    "address": (
        "Extract number, street, unit, city, state and zip as JSON, null for what is not there.\n\n"
        "Text: 507 Sherman Avenue, Evanston, 60202",
        Json.of(ADDRESS),
    ),
    "order": (
        "Extract the order as JSON.\n\nText: On 3 May 2024 Anna Smith ordered two blocks of marble and "
        "one chisel. She paid in cash.",
        Json.of(ORDER),
    ),
    "choice": (
        "What is this about? Answer with one word of: cooking, building, weather.\n\n"
        "Text: The wall needs another row of bricks.",
        Choice(("cooking", "building", "weather")),
    ),
}


def asked(task: str, steps: int | None) -> Request:
    prompt, contract = TASKS[task]
    return Request((Message("user", prompt),), contract, Limits(200, max_steps=steps))


async def answered(
    engine: DiffusionEngine, task: str, batch: int, steps: int | None
) -> tuple[float, list[Completion]]:
    """Milliseconds an answer, and the answers, of `batch` equal requests at once."""
    begun = time.perf_counter()
    found = await asyncio.gather(*(engine.complete(asked(task, steps)) for _ in range(batch)))
    return (time.perf_counter() - begun) * 1000 / batch, list(found)


async def speeds(engine: DiffusionEngine, rounds: int, steps: int | None) -> dict[str, Any]:
    """Passes, tokens a pass and milliseconds an answer of each task at each batch size."""
    seen: dict[tuple[str, int], list[tuple[float, Completion]]] = {}
    for task in TASKS:
        await answered(engine, task, 1, steps)  # scaffold, prompt cache and memory are made once
    for _ in range(rounds):
        for task in TASKS:
            for batch in BATCHES:
                took, found = await answered(engine, task, batch, steps)
                seen.setdefault((task, batch), []).append((took, found[0]))
    report: dict[str, Any] = {task: {} for task in TASKS}
    for (task, batch), runs in seen.items():
        usage = runs[0][1].usage
        report[task]["passes"] = usage.passes
        report[task]["tokens"] = usage.completion_tokens
        report[task]["tokens_per_pass"] = round(usage.completion_tokens / max(1, usage.passes), 2)
        report[task][f"ms_per_answer_batch_{batch}"] = spread([took for took, _ in runs])
        report[task][f"ms_per_pass_batch_{batch}"] = spread(
            [took * batch / max(1, usage.passes) for took, _ in runs]
        )
    return report


def canvases(local: LocalModel, settings: Settings) -> dict[str, float]:
    """Milliseconds to the first view of a canvas: contract and tokenizer new, only the request new."""
    request = asked("order", None)
    compiled.cache_clear()
    maker = CanvasMaker.of(Lexicon(local.tokenizer))
    found = {}
    for name in ("new", "known"):
        begun = time.perf_counter()
        maker.canvas(request, settings).view()
        found[name] = round((time.perf_counter() - begun) * 1000, 2)
    return found


async def measured(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    dtype = getattr(torch, options.dtype) if options.dtype else None
    local = LocalModel.open(options.model, dtype=dtype, threads=options.threads)
    async with local:
        adapted = local.adapter is not None
        usual = Settings.of_adapter(local.adapter.folder) if local.adapter else PLAIN
        found: dict[str, Any] = {
            "model": local.line,
            "adapter": adapted,
            "machine": machine(await local.run(torch.get_num_threads)),
            "versions": versions("torch"),
            "rounds": options.rounds,
            "canvas_ms": await local.run(canvases, local, usual),
        }
        async with DiffusionEngine(local, settings=usual) as engine:
            found["bounded"] = await speeds(engine, options.rounds, options.steps)
        if adapted or options.settle:
            unbounded = replace(usual, most_steps=None)
            async with DiffusionEngine(local, settings=unbounded) as engine:
                found["settled"] = await speeds(engine, options.rounds, None)
        else:
            found["settled"] = "skipped: plain weights take over a hundred passes (--settle to see)"
    return found


def spread(values: list[float]) -> dict[str, float]:
    return {"best": round(min(values), 1), "median": round(statistics.median(values), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--dtype")
    parser.add_argument("--settle", action="store_true", help="run plain weights to the end too")
    print(json.dumps(asyncio.run(measured(parser.parse_args())), indent=2))


if __name__ == "__main__":
    main()
