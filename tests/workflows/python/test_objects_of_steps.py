"""Steps that use objects of their project, and what these hold."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from carrara import session, step, workflow


def counting() -> tuple[Any, Any]:
    """A workflow of two steps that share an object, and the object; each time another one that is defined the same."""

    class Counter:
        def __init__(self) -> None:
            self.calls = 0

    counter = Counter()

    @step(inline=True)
    def first(text: str) -> str:
        counter.calls += 1
        return text.upper()

    @step(inline=True)
    def second(text: str) -> str:
        counter.calls += 1
        return text + "!"

    @workflow
    async def flow(text: str) -> str:
        return await second(await first(text))

    return flow, counter


def test_what_a_step_changes_in_an_object_makes_no_other_step_look_changed(tmp_path: Path) -> None:
    async def run(flow: Any) -> str:
        async with session(journal=tmp_path / "journal.db", engines={}, reuse="any") as begun:
            return (await begun.run(flow, "a")).value

    for calls in (2, 0):
        flow, counter = counting()
        assert asyncio.run(run(flow)) == "A!"
        assert counter.calls == calls
