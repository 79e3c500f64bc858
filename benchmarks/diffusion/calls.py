"""Parts 2 to 4: whole calls. Decoders take turns, so that a busy moment hits all of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.diffusion.bounded import Ended, at_once
from benchmarks.diffusion.decoders import Decoder, Told
from benchmarks.diffusion.timing import Budget, Taken, best
from benchmarks.diffusion.work import KINDS, Ask, chain, extractions
from carrara.engines.model.pace import Made

Keep = Callable[[dict[str, Any]], None]
"""Is given what there is so far, whenever there is more."""


async def asked(decoder: Decoder, asks: Sequence[Ask], seconds: float) -> Ended[Told]:
    """All at once; those that are answered within `seconds` count."""
    return await at_once((decoder.answer(ask) for ask in asks), seconds, decoder.cpu_s)


async def kinds(
    decoders: Sequence[Decoder],
    wanted: Sequence[str],
    rounds: int,
    batches: Sequence[int],
    seed: int,
    budget: Budget,
    keep: Keep,
) -> dict[str, Any]:
    """Milliseconds an answer and tokens a second of each `wanted` kind of call, by batch and decoder.

    `keep` is given what there is after every batch. A kind that no time is left for is not made ready, either.
    Decoders share the time that is left evenly; calls that have no answer by then are cancelled and counted.

    Every round asks what was not asked before; instructions are the same, so their prefix is cached by all.
    """
    found: dict[str, Any] = {}
    for kind in wanted:
        fresh = KINDS[kind](seed)
        for decoder, seconds in () if budget.is_spent else _turns(decoders, budget):
            await asked(decoder, [next(fresh)], seconds)  # scaffolds and caches are made once
        for batch in batches:
            if not budget.allows(what := f"{kind}, batch {batch}"):
                continue
            told: dict[str, list[Ended[Told]]] = {decoder.name: [] for decoder in decoders}
            for number in range(rounds):
                if number and budget.is_spent:
                    break
                asks = [next(fresh) for _ in range(batch)]
                for decoder, seconds in _turns(decoders, budget):
                    told[decoder.name].append(await asked(decoder, asks, seconds))
            lines = {
                name: _line(ended) for name, ended in told.items() if any(e.found for e in ended)
            }
            budget.left_out += [f"{what} with {name}" for name in told if name not in lines]
            found.setdefault(kind, {})[str(batch)] = lines | {"ratios": ratios(lines)}
            keep(found)
    return found | {"left_out": budget.left_out}


def _turns(decoders: Sequence[Decoder], budget: Budget) -> Iterator[tuple[Decoder, float]]:
    """Each decoder with its share of what is left when its turn comes, in seconds."""
    for number, decoder in enumerate(decoders):
        yield decoder, budget.share_s(len(decoders) - number)


def _line(rounds: Sequence[Ended[Told]]) -> dict[str, Any]:
    """What rounds came to in which there were answers."""
    rounds = [ended for ended in rounds if ended.found]
    told = [one for ended in rounds for one in ended.found]
    tokens = statistics.mean(one.tokens for one in told)
    line: dict[str, Any] = {
        **best([ended.each for ended in rounds]),
        "rounds": len(rounds),
        "cancelled": sum(ended.cancelled for ended in rounds),
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
    """How many times faster `base` is than each of the others, by both clocks; nothing where it has no line."""
    return {
        name: {
            clock: round(line[f"{clock}_ms"] / lines[base][f"{clock}_ms"], 2)
            for clock in ("wall", "cpu")
        }
        for name, line in lines.items()
        if name != base and base in lines
    }


async def chains(
    decoders: Sequence[Decoder], length: int, rounds: int, seed: int, budget: Budget, keep: Keep
) -> dict[str, Any]:
    """Dependent calls one after the other, extraction and classification in turn; milliseconds for all of them. A chain
    that does not end in time is left out."""
    times: dict[str, list[Taken]] = {}
    found: dict[str, Any] = {"calls": length}
    for number in range(rounds):
        if number and budget.is_spent:
            break
        for decoder, seconds in _turns(decoders, budget):
            asks = chain(seed + 100 * number, length)
            ended = await at_once([_chained(decoder, asks)], seconds, decoder.cpu_s)
            if ended.cancelled:
                budget.left_out.append(f"chain {number + 1} with {decoder.name}")
                continue
            times.setdefault(decoder.name, []).append(ended.took)
            lines = {name: best(took) | {"rounds": len(took)} for name, took in times.items()}
            found |= {"lines": lines, "ratios": ratios(lines)}
            keep(found)
    return found | {"left_out": budget.left_out}


async def _chained(decoder: Decoder, asks: Sequence[Ask]) -> str:
    """The last answer."""
    before = "none"
    for ask in asks:
        prompt = ask.prompt.replace("{before}", before)
        before = (await decoder.answer(Ask(ask.kind, prompt))).text
    return before


async def crowd(
    decoders: Sequence[Decoder], records: int, seed: int, budget: Budget, keep: Keep
) -> dict[str, Any]:
    """Many extractions at once: how many were answered in the decoder's share of the time, and how many were cancelled
    at its end. `keep` is given what there is after every decoder."""
    found: dict[str, Any] = {"records": records}
    for decoder, seconds in _turns(decoders, budget):
        if not budget.allows(f"{records} at once with {decoder.name}"):
            continue
        fresh = extractions(seed + 7)
        asks = [next(fresh) for _ in range(records)]
        before = decoder.made()
        ended = await asked(decoder, asks, seconds)
        found[decoder.name] = _throughput(ended) | _occupancy(decoder.made(), before)
        keep(found)
    return found | {"left_out": budget.left_out}


def _throughput(ended: Ended[Told]) -> dict[str, Any]:
    told, took = ended.found, ended.took
    prompts = sum(one.prompt_tokens for one in told)
    cached = sum(one.cached_tokens for one in told)
    return {
        "done": len(told),
        "cancelled": ended.cancelled,
        "took_s": round(took.wall_s, 2),
        "records_per_s": round(len(told) / took.wall_s, 3),
        "records_per_cpu_s": round(len(told) / max(took.cpu_s, 1e-9), 3),
        "tokens_per_s": round(sum(one.tokens for one in told) / took.wall_s, 1),
        "cached_share_of_prompts": round(cached / prompts, 3) if prompts else None,
    }


def _occupancy(now: Made | None, before: Made | None) -> dict[str, Any]:
    """How many answers the passes had in them, also those that were cancelled later."""
    if now is None or before is None:
        return {}
    made = now.since(before)
    each = round(made.requests / made.passes, 2) if made.passes else None
    return {"passes": made.passes, "answers_per_pass": each}
