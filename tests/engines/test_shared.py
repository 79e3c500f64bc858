"""What many hold open at once is opened once and closed once, whoever comes and goes meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from carrara.engines.shared import Shared


class Room(Shared):
    """Writes down what happens to it; opening and closing wait for `go`."""

    def __init__(self, fails: int = 0) -> None:
        super().__init__()
        self.events: list[str] = []
        self.fails = fails
        self.go = asyncio.Event()
        self.go.set()

    async def _begin(self) -> None:
        self.events.append("opening")
        await self.go.wait()
        if self.fails:
            self.fails -= 1
            raise OSError("it does not open")
        self.events.append("open")

    async def _end(self) -> None:
        self.events.append("closing")
        await self.go.wait()
        self.events.append("closed")


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_the_first_opens_and_the_last_closes() -> None:
    async def main() -> list[str]:
        room = Room()
        async with room, room:
            async with room as found:
                assert found is room
            assert room.events == ["opening", "open"]
        return room.events

    assert asyncio.run(main()) == ["opening", "open", "closing", "closed"]


def test_who_enters_while_it_opens_waits_and_opens_nothing() -> None:
    async def main() -> list[str]:
        room = Room()
        room.go.clear()
        both = [asyncio.create_task(room.__aenter__()) for _ in range(2)]
        await turns()
        assert not any(task.done() for task in both)
        room.go.set()
        await asyncio.gather(*both)
        return room.events

    assert asyncio.run(main()) == ["opening", "open"]


def test_who_enters_while_it_closes_opens_it_again_afterwards() -> None:
    async def main() -> list[str]:
        room = Room()
        await room.__aenter__()
        room.go.clear()
        leaving = asyncio.create_task(room.__aexit__(None, None, None))
        await turns()
        entering = asyncio.create_task(room.__aenter__())
        await turns()
        assert room.events[2:] == ["closing"]
        room.go.set()
        await asyncio.gather(leaving, entering)
        return room.events[2:]

    assert asyncio.run(main()) == ["closing", "closed", "opening", "open"]


def test_who_enters_before_a_leaver_has_closed_it_keeps_it_open() -> None:
    async def main() -> list[str]:
        room = Room()
        await room.__aenter__()
        await asyncio.gather(room.__aenter__(), room.__aexit__(None, None, None))
        return room.events

    assert asyncio.run(main()) == ["opening", "open"]


def test_after_it_failed_to_open_the_next_tries_again() -> None:
    async def main() -> list[str]:
        room = Room(fails=1)
        with pytest.raises(OSError, match="does not open"):
            await room.__aenter__()
        async with room:
            return list(room.events)

    assert asyncio.run(main()) == ["opening", "opening", "open"]


def test_it_is_opened_again_on_another_event_loop() -> None:
    room = Room()

    async def visit() -> None:
        async with room:
            await asyncio.gather(room.__aenter__(), room.__aenter__())
            for _ in range(2):
                await room.__aexit__(None, None, None)

    asyncio.run(visit())
    asyncio.run(visit())
    assert room.events == ["opening", "open", "closing", "closed"] * 2
