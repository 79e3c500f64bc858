"""Feeds: items are taken as there is room for them, however many there are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from carrara.runtime.errors import ScopeError, StepError
from carrara.runtime.fanout import ABSENT
from carrara.runtime.run import execute, submit_feed
from carrara.runtime.step import StepSpec


def test_no_item_is_taken_before_there_is_room_for_it() -> None:
    taken = ended = most = 0

    def items() -> Iterator[int]:
        nonlocal taken, most
        for number in range(100):
            taken += 1
            most = max(most, taken - ended)
            yield number

    async def one(number: int) -> None:
        nonlocal ended
        await asyncio.sleep(0)
        ended += 1

    async def work() -> None:
        await submit_feed(StepSpec("one", one, kind="workflow"), items(), 4)

    asyncio.run(execute(work))
    assert (taken, ended) == (100, 100)
    assert most <= 5  # the one that has just ended is counted when its successor is taken


def test_a_feed_waits_until_its_owner_has_room() -> None:
    order: list[int] = []
    first = asyncio.Event()

    async def one(number: int) -> None:
        if number == 0:
            await first.wait()
        order.append(number)
        if number == 2:
            first.set()

    def room(index: int) -> bool:
        return index < 3 or 0 in order

    async def work() -> None:
        await submit_feed(StepSpec("one", one, kind="workflow"), iter(range(5)), 8, room)

    asyncio.run(execute(work))
    assert order[:3] == [1, 2, 0]
    assert sorted(order) == [0, 1, 2, 3, 4]


def test_a_feed_without_room_goes_on_one_by_one() -> None:
    alive = most = ended = 0

    async def one(number: int) -> None:
        nonlocal alive, most, ended
        alive += 1
        most = max(most, alive)
        await asyncio.sleep(0)
        alive -= 1
        ended += 1

    async def work() -> None:
        spec = StepSpec("one", one, kind="workflow")
        await submit_feed(spec, iter(range(5)), 8, lambda index: False)

    asyncio.run(execute(work))
    assert (most, ended) == (1, 5)


def test_the_bound_of_a_feed_may_grow_while_it_runs() -> None:
    alive = 0
    seen: list[int] = []

    async def one(number: int) -> None:
        nonlocal alive
        alive += 1
        await asyncio.sleep(0)
        seen.append(alive)
        await asyncio.sleep(0)
        alive -= 1

    async def work() -> None:
        spec = StepSpec("one", one, kind="workflow")
        await submit_feed(spec, iter(range(60)), lambda: 6 if len(seen) > 5 else 2)

    asyncio.run(execute(work))
    assert max(seen[:5]) == 2
    assert max(seen) == 6
    assert len(seen) == 60


def test_absent_items_keep_their_numbers() -> None:
    paths: list[str] = []

    async def one(number: int) -> None:
        from carrara.runtime.node import current
        from carrara.runtime.scope import Scope

        scope = current.get()
        assert isinstance(scope, Scope)
        paths.append(scope.path)

    async def work() -> None:
        spec = StepSpec("one", one, kind="workflow")
        await submit_feed(spec, iter([ABSENT, 1, ABSENT, 3, *[ABSENT] * 1000]), 2)

    asyncio.run(execute(work, name="w"))
    assert paths == ["w/one[1]", "w/one[3]"]


def test_an_empty_feed_ends() -> None:
    async def one(number: int) -> None: ...

    async def work() -> str:
        await submit_feed(StepSpec("one", one, kind="workflow"), iter(()), 2)
        return "ended"

    assert asyncio.run(execute(work)).value == "ended"


def test_a_child_that_fails_ends_the_feed_and_no_item_is_taken_after_it() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    async def one(number: int) -> None:
        await asyncio.sleep(0)
        if number == 3:
            raise ValueError("three")

    async def work() -> Any:
        return await submit_feed(StepSpec("one", one, kind="workflow"), items(), 2)

    with pytest.raises(StepError, match="three"):
        asyncio.run(execute(work))
    assert len(taken) < 8


def test_there_is_one_feed_of_a_name() -> None:
    async def one(number: int) -> None: ...

    async def work() -> None:
        spec = StepSpec("one", one, kind="workflow")
        await submit_feed(spec, iter([1]), 2)
        await submit_feed(spec, iter([1]), 2)

    with pytest.raises(ScopeError, match="the only one of its name"):
        asyncio.run(execute(work))
