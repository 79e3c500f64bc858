"""Keeping one engine open: a task opens it, closes it at the end, and opens it again where it has failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from contextvars import Context

from carrara.engines.closed import ClosedEngine
from carrara.engines.engine import Engine
from carrara.engines.errors import EngineFailed
from carrara.engines.registry import UnknownEngine

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Between an opening that failed and the next: the first pause, doubled each time up to the longest."""

_LOOK_S = 1.0
"""How often an open engine is asked whether it is ready; its health line costs something."""

_log = logging.getLogger(__name__)


class Keeper:
    """`make` gives the engine, not entered yet; `turn` is held while it is opened. Made in a running event loop.

    The engine is opened and closed by one task, outside the step that happened to ask first and its context.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[str], Awaitable[Engine]],
        turn: asyncio.Lock,
        clock: Callable[[], float],
    ) -> None:
        self._name, self._make, self._turn, self._clock = name, make, turn, clock
        self.engine: Engine | None = None
        """What stands for it now: a `ClosedEngine` where it cannot be had. None until the first opening has ended."""
        self._settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stir = asyncio.Event()
        self._leaving = False
        self._tries = 0
        self._opened_at = self._due = 0.0
        self._task = asyncio.create_task(self._keep(), context=Context())

    @property
    def is_opening(self) -> bool:
        return not self._settled.done()

    async def settled(self) -> None:
        """Wait until the opening under way has ended, well or not.

        Raises:
            UnknownEngine: no engine is called so.
        """
        await asyncio.shield(self._settled)

    def tend(self) -> None:
        """Open the engine again where it could not be opened, or says that it is not ready, and its pause is over."""
        now = self._clock()
        if self.is_opening or self.engine is None or now < self._due:
            return
        if not isinstance(self.engine, ClosedEngine):
            self._due = now + _LOOK_S
            health = self.engine.health()
            if health.ready:
                if now - self._opened_at >= LONGEST_PAUSE_S:
                    self._tries = 0
                return
            told = f"engine {self._name!r} failed and is opened again; it said: {health.line}"
            self.engine = ClosedEngine(self._name, EngineFailed(told, engine=self._name))
        self._settled = asyncio.get_running_loop().create_future()
        self._stir.set()

    async def end(self) -> None:
        """Close the engine. Raises what its closing raises."""
        self._leaving = True
        self._stir.set()
        await self._task

    async def _keep(self) -> None:
        while not self._leaving:
            self._stir.clear()
            stack = AsyncExitStack()
            try:
                self.engine = await self._opened(stack)
            except UnknownEngine as error:
                self._settled.set_exception(error)
                self._settled.exception()  # seen: whoever asked may have been cancelled
                return
            self._tries += 1
            self._opened_at = self._clock()
            pause_s = FIRST_PAUSE_S * 2 ** min(self._tries - 1, 30)
            self._due = self._opened_at + min(pause_s, LONGEST_PAUSE_S)
            self._settled.set_result(None)
            if not self._leaving:
                await self._stir.wait()
            await self._close(stack)

    async def _opened(self, stack: AsyncExitStack) -> Engine:
        try:
            async with self._turn:  # one after the other: local engines share one model
                engine = await self._make(self._name)
                return await stack.enter_async_context(engine)
        except UnknownEngine:
            raise
        except Exception as error:
            return ClosedEngine(self._name, error)

    async def _close(self, stack: AsyncExitStack) -> None:
        try:
            await stack.aclose()
        except Exception as error:
            if self._leaving:
                raise
            _log.warning("engine %r had failed and could not be closed: %s", self._name, error)


__all__ = ["FIRST_PAUSE_S", "LONGEST_PAUSE_S", "Keeper"]
