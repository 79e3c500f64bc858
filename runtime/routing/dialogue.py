"""One call on its way from engine to engine: the moves that `router` decides, made and told one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

from carrara.engines.engine import Engine
from carrara.engines.errors import (
    ContractError,
    EngineBusy,
    EngineDown,
    EngineError,
    EngineFailed,
    EngineRefused,
    EngineTimeout,
)
from carrara.engines.request import Completion, Confidence, Request
from carrara.runtime.events import (
    MOST_EDITS_TOLD,
    Accepted,
    Escalated,
    Rejected,
    Repaired,
    Routed,
    RouteRefused,
    StepEvent,
    ValueShown,
)
from carrara.runtime.limits import EngineGate
from carrara.runtime.repair.fields import rules_by_field
from carrara.runtime.routing.accept import Accept
from carrara.runtime.routing.asking import PassedOver
from carrara.runtime.routing.bill import is_server_fault
from carrara.runtime.routing.budget import OverBudget
from carrara.runtime.routing.call import (
    LlmCall,
    answer_tokens,
    facts_of,
    for_part,
    refusal_of,
    request_of,
    with_draft,
    with_faults,
    with_room,
)
from carrara.runtime.routing.calls import AnswerContext, Calls
from carrara.runtime.routing.desk import router_of
from carrara.runtime.routing.evidence import step_of
from carrara.runtime.routing.facts import Candidate
from carrara.runtime.routing.failure import AnswerError, Attempt, no_answer
from carrara.runtime.routing.fallback import Doubtful, Fallback
from carrara.runtime.routing.hedging import Race
from carrara.runtime.routing.line import Line, Turn
from carrara.runtime.routing.mixed import Part, part_of, text_of
from carrara.runtime.routing.patience import Patience
from carrara.runtime.routing.router import (
    JUDGED,
    UNASKED,
    Barred,
    Cause,
    Move,
    Rejection,
    Route,
    company,
    is_last,
    next_after,
    objection_to,
    prolonged,
    route,
)
from carrara.runtime.routing.second_opinions import SecondOpinions
from carrara.runtime.routing.verdict import Verdict, doubt_of, judge
from carrara.runtime.routing.witness import Witness

Known = TypeVar("Known")


class Dialogue:
    """A call, and what was asked and answered for it so far."""

    def __init__(self, call: LlmCall, ctx: AnswerContext) -> None:
        self.router = router_of(ctx.resources)
        self.call = call
        self.ctx = ctx
        self.policy = self.router.policy
        self.evidence = self.router.evidence
        self.engines: Mapping[str, Engine] = ctx.resources.get("engines") or {}
        self.router.purse.learn(self.engines)
        self.facts = facts_of(call, ctx.path, self.policy)
        try:
            self.route = self._route()
        except EngineRefused as error:
            ctx.tell(RouteRefused, reason=str(error))
            raise
        self.attempts: tuple[Attempt, ...] = ()
        self.errors: list[EngineError] = []
        """Why engines gave no answer, in order."""
        self.fallback = Fallback([one.name for one in self.route.candidates])
        self.told = Witness(self.evidence, ctx.path, self._now)
        self.calls = Calls(ctx, self.router, self.engines, self.told, self._objection)
        self.started = self._now()
        self.made = 0
        """Moves so far, of all lines of a race."""
        self.asked: list[str] = []
        """The engines that are asked now."""

    async def lead(self) -> Any:
        """Ask until an answer is accepted; its value. Where no engine is left that answers, that of a valid answer that
        was not sure enough.

        Raises:
            AnswerError, EngineError: none was.
        """
        self.told.routed(self.route.engine, self.route.passed_over)
        self.ctx.tell(Routed, engine=self.route.engine, reason=self.route.reason)
        move: Move | None = Move(self.route.engine, self.route.reason)
        line = Line()
        while move is not None:
            try:
                turn = await self._turn(move, line)
            except EngineBusy as busy:
                if self.fallback.taken() is None:
                    raise
                self._last_is_busy(busy)
                break
            verdict, line = turn.verdict, turn.line
            if verdict.rejection is None:
                self.told.ends(line.stay)
                self._tell_accepted(verdict, line.origins, verdict.doubt)
                return verdict.value
            move = None
            if self.may_go_on:
                move = turn.following or self._for_want_of_money(verdict.rejection, line)
            self.goes_on(turn._replace(following=move))
        if (found := self.fallback.taken()) is None:
            raise self._failure()
        return self._in_doubt(*found)

    def goes_on(self, turn: Turn) -> None:
        """No answer of the turn is taken: tell of the engine that is asked next."""
        rejection = turn.verdict.rejection
        assert rejection is not None
        self.told.goes_on(turn.line.stay, rejection)
        if (following := turn.following) is not None:
            self.ctx.tell(
                Escalated,
                origin=rejection.engine,
                target=following.engine,
                reason=rejection.reason,
            )

    def _for_want_of_money(self, rejection: Rejection, line: Line) -> Move | None:
        """Where the last engine turned out too dear and nothing can be taken: the first of those that were left out in
        its favour, and are not too dear."""
        if rejection.cause != "too dear" or self.fallback.taken() is not None:
            return None
        try:
            again = self._route()
        except OverBudget:
            return None
        found = prolonged(self.route, again, {move.engine for move in line.history})
        if found is None:
            return None
        self.route = found
        names = [one.name for one in found.candidates]
        self.fallback = Fallback(names)
        following = names[names.index(rejection.engine) + 1 :]
        return Move(following[0], f"{rejection.engine}: {rejection.reason}") if following else None

    def _in_doubt(self, found: Doubtful, doubt: str) -> Any:
        """Take a valid answer that was rejected in doubt; its value."""
        if self.call.take is not None:
            self.call.take(found.answer)
        self._tell_accepted(found.verdict, found.origins, doubt)
        return found.verdict.value

    def _last_is_busy(self, busy: EngineBusy) -> None:
        engine = self.route.candidates[-1].name
        keep = self._keep if busy in self.calls.waited_out else self._reject
        keep(Move(engine, ""), Rejection(engine, "busy", str(busy)), "", None)

    async def ask_engine(self, move: Move, line: Line) -> Turn:
        """All moves at one engine: the last verdict, and the move to another engine if there is one."""
        engine = move.engine
        key = (step_of(self.ctx.path), engine)
        scouts = self.router.scouts
        scouting = not is_last(engine, self.route)
        if scouting:
            await scouts.go(key, self.policy.scouts, lambda: self._is_known(engine))
        self.asked.append(engine)
        try:
            return await self._stay(move, line)
        finally:
            self.asked.remove(engine)
            if scouting:
                scouts.back(key)

    async def _stay(self, move: Move, line: Line) -> Turn:
        line.stay = stay = self.told.stay(move.engine, move.how)
        while True:
            line.history.append(move)
            stay.moves()
            verdict = await self._make(move, line)
            if verdict.rejection is not None and verdict.rejection.cause in UNASKED:
                line.history.pop()  # no call was made
                self.made -= 1
            stay.moved(move.how, verdict)
            following = self._after(verdict.rejection, line) if verdict.rejection else None
            if following is None or following.engine != move.engine:
                stay.ends(verdict)
                return Turn(verdict, following, line)
            move = following
            self.begins()

    async def _turn(self, move: Move, line: Line) -> Turn:
        """A move and what follows it at its engine, in a race with others where the policy hedges."""
        hedge = self.policy.hedge
        if hedge is None or self.company(move, line) is None:
            self.begins()
            return await self.ask_engine(move, line)
        return await Race(hedge, self).run(move, line)

    def tell(self, kind: type[StepEvent], /, **fields: Any) -> None:
        self.ctx.tell(kind, **fields)

    def begins(self) -> None:
        """A move begins. It counts from here, also while it waits for its turn."""
        self.made += 1

    @property
    def may_go_on(self) -> bool:
        """Whether there is an attempt left."""
        return self.made < self.policy.max_attempts

    @property
    def second_best(self) -> str:
        """The engine whose doubtful answer is taken where no move is left, "" where none is."""
        found = self.fallback.taken()
        return "" if found is None else found[0].rejection.engine

    def gate(self, engine: str) -> EngineGate | None:
        """The way into an engine."""
        found: EngineGate | None = self.ctx.resources.get("gates", {}).get(engine)
        return found

    def company(self, move: Move, line: Line) -> str | None:
        """The engine that may be asked beside a move that is late."""
        if not self.may_go_on:
            return None
        is_doubled = line.doubled == move.engine
        return company(move, self.route, self._is_quicker(move.engine), is_doubled)

    def _is_known(self, engine: str) -> bool:
        return (
            self.evidence.is_known(self.ctx.path, engine, self.policy.give_up_after)
            or self._objection(engine) is not None
            or self._breaks(engine) is not None
        )

    def _breaks(self, engine: str) -> str | None:
        """Why the engine is left alone now, because it keeps failing."""
        return self.router.breakers.objection(engine, self._now(), self.policy.break_s)

    def _objection(self, engine: str) -> str | None:
        """Why evidence speaks against asking the engine now; never against the last one."""
        for one, following in pairwise(self.route.candidates):
            if one.name == engine:
                return objection_to(one, following, self.facts, self.policy, self.evidence)
        return None

    async def _make(self, move: Move, line: Line) -> Verdict:
        """Ask as the move says and judge what comes."""
        part = self._part(move, line)
        request, reason = self._request(move, part, line), move.reason
        if part is not None:
            reason = f"only {part.told}: {reason}"
        try:
            firm = self._is_firm(move)
            patience = self._patience(move.engine)
            answered = await self.calls.ask(
                move.engine, request, reason, firm, line.doubled, patience
            )
            completion = answered.completion
            line.stay.answered(answered.remembered)
            if part is not None:
                return await self._part_judged(move, part, completion, line)
            line.origins = self._still_kept(move, line)
            return await self._judged(move, request, completion, line)
        except PassedOver as objection:
            rejection = Rejection(move.engine, "passed over", str(objection))
            self.fallback.note(rejection)
            return Verdict("", rejection=rejection)
        except EngineError as error:
            return self._engine_gave_up(move, error)

    def _part(self, move: Move, line: Line) -> Part | None:
        """The contract of the fields that a move asks for, None if it asks for the whole answer."""
        if move.how != "fields" or line.draft is None:
            return None
        try:
            value = self.call.output.parse(line.draft[1])
        except ContractError:
            return None
        return part_of(self.call.output, move.fields, value)

    async def _part_judged(
        self, move: Move, part: Part, completion: Completion, line: Line
    ) -> Verdict:
        """The verdict on the last answer with the newly asked fields in it."""
        assert line.draft is not None
        found = judge(for_part(self.call, part.output), completion, None)
        if found.rejection is not None:
            return self._settled(move, completion, found, line)
        drafted, _ = line.draft
        merged = part.merged(found.value)
        kept = _outside(drafted.confidence.fields, part.pointers)
        fields = {**kept, **completion.confidence.fields}
        sure = Confidence(completion.confidence.overall, fields)
        if drafted.engine != completion.engine:
            line.origins = {path: line.origins.get(path, drafted.engine) for path in kept}
        whole = replace(completion, text=text_of(merged), value=merged, confidence=sure)
        return await self._judged(move, None, whole, line)

    async def _judged(
        self, move: Move, request: Request | None, completion: Completion, line: Line
    ) -> Verdict:
        kind, path = self.call.output.kind, self.ctx.path
        last = is_last(move.engine, self.route)
        accept = self.policy.accepts(kind, path, move.engine)
        call = self.call if request is None else replace(self.call, limits=request.limits)
        kept = {
            field: self.policy.accepts(kind, path, origin) for field, origin in line.origins.items()
        }
        verdict = judge(call, completion, None if last else accept, kept)
        if last and verdict.rejection is None:
            verdict = replace(verdict, doubt=self._lasting_doubt(completion, accept, kept))
        elif verdict.rejection is None:
            ask = partial(self.calls.ask, doubled=line.doubled)
            opinions = SecondOpinions(self.call, accept, self.engines, ask)
            opinion = await opinions.on(move.engine, request, verdict)
            faults = () if opinion.doubt is None else (opinion.doubt.reason,)
            verdict = replace(
                verdict, rejection=opinion.doubt, faults=faults, unjudged=opinion.unjudged
            )
        return self._settled(move, completion, verdict, line)

    def _lasting_doubt(
        self, completion: Completion, accept: Accept, kept: Mapping[str, Accept]
    ) -> str:
        """Why the last engine's answer would have been given to those behind it, could they be asked now."""
        if not self.route.missing:
            return ""
        found = doubt_of(self.call, completion, accept, kept)
        return "" if found is None else f"{found.reason}; {self.route.missing}"

    def _settled(self, move: Move, completion: Completion, verdict: Verdict, line: Line) -> Verdict:
        """Tell of a verdict and remember it."""
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
        known = self._with_kept(move, completion, line)
        # Of some fields only the verdict has the whole answer; else what is pinned stays as it came.
        whole = replace(completion, text=verdict.text) if move.how == "fields" else completion
        if verdict.rejection is None:
            line.stay.judged(True, sure)
            if self.call.take is not None:
                self.call.take(whole)
        else:
            self._reject(move, verdict.rejection, completion.text, sure)
            line.last[move.engine] = verdict
            if move.how != "fields":
                line.draft = (known, verdict.text)
        settled = replace(verdict, completion=known)
        if verdict.rejection is not None:
            self.fallback.offer(Doubtful(settled, verdict.rejection, whole, dict(line.origins)))
        return settled

    def _still_kept(self, move: Move, line: Line) -> dict[str, str]:
        """The fields of another engine that are in an answer to a move for all of it."""
        return _outside(line.origins, move.fields) if move.how == "renoise" else {}

    def _with_kept(self, move: Move, completion: Completion, line: Line) -> Completion:
        """The completion with the confidences of the fields that stayed as they were in the draft."""
        if move.how != "renoise" or line.draft is None:
            return completion
        sure = completion.confidence
        fields = {**line.draft[0].confidence.fields, **sure.fields}
        return replace(completion, confidence=replace(sure, fields=fields))

    def _keep(self, move: Move, rejection: Rejection, text: str, sure: float | None) -> None:
        attempt = Attempt(move.engine, move.how, text, rejection.reason, sure)
        self.attempts = (*self.attempts, attempt)
        self.fallback.note(rejection)

    def _reject(self, move: Move, rejection: Rejection, text: str, sure: float | None) -> None:
        self._keep(move, rejection, text, sure)
        self.ctx.tell(Rejected, engine=move.engine, reason=rejection.reason, confidence=sure)

    def _engine_gave_up(self, move: Move, error: EngineError) -> Verdict:
        cause: Cause = "failed"
        if isinstance(error, OverBudget):
            cause = "too dear"
        elif isinstance(error, EngineRefused):
            cause = "refused"
        elif isinstance(error, EngineBusy):
            if is_last(move.engine, self.route):
                raise error
            cause = "busy"
        # One that cannot be reached is not asked again at once, the next engine is; a patient call has tried it again.
        failed = error if isinstance(error, EngineFailed) else None
        broke_off = failed is not None and bool(failed.phase) and not failed.is_unreachable
        waited_out = error in self.calls.waited_out
        if waited_out or (is_server_fault(error) and self._is_patient(move.engine)):
            broke_off = False
        rejection = Rejection(move.engine, cause, str(error), passing=broke_off)
        self.errors.append(error)
        # Of these no call was made, or none that is not told.
        if waited_out or isinstance(error, EngineDown | OverBudget):
            self._keep(move, rejection, "", None)
        else:
            self._reject(move, rejection, "", None)
        return Verdict("", rejection=rejection)

    def _after(self, rejection: Rejection, line: Line) -> Move | None:
        against = self._against_renoising(rejection.engine)
        pays = self._once_more_pays(rejection)
        beside = self.made - len(line.history)
        move = next_after(
            rejection, line.history, self.facts, self.route, self.policy, against, pays, beside
        )
        if move is not None and move.spared:
            self.told.kept_from_renoising(rejection.engine)
        if move is not None and move.engine == rejection.engine:
            return move
        if rejection.cause in JUDGED:
            line.stay.judged(False, self.attempts[-1].confidence)
        return move

    def _against_renoising(self, engine: str) -> str | None:
        """Why its doubtful fields had better be left to the next engine, by what came of it at this step so far."""
        if self.policy.choose != "time" or is_last(engine, self.route):
            return None
        names = [one.name for one in self.route.candidates]
        following = names[names.index(engine) + 1]
        every = self.policy.probe_every
        return self.evidence.renoising_loss(self.ctx.path, engine, following, every)

    def _once_more_pays(self, rejection: Rejection) -> bool:
        """Whether a call that broke off is made once more before the next engine is asked; not after a time-out, which
        took longer than an answer does."""
        if not rejection.passing:
            return False
        self.told.broke(rejection.engine)
        return not isinstance(self.errors[-1], EngineTimeout) and self._is_quicker(rejection.engine)

    def _is_quicker(self, engine: str) -> bool:
        """Whether a second call of the engine is expected to end earlier than one of the next."""
        if is_last(engine, self.route):
            return False
        names = [one.name for one in self.route.candidates]
        following = names[names.index(engine) + 1]
        return self.evidence.once_more_pays(self.ctx.path, engine, following)

    def _failure(self) -> Exception:
        """What to raise: the engines' own error when no engine answered at all."""
        given = any(attempt.text for attempt in self.attempts)
        if given or not self.errors:
            failure = AnswerError(self.ctx.path, self.call.output.kind, self.attempts)
            last = self.errors[-1] if self.errors else None
            failure.__cause__ = last if isinstance(last, EngineDown) else None
            return failure
        return no_answer(self.ctx.path, self.attempts, self.errors)

    def _is_patient(self, engine: str) -> bool:
        """Whether nothing can be had without this engine."""
        return is_last(engine, self.route) and self.fallback.taken() is None

    def _patience(self, engine: str) -> Patience:
        def is_alone() -> bool:
            return all(other == engine for other in self.asked)

        return Patience(lambda: self._is_patient(engine), is_alone, self.fallback.offered)

    def _is_firm(self, move: Move) -> bool:
        """Whether the engine is asked whatever the evidence says by then."""
        return move.how != "ask" or is_last(move.engine, self.route)

    def _request(self, move: Move, part: Part | None, line: Line) -> Request:
        call = self.call if part is None else for_part(self.call, part.output)
        request = request_of(call, self.ctx.rank, self.engines[move.engine].can)
        if request.limits.deadline_s is not None:
            left = max(0.0, request.limits.deadline_s - (self._now() - self.started))
            request = replace(request, limits=replace(request.limits, deadline_s=left))
        last = line.last.get(move.engine, Verdict(""))
        match move.how:
            case "renoise":
                return with_draft(request, last.text, move.fields)
            case "again":
                return with_faults(request, last.text, last.faults)
            case "longer":
                return with_room(request, self._room(move.engine, line))
            case _:
                return request

    def _room(self, engine: str, line: Line) -> int:
        """Tokens that the engine's context has left beside the prompt, as it counted it when it was asked last."""
        prompt = self.facts.prompt_tokens
        if line.draft is not None:
            prompt = line.draft[0].usage.prompt_tokens or prompt
        return self.engines[engine].context_tokens - prompt

    def _tell_accepted(self, verdict: Verdict, origins: Mapping[str, str], doubt: str = "") -> None:
        """Tell which answer became the step's value, and the value itself."""
        completion, report = verdict.completion, verdict.report
        assert completion is not None
        sure = completion.confidence
        self.ctx.tell(
            Accepted,
            engine=completion.engine,
            confidence=sure.overall,
            fields=sure.fields,
            engines={path: name for path, name in origins.items() if path in sure.fields},
            repairs={} if report is None else rules_by_field(report),
            doubt=doubt,
            unjudged=verdict.unjudged,
        )
        self.ctx.tell(ValueShown, value=verdict.value, call=self.call)

    def _route(self) -> Route:
        engines = {
            name: Candidate.of(name, engine, self.call.output, refusal_of(self.call, engine))
            for name, engine in self.engines.items()
        }
        return route(self.facts, engines, self.policy, self.evidence, self._barred())

    def _barred(self) -> Barred:
        router = self.router
        budget, broken = {}, {}
        for name in self.engines:
            can = self.engines[name].can
            most_tokens = answer_tokens(self.call.output, self.facts.max_tokens, can)
            expected = router.purse.expected(name, self.facts.prompt_tokens, most_tokens)
            reason = router.purse.objection(name, expected, beside_others=False)
            if reason is not None:
                budget[name] = reason
            if (reason := self._breaks(name)) is not None:
                broken[name] = reason
        return Barred(budget, broken)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _outside(fields: Mapping[str, Known], pointers: Sequence[str]) -> dict[str, Known]:
    """What is known of the fields that are not at these JSON pointers, nor below one of them."""
    return {
        path: known
        for path, known in fields.items()
        if not any(path == outer or path.startswith(f"{outer}/") for outer in pointers)
    }


__all__ = ["AnswerContext", "Dialogue"]
