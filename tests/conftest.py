"""Fixtures for every folder of tests."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from carrara.engines.engine import Engine
from carrara.engines.errors import LoadingError
from carrara.engines.weights import store

# How long an example takes says something about the machine's other work; no test here is about it.
settings.register_profile("carrara", deadline=None)
settings.load_profile("carrara")


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """The folder of the embedded model, fetched if need be; for tests marked `weights`."""
    try:
        return store.ensure("smollm2")
    except LoadingError as error:
        pytest.skip(f"the embedded weights cannot be had here: {error}")


@pytest.fixture(scope="session")
def embedded(
    smollm2_folder: Path,
) -> Iterator[Callable[[Callable[[Mapping[str, Engine]], Coroutine[Any, Any, Any]]], Any]]:
    """`embedded(work)` awaits `work(engines)` with the embedded engines, which are opened once for all tests.

    They live on one event loop, on which every `work` runs.
    """
    from carrara.engines.registry import open_engines

    stack = AsyncExitStack()
    with asyncio.Runner() as runner:
        engines = open_engines(("diffusion", "ar"))  # with the embedded adapter, as users have them

        async def enter() -> None:
            for engine in engines.values():
                await stack.enter_async_context(engine)

        runner.run(enter())
        try:
            yield lambda work: runner.run(work(engines))
        finally:
            runner.run(stack.aclose())
