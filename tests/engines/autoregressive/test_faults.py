"""Numbers that are none fail the answer that they belong to, and reach nobody after it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carrara.engines.autoregressive.local import AutoregressiveEngine
from carrara.engines.contract import Choice, Text
from carrara.engines.errors import EngineFailed
from carrara.engines.local import LocalModel
from carrara.engines.request import Limits, Message, Request
from carrara.engines.verified.engine import VerifiedEngine


def ask(prompt: str, contract: Any = None) -> Request:
    return Request((Message("user", prompt),), contract or Text(), Limits(12))


FEW = [ask("the town of an inn " * 3), ask("a name", Choice(("one", "two"))), ask("number")]
ODD = ask("~ the town of an inn and the other one and the town of an inn")


@pytest.mark.parametrize("kind", [AutoregressiveEngine, VerifiedEngine])
def test_an_answer_without_numbers_fails_alone_and_leaves_nothing_behind(
    kind: type[AutoregressiveEngine], tiny_folder: Path
) -> None:
    async def main() -> None:
        local = LocalModel.open(tiny_folder, dtype=torch.float32, device="cpu", threads=1)
        async with kind(local) as engine:
            [mark] = local.tokenizer.encode("~")
            here = [torch.zeros(0, dtype=torch.bool)]

            def notice(module: nn.Module, given: tuple[Tensor, ...]) -> None:
                here[0] = (given[0] == mark).any(1)

            def overflow(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
                return (given[0].masked_fill(here[0][:, None, None], torch.inf), *given[1:])

            async def texts(requests: list[Request]) -> list[str]:
                found = await asyncio.gather(
                    *map(engine.complete, requests), return_exceptions=True
                )
                return [f"{one}" if isinstance(one, Exception) else one.text for one in found]

            before = await texts(FEW)
            hooks = [
                local.model.register_forward_pre_hook(notice),
                local.model.layers[0].register_forward_pre_hook(overflow),
            ]
            for _ in range(2):
                *found, failed = await texts([*FEW, ODD])
                assert found == before
                assert failed == "the model gave no finite logits"
                assert await texts(FEW[::-1]) == before[::-1]
            with pytest.raises(EngineFailed) as caught:
                await engine.complete(ODD)
            assert caught.value.engine == engine.name
            for hook in hooks:
                hook.remove()
            assert "finite" not in (await engine.complete(ODD)).text

    asyncio.run(main())


@pytest.mark.parametrize("kind", [AutoregressiveEngine, VerifiedEngine])
def test_a_lost_device_fails_everybody_and_the_engine_says_that_it_is_down(
    kind: type[AutoregressiveEngine], tiny_folder: Path
) -> None:
    def lost(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    async def main() -> None:
        local = LocalModel.open(tiny_folder, dtype=torch.float32, device="cpu", threads=1)
        async with kind(local) as engine:
            handle = local.model.register_forward_pre_hook(lost)
            calls = map(engine.complete, FEW)
            for one in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(one, EngineFailed)
                assert "is down: the device was lost (CUDA error: an illegal memory" in str(one)
            handle.remove()
            assert not engine.health().ready
            assert "start the process again" in engine.health().line
            with pytest.raises(EngineFailed, match="is down"):
                await engine.complete(FEW[0])

    asyncio.run(main())
