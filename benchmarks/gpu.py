"""One short run on a GPU: the whole benchmark of the diffusion engine, and a profile of one pass. Needs no network.

    python -m benchmarks.gpu --out FOLDER [--minutes 8] [--model smollm2] [--wheel WHEEL] [--vllm PYTHON]

Leaves FOLDER/diffusion_gpu.json, written part by part, and FOLDER/profile.txt (torch profiler, one recorded and one
plain pass). Every part has its share of the minutes and stops by itself, and what comes last is what matters least.
`--wheel` is the model's wheel, where the machine cannot fetch it. Without a GPU it rehearses with tiny sizes.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.diffusion.__main__ import SMALL
from benchmarks.diffusion.passes import one_pass
from benchmarks.diffusion.run import Plan, measured, plan_for
from benchmarks.diffusion.timing import Results
from carrara.engines.local import LocalModel
from carrara.engines.model.llama import Llama
from carrara.engines.weights import store
from carrara.engines.weights.catalog import Card

ORDER = ("passes", "ahead", "calls", "shapes", "chain", "crowd")
SHARES = {"passes": 0.15, "ahead": 0.1, "calls": 0.2, "shapes": 0.25, "chain": 0.05, "crowd": 0.1}
"""Of the minutes. Loading, recording and the profile take the rest."""


def main() -> None:
    options = arguments().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.wheel is not None:
        store.pull(options.model, fetch=_carried(options.wheel))
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    options.device = str(device)
    results = Results(options.out / "diffusion_gpu.json", {})
    begun = time.monotonic()
    found = asyncio.run(run(options, plan(device), results))
    (options.out / "profile.txt").write_text(found, encoding="utf-8")
    print(f"{options.out}: done in {time.monotonic() - begun:.0f} s", file=sys.stderr)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--wheel", type=Path)
    parser.add_argument("--device")
    parser.add_argument(
        "--vllm",
        type=Path,
        metavar="PYTHON",
        help="an interpreter that has vLLM: compare with it, too",
    )
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=1)
    return parser


def plan(device: torch.device) -> Plan:
    return plan_for(device) if device.type == "cuda" else SMALL


async def run(options: argparse.Namespace, whole: Plan, results: Results) -> str:
    """The profile first, for it is short, then all parts, each with its share of what is left."""
    end = time.monotonic() + 60 * options.minutes
    local = LocalModel.open(options.model, device=options.device, threads=options.threads)
    async with local:
        profiled = await local.run(profile, local.model)
        (options.out / "profile.txt").write_text(profiled, encoding="utf-8")
        for number, part in enumerate(ORDER):
            left = end - time.monotonic()
            if left < 5:
                results.put(part, {"error": "no time was left for it"})
                continue
            share = SHARES[part] / sum(SHARES[other] for other in ORDER[number:])
            seconds = min(whole.part_s, 0.9 * left * share)
            await measured(options, replace(whole, parts=(part,), part_s=seconds), results, local)
    return profiled


def profile(model: Llama) -> str:
    """Where one pass of batch 1 over a canvas of 64 spends its time, plain and as it is used."""
    found = []
    for recorded in (False, True):
        work, buckets = one_pass(model, 1, 64, 128, 64, recorded)
        for _ in range(3):
            work()
        name = f"recorded ({buckets.recorded} graphs)" if recorded else "plain"
        found.append(f"# {name}\n{_profiled(work, model.device)}")
    return "\n\n".join(found)


def _profiled(work: Callable[[], None], device: torch.device) -> str:
    kinds = [torch.profiler.ProfilerActivity.CPU]
    order = "self_cpu_time_total"
    if device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
        order = "self_device_time_total"
    with torch.profiler.profile(activities=kinds) as seen:
        work()
    return str(seen.key_averages().table(sort_by=order, row_limit=25, max_name_column_width=60))


def _carried(wheel: Path) -> store.Fetch:
    def carried(card: Card, folder: Path, say: store.Say) -> Path:
        return Path(shutil.copyfile(wheel, folder / wheel.name))

    return carried


if __name__ == "__main__":
    main()
