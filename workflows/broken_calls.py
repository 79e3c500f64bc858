"""Telling a row that was answered badly from one that was not answered at all, by the error that ended it."""

from __future__ import annotations

from carrara.engines.errors import (
    AccessDenied,
    ContentFiltered,
    ContextOverflow,
    EngineBusy,
    EngineFailed,
    EngineRefused,
    LoadingError,
    QuotaExhausted,
)
from carrara.runtime.errors import StepError, StepTimeout
from carrara.runtime.routing.budget import OverBudget
from carrara.runtime.routing.failure import AnswerTimeout

_BROKEN = (
    AccessDenied,
    EngineBusy,
    EngineFailed,
    LoadingError,
    OverBudget,
    QuotaExhausted,
    StepTimeout,
)


def broke(error: BaseException | None) -> bool:
    """Whether a call broke: nothing is known of the answer that the engine would have given.

    Not so where an engine answered and no answer was good enough, and where it refuses this prompt for its length, its
    form or its content: asked again it does the same. What a server refuses for another reason (no such model) counts
    as broken.
    """
    cause = error
    while isinstance(cause, StepError) and cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, AnswerTimeout):
        return not cause.attempts
    if isinstance(cause, _BROKEN):
        return True
    of_prompt = ContentFiltered | ContextOverflow
    return (
        isinstance(cause, EngineRefused)
        and cause.status is not None
        and not isinstance(cause, of_prompt)
    )


__all__ = ["broke"]
