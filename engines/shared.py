"""What many hold open at once: the first to enter opens it, the last to leave closes it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary


class Shared:
    """An async context manager over `_begin` and `_end`, which never run at the same time.

    Who enters while it opens or closes waits for that. Where `_begin` fails, the next to enter tries again. Each event
    loop has a lock of its own, so that one object can serve several programs of loops one after the other.
    """

    def __init__(self) -> None:
        self._users = 0
        self._is_open = False
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            WeakKeyDictionary()
        )

    async def __aenter__(self) -> Self:
        async with self._gate:
            if not self._is_open:
                await self._begin()
                self._is_open = True
            self._users += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._users -= 1
        async with self._gate:
            if self._users == 0 and self._is_open:
                self._is_open = False
                await self._end()

    async def _begin(self) -> None:
        """Open it."""

    async def _end(self) -> None:
        """Close it."""

    @property
    def _gate(self) -> asyncio.Lock:
        return self._gates.setdefault(asyncio.get_running_loop(), asyncio.Lock())
