"""A late or bad first engine gets company; the first accepted answer wins, the other is cancelled and counted."""

import asyncio
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from carrara.engines.contract import Choice, Json
from carrara.engines.errors import BadReply, EngineBusy, EngineFailed
from carrara.engines.facts import EngineFacts
from carrara.engines.request import Completion, Confidence, Message, Progress, Request, Usage, Watch
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import EngineCalled, Escalated, Hedged, HedgeEnded, Routed, RunStarted
from carrara.runtime.limits import EngineGate, EngineLimits
from carrara.runtime.report import Reporter
from carrara.runtime.routing.answer import LlmCall, answer
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import Hedge, Policy, Price, Rule
from carrara.runtime.routing.remembered import Remembered
from carrara.runtime.single_flight import SingleFlight
from tests.runtime.routing.conftest import after

RULES = (Rule(("diffusion", "ar")),)
YES = Choice(("yes", "no"))
Run = Callable[..., Any]


def hedged(**hedge: Any) -> Router:
    return Router(Policy(rules=RULES, hedge=Hedge(**hedge)))


def engines(first: Any, second: Any) -> tuple[ScriptedEngine, ScriptedEngine]:
    return (
        ScriptedEngine("diffusion", first, can=["choice", "stream"]),
        ScriptedEngine("ar", second, can=["choice"]),
    )


def asked(run: Run, ctx: Any) -> Any:
    return run(answer(LlmCall((Message("user", "Say it."),), YES), ctx))


def test_a_fast_first_engine_is_alone(run_virtual: Run, context: Any) -> None:
    first, second = engines(after(0.5, "yes"), after(0.1, "no"))
    ctx = context(first, second, router=hedged(after_s=1.0))
    assert asked(run_virtual, ctx) == "yes"
    assert second.requests == []
    assert not ctx.told(Hedged)


def test_a_late_one_gets_company_and_loses(run_virtual: Run, context: Any) -> None:
    first, second = engines(after(9.0, "no"), after(0.5, "yes"))
    ctx = context(first, second, router=hedged(after_s=1.0))
    assert asked(run_virtual, ctx) == "yes"
    assert first.in_flight == 0  # it was cancelled
    assert ctx.told(Hedged)[0].reason == "no answer after 1.00 s"
    end = ctx.told(HedgeEnded)[0]
    assert (end.engine, end.loser) == ("ar", "diffusion")
    # From when the loser was asked: a second until it was late, and half a second beside the other.
    assert end.wasted_s == pytest.approx(1.5, abs=1e-3)
    assert end.wasted_tokens == len("Say it.") // 4


def test_the_second_has_wasted_what_it_did_since_it_was_asked_itself(
    run_virtual: Run, context: Any
) -> None:
    first, second = engines(after(3.2, "yes"), after(9.0, "no"))
    gates = {"ar": EngineGate(EngineLimits(concurrency=1))}
    ctx = context(first, second, router=hedged(after_s=1.0), gates=gates)

    async def main() -> Any:
        async def occupy() -> None:
            async with gates["ar"].admit():
                await asyncio.sleep(2.0)

        other = asyncio.ensure_future(occupy())
        await asyncio.sleep(0)
        call = LlmCall((Message("user", "Say it."),), YES)
        try:
            return await answer(call, ctx)
        finally:
            await other

    assert run_virtual(main()) == "yes"
    end = ctx.told(HedgeEnded)[0]
    assert (end.engine, end.loser) == ("diffusion", "ar")
    assert end.wasted_s == pytest.approx(1.2, abs=1e-3), "it waited a second for its place"


def test_a_loser_that_had_ended_has_wasted_its_whole_answer(run_virtual: Run, context: Any) -> None:
    usage = Usage(prompt_tokens=20, completion_tokens=5, passes=7)
    doubtful = Completion("no", confidence=Confidence(0.1), usage=usage)
    first, second = engines(after(1.2, doubtful), after(5.0, "yes"))
    ctx = context(first, second, router=hedged(after_s=1.0))
    assert asked(run_virtual, ctx) == "yes"
    end = ctx.told(HedgeEnded)[0]
    assert (end.loser, end.wasted_tokens, end.wasted_passes) == ("diffusion", 25, 7)
    assert end.wasted_s == pytest.approx(1.2, abs=1e-3)


