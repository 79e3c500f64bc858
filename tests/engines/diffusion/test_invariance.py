"""An answer is the same alone, in any company and in any order: 200 random mixes against one engine.

Requests of all kinds come at random moments with random priorities, some are cancelled on the way, and now and then one
fails. Whoever stays gets the text, the passes and the confidences that it got alone.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from carrara.engines.contract import Choice, Column, Contract, Json, Outline, Regex, Table, Text
from carrara.engines.diffusion.batch import BatchLimits
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.diffusion.settings import Settings
from carrara.engines.errors import EngineFailed
from carrara.engines.local import LocalModel
from carrara.engines.request import (
    Completion,
    Draft,
    Limits,
    Message,
    Progress,
    Request,
    Sampling,
)

MIXES, TOGETHER = 200, 3
SETTINGS = Settings(block_tokens=32, text_block_tokens=8, threshold=0.3, slot_tokens=4)
PERSON = Json.of(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": ["integer", "null"]},
            "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}},
        },
        "required": ["name", "age", "tags"],
    }
)


def asked(contract: Contract, prompt: str, tokens: int = 40, **more: object) -> Request:
    return Request((Message("user", prompt),), contract, Limits(tokens), **more)  # type: ignore[arg-type]


def pool() -> list[Request]:
    """Every kind of request, with short and long prompts that partly begin alike."""
    mat = "the cat sat on the mat "
    warm = Sampling(temperature=1.2, top_p=0.9, seed=7)
    return [
        asked(PERSON, "the cat"),
        asked(PERSON, mat * 4),
        asked(PERSON, mat * 4 + "again"),
        asked(PERSON, "a warm one", sampling=warm),
        asked(PERSON, "a draft", draft=Draft('{"name": "ab", "age": 1, "tags": ["a"]}', ("/age",))),
        asked(Text(), "the cat", 7),
        asked(Text(), mat * 3, 12),
        asked(Text(), mat * 3 + "and sat", 9, sampling=warm),
        asked(Choice(("one", "two", "three")), "one of them"),
        asked(Choice(("one", "two", "three")), mat * 8),
        asked(Choice(tuple(f"label {n}" for n in range(20))), "many of them"),
        asked(Table((Column("a"), Column("n", "integer"))), "a table"),
        asked(Table((Column("a"), Column("n", "integer"))), mat * 2, 60),
        asked(Outline(), "an outline"),
        asked(Regex("[a-c]{3,9}"), "a pattern"),
        asked(Json.of({"type": "array", "items": {"type": "number"}}), mat, 30),
    ]


class NoAnswer(Exception):
    """What was cancelled, or made to fail."""


async def mixed(
    engine: DiffusionEngine, requests: list[Request], chance: random.Random, within: float
) -> None:
    """A few of the requests at random moments, and what comes of them compared with what they got alone."""

    async def one(request: Request) -> Completion | None:
        for _ in range(chance.randrange(8)):
            await asyncio.sleep(0)
        request = replace(request, priority=float(chance.randrange(-3, 4)))
        match chance.randrange(6):
            case 0:
                task = asyncio.create_task(engine.complete(request))
                for _ in range(chance.randrange(30)):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait((task,))
                return None
            case 1:

                def broken(progress: Progress) -> None:
                    raise NoAnswer("on purpose")

                with pytest.raises(EngineFailed, match="on purpose"):
                    await engine.complete(request, broken)
                return None
            case _:
                return await engine.complete(request)

    chosen = chance.choices(range(len(requests)), k=TOGETHER)
    found = await asyncio.gather(*(one(requests[number]) for number in chosen))
    for number, answer in zip(chosen, found, strict=True):
        if answer is not None:
            assert_same(answer, ALONE[number], within)


ALONE: dict[int, Completion] = {}


EXACT = {True: 0.0, None: 1e-5}
"""How far confidences may lie apart: sums of int8 products are the same in any shape, those of float32 all but."""


def assert_same(answer: Completion, alone: Completion, within: float) -> None:
    assert answer.text == alone.text
    assert (answer.stop, answer.usage.passes) == (alone.stop, alone.usage.passes)
    assert answer.usage.completion_tokens == alone.usage.completion_tokens
    assert answer.confidence.tokens == pytest.approx(alone.confidence.tokens, abs=within, rel=0)


@pytest.mark.parametrize(("quick", "passes"), [(True, 1), (None, 1), (True, 4)])
def test_200_mixes_of_requests_get_the_answers_that_each_got_alone(
    quick: bool | None, passes: int, tiny_folder: Path
) -> None:
    requests, chance = pool(), random.Random(20)

    async def main() -> int:
        local = LocalModel.open(
            tiny_folder, dtype=torch.float32, device="cpu", threads=1, quick=quick
        )
        limits = BatchLimits(rows=3, chunk=24, quiet_chunk=48)
        async with DiffusionEngine(local, settings=SETTINGS, limits=limits) as engine:
            for number, request in enumerate(requests):
                ALONE[number] = await engine.complete(request)
        limits = replace(limits, passes_per_sync=passes)
        async with DiffusionEngine(local, settings=SETTINGS, limits=limits) as engine:
            for _ in range(MIXES):
                await mixed(engine, requests, chance, EXACT[quick])
            assert "0 canvases, 0 waiting" in engine.health().line
        return len({alone.text for alone in ALONE.values()})

    assert asyncio.run(main()) >= len(requests) - 4  # they are different questions
