"""Answers out of recorded passes are those of plain ones, alone and in company."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from carrara.engines.contract import Choice, Contract, Json, Text
from carrara.engines.diffusion import canvas_pass
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.diffusion.settings import Settings
from carrara.engines.local import LocalModel
from carrara.engines.request import Completion, Limits, Message, Request

SETTINGS = Settings(block_tokens=48, threshold=0.3, slot_tokens=6)
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
CONTRACTS: tuple[Contract, ...] = (Json.of(PERSON), Text(), Choice(("one", "two", "three")))


class Recorder:
    def __init__(self) -> None:
        self.replayed = 0

    def __call__(self, compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        result = compute().clone()

        def replay() -> None:
            self.replayed += 1
            result.copy_(compute())

        return replay, result


def test_canvases_of_which_little_is_computed_share_a_pass_with_whole_ones(
    tiny_folder: Path,
) -> None:
    alone, together = (answers(tiny_folder, company, 9) for company in (False, True))
    assert [one.text for one in alone] == [one.text for one in together]


def answers(folder: Path, together: bool, refresh: int) -> list[Completion]:
    async def main() -> list[Completion]:
        local = LocalModel.open(folder, dtype=torch.float32, device="cpu", threads=1, quick=False)
        asked = [
            Request((Message("user", f"the cat {number}"),), contract, Limits(60))
            for number in range(4)
            for contract in CONTRACTS
        ]
        async with DiffusionEngine(
            local, settings=replace(SETTINGS, canvas_refresh_passes=refresh)
        ) as engine:
            if together:
                return list(await asyncio.gather(*map(engine.complete, asked)))
            return [await engine.complete(one) for one in asked]

    return asyncio.run(main())


@pytest.mark.parametrize("refresh", [1, 9])
@pytest.mark.parametrize("together", [False, True])
def test_recorded_passes_give_the_answers_of_plain_ones(
    tiny_folder: Path, together: bool, refresh: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = answers(tiny_folder, together, refresh)
    recorder = Recorder()
    monkeypatch.setattr(canvas_pass, "recorder", lambda device: recorder)
    found = answers(tiny_folder, together, refresh)
    assert recorder.replayed > 3

    def told(one: Completion) -> tuple[Any, ...]:
        return one.text, one.usage.passes, pytest.approx(one.confidence.tokens, rel=1e-3)

    assert [(o.text, o.usage.passes, o.confidence.tokens) for o in found] == [
        told(one) for one in plain
    ]