def test_it_may_still_win(run_virtual: Run, context: Any) -> None:
    first, second = engines(after(1.2, "yes"), after(5.0, "no"))
    ctx = context(first, second, router=hedged(after_s=1.0))
    assert asked(run_virtual, ctx) == "yes"
    assert second.in_flight == 0
    assert ctx.told(HedgeEnded)[0].engine == "diffusion"


def test_a_doubtful_first_answer_waits_for_the_one_under_way(
    run_virtual: Run, context: Any
) -> None:
    doubtful = Completion("no", confidence=Confidence(0.1))
    first, second = engines(after(1.2, doubtful), after(0.9, "yes"))
    ctx = context(first, second, router=hedged(after_s=1.0))
    assert asked(run_virtual, ctx) == "yes"
    assert len(second.requests) == 1
    assert not ctx.told(Escalated), "the second was asked already"


THREE = Policy(rules=(Rule(("diffusion", "ar", "big")),), hedge=Hedge(after_s=1.0))
DOUBTFUL = Completion("no", confidence=Confidence(0.1))


def raced(
    run: Run, context: Any, *replies: Any, policy: Policy = THREE
) -> tuple[Any, float, Any, list[ScriptedEngine]]:
    """The value of a call to engines with these replies, the seconds that it took, its context, and the engines."""
    names = ("diffusion", "ar", "big")
    three = [ScriptedEngine(name, reply) for name, reply in zip(names, replies, strict=True)]
    ctx = context(*three, router=Router(policy))

    async def timed() -> tuple[Any, float]:
        begun = asyncio.get_running_loop().time()
        value = await answer(LlmCall((Message("user", "Say it."),), YES), ctx)
        return value, asyncio.get_running_loop().time() - begun

    value, seconds = run(timed())
    assert [one.in_flight for one in three] == [0, 0, 0]
    return value, seconds, ctx, three


def test_a_rejected_second_is_followed_by_the_third_while_the_first_is_late(
    run_virtual: Run, context: Any
) -> None:
    value, seconds, ctx, three = raced(
        run_virtual, context, after(1e6, "no"), after(0.2, DOUBTFUL), after(0.3, "yes")
    )
    assert value == "yes"
    assert seconds == pytest.approx(1.5, abs=1e-3)
    assert [len(one.requests) for one in three] == [1, 1, 1]
    assert [(told.engine, told.target) for told in ctx.told(Hedged)] == [("diffusion", "ar")]
    assert [(told.origin, told.target) for told in ctx.told(Escalated)] == [("ar", "big")]
    ends = [(told.engine, told.loser, told.wasted_s) for told in ctx.told(HedgeEnded)]
    assert ends == [
        ("big", "diffusion", pytest.approx(1.5, abs=1e-3)),
        ("big", "ar", pytest.approx(0.2, abs=1e-3)),
    ]


def test_a_late_first_may_win_over_the_third(run_virtual: Run, context: Any) -> None:
    value, seconds, ctx, three = raced(
        run_virtual, context, after(1.4, "yes"), after(0.2, DOUBTFUL), after(9.0, "no")
    )
    assert (value, len(three[2].requests)) == ("yes", 1)
    assert seconds == pytest.approx(1.4, abs=1e-3)
    assert [told.loser for told in ctx.told(HedgeEnded)] == ["ar", "big"]


def test_a_second_that_is_late_itself_gets_company_when_the_first_was_rejected(
    run_virtual: Run, context: Any
) -> None:
    value, seconds, ctx, _ = raced(
        run_virtual, context, after(1.2, DOUBTFUL), after(1e6, "no"), after(0.3, "yes")
    )
    assert value == "yes"
    assert seconds == pytest.approx(2.3, abs=1e-3)
    assert [(told.engine, told.target) for told in ctx.told(Hedged)] == [
        ("diffusion", "ar"),
        ("ar", "big"),
    ]


REPLIES = list(product((0.1, 1.2, 2.5, 1e6), ("yes", DOUBTFUL)))


