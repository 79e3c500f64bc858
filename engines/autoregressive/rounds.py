"""The loop of the engine "ar": plan, perform, hand out; once around is a round.

It runs on the event loop and holds the only reference to the batcher, so that needs no lock. Tensors and
answers are touched only by `Decoder.perform`, on the model's thread, while the loop waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from carrara.engines.autoregressive.answer import Answer
from carrara.engines.autoregressive.batch import Batcher, BatchLimits
from carrara.engines.autoregressive.decode import Decoder
from carrara.engines.errors import EngineBusy, EngineError, EngineFailed
from carrara.engines.local import LocalModel
from carrara.engines.request import Completion, Progress, Timings, Usage, Watch

_KEPT_CACHE_BYTES = 256 << 20


@dataclass(slots=True, eq=False)
class Live:
    """A request in flight. Times are of the engine's clock, None until reached; `known` tokens are the
    batcher's."""

    ticket: int
    answer: Answer
    watch: Watch | None
    submitted: float
    done: asyncio.Future[Completion]
    started: float | None = None
    first: float | None = None
    known: int = 0
    shown: Progress | None = None

    @property
    def deadline(self) -> float | None:
        seconds = self.answer.request.limits.deadline_s
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
        self._batch = self._empty_batch()
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
            EngineFailed: the pass broke, `watch` did, the deadline passed while answering, or the engine
            closed.
        """
        answer = live.answer
        need = answer.prompt + answer.request.limits.max_tokens
        if self._closing:
            raise EngineFailed(f"engine {self._name!r} is closing", engine=self._name)
        if not self._batch.offer(live.ticket, answer.opening, need, answer.request.priority):
            raise EngineBusy(
                f"engine {self._name!r} has {self.seated} requests answering and {self.waiting} waiting, "
                "its queue is full",
                engine=self._name,
            )
        live.known = len(answer.tokens)
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

    async def _round(self) -> None:
        plan = self._batch.plan(self._find_prefix)
        feeds = [feed for part in plan.passes for feed in part.feeds]
        served = [self._live[ticket] for ticket in dict.fromkeys(feed.ticket for feed in feeds)]
        now = self._clock()
        for live in served:
            live.started = now if live.started is None else live.started
        answers = {live.ticket: live.answer for live in served}
        await self._local.run(self._decoder.perform, plan, answers)
        for feed in feeds:
            self._batch.fed(feed)
        for live in served:
            self._account(live)

    def _account(self, live: Live) -> None:
        """Tell the batcher how far an answer came, and its caller when it ended or grew."""
        answer = live.answer
        grown = len(answer.tokens) - live.known
        live.known += grown
        self._batch.grew(live.ticket, grown)
        if live.first is None and (grown or answer.stop):
            live.first = self._clock()
        if answer.failure is not None:
            self._refuse(live, answer.failure)
            self._drop(live.ticket)
        elif answer.stop is not None:
            self._finish(live)
        elif live.watch is not None:
            self._show(live, live.watch)

    def _show(self, live: Live, watch: Watch) -> None:
        if live.done.done():
            return
        shown = live.answer.progress()
        before = live.shown
        if shown.text == (before.text if before else "") and (
            before is None or before.settled == shown.settled
        ):
            return
        live.shown = shown
        try:
            watch(shown)
        except Exception as error:
            failure = EngineFailed(f"the watcher of a request failed: {error}", engine=self._name)
            failure.__cause__ = error
            self._refuse(live, failure)
            self._drop(live.ticket)

    def _finish(self, live: Live) -> None:
        if live.watch is not None:
            self._show(live, live.watch)
        if not live.done.done():
            live.done.set_result(self.completion(live))
        self._drop(live.ticket)

    def completion(self, live: Live) -> Completion:
        """What an ended answer comes to."""
        answer = live.answer
        value, stop = answer.finish()
        now = self._clock()
        started = now if live.started is None else live.started
        first = now if live.first is None else live.first
        return Completion(
            text=answer.text(),
            value=value,
            confidence=answer.confidence(value),
            usage=Usage(
                prompt_tokens=answer.prompt,
                cached_tokens=min(answer.hit.tokens, answer.prompt) if answer.hit else 0,
                completion_tokens=answer.completion_tokens,
                passes=answer.passes,
            ),
            timings=Timings(started - live.submitted, first - started, now - first),
            stop=stop,
            engine=self._name,
            model=self._local.source,
        )

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
            text = (
                f"the deadline of a request passed in the queue of engine {self._name!r}, {waited}"
            )
            return EngineBusy(text, engine=self._name)
        answer = live.answer
        text = (
            f"the deadline of a request passed on engine {self._name!r}, {waited}, "
            f"with {answer.completion_tokens} of at most {answer.request.limits.max_tokens} tokens written"
        )
        return EngineFailed(text, engine=self._name)

    async def _rest(self) -> None:
        self._wake.clear()
        if self._decoder.cache_bytes > _KEPT_CACHE_BYTES:
            await self._local.run(self._decoder.clear)
        if self._batch.is_idle and not self._closing:
            await self._wake.wait()

    def _fail_all(self, error: Exception) -> None:
        """Nobody knows how far the pass came: everyone who holds a row starts over, if the caller wants
        to."""
        for live in list(self._live.values()):
            failure = EngineFailed(
                f"a pass of engine {self._name!r} broke: {error}", engine=self._name
            )
            failure.__cause__ = error
            self._refuse(live, failure)
        self._live.clear()
        self._gone.clear()
        self._batch = self._empty_batch()

    def _empty_batch(self) -> Batcher:
        return Batcher(self._limits)

    def _find_prefix(self, ticket: int) -> int:
        answer = self._live[ticket].answer
        key = self._local.prefix_key(answer.adapted)
        answer.hit = self._local.prefix_cache.find(key, answer.tokens, most=answer.opening - 1)
        return answer.hit.tokens

    def _refuse(self, live: Live, error: EngineError) -> None:
        error.engine = error.engine or self._name
        if not live.done.done():
            live.done.set_exception(error)

    def _drop(self, ticket: int) -> None:
        if self._live.pop(ticket, None) is not None:
            self._batch.leave(ticket)
