"""The calls of one step: a request to an engine each, on the books of the session, told as events, and seen by the
evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from carrara.engines.engine import Engine
from carrara.engines.errors import EngineError
from carrara.engines.facts import REMOTE
from carrara.engines.request import Progress, Request, Usage, Watch
from carrara.runtime.events import (
    CalledOff,
    DraftShown,
    EngineAnswered,
    EngineCalled,
    PutOff,
    Rejected,
    StepEvent,
)
from carrara.runtime.routing.asking import Answered, Asking, PassedOver
from carrara.runtime.routing.bill import Bill
from carrara.runtime.routing.budget import Spending
from carrara.runtime.routing.call import answer_tokens
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.estimate import estimated_tokens
from carrara.runtime.routing.lap import here
from carrara.runtime.routing.outage import answer_in_the_end
from carrara.runtime.routing.patience import NONE, Patience
from carrara.runtime.routing.witness import Witness


class AnswerContext(Protocol):
    """The part of the runtime's StepContext that answering needs."""

    @property
    def path(self) -> str: ...

    @property
    def node(self) -> int: ...

    @property
    def rank(self) -> float: ...

    @property
    def listening(self) -> bool: ...

    @property
    def resources(self) -> Mapping[str, Any]: ...

    def tell(self, kind: type[StepEvent], /, **fields: Any) -> None: ...


@dataclass(slots=True, eq=False)
class Calls:
    """`objection` says why evidence speaks against asking an engine now. `waited_out` are the errors of engines that
    were waited for; they are told."""

    ctx: AnswerContext
    router: Router
    engines: Mapping[str, Engine]
    told: Witness
    objection: Callable[[str], str | None]
    waited_out: list[EngineError] = field(default_factory=list)

    async def ask(
        self,
        engine: str,
        request: Request,
        reason: str,
        firm: bool,
        doubled: str = "",
        patience: Patience = NONE,
    ) -> Answered:
        """One request to one engine; to the one that is `doubled` it joins none that is equal but other steps' second
        ones. While `patience` lasts, an engine that keeps failing is waited for.

        Raises:
            PassedOver: meanwhile evidence speaks against asking, and nothing insists on it.
            EngineError: the engine gave no answer.
        """
        bill = self._bill(engine, request, patience)
        asking = self._asking(engine, request, reason, firm, doubled, bill)

        def rejected(error: EngineError) -> None:
            self.waited_out.append(error)
            self.ctx.tell(Rejected, engine=engine, reason=str(error), confidence=None)

        def broke_off(spent: Spending) -> None:
            _heard(bill, Usage())
            self._tell_used(engine, spent, broke=True)

        def put_off(busy: EngineError, wait_s: float) -> None:
            self.ctx.tell(PutOff, engine=engine, reason=str(busy), wait_s=wait_s)

        left_s, most_s = request.limits.deadline_s, self.router.policy.max_wait_s
        most_s = most_s if left_s is None else min(left_s, most_s)
        try:
            answered, asked_at = await answer_in_the_end(
                asking, bill, self.router.breakers, most_s, rejected, broke_off, put_off
            )
        except EngineError as error:
            broke_off(bill.failed(error, self.told.now()))
            raise
        except BaseException:
            self._tell_used(engine, bill.cancelled(), broke=False)
            raise
        finally:
            if (lap := here.get()) is not None:
                lap.leaves(bill)
        self._book(bill, answered, asked_at, reason)
        return answered

    def _bill(self, engine: str, request: Request, patience: Patience) -> Bill:
        prompt_tokens = estimated_tokens(request.messages)
        can = self.engines[engine].can
        most_tokens = answer_tokens(request.output, request.limits.max_tokens, can)
        hurried = bool(self.ctx.resources.get("hurried"))
        return Bill(self.router, engine, prompt_tokens, most_tokens, patience, hurried)

    def _asking(
        self, engine: str, request: Request, reason: str, firm: bool, doubled: str, bill: Bill
    ) -> Asking:
        resources = self.ctx.resources
        lap = here.get()  # an equal request of another step may be at its engine for this one

        def waits(prompt_tokens: int) -> None:
            if lap is not None:
                lap.asks(bill, engine, self.told.now(), prompt_tokens)

        def admit() -> None:
            self._admit(engine, firm, bill)
            waits(bill.prompt_tokens)
            self.ctx.tell(EngineCalled, engine=engine, reason=reason)

        def joined() -> None:
            waits(0)
            told = f"{reason}; joined an equal request under way"
            self.ctx.tell(EngineCalled, engine=engine, reason=told)

        return Asking(
            self.engines[engine],
            request,
            admit,
            firm,
            resources.get("gates", {}).get(engine),
            resources.get("single_flight"),
            self._watch(engine, bill),
            bill,
            resources.get("remembered"),
            self.ctx.node,
            engine == doubled,
            joined,
        )

    def _admit(self, engine: str, firm: bool, bill: Bill) -> None:
        """Called when it is the call's turn: the evidence may have changed while it waited."""
        if not firm:
            objection = self.objection(engine)
            if objection is not None:
                self.told.passed_over(engine)
                raise PassedOver(objection)
        objection = bill.admit(self.told.now())
        if objection is not None:
            raise PassedOver(objection)
        if not firm:
            self.told.asked(engine)

    def _watch(self, engine: str, bill: Bill) -> Watch | None:
        shown = self.ctx.listening and self.ctx.resources.get("drafts")
        lap = here.get()
        # A server streams for who watches; an engine of this machine shows its passes at little cost.
        hedge, is_near = self.router.policy.hedge, self.engines[engine].facts.device != REMOTE
        looked_at = hedge is not None and (hedge.passes is not None or is_near)
        if lap is not None and (lap.engine != engine or not looked_at):
            lap = None
        if not (shown or lap) or "stream" not in self.engines[engine].can:
            return None

        def show(progress: Progress) -> None:
            if lap is not None:
                lap.sees(bill, progress)
            if shown:
                self.ctx.tell(DraftShown, progress=progress)

        return show

    def _book(self, bill: Bill, answered: Answered, asked_at: float, reason: str) -> None:
        """Settle an answer, and tell of it and of the usage that is on the books of this step."""
        completion = answered.completion
        usage = completion.usage if bill.is_asked else Usage()
        if answered.remembered:  # the engine was not asked: it has shown nothing
            cost = 0.0
        else:
            cost = bill.settle(usage)
            self.told.took(bill.engine, self.told.now() - asked_at)
        _heard(bill, usage)
        if answered.remembered:
            told = f"{reason}; joined an equal request answered before in this run"
            self.ctx.tell(EngineCalled, engine=completion.engine, reason=told)
        self.ctx.tell(
            EngineAnswered,
            engine=completion.engine,
            usage=usage,
            timings=completion.timings,
            confidence=completion.confidence.overall,
            fields=completion.confidence.fields,
            stop=completion.stop,
            cost=cost,
            unpriced=self.router.purse.misses(completion.engine),
        )

    def _tell_used(self, engine: str, spent: Spending, broke: bool) -> None:
        """Tell what a call without an answer has cost, if anything."""
        if spent.tokens:
            costs = {"tokens": spent.tokens, "cost": spent.cost}
            self.ctx.tell(CalledOff, engine=engine, broke=broke, **costs)


def _heard(bill: Bill, usage: Usage) -> None:
    if (lap := here.get()) is not None:
        lap.hears(bill, usage)


__all__ = ["AnswerContext", "Calls"]