@pytest.mark.parametrize("first", REPLIES)
@pytest.mark.parametrize("second", REPLIES)
def test_two_engines_are_asked_at_most_at_a_time_and_one_that_hangs_holds_up_no_other(
    run_virtual: Run, context: Any, first: Any, second: Any
) -> None:
    under_way, most = 0, 0

    def counted(seconds: float, reply: Any) -> Any:
        async def wait(request: Request) -> Any:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                await asyncio.sleep(seconds)
            finally:
                under_way -= 1
            return reply

        return wait

    for third in REPLIES:
        replies = (first, second, third)
        _, seconds, ctx, _ = raced(run_virtual, context, *(counted(*one) for one in replies))
        assert most <= 2
        assert len(ctx.told(Escalated)) + len(ctx.told(Hedged)) <= 3
        hanging = [one for one in replies if one[0] == 1e6]
        if len(hanging) <= 1 and third not in hanging:
            assert seconds < 10


def test_each_of_the_two_goes_on_from_its_own_moves(run_virtual: Run, context: Any) -> None:
    record = Json.of(
        {
            "type": "object",
            "properties": {key: {"type": "string"} for key in "abc"},
            "required": ["a", "b", "c"],
        }
    )
    doubtful = Completion(
        '{"a": "?", "b": "1", "c": "1"}',
        confidence=Confidence(0.9, {"/a": 0.1, "/b": 0.9, "/c": 0.9}),
    )
    sure = Completion('{"a": "2", "b": "2", "c": "2"}', confidence=Confidence(0.9))
    first = ScriptedEngine(
        "diffusion", in_turn(after(2.0, doubtful), after(0.1, doubtful)), can=["schema", "drafts"]
    )
    broken = EngineFailed("cut")
    broken.phase = "read"
    second = ScriptedEngine(
        "ar",
        in_turn(after(2.0, broken), after(2.0, sure)),
        can=["schema"],
        facts=EngineFacts(device="cpu"),
    )
    ctx = context(first, second, router=hedged(after_s=1.0))
    value = run_virtual(answer(LlmCall((Message("user", "Say it."),), record), ctx))
    assert value == {"a": "2", "b": "2", "c": "2"}
    assert [request.draft is not None for request in first.requests] == [False, True]
    assert len(second.requests) == 2, "its call broke off, and is made once more"


@pytest.mark.parametrize("error", [EngineFailed("broken"), EngineBusy("full")])
def test_a_second_that_fails_leaves_the_first_to_answer(
    run_virtual: Run, context: Any, error: Exception
) -> None:
    first, second = engines(after(3.0, "yes"), after(0.1, error))
    ctx = context(first, second, router=hedged(after_s=1.0))
    assert asked(run_virtual, ctx) == "yes"


def test_both_failing_is_the_seconds_error(run_virtual: Run, context: Any) -> None:
    first, second = engines(
        after(3.0, EngineFailed("one")), after(0.1, EngineBusy("two", retry_after_s=1e4))
    )
    ctx = context(first, second, router=hedged(after_s=1.0))
    with pytest.raises(EngineBusy, match="two"):
        asked(run_virtual, ctx)


def test_usually_is_learned_from_the_session(run_virtual: Run, context: Any) -> None:
    first, second = engines(after(2.0, "yes"), after(0.1, "no"))
    router = hedged(times=3.0)
    for _ in range(4):
        router.evidence.took("flow/step", "diffusion", 0.2)
    ctx = context(first, second, router=router)
    assert asked(run_virtual, ctx) == "no"
    assert ctx.told(Hedged)[0].reason == "no answer after 0.60 s"


def test_late_may_be_what_few_answers_took_so_far(run_virtual: Run, context: Any) -> None:
    first, second = engines(after(2.0, "yes"), after(0.1, "no"))
    router = hedged(times=None, share=0.9)
    for number in range(1, 11):
        router.evidence.took("flow/step", "diffusion", number / 10)
    ctx = context(first, second, router=router)
    assert asked(run_virtual, ctx) == "no"
    assert ctx.told(Hedged)[0].reason == "no answer after 0.90 s"


def test_calls_that_began_together_learn_from_those_that_ended(
    run_virtual: Run, context: Any
) -> None:
    times = iter([0.2, 0.2, 0.3, 0.3, 99.0, 0.5])
    only = ScriptedEngine("server", lambda request: after(next(times), "yes")(request))
    router = hedged(times=3.0)

    async def job() -> float:
        calls = [context(only, path=f"flow/step[{n}]", router=router) for n in range(5)]
        await asyncio.gather(*(answer(LlmCall((Message("user", "?"),), YES), ctx) for ctx in calls))
        return asyncio.get_running_loop().time()

    # 0.5 s: it looks again, and three times 0.25 s is the time; the second call takes 0.5 s
    assert run_virtual(job()) == pytest.approx(0.75 + 0.5, abs=1e-3)


