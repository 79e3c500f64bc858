"""An engine that keeps failing is left alone, tried by one call, and taken back."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.errors import EngineDown, EngineFailed, EngineTimeout, Unreachable
from carrara.engines.remote.faults import placed
from carrara.engines.request import Message, Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.routing.accept import Accept, Judge
from carrara.runtime.routing.answer import LlmCall, answer
from carrara.runtime.routing.breaker import PATIENT, Breakers
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import Policy, Rule


def test_it_opens_after_failures_in_a_row_and_lets_one_probe_through() -> None:
    found = Breakers()
    assert [found.failed("a", 0.0, 3) for _ in range(3)] == [False, False, True]
    assert (
        found.objection("a", 29.0, 30.0) == "a failed 3 times in a row and is left alone for 30 s"
    )
    assert found.objection("a", 30.0, 30.0) is None
    found.asked("a")
    assert found.objection("a", 31.0, 30.0)
    found.failed("a", 31.0, 3)
    assert found.objection("a", 60.0, 30.0)
    assert found.objection("a", 61.0, 30.0) is None
    found.worked("a")
    assert found.failed("a", 62.0, 3) is False


def test_a_probe_that_tells_nothing_lets_the_next_one_through() -> None:
    found = Breakers()
    found.failed("a", 0.0, 1)
    found.asked("a")
    found.gave_up("a")
    assert found.objection("a", 40.0, 30.0) is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["failed", "worked", "gave_up"]), st.floats(0, 40)), max_size=60
    ),
    st.integers(1, 4),
)
def test_half_open_is_never_asked_by_two(acts: list[tuple[str, float]], break_after: int) -> None:
    found, now, row, opened = Breakers(), 0.0, 0, False
    for act, pause in acts:
        now += pause
        if found.objection("a", now, 30.0) is None:
            found.asked("a")
            if opened:
                assert found.objection("a", now, 30.0)
            match act:
                case "failed":
                    found.failed("a", now, break_after)
                    row += 1
                case "worked":
                    found.worked("a")
                    row = 0
                case _:
                    found.gave_up("a")
            opened = row >= break_after


def test_it_quotes_the_last_error_in_short() -> None:
    found = Breakers()
    for error in ("a lost socket", f"out of memory\n{'at x ' * 99}", "y" * 999):
        found.failed("a", 0.0, 1, error)
        objection = found.objection("a", 1.0, 30.0)
        assert objection is not None
        first = error.splitlines()[0]
        shown = first if len(first) < 200 else f"{'y' * 200}…"
        assert objection.endswith(f" and is left alone for 30 s; its last error: {shown}")


def failing(times: int) -> Any:
    left = [EngineFailed("broken")] * times

    def reply(_: Any) -> Any:
        return left.pop() if left else "fine"

    return reply


def test_calls_go_past_a_broken_engine_without_asking_it(run_virtual: Any, context: Any) -> None:
    policy = Policy(rules=(Rule(("diffusion", "ar")),), break_after=3, break_s=10.0)
    first = ScriptedEngine("diffusion", failing(3))
    second = ScriptedEngine("ar", lambda _: "fine")
    ctx = context(first, second, router=Router(policy))
    call = LlmCall((Message("user", "Say it."),))

    async def work() -> None:
        for _ in range(6):
            assert await answer(call, ctx) == "fine"
        assert len(first.requests) == 3
        await asyncio.sleep(11)
        assert await answer(call, ctx) == "fine"
        assert len(first.requests) == 4

    run_virtual(work())


def test_a_call_that_was_not_made_is_no_attempt(run_virtual: Any, context: Any) -> None:
    policy = Policy(rules=(Rule(("diffusion", "ar")),), max_attempts=1, break_after=2)

    async def fail(_: Request) -> Any:
        await asyncio.sleep(1.0)
        return EngineFailed("broken")

    first = ScriptedEngine("diffusion", fail)
    second = ScriptedEngine("ar", lambda _: "fine")
    ctx = context(first, second, router=Router(policy))
    call = LlmCall((Message("user", "Say it."),))

    async def work() -> list[Any]:
        calls = (answer(call, ctx) for _ in range(8))
        return await asyncio.gather(*calls, return_exceptions=True)

    found = run_virtual(work())
    assert [str(one) for one in found] == ["broken"] * 2 + ["fine"] * 6
    assert (len(first.requests), len(second.requests)) == (2, 6)


class Server:
    """Answers unless it is away: then nothing listens, or (`sick`) it fails each call. Keeps the times of the calls."""

    def __init__(
        self,
        away: bool = False,
        sick: bool = False,
        takes_s: float = 0.0,
        kind: type[EngineFailed] = Unreachable,
    ) -> None:
        self.away, self.sick, self.takes_s, self.kind = away, sick, takes_s, kind
        self.asked: list[float] = []
        self.working = self.most_working = 0

    async def reply(self, _: Request) -> Any:
        self.asked.append(asyncio.get_running_loop().time())
        self.working += 1
        self.most_working = max(self.most_working, self.working)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.working -= 1
        if self.away:
            return placed(self.kind("no connection. Is the server running?"), "only", "connect")
        return EngineFailed("it answered 500") if self.sick else "fine"


ONLY = Policy(rules=(Rule(("only",)),), break_after=3, break_s=30.0)


def waited(run_virtual: Any, context: Any, server: Server, calls: int, back_after_s: float) -> Any:
    """Calls side by side that begin once the server, which had answered, has gone: their ends and the seconds."""
    ctx = context(ScriptedEngine("only", server.reply), router=Router(ONLY))
    call = LlmCall((Message("user", "Say it."),))

    async def work() -> tuple[list[Any], float]:
        loop = asyncio.get_running_loop()
        assert await answer(call, ctx) == "fine"
        server.away, server.takes_s = True, 0.1
        server.asked.clear()
        loop.call_later(back_after_s, lambda: setattr(server, "away", False))
        begun = loop.time()
        tasks = [asyncio.ensure_future(answer(call, ctx)) for _ in range(calls)]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        server.asked[:] = [at - begun for at in server.asked]
        return found, loop.time() - begun

    return run_virtual(work())


def test_calls_wait_for_the_only_engine_and_one_at_a_time_tries_it(
    run_virtual: Any, context: Any
) -> None:
    server = Server()
    found, seconds = waited(run_virtual, context, server, 50, back_after_s=20.0)
    assert found == ["fine"] * 50
    # All fail together; then one tries it after 1, 2, 4, 8, 16 s, and all go as soon as it answers.
    tries = [at for at in server.asked if 0.05 < at < seconds - 0.15]
    assert tries == pytest.approx([1.1, 3.2, 7.3, 15.4, 31.5], abs=0.05)
    assert seconds == pytest.approx(31.7, abs=0.1)


def test_the_only_engine_that_stays_away_is_down_after_a_bounded_time(
    run_virtual: Any, context: Any
) -> None:
    server = Server()
    found, seconds = waited(run_virtual, context, server, 50, back_after_s=1e6)
    assert all(isinstance(one, EngineDown) for one in found)
    assert "no connection. Is the server running?" in str(found[0])
    # One has tried it a last time, the others do not wait for the next.
    told = Counter(str(one).split(";")[0].split(", over ")[1] for one in found)
    assert told == {"92 s": 49, "122 s": 1}
    assert PATIENT * 30.0 <= seconds < (PATIENT + 1) * 30.0 + 1.0
    assert len(server.asked) < 50 + 10


def test_an_engine_that_was_never_there_is_not_waited_for(run_virtual: Any, context: Any) -> None:
    server = Server(away=True)
    ctx = context(ScriptedEngine("only", server.reply), router=Router(ONLY))
    call = LlmCall((Message("user", "Say it."),))

    async def work() -> None:
        begun = asyncio.get_running_loop().time()
        for _ in range(6):
            with pytest.raises(EngineDown, match=r"Is the server running\?"):
                await answer(call, ctx)
        assert asyncio.get_running_loop().time() == pytest.approx(begun, abs=0.01)
        assert len(server.asked) == 1, "further calls learn nothing new"
        server.away = False
        await asyncio.sleep(1.0)
        assert await answer(call, ctx) == "fine"

    run_virtual(work())


@pytest.mark.parametrize("recovers", [True, False])
def test_an_engine_that_is_there_and_fails_from_the_beginning_is_waited_for(
    run_virtual: Any, context: Any, recovers: bool
) -> None:
    server = Server(sick=True)
    ctx = context(ScriptedEngine("only", server.reply), router=Router(ONLY))
    call = LlmCall((Message("user", "Say it."),))

    async def work() -> list[Any]:
        for _ in range(ONLY.break_after):
            with pytest.raises(EngineFailed, match="it answered 500"):
                await answer(call, ctx)
        if recovers:
            asyncio.get_running_loop().call_later(50.0, lambda: setattr(server, "sick", False))
        tasks = [asyncio.ensure_future(answer(call, ctx)) for _ in range(50)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = run_virtual(work())
    lost = [one for one in found if type(one) is EngineFailed]  # each had tried it in vain
    assert len(lost) <= 8
    rest = [one for one in found if type(one) is not EngineFailed]
    assert all(one == "fine" if recovers else isinstance(one, EngineDown) for one in rest)


@pytest.mark.parametrize("kind", [Unreachable, EngineTimeout])
def test_an_engine_that_cannot_be_reached_is_asked_once_and_then_the_next(
    run_virtual: Any, context: Any, kind: type[EngineFailed]
) -> None:
    away, fine = Server(away=True, kind=kind), Server()
    policy = Policy(rules=(Rule(("only", "other")),), break_after=5, again=3)
    engines = [ScriptedEngine("only", away.reply), ScriptedEngine("other", fine.reply)]
    ctx = context(*engines, router=Router(policy))

    async def work() -> None:
        assert await answer(LlmCall((Message("user", "Say it."),)), ctx) == "fine"
        assert (len(away.asked), len(fine.asked)) == (1, 1)

    run_virtual(work())


def test_no_call_waits_for_a_dead_engine_while_another_can_answer(
    run_virtual: Any, context: Any
) -> None:
    """A thousand calls of which each would wait for a time-out of 10 s."""
    dead, fine = Server(away=True, takes_s=10.0), Server(takes_s=0.5)
    policy = Policy(rules=(Rule(("only", "other")),), break_after=5, break_s=30.0)
    engines = [ScriptedEngine("only", dead.reply), ScriptedEngine("other", fine.reply)]
    ctx = context(*engines, router=Router(policy))
    call = LlmCall((Message("user", "Say it."),))

    async def worker() -> None:
        for _ in range(50):
            assert await answer(call, ctx) == "fine"

    async def work() -> float:
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(worker())
        return asyncio.get_running_loop().time() - began

    seconds = run_virtual(work())
    assert len(fine.asked) == 1000
    assert len(dead.asked) <= 5 + 2 + seconds / 30.0, "one call at a time tries it"
    # 25 s of answers, and for a few calls the time-outs of the first failures and of those that try it.
    assert seconds <= 90.0


def test_a_judge_that_is_away_is_not_waited_for(run_virtual: Any, context: Any) -> None:
    judge = Server()
    policy = Policy(
        rules=(Rule(("first", "last")),),
        accept={"text": Accept(0.1, judge=Judge("only"))},
        break_after=1,
    )
    fine = ScriptedEngine("first", lambda _: "fine")
    last = ScriptedEngine("last", lambda _: "late")
    ctx = context(fine, last, ScriptedEngine("only", judge.reply), router=Router(policy))
    call = LlmCall((Message("user", "Say it."),))

    async def work() -> None:
        ctx.resources["router"].breakers.worked("only")
        judge.away = True
        began = asyncio.get_running_loop().time()
        for _ in range(3):
            assert await answer(call, ctx) == "fine"
        assert asyncio.get_running_loop().time() == pytest.approx(began, abs=0.01)
        assert len(judge.asked) == 1

    run_virtual(work())
