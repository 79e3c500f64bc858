"""Identical calls made at the same time are made once.

    answer = await flights.run(key, lambda: engine.complete(request))

The first caller of a key starts the call, the others wait for the same one. A waiter that is cancelled
leaves; when the last has left, the call is cancelled and waited for, so nothing outlives its callers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Flight(Generic[T]):
    __slots__ = ("task", "waiters")

    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.waiters = 0


class SingleFlight(Generic[T]):
    """Calls under way, by key. For one event loop."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}

    async def run(self, key: Hashable, call: Callable[[], Awaitable[T]]) -> T:
        """The result of `call()`, or of the call with this key that is under way.

        Its error, too, goes to all who wait for it. A call that has ended is not remembered.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(asyncio.get_running_loop().create_task(_awaited(call)))
            self._flights[key] = flight
            flight.task.add_done_callback(lambda _: self._land(key, flight))
        flight.waiters += 1
        try:
            await asyncio.wait({flight.task})
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                self._land(key, flight)
                flight.task.cancel()
                await asyncio.wait({flight.task})
                if not flight.task.cancelled():
                    flight.task.exception()  # nobody is left to be told
        return flight.task.result()

    def _land(self, key: Hashable, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


async def _awaited(call: Callable[[], Awaitable[T]]) -> T:
    return await call()