def in_turn(*replies: Any) -> Any:
    """Each call gets the next of these."""
    left = iter(replies)

    async def reply(request: Request) -> Any:
        return await next(left)(request)

    return reply


def test_the_last_engine_is_asked_a_second_time_and_the_calls_are_not_joined(
    run_virtual: Run, context: Any
) -> None:
    only = ScriptedEngine("server", in_turn(after(99.0, "no"), after(0.5, "yes")), can=["choice"])
    flights: SingleFlight[Completion] = SingleFlight()
    ctx = context(only, router=hedged(after_s=1.0), single_flight=flights)
    assert asked(run_virtual, ctx) == "yes"
    assert (len(only.requests), only.in_flight) == (2, 0)
    assert ctx.told(HedgeEnded)[0].wasted_s == pytest.approx(1.5, abs=1e-3)


def test_the_second_call_is_made_once_more_by_itself(run_virtual: Run, context: Any) -> None:
    broken = BadReply("broken")
    broken.phase = "parse"
    replies = in_turn(after(1e6, "no"), after(0.2, broken), after(0.3, "yes"))
    only = ScriptedEngine("server", replies, can=["choice"])
    ctx = context(only, router=hedged(after_s=1.0), single_flight=SingleFlight())
    call = LlmCall((Message("user", "Say it."),), YES)

    async def timed() -> float:
        assert await answer(call, ctx) == "yes"
        return asyncio.get_running_loop().time()

    assert run_virtual(timed()) == pytest.approx(1.5, abs=1e-3)
    assert (len(only.requests), only.in_flight) == (3, 0)
    assert ctx.told(EngineCalled)[-1].reason == "once more: broken"


def test_a_second_call_is_made_where_that_is_quicker_than_the_next_engine(
    run_virtual: Run, context: Any
) -> None:
    first = ScriptedEngine("diffusion", in_turn(after(99.0, "no"), after(0.5, "yes")))
    second, router = ScriptedEngine("ar", after(9.0, "no")), hedged(after_s=1.0)
    router.evidence.took("flow/step", "diffusion", 0.5)
    router.evidence.turned("flow/step", "ar", 9.0)
    ctx = context(first, second, router=router)
    assert asked(run_virtual, ctx) == "yes"
    assert (len(first.requests), len(second.requests)) == (2, 0)


def test_no_second_call_lengthens_the_queue_of_this_machine(run_virtual: Run, context: Any) -> None:
    here = EngineFacts(device="cpu")
    only = ScriptedEngine("ar", after(9.0, "yes"), can=["choice"], facts=here)
    ctx = context(only, router=hedged(after_s=1.0))
    assert asked(run_virtual, ctx) == "yes"
    assert not ctx.told(Hedged)


def test_a_canvas_that_does_not_settle_gets_company(run_virtual: Run, context: Any) -> None:
    class Denoiser(ScriptedEngine):
        async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
            assert watch is not None
            for step in range(1, 4):
                watch(Progress("", 0.1 * step, step))
                await asyncio.sleep(0.1)
            return await super().complete(request)

    first = Denoiser("diffusion", after(5.0, "no"), can=["choice", "stream"])
    second = ScriptedEngine("ar", after(0.5, "yes"))
    ctx = context(first, second, router=hedged(times=None, passes=2, settled=0.5))
    assert asked(run_virtual, ctx) == "yes"
    assert ctx.told(Hedged)[0].reason == "less than 50% of the canvas is settled after 2 passes"
    assert ctx.told(HedgeEnded)[0].wasted_passes == 3
    # The passes of an engine of this machine are counted whatever the sign was.
    first = Denoiser(
        "diffusion", after(5.0, "no"), can=["choice", "stream"], facts=EngineFacts(device="cpu")
    )
    ctx = context(first, second, router=hedged(after_s=1.0))
    assert asked(run_virtual, ctx) == "yes"
    assert ctx.told(HedgeEnded)[0].wasted_passes == 3


