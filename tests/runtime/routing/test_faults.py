"""Under a server that fails a fifth of its calls and stalls one in twenty: every record gets an answer or a named
error, no call is left hanging, and the slow ones are not much slower. The time is virtual."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from statistics import quantiles
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrara.engines.contract import Choice
from carrara.engines.errors import (
    BadReply,
    CarraraError,
    EngineBusy,
    EngineFailed,
    EngineTimeout,
    StreamCut,
)
from carrara.engines.remote.faults import placed
from carrara.engines.request import Message, Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.routing.answer import LlmCall, answer
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import Hedge, Policy, Rule

YES = Choice(("yes", "no"))
RECORDS, WORKERS = 400, 16
TIMEOUT_S = 30.0
Run = Callable[..., Any]


def server(name: str, seed: int, fails: float, stalls: float, usual_s: float = 1.0) -> Any:
    """Answers after about `usual_s`; fails before or in the middle; stalls until the client's time-out."""
    draw = random.Random(seed)

    async def reply(request: Request) -> Any:
        fate, takes_s = draw.random(), usual_s * draw.lognormvariate(0, 0.3)
        if fate < stalls:
            await asyncio.sleep(TIMEOUT_S)
            return placed(EngineTimeout("no answer"), name, "wait")
        if fate < stalls + fails:
            await asyncio.sleep(takes_s * draw.random())
            kinds = (EngineFailed("500"), StreamCut("cut"), BadReply("not JSON"))
            return draw.choice((*(placed(one, name, "read") for one in kinds), EngineBusy("503")))
        await asyncio.sleep(takes_s)
        return "yes"

    return ScriptedEngine(name, reply, can=["choice"])


def policy(*engines: str) -> Policy:
    hedge = Hedge(times=3.0, share=0.95)
    return Policy(rules=(Rule(engines),), hedge=hedge, again=2, choose="order", give_up_after=1000)


def endings(run_virtual: Run, context: Any, router: Router, *engines: Any) -> list[Any]:
    """For each record its seconds and its answer or error."""
    found: list[tuple[float, Any]] = []

    async def worker(numbers: Any) -> None:
        clock = asyncio.get_running_loop().time
        for number in numbers:
            started = clock()
            ctx = context(*engines, path=f"job/step[{number}]", router=router)
            try:
                ended: Any = await answer(LlmCall((Message("user", "?"),), YES), ctx)
            except CarraraError as error:
                ended = error
            found.append((clock() - started, ended))

    async def job() -> None:
        numbers = iter(range(RECORDS))
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(worker(numbers))
        assert len(asyncio.all_tasks()) == 1  # this one: nothing goes on behind it

    run_virtual(job())
    return found


def p95(found: list[Any]) -> float:
    return quantiles([seconds for seconds, _ in found], n=20, method="inclusive")[-1]


@pytest.mark.parametrize(
    ("names", "other_s"),
    [(("server",), 1.0), (("server", "other"), 1.0), (("server", "other"), 2.0)],
)
@pytest.mark.parametrize("seed", range(3))
def test_faults_cost_less_than_twice_the_time_of_the_slow_records(
    run_virtual: Run, context: Any, names: tuple[str, ...], other_s: float, seed: int
) -> None:
    def run(fails: float, stalls: float) -> list[Any]:
        first = server("server", seed, fails, stalls)
        engines = [first, *(server(name, seed + 1, 0, 0, other_s) for name in names[1:])]
        found = endings(run_virtual, context, Router(policy(*names)), *engines)
        assert [engine.in_flight for engine in engines] == [0] * len(engines)
        return found

    healthy, faulty = run(0.0, 0.0), run(0.2, 0.05)
    assert [ended for _, ended in healthy] == ["yes"] * RECORDS
    answered = sum(ended == "yes" for _, ended in faulty)
    assert answered >= 0.9 * RECORDS
    assert all(ended == "yes" or isinstance(ended, CarraraError) for _, ended in faulty)
    assert p95(faulty) < 2 * p95(healthy)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 1000), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_whatever_share_fails_every_record_ends_and_nothing_is_left_hanging(
    run_virtual: Run, context: Any, seed: int, fails: float, stalls: float, alone: bool
) -> None:
    first = server("server", seed, fails * (1 - stalls), stalls)
    engines = [first] if alone else [first, server("other", seed + 1, fails, 0)]
    names = [engine.name for engine in engines]
    found = endings(run_virtual, context, Router(policy(*names)), *engines)
    assert len(found) == RECORDS
    assert all(ended == "yes" or isinstance(ended, CarraraError) for _, ended in found)
    assert all(engine.in_flight == 0 for engine in engines)
