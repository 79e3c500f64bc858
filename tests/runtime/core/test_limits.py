"""Gates and rates in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.runtime.limits import EngineGate, EngineLimits, PriorityGate, RequestRate, TokenRate

Virtual = Callable[[Coroutine[Any, Any, Any]], Any]


async def enough() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_free_place_goes_to_the_most_urgent_waiter_and_to_the_oldest_among_equals() -> None:
    async def main() -> list[str]:
        gate, order = PriorityGate(1), []
        await gate.acquire()

        async def enter(name: str, rank: float) -> None:
            await gate.acquire(rank)
            order.append(name)
            gate.release()

        async with asyncio.TaskGroup() as group:
            for name, rank in (("low", 1.0), ("high", 3.0), ("mid", 2.0), ("mid too", 2.0)):
                group.create_task(enter(name, rank))
            await enough()
            gate.release()
        return order

    assert asyncio.run(main()) == ["high", "mid", "mid too", "low"]


def test_a_cancelled_waiter_gives_its_place_to_the_next() -> None:
    async def main() -> None:
        gate = PriorityGate(1)
        await gate.acquire()
        first = asyncio.create_task(gate.acquire(2.0))
        second = asyncio.create_task(gate.acquire(1.0))
        await enough()
        gate.release()  # `first` is given the place, and cancelled before it can take it
        first.cancel()
        await asyncio.wait({first, second}, timeout=1)
        assert first.cancelled()
        assert second.done()
        gate.release()
        await asyncio.wait_for(gate.acquire(), 1)

    asyncio.run(main())


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.floats(0, 9), st.integers(0, 6), st.booleans()), max_size=12),
)
def test_places_are_never_overbooked_nor_lost(
    places: int, callers: list[tuple[float, int, bool]]
) -> None:
    async def main() -> None:
        gate = PriorityGate(places)
        inside = 0

        async def call(rank: float, turns: int) -> None:
            nonlocal inside
            await gate.acquire(rank)
            inside += 1
            assert inside <= places
            try:
                for _ in range(turns):
                    await asyncio.sleep(0)
            finally:
                inside -= 1
                gate.release()

        tasks = [asyncio.create_task(call(rank, turns)) for rank, turns, _ in callers]
        for task, (_, turns, cancel) in zip(tasks, callers, strict=True):
            if cancel:
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(places):
            await asyncio.wait_for(gate.acquire(), 1)

    asyncio.run(main())


def test_a_gate_needs_a_place() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        PriorityGate(0)
    with pytest.raises(ValueError, match="requests_per_s must be above 0"):
        RequestRate(0)


@pytest.mark.parametrize("per_s", [0.5, 2.5, 10.0, 80.0])
def test_requests_keep_their_rate_and_use_it(run_virtual: Virtual, per_s: float) -> None:
    async def main() -> list[float]:
        rate, at = RequestRate(per_s), []

        async def caller() -> None:
            for _ in range(int(per_s * 5)):
                await rate.acquire()
                at.append(asyncio.get_running_loop().time())

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(caller())
        return at

    at = run_virtual(main())
    window_s = max(1.0, 1 / per_s)
    for i, start in enumerate(at):
        inside = sum(start <= t < start + window_s * 0.999 for t in at[i:])
        assert inside <= max(1, per_s * window_s) + 1
    assert (len(at) - 1) / at[-1] >= 0.95 * per_s


@pytest.mark.parametrize("bias", [0.5, 1.0, 2.0], ids=["too low", "right", "too high"])
def test_tokens_keep_their_rate_and_use_it_whatever_the_estimates(
    run_virtual: Virtual, bias: float
) -> None:
    per_min, minutes = 60_000, 5

    async def main() -> list[tuple[float, int]]:
        gate, spent = EngineGate(EngineLimits(concurrency=8, tokens_per_min=per_min)), []
        loop = asyncio.get_running_loop()

        async def caller(i: int) -> None:
            k = 0
            while loop.time() < 60 * minutes:
                k += 1
                used = 200 + (i * 37 + k * 101) % 900
                async with gate.admit(tokens=used * bias) as call:
                    spent.append((loop.time(), used))
                    await asyncio.sleep(0.3)
                    call.used(used)

        async with asyncio.TaskGroup() as group:
            for i in range(12):
                group.create_task(caller(i))
        return spent

    spent = [(t, n) for t, n in run_virtual(main()) if t < 60 * minutes]
    whole = sum(n for _, n in spent) / minutes
    assert 0.95 * per_min <= whole <= 1.02 * per_min
    # any minute: the quota, 1/60 of it as the portion, and what up to 8 calls in flight were off by
    for start in range(0, 240, 7):
        minute = sum(n for t, n in spent if start <= t < start + 60)
        assert minute <= per_min * (1 + 1 / 60) + 8 * 1100


def test_a_call_of_more_tokens_than_a_portion_waits_for_all_of_them(run_virtual: Virtual) -> None:
    async def main() -> float:
        rate = TokenRate(600)
        await rate.acquire(110)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(10.0, rel=0.02)


def test_tokens_paid_by_a_cancelled_waiter_are_not_lost(run_virtual: Virtual) -> None:
    async def main() -> float:
        rate = TokenRate(600)
        waiter = asyncio.create_task(rate.acquire(110))
        await asyncio.sleep(5)
        waiter.cancel()
        await asyncio.wait({waiter})
        await rate.acquire(60)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) < 7.0


def test_nobody_is_let_in_while_the_engine_asked_for_a_pause(run_virtual: Virtual) -> None:
    async def main() -> list[float]:
        gate, at = EngineGate(EngineLimits(concurrency=1)), []
        loop = asyncio.get_running_loop()

        async def call() -> None:
            async with gate.admit():
                at.append(loop.time())
                if len(at) == 1:
                    gate.hold_off(30.0)

        async with asyncio.TaskGroup() as group:
            group.create_task(call())
            group.create_task(call())
        return at

    assert run_virtual(main()) == pytest.approx([0.0, 30.0], abs=1e-3)


def test_a_call_that_fails_or_is_cancelled_at_a_rate_gives_its_place_back(
    run_virtual: Virtual,
) -> None:
    async def main() -> None:
        gate = EngineGate(EngineLimits(concurrency=1, requests_per_s=0.1))
        async with gate.admit():
            pass
        waiting = asyncio.create_task(gate.admit().__aenter__())
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.wait({waiting})
        with pytest.raises(RuntimeError, match="engine"):
            async with gate.admit():
                raise RuntimeError("engine")
        async with gate.admit():
            pass

    run_virtual(main())


def test_without_limits_the_gate_is_open() -> None:
    async def main() -> None:
        gate = EngineGate(EngineLimits())
        async with gate.admit(rank=1.0, tokens=1e9) as call:
            call.used(5)

    asyncio.run(main())
