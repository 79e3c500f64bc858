"""When an engine in a race is late: each call by itself, and before it is made where the engine asked for a pause."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from carrara.engines.contract import Choice
from carrara.engines.errors import EngineBusy
from carrara.engines.facts import EngineFacts
from carrara.engines.request import Completion, Message, Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import EngineCalled, Hedged
from carrara.runtime.limits import EngineGate, EngineLimits
from carrara.runtime.routing.accept import Accept, Agreement, Judge
from carrara.runtime.routing.answer import LlmCall, answer
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.lap import Lap
from carrara.runtime.routing.lateness import LOOK_S, lateness
from carrara.runtime.routing.policy import Hedge, Policy, Rule
from tests.runtime.routing.conftest import after

YES = Choice(("yes", "no"))
RULES = (Rule(("a", "b")),)
Run = Callable[..., Any]


def in_turn(*replies: Any) -> Any:
    left = iter(replies)

    async def reply(request: Request) -> Any:
        return await next(left)(request)

    return reply


def engine(name: str, reply: Any) -> ScriptedEngine:
    return ScriptedEngine(name, reply, can=["choice"], facts=EngineFacts(device="cpu"))


def call(text: str = "Say it.") -> LlmCall:
    return LlmCall((Message("user", text),), YES)


def known(router: Router, **usual_s: float) -> Router:
    for name, seconds in usual_s.items():
        for _ in range(4):
            router.evidence.took("flow/step", name, seconds)
    return router


def test_a_judge_is_no_time_of_the_engine_that_it_judges(run_virtual: Run, context: Any) -> None:
    accept = {"choice": Accept(0.5, 0.3, judge=Judge("j"))}
    policy = Policy(rules=RULES, hedge=Hedge(times=3.0), accept=accept, choose="order")
    a, b, j = (
        engine(name, after(seconds, "yes"))
        for name, seconds in (("a", 0.1), ("b", 0.3), ("j", 0.5))
    )
    router = known(Router(policy), a=0.1)

    async def work() -> list[Any]:
        return [await answer(call(str(n)), context(a, b, j, router=router)) for n in range(10)]

    assert run_virtual(work()) == ["yes"] * 10
    assert (len(a.requests), len(b.requests), len(j.requests)) == (10, 0, 10)


def test_a_judge_that_is_late_itself_is_a_sign(run_virtual: Run, context: Any) -> None:
    accept = {"choice": Accept(0.5, 0.3, judge=Judge("j"))}
    policy = Policy(rules=RULES, hedge=Hedge(times=3.0), accept=accept, choose="order")
    a, b, j = (
        engine("a", after(0.1, "yes")),
        engine("b", after(0.3, "no")),
        engine("j", after(1e6, "yes")),
    )
    ctx = context(a, b, j, router=known(Router(policy), a=0.1, j=0.5))
    assert run_virtual(answer(call(), ctx)) == "no"
    assert [event.reason for event in ctx.told(Hedged)] == ["no answer of j after 1.50 s"]


def test_other_drafts_have_times_of_their_own(run_virtual: Run, context: Any) -> None:
    accept = {"choice": Accept(0.5, 0.3, agreement=Agreement(3))}
    policy = Policy(rules=RULES, hedge=Hedge(after_s=1.0), accept=accept, choose="order")
    a, b = engine("a", after(0.7, "yes")), engine("b", after(0.1, "no"))
    ctx = context(a, b, router=Router(policy))
    assert run_virtual(answer(call(), ctx)) == "yes"
    assert (len(a.requests), len(b.requests)) == (3, 0)


def test_what_is_asked_again_has_a_time_of_its_own(run_virtual: Run, context: Any) -> None:
    policy = Policy(rules=(Rule(("far",)),), hedge=Hedge(after_s=1.0))
    far = ScriptedEngine("far", in_turn(after(0.7, "maybe"), after(0.7, "yes")), can=["choice"])
    ctx = context(far, router=Router(policy))
    assert run_virtual(answer(call(), ctx)) == "yes"
    assert not ctx.told(Hedged)
    hangs = ScriptedEngine(
        "far", in_turn(after(0.7, "maybe"), after(1e6, "yes"), after(0.1, "no")), can=["choice"]
    )
    ctx = context(hangs, router=Router(policy))
    assert run_virtual(answer(call(), ctx)) == "no"
    assert [event.reason for event in ctx.told(Hedged)] == ["no answer after 1.00 s"]


def pausing(pause_s: float, calls: int = 1) -> Any:
    """An engine that sends its first calls away for a while."""
    left = iter([EngineBusy("full", engine="a", retry_after_s=pause_s)] * calls)
    return lambda request: next(left, "yes")


def fan_out(
    run: Run, context: Any, a: ScriptedEngine, b: ScriptedEngine, after_s: float, **policy: Any
) -> tuple[list[float], list[Any]]:
    """When each of ten calls had ended, begun 10 ms after the other; and their contexts."""
    router = Router(Policy(rules=RULES, hedge=Hedge(after_s=after_s), choose="order", **policy))
    gates = {name: EngineGate(EngineLimits(concurrency=4)) for name in "ab"}
    asking = [context(a, b, router=router, gates=gates, path=f"flow/step[{n}]") for n in range(10)]

    async def one(number: int) -> float:
        await asyncio.sleep(0.01 * number)
        await answer(call(str(number)), asking[number])
        return asyncio.get_running_loop().time()

    async def work() -> list[float]:
        return await asyncio.gather(*map(one, range(10)))

    return run(work()), asking


@pytest.mark.parametrize("scouts", [2, 20])
def test_where_an_engine_asked_for_a_pause_the_next_is_asked_at_once(
    run_virtual: Run, context: Any, scouts: int
) -> None:
    a, b = ScriptedEngine("a", pausing(6.0), can=["choice"]), engine("b", after(0.1, "yes"))
    ends, asking = fan_out(run_virtual, context, a, b, 0.2, scouts=scouts)
    assert max(ends) < 1.0
    assert (len(a.requests), len(b.requests)) == (1, 10)
    reasons = [event.reason for ctx in asking for event in ctx.told(Hedged)]
    assert len(reasons) == 10
    assert all(reason.startswith("a asked for a pause, of ") for reason in reasons)
    # What was not begun took no time that could speak for the engine.
    rows = {row["engine"]: row for row in asking[0].resources["router"].evidence.to_data()}
    assert rows["b"]["accepted"] == 10
    prospect = asking[0].resources["router"].evidence.prospect("flow/step", "a", "b", 0.5)
    assert prospect.first_s is None or prospect.first_s > 0


def test_a_pause_that_is_shorter_than_late_is_waited_for(run_virtual: Run, context: Any) -> None:
    a, b = ScriptedEngine("a", pausing(0.5), can=["choice"]), engine("b", after(0.1, "yes"))
    _, asking = fan_out(run_virtual, context, a, b, 1.0)
    assert (len(a.requests), len(b.requests)) == (11, 0)
    assert not any(ctx.told(Hedged) for ctx in asking)


def test_pauses_one_after_the_other_are_late_together(run_virtual: Run, context: Any) -> None:
    a, b = ScriptedEngine("a", pausing(0.6, calls=3), can=["choice"]), engine("b", after(0.1, "no"))
    policy = Policy(rules=RULES, hedge=Hedge(after_s=1.0))
    ctx = context(a, b, router=Router(policy), gates={"a": EngineGate(EngineLimits())})
    assert run_virtual(answer(call(), ctx)) == "no"
    assert len(a.requests) == 2


def test_no_second_call_of_an_engine_that_asked_for_a_pause(run_virtual: Run, context: Any) -> None:
    far = ScriptedEngine("a", pausing(6.0), can=["choice"])
    policy = Policy(rules=(Rule(("a",)),), hedge=Hedge(after_s=0.2))
    ctx = context(far, router=Router(policy), gates={"a": EngineGate(EngineLimits())})
    assert run_virtual(answer(call(), ctx)) == "yes"
    assert len(ctx.told(EngineCalled)) == 2
    assert not ctx.told(Hedged)


def test_each_call_is_compared_with_what_is_known_of_its_engine() -> None:
    lap, times = Lap("a"), {"a": 1.0, "j": 3.0}
    assert lateness(lap, times.get, 5.0) is None
    lap.asks("first", "a", 5.0, 9)
    assert lateness(lap, times.get, 5.25) == pytest.approx(0.75)
    lap.asks("judge", "j", 5.5, 9)
    lap.leaves("first")
    assert lateness(lap, times.get, 8.0) == pytest.approx(0.5)
    assert lateness(lap, times.get, 8.5) == "no answer of j after 3.00 s"
    assert lateness(lap, {}.get, 8.5) == LOOK_S
    lap.leaves("judge")
    assert lateness(lap, times.get, 99.0) is None


def test_a_pause_counts_only_where_no_call_is_at_an_engine() -> None:
    lap = Lap("a")
    late = {"a": 1.0}.get
    assert lateness(lap, late, 0.0, pause_s=0.9) is None
    assert lateness(lap, late, 0.0, pause_s=1.1) == "a asked for a pause, of 1.10 s more"
    assert lateness(lap, late, 0.0, pause_s=1.1, is_doubled=True) is None
    lap.asks("one", "a", 0.0, 9)
    assert lateness(lap, late, 0.5, pause_s=9.0) == pytest.approx(0.5)
    lap.hears("one", Completion("").usage)
    assert lateness(lap, late, 0.5, pause_s=0.4) == pytest.approx(0.5)
    assert lateness(lap, late, 0.5, pause_s=0.6) == "a asked for a pause, of 0.60 s more"
    assert lateness(lap, late, 9.0, is_doubled=True) is None, "the second would be sent away, too"
    lap.asks("one", "a", 9.0, 9)
    assert lateness(lap, late, 9.5, is_doubled=True) == pytest.approx(0.5)
    assert lateness(lap, late, 9.5) == "no answer after 1.00 s"
