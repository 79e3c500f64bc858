"""Other drafts must agree and a judge must nod, where the policy wants it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from carrara.engines.contract import Choice
from carrara.engines.errors import CarraraError, EngineBusy, EngineFailed, EngineRefused
from carrara.engines.request import Completion, Confidence
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import Accepted, Rejected, RunStarted, StepFinished
from carrara.runtime.explain import stories
from carrara.runtime.report import report
from carrara.runtime.routing.accept import Accept, Agreement, Judge
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import Budget, Policy, Price, Rule

YES = Choice(("yes", "no"))
Ask = Callable[..., Any]


def policy(**accept: Any) -> Router:
    return Router(Policy(rules=(Rule(("diffusion", "ar")),), accept={"choice": Accept(**accept)}))


@pytest.mark.parametrize(
    ("drafts", "answer", "told"),
    [
        (["yes", "yes", "no"], "yes", None),
        (["yes", "no", "no"], "no", "1 of 3 drafts agree, 60% are needed"),
        (["yes", EngineFailed("broken"), "yes"], "yes", None),
        (["yes", EngineFailed("broken"), "no"], "no", "1 of 2 drafts agree, 60% are needed"),
        (["yes", "maybe", "no"], "no", "1 of 3 drafts agree, 60% are needed"),
    ],
)
def test_drafts_have_to_agree(
    context: Any, ask: Ask, drafts: list[Any], answer: str, told: str | None
) -> None:
    first = ScriptedEngine("diffusion", drafts, can=["choice"])
    ctx = context(first, ScriptedEngine("ar", ["no"]), router=policy(agreement=Agreement()))
    assert ask(ctx, output=YES) == answer
    assert [event.reason for event in ctx.told(Rejected)] == ([told] if told else [])
    assert [request.sampling.temperature for request in first.requests] == [0.0, 0.7, 0.7]
    assert len({request.sampling.seed for request in first.requests}) == 3


def test_drafts_that_fail_are_not_blamed_on_the_answer(context: Any, ask: Ask) -> None:
    failing = EngineFailed("gone")
    first = ScriptedEngine("diffusion", ["yes", failing, failing], can=["choice"])
    second, judge = ScriptedEngine("ar", ["no"]), ScriptedEngine("judge", ["yes"])
    ctx = context(first, second, judge, router=policy(agreement=Agreement(), judge=Judge("judge")))
    assert ask(ctx, output=YES) == "yes"
    assert second.requests == []
    assert len(judge.requests) == 1
    assert ctx.told(Accepted)[0].unjudged == "diffusion gave no other draft: gone"


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("yes", "yes"),
        ("no", "no"),
        (Completion("yes", confidence=Confidence(0.3)), "no"),
    ],
)
def test_a_judge_has_the_last_word(context: Any, ask: Ask, said: Any, answer: str) -> None:
    judge = ScriptedEngine("judge", [said], can=["choice"])
    ctx = context(
        ScriptedEngine("diffusion", ["yes"], can=["choice"]),
        ScriptedEngine("ar", ["no"]),
        judge,
        router=policy(judge=Judge("judge")),
    )
    assert ask(ctx, "Is it so?", output=YES) == answer
    shown = judge.requests[0].messages[-1].content
    assert "Is it so?" in shown
    assert "Answer:\nyes" in shown


def test_a_judge_that_is_not_open_is_named(context: Any, ask: Ask) -> None:
    engines = (ScriptedEngine("diffusion", ["yes"]), ScriptedEngine("ar", ["no"]))
    ctx = context(*engines, router=policy(judge=Judge("oracle")))
    with pytest.raises(CarraraError, match="judge 'oracle' is not open; open are: diffusion, ar"):
        ask(ctx, output=YES)


@pytest.mark.parametrize(
    "error", [EngineFailed("gone"), EngineRefused("too long"), EngineBusy("queue is full")]
)
def test_a_judge_that_fails_is_not_blamed_on_the_answer(
    context: Any, ask: Ask, error: Exception
) -> None:
    first, second = ScriptedEngine("diffusion", ["yes"]), ScriptedEngine("ar", ["no"])
    judge = ScriptedEngine("judge", lambda _: error)
    router = policy(judge=Judge("judge"))
    ctx = context(first, second, judge, router=router)
    assert ask(ctx, output=YES) == "yes"
    assert second.requests == []
    assert ctx.told(Rejected) == []
    told = f"judge judge gave no answer: {error}"
    assert ctx.told(Accepted)[0].unjudged == told
    (row,) = (row for row in router.evidence.to_data() if row["engine"] == "diffusion")
    assert (row["accepted"], row["rejected"]) == (1, 0)
    assert router.breakers.failed("diffusion", 0.0, 1)  # its first failure, none was counted
    where = ("run", 0.0, ctx.path, 0)
    events = [RunStarted("run", 0.0, "flow"), *ctx.events, StepFinished(*where)]
    line = f"flow/step: diffusion: 1 of its answers taken unjudged ({told})"
    assert report(events).degraded == [line]
    assert any(f"unjudged: {told}" in line for line in next(iter(stories(events))).lines())


def test_a_judge_that_is_too_dear_is_not_either(context: Any, ask: Ask) -> None:
    router = policy(judge=Judge("judge"))
    dear = replace(
        router.policy, budget=Budget(cost=0.001), prices={"judge": Price(completion=1e6)}
    )
    judge = ScriptedEngine("judge", ["no"])
    engines = (ScriptedEngine("diffusion", ["yes"]), ScriptedEngine("ar", ["no"]), judge)
    ctx = context(*engines, router=Router(dear))
    assert ask(ctx, output=YES) == "yes"
    assert judge.requests == []
    assert "the budget is spent: judge may cost" in ctx.told(Accepted)[0].unjudged
