"""Numbers of a request that mean nothing are refused, by every engine and in the same words."""

from __future__ import annotations

import asyncio

import pytest

from carrara.engines.checks import check_numbers
from carrara.engines.errors import EngineRefused
from carrara.engines.request import Limits, Message, Request, Sampling
from carrara.engines.scripted import ScriptedEngine

HI = (Message("user", "hi"),)


@pytest.mark.parametrize(
    ("limits", "sampling", "reason"),
    [
        (Limits(0), Sampling(), "max_tokens is 0, it must be at least 1"),
        (Limits(max_steps=0), Sampling(), "max_steps is 0, it must be at least 1"),
        (Limits(max_steps=-1), Sampling(), "max_steps is -1"),
        (Limits(), Sampling(-1), "temperature is -1, it must be 0"),
        (Limits(), Sampling(float("nan")), "temperature is nan"),
        (Limits(), Sampling(float("inf")), "temperature is inf"),
        (Limits(), Sampling(1, top_p=0), "top_p is 0, it must be above 0 and at most 1"),
        (Limits(), Sampling(1, top_p=2), "top_p is 2"),
        (Limits(), Sampling(1, top_p=float("nan")), "top_p is nan"),
    ],
)
def test_a_number_out_of_its_range_is_named(
    limits: Limits, sampling: Sampling, reason: str
) -> None:
    async def main() -> None:
        async with ScriptedEngine("script", ["yes"]) as engine:
            await engine.complete(Request(HI, limits=limits, sampling=sampling))

    with pytest.raises(EngineRefused, match=reason) as caught:
        asyncio.run(main())
    assert caught.value.engine == "script"


def test_usual_numbers_pass() -> None:
    for sampling in (Sampling(), Sampling(2.0, 0.1), Sampling(0, 1)):
        check_numbers(Request(HI, limits=Limits(1, 1), sampling=sampling), "any")
