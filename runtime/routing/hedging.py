"""Hedging: the next engine starts beside one that is late or looks bad; the first accepted answer wins.

The idea is that of hedged requests ("The Tail at Scale", Dean and Barroso, 2013), started by signs of the answer
itself, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from carrara.engines.request import Progress
from carrara.runtime.events import Hedged, HedgeEnded, StepEvent
from carrara.runtime.limits import EngineGate
from carrara.runtime.routing.lap import Lap, here
from carrara.runtime.routing.lateness import lateness
from carrara.runtime.routing.line import Line, Turn
from carrara.runtime.routing.policy import Hedge
from carrara.runtime.routing.router import Move
from carrara.runtime.routing.witness import Witness


class Course(Protocol):
    """The call that a race is run for. `begins` is told of each move before it is made, `goes_on` of a turn that was
    not accepted before the move that follows it is, while it `may_go_on` at all. `company` names the engine that may
    start beside a move, the same one where no other follows; `gate` is the way into one. `second_best` is the engine
    whose answer is taken where none is accepted, "" where none is."""

    told: Witness

    @property
    def may_go_on(self) -> bool: ...

    @property
    def second_best(self) -> str: ...

    def begins(self) -> None: ...

    def gate(self, engine: str) -> EngineGate | None: ...

    async def ask_engine(self, move: Move, line: Line) -> Turn: ...

    def company(self, move: Move, line: Line) -> str | None: ...

    def goes_on(self, turn: Turn) -> None: ...

    def tell(self, kind: type[StepEvent], /, **fields: Any) -> None: ...


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
    """One hedged move of `call`, and what is asked beside it: at most two engines at a time. Of those that ended
    in vain only the laps stay, to tell of them."""

    hedge: Hedge
    call: Course
    _running: list[_Runner] = field(default_factory=list, init=False)
    _laps: list[Lap] = field(default_factory=list, init=False)

    async def run(self, move: Move, line: Line) -> Turn:
        """The turn that counts: the first that is accepted, else that of the engine that stands furthest back.

        Raises:
            EngineError: the engine that stands furthest back did, and no other was accepted.
        """
        try:
            last = self._start(move, line)
            while (winner := self._winner()) is None:
                self._running = [one for one in self._running if not one.turn.done()]
                if not self._running:
                    self._lost()
                    return last.turn.result()
                # What the others say may never come.
                if last.following is not None and self.call.may_go_on:
                    self.call.goes_on(last.turn.result())
                    last = self._start(last.following, last.turn.result().line)
                elif self._running == [last]:
                    last = await self._joined(last) or last
                else:
                    turns = [one.turn for one in self._running]
                    await asyncio.wait(turns, return_when=asyncio.FIRST_COMPLETED)
            self._end(winner)
            return winner.turn.result()
        finally:
            await _ended([one.turn for one in self._running])

    def _start(self, move: Move, line: Line) -> _Runner:
        bad = asyncio.Event()

        def look_at(progress: Progress) -> None:
            if progress.step == self.hedge.passes and progress.settled < self.hedge.settled:
                bad.set()
                lap.stirs.ring()

        lap = Lap(move.engine, look_at)

        async def run() -> Turn:
            here.set(lap)  # of this task, and of those that it starts
            try:
                return await self.call.ask_engine(move, line)
            finally:
                lap.ends(asyncio.get_running_loop().time())

        self.call.begins()
        beside = line.beside(move)
        runner = _Runner(move, line, beside, lap, bad, asyncio.ensure_future(run()))
        self._running.append(runner)
        self._laps.append(lap)
        return runner

    def _winner(self) -> _Runner | None:
        return next((one for one in self._running if one.is_accepted), None)

    async def _joined(self, runner: _Runner) -> _Runner | None:
        """Wait until its turn ends, or it is late or looks bad: then its company, which starts."""
        target = self.call.company(runner.move, runner.line)
        if target is None:
            await asyncio.wait((runner.turn,))
            return None
        sign = asyncio.ensure_future(self._sign(runner, target))
        try:
            await asyncio.wait((runner.turn, sign), return_when=asyncio.FIRST_COMPLETED)
            if runner.turn.done():
                return None
            reason = sign.result()
        finally:
            await _ended([sign])
        engine = runner.move.engine
        self.call.tell(Hedged, engine=engine, target=target, reason=reason)
        told = f"beside {'its first call' if target == engine else engine}: {reason}"
        return self._start(Move(target, told), runner.beside)

    async def _sign(self, runner: _Runner, target: str) -> str:
        """Wait for a sign that an engine is late or bad, so that `target` had better start; which."""
        lap, clock = runner.lap, asyncio.get_running_loop().time
        is_doubled, gate = target == lap.engine, self.call.gate(lap.engine)
        while True:
            rings = [lap.stirs.next, *([] if gate is None else [gate.paused.next])]
            if runner.bad.is_set():
                return (
                    f"less than {self.hedge.settled:.0%} of the canvas is settled "
                    f"after {self.hedge.passes} passes"
                )
            pause_s = 0.0 if gate is None else gate.pause_s
            found = lateness(lap, self._late_after, clock(), pause_s, is_doubled)
            if isinstance(found, str):
                return found
            await asyncio.wait(rings, timeout=found, return_when=asyncio.FIRST_COMPLETED)

    def _late_after(self, engine: str) -> float | None:
        """Calls that began together with nothing known learn from those of them that end."""
        known_s = self.call.told.late_s(engine, self.hedge)
        waits = (self.hedge.after_s, known_s)
        return min((wait for wait in waits if wait is not None), default=None)

    def _end(self, winner: _Runner) -> None:
        """Tell what the others have done in vain, and how long those had that were asked before it."""
        now = asyncio.get_running_loop().time()
        cut_off = [one.lap for one in self._running if not one.turn.done() and one.lap.is_begun]
        in_front = self._laps[: self._laps.index(winner.lap)]
        for lap in in_front:
            if lap in cut_off and lap.engine != winner.lap.engine:
                self.call.told.cut_off(lap.engine, lap.work(now).seconds)
        self._tell_in_vain(winner.lap.engine, winner.lap)

    def _lost(self) -> None:
        """Tell what was done in vain where no answer was accepted; one may be taken all the same."""
        engine = self.call.second_best
        taken = [lap for lap in self._laps if lap.engine == engine]
        self._tell_in_vain(engine, taken[-1] if taken else None)

    def _tell_in_vain(self, engine: str, but: Lap | None) -> None:
        if len(self._laps) == 1:
            return  # it was no race
        now = asyncio.get_running_loop().time()
        for lap in self._laps:
            if lap is but:
                continue
            wasted = lap.work(now)
            self.call.tell(
                HedgeEnded,
                engine=engine,
                loser=lap.engine,
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
