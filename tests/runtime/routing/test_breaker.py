"""An engine that keeps failing is left alone, tried by one call, and taken back."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.errors import EngineBusy, EngineFailed
from carrara.engines.request import Message
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.routing.answer import LlmCall, answer
from carrara.runtime.routing.breaker import Breakers
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


def test_the_only_engine_is_waited_for_or_says_when(run_virtual: Any, context: Any) -> None:
    policy = Policy(rules=(Rule(("ar",)),), break_after=2, break_s=10.0, max_wait_s=5.0)
    engine = ScriptedEngine("ar", failing(2))
    ctx = context(engine, router=Router(policy))
    call = LlmCall((Message("user", "Say it."),))

    async def work() -> None:
        for _ in range(2):
            with pytest.raises(EngineFailed):
                await answer(call, ctx)
        with pytest.raises(EngineBusy, match=r"failed 2 times in a row .*: broken") as busy:
            await answer(call, ctx)
        assert busy.value.retry_after_s == pytest.approx(10.0, abs=0.1)
        await asyncio.sleep(6)
        assert await answer(call, ctx) == "fine"  # 4 s are waited for
        assert len(engine.requests) == 3

    run_virtual(work())
