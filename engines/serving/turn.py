"""Who answers a request: the first of several engines that is there. What was learned of an engine that was not, the
next requests know."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from carrara.engines.engine import Engine
from carrara.engines.errors import EngineFailed
from carrara.engines.request import Completion, Progress, Request, Watch


class Outages(Protocol):
    """What is remembered, over all requests, of engines that gave no answer."""

    def objection(self, engine: str) -> str | None:
        """Why the engine is not to be asked now where another one can be, None if it may."""
        ...

    def asking(self, engine: str) -> AbstractContextManager[None]:
        """The engine is asked inside; how that ends is remembered."""
        ...


class Forgetful:
    """`Outages` that remembers nothing: every request finds out for itself."""

    def objection(self, engine: str) -> str | None:
        return None

    def asking(self, engine: str) -> AbstractContextManager[None]:
        return nullcontext()


class Turn:
    """A request at the first of `engines` whose server can be reached and does not fail; `name` is that of the one that
    is asked now."""

    def __init__(self, engines: Mapping[str, Engine], outages: Outages) -> None:
        self._engines, self._outages = engines, outages
        whole = [name for name in engines if outages.objection(name) is None]
        self._names = whole or list(engines)
        self.name = self._names[0]
        self._is_shown = False

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        """Raises what the engine raises that was asked last."""

        def shown(progress: Progress) -> None:
            self._is_shown = True
            assert watch is not None
            watch(progress)

        for name in self._names[:-1]:
            try:
                return await self._ask(name, request, shown if watch else None)
            except EngineFailed as error:
                is_away = error.is_unreachable or error.is_server_fault
                if not is_away or self._is_shown:  # what the client has seen is not taken back
                    raise
        return await self._ask(self._names[-1], request, watch)

    async def _ask(self, name: str, request: Request, watch: Watch | None) -> Completion:
        self.name = name
        with self._outages.asking(name):
            return await self._engines[name].complete(request, watch)


__all__ = ["Forgetful", "Outages", "Turn"]
