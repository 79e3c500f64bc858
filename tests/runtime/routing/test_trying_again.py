"""The call that tries an engine which keeps failing: where it is sent away for a while, or hangs, nobody waits for it
without end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from carrara.engines.contract import Choice
from carrara.engines.errors import EngineBusy, EngineDown, EngineFailed
from carrara.engines.remote.faults import placed
from carrara.engines.request import Message
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.limits import EngineGate, EngineLimits
from carrara.runtime.routing.answer import LlmCall, answer
from carrara.runtime.routing.breaker import PATIENT, Breakers
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import Policy, Rule
from carrara.runtime.single_flight import SingleFlight

YES = Choice(("yes", "no"))
Run = Callable[..., Any]


def broken() -> Exception:
    return placed(EngineFailed("boom", engine="a"), "a", "wait", 500)


def call(text: str = "Say it.") -> LlmCall:
    return LlmCall((Message("user", text),), YES)


def failing(then: Callable[[int], Any]) -> tuple[ScriptedEngine, asyncio.Event]:
    """Five failures, and what comes `then`, by the number of the call from 1 on; when the first of those has come."""
    asked, is_tried = 0, asyncio.Event()

    async def reply(_: Any) -> Any:
        nonlocal asked
        asked += 1
        number = asked
        if number > 5:
            is_tried.set()
        await asyncio.sleep(0.05)
        found = broken() if number <= 5 else then(number - 5)
        return await found if asyncio.iscoroutine(found) else found

    return ScriptedEngine("a", reply, can=["choice"]), is_tried


LIMITS = [
    None,
    EngineLimits(concurrency=1),
    EngineLimits(concurrency=4),
    EngineLimits(concurrency=4, requests_per_s=10),
    EngineLimits(concurrency=4, tokens_per_min=6000),
]


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("different", [1, 2, 40])
def test_equal_calls_that_come_while_it_is_put_off_are_all_answered(
    run_virtual: Run, context: Any, limits: EngineLimits | None, different: int
) -> None:
    def then(number: int) -> Any:
        return EngineBusy("full", engine="a", retry_after_s=0.3) if number <= 3 else "yes"

    (engine, _), flights = failing(then), SingleFlight()
    router = Router(Policy(rules=(Rule(("a",)),), break_s=2.0))
    gates = {} if limits is None else {"a": EngineGate(limits)}

    async def step(number: int) -> Any:
        await asyncio.sleep(0.15 * number)
        ctx = context(engine, router=router, single_flight=flights, gates=gates)
        return await answer(call(f"Say {number % different}."), ctx)

    async def work() -> Any:
        async with asyncio.timeout(60):
            return await asyncio.gather(*map(step, range(40)))

    assert run_virtual(work()) == ["yes"] * 40
    assert router.purse._under_way == 0


def test_who_waits_for_a_call_that_hangs_is_told_that_the_engine_is_down(
    run_virtual: Run, context: Any
) -> None:
    def then(_: int) -> Any:
        return asyncio.sleep(1e6, "yes")

    engine, is_tried = failing(then)
    router = Router(Policy(rules=(Rule(("a",)),), break_s=2.0))

    def step(text: str) -> asyncio.Task[Any]:
        return asyncio.create_task(answer(call(text), context(engine, router=router)))

    async def work() -> float:
        first = step("One.")
        await is_tried.wait()
        with pytest.raises(EngineDown, match="failed 5 times in a row"):
            await step("Another.")
        first.cancel()
        await asyncio.wait([first])
        return asyncio.get_running_loop().time()

    # the first call has failed after 0.05 s
    assert run_virtual(work()) == pytest.approx(0.05 + PATIENT * 2.0, abs=0.01)


def test_who_takes_over_the_call_that_tries_the_engine_tells_how_it_ended(
    run_virtual: Run, context: Any
) -> None:
    """And no other tries it meanwhile."""

    async def late() -> Any:
        await asyncio.sleep(3.0)
        return broken()

    engine, is_tried = failing(lambda number: late() if number == 1 else "yes")
    flights, router = SingleFlight(), Router(Policy(rules=(Rule(("a",)),), break_s=30.0))

    def step(text: str) -> asyncio.Task[Any]:
        ctx = context(engine, router=router, single_flight=flights)
        return asyncio.create_task(answer(call(text), ctx))

    async def work() -> None:
        first = step("One.")
        await is_tried.wait()
        heir, other = step("One."), step("Another.")
        await asyncio.sleep(0.1)
        first.cancel()
        await asyncio.sleep(1.0)
        assert len(engine.requests) == 6
        assert await asyncio.gather(heir, other) == ["yes", "yes"]

    run_virtual(work())


def test_a_call_that_was_put_off_leaves_the_next_try_to_who_comes_first() -> None:
    found = Breakers()
    found.failed("a", 0.0, 1)
    assert found.asked("a")
    found.put_off("a", 1.0, 40.0)
    assert found.pause_s("a", 2.0, 30.0) == 39.0
    assert found.objection("a", 40.0, 30.0)
    assert found.pause_s("a", 41.0, 30.0) == 0.0
    assert found.objection("a", 41.0, 30.0) is None
    assert found.asked("a")


def test_a_server_that_breaks_is_tried_again_when_it_asks_for_that(
    run_virtual: Run, context: Any
) -> None:
    """And no later than `max_wait_s`."""

    async def work(asked_s: float) -> float:
        error = placed(EngineFailed("boom", engine="a"), "a", "wait", 500)
        error.retry_after_s = asked_s
        engine = ScriptedEngine("a", [error, "yes"], can=["choice"])
        ctx = context(engine, router=Router(Policy(rules=(Rule(("a",)),), max_wait_s=10.0)))
        assert await answer(call(), ctx) == "yes"
        return asyncio.get_running_loop().time()

    assert run_virtual(work(7.0)) == pytest.approx(7.0)
    assert run_virtual(work(3600.0)) == pytest.approx(10.0)
