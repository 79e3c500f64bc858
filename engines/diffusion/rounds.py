"""The loop of the diffusion engine: plan, perform, hand out; once around is a round.

It runs on the event loop and holds the only reference to the batcher, so that needs no lock. Tensors and canvases are
touched by the model's thread while the loop waits for it, and by the loop in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from carrara.engines.diffusion.batch import Batcher, BatchLimits
from carrara.engines.diffusion.decode import Decoder
from carrara.engines.diffusion.job import Job
from carrara.engines.errors import CarraraError, EngineBusy, EngineError, EngineFailed
from carrara.engines.local import LocalModel
from carrara.engines.request import Completion, Timings, Usage, Watch

_KEPT_CACHE_BYTES = 256 << 20


@dataclass(slots=True, eq=False)
class Live:
    """A request in flight. Times are of the engine's clock, None until reached; `known` of the job's tokens are
    known to the batcher."""

    ticket: int
    job: Job
    watch: Watch | None
    submitted: float
    done: asyncio.Future[Completion]
    started: float | None = None
    denoised: float | None = None
    known: int = 0

    @property
    def deadline(self) -> float | None:
        seconds = self.job.request.limits.deadline_s
        return None if seconds is None else self.submitted + seconds


class Rounds:
    """The requests of one open engine and the loop that serves them."""

    def __init__(
        self,
        name: str,
        local: LocalModel,
        decoder: Decoder,
        limits: BatchLimits,
        clock: Callable[[], float],
    ) -> None:
        self._name, self._local, self._decoder, self._clock = name, local, decoder, clock
        self._limits = limits
        self._batch = Batcher(limits)
        self._live: dict[int, Live] = {}
        self._gone: set[int] = set()
        self._wake = asyncio.Event()
        self._closing = False

    @property
    def seated(self) -> int:
        return self._batch.seated

    @property
    def waiting(self) -> int:
        return self._batch.waiting

    async def answer(self, live: Live) -> Completion:
        """Put a request into the queue and wait for its end. Cancelling takes it out at the next round.

        Raises:
            EngineBusy: no place in the queue, or its deadline passed there.
            EngineFailed: the pass broke, `watch` did, the deadline passed while refining, or the engine closed.
        """
        job = live.job
        if self._closing:
            raise EngineFailed(f"engine {self._name!r} is closing", engine=self._name)
        need = job.prompt + job.request.limits.max_tokens
        if not self._batch.offer(live.ticket, len(job.tokens), need, job.request.priority):
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

    async def run(self) -> None:
        """Serve until `close`. A pass that breaks fails the requests in it, not the engine."""
        while not self._closing:
            self._sweep()
            if self._batch.is_idle:
                await self._rest()
                continue
            try:
                await self._round()
            except Exception as error:
                self._fail_all(error)

    def close(self) -> None:
        """End the loop after its round; whoever still waits gets an EngineFailed."""
        self._closing = True
        self._wake.set()
        for live in self._live.values():
            self._refuse(live, EngineFailed(f"engine {self._name!r} was closed", engine=self._name))

    def completion(self, live: Live) -> Completion:
        """What a finished answer comes to."""
        job, now = live.job, self._clock()
        text, value, stop, confidence = job.finish()
        started = now if live.started is None else live.started
        denoised = now if live.denoised is None else live.denoised
        return Completion(
            text=text,
            value=value,
            confidence=confidence,
            usage=Usage(
                prompt_tokens=job.prompt,
                cached_tokens=job.hit.tokens if job.hit else 0,
                completion_tokens=len(job.tokens) - job.prompt,
                passes=job.passes,
            ),
            timings=Timings(started - live.submitted, denoised - started, now - denoised),
            stop=stop,
            engine=self._name,
            model=self._local.source,
        )

    async def _round(self) -> None:
        plan = self._batch.plan(self._find_prefix)
        now = self._clock()
        for feed in plan.feeds:
            live = self._live[feed.ticket]
            live.started = now if live.started is None else live.started
        jobs = {ticket: live.job for ticket, live in self._live.items()}
        encoded_s = await self._local.run(self._decoder.perform, plan, jobs)
        for spot in plan.spots:
            live = self._live[spot.ticket]
            live.denoised = now + encoded_s if live.denoised is None else live.denoised
            self._account(live)

    def _account(self, live: Live) -> None:
        """Tell the batcher how far a canvas came, and its caller when it is finished or has changed."""
        job = live.job
        self._batch.grew(live.ticket, len(job.tokens) - live.known)
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
            live.job.failure = EngineFailed(f"the watcher of a request failed: {error}")
            live.job.failure.__cause__ = error

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
        now = self._clock()
        for live in list(self._live.values()):
            if live.deadline is not None and now >= live.deadline:
                self._refuse(live, self._late(live, now))
                self._drop(live.ticket)

    def _late(self, live: Live, now: float) -> EngineError:
        waited = f"{now - live.submitted:.1f} s after it was submitted"
        if live.started is None:
            return EngineBusy(
                f"the deadline of a request passed in the queue of engine {self._name!r}, {waited}"
            )
        share = live.job.canvas.settled_share
        return EngineFailed(
            f"the deadline of a request passed on engine {self._name!r}, {waited}, "
            f"after {live.job.passes} passes with {share:.0%} of the canvas settled"
        )

    async def _rest(self) -> None:
        self._wake.clear()
        if self._decoder.cache_bytes > _KEPT_CACHE_BYTES:
            await self._local.run(self._decoder.clear)
        if self._batch.is_idle and not self._closing:
            await self._wake.wait()

    def _fail_all(self, error: Exception) -> None:
        """Nobody knows how far the pass came: all requests fail, and their callers may try again."""
        for live in list(self._live.values()):
            failure = EngineFailed(f"a pass of engine {self._name!r} broke: {error}")
            failure.__cause__ = error
            self._refuse(live, failure)
        self._live.clear()
        self._gone.clear()
        self._batch = Batcher(self._limits)

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
