"""Other drafts must agree and a judge must nod, where the policy wants it."""

from collections.abc import Callable
from typing import Any

import pytest

from carrara.engines.contract import Choice
from carrara.engines.errors import CarraraError, EngineFailed
from carrara.engines.request import Completion, Confidence
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import Rejected
from carrara.runtime.routing.accept import Accept, Agreement, Judge
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import Policy, Rule

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
