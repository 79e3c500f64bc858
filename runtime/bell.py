"""A bell: all who wait for its next ring are woken by it."""

from __future__ import annotations

import asyncio


class Bell:
    """For one event loop. Take `next` first and look at what it tells of then: no ring is missed in between."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None

    @property
    def next(self) -> asyncio.Future[None]:
        """Done at the next ring. All who wait have the same one: wait for it with `asyncio.wait`, which does not
        cancel it."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        return self._next

    def ring(self) -> None:
        waiting, self._next = self._next, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


__all__ = ["Bell"]
