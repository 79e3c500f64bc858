"""The engine "ar" on the tiny golden model, and requests for it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from carrara.engines.autoregressive.batch import BatchLimits
from carrara.engines.autoregressive.local import AutoregressiveEngine
from carrara.engines.local import LocalModel

Body = Callable[[AutoregressiveEngine], Awaitable[None]]


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def with_engine(tiny_folder: Path, clock: Clock) -> Callable[..., None]:
    """Run an async test body with an open engine: `with_engine(body, limits=…, quick=…)`."""

    def run(body: Body, limits: BatchLimits | None = None, **options: Any) -> None:
        async def main() -> None:
            local = LocalModel.open(tiny_folder, threads=1, **options)
            async with AutoregressiveEngine(local, limits=limits, clock=clock) as engine:
                await body(engine)

        asyncio.run(main())

    return run
