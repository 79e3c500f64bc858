"""An engine that cannot be opened, or has failed, is opened again, with growing pauses."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from carrara.engines.closed import ClosedEngine
from carrara.engines.engine import Health
from carrara.engines.errors import LoadingError
from carrara.engines.scripted import ScriptedEngine
from carrara.workflows.engine_keeper import LONGEST_PAUSE_S
from carrara.workflows.engine_room import EngineRoom


class Fickle(ScriptedEngine):
    """Can be opened while `is_there`, and is ready while `is_well`."""

    def __init__(self, name: str, is_there: bool = True) -> None:
        super().__init__(name, lambda _: "yes")
        self.is_there, self.is_well = is_there, True
        self.entered = self.left = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def _begin(self) -> None:
        self.entered += 1
        await self.gate.wait()
        if not self.is_there:
            raise LoadingError(f"{self.name} is away")

    async def _end(self) -> None:
        self.left += 1
        await super()._end()

    def health(self) -> Health:
        return Health(self.is_well, f"{self.name}: {'well' if self.is_well else 'its core died'}")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_engine_that_comes_back_is_opened_by_a_later_call() -> None:
    engine, clock = Fickle("only", is_there=False), Clock()

    async def main() -> None:
        async with EngineRoom({"only": engine}, clock=clock) as room:
            with pytest.raises(LoadingError, match="only is away"):
                await room.open()
            engine.is_there = True
            with pytest.raises(LoadingError, match="only is away"):
                await room.open()
            assert engine.entered == 1, "its pause is not over"
            clock.now = 1.0
            await room.open()
            assert room["only"] is engine
        assert (engine.entered, engine.left) == (2, 1)

    asyncio.run(main())


def test_pauses_grow_to_the_longest() -> None:
    engine, clock = Fickle("only", is_there=False), Clock()

    async def main() -> list[float]:
        opened: list[float] = []
        async with EngineRoom({"only": engine}, clock=clock) as room:
            while clock.now < 1000:
                with pytest.raises(LoadingError):
                    await room.open()
                if engine.entered > len(opened):
                    opened.append(clock.now)
                clock.now += 0.5
        return opened

    opened = asyncio.run(main())
    pauses = [after - before for before, after in pairwise(opened)]
    assert pauses[:6] == [1, 2, 4, 8, 16, 32]
    assert set(pauses[6:]) == {LONGEST_PAUSE_S}


def test_calls_with_another_engine_do_not_wait_for_one_that_is_opened_again() -> None:
    away, other, clock = Fickle("away", is_there=False), Fickle("other"), Clock()

    async def main() -> None:
        async with EngineRoom({"away": away, "other": other}, clock=clock) as room:
            await room.open()
            clock.now, away.is_there = 1.0, True
            away.gate.clear()
            await room.open()
            assert isinstance(room["away"], ClosedEngine)
            away.gate.set()
            while isinstance(room["away"], ClosedEngine):  # noqa: ASYNC110 - until its task has run
                await asyncio.sleep(0)

    asyncio.run(main())


def test_calls_without_another_engine_wait_until_it_is_open_again() -> None:
    engine, clock = Fickle("only", is_there=False), Clock()

    async def main() -> None:
        async with EngineRoom({"only": engine}, clock=clock) as room:
            with pytest.raises(LoadingError):
                await room.open()
            clock.now, engine.is_there = 1.0, True
            await asyncio.gather(*(room.open() for _ in range(5)))
        assert (engine.entered, engine.left) == (2, 1)

    asyncio.run(main())


def test_an_open_engine_that_has_failed_is_closed_and_opened_again() -> None:
    engine, other, clock = Fickle("sick"), Fickle("other"), Clock()

    async def main() -> None:
        async with EngineRoom({"sick": engine, "other": other}, clock=clock) as room:
            await room.open()
            clock.now, engine.is_well = 5.0, False
            engine.gate.clear()
            await room.open()
            closed = room["sick"]
            assert isinstance(closed, ClosedEngine)
            assert "sick: its core died" in str(closed.error)
            engine.is_well = True
            engine.gate.set()
            while room["sick"] is not engine:  # noqa: ASYNC110 - until its task has run
                await asyncio.sleep(0)
            assert (engine.entered, engine.left) == (2, 1)
            assert (other.entered, other.left) == (1, 0)

    asyncio.run(main())


def test_an_engine_that_is_never_ready_is_left_alone_longer_and_longer() -> None:
    engine, clock = Fickle("sick"), Clock()
    engine.is_well = False

    async def main() -> None:
        async with EngineRoom({"sick": engine}, clock=clock) as room:
            for _ in range(600):
                await room.open()
                clock.now += 1.0

    asyncio.run(main())
    assert engine.entered < 20
