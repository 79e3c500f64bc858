"""Answers within a real run: steps, events, retries and limits of the runtime around them."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from carrara.engines.contract import Choice, Json
from carrara.engines.engine import Engine
from carrara.engines.errors import EngineBusy
from carrara.engines.request import Message, Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.errors import StepError
from carrara.runtime.events import Event, Rejected, Routed, StepFailed
from carrara.runtime.limits import EngineGate, EngineLimits
from carrara.runtime.routing.answer import AnswerError, LlmCall, answer
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import Policy
from carrara.runtime.run import context, execute, submit, submit_map
from carrara.runtime.single_flight import SingleFlight
from carrara.runtime.step import StepOptions, StepSpec

YES = Choice(("yes", "no"))


async def classify(text: str) -> Any:
    return await answer(LlmCall((Message("user", text),), YES), context())


CLASSIFY = StepSpec("classify", classify, "llm", options=StepOptions(retries=1))


async def all_of(texts: list[str]) -> Any:
    return await submit_map(CLASSIFY, texts, {}, None)


async def one_of(text: str) -> Any:
    return await submit(CLASSIFY, (text,), {})


def run(
    workflow: Any,
    argument: Any,
    engines: Sequence[Engine],
    events: list[Event] | None = None,
    router: Router | None = None,
) -> Any:
    async def main() -> Any:
        resources = {
            "engines": {engine.name: engine for engine in engines},
            "router": router or Router(),
            "gates": {engine.name: EngineGate(EngineLimits(concurrency=2)) for engine in engines},
            "single_flight": SingleFlight(),
        }
        listeners = [] if events is None else [events.append]
        result = await execute(
            workflow, (argument,), {}, name="flow", listeners=listeners, resources=resources
        )
        return result.value

    return asyncio.run(main())


def test_a_fan_out_is_answered_in_order_and_learns_to_leave_a_poor_engine() -> None:
    async def doubtful(_: Request) -> str:
        await asyncio.to_thread(lambda: None)
        return "no"

    poor = ScriptedEngine("diffusion", doubtful, confidence=0.2)
    good = ScriptedEngine("ar", lambda r: "yes" if "even" in r.messages[0].content else "no")
    texts = [f"{n} {'even' if n % 2 == 0 else 'odd'}" for n in range(30)]
    events: list[Event] = []
    answers = run(all_of, texts, [poor, good], events)
    assert answers == ["yes", "no"] * 15
    assert len(poor.requests) < 10
    assert good.most_in_flight <= 2
    routed = [event for event in events if isinstance(event, Routed)]
    rejected = [event for event in events if isinstance(event, Rejected)]
    assert (len(routed), len(rejected)) == (30, len(poor.requests))
    assert {event.path for event in routed} == {f"flow/classify[{n}]" for n in range(30)}


def test_an_engine_that_is_busy_for_too_long_is_tried_again_by_the_steps_own_retries() -> None:
    engine = ScriptedEngine("ar", [EngineBusy("full", retry_after_s=0.01), "yes"])
    events: list[Event] = []
    hasty = Router(Policy(max_wait_s=0.0))
    assert run(one_of, "x", [engine], events, hasty) == "yes"
    assert [event.will_retry for event in events if isinstance(event, StepFailed)] == [True]


def test_a_step_without_an_acceptable_answer_fails_with_the_raw_text() -> None:
    with pytest.raises(StepError) as caught:
        run(one_of, "x", [ScriptedEngine("ar", lambda _: "maybe")])
    assert isinstance(caught.value.__cause__, AnswerError)
    assert caught.value.__cause__.text == "maybe"


def test_equal_steps_of_a_run_ask_once() -> None:
    asked = asyncio.Event()

    async def slowly(_: Request) -> str:
        asked.set()
        await asyncio.to_thread(lambda: None)
        return "yes"

    engine = ScriptedEngine("ar", slowly)
    assert run(all_of, ["same"] * 2, [engine]) == ["yes", "yes"]
    assert len(engine.requests) == 1


def test_a_json_contract_survives_a_whole_run() -> None:
    person = Json.of(
        {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    )

    async def extract(text: str) -> Any:
        return await answer(LlmCall((Message("user", text),), person), context())

    async def flow(text: str) -> Any:
        return await submit(StepSpec("extract", extract, "llm"), (text,), {})

    engine = ScriptedEngine("ar", ["Well: {'n': 3,}"])
    assert run(flow, "x", [engine]) == {"n": 3}
