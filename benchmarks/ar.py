"""Speed of the engine "ar" on the embedded model: tokens a second by batch, prompts, and the prefix
cache.

    python benchmarks/ar.py [--rounds 3] [--tokens 64] [--model smollm2] [--threads N] [--dtype float32]

Prints one JSON object. Every number is the best and the median over the rounds, which go through all
sizes in turn, so that a busy moment hits all of them. Decoding counts the time in which all requests of
a batch write; prompts count from the call to the first token; JSON is a whole constrained answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from typing import Any

from benchmarks.machine import machine, versions
from carrara.engines.autoregressive.local import AutoregressiveEngine
from carrara.engines.contract import Json
from carrara.engines.local import LocalModel
from carrara.engines.request import Limits, Message, Progress, Request, Sampling

BATCHES = (1, 2, 4, 8, 16)
PROMPT_TOKENS = (128, 512)
WORDS = (
    "marble",
    "quarry",
    "statue",
    "block",
    "dust",
    "chisel",
    "road",
    "cart",
    "snow",
    "white",
    "bell",
)
SCHEMA = Json.of(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 40},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "married": {"type": "boolean"},
            "city": {"anyOf": [{"type": "string", "maxLength": 40}, {"type": "null"}]},
        },
        "required": ["name", "age", "married", "city"],
    }
)


def text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(words))


def request(content: str, most: int, **options: Any) -> Request:
    return Request((Message("user", content),), limits=Limits(max_tokens=most), **options)


async def decode_speed(
    engine: AutoregressiveEngine, batch: int, most: int, draw: random.Random
) -> float:
    """Tokens a second of `batch` requests while all of them write (warm: greedy ones would end early)."""
    seen: list[list[tuple[float, int]]] = [[] for _ in range(batch)]

    async def one(number: int) -> None:
        def watch(progress: Progress) -> None:
            seen[number].append((time.perf_counter(), progress.step))

        sampling = Sampling(temperature=1.0, seed=draw.randrange(1 << 30))
        asked = request(f"Write a long story about {text(draw, 6)}.", most, sampling=sampling)
        await engine.complete(asked, watch)

    await asyncio.gather(*(one(number) for number in range(batch)))
    begin, end = max(shown[0][0] for shown in seen), min(shown[-1][0] for shown in seen)
    inside = [[step for at, step in shown if begin <= at <= end] for shown in seen]
    return sum(steps[-1] - steps[0] for steps in inside if steps) / (end - begin)


async def prompt_speed(
    engine: AutoregressiveEngine, tokens: int, draw: random.Random
) -> dict[str, float]:
    """Prompt tokens a second, for a prompt never seen and for the same one with another ending."""
    prompt = text(draw, tokens)
    seconds = {}
    for name, ending in (("cold", "one"), ("cached", "two")):
        begun = time.perf_counter()
        found = await engine.complete(request(f"{prompt} {ending}", 1))
        seconds[name] = found.usage.prompt_tokens / (time.perf_counter() - begun)
    return seconds


async def json_speed(engine: AutoregressiveEngine) -> dict[str, float]:
    """A constrained answer: its tokens a second, and how many of them each pass writes."""
    begun = time.perf_counter()
    asked = request("Extract: Anna Smith, 34, is married and lives in Berlin.", 80, output=SCHEMA)
    found = await engine.complete(asked)
    seconds = time.perf_counter() - begun
    passes = found.usage.passes + 1
    return {
        "seconds": seconds,
        "tokens_per_s": found.usage.completion_tokens / seconds,
        "tokens_per_pass": found.usage.completion_tokens / passes,
    }


async def measured(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    dtype = getattr(torch, options.dtype) if options.dtype else None
    local = LocalModel.open(options.model, dtype=dtype, threads=options.threads)
    draw = random.Random(options.seed)
    decoded: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    prompts: dict[int, list[dict[str, float]]] = {tokens: [] for tokens in PROMPT_TOKENS}
    constrained = []
    async with AutoregressiveEngine(local) as engine:
        await decode_speed(engine, 2, 8, draw)  # the first pass of each kind allocates
        await json_speed(engine)
        for _ in range(options.rounds):
            for batch in BATCHES:
                decoded[batch].append(await decode_speed(engine, batch, options.tokens, draw))
            for tokens in PROMPT_TOKENS:
                prompts[tokens].append(await prompt_speed(engine, tokens, draw))
            constrained.append(await json_speed(engine))
        line = local.line
        threads = await local.run(torch.get_num_threads)
    return {
        "model": line,
        "machine": machine(threads),
        "versions": versions("torch"),
        "seed": options.seed,
        "rounds": options.rounds,
        "decode_tokens_per_s": {batch: spread(found) for batch, found in decoded.items()},
        "prompt_tokens_per_s": {
            tokens: {name: spread([one[name] for one in found]) for name in found[0]}
            for tokens, found in prompts.items()
        },
        "json": {name: spread([one[name] for one in constrained]) for name in constrained[0]},
    }


def spread(values: list[float]) -> dict[str, float]:
    return {"best": round(max(values), 2), "median": round(statistics.median(values), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--tokens", type=int, default=64, help="answer tokens of each request, 32 or more"
    )
    parser.add_argument("--model", default="smollm2", help="a name or a folder")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default=None)
    parser.add_argument("--seed", type=int, default=0)
    print(json.dumps(asyncio.run(measured(parser.parse_args())), indent=2))


if __name__ == "__main__":
    main()
