"""In a race an engine that is away is waited for only while nothing else can be had: a doubtful answer of the other
ends the wait."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from carrara.engines.contract import Choice
from carrara.engines.errors import EngineBusy, EngineFailed
from carrara.engines.remote.faults import placed
from carrara.engines.request import Completion, Confidence, Message, Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import Accepted, EngineCalled, Rejected
from carrara.runtime.routing.answer import LlmCall, answer
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import Hedge, Policy, Rule
from tests.runtime.routing.conftest import after

YES = Choice(("yes", "no"))
DOUBTFUL = Completion("yes", confidence=Confidence(0.1))
Run = Callable[..., Any]


def full(request: Request) -> Any:
    return EngineBusy("b is full", engine="b")


def broken(request: Request) -> Any:
    error = placed(EngineFailed("b broke"), "b", "wait")
    error.status = 500
    return error


def raced(
    run: Run, context: Any, first: Any, second: Any, limit_s: float = 1000.0, **policy: Any
) -> tuple[Any, float, Any, ScriptedEngine]:
    """The value (or the error) of a call to engines with these replies, the seconds that it took, its context, and the
    second engine."""
    a, b = (
        ScriptedEngine(name, reply, can=["choice"])
        for name, reply in zip("ab", (first, second), strict=True)
    )
    chosen = Policy(rules=(Rule(("a", "b")),), hedge=Hedge(after_s=0.2), **policy)
    ctx = context(a, b, router=Router(chosen))

    async def timed() -> tuple[Any, float]:
        begun = asyncio.get_running_loop().time()
        async with asyncio.timeout(limit_s):
            call = answer(LlmCall((Message("user", "Say it."),), YES), ctx)
            (value,) = await asyncio.gather(call, return_exceptions=True)
        return value, asyncio.get_running_loop().time() - begun

    value, seconds = run(timed())
    assert a.in_flight == b.in_flight == 0
    return value, seconds, ctx, b


@pytest.mark.parametrize("second", [full, broken])
def test_a_doubtful_answer_ends_the_wait_for_an_engine_that_is_away(
    run_virtual: Run, context: Any, second: Any
) -> None:
    value, seconds, ctx, b = raced(run_virtual, context, after(0.5, DOUBTFUL), second)
    assert value == "yes"
    assert seconds == pytest.approx(0.5, abs=1e-3)
    assert len(b.requests) <= 3
    (taken,) = ctx.told(Accepted)
    assert taken.engine == "a"
    assert taken.doubt.startswith("confidence 0.10 is below 0.50 for choice; b ")
    tries = [event for event in ctx.told(Rejected) if event.engine == "b"]
    assert len(tries) == len(b.requests), "each is told once"


@pytest.mark.parametrize("comes_s", [1.5, 40.0])
def test_it_does_so_whenever_it_comes(run_virtual: Run, context: Any, comes_s: float) -> None:
    value, seconds, _, _ = raced(run_virtual, context, after(comes_s, DOUBTFUL), full)
    assert value == "yes"
    assert seconds == pytest.approx(comes_s, abs=1e-3)


def test_an_engine_that_is_away_is_waited_for_where_the_other_failed(
    run_virtual: Run, context: Any
) -> None:
    replies = iter([EngineBusy("b is full", engine="b")] * 4)
    value, seconds, _, b = raced(
        run_virtual,
        context,
        after(0.5, EngineFailed("a broke", engine="a")),
        lambda _: next(replies, "no"),
    )
    assert value == "no"
    assert len(b.requests) == 5
    assert seconds > 5


def test_an_answer_behind_that_breaks_the_contract_is_no_reason_to_give_up_the_wait(
    run_virtual: Run, context: Any
) -> None:
    replies = iter(["neither", *[EngineBusy("b is full", engine="b")] * 2])
    value, seconds, _, b = raced(
        run_virtual, context, after(0.5, DOUBTFUL), lambda _: next(replies, "no")
    )
    assert value == "no", (
        "the doubtful one is not taken after it, so that nothing is to be had without b"
    )
    assert len(b.requests) == 4
    assert seconds == pytest.approx(0.2 + 1 + 2, abs=0.3)


def test_the_log_does_not_say_that_none_can_answer_while_one_is_asked(
    run_virtual: Run, context: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        raced(run_virtual, context, after(5.0, "yes"), full)
    assert [record.getMessage() for record in caplog.records] == [
        "b is full; it is tried again for up to 120 s while another engine is asked"
    ]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        raced(run_virtual, context, after(0.1, EngineFailed("a broke", engine="a")), full)
    assert [record.getMessage() for record in caplog.records] == [
        "b is full; no other engine can answer, so it is tried again for up to 120 s"
    ]


def test_an_equal_call_in_a_race_is_told_once(run_virtual: Run, context: Any) -> None:
    _, _, ctx, b = raced(run_virtual, context, after(0.5, DOUBTFUL), full)
    called = [event for event in ctx.told(EngineCalled) if event.engine == "b"]
    assert len(called) == len(b.requests)
