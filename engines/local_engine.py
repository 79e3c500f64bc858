"""What every engine over a `LocalModel` is: it opens the model, runs a loop of rounds, and closes both."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from carrara.engines.engine import Engine
from carrara.engines.errors import EngineFailed
from carrara.engines.facts import EngineFacts
from carrara.engines.local import LocalModel
from carrara.engines.request import Completion, Progress, Request, Watch
from carrara.engines.shared import Shared
from carrara.engines.stream import stream

if TYPE_CHECKING:
    from carrara.engines.rounds import Rounds


class Opened(Protocol):
    """What exists while such an engine is open: its rounds, and the task that runs them."""

    @property
    def rounds(self) -> Rounds[Any]: ...

    @property
    def loop(self) -> asyncio.Task[None]: ...


W = TypeVar("W", bound=Opened)


class LocalEngine(Shared, ABC, Generic[W]):
    """See `carrara.engines.engine.Engine`; what is accepted and how it is computed is each engine's own."""

    def __init__(self, local: LocalModel, name: str, clock: Callable[[], float]) -> None:
        super().__init__()
        self.local = local
        self._name, self._clock = name, clock
        self._tickets = count()
        self._open: W | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def context_tokens(self) -> int:
        return self.local.config.max_positions

    @property
    def facts(self) -> EngineFacts:
        return EngineFacts(device=self.local.device_kind)

    @abstractmethod
    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        """Complete one request; see the protocol."""

    def stream(self, request: Request) -> AsyncIterator[Progress | Completion]:
        """The drafts of a request as they come, then its completion; see `carrara.engines.stream`."""
        return stream(cast(Engine, self), request)

    @abstractmethod
    def _started(self) -> W:
        """Begin to serve; the model is loaded."""

    async def _begin(self) -> None:
        await self.local.__aenter__()
        try:
            self._open = self._started()
        except BaseException:
            await self.local.__aexit__(None, None, None)
            raise

    async def _end(self) -> None:
        now, self._open = self._open, None
        try:
            if now is not None:
                now.rounds.close()
                await now.loop
        finally:
            await self.local.__aexit__(None, None, None)

    def _now(self) -> W:
        if self._open is None:
            raise EngineFailed(
                f"engine {self._name!r} is not open: enter it with `async with`", engine=self._name
            )
        return self._open

    async def _answered(
        self, now: W, job: Any, watch: Watch | None, submitted: float
    ) -> Completion:
        """What a job comes to, in its turn; at once if nothing is left to decide."""
        from carrara.engines.live import Live

        done: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        live = Live(next(self._tickets), job, watch, submitted, done)
        return now.rounds.completion(live) if job.is_finished else await now.rounds.answer(live)
