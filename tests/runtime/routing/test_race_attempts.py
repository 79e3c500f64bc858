"""`max_attempts` bounds the moves of a call in all, those of both engines in a race among them."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from carrara.engines.contract import Choice
from carrara.engines.errors import CarraraError, EngineFailed
from carrara.engines.request import Completion, Confidence, Message
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import Hedged
from carrara.runtime.routing.answer import LlmCall, answer
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import Hedge, Policy, Rule
from tests.runtime.routing.conftest import after

YES = Choice(("yes", "no"))
Run = Callable[..., Any]


def raced(run: Run, context: Any, most: int, **replies: Any) -> tuple[Any, Any, int]:
    """The value or error of a call with `max_attempts=most`, its context, and how many calls were made."""
    engines = [ScriptedEngine(name, reply, can=["choice"]) for name, reply in replies.items()]
    policy = Policy(
        rules=(Rule(tuple(replies)),), hedge=Hedge(after_s=0.2), max_attempts=most, choose="order"
    )
    ctx = context(*engines, router=Router(policy))

    async def work() -> Any:
        try:
            return await answer(LlmCall((Message("user", "Say it."),), YES), ctx)
        except CarraraError as error:
            return error

    return run(work()), ctx, sum(len(one.requests) for one in engines)


def test_the_one_attempt_gets_no_company(run_virtual: Run, context: Any) -> None:
    value, ctx, made = raced(run_virtual, context, 1, a=after(1.0, "yes"), b=after(0.2, "no"))
    assert (value, made, ctx.told(Hedged)) == ("yes", 1, [])


def test_a_second_call_is_the_second_attempt(run_virtual: Run, context: Any) -> None:
    value, ctx, made = raced(run_virtual, context, 2, only=after(0.6, "maybe"))
    assert made == 2
    assert len(ctx.told(Hedged)) == 1
    assert len(value.attempts) == 2


BROKEN = EngineFailed("cut")
BROKEN.phase = "read"
REPLIES = [
    *product(
        (0.1, 0.3, 0.9), ("yes", "maybe", Completion("no", confidence=Confidence(0.1)), BROKEN)
    )
]


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("first", REPLIES)
def test_no_more_moves_are_made_than_it_says(
    run_virtual: Run, context: Any, first: Any, most: int
) -> None:
    for second, third in product(REPLIES, REPLIES[::3]):
        replies = {"a": after(*first), "b": after(*second), "c": after(*third)}
        _, _, made = raced(run_virtual, context, most, **replies)
        assert made <= most, (second, third)
