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
from carrara.runtime.routing.lap import Lap, here
from carrara.runtime.routing.line import Turn
from carrara.runtime.routing.policy import Hedge
from carrara.runtime.routing.router import Move

_LOOK_S = 0.25  # how often a call looks whether meanwhile something is known of its engine

Ask = Callable[[Move], Awaitable[Turn]]
Tell = Callable[..., None]


@dataclass(eq=False)
class Race:
    """One hedged move. `learned_s` tells, by what is known of its engine at the moment, after how many seconds it is
    late, None while too little is; `following` is the engine that may start beside it, the same one where no other
    follows. `cut_off_s`: the seconds that the first engine had when its call was taken back, since the second was
    there before it; None where it was not."""

    hedge: Hedge
    learned_s: Callable[[], float | None]
    move: Move
    following: str
    cut_off_s: float | None = field(default=None, init=False)
    _bad: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._first = Lap(self.move.engine, self._look_at)
        self._second = Lap(self.following)

    async def run(self, ask: Ask, tell: Tell) -> Turn:
        """The turn that counts: that of the engine whose answer was accepted first, else that of the second."""
        first = self._started(ask, self.move, self._first)
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
            second = self._started(ask, beside, self._second)
            tasks.append(second)
            return await self._decided(first, second, tell)
        finally:
            await _ended(tasks)

    def _started(self, ask: Ask, move: Move, lap: Lap) -> asyncio.Future[Turn]:
        async def run() -> Turn:
            here.set(lap)  # of this task, and of those that it starts
            try:
                return await ask(move)
            finally:
                lap.ends(asyncio.get_running_loop().time())

        return asyncio.ensure_future(run())

    async def _decided(
        self, first: asyncio.Future[Turn], second: asyncio.Future[Turn], tell: Tell
    ) -> Turn:
        await asyncio.wait((first, second), return_when=asyncio.FIRST_COMPLETED)
        order = (first, second) if first.done() else (second, first)
        for one in order:
            await asyncio.wait((one,))
            if _accepted(one):
                if not first.done():
                    self.cut_off_s = self._first.work(asyncio.get_running_loop().time()).seconds
                self._tell_end(tell, *self._placed(one is first))
                return one.result()
        return second.result()  # neither: what the second says goes on, it stands further back

    def _placed(self, first_won: bool) -> tuple[Lap, Lap]:
        """Winner and loser."""
        return (self._first, self._second) if first_won else (self._second, self._first)

    def _tell_end(self, tell: Tell, winner: Lap, loser: Lap) -> None:
        wasted = loser.work(asyncio.get_running_loop().time())
        tell(
            HedgeEnded,
            engine=winner.engine,
            loser=loser.engine,
            wasted_s=wasted.seconds,
            wasted_passes=wasted.passes,
            wasted_tokens=wasted.tokens,
        )

    def _look_at(self, progress: Progress) -> None:
        """A draft of the first engine."""
        passes = self.hedge.passes
        if passes is not None and progress.step == passes and progress.settled < self.hedge.settled:
            self._bad.set()

    async def _sign(self) -> str:
        """Wait for a sign that the first engine is late or bad; which."""
        await self._first.begun.wait()
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
    return (
        not turn.cancelled()
        and turn.exception() is None
        and turn.result().verdict.rejection is None
    )


async def _ended(tasks: list[asyncio.Future[Any]]) -> None:
    """Cancel what is left and wait for its end: nothing is left behind."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


__all__ = ["Race"]
