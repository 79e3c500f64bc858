"""No call is made that could exceed the budget, whatever runs at once, and what was spent is told."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.contract import Choice, Contract, Json, Text
from carrara.engines.errors import EngineBusy, EngineFailed, EngineTimeout, StreamCut
from carrara.engines.facts import REMOTE, EngineFacts
from carrara.engines.facts import Price as EnginePrice
from carrara.engines.remote.faults import placed
from carrara.engines.request import Completion, Confidence, Limits, Message, Request, Usage
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import (
    Accepted,
    CalledOff,
    EngineAnswered,
    EngineCalled,
    Rejected,
    Routed,
    StepFailed,
)
from carrara.runtime.explain import stories
from carrara.runtime.limits import EngineGate, EngineLimits
from carrara.runtime.routing.answer import LlmCall, answer
from carrara.runtime.routing.budget import OverBudget, Purse, Spending, spending_of
from carrara.runtime.routing.call import answer_tokens
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import Budget, Policy, Price, Rule
from carrara.runtime.single_flight import SingleFlight

PRICES = {"dear": Price(prompt=1.0, completion=4.0, cached=0.1)}


def test_cached_tokens_have_their_own_price() -> None:
    usage = Usage(prompt_tokens=1000, cached_tokens=600, completion_tokens=100)
    assert spending_of(usage, PRICES["dear"]) == Spending(1100, pytest.approx(860 / 1e6))
    assert spending_of(usage, Price(1.0, 4.0)) == Spending(1100, pytest.approx(1400 / 1e6))
    assert spending_of(usage, None) == Spending(1100, 0.0)


def test_more_cached_tokens_than_the_prompt_has_cost_no_less_than_nothing() -> None:
    usage = Usage(prompt_tokens=0, cached_tokens=5_000_000, completion_tokens=1)
    assert spending_of(usage, PRICES["dear"]).cost == pytest.approx(0.500004)
    assert EnginePrice(3.0, 0.1, 4.0).of(usage) == pytest.approx(0.500004)


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(1, 400), st.booleans()), max_size=40))
def test_reservations_never_exceed_the_budget(calls: list[tuple[int, int, bool]]) -> None:
    purse = Purse(Budget(tokens=1000), {})
    open_calls: list[tuple[Spending, Spending]] = []
    for most, used, ends in calls:
        expected = purse.expected("dear", most, 0)
        if purse.objection("dear", expected) is None:
            purse.reserve(expected)
            open_calls.append((expected, Spending(min(used, most))))
        if ends and open_calls:
            purse.settle(*open_calls.pop(0))
        assert purse.spent.tokens <= 1000
    for one in open_calls:
        purse.settle(*one)
    assert purse.spent.tokens <= 1000


def priced(tokens: int) -> Completion:
    return Completion("fine", usage=Usage(prompt_tokens=0, completion_tokens=tokens))


def call(max_tokens: int = 1000) -> LlmCall:
    return LlmCall((Message("user", "Say it."),), limits=Limits(max_tokens))


def test_the_next_engine_answers_when_the_dear_one_is_too_dear(context: Any) -> None:
    policy = Policy(rules=(Rule(("dear", "ar")),), budget=Budget(cost=0.005), prices=PRICES)
    dear = ScriptedEngine("dear", lambda _: priced(1000))
    ctx = context(dear, ScriptedEngine("ar", lambda _: "own"), router=Router(policy))

    async def work() -> list[Any]:
        return [await answer(call(), ctx) for _ in range(3)]

    assert asyncio.run(work()) == ["fine", "own", "own"]
    assert [event.cost for event in ctx.told(EngineAnswered)] == [pytest.approx(0.004), 0.0, 0.0]
    assert "dear may cost $0.0040, $0.0010 of $0.005 are left" in ctx.told(Routed)[1].reason


def test_small_sums_are_told_with_their_digits() -> None:
    cheap = {"cheap": Price(prompt=0.01, completion=0.01)}
    purse = Purse(Budget(cost=1e-6), cheap)
    purse.settle(Spending(), Spending(95, 9.5e-7))
    told = purse.objection("cheap", purse.expected("cheap", 5, 3))
    assert told == "cheap may cost $0.000000080, $0.000000050 of $0.000001 are left"


def test_calls_at_once_do_not_overspend_together(context: Any) -> None:
    policy = Policy(rules=(Rule(("dear",)),), budget=Budget(cost=0.0085), prices=PRICES)
    ctx = context(ScriptedEngine("dear", lambda _: priced(1000)), router=Router(policy))

    async def work() -> list[Any]:
        calls = (answer(call(), ctx) for _ in range(5))
        return await asyncio.gather(*calls, return_exceptions=True)

    found = asyncio.run(work())
    assert found.count("fine") == 2
    over = [one for one in found if isinstance(one, OverBudget)]
    assert len(over) == 3
    assert "the budget is spent" in str(over[0])


def parallel(context: Any, reply: Any, count: int, **resources: Any) -> tuple[list[Any], Any]:
    """Answers to calls made at once with room in the budget for the reservations of two of them."""
    policy = Policy(rules=(Rule(("dear",)),), budget=Budget(tokens=2200), break_after=100)
    engine = ScriptedEngine("dear", reply)
    ctx = context(engine, router=Router(policy), **resources)

    async def work() -> list[Any]:
        calls = (answer(call(), ctx) for _ in range(count))
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(work()), (ctx, engine)


async def short(request: Request) -> Completion:
    for _ in range(5):
        await asyncio.sleep(0)
    return priced(10)


def test_what_only_reservations_keep_back_waits_for_them(context: Any) -> None:
    found, (ctx, engine) = parallel(context, short, 30)
    assert found == ["fine"] * 30
    assert engine.most_in_flight == 2
    assert ctx.resources["router"].purse.spent == Spending(300)
    assert len(ctx.told(EngineCalled)) == 30


def test_those_that_wait_fail_when_the_money_is_really_gone(context: Any) -> None:
    async def long(request: Request) -> Completion:
        await asyncio.sleep(0)
        return priced(1000)

    found, _ = parallel(context, long, 6)
    assert found.count("fine") == 2
    assert [type(one) for one in found if one != "fine"] == [OverBudget] * 4
    assert "dear may use 1,001 tokens, 200 of 2,200 are left" in str(found[-1])


def test_calls_that_fail_or_are_taken_back_let_the_next_ones_in(context: Any) -> None:
    async def breaks(request: Request) -> Any:
        await short(request)
        return EngineFailed("broken")

    found, (_, engine) = parallel(context, breaks, 5)
    assert [str(one) for one in found] == ["broken"] * 5
    assert len(engine.requests) == 5

    policy = Policy(rules=(Rule(("dear",)),), budget=Budget(tokens=1100))
    forever = ScriptedEngine("dear", lambda _: asyncio.Event().wait())
    ctx = context(forever, router=Router(policy))

    async def work() -> None:
        first, second, third = (asyncio.ensure_future(answer(call(), ctx)) for _ in range(3))
        await asyncio.sleep(0)
        for one, asked in ((second, 1), (first, 2), (third, 2)):  # the one that waits leaves too
            one.cancel()
            await asyncio.gather(one, return_exceptions=True)
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(forever.requests) == asked

    asyncio.run(work())


def test_who_waits_for_the_budget_holds_no_place_at_the_engine(context: Any) -> None:
    """Else it would keep the place from the call whose reservation it waits for, which was told to come back."""
    turns = iter([EngineBusy("full", retry_after_s=0.001)])

    async def reply(request: Request) -> Any:
        return next(turns, None) or await short(request)

    gates = {"dear": EngineGate(EngineLimits(concurrency=1))}
    policy = Policy(rules=(Rule(("dear",)),), budget=Budget(tokens=1100))
    ctx = context(ScriptedEngine("dear", reply), router=Router(policy), gates=gates)

    async def work() -> list[Any]:
        async with asyncio.timeout(20):
            return await asyncio.gather(*(answer(call(), ctx) for _ in range(4)))

    assert asyncio.run(work()) == ["fine"] * 4


def test_what_an_engine_tells_no_usage_of_is_booked_by_an_estimate(context: Any) -> None:
    policy = Policy(rules=(Rule(("dear",)),), budget=Budget(tokens=60), prices=PRICES)
    ctx = context(ScriptedEngine("dear", lambda _: Completion("x" * 40)), router=Router(policy))
    asked = LlmCall((Message("user", "y" * 40),), limits=Limits(10))

    async def work() -> list[Any]:
        calls = (answer(asked, ctx) for _ in range(20))
        return await asyncio.gather(*calls, return_exceptions=True)

    assert asyncio.run(work()).count("x" * 40) == 3
    assert ctx.resources["router"].purse.spent == Spending(60, pytest.approx(150 / 1e6))
    assert ctx.told(EngineAnswered)[0].usage == Usage(10, 0, 10)


def joined(
    run_virtual: Any, context: Any, first_s: float, second_s: float, closed_s: float = 0.0
) -> tuple[Purse, Any, Any, list[Any]]:
    """Two steps ask the same, each for so many seconds, of an engine that takes 1.2 and lets nobody in before."""

    async def slow(request: Request) -> Completion:
        await asyncio.sleep(1.2)
        return Completion("fine", usage=Usage(100, 0, 50))

    router = Router(Policy(rules=(Rule(("dear",)),), budget=Budget(tokens=10_000)))
    engine = ScriptedEngine("dear", slow)
    gate = EngineGate(EngineLimits())
    shared = {"router": router, "single_flight": SingleFlight(), "gates": {"dear": gate}}
    first, second = (context(engine, **shared) for _ in range(2))

    def due(deadline_s: float) -> LlmCall:
        return LlmCall((Message("user", "y" * 40),), limits=Limits(deadline_s=deadline_s))

    async def work() -> list[Any]:
        gate.hold_off(closed_s)
        calls = answer(due(first_s), first), answer(due(second_s), second)
        return await asyncio.gather(*calls, return_exceptions=True)

    found = run_virtual(work())
    assert len(engine.requests) <= 1
    assert router.purse.objection("dear", Spending(10_000) - router.purse.spent) is None
    return router.purse, first, second, found


def test_a_call_whose_step_has_left_is_paid_by_the_step_that_joined_it(
    run_virtual: Any, context: Any
) -> None:
    purse, first, second, found = joined(run_virtual, context, 0.5, 9.0)
    assert found[1] == "fine"
    assert purse.spent == Spending(150)
    assert (first.told(CalledOff), first.told(EngineAnswered)) == ([], [])
    assert [event.usage for event in second.told(EngineAnswered)] == [Usage(100, 0, 50)]


def test_a_call_that_both_its_steps_have_left_is_booked_once(
    run_virtual: Any, context: Any
) -> None:
    purse, first, second, _ = joined(run_virtual, context, 0.5, 0.7)
    assert purse.spent == Spending(10)
    assert (len(first.told(CalledOff)), len(second.told(CalledOff))) == (0, 1)


def test_a_call_is_made_for_the_step_that_still_waits_when_its_turn_comes(
    run_virtual: Any, context: Any
) -> None:
    purse, first, second, found = joined(run_virtual, context, 0.5, 9.0, closed_s=1.0)
    assert found[1] == "fine"
    assert purse.spent == Spending(150)
    assert first.told(EngineCalled) == []
    assert [event.reason for event in second.told(EngineCalled)] == ["policy 'auto'"]


def test_an_engine_behind_that_is_too_dear_is_told_with_the_doubt_it_leaves(context: Any) -> None:
    policy = Policy(rules=(Rule(("ar", "dear")),), budget=Budget(cost=0.001), prices=PRICES)
    unsure = Completion("own", confidence=Confidence(0.14))
    own = ScriptedEngine("ar", [unsure, Completion("own", confidence=Confidence(0.9))])
    ctx = context(own, ScriptedEngine("dear", []), router=Router(policy))
    gone = "dear may cost $0.0040, $0.0010 of $0.001 are left"
    for _ in range(2):
        assert asyncio.run(answer(call(), ctx)) == "own"
    assert [event.reason for event in ctx.told(Routed)] == [f"policy 'auto'; {gone}"] * 2
    doubt = f"confidence 0.14 is below 0.50 for text; {gone}"
    assert [event.doubt for event in ctx.told(Accepted)] == [doubt, ""]
    lines = stories([*ctx.events])[0].lines()
    assert any(line.endswith(f"take that of ar all the same: {doubt}") for line in lines)


def test_an_engine_in_front_that_is_too_dear_leaves_no_doubt(context: Any) -> None:
    policy = Policy(rules=(Rule(("dear", "ar")),), budget=Budget(cost=0.001), prices=PRICES)
    own = ScriptedEngine("ar", [Completion("own", confidence=Confidence(0.14))])
    ctx = context(ScriptedEngine("dear", []), own, router=Router(policy))
    assert asyncio.run(answer(call(), ctx)) == "own"
    assert [event.doubt for event in ctx.told(Accepted)] == [""]


def test_crumbs_of_settled_reservations_keep_nobody_back() -> None:
    purse = Purse(Budget(cost=0.3), {})
    for cost in (0.1, 0.2, 0.1):
        purse.reserve(Spending(1, cost))
    for cost in (0.2, 0.1, 0.1):
        purse.settle(Spending(1, cost), Spending())
    assert purse.objection("dear", Spending(1, 0.3)) is None


@pytest.mark.parametrize(
    ("output", "can", "most"),
    [
        (Choice(("yes", "no")), ["choice"], 19),
        (Choice(("yes", "no")), [], 512),
        (Choice(("y" * 900, "no")), ["choice"], 512),
        (Json.of({"type": "boolean"}), ["schema"], 21),
        (Json.of({"enum": ["a", "long"]}), ["schema"], 22),
        (Json.of({"type": "object"}), ["schema"], 512),
        (Text(), ["choice"], 512),
    ],
)
def test_no_more_is_reserved_than_the_longest_option(
    output: Contract, can: list[Any], most: int
) -> None:
    assert answer_tokens(output, 512, can) == most


def test_a_closed_choice_fits_where_its_max_tokens_do_not(context: Any) -> None:
    policy = Policy(rules=(Rule(("dear",)),), budget=Budget(tokens=100))
    ctx = context(ScriptedEngine("dear", ["yes"], can=["choice"]), router=Router(policy))
    asked = LlmCall((Message("user", "Say it."),), Choice(("yes", "no")))
    assert asyncio.run(answer(asked, ctx)) == "yes"


def test_a_call_that_no_engine_was_asked_for_is_explained(context: Any) -> None:
    policy = Policy(rules=(Rule(("dear",)),), budget=Budget(tokens=100))
    ctx = context(ScriptedEngine("dear", ["fine"]), router=Router(policy))
    with pytest.raises(OverBudget) as over:
        asyncio.run(answer(call(), ctx))
    failed = StepFailed("run", 1.0, ctx.path, 0, error=str(over.value))
    (story,) = stories([*ctx.events, failed])
    assert [line.split("s  ", 1)[1] for line in story.lines()] == [
        f"ask no engine: {over.value}",
        f"failed: {over.value}",
    ]


def test_an_engine_that_the_budget_keeps_back_was_not_asked_in_vain(context: Any) -> None:
    policy = Policy(
        rules=(Rule(("dear", "own")),), budget=Budget(cost=0.0045), prices=PRICES, max_attempts=1
    )

    async def long(request: Request) -> Completion:
        await asyncio.sleep(0)
        return priced(1000)

    dear, own = ScriptedEngine("dear", long), ScriptedEngine("own", lambda _: "own")
    router = Router(policy)
    asking = [context(dear, own, router=router) for _ in range(2)]

    async def work() -> list[Any]:
        return await asyncio.gather(*(answer(call(), ctx) for ctx in asking))

    assert asyncio.run(work()) == ["fine", "own"]
    assert (len(dear.requests), len(own.requests)) == (1, 1)
    kept_back = asking[1]
    assert not kept_back.told(Rejected)
    (story,) = stories(kept_back.events)
    lines = [line.split("s  ", 1)[1] for line in story.lines()]
    assert lines[1].startswith("go on to own: the budget is spent: dear may cost $0.0040")


@pytest.mark.parametrize(
    ("error", "phase", "usage", "spent"),
    [
        (StreamCut("cut", text="x" * 40), "read", None, Spending(20, pytest.approx(50 / 1e6))),
        (
            StreamCut("cut", text="x" * 40),
            "read",
            Usage(30, 0, 1),
            Spending(40, pytest.approx(7e-5)),
        ),
        (StreamCut("cut", text="x" * 9000), "read", None, Spending(1010, pytest.approx(0.00401))),
        (EngineTimeout("late"), "wait", None, Spending(10, pytest.approx(1e-5))),
        (EngineTimeout("no connection"), "connect", None, Spending()),
        (EngineFailed("broken"), "", None, Spending()),
    ],
)
def test_a_call_that_broke_off_is_booked_with_what_had_come(
    context: Any, error: EngineFailed, phase: Any, usage: Usage | None, spent: Spending
) -> None:
    policy = Policy(rules=(Rule(("dear",)),), budget=Budget(tokens=9000), prices=PRICES, again=0)
    placed(error, "dear", phase).usage = usage
    ctx = context(ScriptedEngine("dear", [error, "fine"]), router=Router(policy))
    asked = LlmCall((Message("user", "y" * 40),), limits=Limits(1000))
    with pytest.raises(EngineFailed):
        asyncio.run(answer(asked, ctx))
    assert ctx.resources["router"].purse.spent == spent
    told = [Spending(event.tokens, event.cost) for event in ctx.told(CalledOff) if event.broke]
    assert told == ([spent] if spent.tokens else [])


def test_calls_that_break_off_do_not_overspend(context: Any) -> None:
    def breaks(request: Request) -> Any:
        return placed(StreamCut("cut", text="x" * 4000), "dear", "read")

    policy = Policy(rules=(Rule(("dear",)),), budget=Budget(tokens=3500), break_after=100)
    engine = ScriptedEngine("dear", breaks)
    ctx = context(engine, router=Router(policy))

    async def work() -> list[Any]:
        return [await asyncio.gather(answer(call(), ctx), return_exceptions=True) for _ in range(9)]

    asyncio.run(work())
    assert len(engine.requests) == 3


def test_a_japanese_prompt_is_reserved_by_its_characters(context: Any) -> None:
    policy = Policy(rules=(Rule(("dear",)),), budget=Budget(tokens=1000))
    engine = ScriptedEngine("dear", ["fine"])
    ctx = context(engine, router=Router(policy))
    with pytest.raises(OverBudget, match="may use 1,010 tokens"):
        asyncio.run(answer(LlmCall((Message("user", "京" * 1000),), limits=Limits(10)), ctx))
    assert engine.requests == []


@pytest.mark.parametrize(
    ("budget", "device", "prices", "missed"),
    [
        (Budget(cost=1.0), REMOTE, {}, True),
        (Budget(cost=1.0), REMOTE, {"free": Price()}, False),
        (Budget(cost=1.0), "cpu", {}, False),
        (Budget(tokens=9000), REMOTE, {}, False),
    ],
)
def test_answers_that_the_budget_cannot_count_are_told(
    context: Any, budget: Budget, device: str, prices: dict[str, Price], missed: bool
) -> None:
    policy = Policy(rules=(Rule(("free",)),), budget=budget, prices=prices)
    engine = ScriptedEngine("free", ["fine"], facts=EngineFacts(device=device))
    ctx = context(engine, router=Router(policy))
    assert asyncio.run(answer(call(), ctx)) == "fine"
    assert [event.unpriced for event in ctx.told(EngineAnswered)] == [missed]
