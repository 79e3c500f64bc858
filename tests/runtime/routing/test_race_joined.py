"""Equal requests are made once, in races as well: a step that joins a call which hangs gets company as the one that
made it does."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from carrara.engines.contract import Choice
from carrara.engines.request import Completion, Message, Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.routing.answer import LlmCall, answer
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import Hedge, Policy, Rule
from carrara.runtime.single_flight import SingleFlight

YES = Choice(("yes", "no"))
Run = Callable[..., Any]


@pytest.mark.parametrize("later_s", [0.0, 0.5, 0.9, 1.2])
def test_a_step_that_joins_a_call_that_hangs_is_not_left_with_it(
    run_virtual: Run, context: Any, later_s: float
) -> None:
    async def hangs(request: Request) -> Any:
        await asyncio.sleep(1e6)
        return "no"

    async def answers(request: Request) -> Any:
        await asyncio.sleep(0.5)
        return "yes"

    a, b = ScriptedEngine("a", hangs, can=["choice"]), ScriptedEngine("b", answers, can=["choice"])
    policy = Policy(rules=(Rule(("a", "b")),), hedge=Hedge(after_s=1.0), scouts=9, choose="order")
    flights: SingleFlight[Completion] = SingleFlight()
    router = Router(policy)
    call = LlmCall((Message("user", "Say it."),), YES)
    asking = [context(a, b, router=router, single_flight=flights) for _ in range(3)]

    async def one(number: int) -> tuple[Any, float]:
        await asyncio.sleep(later_s * number)
        value = await answer(call, asking[number])
        return value, asyncio.get_running_loop().time() - later_s * number

    async def work() -> Any:
        return await asyncio.gather(*map(one, range(3)))

    for value, seconds in run_virtual(work()):
        assert value == "yes"
        assert seconds <= 1.5 + 1e-3
    assert a.in_flight == b.in_flight == 0
    assert router.purse._under_way == 0
