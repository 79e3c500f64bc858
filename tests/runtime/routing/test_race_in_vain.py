"""What a race did in vain is told where none of its answers was accepted, too."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from carrara.engines.contract import Choice
from carrara.engines.errors import EngineBusy
from carrara.engines.request import Completion, Confidence, Message, Usage
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import Accepted, HedgeEnded
from carrara.runtime.explain import stories
from carrara.runtime.routing.answer import LlmCall, answer
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.failure import AnswerError
from carrara.runtime.routing.policy import Hedge, Policy, Rule
from tests.runtime.routing.conftest import after

YES = Choice(("yes", "no"))
OFF = Completion("maybe", usage=Usage(prompt_tokens=20, completion_tokens=5))
DOUBTFUL = Completion("no", confidence=Confidence(0.1), usage=Usage(20, 0, 5))
Run = Callable[..., Any]


def raced(run: Run, context: Any, first: Any, second: Any) -> tuple[Any, Any]:
    a, b = ScriptedEngine("a", first, can=["choice"]), ScriptedEngine("b", second, can=["choice"])
    policy = Policy(rules=(Rule(("a", "b")),), hedge=Hedge(after_s=0.2), again=0)
    ctx = context(a, b, router=Router(policy))
    call = LlmCall((Message("user", "Say it."),), YES, repair="off")

    async def work() -> Any:
        (found,) = await asyncio.gather(answer(call, ctx), return_exceptions=True)
        return found

    return run(work()), ctx


def told(ctx: Any) -> list[tuple[Any, ...]]:
    return [
        (end.engine, end.loser, round(end.wasted_s, 3), end.wasted_tokens)
        for end in ctx.told(HedgeEnded)
    ]


def test_of_two_answers_that_are_not_taken_both_are_in_vain(run_virtual: Run, context: Any) -> None:
    value, ctx = raced(run_virtual, context, after(0.5, OFF), after(0.4, OFF))
    assert isinstance(value, AnswerError)
    # The second is asked again beside, as it is late itself.
    assert told(ctx) == [
        ("", "a", 0.5, 25),
        ("", "b", 0.4, 25),
        ("", "b", 0.4, 25),
    ]
    (story,) = stories(ctx.events)
    lines = [line.split("s  ", 1)[1] for line in story.lines()]
    assert "none was taken, 0.50 s, 25 tokens of a in vain" in lines


def test_a_doubtful_answer_that_is_taken_all_the_same_was_not_in_vain(
    run_virtual: Run, context: Any
) -> None:
    full = EngineBusy("full", retry_after_s=1e4)
    value, ctx = raced(run_virtual, context, after(0.5, DOUBTFUL), after(0.1, full))
    assert value == "no"
    assert ctx.told(Accepted)[0].engine == "a"
    assert told(ctx) == [("a", "b", 0.1, 0)]


def test_an_error_that_ends_the_race_tells_it_too(run_virtual: Run, context: Any) -> None:
    full = EngineBusy("full", retry_after_s=1e4)
    value, ctx = raced(run_virtual, context, after(0.5, OFF), after(0.1, full))
    assert value is full
    assert told(ctx) == [("", "a", 0.5, 25), ("", "b", 0.1, 0)]


@pytest.mark.parametrize("reply", [OFF, EngineBusy("full", retry_after_s=1e4)])
def test_where_nothing_started_beside_nothing_is_told(
    run_virtual: Run, context: Any, reply: Any
) -> None:
    _, ctx = raced(run_virtual, context, after(0.1, OFF), after(0.1, reply))
    assert told(ctx) == []
