"""The engines of a session: opened when the first model is asked, kept warm, closed at the end.

A workflow of plain Python therefore never loads torch, and many runs share one set of weights.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from contextvars import Context
from types import TracebackType
from typing import Self

from carrara.engines.engine import Engine
from carrara.engines.errors import CarraraError, EngineRefused
from carrara.runtime.cassette import Cassette
from carrara.workflows.errors import did_you_mean

DEFAULT_ENGINES = ("diffusion", "ar", "verified")


class EngineRoom(Mapping[str, Engine]):
    """Engines by name. `given` are engines, or the names of engines to open with `model` as their weights;
    `cassette` writes their calls down."""

    def __init__(
        self,
        given: Mapping[str, Engine] | Iterable[str] | None = None,
        *,
        model: str | None = None,
        cassette: Cassette | None = None,
    ) -> None:
        self._given = given if isinstance(given, Mapping) else None
        self._names = tuple(DEFAULT_ENGINES if given is None else given)
        self._model = model
        self._cassette = cassette
        self._engines: Mapping[str, Engine] = {}
        self._opened: asyncio.Future[None] | None = None
        self._closing = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    def check(self, name: str | None) -> None:
        """Refuse the name of an engine that is not here, before any is opened. None and "auto" name none.

        Raises:
            EngineRefused: says what there is.
        """
        if name not in (None, "auto", *self._names):
            meant = did_you_mean(str(name), self._names)
            hint = f" Did you mean {meant!r}?" if meant else ""
            known = ", ".join(self._names) or "none"
            raise EngineRefused(f"no engine is called {name!r}; there are: {known}.{hint}")

    async def open(self) -> None:
        """Wait until all engines are open; the first caller opens them for everybody.

        Raises:
            LoadingError: weights or packages are missing; every later call raises the same.
            CarraraError: the session has ended.
        """
        if self._closing.is_set():
            raise CarraraError("the session has ended, its engines are closed")
        if self._opened is None:
            self._opened = asyncio.get_running_loop().create_future()
            # One task opens and closes them, outside the step that happened to come first and its context.
            self._keeper = asyncio.create_task(self._keep(self._opened), context=Context())
        await asyncio.shield(self._opened)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        if self._keeper is not None:
            await self._keeper

    def __getitem__(self, name: str) -> Engine:
        return self._engines[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._engines)

    def __len__(self) -> int:
        return len(self._engines)

    async def _keep(self, opened: asyncio.Future[None]) -> None:
        async with AsyncExitStack() as stack:
            try:
                self._engines = await self._enter(stack)
            except Exception as error:
                opened.set_exception(error)
                opened.exception()  # seen: whoever asked may have been cancelled
                return
            opened.set_result(None)
            await self._closing.wait()
            self._engines = {}

    async def _enter(self, stack: AsyncExitStack) -> Mapping[str, Engine]:
        engines = self._given
        if engines is None:
            engines = await asyncio.to_thread(self._make)
        if self._cassette is not None:
            engines = self._cassette.record(engines)
        for engine in engines.values():
            await stack.enter_async_context(engine)
        return engines

    def _make(self) -> Mapping[str, Engine]:
        """In a thread: importing torch and fetching weights take seconds, and the loop must go on."""
        from carrara.engines.registry import open_engines

        if self._model is None:
            return open_engines(self._names)
        return open_engines(self._names, source=self._model)
