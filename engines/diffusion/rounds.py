"""The loop of the diffusion engine: plan, perform, hand out; once around is a round.

It runs on the event loop and holds the only reference to the batcher, so that needs no lock. Tensors and canvases are
touched by the model's thread while the loop waits for it, and by the loop in between.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from typing import Any

from carrara.engines.diffusion.batch import Batcher, BatchLimits
from carrara.engines.diffusion.decode import Decoder, NoRoom
from carrara.engines.diffusion.job import Job
from carrara.engines.diffusion.live import Live, late_in_queue
from carrara.engines.diffusion.memory import Costs, told
from carrara.engines.errors import (
    CarraraError,
    EngineBusy,
    EngineError,
    EngineFailed,
    EngineRefused,
)
from carrara.engines.faults import is_device_lost
from carrara.engines.local import LocalModel
from carrara.engines.occupancy import Occupancy
from carrara.engines.request import Completion, Watch
from carrara.engines.watchdog import Watchdog

_log = logging.getLogger(__name__)

_KEPT_CACHE_BYTES = 256 << 20


class Rounds:
    """The requests of one open engine and the loop that serves them. `occupancy` counts the seats of its rounds."""

    def __init__(
        self,
        name: str,
        local: LocalModel,
        decoder: Decoder,
        limits: BatchLimits,
        clock: Callable[[], float],
        watchdog: Watchdog,
    ) -> None:
        self._name, self._local, self._decoder, self._clock = name, local, decoder, clock
        self._watchdog = watchdog
        self._limits, self._costs = limits, Costs.of(local.config, local.dtype)
        self._batch = Batcher(limits, self._costs)
        self._live: dict[int, Live] = {}
        self._gone: set[int] = set()
        self._preparing: dict[asyncio.Task[Job], float] = {}
        self._wake = asyncio.Event()
        self._closing = False
        self._down = ""
        self.occupancy = Occupancy()

    @property
    def trouble(self) -> str | None:
        """Why nothing is answered now, None while all is well."""
        return self._down or self._watchdog.line

    @property
    def is_crowded(self) -> bool:
        """Whether passes take fewer canvases than they may, after one ran out of memory."""
        return self._batch.together < self._limits.rows

    @property
    def seats(self) -> int:
        """How many canvases a pass takes at most while memory allows it."""
        return self._limits.rows

    @property
    def seated(self) -> int:
        return self._batch.seated

    @property
    def waiting(self) -> int:
        return self._batch.waiting

    async def answer(self, live: Live) -> Completion:
        """Put a request into the queue and wait for its end. Cancelling takes it out at the next round.

        Raises:
            EngineRefused: it takes more memory than the engine may use, or its priority is no number.
            EngineBusy: no place in the queue, its deadline passed there, or a pass is overdue.
            EngineFailed: the pass broke, `watch` did, the deadline passed while refining, or the engine closed or is
            down.
        """
        job = live.job
        self.check_open()
        self._check_size(job)
        priority = job.request.priority
        if not self._batch.offer(
            live.ticket, len(job.tokens), job.need, priority, job.block, job.lead
        ):
            raise EngineBusy(
                f"engine {self._name!r} has {self.seated} canvases and {self.waiting} requests waiting, "
                "its queue is full",
                engine=self._name,
            )
        live.known = len(job.tokens)
        self._live[live.ticket] = live
        self._wake.set()
        try:
            return await live.done
        finally:
            if live.ticket in self._live:  # the caller gave it up, or the engine closes
                self._gone.add(live.ticket)
                self._wake.set()

    async def prepared(
        self, work: Coroutine[Any, Any, Job], submitted: float, deadline_s: float | None
    ) -> Job:
        """What `work` makes on the model's thread, where a pass may keep it waiting.

        Raises:
            EngineBusy: the deadline passed.
            EngineFailed: a pass does not come back.
        """
        task = asyncio.create_task(work)
        due = math.inf if deadline_s is None else submitted + deadline_s
        self._preparing[task] = due
        try:
            await asyncio.wait((task,))
        finally:
            del self._preparing[task]
            task.cancel()
        if not task.cancelled():
            return task.result()
        if line := self._watchdog.line:
            raise EngineFailed(f"engine {self._name!r} is stuck: {line}", engine=self._name)
        raise late_in_queue(self._name, self._clock() - submitted)

    def check_open(self) -> None:
        """See whether requests are answered now.

        Raises:
            EngineFailed: the engine closes or is down.
            EngineBusy: a pass is overdue.
        """
        if self._closing:
            raise EngineFailed(f"engine {self._name!r} is closing", engine=self._name)
        if self._down:
            raise EngineFailed(f"engine {self._name!r} is down: {self._down}", engine=self._name)
        if line := self._watchdog.line:
            raise EngineBusy(f"engine {self._name!r} is stuck: {line}", engine=self._name)

    def _check_size(self, job: Job) -> None:
        if not math.isfinite(job.request.priority):
            told = f"a request has the priority {job.request.priority}, it must be a finite number"
            raise EngineRefused(told, engine=self._name)
        size, most = self._batch.bytes_alone(job.need, job.block, job.lead), self._limits.bytes
        if size > most:
            raise EngineRefused(self._too_large(job, size), engine=self._name)

    def _too_large(self, job: Job, size: int) -> str:
        block = job.block
        return (
            f"engine {self._name!r} refused {job.prompt:,} prompt tokens and a canvas of "
            f"{job.need - job.prompt:,}, {block.width:,} of them in a pass: cache and pass take {told(size)} even "
            f"alone, and {told(self._limits.bytes)} is all that the engine may use. Shorten the input, lower "
            "max_tokens, or give it more (BatchLimits.bytes)."
        )

    async def run(self) -> None:
        """Serve until `close`. A pass that breaks fails requests, not the engine; a lost device fails both."""
        guard = asyncio.create_task(self._watchdog.run(self._end_late, self._stuck))
        try:
            while not self._closing:
                try:
                    self._sweep()
                    await (self._rest() if self._batch.is_idle else self._round())
                except NoRoom as error:
                    self._without_room(error)
                except Exception as error:
                    self._fail_all(error)
        finally:
            guard.cancel()

    def close(self) -> None:
        """End the loop after its round; whoever still waits gets an EngineFailed."""
        self._closing = True
        self._wake.set()
        for live in self._live.values():
            self._refuse(live, EngineFailed(f"engine {self._name!r} was closed", engine=self._name))

    def completion(self, live: Live) -> Completion:
        """What a finished answer comes to."""
        return live.completion(self._name, self._local.source, self._clock())

    async def _gather(self) -> None:
        """Let free seats be taken by those whose canvas is being made. The model's thread makes them before the next
        pass in any case; a pass that is planned now would go without them: the first of many with a single one."""
        if not self._preparing or self.seated + self.waiting >= self.seats:
            return
        self._watchdog.begin()
        try:
            await asyncio.wait(self._preparing)
        finally:
            self._watchdog.end()

    async def _round(self) -> None:
        await self._gather()
        plan = self._batch.plan(self._find_prefix)
        for ticket in plan.refused:
            live = self._live[ticket]
            size = self._batch.bytes_alone(live.job.need, live.job.block, live.job.lead)
            self._refuse(live, EngineRefused(self._too_large(live.job, size)))
            self._drop(ticket)
        self.occupancy += Occupancy(1, self.seats, self.seated, len(plan.spots))
        now = self._clock()
        for feed in plan.feeds:
            live = self._live[feed.ticket]
            live.started = now if live.started is None else live.started
        jobs = {ticket: live.job for ticket, live in self._live.items()}
        self._watchdog.begin()
        try:
            done = await self._local.run(self._decoder.perform, plan, jobs)
        finally:
            self._watchdog.end()
        if done.full_at is not None:
            self._batch.pinched(done.full_at)
        unsound = {feed.ticket for feed in plan.feeds if not jobs[feed.ticket].is_sound}
        for ticket in unsound:
            self._account(self._live[ticket])
        for ticket in [spot.ticket for spot in plan.spots if spot.ticket not in unsound]:
            live = self._live[ticket]
            live.denoised = now + done.encoded_s if live.denoised is None else live.denoised
            self._account(live)

    def _account(self, live: Live) -> None:
        """Tell the batcher how far a canvas came, and its caller when it is finished or has changed."""
        job = live.job
        if job.is_spoilt:
            job.is_spoilt = False
            self._batch.again(live.ticket)
            return
        self._batch.grew(live.ticket, len(job.tokens) - live.known, job.block)
        live.known = len(job.tokens)
        if live.watch is not None and job.failure is None:
            self._show(live, live.watch)
        if job.failure is not None:
            self._refuse(live, job.failure)
            self._drop(live.ticket)
        elif job.is_finished:
            self._finish(live)

    def _show(self, live: Live, watch: Watch) -> None:
        if live.done.done():
            return
        try:
            watch(live.job.progress())
        except Exception as error:
            live.job.fail(f"the watcher of a request failed: {error}", error)

    def _finish(self, live: Live) -> None:
        if not live.done.done():
            try:
                live.done.set_result(self.completion(live))
            except CarraraError as error:
                failure = EngineFailed(f"the answer does not hold to its contract: {error}")
                failure.__cause__ = error
                self._refuse(live, failure)
        self._drop(live.ticket)

    def _sweep(self) -> None:
        """Between rounds: drop those given up and those whose deadline passed."""
        for ticket in self._gone:
            self._drop(ticket)
        self._gone.clear()
        for live in self._end_late():
            self._drop(live.ticket)

    def _end_late(self) -> list[Live]:
        """Tell those whose deadline passed, also while a pass runs."""
        now = self._clock()
        late = [x for x in self._live.values() if x.deadline is not None and now >= x.deadline]
        for live in late:
            self._refuse(live, live.too_late(self._name, now))
        for task, due in self._preparing.items():
            if now >= due:
                task.cancel()
        return late

    def _stuck(self, line: str) -> None:
        """A pass cannot be interrupted, but nobody has to wait for it."""
        _log.warning("engine %r: %s", self._name, line)
        for live in self._live.values():
            self._refuse(live, EngineFailed(f"engine {self._name!r} is stuck: {line}"))
        for task in self._preparing:
            task.cancel()

    def _without_room(self, error: NoRoom) -> None:
        """All begin anew with fewer beside them; one alone cannot be served."""
        _log.warning("engine %r: no memory for the cache: %s", self._name, error)
        if self.seated > 1:
            self._batch.restart()
            return
        for ticket in self._batch.seated_tickets:
            told = f"there is no memory for its cache: {error}"
            self._refuse(self._live[ticket], EngineBusy(told))
            self._drop(ticket)
        self._batch.restart()

    async def _rest(self) -> None:
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
        self._batch = Batcher(self._limits, self._costs)

    def _find_prefix(self, ticket: int) -> int:
        job = self._live[ticket].job
        if job.settings.attention == "full":  # nothing is kept: all of it sees the answer
            return 0
        key = job.prefix_key(self._local)
        job.hit = self._local.prefix_cache.find(key, job.tokens, most=job.prompt - 1)
        return job.hit.tokens

    def _refuse(self, live: Live, error: EngineError) -> None:
        error.engine = error.engine or self._name
        if not live.done.done():
            live.done.set_exception(error)

    def _drop(self, ticket: int) -> None:
        if self._live.pop(ticket, None) is not None:
            self._batch.leave(ticket)
