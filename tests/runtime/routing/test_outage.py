"""The only engine that can answer is busy, fails, or drops connections for a while: its calls wait for it, and none is
lost."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from carrara.engines.errors import EngineBusy, EngineDown, EngineError, EngineFailed, Unreachable
from carrara.engines.remote.faults import placed
from carrara.engines.request import Message, Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.errors import StepError
from carrara.runtime.events import EngineCalled, Rejected
from carrara.runtime.routing.answer import LlmCall, answer
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import Policy, Rule
from carrara.runtime.run import context as run_context
from carrara.runtime.run import execute, submit
from carrara.runtime.step import StepOptions, StepSpec
from carrara.workflows.engine_room import EngineRoom
from carrara.workflows.steps import ask_engines

POLICY = Policy(rules=(Rule(("only",)),), break_s=3.0)
BOUND_S = 12.0


def loading() -> EngineError:
    return placed(EngineBusy("503: loading"), "only", "wait", 503)


def held_off() -> EngineError:
    return placed(EngineBusy("429: slow down", retry_after_s=2.0), "only", "wait", 429)


def broken() -> EngineError:
    return placed(EngineFailed("500: internal"), "only", "wait", 500)


def dropped() -> EngineError:
    return placed(EngineFailed("closed the connection"), "only", "wait")


def unreachable() -> EngineError:
    return placed(Unreachable("no connection"), "only", "connect")


TROUBLES = pytest.mark.parametrize("trouble", [loading, held_off, broken, dropped])


class Server:
    """Answers, but in trouble from `ill_s` on until `well_s`; and always fails prompts of "poison"."""

    def __init__(self, trouble: Callable[[], EngineError], ill_s: float, well_s: float) -> None:
        self.trouble, self.ill_s, self.well_s = trouble, ill_s, well_s
        self.asked = 0

    async def reply(self, request: Request) -> Any:
        self.asked += 1
        await asyncio.sleep(0.1)
        now = asyncio.get_running_loop().time()
        if self.ill_s <= now < self.well_s or request.messages[0].content == "poison":
            return self.trouble()
        return "fine"


def endings(
    run_virtual: Any, context: Any, server: Server, prompts: list[str], workers: int
) -> tuple[list[Any], float]:
    """Answers or errors, in order, and the seconds that all took."""
    router, found = Router(POLICY), dict[int, Any]()
    engine = ScriptedEngine("only", server.reply)

    async def worker(numbers: Any) -> None:
        for number, prompt in numbers:
            ctx = context(engine, router=router)
            try:
                found[number] = await answer(LlmCall((Message("user", prompt),)), ctx)
            except EngineError as error:
                found[number] = error

    async def work() -> float:
        numbers = iter(list(enumerate(prompts)))
        await asyncio.gather(*(worker(numbers) for _ in range(workers)))
        return asyncio.get_running_loop().time()

    seconds = run_virtual(work())
    return [found[number] for number in range(len(prompts))], seconds


@TROUBLES
@pytest.mark.parametrize("workers", [1, 2, 16])
@pytest.mark.parametrize("ill_s", [0.0, 0.35])
def test_an_outage_costs_no_call(
    run_virtual: Any, context: Any, trouble: Any, workers: int, ill_s: float
) -> None:
    server = Server(trouble, ill_s, ill_s + 6.0)
    found, seconds = endings(run_virtual, context, server, ["x"] * 40, workers)
    assert found == ["fine"] * 40
    assert seconds < 6.0 + 40 * 0.1 + 5.0
    first_tries = (
        4 if trouble is held_off else 2
    )  # of each call, before the engine is known to be away
    assert server.asked <= 40 + first_tries * workers + 8, "one call at a time tries it"


@TROUBLES
def test_after_the_bound_the_engine_is_down_for_all(
    run_virtual: Any, context: Any, trouble: Any
) -> None:
    server = Server(trouble, 0.35, 1e9)
    found, seconds = endings(run_virtual, context, server, ["x"] * 100, 16)
    lost = [one for one in found if one != "fine"]
    assert len(lost) > 16
    assert all(isinstance(one, EngineDown) for one in lost)
    assert str(trouble()) in str(lost[0])
    assert BOUND_S < seconds < BOUND_S + (12.0 if trouble is held_off else 5.0)


def test_a_prompt_that_breaks_a_server_which_answers_others_is_told_of_soon(
    run_virtual: Any, context: Any
) -> None:
    prompts = ["x"] * 20 + ["poison"] + ["x"] * 100
    found, seconds = endings(run_virtual, context, Server(broken, 0, 0), prompts, 4)
    assert [type(one) for one in found if one != "fine"] == [EngineFailed]
    assert "500: internal" in str(found[20])
    assert seconds < 5.0


def test_a_last_prompt_that_breaks_the_server_fails_by_itself(
    run_virtual: Any, context: Any
) -> None:
    found, seconds = endings(run_virtual, context, Server(broken, 0, 0), ["x"] * 9 + ["poison"], 4)
    assert found[:9] == ["fine"] * 9
    assert type(found[9]) is EngineFailed
    assert BOUND_S < seconds < BOUND_S + 5.0


def given_up(
    run_virtual: Any, context: Any, trouble: Any, *, hurried: bool, answers_before: bool = False
) -> tuple[float, EngineFailed]:
    """The seconds until a call at an engine that stays in trouble fails, and its error."""
    engine = ScriptedEngine("only", Server(trouble, 1.0 if answers_before else 0.0, 1e9).reply)
    router = Router(Policy(rules=(Rule(("only",)),)))

    async def work() -> tuple[float, EngineFailed]:
        if answers_before:
            assert await answer(PROMPT, context(engine, router=router)) == "fine"
            await asyncio.sleep(1.0)
        begun = asyncio.get_running_loop().time()
        with pytest.raises(EngineFailed) as caught:
            await answer(PROMPT, context(engine, router=router, hurried=hurried))
        return asyncio.get_running_loop().time() - begun, caught.value

    found: tuple[float, EngineFailed] = run_virtual(work())
    return found


def test_a_server_that_only_fails_from_the_beginning_is_given_up_soon_where_somebody_waits(
    run_virtual: Any, context: Any
) -> None:
    seconds, error = given_up(run_virtual, context, broken, hurried=True)
    assert (
        15.0 < seconds < 20.0
    )  # its first tries, and pauses of 1, 2, 4, 8 s up to half of break_s
    assert isinstance(error, EngineDown)
    assert "engine 'only' has not answered once: it failed 9 times in a row, over 1" in str(error)
    assert "500: internal" in str(error)
    assert given_up(run_virtual, context, broken, hurried=False)[0] > 120.0


@pytest.mark.parametrize("trouble", [loading, dropped])
def test_a_server_that_may_still_be_starting_is_waited_for_by_all(
    run_virtual: Any, context: Any, trouble: Any
) -> None:
    assert given_up(run_virtual, context, trouble, hurried=True)[0] > 120.0


def test_a_server_that_failed_in_another_way_before_may_still_be_starting(
    run_virtual: Any, context: Any
) -> None:
    turns = iter([loading, *[broken] * 1000])
    begun_by_loading: Callable[[], EngineError] = lambda: next(turns)()  # noqa: E731
    engine = ScriptedEngine("only", Server(begun_by_loading, 0.0, 1e9).reply)

    async def work() -> float:
        router = Router(Policy(rules=(Rule(("only",)),)))
        with pytest.raises(EngineDown, match="500: internal"):
            await answer(PROMPT, context(engine, router=router, hurried=True))
        return asyncio.get_running_loop().time()

    assert run_virtual(work()) > 120.0


def test_a_server_that_has_answered_before_is_waited_for_by_all(
    run_virtual: Any, context: Any
) -> None:
    assert given_up(run_virtual, context, broken, hurried=True, answers_before=True)[0] > 120.0


def test_a_wait_that_is_too_long_is_told_at_once(run_virtual: Any, context: Any) -> None:
    server = Server(lambda: EngineBusy("429", retry_after_s=1000.0), 0.0, 1e9)
    found, seconds = endings(run_virtual, context, server, ["x"], 1)
    assert isinstance(found[0], EngineBusy)
    assert (server.asked, seconds < 1.0) == (1, True)


PROMPT = LlmCall((Message("user", "x"),))


async def answered() -> Any:
    return await answer(PROMPT, run_context())


async def opened_and_answered() -> Any:
    return await ask_engines(PROMPT, run_context())


def run_step(run_virtual: Any, body: Any, engines: Any, timeout_s: float) -> tuple[Any, float]:
    """What a workflow of one step in a sub-workflow, both with the same timeout, ends with, and after which time."""
    options = StepOptions(timeout_s=timeout_s)

    async def inner() -> Any:
        return await submit(StepSpec("ask", body, "llm", options=options), (), {})

    async def flow() -> Any:
        return await submit(StepSpec("inner", inner, "workflow", options=options), (), {})

    async def work() -> tuple[Any, float]:
        resources = {"engines": engines, "router": Router(POLICY)}
        try:
            found: Any = (await execute(flow, (), {}, resources=resources)).value
        except StepError as error:
            found = error
        if isinstance(engines, EngineRoom):
            await engines.__aexit__(None, None, None)
        return found, asyncio.get_running_loop().time()

    ended: tuple[Any, float] = run_virtual(work())
    return ended


@TROUBLES
def test_waiting_for_an_engine_counts_in_no_timeout(run_virtual: Any, trouble: Any) -> None:
    engine = ScriptedEngine("only", Server(trouble, 0.0, 6.0).reply)
    found, seconds = run_step(run_virtual, answered, {"only": engine}, timeout_s=1.2)
    assert found == "fine"
    assert seconds > 6.0


def test_an_engine_that_stays_away_is_down_whatever_the_timeout(run_virtual: Any) -> None:
    engine = ScriptedEngine("only", Server(loading, 0.0, 1e9).reply)
    found, _ = run_step(run_virtual, answered, {"only": engine}, timeout_s=1.2)
    causes = [found]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    assert isinstance(causes[-1], EngineDown)


@TROUBLES
def test_the_bound_holds_where_it_is_shorter_than_the_pauses(
    run_virtual: Any, context: Any, trouble: Any
) -> None:
    server = Server(trouble, 0.0, 1e9)
    ctx = context(
        ScriptedEngine("only", server.reply),
        router=Router(Policy(rules=(Rule(("only",)),), break_s=0.1)),
    )

    async def work() -> float:
        with pytest.raises(EngineDown):
            await answer(LlmCall((Message("user", "x"),)), ctx)
        return asyncio.get_running_loop().time()

    assert run_virtual(work()) < 30


class Slow(ScriptedEngine):
    """Takes 20 s to open."""

    async def _begin(self) -> None:
        await asyncio.sleep(20.0)


@pytest.mark.parametrize(("takes_s", "wanted"), [(1.0, "fine"), (3.0, "timeout_s of 2 s")])
def test_opening_an_engine_counts_in_no_timeout_and_answering_does(
    run_virtual: Any, takes_s: float, wanted: str
) -> None:
    async def reply(_: Request) -> str:
        await asyncio.sleep(takes_s)
        return "fine"

    room = EngineRoom({"only": Slow("only", reply)})

    found, seconds = run_step(run_virtual, opened_and_answered, room, timeout_s=2.0)
    assert wanted in str(found)
    assert seconds == pytest.approx(20.0 + min(takes_s, 2.0), abs=0.1)


@pytest.mark.parametrize("answers_before", [False, True])
@pytest.mark.parametrize("gone", [loading, broken, unreachable])
def test_each_call_in_vain_is_told_once(
    run_virtual: Any, context: Any, gone: Any, answers_before: bool
) -> None:
    server = Server(gone, 1.0 if answers_before else 0.0, 1e9)
    engine = ScriptedEngine("only", server.reply)
    router = Router(POLICY)

    async def work() -> Any:
        if answers_before:
            await answer(PROMPT, context(engine, router=router))
            await asyncio.sleep(1.0)
            server.asked = 0
        ctx = context(engine, router=router)
        with pytest.raises(EngineFailed):
            await answer(PROMPT, ctx)
        return ctx

    ctx = run_virtual(work())
    assert len(ctx.told(EngineCalled)) == len(ctx.told(Rejected)) == server.asked > 0
