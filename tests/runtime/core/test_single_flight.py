"""Identical calls are made once, and outlive none of their callers."""

import asyncio
import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.runtime.single_flight import SingleFlight


class Calls:
    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0
        self.gate = asyncio.Event()

    async def __call__(self) -> int:
        self.started += 1
        number = self.started
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return number


async def enough() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_callers_of_one_key_share_one_call_and_later_ones_start_another() -> None:
    async def main() -> None:
        flights: SingleFlight[int] = SingleFlight()
        calls = Calls()
        same = [asyncio.create_task(flights.run("a", calls)) for _ in range(3)]
        other = asyncio.create_task(flights.run("b", calls))
        await enough()
        calls.gate.set()
        assert await asyncio.gather(*same, other) == [1, 1, 1, 2]
        assert await flights.run("a", calls) == 3

    asyncio.run(main())


def test_an_error_goes_to_every_caller() -> None:
    async def main() -> None:
        flights: SingleFlight[int] = SingleFlight()

        async def broken() -> int:
            await asyncio.sleep(0)
            raise ValueError("broken")

        outcomes = await asyncio.gather(
            *(flights.run("a", broken) for _ in range(2)), return_exceptions=True
        )
        assert [str(o) for o in outcomes] == ["broken", "broken"]

    asyncio.run(main())


def test_a_cancelled_waiter_does_not_take_the_call_from_the_others() -> None:
    async def main() -> None:
        flights: SingleFlight[int] = SingleFlight()
        calls = Calls()
        first, second = (asyncio.create_task(flights.run("a", calls)) for _ in range(2))
        await enough()
        first.cancel()
        await enough()
        calls.gate.set()
        assert await second == 1
        assert (first.cancelled(), calls.cancelled) == (True, 0)

    asyncio.run(main())


def test_when_the_last_waiter_is_cancelled_the_call_is_too() -> None:
    async def main() -> None:
        flights: SingleFlight[int] = SingleFlight()
        calls = Calls()
        waiters = [asyncio.create_task(flights.run("a", calls)) for _ in range(2)]
        await enough()
        for waiter in waiters:
            waiter.cancel()
        await asyncio.wait(waiters)
        assert calls.cancelled == 1
        assert asyncio.all_tasks() == {asyncio.current_task()}
        calls.gate.set()
        assert await flights.run("a", calls) == 2

    asyncio.run(main())


def test_an_error_that_comes_as_the_last_waiter_leaves_troubles_nobody() -> None:
    async def main() -> None:
        told: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, found: told.append(found["message"])
        )
        calls = Calls()

        async def broken() -> int:
            await calls()
            raise ValueError("broken")

        async def left_at_the_end() -> None:
            flights: SingleFlight[int] = SingleFlight()
            waiter = asyncio.create_task(flights.run("a", broken))
            await enough()
            [call] = asyncio.all_tasks() - {first, waiter}
            call.add_done_callback(lambda _: waiter.cancel())  # before the waiter has heard of it
            calls.gate.set()
            await asyncio.wait({waiter})
            assert (waiter.cancelled(), call.done()) == (True, True)

        first = asyncio.current_task()
        await left_at_the_end()
        gc.collect()
        assert told == []

    asyncio.run(main())


def test_a_call_that_answers_its_cancellation_with_an_error_troubles_nobody() -> None:
    async def main() -> None:
        flights: SingleFlight[int] = SingleFlight()

        async def stubborn() -> int:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise RuntimeError("cleanup failed") from None
            return 1

        waiter = asyncio.create_task(flights.run("a", stubborn))
        await enough()
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter

    asyncio.run(main())


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 4), st.booleans()), max_size=10))
def test_a_key_never_has_two_calls_at_once_and_nothing_is_left(
    callers: list[tuple[str, int, bool]],
) -> None:
    async def main() -> None:
        flights: SingleFlight[str] = SingleFlight()
        inside: set[str] = set()

        async def call(key: str) -> str:
            assert key not in inside
            inside.add(key)
            try:
                for _ in range(3):
                    await asyncio.sleep(0)
            finally:
                inside.discard(key)
            return key

        async def caller(key: str, turns: int) -> str:
            for _ in range(turns):
                await asyncio.sleep(0)
            return await flights.run(key, lambda: call(key))

        tasks = [asyncio.create_task(caller(key, turns)) for key, turns, _ in callers]
        for task, (_, turns, cancel) in zip(tasks, callers, strict=True):
            if cancel:
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
        for outcome, (key, _, cancel) in zip(
            await asyncio.gather(*tasks, return_exceptions=True), callers, strict=True
        ):
            assert outcome == key or (cancel and isinstance(outcome, asyncio.CancelledError))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
