"""The loop of an engine of this process: plan, perform, hand out; once around is a round.

It runs on the event loop and holds the only reference to its batcher, so that needs no lock. Tensors and jobs are
touched by the model's thread while the loop waits for it, and by the loop in between. What differs between decoders
are the plan and its passes (`_round`).
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Generic, Protocol

from carrara.engines.errors import CarraraError, EngineBusy, EngineError, EngineFailed
from carrara.engines.faults import is_device_lost
from carrara.engines.live import J, Live
from carrara.engines.local import LocalModel
from carrara.engines.request import Completion, Progress
from carrara.engines.seats import Seats

_log = logging.getLogger(__name__)

_KEPT_CACHE_BYTES = 256 << 20


class Caching(Protocol):
    """A decoder, as far as the loop knows it: it holds memory that can be given back while nobody is seated."""

    @property
    def cache_bytes(self) -> int: ...

    def clear(self) -> None: ...


class Rounds(ABC, Generic[J]):
    """The requests of one open engine and the loop that serves them."""

    _seats_are: ClassVar[str]
    """What those are who hold a row: "3 canvases" says that an engine refines three."""

    _batch: Seats[Any]

    def __init__(
        self, name: str, local: LocalModel, decoder: Caching, clock: Callable[[], float]
    ) -> None:
        self._name, self._local, self._clock = name, local, clock
        self._decoder = decoder
        self._batch = self._empty_batch()
        self._live: dict[int, Live[J]] = {}
        self._gone: set[int] = set()
        self._wake = asyncio.Event()
        self._closing = False
        self._down = ""

    @property
    def trouble(self) -> str | None:
        """Why nothing is answered now, None while all is well."""
        return self._down or None

    @property
    def seated(self) -> int:
        return self._batch.seated

    @property
    def waiting(self) -> int:
        return self._batch.waiting

    async def answer(self, live: Live[J]) -> Completion:
        """Put a request into the queue and wait for its end. Cancelling takes it out at the next round.

        Raises:
            EngineRefused: it can never be served here.
            EngineBusy: no place in the queue, its deadline passed there, or a pass is overdue.
            EngineFailed: the pass broke, `watch` did, the deadline passed while it was answered, or the engine closed
            or is down.
        """
        self.check_open()
        if not self._offer(live):
            raise EngineBusy(
                f"engine {self._name!r} has {self.seated} {self._seats_are} and {self.waiting} waiting, "
                "its queue is full",
                engine=self._name,
            )
        live.known = len(live.job.tokens)
        self._live[live.ticket] = live
        self._wake.set()
        try:
            return await live.done
        finally:
            if live.ticket in self._live:  # the caller gave it up, or the engine closes
                self._gone.add(live.ticket)
                self._wake.set()

    def check_open(self) -> None:
        """See whether requests are answered now.

        Raises:
            EngineFailed: the engine closes or is down.
        """
        if self._closing:
            raise EngineFailed(f"engine {self._name!r} is closing", engine=self._name)
        if self._down:
            raise EngineFailed(f"engine {self._name!r} is down: {self._down}", engine=self._name)

    async def run(self) -> None:
        """Serve until `close`. A pass that breaks fails requests, not the engine; a lost device fails both."""
        while not self._closing:
            try:
                self._sweep()
                await (self._rest() if self._batch.is_idle else self._round())
            except Exception as error:
                self._recover(error)

    def close(self) -> None:
        """End the loop after its round; whoever still waits gets an EngineFailed."""
        self._closing = True
        self._wake.set()
        for live in self._live.values():
            self._refuse(live, EngineFailed(f"engine {self._name!r} was closed", engine=self._name))

    def completion(self, live: Live[J]) -> Completion:
        """What a finished answer comes to."""
        return live.completion(self._name, self._local.source, self._clock())

    # What decoders do each in their way

    @abstractmethod
    def _empty_batch(self) -> Seats[Any]:
        """A batcher with nobody in it."""

    @abstractmethod
    def _offer(self, live: Live[J]) -> bool:
        """Queue a request; False if the queue is full."""

    @abstractmethod
    async def _round(self) -> None:
        """Plan the next passes, perform them on the model's thread, and `_tell` those who took part."""

    def _recover(self, error: Exception) -> None:
        """Go on after a round that broke."""
        self._fail_all(error)

    def _is_news(self, live: Live[J], draft: Progress) -> bool:
        """Whether a draft differs from the one shown last, so that its watcher wants to see it."""
        return True

    # Handing out

    def _tell(self, live: Live[J]) -> None:
        """After a pass: show how far a request came, and hand out what it came to if it is over."""
        job = live.job
        if job.failure is None:
            self._show(live)
        if job.failure is not None:
            self._refuse(live, job.failure)
        elif job.is_finished:
            self._finish(live)
        else:
            return
        self._drop(live.ticket)

    def _show(self, live: Live[J]) -> None:
        if live.watch is None or live.done.done():
            return
        draft = live.job.progress()
        if not self._is_news(live, draft):
            return
        live.shown = draft
        try:
            live.watch(draft)
        except Exception as error:
            failure = EngineFailed(f"the watcher of a request failed: {error}")
            failure.__cause__ = error
            self._refuse(live, failure)
            self._drop(live.ticket)

    def _finish(self, live: Live[J]) -> None:
        if live.done.done():
            return
        try:
            live.done.set_result(self.completion(live))
        except CarraraError as error:
            failure = EngineFailed(f"the answer does not hold to its contract: {error}")
            failure.__cause__ = error
            self._refuse(live, failure)

    def _refuse(self, live: Live[J], error: EngineError) -> None:
        error.engine = error.engine or self._name
        if not live.done.done():
            live.done.set_exception(error)

    def _drop(self, ticket: int) -> None:
        if self._live.pop(ticket, None) is not None:
            self._batch.leave(ticket)

    # Between rounds

    def _sweep(self) -> None:
        """Drop those given up and those whose deadline passed."""
        for ticket in self._gone:
            self._drop(ticket)
        self._gone.clear()
        for live in self._end_late():
            self._drop(live.ticket)

    def _end_late(self) -> list[Live[J]]:
        """Tell those whose deadline passed."""
        now = self._clock()
        late = [x for x in self._live.values() if x.deadline is not None and now >= x.deadline]
        for live in late:
            self._refuse(live, live.too_late(self._name, now))
        return late

    async def _rest(self) -> None:
        """Wait for a request. Memory that a large batch took is given back meanwhile."""
        self._wake.clear()
        if not self._down and self._decoder.cache_bytes > _KEPT_CACHE_BYTES:
            await self._local.run(self._decoder.clear)
        if self._batch.is_idle and not self._closing:
            await self._wake.wait()

    def _fail_all(self, error: Exception) -> None:
        """Nobody knows how far the pass came: all fail, and may try again, unless the device is lost."""
        if is_device_lost(error):
            self._down = f"the device was lost ({error}); start the process again"
        _log.error("engine %r: a pass broke", self._name, exc_info=error)
        what = f"is down: {self._down}" if self._down else f"had a pass that broke: {error}"
        for live in list(self._live.values()):
            failure = EngineFailed(f"engine {self._name!r} {what}")
            failure.__cause__ = error
            self._refuse(live, failure)
        self._live.clear()
        self._gone.clear()
        self._batch = self._empty_batch()
