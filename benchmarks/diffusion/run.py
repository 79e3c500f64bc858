"""The parts in order, each within its time, written down one by one."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from benchmarks.diffusion import calls
from benchmarks.diffusion.ahead import Texts, several_passes
from benchmarks.diffusion.calls import Keep
from benchmarks.diffusion.decoders import Decoder, Ours, llama_cpp
from benchmarks.diffusion.passes import Sizes, bandwidth, beside_ar, passes
from benchmarks.diffusion.shapes import SHAPES, random_model, scaled_down
from benchmarks.diffusion.timing import Budget, Results, machine
from benchmarks.diffusion.vllm_server import vllm
from benchmarks.diffusion.work import KINDS
from carrara.engines.autoregressive.local import AutoregressiveEngine
from carrara.engines.diffusion.engine import DiffusionEngine, default_limits
from carrara.engines.local import LocalModel
from carrara.engines.model.opening import dtype_name
from carrara.engines.weights.gguf_export import ensure_gguf

PARTS = ("calls", "chain", "crowd", "passes", "ahead", "shapes")

ASSUMED_TOKENS_PER_PASS = 12.0
"""Where calls were not measured before: about what six address fields take."""


EXACT = "diffusion, exact"
"""The same engine without int8 products, computing the whole canvas in every pass."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything. `part_s` seconds for each part; `scale` divides the 8B shapes, 1: as they are.
    `exact`: compare the exact engine, too. `per_sync`: passes before the host reads one, in free text of
    `text_tokens`."""

    parts: tuple[str, ...] = PARTS
    sizes: Sizes = field(default_factory=Sizes)
    shapes: tuple[str, ...] = tuple(SHAPES)
    scale: int = 1
    kinds: tuple[str, ...] = tuple(KINDS)
    batches: tuple[int, ...] = (1, 8, 32, 128)
    rounds: int = 3
    chain: int = 10
    records: int = 256
    part_s: float = 90.0
    copy_bytes: int = 1 << 30
    llama_kinds: tuple[str, ...] = ()
    exact: bool = False
    per_sync: tuple[int, ...] = (1, 2, 4, 8)
    text_tokens: int = 96


def plan_for(device: torch.device) -> Plan:
    """On a GPU everything; on a CPU small batches, scaled shapes, and llama.cpp beside our own."""
    if device.type == "cuda":
        return Plan()
    return Plan(
        sizes=Sizes(batches=(1, 4), prompts=(512,), repeats=3, inner=1),
        scale=8,
        batches=(1, 8),
        part_s=240.0,
        copy_bytes=1 << 28,
        llama_kinds=("q8_0", "q4_1"),
        per_sync=(1, 4),
        exact=True,
    )


async def measured(
    options: argparse.Namespace, plan: Plan, results: Results, local: LocalModel
) -> None:
    """Run the parts of `plan` on an open model. A part that fails leaves its error and the others go on."""
    copy = await local.run(bandwidth, local.device, plan.copy_bytes)
    here = await local.run(machine, local.device, options.seed)
    results.put("machine", {**here, "model": local.line, "copy_gb_per_s": round(copy / 1e9, 2)})
    for part in plan.parts:
        budget, begun = Budget(plan.part_s), time.monotonic()
        print(f"{part} …", file=sys.stderr, flush=True)
        kept: dict[str, Any] = {}

        def keep(now: dict[str, Any], part: str = part, kept: dict[str, Any] = kept) -> None:
            kept |= now
            results.put(part, kept)

        try:
            found = await _part(part, options, plan, local, copy, budget, results, keep)
        except Exception as error:
            found = kept | {"error": f"{type(error).__name__}: {error}"}
        load = round(os.getloadavg()[0], 1)
        seconds = round(time.monotonic() - begun, 1)
        results.put(part, found | {"seconds": seconds, "load": load})


async def _part(
    part: str,
    options: argparse.Namespace,
    plan: Plan,
    local: LocalModel,
    copy: float,
    budget: Budget,
    results: Results,
    keep: Keep,
) -> dict[str, Any]:
    settled = tokens_per_pass(results.found)
    if part == "passes":
        found = await local.run(passes, local.model, plan.sizes, copy, budget)
        keep(found)
        ar = await local.run(beside_ar, local.model, plan.batches, plan.sizes, settled, budget)
        return found | {"beside_ar": ar}
    if part == "shapes":
        return await local.run(_shapes, plan, local, copy, budget, settled, options.seed, keep)
    if part == "ahead":
        texts = Texts(plan.per_sync, plan.batches, plan.rounds, plan.text_tokens, options.seed)
        return await several_passes(local, texts, budget, keep)
    async with _decoders(local, plan, options, _slots(part, plan, local)) as decoders:
        budget.restart()
        match part:
            case "calls":
                before = results.found.get("calls", {})
                old = {kind: line for kind, line in before.items() if kind in KINDS}
                return old | await calls.kinds(
                    decoders,
                    plan.kinds,
                    plan.rounds,
                    plan.batches,
                    options.seed,
                    budget,
                    lambda now: keep(old | now),
                )
            case "chain":
                return await calls.chains(
                    decoders, plan.chain, plan.rounds, options.seed, budget, keep
                )
            case _:
                return await calls.crowd(decoders, plan.records, options.seed, budget, keep)


def _slots(part: str, plan: Plan, local: LocalModel) -> int:
    """How many calls at once the other decoders are made for: in the crowd at least as many as ours."""
    match part:
        case "chain":
            return 1
        case "crowd":
            return max(*plan.batches, default_limits(local).rows)
        case _:
            return max(plan.batches)


def _shapes(
    plan: Plan,
    local: LocalModel,
    copy: float,
    budget: Budget,
    settled: float,
    seed: int,
    keep: Keep,
) -> dict[str, Any]:
    found: dict[str, Any] = {"divided_by": plan.scale}
    dtype = torch.bfloat16 if local.device.type == "cuda" else local.dtype
    for name in plan.shapes:
        if not budget.allows(name):
            continue
        config = SHAPES[name] if plan.scale == 1 else scaled_down(SHAPES[name], plan.scale)
        model = random_model(config, local.device, dtype, seed)
        share = Budget(budget.seconds / len(plan.shapes))
        found[name] = passes(model, plan.sizes, copy, share)
        found[name]["beside_ar"] = beside_ar(model, plan.batches, plan.sizes, settled, share)
        keep(found)
        del model
        if local.device.type == "cuda":
            torch.cuda.empty_cache()
    return found | {"left_out": budget.left_out}


@asynccontextmanager
async def _decoders(
    local: LocalModel, plan: Plan, options: argparse.Namespace, slots: int
) -> AsyncIterator[list[Decoder]]:
    """Our engines on one model, llama.cpp and vLLM on the same weights."""
    threads = await local.run(torch.get_num_threads)
    async with AsyncExitStack() as stack:
        diffusion = await stack.enter_async_context(DiffusionEngine(local))
        ar = await stack.enter_async_context(AutoregressiveEngine(local))
        found: list[Decoder] = [
            Ours("diffusion", diffusion, drafted=True, pace=local.pace),
            Ours("ar", ar, pace=local.pace, kind="answer"),
        ]
        if plan.exact:
            slow = LocalModel.open(
                options.model, device=options.device, threads=options.threads, quick=False
            )
            settings = replace(diffusion.checked_settings(), canvas_refresh_passes=1)
            engine = DiffusionEngine(slow, settings=settings)
            await stack.enter_async_context(engine)
            found.append(Ours(EXACT, engine, drafted=True, pace=slow.pace))
        adapter = None if local.adapter is None else local.adapter.folder
        for kind in plan.llama_kinds:
            try:
                gguf = await asyncio.to_thread(ensure_gguf, options.model, adapter, kind)
                name = f"llama.cpp {kind}"
                found.append(await stack.enter_async_context(llama_cpp(gguf, name, threads, slots)))
            except ModuleNotFoundError as error:
                print(f"without llama.cpp: {error}", file=sys.stderr)
                break
        if options.vllm is not None:
            dtype = dtype_name(local.dtype)
            server = vllm(options.vllm, options.model, adapter, dtype, threads, slots)
            found.append(await stack.enter_async_context(server))
        yield found


def tokens_per_pass(found: dict[str, Any]) -> float:
    """What an extraction alone settled in each pass, as measured by the part "calls"."""
    try:
        return float(found["calls"]["extract"]["1"]["diffusion"]["tokens_per_pass"])
    except KeyError:
        return ASSUMED_TOKENS_PER_PASS
