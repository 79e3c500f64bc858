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


class AskOnce(Protocol):
    """`Dialogue.ask_once`."""

    def __call__(
        self, engine: str, request: Request, reason: str, firm: bool
    ) -> Awaitable[Answered]: ...


@dataclass(frozen=True, slots=True)
class Opinion:
    """`doubt` is why an answer is not taken after all, None if it is; `unjudged` why the judge said nothing of it, ""
    where it did or none was wanted. That a judge fails speaks against the judge, not against the answer."""

    doubt: Rejection | None = None
    unjudged: str = ""


@dataclass(frozen=True, slots=True)
class SecondOpinions:
    """Those that `accept` wants on the answers to one call."""

    call: LlmCall
    accept: Accept
    engines: Mapping[str, Engine]
    ask_once: AskOnce

    async def on(self, engine: str, request: Request | None, verdict: Verdict) -> Opinion:
        """What they say of an answer of `engine` to `request`. `request` None: the answer was put together from
        several, which no other draft can agree with."""
        if self.accept.agreement is not None and request is not None:
            doubt = await self._disagreement(engine, request, verdict, self.accept.agreement)
            if doubt is not None:
                return Opinion(doubt)
        if self.accept.judge is not None:
            return await self._judged(engine, verdict, self.accept.judge)
        return Opinion()

    async def _disagreement(
        self, engine: str, request: Request, verdict: Verdict, wanted: Agreement
    ) -> Rejection | None:
        """Self-consistency (arXiv 2203.11171): answers drawn again, side by side, are to be the same."""
        first = _canonical(self.call, verdict.text)
        seed = request.sampling.seed or 0
        requests = [
            drawn_again(request, wanted.temperature, seed + number)
            for number in range(1, wanted.drafts)
        ]
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(self._drawn(engine, one)) for one in requests]
        agreeing = 1 + sum(other.result() == first for other in others)
        if agreeing >= wanted.share * wanted.drafts:
            return None
        reason = f"{agreeing} of {wanted.drafts} drafts agree, {wanted.share:.0%} are needed"
        return Rejection(engine, "agreement", reason)

    async def _drawn(self, engine: str, request: Request) -> str | None:
        """Another draft as canonical text, None if there is none that holds to the contract."""
        try:
            answered = await self.ask_once(engine, request, "another draft, to compare", True)
        except (EngineError, PassedOver):
            return None
        return _canonical(self.call, answered.completion.text)

    async def _judged(self, engine: str, verdict: Verdict, judge: Judge) -> Opinion:
        if judge.engine not in self.engines:
            opened = ", ".join(self.engines)
            raise CarraraError(
                f"the policy's judge {judge.engine!r} is not open; open are: {opened}"
            )
        request = to_be_judged(self.call, verdict.text, judge.question)
        try:
            answered = await self.ask_once(judge.engine, request, f"judges {engine}", True)
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


__all__ = ["AskOnce", "Opinion", "SecondOpinions"]
