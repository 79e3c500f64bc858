"""Answering an LLM step: choose an engine, ask it, judge the answer, and go on until one is accepted.

The decisions are made by `router` and `verdict`, which are pure; here they are carried out, each told as an
event with its reason. What comes back holds to the call's contract, or `AnswerError` says why nothing did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from carrara.engines.engine import Engine
from carrara.engines.errors import EngineBusy, EngineError, EngineFailed, EngineRefused
from carrara.engines.request import Completion, Progress, Request, Usage, Watch
from carrara.runtime.cassette import asking_step
from carrara.runtime.events import (
    MOST_EDITS_TOLD,
    DraftShown,
    EngineAnswered,
    EngineCalled,
    Escalated,
    Rejected,
    Repaired,
    Routed,
    StepEvent,
)
from carrara.runtime.routing.asking import Answered, Asking, PassedOver
from carrara.runtime.routing.call import (
    LlmCall,
    facts_of,
    refusal_of,
    request_of,
    with_draft,
    with_faults,
)
from carrara.runtime.routing.desk import router_of
from carrara.runtime.routing.evidence import step_of
from carrara.runtime.routing.failure import AnswerError, AnswerTimeout, Attempt
from carrara.runtime.routing.router import (
    Cause,
    EngineFacts,
    Move,
    Rejection,
    is_last,
    next_after,
    objection_to,
    route,
)
from carrara.runtime.routing.verdict import Verdict, judge


class AnswerContext(Protocol):
    """The part of the runtime's StepContext that answering needs."""

    @property
    def path(self) -> str: ...

    @property
    def rank(self) -> float: ...

    @property
    def listening(self) -> bool: ...

    @property
    def resources(self) -> Mapping[str, Any]: ...

    def tell(self, kind: type[StepEvent], /, **fields: Any) -> None: ...


async def answer(call: LlmCall, ctx: AnswerContext) -> Any:
    """The value of an LLM step: `call.validate` of a value that holds to `call.output`.

    Engines are taken from `ctx.resources["engines"]`; see `desk` and `asking` for the optional resources.

    Raises:
        AnswerError: no answer was acceptable; it holds every raw text. AnswerTimeout: `limits.deadline_s`
            passed before.
        EngineRefused: no engine can ever answer this call.
        EngineBusy, EngineFailed: so the last engine said; trying the step again may help.
    """
    dialogue = _Dialogue(call, ctx)
    before = asking_step.set(ctx.path)
    limit = asyncio.timeout(call.limits.deadline_s)
    try:
        async with limit:
            return await dialogue.lead()
    except TimeoutError as error:
        if not limit.expired():
            raise
        deadline_s = call.limits.deadline_s or 0.0
        raise AnswerTimeout(ctx.path, call.output.kind, dialogue.attempts, deadline_s) from error
    finally:
        asking_step.reset(before)


