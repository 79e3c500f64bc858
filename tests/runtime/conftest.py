"""A loop whose time is virtual."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest


class _Jump(selectors.DefaultSelector):
    """Where the loop would sleep, its clock jumps instead."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            return super().select(None)
        ready = super().select(0)
        if not ready:
            self.loop.now += max(
                timeout, 1e-9
            )  # every turn takes some time, or waits of 1e-16 s never end
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 0.0
        jump = _Jump()
        jump.loop = self
        super().__init__(jump)

    def time(self) -> float:
        return self.now


@pytest.fixture
def run_virtual(monkeypatch: pytest.MonkeyPatch) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine to its end on a loop whose sleeps take no time; nothing may be left running."""

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        async def whole() -> Any:
            try:
                return await main
            finally:
                left = asyncio.all_tasks() - {asyncio.current_task()}
                assert not left, f"tasks left behind: {left}"

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            loop = runner.get_loop()

            class Clock:
                monotonic = staticmethod(loop.time)

            monkeypatch.setattr("asyncio_throttle.throttler.time", Clock)
            return runner.run(whole())

    return run
