"""Second opinions on an answer that is sure of itself: other drafts of the same engine, or a judge."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from carrara.engines.engine import Engine
from carrara.engines.errors import CarraraError, ContractError, EngineError
from carrara.engines.request import Request
from carrara.runtime.routing.accept import Accept, Agreement, Judge
from carrara.runtime.routing.asking import Answered, PassedOver
from carrara.runtime.routing.call import LlmCall, drawn_again, to_be_judged
from carrara.runtime.routing.router import Rejection
from carrara.runtime.routing.verdict import Verdict


class Ask(Protocol):
    """`Calls.ask`."""

    def __call__(
        self, engine: str, request: Request, reason: str, firm: bool
    ) -> Awaitable[Answered]: ...


@dataclass(frozen=True, slots=True)
class Opinion:
    """`doubt` is why an answer is not taken after all, None if it is; `unjudged` why a judge or other drafts said
    nothing of it, "" where they did or none were wanted. That a judge or a draft fails speaks against the engine that
    was asked for it, not against the answer."""

    doubt: Rejection | None = None
    unjudged: str = ""


@dataclass(frozen=True, slots=True)
class SecondOpinions:
    """Those that `accept` wants on the answers to one call."""

    call: LlmCall
    accept: Accept
    engines: Mapping[str, Engine]
    ask: Ask

    async def on(self, engine: str, request: Request | None, verdict: Verdict) -> Opinion:
        """What they say of an answer of `engine` to `request`. `request` None: the answer was put together from
        several, which no other draft can agree with."""
        found = Opinion()
        if self.accept.agreement is not None and request is not None:
            found = await self._compared(engine, request, verdict, self.accept.agreement)
        if found.doubt is not None or self.accept.judge is None:
            return found
        judged = await self._judged(engine, verdict, self.accept.judge)
        told = "; ".join(one for one in (found.unjudged, judged.unjudged) if one)
        return Opinion(judged.doubt, told)

    async def _compared(
        self, engine: str, request: Request, verdict: Verdict, wanted: Agreement
    ) -> Opinion:
        """Self-consistency (arXiv 2203.11171): answers drawn again, side by side, are to be the same. Those that the
        engine did not give are not among them."""
        first = _canonical(self.call, verdict.text)
        seed = request.sampling.seed or 0
        requests = [
            drawn_again(request, wanted.temperature, seed + number)
            for number in range(1, wanted.drafts)
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._drawn(engine, one)) for one in requests]
        others = [task.result() for task in tasks]
        failures = [other for other in others if isinstance(other, Exception)]
        drafts = 1 + len(others) - len(failures)
        if drafts == 1:
            return Opinion(unjudged=f"{engine} gave no other draft: {failures[0]}")
        agreeing = 1 + others.count(first)
        if agreeing >= wanted.share * drafts:
            return Opinion()
        reason = f"{agreeing} of {drafts} drafts agree, {wanted.share:.0%} are needed"
        return Opinion(Rejection(engine, "agreement", reason))

    async def _drawn(self, engine: str, request: Request) -> str | Exception | None:
        """Another draft as canonical text, None if it does not hold to the contract; why there is none."""
        try:
            answered = await self.ask(engine, request, "another draft, to compare", True)
        except (EngineError, PassedOver) as error:
            return error
        return _canonical(self.call, answered.completion.text)

    async def _judged(self, engine: str, verdict: Verdict, judge: Judge) -> Opinion:
        if judge.engine not in self.engines:
            opened = ", ".join(self.engines)
            raise CarraraError(
                f"the policy's judge {judge.engine!r} is not open; open are: {opened}"
            )
        request = to_be_judged(self.call, verdict.text, judge.question)
        try:
            answered = await self.ask(judge.engine, request, f"judges {engine}", True)
        except (EngineError, PassedOver) as error:
            return Opinion(unjudged=f"judge {judge.engine} gave no answer: {error}")
        said = answered.completion.text.strip().lower()
        sure = answered.completion.confidence.overall
        if said == "yes" and (sure is None or sure >= judge.at_least):
            return Opinion()
        told = "" if sure is None else f" (confidence {sure:.2f})"
        reason = f"{judge.engine} judges: {said or 'nothing'}{told}"
        return Opinion(Rejection(engine, "judge", reason))


def _canonical(call: LlmCall, text: str) -> str | None:
    try:
        value: Any = call.output.parse(text)
    except ContractError:
        return None
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


__all__ = ["Ask", "Opinion", "SecondOpinions"]
