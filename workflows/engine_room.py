"""The engines of a session: opened when the first model is asked, kept warm, closed at the end.

A workflow of plain Python therefore never loads torch, and many runs share one set of weights.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from contextvars import Context
from types import TracebackType
from typing import Any, Self

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
        self._grows = given is None
        self._names = tuple(DEFAULT_ENGINES if given is None else given)
        self._definitions: dict[str, Mapping[str, Any]] = {}
        self._more = AsyncExitStack()
        self._turn = asyncio.Lock()
        self._model = model
        self._cassette = cassette
        self._engines: Mapping[str, Engine] = {}
        self._opened: asyncio.Future[None] | None = None
        self._closing = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    def want(
        self, names: Iterable[str], definitions: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """Open these too, if the session was not told which engines to use. `definitions` are engines that a
        pipeline names with their presets; names that nothing is known of are left to `check`.

        Raises:
            LoadingError: a definition is wrong.
        """
        if not self._grows:
            return
        self._definitions |= definitions or {}
        wanted = [name for name in (*names, *(definitions or {})) if name not in self._names]
        if wanted:
            from carrara.engines.registry import kinds_by_name

            known = kinds_by_name(self._definitions)
            found = [name for name in dict.fromkeys(wanted) if name in known]
            self._names = (*self._names, *found)

    def check(self, name: str | None) -> None:
        """Refuse the name of an engine that is not here, before any is opened. None and "auto" name none.

        Raises:
            EngineRefused: says what there is.
        """
        if name is not None and name != "auto":
            self.want((name,))
        if name not in (None, "auto", *self._names):
            meant = did_you_mean(str(name), self._names)
            hint = f" Did you mean {meant!r}?" if meant else ""
            known = ", ".join(self._names) or "none"
            raise EngineRefused(f"no engine is called {name!r}; there are: {known}.{hint}")

    @property
    def any_costs(self) -> bool:
        """Whether one of them says of itself that its tokens cost something; opens none.

        Raises:
            LoadingError: a definition is wrong.
        """
        told: Iterable[Any]
        if self._given is not None:
            told = (getattr(engine, "price", None) for engine in self._given.values())
        else:
            from carrara.engines.registry import prices_by_name

            prices = prices_by_name(self._definitions)
            told = (prices.get(name) for name in self._names)
        return any(price is not None and (price.input or price.output) for price in told)

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are open, or will be."""
        return self._names

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
        if self._given is None and set(self._names) - set(self._engines):
            await self._open_more()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        try:
            await self._more.aclose()
        finally:
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

    async def _open_more(self) -> None:
        """Engines that were wanted after the first were open."""
        async with self._turn:
            names = [name for name in self._names if name not in self._engines]
            found = await asyncio.to_thread(self._make, names)
            if self._cassette is not None:
                found = self._cassette.record(found)
            for name, engine in found.items():
                await self._more.enter_async_context(engine)
                self._engines = {**self._engines, name: engine}

    async def _enter(self, stack: AsyncExitStack) -> Mapping[str, Engine]:
        engines = self._given
        if engines is None:
            engines = await asyncio.to_thread(self._make, self._names)
        if self._cassette is not None:
            engines = self._cassette.record(engines)
        for engine in engines.values():
            await stack.enter_async_context(engine)
        return engines

    def _make(self, names: Iterable[str]) -> Mapping[str, Engine]:
        """In a thread: importing torch and fetching weights take seconds, and the loop must go on."""
        from carrara.engines.registry import open_engines

        if self._model is None:
            return open_engines(names, definitions=self._definitions)
        return open_engines(names, source=self._model, definitions=self._definitions)


def engines_of(definition: Any) -> tuple[tuple[str, ...], Mapping[str, Mapping[str, Any]]]:
    """The engines that a workflow names beside the usual ones (in its policy, limits and steps), and its own
    definitions of engines."""
    servers: Mapping[str, Mapping[str, Any]] = getattr(definition, "servers", None) or {}
    names = [*(getattr(definition, "limits", None) or {}), *servers]
    if (policy := getattr(definition, "policy", None)) is not None:
        names += policy.engines
    if (pipeline := getattr(definition, "pipeline", None)) is not None:
        names += [step.engine for step in pipeline.steps if step.engine not in (None, "auto")]
    return tuple(name for name in dict.fromkeys(names) if name not in DEFAULT_ENGINES), servers
