"""The clock of an attempt with a timeout, stopped while the attempt waits for what is not its own work: an engine that
is being opened, or is away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from carrara.runtime.node import StepNode, current


class AttemptClock:
    """Stops and goes on with the time limit of one attempt. Waits side by side stop it once, until all have ended."""

    def __init__(self, limit: asyncio.Timeout) -> None:
        self._limit = limit
        self._now = asyncio.get_running_loop().time
        self._waits = 0
        self._left_s = 0.0
        self._ended_at: float | None = None

    def begin(self, seconds: float) -> None:
        """The body begins only now: another one has kept the loop."""
        if not self._limit.expired():
            self._limit.reschedule(self._now() + seconds)

    def end(self) -> None:
        """The body has ended, whenever the loop comes to tell of it."""
        self._ended_at = self._now()

    @property
    def over_s(self) -> float:
        """By how much the body took longer than it may, or has done so far; not above 0 where it did not."""
        due = self._limit.when()
        ended_at = self._now() if self._ended_at is None else self._ended_at
        return 0.0 if due is None else ended_at - due

    def stop(self) -> None:
        """A wait begins."""
        self._waits += 1
        due = self._limit.when()
        if self._waits == 1 and due is not None and not self._limit.expired():
            self._left_s = due - self._now()
            self._limit.reschedule(None)

    def go_on(self) -> None:
        """A wait has ended, or was cancelled."""
        self._waits -= 1
        if not self._waits and self._limit.when() is None and not self._limit.expired():
            self._limit.reschedule(self._now() + self._left_s)


@contextmanager
def uncounted() -> Iterator[None]:
    """What is waited for within counts in no timeout: neither of the step that runs here, nor of those around it."""
    clocks = _clocks()
    for clock in clocks:
        clock.stop()
    try:
        yield
    finally:
        for clock in clocks:
            clock.go_on()


def _clocks() -> list[AttemptClock]:
    here = current.get()
    node = here if here is None or isinstance(here, StepNode) else here.node
    found = []
    while node is not None:
        if node.clock is not None:
            found.append(node.clock)
        node = node.scope.node
    return found


__all__ = ["AttemptClock", "uncounted"]
