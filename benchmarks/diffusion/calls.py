"""Parts 2 to 4: whole calls. Decoders take turns, so that a busy moment hits all of them."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.diffusion.decoders import Decoder, Told
from benchmarks.diffusion.timing import Budget, Taken, best
from benchmarks.diffusion.work import KINDS, Ask, chain, extractions
from carrara.engines.model.pace import Pace


async def asked(decoder: Decoder, asks: Sequence[Ask]) -> tuple[Taken, list[Told]]:
    """All at once, and how long until the last answer."""
    wall, cpu = time.perf_counter(), decoder.cpu_s()
    found = list(await asyncio.gather(*(decoder.answer(ask) for ask in asks)))
    return Taken(time.perf_counter() - wall, decoder.cpu_s() - cpu), found


async def kinds(
    decoders: Sequence[Decoder],
    wanted: Sequence[str],
    rounds: int,
    batches: Sequence[int],
    seed: int,
    budget: Budget,
    keep: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Milliseconds an answer and tokens a second of each `wanted` kind of call, by batch and decoder.

    `keep` is given what there is after every batch. A kind that no time is left for is not made ready, either.

    Every round asks what was not asked before; instructions are the same, so their prefix is cached by all.
    """
    found: dict[str, Any] = {}
    for kind in wanted:
        fresh = KINDS[kind](seed)
        for decoder in () if budget.is_spent else decoders:
            await asked(decoder, [next(fresh)])  # grammars, scaffolds and caches are made once
        for batch in batches:
            if not budget.allows(f"{kind}, batch {batch}"):
                continue
            times: dict[str, list[Taken]] = {decoder.name: [] for decoder in decoders}
            told: dict[str, list[Told]] = {decoder.name: [] for decoder in decoders}
            for number in range(rounds):
                if number and budget.is_spent:
                    break
                asks = [next(fresh) for _ in range(batch)]
                for decoder in decoders:
                    took, answers = await asked(decoder, asks)
                    times[decoder.name].append(took)
                    told[decoder.name] += answers
            lines = {name: _line(times[name], told[name], batch) for name in times}
            found.setdefault(kind, {})[str(batch)] = lines | {"ratios": ratios(lines)}
            keep(found)
    return found | {"left_out": budget.left_out}


def _line(times: list[Taken], told: list[Told], batch: int) -> dict[str, Any]:
    tokens = statistics.mean(one.tokens for one in told)
    line: dict[str, Any] = {
        **best(times, batch),
        "rounds": len(times),
        "tokens": round(tokens, 1),
        "prompt_tokens": round(statistics.mean(one.prompt_tokens for one in told), 1),
        "cached_tokens": round(statistics.mean(one.cached_tokens for one in told), 1),
    }
    line["tokens_per_s"] = round(tokens / line["wall_ms"] * 1000, 1)
    passes = [one.passes for one in told if one.passes is not None]
    if passes:
        line["passes"] = round(statistics.mean(passes), 2)
        line["tokens_per_pass"] = round(sum(one.tokens for one in told) / max(1, sum(passes)), 2)
    return line


def ratios(
    lines: dict[str, dict[str, Any]], base: str = "diffusion"
) -> dict[str, dict[str, float]]:
    """How many times faster `base` is than each of the others, by both clocks."""
    return {
        name: {
            clock: round(line[f"{clock}_ms"] / lines[base][f"{clock}_ms"], 2)
            for clock in ("wall", "cpu")
        }
        for name, line in lines.items()
        if name != base
    }


async def chains(
    decoders: Sequence[Decoder], length: int, rounds: int, seed: int, budget: Budget
) -> dict[str, Any]:
    """Dependent calls one after the other, extraction and classification in turn; milliseconds for all of them."""
    times: dict[str, list[Taken]] = {decoder.name: [] for decoder in decoders}
    for number in range(rounds):
        for decoder in decoders:
            if number and budget.is_spent:
                continue
            before, wall, cpu = "none", time.perf_counter(), decoder.cpu_s()
            for ask in chain(seed + 100 * number, length):
                prompt = ask.prompt.replace("{before}", before)
                before = (await decoder.answer(Ask(ask.kind, prompt))).text
            times[decoder.name].append(Taken(time.perf_counter() - wall, decoder.cpu_s() - cpu))
    lines = {name: best(found) | {"rounds": len(found)} for name, found in times.items()}
    return {"calls": length, "lines": lines, "ratios": ratios(lines)}


async def crowd(
    decoders: Sequence[Decoder], records: int, seed: int, pace: Pace, budget: Budget
) -> dict[str, Any]:
    """Many extractions at once. `pace` counts the denoising passes of our model, and the canvases in them."""
    found: dict[str, Any] = {"records": records}
    for decoder in decoders:
        if not budget.allows(f"{records} at once with {decoder.name}"):
            continue
        fresh = extractions(seed + 7)
        asks = [next(fresh) for _ in range(records)]
        before = pace.made("canvas")
        took, told = await asked(decoder, asks)
        line: dict[str, Any] = {
            "records_per_s": round(records / took.wall_s, 2),
            "records_per_cpu_s": round(records / max(took.cpu_s, 1e-9), 2),
            "tokens_per_s": round(sum(one.tokens for one in told) / took.wall_s, 1),
            "cached_share_of_prompts": round(
                sum(one.cached_tokens for one in told) / sum(one.prompt_tokens for one in told), 3
            ),
        }
        made = pace.made("canvas").since(before)
        if made.passes:
            line["passes"] = made.passes
            line["canvases_per_pass"] = round(made.places / made.passes, 2)
        found[decoder.name] = line
    return found | {"left_out": budget.left_out}
