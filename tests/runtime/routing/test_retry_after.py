"""A server that says when to come again: a call waits so long, and is on the books once, however often it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from carrara.engines.errors import EngineBusy
from carrara.engines.remote.engine import RemoteEngine
from carrara.engines.remote.faults import placed
from carrara.engines.remote.keys import NO_KEY
from carrara.engines.request import Limits, Message, Usage
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import CalledOff, EngineAnswered, EngineCalled, Hedged, HedgeEnded
from carrara.runtime.limits import EngineGate, EngineLimits
from carrara.runtime.routing.answer import LlmCall, answer
from carrara.runtime.routing.budget import Spending
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import Budget, Hedge, Policy, Price, Rule
from carrara.runtime.single_flight import SingleFlight
from tests.engines.remote.conftest import PLAIN, Behaviour, Server, chat
from tests.engines.remote.conftest import answer as reply

PRICE = Price(prompt=1.0, completion=10.0)
ONCE = Spending(15, pytest.approx((12 + 3 * 10) / 1e6))
"""What `chat` says of its answer."""

CALL = LlmCall((Message("user", "y" * 40),), limits=Limits(max_tokens=100))
FULL = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}


def busy(wait_ms: int, status: int = 429) -> Behaviour:
    return reply(FULL, status, retry_after_ms=str(wait_ms))


def asked(
    context: Any,
    behaviours: list[Behaviour],
    work: Callable[[Callable[[], Any], Server], Awaitable[Any]],
    tokens: int = 10_000,
) -> tuple[Server, Router, list[Any]]:
    """`work(step, server)`, where `step()` is one more step of a run that asks the server the same."""
    policy = Policy(
        rules=(Rule(("far",)),), budget=Budget(tokens=tokens), prices={"far": PRICE}, break_s=1.0
    )
    router, asking = Router(policy), []
    shared = {"router": router, "single_flight": SingleFlight()}

    async def run() -> Server:
        async with Server(behaviours) as server:
            engine = RemoteEngine("far", PLAIN.but({"base_url": server.url}, "far"), key=NO_KEY)
            gates = {"far": EngineGate(EngineLimits())}

            def step() -> asyncio.Task[Any]:
                asking.append(context(engine, gates=gates, **shared))
                return asyncio.create_task(answer(CALL, asking[-1]))

            async with engine, asyncio.timeout(30):
                await work(step, server)
            return server

    return asyncio.run(run()), router, asking


@pytest.mark.parametrize("status", [429, 503])
def test_a_call_that_is_made_again_is_billed_once(context: Any, status: int) -> None:
    async def work(step: Any, server: Server) -> None:
        assert await step() == "fine"

    turns = [busy(20, status), busy(20, status), reply(chat("fine"))]
    server, router, (ctx,) = asked(context, turns, work)
    assert len(server.asked) == 3
    assert router.purse.spent == ONCE
    assert [event.usage for event in ctx.told(EngineAnswered)] == [Usage(12, 8, 3, 3)]
    assert ctx.told(CalledOff) == []


def test_who_comes_during_the_wait_shares_the_call_and_one_of_them_pays(context: Any) -> None:
    async def work(step: Any, server: Server) -> None:
        first = step()
        await server.came.wait()
        await asyncio.sleep(0.05)  # the refusal is there
        assert await asyncio.gather(first, step(), step()) == ["fine"] * 3

    server, router, asking = asked(context, [busy(200), reply(chat("fine"))], work)
    assert len(server.asked) == 2
    assert router.purse.spent == ONCE
    usages = [event.usage for ctx in asking for event in ctx.told(EngineAnswered)]
    assert sorted(usages, key=lambda usage: usage.prompt_tokens) == [
        Usage(),
        Usage(),
        Usage(12, 8, 3, 3),
    ]


def test_a_step_that_leaves_during_the_wait_pays_nothing(context: Any) -> None:
    async def work(step: Any, server: Server) -> None:
        first = step()
        await server.came.wait()
        await asyncio.sleep(0.05)
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first

    _, router, (ctx,) = asked(context, [busy(10_000)], work)
    assert router.purse.spent == Spending()
    assert ctx.told(CalledOff) == []


def test_nothing_is_reserved_for_a_call_that_waits(run_virtual: Any, context: Any) -> None:
    """Another engine's call takes the room meanwhile; the one that waited is let in behind it."""
    turns = iter([EngineBusy("full", retry_after_s=5.0)])

    async def far(_: Any) -> Any:
        return next(turns, "fine")

    async def near(_: Any) -> Any:
        await asyncio.sleep(1.0)
        return "fine"

    policy = Policy(rules=(Rule(("far",)),), budget=Budget(tokens=150))
    router = Router(policy)
    engines = ScriptedEngine("far", far), ScriptedEngine("near", near)

    async def timed(engine: str) -> float:
        ctx = context(*engines, router=router)
        call = LlmCall(CALL.messages, limits=CALL.limits, engine=engine)
        assert await answer(call, ctx) == "fine"
        return asyncio.get_running_loop().time()

    async def work() -> list[float]:
        return list(await asyncio.gather(timed("far"), timed("near")))

    assert run_virtual(work()) == pytest.approx([5.0, 1.0], abs=0.1)


def test_what_a_call_has_used_before_it_was_sent_away_counts(
    run_virtual: Any, context: Any
) -> None:
    cut = placed(EngineBusy("overloaded", retry_after_s=1.0), "far", "read")
    cut.usage = Usage(10, 0, 0)
    router = Router(Policy(rules=(Rule(("far",)),), prices={"far": PRICE}))
    ctx = context(ScriptedEngine("far", [cut, "fine"]), router=router)
    assert run_virtual(answer(CALL, ctx)) == "fine"
    assert [(event.tokens, event.broke) for event in ctx.told(CalledOff)] == [(10, True)]
    assert router.purse.spent.tokens == 10 + ctx.told(EngineAnswered)[0].usage.prompt_tokens + 1
    assert len(ctx.told(EngineCalled)) == 2


def test_a_call_that_waits_in_a_race_has_wasted_no_prompt(run_virtual: Any, context: Any) -> None:
    first = ScriptedEngine("diffusion", [EngineBusy("full", retry_after_s=9.0), "late"])

    async def second(_: Any) -> str:
        await asyncio.sleep(0.5)
        return "fine"

    policy = Policy(rules=(Rule(("diffusion", "ar")),), hedge=Hedge(after_s=1.0))
    ctx = context(first, ScriptedEngine("ar", second), router=Router(policy))
    assert run_virtual(answer(CALL, ctx)) == "fine"
    assert len(ctx.told(Hedged)) == 1
    assert [event.wasted_tokens for event in ctx.told(HedgeEnded)] == [0]
    assert ctx.told(CalledOff) == []
