"""Asking one engine one request, once: wait for a place at it, join an equal request that is under way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from carrara.engines.engine import Engine
from carrara.engines.errors import EngineError
from carrara.engines.request import Completion, Progress, Request, Usage, Watch
from carrara.runtime.limits import EngineGate
from carrara.runtime.routing.bill import Bill
from carrara.runtime.routing.breaker import Recovering
from carrara.runtime.routing.budget import Reserved
from carrara.runtime.routing.estimate import estimated_text_tokens, estimated_tokens
from carrara.runtime.routing.remembered import Remembered
from carrara.runtime.single_flight import SingleFlight


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
    """What a step does for the call: whether the call was `made` for it, and the `heir` that leads it instead. Of the
    step that began the call: the others that have `joined` it and not left, and whether it `is_let_in` to the engine;
    of those, the one that `began` it."""

    made: bool = False
    heir: Asking | None = None
    joined: dict[Asking, None] = field(default_factory=dict)
    is_let_in: bool = False
    began: Asking | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Asking:
    """One request to one engine.

    `admit` is called when the place is there and nothing else is to be waited for; unless `firm`, it may
    raise PassedOver, and Reserved or Recovering where the budget or the engine is to be waited for, which is done
    without a place. Without a `gate` there is always a place; without `flights` nothing is joined, and nothing taken
    from what is `remembered` of the run, in which `asker` is the number of the step's node. A call that was joined goes
    over to the `bill` of this one where the step that made it leaves; `waits` is called when one that was joined is at
    the engine. `second`: the step has asked the same already and waits for that, too; it joins second calls of others.

    A call that can be joined has no deadline of its own: each step leaves it by its own deadline, and the last takes it
    back.
    """

    engine: Engine
    request: Request
    admit: Callable[[], None]
    firm: bool
    gate: EngineGate | None = None
    flights: SingleFlight[Completion] | None = None
    watch: Watch | None = None
    bill: Bill | None = None
    remembered: Remembered | None = None
    asker: int = 0
    second: bool = False
    waits: Callable[[], None] = lambda: None
    _part: _Part = field(default_factory=_Part)

    async def answer(self) -> Answered:
        """The engine's completion.

        Raises:
            PassedOver, Reserved, Recovering: by `admit`.
            EngineBusy, EngineRefused, EngineFailed: as the engine says.
        """
        if self.flights is None or not self.request.sampling.is_repeatable:
            return Answered(await self._admitted(self.request), False)
        self._part.made = self._part.is_let_in = False
        self._part.joined, self._part.began = {}, None
        place = (self.engine.name, self.engine.fingerprint, self.firm)
        request, known = _sameness(self.request), self.remembered
        if known is not None and (found := known.get(place, request, self.asker)) is not None:
            return Answered(found, joined=False, remembered=True)
        shared = _without_deadline(self.request)
        key = (*place, self.second, request)
        try:
            completion = await self.flights.run(key, lambda: self._admitted(shared), self)
        finally:
            if (began := self._part.began) is not None:
                began._part.joined.pop(self, None)
        if known is not None:
            known.put(place, request, self.asker, completion)
        return Answered(completion, not self._part.made)

    def hold_off(self, seconds: float) -> None:
        """The engine asked for a pause, which is one for all its calls."""
        if self.gate is not None:
            self.gate.hold_off(seconds)

    def joins(self, leader: Asking) -> None:
        """See `single_flight`."""
        began = leader._part.began or leader
        self._part.began = began
        began._part.joined[self] = None
        if began._part.is_let_in:
            self.waits()

    def take_over(self, leader: Asking) -> None:
        """See `single_flight`."""
        leader._part.heir = self
        if self.bill is not None and leader.bill is not None:
            self.bill.take_over(leader.bill)

    @property
    def _leader(self) -> Asking:
        """Who leads the call that was begun here."""
        left: list[Asking] = []
        leader = self
        while (heir := leader._part.heir) is not None:
            left.append(leader)
            leader = heir
        for one in left:  # the way is short the next time
            one._part.heir = leader
        return leader

    async def _admitted(self, request: Request) -> Completion:
        if self.gate is None:
            return await self._complete(request)
        tokens = estimated_tokens(request.messages) + request.limits.max_tokens
        async with self.gate.admit(rank=request.priority, tokens=tokens) as admission:
            try:
                completion = await self._complete(request)
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

    async def _complete(self, request: Request) -> Completion:
        leader = self._leader
        leader.admit()
        leader._part.made = self._part.is_let_in = True
        for one in self._part.joined:
            if one is not leader:
                one.waits()

        def show(progress: Progress) -> None:
            if (watch := self._leader.watch) is not None:
                watch(progress)

        completion = await self.engine.complete(request, show if self.watch else None)
        usage = completion.usage
        if usage == Usage():
            usage = _estimated(request, completion.text)
        return replace(completion, engine=self.engine.name, usage=usage)


def _estimated(request: Request, text: str) -> Usage:
    """What a call has used of which the engine tells nothing, so that it counts in budgets, too."""
    prompt = max(1, estimated_tokens(request.messages))
    written = max(1, estimated_text_tokens(text)) if text else 0
    return Usage(prompt_tokens=prompt, completion_tokens=written)


def _sameness(request: Request) -> Request:
    """The request without what its answer cannot depend on."""
    return replace(_without_deadline(request), priority=0.0)


def _without_deadline(request: Request) -> Request:
    return replace(request, limits=replace(request.limits, deadline_s=None))


__all__ = ["Answered", "Asking", "PassedOver"]
