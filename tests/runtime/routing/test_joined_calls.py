"""Steps that share one call: each keeps its own deadline, each tells of the call, and any number of them may leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from carrara.engines.contract import Choice
from carrara.engines.errors import EngineFailed
from carrara.engines.facts import REMOTE, EngineFacts
from carrara.engines.remote.engine import RemoteEngine
from carrara.engines.remote.keys import NO_KEY
from carrara.engines.request import Limits, Message, Request, Sampling
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import EngineAnswered, EngineCalled
from carrara.runtime.explain import stories
from carrara.runtime.limits import EngineGate, EngineLimits
from carrara.runtime.routing.accept import Accept, Agreement
from carrara.runtime.routing.answer import AnswerTimeout, LlmCall, answer
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import Hedge, Policy, Rule
from carrara.runtime.single_flight import SingleFlight
from tests.engines.remote.conftest import PLAIN, Asked, Server, chat
from tests.engines.remote.conftest import answer as reply

YES = Choice(("yes", "no"))
JOINED = "; joined an equal request under way"
Run = Callable[..., Any]


def call(deadline_s: float | None = None, text: str = "Say it.") -> LlmCall:
    return LlmCall((Message("user", text),), YES, limits=Limits(deadline_s=deadline_s))


def remote(reply: Any) -> ScriptedEngine:
    return ScriptedEngine("far", reply, can=["choice"], facts=EngineFacts(device=REMOTE))


def after(seconds: float, said: Any) -> Any:
    async def wait(_: Request) -> Any:
        await asyncio.sleep(seconds)
        return said

    return wait


def test_each_step_leaves_at_its_own_deadline_and_the_call_goes_on(context: Any) -> None:
    async def work() -> None:
        is_out = asyncio.Event()

        async def held(asked: Asked, writer: asyncio.StreamWriter) -> None:
            await is_out.wait()
            await reply(chat("yes"))(asked, writer)

        router, flights = Router(Policy(rules=(Rule(("far",)),), break_after=1)), SingleFlight()
        async with Server([held]) as server, asyncio.timeout(30):
            preset = PLAIN.but({"base_url": server.url}, "far")
            async with RemoteEngine("far", preset, key=NO_KEY) as engine:

                def step(deadline_s: float | None) -> asyncio.Task[Any]:
                    ctx = context(engine, router=router, single_flight=flights)
                    return asyncio.create_task(answer(call(deadline_s), ctx))

                first = step(0.3)
                await server.came.wait()
                others = [step(25.0), step(None)]
                with pytest.raises(AnswerTimeout, match=r"within its deadline of 0\.3 s"):
                    await first
                is_out.set()
                assert await asyncio.gather(*others) == ["yes", "yes"]
        assert len(server.asked) == 1
        assert router.breakers.in_a_row("far") == 0

    asyncio.run(work())


def test_a_call_that_all_have_left_by_their_deadlines_is_taken_back(
    run_virtual: Run, context: Any
) -> None:
    engine, router, flights = remote(after(60.0, "yes")), Router(), SingleFlight()

    async def step(deadline_s: float) -> float:
        with pytest.raises(AnswerTimeout):
            await answer(call(deadline_s), context(engine, router=router, single_flight=flights))
        return asyncio.get_running_loop().time()

    async def work() -> list[float]:
        return list(await asyncio.gather(step(2.0), step(5.0), step(3.0)))

    assert run_virtual(work()) == pytest.approx([2.0, 5.0, 3.0])
    assert (len(engine.requests), engine.in_flight) == (1, 0)
    assert router.breakers.in_a_row("far") == 0


@pytest.mark.parametrize("apart_s", [0.0, 0.01])
def test_second_calls_of_equal_steps_are_made_once(
    run_virtual: Run, context: Any, apart_s: float
) -> None:
    engine, flights = remote(after(1.0, "yes")), SingleFlight()
    router = Router(Policy(rules=(Rule(("far",)),), hedge=Hedge(after_s=0.3)))

    async def step(number: int) -> Any:
        await asyncio.sleep(apart_s * number)
        return await answer(call(), context(engine, router=router, single_flight=flights))

    async def work() -> Any:
        return await asyncio.gather(*map(step, range(50)))

    assert run_virtual(work()) == ["yes"] * 50
    assert (len(engine.requests), engine.in_flight) == (2, 0)
    assert router.purse._under_way == 0


def test_a_step_draws_each_of_its_drafts_itself(run_virtual: Run, context: Any) -> None:
    engine, behind = remote(after(1.0, "yes")), ScriptedEngine("behind", "no", can=["choice"])
    accept = Accept(0.0, agreement=Agreement(drafts=3))
    policy = Policy(rules=(Rule(("far", "behind")),), accept={"choice": accept})
    shared = {"router": Router(policy), "single_flight": SingleFlight()}
    ctx = context(engine, behind, **shared)
    assert run_virtual(answer(call(), ctx)) == "yes"
    assert [one.sampling for one in engine.requests] == [
        Sampling(),
        *(Sampling(0.7, seed=seed) for seed in (1, 2)),
    ]


def test_any_number_of_steps_may_leave_a_call_one_after_the_other(
    run_virtual: Run, context: Any
) -> None:
    engine, router, flights = remote(after(1.0, "yes")), Router(), SingleFlight()
    gates = {"far": EngineGate(EngineLimits(concurrency=1))}

    def step(text: str) -> asyncio.Task[Any]:
        ctx = context(engine, router=router, single_flight=flights, gates=gates)
        return asyncio.create_task(answer(call(text=text), ctx))

    async def work() -> None:
        other = step("Another.")
        steps = [step("Say it.") for _ in range(1500)]
        await asyncio.sleep(0.5)
        for one in steps[:1400]:
            one.cancel()
        assert await other == "yes"
        assert await asyncio.gather(*steps[1400:]) == ["yes"] * 100

    run_virtual(work())
    assert (len(engine.requests), router.purse._under_way) == (2, 0)


def test_the_story_of_a_step_names_the_call_that_it_joined_whatever_came_of_it(
    run_virtual: Run, context: Any
) -> None:
    flights, router = SingleFlight(), Router(Policy(rules=(Rule(("far",)),), max_attempts=1))
    broken = remote(after(1.0, EngineFailed("broken", engine="far")))
    failed = [context(broken, router=router, single_flight=flights) for _ in range(2)]
    whole = remote(after(1.0, "yes"))
    heirs = [context(whole, router=Router(), single_flight=flights) for _ in range(2)]
    gone = context(whole, router=Router(), single_flight=flights)

    async def work() -> None:
        await asyncio.gather(*(answer(call(), ctx) for ctx in failed), return_exceptions=True)
        steps = [asyncio.create_task(answer(call(), ctx)) for ctx in (*heirs, gone)]
        await asyncio.sleep(0.5)
        for one in (steps[0], steps[2]):
            one.cancel()
        assert await steps[1] == "yes"

    run_virtual(work())
    for ctx in (failed[1], heirs[1], gone):
        assert [event.reason.endswith(JOINED) for event in ctx.told(EngineCalled)] == [True]
        (story,) = stories(ctx.events)
        assert any(line.endswith(JOINED) for line in story.lines())
    assert heirs[1].told(EngineAnswered)[0].usage.completion_tokens == 1, "it pays for the call"


def test_a_step_that_left_before_the_call_was_made_tells_nothing_more(
    run_virtual: Run, context: Any
) -> None:
    engine, router, flights = remote(after(1.0, "yes")), Router(), SingleFlight()
    gates = {"far": EngineGate(EngineLimits(concurrency=1))}
    asking = [context(engine, router=router, single_flight=flights, gates=gates) for _ in range(4)]

    async def work() -> None:
        texts = ("Another.", "Say it.", "Say it.", "Say it.")
        steps = [
            asyncio.create_task(answer(call(text=text), ctx))
            for text, ctx in zip(texts, asking, strict=True)
        ]
        await asyncio.sleep(0.5)
        for one in steps[1:3]:
            one.cancel()
        assert (await steps[0], await steps[3]) == ("yes", "yes")

    run_virtual(work())
    assert [len(ctx.told(EngineCalled)) for ctx in asking] == [1, 0, 0, 1]
    assert not asking[3].told(EngineCalled)[0].reason.endswith(JOINED), "it made the call"
