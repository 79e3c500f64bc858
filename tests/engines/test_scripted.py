"""The scripted engine keeps the engine protocol; its script decides order, errors, confidence."""

import asyncio

import pytest

from carrara.engines.contract import Choice, Json
from carrara.engines.engine import Engine
from carrara.engines.errors import EngineBusy, EngineFailed, EngineRefused
from carrara.engines.request import Completion, Confidence, Message, Progress, Request
from carrara.engines.scripted import ScriptedEngine


def ask(text: str = "hello there") -> Request:
    return Request((Message("user", text),))


def test_it_is_an_engine() -> None:
    assert isinstance(ScriptedEngine(), Engine)


def test_a_list_answers_in_order_and_then_fails_by_name() -> None:
    async def main() -> None:
        engine = ScriptedEngine("one", ["a", EngineBusy("full", retry_after_s=2.0), "b"])
        async with engine:
            assert (await engine.complete(ask())).text == "a"
            with pytest.raises(EngineBusy):
                await engine.complete(ask())
            assert (await engine.complete(ask())).text == "b"
            with pytest.raises(EngineFailed, match="'one' has no reply left"):
                await engine.complete(ask())
        assert len(engine.requests) == 4

    asyncio.run(main())


def test_a_function_sees_the_request_and_the_value_is_parsed_by_its_contract() -> None:
    async def main() -> None:
        engine = ScriptedEngine(reply=lambda r: r.messages[-1].content.upper(), confidence=0.25)
        answer = await engine.complete(Request((Message("user", "yes"),), Choice(("YES", "NO"))))
        assert answer.value == "YES"
        assert answer.confidence == Confidence(0.25)
        assert answer.usage.prompt_tokens == answer.usage.completion_tokens == 1
        crooked = await engine.complete(Request((Message("user", "{"),), Json.of({})))
        assert crooked.value is None

    asyncio.run(main())


def test_a_whole_completion_is_passed_on_under_the_engines_name() -> None:
    async def main() -> None:
        engine = ScriptedEngine("x", [Completion("cut", stop="length")])
        answer = await engine.complete(ask())
        assert (answer.engine, answer.stop) == ("x", "length")

    asyncio.run(main())


def test_an_event_decides_which_of_two_requests_ends_first() -> None:
    async def main() -> None:
        gates = {"slow": asyncio.Event(), "fast": asyncio.Event()}

        async def reply(request: Request) -> str:
            await gates[request.messages[0].content].wait()
            order.append(request.messages[0].content)
            return "done"

        order: list[str] = []
        engine = ScriptedEngine(reply=reply)
        async with engine, asyncio.TaskGroup() as group:
            slow = group.create_task(engine.complete(ask("slow")))
            fast = group.create_task(engine.complete(ask("fast")))
            gates["fast"].set()
            await fast
            assert not slow.done()
            gates["slow"].set()
        assert order == ["fast", "slow"]
        assert (engine.most_in_flight, engine.in_flight) == (2, 0)

    asyncio.run(main())


def test_leaving_the_engine_ends_what_is_in_flight() -> None:
    async def main() -> None:
        started = asyncio.Event()

        async def never(_: Request) -> str:
            started.set()
            await asyncio.Event().wait()
            return ""

        engine = ScriptedEngine("held", never)
        async with engine:
            async with engine:
                call = asyncio.create_task(engine.complete(ask()))
                await started.wait()
            assert not call.done()
        with pytest.raises(EngineFailed, match="'held' was closed while it worked"):
            await call

    asyncio.run(main())


def test_a_cancelled_call_stays_cancelled_and_frees_its_place() -> None:
    async def main() -> None:
        started = asyncio.Event()

        async def never(_: Request) -> str:
            started.set()
            await asyncio.Event().wait()
            return ""

        engine = ScriptedEngine(reply=never)
        call = asyncio.create_task(engine.complete(ask()))
        await started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert engine.in_flight == 0

    asyncio.run(main())


def test_it_refuses_what_it_says_it_refuses() -> None:
    async def main() -> None:
        engine = ScriptedEngine("small", ["a"], refuses=["choice"], context_tokens=3)
        with pytest.raises(EngineRefused, match="no choice contract"):
            await engine.complete(Request((Message("user", "x"),), Choice(("a",))))
        with pytest.raises(EngineRefused, match="refused 4 prompt tokens, its context holds 3"):
            await engine.complete(ask("one two three four"))
        assert engine.refusal(Json.of({})) is None

    asyncio.run(main())


def test_confidence_may_depend_on_the_answer_and_change_later() -> None:
    async def main() -> None:
        engine = ScriptedEngine(
            reply=lambda _: "a", confidence=lambda r, t: Confidence(0.5, {"": 0.5})
        )
        assert (await engine.complete(ask())).confidence.fields == {"": 0.5}
        engine.confidence = None
        assert (await engine.complete(ask())).confidence.overall is None

    asyncio.run(main())


def test_the_watcher_sees_the_answer() -> None:
    async def main() -> None:
        seen: list[Progress] = []
        await ScriptedEngine(reply=["done"]).complete(ask(), seen.append)
        assert seen == [Progress("done")]

    asyncio.run(main())
