"""How long a call waits for an engine that is away: while nothing can be had without it. That may change as it waits,
where another engine is asked beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from carrara.runtime.bell import Bell


@dataclass(frozen=True, slots=True)
class Patience:
    """`lasts` tells whether nothing can be had without the engine now, `shaken` rings when that may have changed.
    `is_alone`: no other engine is asked meanwhile."""

    lasts: Callable[[], bool]
    is_alone: Callable[[], bool]
    shaken: Bell

    async def through(self, wait: Coroutine[Any, Any, None]) -> None:
        """Wait to the end, but no longer than patience lasts."""
        waiting = asyncio.ensure_future(wait)
        try:
            while not waiting.done() and self.lasts():
                rings = self.shaken.next
                await asyncio.wait((waiting, rings), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            await asyncio.wait((waiting,))
        if not waiting.cancelled():
            waiting.result()


NONE = Patience(lambda: False, lambda: True, Bell())
"""That of a call without which an answer can be had."""


__all__ = ["NONE", "Patience"]
