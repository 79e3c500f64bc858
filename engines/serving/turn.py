"""Who answers a request: the first of several engines that can hold its contract and is there. What was learned of an
engine that was not, the next requests know."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from carrara.engines.contract import Contract
from carrara.engines.engine import Engine
from carrara.engines.errors import EngineBusy, EngineError, EngineFailed
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
    """A request under `contract` at the first of `engines` that can hold it, has room, and whose server can be reached
    and does not fail; `name` is that of the one that is asked now. Where none can hold it, the first says why."""

    def __init__(self, engines: Mapping[str, Engine], contract: Contract, outages: Outages) -> None:
        self._engines, self._outages = engines, outages
        able = _able(engines, contract)
        whole = [name for name in able if outages.objection(name) is None]
        self._names = whole or able
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
            except (EngineBusy, EngineFailed) as error:
                if (
                    not _may_others_answer(error) or self._is_shown
                ):  # what was seen is not taken back
                    raise
        return await self._ask(self._names[-1], request, watch)

    async def _ask(self, name: str, request: Request, watch: Watch | None) -> Completion:
        self.name = name
        with self._outages.asking(name):
            return await self._engines[name].complete(request, watch)


def _may_others_answer(error: EngineError) -> bool:
    """Whether the engine has no room, cannot be reached or breaks: that is no fault of the request."""
    return isinstance(error, EngineBusy) or (
        isinstance(error, EngineFailed) and (error.is_unreachable or error.is_server_fault)
    )


def _able(engines: Mapping[str, Engine], contract: Contract) -> list[str]:
    """Those that do not refuse the contract beforehand; where all do, the first."""
    names = list(engines)
    if len(names) == 1:  # it says so itself
        return names
    return [name for name in names if engines[name].refusal(contract) is None] or names[:1]


__all__ = ["Forgetful", "Outages", "Turn"]
