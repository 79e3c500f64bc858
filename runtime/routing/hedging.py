"""Hedging: the next engine starts beside a first one that is late or looks bad; the first accepted answer wins.

The idea is that of hedged requests ("The Tail at Scale", Dean and Barroso, 2013), started by signs of the answer
itself, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from carrara.engines.request import Progress
from carrara.runtime.events import Hedged, HedgeEnded
from carrara.runtime.routing.policy import Hedge
from carrara.runtime.routing.router import Move
from carrara.runtime.routing.verdict import Verdict

_LOOK_S = 0.25  # how often a call looks whether meanwhile something is known of its engine

Turn = tuple[Verdict, Move | None]
Ask = Callable[[Move], Awaitable[Turn]]
Tell = Callable[..., None]


@dataclass(eq=False)
class Race:
    """One hedged move. `learned_s` tells, by what is known of its engine at the moment, after how many seconds it is
    late, None while too little is; `following` is the engine that may start beside it, the same one where no other
    follows."""

    hedge: Hedge
    learned_s: Callable[[], float | None]
    move: Move
    following: str
    _begun: asyncio.Event = field(default_factory=asyncio.Event)
    _bad: asyncio.Event = field(default_factory=asyncio.Event)
    _passes: int = 0

    def begin(self) -> None:
        """The first engine is being asked now: its time counts from here."""
        self._begun.set()

    def see(self, progress: Progress) -> None:
        """A draft of the first engine."""
        self._passes = progress.step
        passes = self.hedge.passes
        if passes is not None and progress.step == passes and progress.settled < self.hedge.settled:
            self._bad.set()

    async def run(self, ask: Ask, tell: Tell) -> Turn:
        """The turn that counts: that of the engine whose answer was accepted first, else that of the second."""
        first = asyncio.ensure_future(ask(self.move))
        sign = asyncio.ensure_future(self._sign())
        tasks: list[asyncio.Future[Any]] = [first, sign]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if first.done():
                return first.result()
            reason = sign.result()
            tell(Hedged, engine=self.move.engine, target=self.following, reason=reason)
            again = self.following == self.move.engine
            told = f"beside {'its first call' if again else self.move.engine}: {reason}"
            beside = Move(self.following, told, beside=again)
            second = asyncio.ensure_future(ask(beside))
            tasks.append(second)
            return await self._decided(first, second, tell)
        finally:
            await _ended(tasks)

    async def _decided(
        self, first: asyncio.Future[Turn], second: asyncio.Future[Turn], tell: Tell
    ) -> Turn:
        started = asyncio.get_running_loop().time()
        await asyncio.wait((first, second), return_when=asyncio.FIRST_COMPLETED)
        order = (first, second) if first.done() else (second, first)
        for one in order:
            other = second if one is first else first
            await asyncio.wait((one,))
            if _accepted(one):
                wasted_s = asyncio.get_running_loop().time() - started
                self._tell_end(tell, one is first, other.done(), wasted_s)
                return one.result()
        return second.result()  # neither: what the second says goes on, it stands further back

    def _tell_end(self, tell: Tell, first_won: bool, both: bool, seconds: float) -> None:
        winner = self.move.engine if first_won else self.following
        loser = self.following if first_won else self.move.engine
        passes = 0 if first_won or both else self._passes
        tell(HedgeEnded, engine=winner, loser=loser, wasted_s=seconds, wasted_passes=passes)

    async def _sign(self) -> str:
        """Wait for a sign that the first engine is late or bad; which."""
        await self._begun.wait()
        clock = asyncio.get_running_loop().time
        begun = clock()
        while True:
            after_s = self._late_after()
            passed_s = clock() - begun
            if after_s is not None and passed_s >= after_s:
                return f"no answer after {after_s:.2f} s"
            look_s = _LOOK_S if after_s is None else after_s - passed_s
            try:
                async with asyncio.timeout(look_s):
                    await self._bad.wait()
                break
            except TimeoutError:
                continue
        return (
            f"less than {self.hedge.settled:.0%} of the canvas is settled "
            f"after {self.hedge.passes} passes"
        )

    def _late_after(self) -> float | None:
        """Calls that began together with nothing known learn from those of them that end."""
        waits = (self.hedge.after_s, self.learned_s())
        return min((wait for wait in waits if wait is not None), default=None)


def _accepted(turn: asyncio.Future[Turn]) -> bool:
    return not turn.cancelled() and turn.exception() is None and turn.result()[0].rejection is None


async def _ended(tasks: list[asyncio.Future[Any]]) -> None:
    """Cancel what is left and wait for its end: nothing is left behind."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


__all__ = ["Race"]
