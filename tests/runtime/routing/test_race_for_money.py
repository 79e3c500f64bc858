"""Calls at once with one budget: where an engine turns out too dear when its turn comes, those that still fit are
asked, and the error says which it was."""

import asyncio
from typing import Any

from carrara.engines.contract import Choice
from carrara.engines.errors import EngineFailed
from carrara.engines.request import Completion, Confidence, Limits, Message, Request, Usage
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import Accepted, Escalated
from carrara.runtime.routing.answer import LlmCall, answer
from carrara.runtime.routing.budget import OverBudget
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import Budget, Policy, Price, Rule

YES = Choice(("yes", "no"))
DEAR = {"quick": Price(completion=1_000.0), "dear": Price(completion=30_000.0)}


def call(number: int) -> LlmCall:
    return LlmCall((Message("user", f"Say {number}."),), YES, limits=Limits(16))


async def used_up(request: Request) -> Completion:
    await asyncio.sleep(0)
    return Completion("yes", usage=Usage(10, 0, 15), confidence=Confidence(1.0))


def at_once(
    context: Any, router: Router, count: int, *engines: ScriptedEngine
) -> tuple[list[Any], list[Any]]:
    asking = [context(*engines, path=f"flow/step[{n}]", router=router) for n in range(count)]

    async def work() -> list[Any]:
        calls = (answer(call(number), ctx) for number, ctx in enumerate(asking))
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(work()), asking


def unsure(engine: str = "quick") -> ScriptedEngine:
    return ScriptedEngine(
        engine,
        lambda _: Completion("no", usage=Usage(10, 0, 1), confidence=Confidence(0.1)),
        can=["choice"],
    )


def test_an_engine_that_evidence_spoke_against_is_asked_where_the_next_turns_out_too_dear(
    context: Any,
) -> None:
    policy = Policy(rules=(Rule(("quick", "dear")),), budget=Budget(cost=1.0), prices=DEAR)
    router = Router(policy)
    for _ in range(4):
        router.evidence.note("flow/step", "quick", False, 0.1)
    quick, dear = unsure(), ScriptedEngine("dear", used_up, can=["choice"])
    found, asking = at_once(context, router, 5, quick, dear)
    assert sorted(map(str, found)) == ["no", "no", "no", "yes", "yes"]
    assert (len(quick.requests), len(dear.requests)) == (3, 2)
    assert router.purse.spent.cost <= 1.0
    (went_on,) = asking[-1].told(Escalated)
    assert (went_on.origin, went_on.target) == ("dear", "quick")
    assert went_on.reason.startswith("the budget is spent: dear may cost $0.48")
    (taken,) = asking[-1].told(Accepted)
    assert "confidence 0.10 is below" in taken.doubt
    assert "dear may cost $0.48" in taken.doubt


def test_an_engine_that_was_asked_already_is_not_asked_again_for_want_of_money(
    context: Any,
) -> None:
    policy = Policy(
        rules=(Rule(("quick", "dear")),), budget=Budget(cost=1.0), prices=DEAR, choose="order"
    )
    quick = ScriptedEngine("quick", lambda _: EngineFailed("broken"))
    dear = ScriptedEngine("dear", used_up, can=["choice"])
    found, _ = at_once(context, Router(policy), 4, quick, dear)
    assert found.count("yes") == 2
    assert len(quick.requests) == 4
    failed = [one for one in found if one != "yes"]
    # What failed may work at the next attempt of the step, with the money that is left.
    assert [type(one) for one in failed] == [EngineFailed] * 2
    assert "dear: the budget is spent" in str(failed[0])
    assert not isinstance(failed[0].__cause__, OverBudget)


def test_engines_that_are_all_too_dear_are_over_the_budget(context: Any) -> None:
    prices = {"one": Price(completion=30_000.0), "two": Price(completion=30_000.0)}
    policy = Policy(rules=(Rule(("one", "two")),), budget=Budget(cost=1.0), prices=prices)
    one, two = (ScriptedEngine(name, used_up, can=["choice"]) for name in ("one", "two"))
    found, _ = at_once(context, Router(policy), 4, one, two)
    assert found.count("yes") == 2
    over = [error for error in found if error != "yes"]
    assert [type(error) for error in over] == [OverBudget] * 2
    assert "one: the budget is spent: one may cost $0.48" in str(over[0])
    assert "two: the budget is spent: two may cost $0.48" in str(over[0])


def test_a_call_that_was_not_made_for_want_of_money_is_no_attempt(context: Any) -> None:
    policy = Policy(
        rules=(Rule(("quick", "dear")),), budget=Budget(cost=1.0), prices=DEAR, max_attempts=1
    )
    router = Router(policy)
    for _ in range(4):
        router.evidence.note("flow/step", "quick", False, 0.1)
    found, _ = at_once(
        context, router, 3, unsure(), ScriptedEngine("dear", used_up, can=["choice"])
    )
    assert sorted(map(str, found)) == ["no", "yes", "yes"]
