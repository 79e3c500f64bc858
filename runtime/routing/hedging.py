"""Hedging: the next engine starts beside one that is late or looks bad; the first accepted answer wins.

The idea is that of hedged requests ("The Tail at Scale", Dean and Barroso, 2013), started by signs of the answer
itself, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from carrara.engines.request import Progress
from carrara.runtime.events import Hedged, HedgeEnded
from carrara.runtime.routing.lap import Lap, here
from carrara.runtime.routing.line import Line, Turn
from carrara.runtime.routing.policy import Hedge
from carrara.runtime.routing.router import Move

_LOOK_S = 0.25  # how often a call looks whether meanwhile something is known of its engine

Ask = Callable[[Move, Line], Awaitable[Turn]]
Tell = Callable[..., None]


@dataclass(eq=False, slots=True)
class _Runner:
    """An engine in a race, on its `line`; one `beside` that starts where it started. `bad` is set when its draft is."""

    move: Move
    line: Line
    beside: Line
    lap: Lap
    bad: asyncio.Event
    turn: asyncio.Future[Turn]

    @property
    def is_accepted(self) -> bool:
        return self._came and self.turn.result().verdict.rejection is None

    @property
    def following(self) -> Move | None:
        """The move to another engine that follows its turn."""
        return self.turn.result().following if self._came else None

    @property
    def _came(self) -> bool:
        turn = self.turn
        return turn.done() and not turn.cancelled() and turn.exception() is None


@dataclass(eq=False)
class Race:
    """One hedged move, and what is asked beside it: never more than two engines at a time.

    `late_s` tells by what is known of an engine at the moment after how many seconds it is late, None while too little
    is. `company` names the engine that may start beside a move, the same one where no other follows. `goes_on` is
    called with a turn that was not accepted before the move that follows it is made. `cut_off`: engines whose
    calls were taken back since one that was asked after them was first, with the seconds that they had.
    """

    hedge: Hedge
    ask: Ask
    tell: Tell
    late_s: Callable[[str], float | None]
    company: Callable[[Move, Line], str | None]
    goes_on: Callable[[Turn], None]
    cut_off: list[tuple[str, float]] = field(default_factory=list, init=False)
    _runners: list[_Runner] = field(default_factory=list, init=False)

    async def run(self, move: Move, line: Line) -> Turn:
        """The turn that counts: the first that is accepted, else that of the engine that stands furthest back.

        Raises:
            EngineError: the engine that stands furthest back did, and no other was accepted.
        """
        try:
            self._start(move, line)
            while (winner := self._winner()) is None:
                last = self._runners[-1]
                running = [one.turn for one in self._runners if not one.turn.done()]
                if not running:
                    return last.turn.result()
                if last.following is not None:
                    self._go_on(last.turn.result(), last.following)
                elif running == [last.turn]:
                    await self._alone(last)
                else:
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            self._end(winner)
            return winner.turn.result()
        finally:
            await _ended([one.turn for one in self._runners])

    def _start(self, move: Move, line: Line) -> None:
        bad = asyncio.Event()

        def look_at(progress: Progress) -> None:
            if progress.step == self.hedge.passes and progress.settled < self.hedge.settled:
                bad.set()

        lap = Lap(move.engine, look_at)

        async def run() -> Turn:
            here.set(lap)  # of this task, and of those that it starts
            try:
                return await self.ask(move, line)
            finally:
                lap.ends(asyncio.get_running_loop().time())

        beside = line.beside(move)
        turn = asyncio.ensure_future(run())
        self._runners.append(_Runner(move, line, beside, lap, bad, turn))

    def _winner(self) -> _Runner | None:
        return next((one for one in self._runners if one.is_accepted), None)

    def _go_on(self, turn: Turn, following: Move) -> None:
        """Another engine is still asked, but what it says may never come."""
        self.goes_on(turn)
        self._start(following, turn.line)

    async def _alone(self, runner: _Runner) -> None:
        """Wait for the end of its turn, or start its company when it is late or looks bad."""
        target = self.company(runner.move, runner.line)
        if target is None:
            await asyncio.wait((runner.turn,))
            return
        sign = asyncio.ensure_future(self._sign(runner))
        try:
            await asyncio.wait((runner.turn, sign), return_when=asyncio.FIRST_COMPLETED)
            if runner.turn.done():
                return
            reason = sign.result()
        finally:
            await _ended([sign])
        engine = runner.move.engine
        self.tell(Hedged, engine=engine, target=target, reason=reason)
        told = f"beside {'its first call' if target == engine else engine}: {reason}"
        self._start(Move(target, told), runner.beside)

    async def _sign(self, runner: _Runner) -> str:
        """Wait for a sign that an engine is late or bad; which."""
        await runner.lap.begun.wait()
        clock = asyncio.get_running_loop().time
        while True:
            after_s = self._late_after(runner.move.engine)
            passed_s = runner.lap.work(clock()).seconds
            if after_s is not None and passed_s >= after_s:
                return f"no answer after {after_s:.2f} s"
            look_s = _LOOK_S if after_s is None else after_s - passed_s
            try:
                async with asyncio.timeout(look_s):
                    await runner.bad.wait()
                break
            except TimeoutError:
                continue
        return (
            f"less than {self.hedge.settled:.0%} of the canvas is settled "
            f"after {self.hedge.passes} passes"
        )

    def _late_after(self, engine: str) -> float | None:
        """Calls that began together with nothing known learn from those of them that end."""
        waits = (self.hedge.after_s, self.late_s(engine))
        return min((wait for wait in waits if wait is not None), default=None)

    def _end(self, winner: _Runner) -> None:
        """Tell what the others have done in vain."""
        now = asyncio.get_running_loop().time()
        is_in_front = True
        for one in self._runners:
            if one is winner:
                is_in_front = False
                continue
            wasted = one.lap.work(now)
            if is_in_front and not one.turn.done() and one.lap.engine != winner.lap.engine:
                self.cut_off.append((one.lap.engine, wasted.seconds))
            self.tell(
                HedgeEnded,
                engine=winner.lap.engine,
                loser=one.lap.engine,
                wasted_s=wasted.seconds,
                wasted_passes=wasted.passes,
                wasted_tokens=wasted.tokens,
            )


async def _ended(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel what is left and wait for its end: nothing is left behind."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


__all__ = ["Race"]
