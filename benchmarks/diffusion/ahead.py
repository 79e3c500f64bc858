"""Part 5: free text, with the host reading each pass and with several passes back to back (`passes_per_sync`).

The weights are those without an adapter, so the text is of no use; a pass takes as long as any other. Texts have no
end, so that all are as long. Blocks of 32 are settled in eight passes (`fixed_steps`) or by the threshold 0.9, and the
settings take turns.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.diffusion.bounded import Ended, at_once
from benchmarks.diffusion.calls import Keep
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


async def several_passes(
    shared: LocalModel, texts: Texts, budget: Budget, keep: Keep
) -> dict[str, Any]:
    """Milliseconds a pass and round trips to the host, by rule, batch and setting; and how many answers differ from
    those of the first setting. A round that does not end in time is left out."""
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
                if not budget.allows(what := f"{rule.name}, batch {batch}"):
                    continue
                lines = await _lines(engines, rule, batch, texts, budget)
                if not lines:
                    budget.left_out.append(what)
                    continue
                found.setdefault(rule.name, {})[str(batch)] = lines
                keep(found)
    return found | {"left_out": budget.left_out}


async def _lines(
    engines: dict[int, DiffusionEngine], rule: Rule, batch: int, texts: Texts, budget: Budget
) -> dict[str, Any]:
    """The settings beside each other, nothing if no round ended in time."""
    lines = {passes: _Line() for passes in engines}
    for number in range(-1, texts.rounds):  # what is recorded is, in a round that is not counted
        if number > 0 and budget.is_spent:
            break
        first = texts.seed + batch * number
        asked = [_request(rule, first + n, texts.tokens) for n in range(batch)]
        found = [await _answers(engine, asked, budget.left_s) for engine in engines.values()]
        if any(ended.cancelled for ended, _ in found):
            break
        if number < 0:
            continue
        for line, (ended, trips) in zip(lines.values(), found, strict=True):
            line.times.append(ended.took)
            line.trips.append(trips)
            line.passes.append(max(one.usage.passes for one in ended.found))
            line.answers += [one.text for one in ended.found]
    [first_line, *_] = lines.values()
    if not first_line.times:
        return {}
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
    engine: DiffusionEngine, asked: Sequence[Request], seconds: float
) -> tuple[Ended[Completion], int]:
    """All at once, and in how many rounds. In each the loop goes to the model's thread and back."""
    before = engine.facts.occupancy
    ended = await at_once((engine.complete(request) for request in asked), seconds)
    return ended, engine.facts.occupancy.since(before).rounds


def _request(rule: Rule, number: int, tokens: int) -> Request:
    message = Message("user", f"Tell what happened on day {number} of the journey.")
    return Request((message,), Text(), Limits(tokens), rule=rule)
