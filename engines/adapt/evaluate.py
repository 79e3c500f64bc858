"""Decoding labelled rows with what was trained, by the diffusion engine as it will be used."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carrara.engines.adapt.recipe import Method
from carrara.engines.adapt.rows import Row
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.diffusion.settings import Settings
from carrara.engines.errors import EngineError
from carrara.engines.json_values import json_equal
from carrara.engines.local import LocalModel
from carrara.engines.request import Completion, Limits, Request

_MOST_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Decoded:
    row: Row
    completion: Completion | None
    seconds: float


def decode_rows(
    base: Path, out: Path, method: Method, rows: Sequence[Row]
) -> dict[str, dict[str, float]]:
    """For each task: the shares of answers that are exactly right and of leaves of the right value that were found,
    the passes and seconds an answer took, and how many answers there are."""
    found = asyncio.run(_decode(base, out, method, rows))
    tasks: dict[str, list[Decoded]] = {}
    for decoded in found:
        tasks.setdefault(decoded.row.task, []).append(decoded)
    return {task: _numbers(answers) for task, answers in sorted(tasks.items())}


async def _decode(base: Path, out: Path, method: Method, rows: Sequence[Row]) -> list[Decoded]:
    source, adapter = (base, out) if method == "lora" else (out, None)
    local = LocalModel.open(source, adapter=adapter)
    async with DiffusionEngine(local, settings=Settings.of_adapter(out)) as engine:
        return [await _one(engine, row) for row in rows]


async def _one(engine: DiffusionEngine, row: Row) -> Decoded:
    most = min(_MOST_TOKENS, engine.context_tokens // 2)
    request = Request(row.messages, row.contract, Limits(max_tokens=most))
    begun = time.monotonic()
    try:
        completion = await engine.complete(request)
    except EngineError:
        return Decoded(row, None, time.monotonic() - begun)
    return Decoded(row, completion, time.monotonic() - begun)


def _numbers(answers: Sequence[Decoded]) -> dict[str, float]:
    right = sum(_is_right(answer) for answer in answers)
    wanted, found = 0, 0
    for answer in answers:
        gold = list(leaves(answer.row.value))
        said = list(leaves(answer.completion.value)) if answer.completion else []
        wanted += len(gold)
        found += sum(leaf in said for leaf in gold)
    passes = [a.completion.usage.passes for a in answers if a.completion]
    return {
        "rows": len(answers),
        "answered": len(passes),
        "exact": round(right / len(answers), 4),
        "leaves": round(found / max(1, wanted), 4),
        "passes": round(sum(passes) / max(1, len(passes)), 2),
        "seconds": round(sum(a.seconds for a in answers) / len(answers), 3),
    }


def _is_right(answer: Decoded) -> bool:
    return answer.completion is not None and json_equal(answer.completion.value, answer.row.value)


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every leaf of a JSON value with its path; nulls are left out, texts are lower case."""
    match value:
        case None:
            return
        case Mapping():
            for key, part in value.items():
                yield from leaves(part, (*path, str(key)))
        case list():
            for number, part in enumerate(value):
                yield from leaves(part, (*path, number))
        case str():
            yield (*path, " ".join(value.lower().split()))
        case _:
            yield (*path, value)
