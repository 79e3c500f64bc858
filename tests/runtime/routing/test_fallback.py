"""A valid answer that was only doubted is taken where no engine behind it answers, and that is told."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from carrara.engines.contract import Choice, Json
from carrara.engines.errors import EngineBusy, EngineFailed, EngineRefused
from carrara.engines.request import Completion, Confidence, Message
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import Accepted, Rejected, RunStarted, StepFinished, to_data
from carrara.runtime.explain import stories
from carrara.runtime.report import report
from carrara.runtime.routing.accept import Accept, Agreement, Judge
from carrara.runtime.routing.answer import AnswerError, LlmCall, answer
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import Budget, Policy, Price, Rule

Ask = Callable[..., Any]
YES = Choice(("yes", "no"))
STRICT = {"choice": Accept(0.99), "json": Accept(0.99), "text": Accept(0.99)}
PAIR = Policy(rules=(Rule(("unsure", "broken")),), accept=STRICT)


def unsure(name: str = "unsure", said: str = "yes", sure: float = 0.5) -> ScriptedEngine:
    return ScriptedEngine(name, [said], confidence=sure, can=["choice", "schema"])


def broken(error: Exception, name: str = "broken") -> ScriptedEngine:
    return ScriptedEngine(name, lambda _: error)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (EngineFailed("out of memory"), "broken failed: out of memory"),
        (EngineRefused("too long"), "broken refused: too long"),
        (EngineBusy("queue is full"), "broken is busy: queue is full"),
    ],
)
def test_a_doubtful_answer_is_taken_when_the_next_engine_gives_none(
    context: Any, ask: Ask, error: Exception, told: str
) -> None:
    ctx = context(unsure(), broken(error), router=Router(PAIR))
    assert ask(ctx, output=YES) == "yes"
    (accepted,) = ctx.told(Accepted)
    assert (accepted.engine, accepted.confidence) == ("unsure", 0.5)
    assert accepted.doubt == f"confidence 0.50 is below 0.99 for choice; {told}"
    assert [event.engine for event in ctx.told(Rejected)] == ["unsure", "broken"]


def test_it_is_a_degraded_mode_and_explained(context: Any, ask: Ask) -> None:
    ctx = context(unsure(), broken(EngineFailed("out of memory")), router=Router(PAIR))
    ask(ctx, output=YES)
    where = ("run", 0.0, ctx.path, 0)
    events = [RunStarted("run", 0.0, "flow"), *ctx.events, StepFinished(*where)]
    degraded = report(events).degraded
    assert degraded[1] == (
        "flow/step: unsure: 1 of its doubtful answers taken all the same "
        "(confidence 0.50 is below 0.99 for choice; broken failed: out of memory)"
    )
    assert degraded[2].endswith("1 of its calls gave no answer (out of memory); answered by unsure")
    (story,) = stories(events)
    assert any("take that of unsure all the same: confidence" in line for line in story.lines())


def test_where_no_attempt_is_left_it_is_taken_too(context: Any, ask: Ask) -> None:
    other = ScriptedEngine("broken", ["no"])
    ctx = context(unsure(), other, router=Router(replace(PAIR, max_attempts=1)))
    assert ask(ctx, output=YES) == "yes"
    assert other.requests == []
    assert ctx.told(Accepted)[0].doubt.endswith("; no attempt is left")


@pytest.mark.parametrize(
    ("accept", "reason"),
    [
        (Accept(0.0, 0.0, agreement=Agreement()), "1 of 3 drafts agree"),
        (Accept(0.0, 0.0, judge=Judge("judge")), "judge judges: no"),
    ],
)
def test_so_is_one_that_other_drafts_or_a_judge_doubt(
    context: Any, ask: Ask, accept: Accept, reason: str
) -> None:
    first = ScriptedEngine("unsure", ["yes", "no", "no"], can=["choice"])
    policy = replace(PAIR, accept={"choice": accept})
    judge = ScriptedEngine("judge", ["no"], can=["choice"])
    ctx = context(first, broken(EngineFailed("gone")), judge, router=Router(policy))
    assert ask(ctx, output=YES) == "yes"
    assert ctx.told(Accepted)[0].doubt.startswith(reason)


def test_the_budget_and_an_open_breaker_leave_it_too(run_virtual: Any, context: Any) -> None:
    budget = replace(PAIR, budget=Budget(cost=0.01), prices={"broken": Price(completion=10.0)})
    router = Router(budget)

    def spend(_: Any) -> str:
        router.purse.settle(
            router.purse.expected("", 0, 0), router.purse.expected("broken", 0, 800)
        )
        return "yes"

    async def work() -> None:
        call = LlmCall((Message("user", "Say it."),), YES)
        first = ScriptedEngine("unsure", spend, confidence=0.5, can=["choice"])
        ctx = context(first, ScriptedEngine("broken", ["no"]), router=router)
        assert await answer(call, ctx) == "yes"
        assert "broken was not asked: the budget is spent" in ctx.told(Accepted)[0].doubt
        assert [told.engine for told in ctx.told(Rejected)] == ["unsure"]

        policy = replace(PAIR, break_after=1, max_wait_s=1.0)
        shut = Router(policy)

        def opens(_: Any) -> str:
            shut.breakers.failed("broken", asyncio.get_running_loop().time(), 1)
            return "yes"

        first = ScriptedEngine("unsure", opens, confidence=0.5, can=["choice"])
        ctx = context(first, ScriptedEngine("broken", ["no"]), router=shut)
        assert await answer(call, ctx) == "yes"
        assert "broken was not asked: broken failed 1 times in a row" in ctx.told(Accepted)[0].doubt

    run_virtual(work())


def test_a_mixed_answer_is_taken_as_it_was_drafted(context: Any, ask: Ask) -> None:
    schema = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in "abc"},
        "required": list("abc"),
    }
    value = {"a": "x", "b": "y", "c": "z"}
    draft = Completion(json.dumps(value), confidence=Confidence(1.0, {"/a": 0.1, "/b": 1, "/c": 1}))
    taken: list[Completion] = []
    first = ScriptedEngine("unsure", [draft], can=["schema"])
    ctx = context(first, broken(EngineFailed("gone")), router=Router(PAIR))
    assert ask(ctx, output=Json.of(schema), take=taken.append) == value
    (accepted,) = ctx.told(Accepted)
    assert (accepted.fields["/a"], accepted.engines) == (0.1, {})
    assert [one.text for one in taken] == [draft.text]


def test_the_engine_furthest_back_has_the_better_answer(context: Any, ask: Ask) -> None:
    policy = replace(PAIR, rules=(Rule(("small", "middle", "broken")),), choose="order")
    engines = unsure("small", "yes", 0.9), unsure("middle", "no", 0.6)
    ctx = context(*engines, broken(EngineFailed("gone")), router=Router(policy))
    assert ask(ctx, output=YES) == "no"


def test_an_invalid_answer_is_never_taken_nor_one_that_a_later_engine_contradicts(
    context: Any, ask: Ask
) -> None:
    for said, then in (("maybe", EngineFailed("gone")), ("yes", "perhaps")):
        ctx = context(
            unsure(said=said),
            ScriptedEngine("broken", lambda _, then=then: then),
            router=Router(PAIR),
        )
        with pytest.raises(AnswerError):
            ask(ctx, output=YES)
        assert ctx.told(Accepted) == []


def test_the_doubt_is_in_the_events_data(context: Any, ask: Ask) -> None:
    ctx = context(unsure(), broken(EngineFailed("gone")), router=Router(PAIR))
    ask(ctx, output=YES)
    assert to_data(ctx.told(Accepted)[0])["doubt"].startswith("confidence")
