"""Asking one engine one request: wait for a place at it, join an equal request that is under way, wait out a
short Retry-After."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from carrara.engines.engine import Engine
from carrara.engines.errors import EngineBusy, EngineError
from carrara.engines.request import Completion, Progress, Request, Usage, Watch
from carrara.runtime.attempt_clock import uncounted
from carrara.runtime.limits import EngineGate
from carrara.runtime.routing.bill import Bill
from carrara.runtime.routing.breaker import Recovering
from carrara.runtime.routing.budget import Reserved
from carrara.runtime.routing.estimate import estimated_text_tokens, estimated_tokens
from carrara.runtime.routing.remembered import Remembered
from carrara.runtime.single_flight import SingleFlight

_WAITS = 3  # Retry-After answers taken in a row before the step's own retries are left to decide


class PassedOver(Exception):
    """While the call waited for its place, evidence came up that the engine need not be asked."""


@dataclass(frozen=True, slots=True)
class Answered:
    """`joined`: an equal request was under way and this is its answer; it cost nothing more, unless the step that
    made it left and this one took over. `remembered`: an equal request had been answered before in this run."""

    completion: Completion
    joined: bool
    remembered: bool = False


@dataclass(slots=True)
class _Part:
    """What a step does for the call: whether the call was `made` for it, and the `heir` that leads it instead."""

    made: bool = False
    heir: Asking | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Asking:
    """One request to one engine.

    `admit` is called when the place is there and nothing else is to be waited for; unless `firm`, it may
    raise PassedOver, and Reserved or Recovering where the budget or the engine is to be waited for, which is done
    without a place. `max_wait_s` is the longest Retry-After that is waited for. Without a `gate` there is always a
    place; without `flights` nothing is joined, and nothing taken from what is `remembered` of the run, in
    which `asker` is the number of the step's node. A call that was joined goes over to the `bill` of this one where the
    step that made it leaves. `put_off` is told of each Retry-After that is waited for, and of its seconds.
    """

    engine: Engine
    request: Request
    admit: Callable[[], None]
    firm: bool
    max_wait_s: float
    gate: EngineGate | None = None
    flights: SingleFlight[Completion] | None = None
    watch: Watch | None = None
    bill: Bill | None = None
    remembered: Remembered | None = None
    asker: int = 0
    put_off: Callable[[EngineBusy, float], None] | None = None
    _part: _Part = field(default_factory=_Part)

    async def answer(self) -> Answered:
        """The engine's completion.

        Raises:
            PassedOver, Reserved, Recovering: by `admit`.
            EngineBusy: no Retry-After, too long a one, or too many.
            EngineRefused, EngineFailed: as the engine says.
        """
        for _ in range(_WAITS):
            try:
                return await self._once()
            except EngineBusy as busy:
                wait_s = busy.retry_after_s
                if wait_s is None or wait_s > self.max_wait_s:
                    raise
                if self.put_off is not None:
                    self.put_off(busy, wait_s)
            if self.gate is not None:
                self.gate.hold_off(wait_s)
            with uncounted():
                await asyncio.sleep(wait_s)
        return await self._once()

    async def _once(self) -> Answered:
        if self.flights is None or not self.request.sampling.is_repeatable:
            return Answered(await self._admitted(), False)
        self._part.made = False
        place = (self.engine.name, self.engine.fingerprint, self.firm)
        request, known = _sameness(self.request), self.remembered
        if known is not None and (found := known.get(place, request, self.asker)) is not None:
            return Answered(found, joined=False, remembered=True)
        completion = await self.flights.run((*place, request), self._admitted, self)
        if known is not None:
            known.put(place, request, self.asker, completion)
        return Answered(completion, not self._part.made)

    def take_over(self, leader: Asking) -> None:
        """See `single_flight`."""
        leader._part.heir = self
        if self.bill is not None and leader.bill is not None:
            self.bill.take_over(leader.bill)

    @property
    def _leader(self) -> Asking:
        """Who leads the call that was begun here."""
        heir = self._part.heir
        return self if heir is None else heir._leader

    async def _admitted(self) -> Completion:
        if self.gate is None:
            return await self._complete()
        tokens = estimated_tokens(self.request.messages) + self.request.limits.max_tokens
        async with self.gate.admit(rank=self.request.priority, tokens=tokens) as admission:
            try:
                completion = await self._complete()
            except (PassedOver, Reserved, Recovering):
                admission.used(0)
                raise
            except EngineError as error:
                if not error.has_worked:
                    admission.used(0)
                raise
            usage = completion.usage
            admission.used(usage.prompt_tokens + usage.completion_tokens)
            return completion

    async def _complete(self) -> Completion:
        leader = self._leader
        leader.admit()
        leader._part.made = True

        def show(progress: Progress) -> None:
            if (watch := self._leader.watch) is not None:
                watch(progress)

        completion = await self.engine.complete(self.request, show if self.watch else None)
        usage = completion.usage
        if usage == Usage():
            usage = _estimated(self.request, completion.text)
        return replace(completion, engine=self.engine.name, usage=usage)


def _estimated(request: Request, text: str) -> Usage:
    """What a call has used of which the engine tells nothing, so that it counts in budgets, too."""
    prompt = max(1, estimated_tokens(request.messages))
    written = max(1, estimated_text_tokens(text)) if text else 0
    return Usage(prompt_tokens=prompt, completion_tokens=written)


def _sameness(request: Request) -> Request:
    """The request without what its answer cannot depend on."""
    return replace(request, priority=0.0, limits=replace(request.limits, deadline_s=None))


__all__ = ["Answered", "Asking", "PassedOver"]
