"""How much an engine is given at once and over time.

A call passes three doors in this order: a place among `concurrency` (the most urgent waiter first), then
requests per second, then tokens per minute. The rate doors lie inside the first, so at most `concurrency`
calls wait at them, and each lets its waiters through in the order they came.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from heapq import heappop, heappush
from types import TracebackType
from typing import Protocol

from carrara.runtime.attempt_clock import uncounted
from carrara.runtime.bell import Bell

TOKEN_WINDOW_S = 1.0
"""Tokens are let through in portions worth at most this many seconds, so that no minute holds more than its
quota and one such portion."""


class RateLimit(Protocol):
    """A rate that is held over time."""

    async def acquire(self, weight: float = 1.0) -> None:
        """Wait until `weight` more fit into the rate."""
        ...


class NoLimit:
    async def acquire(self, weight: float = 1.0) -> None:
        return None


class RequestRate:
    """At most `per_s` requests in any second, by asyncio-throttle.

    A rate that is no whole number is held one request at a time, or rounded down from 20 a second up.
    """

    def __init__(self, per_s: float) -> None:
        from asyncio_throttle.throttler import Throttler

        _check_positive("requests_per_s", per_s)
        most = math.floor(per_s) if per_s >= 20 or per_s == math.floor(per_s) else 1
        period_s = 1.0 if most > 1 else 1 / per_s
        self._throttler = Throttler(most, period_s, retry_interval=min(0.01, period_s / 100))
        self._turn = asyncio.Lock()

    async def acquire(self, weight: float = 1.0) -> None:
        async with self._turn:
            for _ in range(math.ceil(weight)):
                await self._throttler.acquire()  # type: ignore[no-untyped-call]


class TokenRate:
    """At most `per_min` tokens a minute, by aiolimiter.

    A call is let in on an estimate; `correct` settles the difference to what it really used with the calls
    that come after it.
    """

    def __init__(self, per_min: float) -> None:
        from aiolimiter import AsyncLimiter

        _check_positive("tokens_per_min", per_min)
        self._per_s = per_min / 60
        self._portion = self._per_s * TOKEN_WINDOW_S
        self._limiter = AsyncLimiter(self._portion, TOKEN_WINDOW_S)
        self._turn = asyncio.Lock()
        self._owed = 0.0  # below 0: tokens that were paid for and not used
        self._idle_since = 0.0

    async def acquire(self, weight: float = 1.0) -> None:
        self._lapse()
        async with self._turn:
            due = weight
            try:
                while True:
                    due += self._owed
                    self._owed = min(0.0, due)
                    if due <= 0:
                        return
                    portion = min(due, self._portion)
                    await self._limiter.acquire(portion)
                    due -= portion
            except asyncio.CancelledError:
                self._owed += due - weight
                raise
            finally:
                self._idle_since = asyncio.get_running_loop().time()

    def correct(self, estimate: float, used: float) -> None:
        """A call that was let in for `estimate` tokens took `used`."""
        self._lapse()
        self._owed += used - estimate

    def _lapse(self) -> None:
        """While nobody waits, what is left over expires as fast as the rate refills."""
        if not self._turn.locked():
            now = asyncio.get_running_loop().time()
            if self._owed < 0:
                self._owed = min(0.0, self._owed + (now - self._idle_since) * self._per_s)
            self._idle_since = now


class PriorityGate:
    """A semaphore whose next free place goes to the waiter of the highest rank, the oldest among equals."""

    def __init__(self, places: int) -> None:
        if places < 1:
            raise ValueError(f"concurrency must be at least 1, got {places}")
        self._free = places
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._seq = 0

    async def acquire(self, rank: float = 0.0) -> None:
        if self._free:
            self._free -= 1
            return
        place = asyncio.get_running_loop().create_future()
        self._seq += 1
        heappush(self._waiting, (-rank, self._seq, place))
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # given and not taken: the next one has it
                self.release()
            raise

    def release(self) -> None:
        while self._waiting:
            place = heappop(self._waiting)[2]
            if not place.done():
                place.set_result(None)
                return
        self._free += 1


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What one engine may be given; None is no limit. Tokens count prompt and answer together."""

    concurrency: int | None = None
    requests_per_s: float | None = None
    tokens_per_min: float | None = None


class EngineGate:
    """The way into one engine, shared by all who call it on one event loop."""

    def __init__(self, limits: EngineLimits) -> None:
        self.limits = limits
        self._places = PriorityGate(limits.concurrency) if limits.concurrency is not None else None
        rate = limits.requests_per_s
        self._requests: RateLimit = NoLimit() if rate is None else RequestRate(rate)
        quota = limits.tokens_per_min
        self._tokens = None if quota is None else TokenRate(quota)
        self._open_at = 0.0
        self.paused = Bell()
        """Rings when the engine asks for a pause."""

    def admit(self, *, rank: float = 0.0, tokens: float = 0.0) -> Admission:
        """An async context in which one call may be made.

        `rank` as in StepContext.rank, `tokens` an estimate of what the call will use.
        """
        return Admission(self, rank, tokens)

    def hold_off(self, seconds: float) -> None:
        """The engine asked for a pause: nobody is let in before it is over."""
        now = asyncio.get_running_loop().time()
        self._open_at = max(self._open_at, now + seconds)
        self.paused.ring()

    @property
    def pause_s(self) -> float:
        """How long nobody is let in yet because the engine asked for a pause; 0 where it did not."""
        return max(0.0, self._open_at - asyncio.get_running_loop().time())

    async def _enter(self, rank: float, tokens: float) -> None:
        if self._places is not None:
            await self._places.acquire(rank)
        try:
            while (wait_s := self.pause_s) > 0:
                with uncounted():
                    await asyncio.sleep(wait_s)
            await self._requests.acquire()
            if self._tokens is not None:
                await self._tokens.acquire(tokens)
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        if self._places is not None:
            self._places.release()


class Admission:
    """One call's stay in an engine. Tell `used` what it took."""

    __slots__ = ("_gate", "_rank", "_tokens")

    def __init__(self, gate: EngineGate, rank: float, tokens: float) -> None:
        self._gate = gate
        self._rank = rank
        self._tokens = tokens

    def used(self, tokens: float) -> None:
        """The call used so many tokens; the estimate is corrected. Say it once."""
        if self._gate._tokens is not None:
            self._gate._tokens.correct(self._tokens, tokens)

    async def __aenter__(self) -> Admission:
        await self._gate._enter(self._rank, self._tokens)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._gate._leave()


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value}")
