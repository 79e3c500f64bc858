"""Numbers of a request that mean nothing are refused, by every engine and in the same words."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from carrara.engines.checks import check_numbers
from carrara.engines.errors import EngineRefused
from carrara.engines.request import Draft, Limits, Message, Request, Sampling
from carrara.engines.scripted import ScriptedEngine

HI = (Message("user", "hi"),)


@pytest.mark.parametrize(
    ("limits", "sampling", "reason"),
    [
        (Limits(0), Sampling(), "max_tokens is 0, it must be a whole number of at least 1"),
        (
            Limits(max_steps=0),
            Sampling(),
            "max_steps is 0, it must be a whole number of at least 1",
        ),
        (Limits(max_steps=-1), Sampling(), "max_steps is -1"),
        (Limits(), Sampling(-1), "temperature is -1, it must be a number of at least 0"),
        (Limits(), Sampling(float("nan")), "temperature is nan"),
        (Limits(), Sampling(float("inf")), "temperature is inf"),
        (Limits(), Sampling(1, top_p=0), "top_p is 0, it must be a number above 0 and at most 1"),
        (Limits(), Sampling(1, top_p=2), "top_p is 2"),
        (Limits(), Sampling(1, top_p=float("nan")), "top_p is nan"),
        (Limits(40.5), Sampling(), "max_tokens is 40.5, it must be a whole number"),  # type: ignore[arg-type]
        (Limits("9"), Sampling(), "max_tokens is '9', it must be a whole number"),  # type: ignore[arg-type]
        (Limits(True), Sampling(), "max_tokens is True"),
        (Limits(max_steps=2.5), Sampling(), "max_steps is 2.5"),  # type: ignore[arg-type]
        (
            Limits(deadline_s=float("nan")),
            Sampling(),
            "deadline_s is nan, it must be a finite number, or",
        ),
        (Limits(deadline_s="soon"), Sampling(), "deadline_s is 'soon'"),  # type: ignore[arg-type]
        (Limits(), Sampling("hot"), "temperature is 'hot'"),  # type: ignore[arg-type]
        (Limits(), Sampling(1, 1, 1.5), "seed is 1.5, it must be a whole number, or"),  # type: ignore[arg-type]
        (Limits(), Sampling(1, 1, "a"), "seed is 'a'"),  # type: ignore[arg-type]
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


@pytest.mark.parametrize("priority", [float("nan"), float("inf"), "x"])
def test_a_priority_is_a_number(priority: Any) -> None:
    with pytest.raises(EngineRefused, match=r"priority is .*, it must be a finite number"):
        check_numbers(Request(HI, priority=priority), "any")


@pytest.mark.parametrize("strength", [0, 2, float("nan"), "x", None])
def test_a_drafts_strength_is_a_share(strength: Any) -> None:
    with pytest.raises(EngineRefused, match=r"the draft's strength is .* above 0 and at most 1"):
        check_numbers(Request(HI, draft=Draft("x", strength=strength)), "any")


def test_usual_numbers_pass() -> None:
    check_numbers(Request(HI, limits=Limits(deadline_s=-1.0), priority=-3), "any")
    check_numbers(Request(HI, sampling=Sampling(1, 1, -5)), "any")
    for sampling in (Sampling(), Sampling(2.0, 0.1), Sampling(0, 1)):
        check_numbers(Request(HI, limits=Limits(1, 1), sampling=sampling), "any")
