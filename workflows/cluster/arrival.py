"""Waiting for a process that a cluster is to start: a warning where it takes long, an error where it takes too long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from carrara.engines.errors import CarraraError

START_S = 900.0
"""How long the first process may take to start: a cluster that grows has to fetch machines first."""

TELL_S = 60.0
"""After which a warning tells that none has started yet."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """A warning after `tell_s`, an error after `most_s`. `room` tells what the cluster has and what is asked of it."""

    room: Callable[[], Awaitable[str]]
    tell_s: float = TELL_S
    most_s: float = START_S

    async def wait(self, coming: Callable[[], Awaitable[object]], what: str) -> None:
        """Wait for the first `what`, which is there when `coming` ends.

        Raises:
            CarraraError: it has not come.
        """
        try:
            await asyncio.wait_for(self.watch(coming, what), self.most_s)
        except TimeoutError:
            raise CarraraError(await self._missing(what, self.most_s)) from None

    async def watch(self, coming: Callable[[], Awaitable[object]], what: str) -> None:
        """The same for as long as it takes: the warning, and no error."""
        waits = asyncio.ensure_future(coming())
        try:
            await asyncio.wait({waits}, timeout=self.tell_s)
            if not waits.done():
                _log.warning("%s; the job waits", await self._missing(what, self.tell_s))
            await waits
        finally:
            waits.cancel()

    async def _missing(self, what: str, seconds: float) -> str:
        return (
            f"no {what} has started within {seconds:g} s. {await self.room()}. What is not free is held by others, or "
            "for processes of this job that do not come up: look at `ray status`, and at raylet.out and raylet.err in "
            "Ray's logs (/tmp/ray/session_latest/logs); make room, ask for less, or let the cluster grow"
        )


__all__ = ["START_S", "TELL_S", "Patience"]