def test_an_engine_that_always_comes_too_late_is_passed_over(
    run_virtual: Run, context: Any
) -> None:
    first, second = engines(after(60.0, "no"), after(0.5, "yes"))
    router = hedged(after_s=1.0)

    async def work() -> list[Any]:
        call = LlmCall((Message("user", "Say it."),), YES)
        return [await answer(call, context(first, second, router=router)) for _ in range(41)]

    assert run_virtual(work()) == ["yes"] * 41
    assert len(first.requests) == 3, "once, and at each probe"
    ctx = context(first, second, router=router)
    assert asked(run_virtual, ctx) == "yes"
    told = "diffusion expects 50% of such answers to be taken, a chance of 50% to save 0.50 s of ar"
    assert ctx.told(Routed)[0].reason.startswith(f"{told} for 1.50 s")


def test_an_engine_that_is_late_now_and_then_is_asked_on(run_virtual: Run, context: Any) -> None:
    replies = [after(60.0 if number % 4 == 3 else 0.1, "yes") for number in range(40)]
    here = EngineFacts(device="cpu")
    first = ScriptedEngine("diffusion", in_turn(*replies), can=["choice"], facts=here)
    second = ScriptedEngine("ar", after(0.5, "yes"), can=["choice"])
    router = hedged(after_s=1.0)

    async def work() -> None:
        call = LlmCall((Message("user", "Say it."),), YES)
        for _ in range(40):
            await answer(call, context(first, second, router=router))

    run_virtual(work())
    assert (len(first.requests), len(second.requests)) == (40, 10)


def test_cancelling_the_call_ends_both(run_virtual: Run, context: Any) -> None:
    first, second = engines(after(9.0, "no"), after(9.0, "yes"))
    ctx = context(first, second, router=hedged(after_s=1.0))

    async def cut() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.0):
                await answer(LlmCall((Message("user", "Say it."),), YES), ctx)

    run_virtual(cut())
    assert first.in_flight == second.in_flight == 0


def test_a_call_that_lost_is_in_the_budget_and_in_the_report(
    run_virtual: Run, context: Any
) -> None:
    first, second = engines(after(60.0, "yes"), after(0.5, "yes"))
    prices = {"diffusion": Price(1e6, 0.0), "ar": Price(0.0, 0.0)}
    router = Router(Policy(rules=RULES, hedge=Hedge(after_s=1.0), prices=prices))
    ctx = context(first, second, router=router)
    assert asked(run_virtual, ctx) == "yes"
    reporter = Reporter()
    reporter(RunStarted("run", 0.0, "flow"))
    for event in ctx.events:
        reporter(event)
    assert reporter.in_order().cost == router.purse.spent.cost > 0


def test_answers_given_before_show_nothing_in_a_race_either(run_virtual: Run, context: Any) -> None:
    first, second = engines(
        after(1.5, Completion("no", confidence=Confidence(0.1))), after(0.8, "yes")
    )
    router = Router(Policy(rules=RULES, hedge=Hedge(after_s=1.0), choose="order"))
    shared = {"router": router, "single_flight": SingleFlight(), "remembered": Remembered()}
    seen = []
    for number in range(3):
        ctx = context(first, second, **shared)
        ctx.node = number
        assert asked(run_virtual, ctx) == "yes"
        seen.append(router.evidence.to_data())
    assert (len(first.requests), len(second.requests)) == (1, 1)
    assert seen == [seen[0]] * 3


def test_of_all_that_lost_it_is_told_in_the_order_in_which_they_were_asked(
    run_virtual: Run, context: Any
) -> None:
    rules = (Rule(("one", "two", "three")),)
    router = Router(Policy(rules=rules, hedge=Hedge(after_s=1.0), choose="order"))
    doubtful = Completion("no", confidence=Confidence(0.1))
    ctx = context(
        ScriptedEngine("one", after(9.0, "no"), can=["choice"]),
        ScriptedEngine("two", after(0.5, doubtful), can=["choice"]),
        ScriptedEngine("three", after(0.5, "yes"), can=["choice"]),
        router=router,
    )
    assert asked(run_virtual, ctx) == "yes"
    ends = ctx.told(HedgeEnded)
    assert [(end.engine, end.loser) for end in ends] == [("three", "one"), ("three", "two")]
    assert [end.wasted_s for end in ends] == pytest.approx([2.0, 0.5], abs=1e-3)
    assert list(router.evidence._at("flow/step", "one").turns) == pytest.approx([2.0], abs=1e-3)
