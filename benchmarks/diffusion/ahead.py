"""Part 5: free text, with the host reading each pass and with several passes back to back (`passes_per_sync`).

The weights are those without an adapter, so the text is of no use; a pass takes as long as any other. Texts have no
end, so that all are as long. Blocks of 32 are settled in eight passes (`fixed_steps`) or by the threshold 0.9, and the
settings take turns.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.diffusion.timing import Budget, Taken, best
from carrara.engines.contract import Text
from carrara.engines.diffusion.engine import DiffusionEngine, default_limits
from carrara.engines.diffusion.settings import Settings
from carrara.engines.local import LocalModel
from carrara.engines.request import Completion, Limits, Message, Request, Rule

RULES = (Rule("fixed_steps", {"steps": 8}), Rule("threshold", {"threshold": 0.9}))
MOST_TOGETHER = 64


@dataclass(slots=True)
class _Line:
    """What one setting took: times, passes of the longest answer, round trips to the host, answers."""

    times: list[Taken] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)
    trips: list[int] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Texts:
    """What is written: `rounds` times texts of `tokens`, with each of the settings `per_sync`, by `batches` at once."""

    per_sync: Sequence[int]
    batches: Sequence[int]
    rounds: int
    tokens: int
    seed: int


async def several_passes(shared: LocalModel, texts: Texts, budget: Budget) -> dict[str, Any]:
    """Milliseconds a pass and round trips to the host, by rule, batch and setting; and how many answers differ from
    those of the first setting."""
    found: dict[str, Any] = {"tokens": texts.tokens}
    settings = Settings(text_block_tokens=32, rule=RULES[0])
    async with AsyncExitStack() as stack:
        local = await stack.enter_async_context(shared.without_adapter())
        engines = {}
        for passes in texts.per_sync:
            limits = replace(default_limits(local), passes_per_sync=passes)
            engine = DiffusionEngine(local, settings=settings, limits=limits)
            engines[passes] = _endless(await stack.enter_async_context(engine))
        for rule in RULES:
            for batch in [n for n in texts.batches if n <= MOST_TOGETHER]:
                if budget.allows(f"{rule.name}, batch {batch}"):
                    lines = await _lines(engines, rule, batch, texts, budget)
                    found.setdefault(rule.name, {})[str(batch)] = lines
    return found | {"left_out": budget.left_out}


async def _lines(
    engines: dict[int, DiffusionEngine], rule: Rule, batch: int, texts: Texts, budget: Budget
) -> dict[str, Any]:
    lines = {passes: _Line() for passes in engines}
    for number in range(-1, texts.rounds):  # what is recorded is, in a round that is not counted
        if number > 0 and budget.is_spent:
            break
        first = texts.seed + batch * number
        asked = [_request(rule, first + n, texts.tokens) for n in range(batch)]
        for passes, engine in engines.items():
            took, trips, answers = await _answers(engine, asked)
            if number >= 0:
                line = lines[passes]
                line.times.append(took)
                line.trips.append(trips)
                line.passes.append(max(one.usage.passes for one in answers))
                line.answers += [one.text for one in answers]
    [first_line, *_] = lines.values()
    return {str(passes): _told(line, first_line) for passes, line in lines.items()}


def _endless(engine: DiffusionEngine) -> DiffusionEngine:
    """The engine with a vocabulary in which nothing ends a text."""
    assert engine._open is not None
    engine._open.maker.lexicon.eos_ids = frozenset()
    return engine


def _told(line: _Line, first: _Line) -> dict[str, Any]:
    pairs = zip(line.answers, first.answers, strict=True)
    passes = statistics.mean(line.passes)
    return {
        **best(line.times),
        "passes": round(passes, 1),
        "ms_a_pass": round(min(t.wall_s for t in line.times) * 1000 / passes, 3),
        "trips": round(statistics.mean(line.trips), 1),
        "differ": sum(one != other for one, other in pairs),
        "answers": len(line.answers),
    }


async def _answers(
    engine: DiffusionEngine, asked: Sequence[Request]
) -> tuple[Taken, int, list[Completion]]:
    """All at once: how long it took, and in how many rounds. In each the loop goes to the model's thread and back."""
    before = engine.facts.occupancy
    wall, cpu = time.perf_counter(), time.process_time()
    found = list(await asyncio.gather(*map(engine.complete, asked)))
    took = Taken(time.perf_counter() - wall, time.process_time() - cpu)
    return took, engine.facts.occupancy.since(before).rounds, found


def _request(rule: Rule, number: int, tokens: int) -> Request:
    message = Message("user", f"Tell what happened on day {number} of the journey.")
    return Request((message,), Text(), Limits(tokens), rule=rule)
