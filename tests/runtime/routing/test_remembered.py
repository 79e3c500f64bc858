"""Equal requests of a run are answered once, whether they overlap or not."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from carrara.engines.contract import Choice
from carrara.engines.errors import EngineFailed
from carrara.engines.request import Completion, Confidence, Message, Request, Sampling, Usage
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import EngineAnswered, EngineCalled
from carrara.runtime.routing.answer import LlmCall, answer
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import Policy, Rule
from carrara.runtime.routing.remembered import Remembered
from carrara.runtime.single_flight import SingleFlight

Context = Callable[..., Any]
CALL = LlmCall((Message("user", "Say it."),))


def asked(text: str, **more: Any) -> Request:
    return Request((Message("user", text),), **more)


def contexts(context: Context, engine: ScriptedEngine, count: int) -> list[Any]:
    shared = {
        "router": Router(Policy(rules=(Rule(("ar",)),))),
        "single_flight": SingleFlight(),
        "remembered": Remembered(),
    }
    found = [context(engine, **shared) for _ in range(count)]
    for number, ctx in enumerate(found):
        ctx.node = number
    return found


def test_an_answer_given_before_shows_nothing_of_its_engines(context: Context) -> None:
    """Neither time nor verdict: else a slow engine whose answers are repeated would seem to take no time."""
    weak = Completion("no", confidence=Confidence(0.1))
    first, second = (
        ScriptedEngine("diffusion", lambda _: weak),
        ScriptedEngine("ar", lambda _: "yes"),
    )
    router = Router(Policy(rules=(Rule(("diffusion", "ar")),), choose="order", give_up_after=100))
    shared = {"router": router, "single_flight": SingleFlight(), "remembered": Remembered()}
    asking = [context(first, second, **shared) for _ in range(5)]
    for number, ctx in enumerate(asking):
        ctx.node = number
    call = LlmCall((Message("user", "Say it."),), Choice(("yes", "no")))
    assert one_by_one(call, asking[:1]) == ["yes"]
    asked_once = (
        router.evidence.to_data(),
        router.evidence.prospect("flow/step", "diffusion", "ar", 0.5),
    )
    assert one_by_one(call, asking[1:]) == ["yes"] * 4
    assert (len(first.requests), len(second.requests)) == (1, 1)
    seen = router.evidence.to_data(), router.evidence.prospect("flow/step", "diffusion", "ar", 0.5)
    assert seen == asked_once
    assert seen[1].next_s


def one_by_one(call: LlmCall, asking: list[Any]) -> list[Any]:
    async def main() -> list[Any]:
        return [await answer(call, ctx) for ctx in asking]

    return asyncio.run(main())


def test_an_equal_request_is_answered_once_and_paid_for_once(context: Context) -> None:
    engine = ScriptedEngine("ar", lambda _: Completion("yes", usage=Usage(10, 0, 5)))
    asking = contexts(context, engine, 3)
    assert one_by_one(CALL, asking) == ["yes"] * 3
    assert len(engine.requests) == 1
    assert asking[0].resources["router"].purse.spent.tokens == 15
    assert [ctx.told(EngineAnswered)[0].usage for ctx in asking] == [
        Usage(10, 0, 5),
        Usage(),
        Usage(),
    ]
    assert (
        asking[2]
        .told(EngineCalled)[0]
        .reason.endswith("; joined an equal request answered before in this run")
    )


@pytest.mark.parametrize(
    ("sampling", "calls"), [(Sampling(0.7), 3), (Sampling(0.7, seed=1), 1)], ids=["open", "seeded"]
)
def test_only_repeatable_requests_are_remembered(
    context: Context, sampling: Sampling, calls: int
) -> None:
    engine = ScriptedEngine("ar", lambda _: "yes")
    one_by_one(LlmCall(CALL.messages, sampling=sampling), contexts(context, engine, 3))
    assert len(engine.requests) == calls


def test_a_call_that_failed_is_made_again(context: Context) -> None:
    replies = iter([EngineFailed("gone"), "yes"])

    def reply(_: Request) -> str:
        found = next(replies)
        if isinstance(found, Exception):
            raise found
        return found

    engine = ScriptedEngine("ar", reply)
    first, second, third = contexts(context, engine, 3)
    with pytest.raises(EngineFailed):
        one_by_one(CALL, [first])
    assert one_by_one(CALL, [second, third]) == ["yes", "yes"]
    assert len(engine.requests) == 2


def test_who_asks_once_more_is_given_another_answer(context: Context) -> None:
    texts = iter("abc")
    engine = ScriptedEngine("ar", lambda _: next(texts))
    first, second = contexts(context, engine, 2)
    assert one_by_one(CALL, [first, first, second, second]) == ["a", "b", "b", "c"]


def test_the_least_recently_used_is_forgotten_beyond_the_bound() -> None:
    known = Remembered(most_bytes=3 * 1024 + 100)
    for number, text in enumerate("abc"):
        known.put("ar", asked(text), number, Completion(text))
    assert known.get("ar", asked("a"), 10) is not None
    known.put("ar", asked("d"), 4, Completion("d"))
    found = [known.get("ar", asked(text), 11) for text in "abcd"]
    assert [each.text if each else None for each in found] == ["a", None, "c", "d"]
    assert known.bytes <= 3 * 1024 + 100
    known.put("ar", asked("e"), 5, Completion("e" * 4096))
    assert known.get("ar", asked("e"), 12) is None
    assert known.get("ar", asked("d"), 12) is not None


def test_another_engine_text_contract_or_sampling_is_another_question() -> None:
    known = Remembered()
    known.put(("ar", "1"), asked("a"), 0, Completion("a"))
    others = [
        (("ar", "2"), asked("a")),
        (("ar", "1"), asked("b")),
        (("ar", "1"), asked("a", sampling=Sampling(0.5, seed=1))),
        (("ar", "1"), asked("a", stop=("\n",))),
        (("ar", "1"), Request((Message("system", "a"),))),
        (("ar", "1"), Request((Message("user", "a"), Message("user", "")))),
    ]
    assert [known.get(place, request, 1) for place, request in others] == [None] * len(others)
    assert known.get(("ar", "1"), asked("a"), 1) is not None