class _Dialogue:
    """One call on its way from engine to engine."""

    def __init__(self, call: LlmCall, ctx: AnswerContext) -> None:
        router = router_of(ctx.resources)
        self.call = call
        self.ctx = ctx
        self.policy = router.policy
        self.scouts = router.scouts
        self.evidence = router.evidence
        self.engines: Mapping[str, Engine] = ctx.resources.get("engines") or {}
        self.facts = facts_of(call, ctx.path)
        self.route = route(self.facts, self._engine_facts(), self.policy, self.evidence)
        self.history: list[Move] = []
        self.attempts: tuple[Attempt, ...] = ()
        self.last = Verdict("")
        self.error: EngineError | None = None
        self.started = asyncio.get_running_loop().time()

    async def lead(self) -> Any:
        for name in self.route.passed_over:
            self.evidence.pass_over(self.ctx.path, name)
        self.ctx.tell(Routed, engine=self.route.engine, reason=self.route.reason)
        move: Move | None = Move(self.route.engine, self.route.reason)
        while move is not None:
            verdict, move = await self._ask_engine(move)
            if verdict.rejection is None:
                return verdict.value
        raise self._failure()

    async def _ask_engine(self, move: Move) -> tuple[Verdict, Move | None]:
        """All moves at one engine: the last verdict, and the move to another engine if there is one."""
        engine = move.engine
        key = (step_of(self.ctx.path), engine)
        scouting = not is_last(engine, self.route)
        if scouting:
            await self.scouts.go(key, self.policy.scouts, lambda: self._is_known(engine))
        try:
            while True:
                self.history.append(move)
                verdict = await self._make(move)
                following = self._after(verdict.rejection) if verdict.rejection else None
                if following is None or following.engine != move.engine:
                    return verdict, following
                move = following
        finally:
            if scouting:
                self.scouts.back(key)

    def _is_known(self, engine: str) -> bool:
        return self.evidence.is_known(self.ctx.path, engine, self.policy.give_up_after)

    async def _make(self, move: Move) -> Verdict:
        """Ask as the move says and judge what comes."""
        try:
            answered = await self._asking(move).answer()
        except PassedOver as objection:
            return Verdict("", rejection=Rejection(move.engine, "passed over", str(objection)))
        except EngineError as error:
            return self._engine_gave_up(move, error)
        self._tell_answered(move, answered)
        return self._judged(move, answered.completion)

    def _judged(self, move: Move, completion: Completion) -> Verdict:
        last = is_last(move.engine, self.route)
        accept = None if last else self.policy.accepts(self.call.output.kind)
        verdict = judge(self.call, completion, accept)
        if verdict.report is not None and verdict.report.changed:
            report = verdict.report
            self.ctx.tell(
                Repaired,
                kind=report.kind,
                edits=len(report.edits),
                certainty=report.certainty,
                made=report.told(MOST_EDITS_TOLD),
            )
        sure = completion.confidence.overall
        if verdict.rejection is None:
            self.evidence.note(self.ctx.path, move.engine, True, sure)
            if self.call.take is not None:
                self.call.take(completion)
        else:
            self._reject(move, verdict.rejection, completion.text, sure)
            self.last = verdict
        return verdict

    def _reject(self, move: Move, rejection: Rejection, text: str, sure: float | None) -> None:
        attempt = Attempt(move.engine, move.how, text, rejection.reason, sure)
        self.attempts = (*self.attempts, attempt)
        self.ctx.tell(Rejected, engine=move.engine, reason=rejection.reason, confidence=sure)

    def _engine_gave_up(self, move: Move, error: EngineError) -> Verdict:
        cause: Cause = "failed"
        if isinstance(error, EngineRefused):
            cause = "refused"
        elif isinstance(error, EngineBusy):
            if is_last(move.engine, self.route):
                raise error
            cause = "busy"
        rejection = Rejection(move.engine, cause, str(error))
        self.error = error
        self._reject(move, rejection, "", None)
        return Verdict("", rejection=rejection)

    def _after(self, rejection: Rejection) -> Move | None:
        move = next_after(rejection, self.history, self.facts, self.route, self.policy)
        if move is not None and move.engine == rejection.engine:
            return move
        if rejection.cause in ("form", "cut", "content", "confidence"):
            self.evidence.note(self.ctx.path, rejection.engine, False, self.attempts[-1].confidence)
        if move is not None:
            self.ctx.tell(
                Escalated, origin=rejection.engine, target=move.engine, reason=rejection.reason
            )
        return move

    def _failure(self) -> Exception:
        """What to raise: the engines' own error when no engine answered at all."""
        if self.error is None or any(attempt.text for attempt in self.attempts):
            return AnswerError(self.ctx.path, self.call.output.kind, self.attempts)
        if len(self.attempts) == 1:
            return self.error
        told = "; ".join(f"{a.engine}: {a.reason}" for a in self.attempts)
        kind = EngineRefused if isinstance(self.error, EngineRefused) else EngineFailed
        error = kind(
            f"step {self.ctx.path!r}: no engine answered. {told}", engine=self.error.engine
        )
        error.__cause__ = self.error
        return error

    def _asking(self, move: Move) -> Asking:
        resources = self.ctx.resources
        request = self._request(move)
        left_s = request.limits.deadline_s
        return Asking(
            self.engines[move.engine],
            request,
            lambda: self._admit(move),
            self._is_firm(move),
            self.policy.max_wait_s if left_s is None else min(left_s, self.policy.max_wait_s),
            resources.get("gates", {}).get(move.engine),
            resources.get("single_flight"),
            self._watch(move.engine),
        )

    def _is_firm(self, move: Move) -> bool:
        """Whether the engine is asked whatever the evidence says by then."""
        return move.how != "ask" or is_last(move.engine, self.route)

    def _admit(self, move: Move) -> None:
        """Called when it is the call's turn: the evidence may have changed while it waited."""
        if not self._is_firm(move):
            self._check_objection(move.engine)
            self.evidence.probe(self.ctx.path, move.engine)
        self.ctx.tell(EngineCalled, engine=move.engine, reason=move.reason)

    def _check_objection(self, engine: str) -> None:
        objection = objection_to(engine, self.facts, self.policy, self.evidence)
        if objection is not None:
            self.evidence.pass_over(self.ctx.path, engine)
            raise PassedOver(objection)

    def _request(self, move: Move) -> Request:
        request = request_of(self.call, self.ctx.rank, self.engines[move.engine].can)
        if request.limits.deadline_s is not None:
            spent = asyncio.get_running_loop().time() - self.started
            left = max(0.0, request.limits.deadline_s - spent)
            request = replace(request, limits=replace(request.limits, deadline_s=left))
        match move.how:
            case "renoise":
                return with_draft(request, self.last.text, move.fields)
            case "again":
                return with_faults(request, self.last.text, self.last.faults)
            case _:
                return request

    def _watch(self, engine: str) -> Watch | None:
        wanted = self.ctx.listening and self.ctx.resources.get("drafts")
        if not wanted or "stream" not in self.engines[engine].can:
            return None

        def show(progress: Progress) -> None:
            self.ctx.tell(DraftShown, progress=progress)

        return show

    def _tell_answered(self, move: Move, answered: Answered) -> None:
        """Tell of the answer; one that came from another step's call cost nothing more."""
        completion = answered.completion
        if answered.joined:
            reason = f"{move.reason}; joined an equal request under way"
            self.ctx.tell(EngineCalled, engine=move.engine, reason=reason)
        self.ctx.tell(
            EngineAnswered,
            engine=completion.engine,
            usage=Usage() if answered.joined else completion.usage,
            timings=completion.timings,
            confidence=completion.confidence.overall,
            fields=completion.confidence.fields,
            stop=completion.stop,
        )

    def _engine_facts(self) -> dict[str, EngineFacts]:
        return {
            name: EngineFacts(
                name, engine.can, engine.context_tokens, refusal_of(self.call, engine)
            )
            for name, engine in self.engines.items()
        }


__all__ = ["AnswerContext", "AnswerError", "AnswerTimeout", "Attempt", "LlmCall", "answer"]
