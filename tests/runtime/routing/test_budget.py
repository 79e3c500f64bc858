"""No call is made that could exceed the budget, whatever runs at once, and what was spent is told."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.request import Completion, Limits, Message, Usage
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import EngineAnswered, Routed
from carrara.runtime.routing.answer import LlmCall, answer
from carrara.runtime.routing.budget import OverBudget, Purse, Spending, spending_of
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import Budget, Policy, Price, Rule

PRICES = {"dear": Price(prompt=1.0, completion=4.0, cached=0.1)}


def test_cached_tokens_have_their_own_price() -> None:
    usage = Usage(prompt_tokens=1000, cached_tokens=600, completion_tokens=100)
    assert spending_of(usage, PRICES["dear"]) == Spending(1100, pytest.approx(860 / 1e6))
    assert spending_of(usage, Price(1.0, 4.0)) == Spending(1100, pytest.approx(1400 / 1e6))
    assert spending_of(usage, None) == Spending(1100, 0.0)


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
