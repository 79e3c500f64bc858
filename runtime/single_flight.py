"""Identical calls made at the same time are made once.

    answer = await flights.run(key, lambda: engine.complete(request))

The first caller of a key starts the call and leads it, the others wait for the same one. One that is cancelled
leaves; where it led, the next takes over. When the last has left, the call is cancelled and waited for, so nothing
outlives its callers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Caller(Protocol):
    """Somebody who waits for a call, and answers for it while leading it."""

    def take_over(self, leader: Any) -> None:
        """The caller that led has left; this one, of the same kind, leads from now on."""
        ...


class _Nobody:
    def take_over(self, leader: Any) -> None:
        return None


class _Flight(Generic[T]):
    __slots__ = ("callers", "task")

    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.callers: list[Caller] = []


class SingleFlight(Generic[T]):
    """Calls under way, by key. For one event loop."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}

    async def run(
        self, key: Hashable, call: Callable[[], Awaitable[T]], caller: Caller | None = None
    ) -> T:
        """The result of `call()`, or of the call with this key that is under way. `caller` is told when it is to lead
        a call that it has not started.

        Its error, too, goes to all who wait for it. A call that has ended is not remembered.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(asyncio.get_running_loop().create_task(_awaited(call)))
            self._flights[key] = flight
            flight.task.add_done_callback(lambda _: self._land(key, flight))
        caller = caller or _Nobody()
        flight.callers.append(caller)
        try:
            await asyncio.wait({flight.task})
        except BaseException:
            await self._leave(key, flight, caller)
            raise
        return flight.task.result()

    async def _leave(self, key: Hashable, flight: _Flight[T], caller: Caller) -> None:
        led = flight.callers[0] is caller
        flight.callers.remove(caller)
        if flight.callers:
            if led:
                flight.callers[0].take_over(caller)
            return
        self._land(key, flight)
        flight.task.cancel()  # unless it has just ended
        await asyncio.wait({flight.task})
        if not flight.task.cancelled():
            flight.task.exception()  # nobody is left to be told

    def _land(self, key: Hashable, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


async def _awaited(call: Callable[[], Awaitable[T]]) -> T:
    return await call()
