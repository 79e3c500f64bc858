"""Calls at once within a bound of time: what ends in it counts, the rest is cancelled and counted, too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from benchmarks.diffusion.timing import Taken

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ended(Generic[T]):
    """What calls came to: how long it took until all had ended or the bound was reached, what those gave that ended,
    in the order in which they were made, and how many were cancelled."""

    took: Taken
    found: tuple[T, ...]
    cancelled: int

    @property
    def each(self) -> Taken:
        """Seconds for each call that ended; there is one."""
        count = len(self.found)
        return Taken(self.took.wall_s / count, self.took.cpu_s / count)


async def at_once(
    calls: Iterable[Coroutine[Any, Any, T]],
    seconds: float,
    cpu_s: Callable[[], float] = time.process_time,
) -> Ended[T]:
    """Make all calls at once and wait `seconds` at most. Returns when the last cancelled one has given way.

    Raises:
        Exception: what the first call that failed raised; the others are cancelled.
    """
    clock = asyncio.get_running_loop().time
    wall, cpu = clock(), cpu_s()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
            done, late = await asyncio.wait(tasks, timeout=max(0.0, seconds))
            took = Taken(clock() - wall, cpu_s() - cpu)
            for task in late:
                task.cancel()
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return Ended(took, tuple(task.result() for task in tasks if task in done), len(late))
