"""Answering an LLM step: choose an engine, ask it, judge the answer, and go on until one is accepted.

The decisions are made by `router` and `verdict`, which are pure; `dialogue` carries them out, each told as an event
with its reason. What comes back holds to the call's contract, or `AnswerError` says why nothing did.
"""

from __future__ import annotations

import asyncio
from typing import Any

from carrara.runtime.cassette import asking_step
from carrara.runtime.routing.call import LlmCall
from carrara.runtime.routing.dialogue import AnswerContext, Dialogue
from carrara.runtime.routing.failure import AnswerError, AnswerTimeout, Attempt


async def answer(call: LlmCall, ctx: AnswerContext) -> Any:
    """The value of an LLM step: `call.validate` of a value that holds to `call.output`.

    Engines are taken from `ctx.resources["engines"]`; see `desk` and `asking` for the optional resources.

    Raises:
        AnswerError: no answer was acceptable; it holds every raw text. AnswerTimeout: `limits.deadline_s`
            passed before.
        EngineRefused: no engine can ever answer this call. OverBudget: the policy's budget is spent.
        EngineBusy, EngineFailed: so the last engine said; trying the step again may help.
    """
    dialogue = Dialogue(call, ctx)
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


__all__ = ["AnswerContext", "AnswerError", "AnswerTimeout", "Attempt", "LlmCall", "answer"]
