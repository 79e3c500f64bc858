"""One call on its way from engine to engine: the moves that `router` decides, made and told one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, Protocol, TypeVar

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
from carrara.engines.facts import REMOTE
from carrara.engines.request import Completion, Confidence, Progress, Request, Usage, Watch
from carrara.runtime.events import (
    MOST_EDITS_TOLD,
    Accepted,
    CalledOff,
    DraftShown,
    EngineAnswered,
    EngineCalled,
    Escalated,
    PutOff,
    Rejected,
    Repaired,
    Routed,
    RouteRefused,
    StepEvent,
    ValueShown,
)
from carrara.runtime.repair.fields import rules_by_field
from carrara.runtime.routing.accept import Accept
from carrara.runtime.routing.asking import Answered, Asking, PassedOver
from carrara.runtime.routing.bill import Bill, is_server_fault
from carrara.runtime.routing.budget import OverBudget, Spending
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
from carrara.runtime.routing.desk import router_of
from carrara.runtime.routing.estimate import estimated_tokens
from carrara.runtime.routing.evidence import step_of
from carrara.runtime.routing.facts import Candidate
from carrara.runtime.routing.failure import AnswerError, Attempt
from carrara.runtime.routing.fallback import Doubtful, Fallback
from carrara.runtime.routing.hedging import Race
from carrara.runtime.routing.lap import here
from carrara.runtime.routing.line import Line, Turn
from carrara.runtime.routing.mixed import Part, part_of, text_of
from carrara.runtime.routing.outage import answer_in_the_end
from carrara.runtime.routing.router import (
    JUDGED,
    Barred,
    Cause,
    Move,
    Rejection,
    Route,
    company,
    is_last,
    next_after,
    objection_to,
    route,
)
from carrara.runtime.routing.second_opinions import SecondOpinions
from carrara.runtime.routing.verdict import Verdict, doubt_of, judge

Known = TypeVar("Known")


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
        self.error: EngineError | None = None
        self.waited_out: list[EngineError] = []
        """The errors of engines that were waited for; they are told."""
        self.fallback = Fallback([one.name for one in self.route.candidates])
        self.rejected: list[tuple[str, float]] = []
        """Engines whose answers were not taken, and since when others are asked; told to the evidence at the end."""
        self.started = self._now()

    async def lead(self) -> Any:
        """Ask until an answer is accepted; its value. Where no engine is left that answers, that of a valid answer that
        was not sure enough.

        Raises:
            AnswerError, EngineError: none was.
        """
        for name in self.route.passed_over:
            self.evidence.pass_over(self.ctx.path, name)
        self.evidence.choose(self.ctx.path, self.route.engine)
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
            verdict, move, line = turn.verdict, turn.following, turn.line
            if verdict.rejection is None:
                self._tell_followed(turn)
                self._tell_accepted(verdict, line.origins, verdict.doubt)
                return verdict.value
            self._goes_on(turn)
        if (found := self.fallback.taken()) is None:
            raise self._failure()
        return self._in_doubt(*found)

    def _goes_on(self, turn: Turn) -> None:
        """No answer of the turn is taken: tell of the engine that is asked next, and note when."""
        rejection = turn.verdict.rejection
        assert rejection is not None
        if turn.remembered:
            self.rejected.clear()
        if rejection.cause in JUDGED:
            self.rejected.append((rejection.engine, self._now()))
        if (following := turn.following) is not None:
            self.ctx.tell(
                Escalated,
                origin=rejection.engine,
                target=following.engine,
                reason=rejection.reason,
            )

    def _tell_followed(self, turn: Turn) -> None:
        """An answer of the turn is taken: note how long that took after those that were not."""
        if turn.remembered:
            return
        for engine, at in self.rejected:
            self.evidence.followed(self.ctx.path, engine, self._now() - at)

    def _in_doubt(self, found: Doubtful, doubt: str) -> Any:
        """Take a valid answer that was rejected in doubt; its value."""
        if self.call.take is not None:
            self.call.take(found.answer)
        self._tell_accepted(found.verdict, found.origins, doubt)
        return found.verdict.value

    def _last_is_busy(self, busy: EngineBusy) -> None:
        engine = self.route.candidates[-1].name
        self._reject(Move(engine, ""), Rejection(engine, "busy", str(busy)), "", None)

    async def ask_engine(self, move: Move, line: Line) -> Turn:
        """All moves at one engine: the last verdict, and the move to another engine if there is one."""
        engine, asked_whole = move.engine, move.how == "ask"
        key = (step_of(self.ctx.path), engine)
        scouts = self.router.scouts
        scouting = not is_last(engine, self.route)
        if scouting:
            await scouts.go(key, self.policy.scouts, lambda: self._is_known(engine))
        started, remembered = self._now(), False
        try:
            while True:
                line.history.append(move)
                moved, line.remembered = self._now(), False
                verdict = await self._make(move, line)
                remembered = remembered or line.remembered
                if verdict.rejection is not None and verdict.rejection.cause == "passed over":
                    line.history.pop()  # no call was made
                is_new = verdict.completion is not None and not line.remembered
                if move.how == "renoise" and is_new:
                    taken, took_s = verdict.rejection is None, self._now() - moved
                    self.evidence.renoised(self.ctx.path, engine, taken, took_s)
                following = self._after(verdict.rejection, line) if verdict.rejection else None
                if following is None or following.engine != move.engine:
                    if asked_whole and verdict.completion is not None and not remembered:
                        self.evidence.turned(self.ctx.path, engine, self._now() - started)
                    return Turn(verdict, following, line, remembered)
                move = following
        finally:
            if scouting:
                scouts.back(key)

    async def ask_once(
        self,
        engine: str,
        request: Request,
        reason: str,
        firm: bool,
        doubled: str = "",
        patient: bool = False,
    ) -> Answered:
        """One request to one engine, on the books and told; to the one that is `doubled` it joins none that is equal.
        `patient`: an engine that keeps failing is waited for.

        Raises:
            PassedOver: meanwhile evidence speaks against asking, and nothing insists on it.
            EngineError: the engine gave no answer.
        """
        resources = self.ctx.resources
        prompt_tokens = estimated_tokens(request.messages)
        can = self.engines[engine].can
        most_tokens = answer_tokens(request.output, request.limits.max_tokens, can)
        hurried = bool(resources.get("hurried"))
        bill = Bill(self.router, engine, prompt_tokens, most_tokens, patient, hurried)

        def admit() -> None:
            self._admit(engine, reason, firm, bill)

        def rejected(error: EngineError) -> None:
            self.waited_out.append(error)
            self.ctx.tell(Rejected, engine=engine, reason=str(error), confidence=None)

        def put_off(busy: EngineBusy, wait_s: float) -> None:
            self.ctx.tell(PutOff, engine=engine, reason=str(busy), wait_s=wait_s)

        def used(spent: Spending, broke: bool = True) -> None:
            if spent.tokens:
                costs = {"tokens": spent.tokens, "cost": spent.cost}
                self.ctx.tell(CalledOff, engine=engine, broke=broke, **costs)

        left_s = request.limits.deadline_s
        most_s = self.policy.max_wait_s if left_s is None else min(left_s, self.policy.max_wait_s)
        gate = resources.get("gates", {}).get(engine)
        flights = None if engine == doubled else resources.get("single_flight")
        watch = self._watch(engine, bill)
        asking = Asking(
            self.engines[engine],
            request,
            admit,
            firm,
            most_s,
            gate,
            flights,
            watch,
            bill,
            resources.get("remembered"),
            self.ctx.node,
            put_off,
        )
        try:
            answered, asked_at = await answer_in_the_end(
                asking, bill, self.router.breakers, rejected, used
            )
        except EngineError as error:
            used(bill.failed(error, self._now()))
            self._heard(bill, Usage())
            raise
        except BaseException:
            used(bill.cancelled(), broke=False)
            raise
        usage = answered.completion.usage if bill.is_asked else Usage()
        if answered.remembered:  # the engine was not asked: it has shown nothing
            cost = 0.0
        else:
            cost = bill.settle(usage)
            self.evidence.took(self.ctx.path, engine, self._now() - asked_at)
        self._heard(bill, usage)
        self._tell_answered(reason, answered, usage, cost)
        return answered

    def _heard(self, bill: Bill, usage: Usage) -> None:
        if (lap := here.get()) is not None:
            lap.hears(bill, usage)

    async def _turn(self, move: Move, line: Line) -> Turn:
        """A move and what follows it at its engine, in a race with others where the policy hedges."""
        hedge = self.policy.hedge
        if hedge is None or self._company(move, line) is None:
            return await self.ask_engine(move, line)
        path, evidence = self.ctx.path, self.evidence

        def late_s(engine: str) -> float | None:
            return evidence.late_s(path, engine, hedge.times, hedge.share)

        race = Race(hedge, self.ask_engine, self.ctx.tell, late_s, self._company, self._goes_on)
        turn = await race.run(move, line)
        for engine, seconds in race.cut_off:
            evidence.turned(path, engine, seconds)
        return turn

    def _company(self, move: Move, line: Line) -> str | None:
        """The engine that may be asked beside a move that is late."""
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
            patient = self._is_patient(move.engine)
            answered = await self.ask_once(
                move.engine, request, reason, firm, line.doubled, patient
            )
            completion, line.remembered = answered.completion, answered.remembered
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
            ask_once = partial(self.ask_once, doubled=line.doubled)
            opinions = SecondOpinions(self.call, accept, self.engines, ask_once)
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
            if not line.remembered:
                self.evidence.note(self.ctx.path, move.engine, True, sure)
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
            cause = "passed over"
        elif isinstance(error, EngineRefused):
            cause = "refused"
        elif isinstance(error, EngineBusy):
            if is_last(move.engine, self.route):
                raise error
            cause = "busy"
        # One that cannot be reached is not asked again at once, the next engine is; a patient call has tried it again.
        failed = error if isinstance(error, EngineFailed) else None
        broke_off = failed is not None and bool(failed.phase) and not failed.is_unreachable
        if is_server_fault(error) and self._is_patient(move.engine):
            broke_off = False
        rejection = Rejection(move.engine, cause, str(error), passing=broke_off)
        self.error = error
        # Of these no call was made, or none that is not told.
        if isinstance(error, EngineDown | OverBudget) or error in self.waited_out:
            self._keep(move, rejection, "", None)
        else:
            self._reject(move, rejection, "", None)
        return Verdict("", rejection=rejection)

    def _after(self, rejection: Rejection, line: Line) -> Move | None:
        against = self._against_renoising(rejection.engine)
        pays = self._once_more_pays(rejection)
        move = next_after(
            rejection, line.history, self.facts, self.route, self.policy, against, pays
        )
        if move is not None and move.spared:
            self.evidence.keep_from_renoising(self.ctx.path, rejection.engine)
        if move is not None and move.engine == rejection.engine:
            return move
        if rejection.cause in JUDGED and not line.remembered:
            self.evidence.note(self.ctx.path, rejection.engine, False, self.attempts[-1].confidence)
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
        self.evidence.broke(self.ctx.path, rejection.engine)
        return not isinstance(self.error, EngineTimeout) and self._is_quicker(rejection.engine)

    def _is_quicker(self, engine: str) -> bool:
        """Whether a second call of the engine is expected to end earlier than one of the next."""
        if is_last(engine, self.route):
            return False
        names = [one.name for one in self.route.candidates]
        following = names[names.index(engine) + 1]
        return self.evidence.once_more_pays(self.ctx.path, engine, following)

    def _failure(self) -> Exception:
        """What to raise: the engines' own error when no engine answered at all."""
        if self.error is None or any(attempt.text for attempt in self.attempts):
            failure = AnswerError(self.ctx.path, self.call.output.kind, self.attempts)
            failure.__cause__ = self.error if isinstance(self.error, EngineDown) else None
            return failure
        if len(self.attempts) == 1:
            return self.error
        told = "; ".join(f"{a.engine}: {a.reason}" for a in self.attempts)
        kind = EngineRefused if isinstance(self.error, EngineRefused) else EngineFailed
        error = kind(
            f"step {self.ctx.path!r}: no engine answered. {told}", engine=self.error.engine
        )
        error.__cause__ = self.error
        return error

    def _is_patient(self, engine: str) -> bool:
        """Whether nothing can be had without this engine."""
        return is_last(engine, self.route) and self.fallback.taken() is None

    def _is_firm(self, move: Move) -> bool:
        """Whether the engine is asked whatever the evidence says by then."""
        return move.how != "ask" or is_last(move.engine, self.route)

    def _admit(self, engine: str, reason: str, firm: bool, bill: Bill) -> None:
        """Called when it is the call's turn: the evidence may have changed while it waited."""
        if not firm:
            objection = self._objection(engine)
            if objection is not None:
                self.evidence.pass_over(self.ctx.path, engine)
                raise PassedOver(objection)
        objection = bill.admit(self._now())
        if objection is not None:
            raise PassedOver(objection)
        if not firm:
            self.evidence.probe(self.ctx.path, engine)
        if (lap := here.get()) is not None:
            lap.asks(bill, self._now(), bill.prompt_tokens)
        self.ctx.tell(EngineCalled, engine=engine, reason=reason)

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

    def _watch(self, engine: str, bill: Bill) -> Watch | None:
        shown = self.ctx.listening and self.ctx.resources.get("drafts")
        lap = here.get()
        # A server streams for who watches; an engine of this machine shows its passes at little cost.
        hedge, is_near = self.policy.hedge, self.engines[engine].facts.device != REMOTE
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

    def _tell_answered(self, reason: str, answered: Answered, usage: Usage, cost: float) -> None:
        """Tell of the answer, and of the usage that is on the books of this step."""
        completion = answered.completion
        if answered.joined or answered.remembered:
            which = "under way" if answered.joined else "answered before in this run"
            told = f"{reason}; joined an equal request {which}"
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
