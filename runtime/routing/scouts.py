"""A few calls go ahead: while nothing speaks for an engine at a step, only so many ask it at once.

Otherwise a fan-out of a thousand would be given to an engine that answers none of them well before the first
verdict is there. The others wait for a verdict, not for a time.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable


class Scouts:
    """Calls on their way by key (step and engine)."""

    def __init__(self) -> None:
        self._out: Counter[Hashable] = Counter()
        self._waiting: defaultdict[Hashable, list[asyncio.Future[None]]] = defaultdict(list)

    async def go(self, key: Hashable, most: int, is_known: Callable[[], bool]) -> None:
        """Wait until fewer than `most` are out, or what they went for is known. Ends with `back`."""
        while self._out[key] >= most and not is_known():
            turn = asyncio.get_running_loop().create_future()
            self._waiting[key].append(turn)
            await turn
        self._out[key] += 1

    def back(self, key: Hashable) -> None:
        """One is back, and its verdict is written down."""
        self._out[key] -= 1
        if not self._out[key]:
            del self._out[key]
        for turn in self._waiting.pop(key, ()):
            if not turn.done():
                turn.set_result(None)


__all__ = ["Scouts"]
