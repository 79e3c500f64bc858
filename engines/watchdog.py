"""A watchdog: it knows since when a pass has been running, and reports one that takes longer than it may."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Sleep = Callable[[float], Awaitable[object]]

_MOST_S = 5.0
_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Watchdog:
    """`bound_s`: how long a pass may take by `clock`. Beginning and ending a pass costs nothing worth measuring."""

    bound_s: float
    clock: Callable[[], float]
    sleep: Sleep = asyncio.sleep
    _begun: float | None = None
    _passes: int = 1
    _what: str = "a pass"
    _told: bool = False

    def begin(self, passes: int = 1, what: str = "a pass") -> None:
        """A pass begins, or so many of them back to back, which may take as many times as long. `what` names one."""
        self._begun, self._passes, self._what, self._told = self.clock(), passes, what, False

    def end(self) -> None:
        """It came back."""
        self._begun = None

    @property
    def overdue_s(self) -> float | None:
        """How long the present pass has been running, None while that is within the bound."""
        if self._begun is None:
            return None
        taken = self.clock() - self._begun
        return taken if taken > self.bound_s * self._passes else None

    @property
    def line(self) -> str | None:
        """What there is to say about an overdue pass."""
        taken = self.overdue_s
        if taken is None:
            return None
        several = self._passes > 1
        what, they = (
            (f"{self._passes} passes have", "they") if several else (f"{self._what} has", "it")
        )
        most_s = self.bound_s * self._passes
        return f"{what} been running for {taken:,.0f} s, {they} may take {most_s:,.0f} s"

    async def run(self, tick: Callable[[], object], report: Callable[[str], None]) -> None:
        """Look every few seconds, until cancelled: call `tick`, and `report` once for each overdue pass."""
        while True:
            await self.sleep(min(self.bound_s / 4, _MOST_S))
            try:
                tick()
            except Exception:  # it must go on watching
                _log.exception("looking after a pass failed")
            line = self.line
            if line is not None and not self._told:
                self._told = True
                report(line)
