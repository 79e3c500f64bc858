"""The error of a step that got no acceptable answer: it keeps every answer that was given, and why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from carrara.engines.errors import CarraraError, EngineError, EngineFailed, EngineRefused
from carrara.runtime.routing.budget import OverBudget


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer that was not taken, or an engine error (`text` is then ""). `how` is the move: "ask",
    "renoise", "fields", "again" or "longer"."""

    engine: str
    how: str
    text: str
    reason: str
    confidence: float | None = None


class AnswerError(CarraraError):
    """No engine gave an answer that holds to the step's contract.

    `step` is its path, `kind` that of the contract, `text` the last raw text that came, `attempts` all of
    them in order, `reason` why the last was not taken.
    """

    def __init__(self, step: str, kind: str, attempts: tuple[Attempt, ...]) -> None:
        self.step = step
        self.kind = kind
        self.attempts = attempts
        self.text = next((a.text for a in reversed(attempts) if a.text), "")
        self.reason = attempts[-1].reason if attempts else "nothing was asked"
        super().__init__(self._told())

    def _told(self) -> str:
        count = "1 attempt" if len(self.attempts) == 1 else f"{len(self.attempts)} attempts"
        lines = [f"step {self.step!r}: no acceptable {self.kind} answer in {count}."]
        lines += [
            f"  {number}. {attempt.engine} ({attempt.how}): {attempt.reason}"
            for number, attempt in enumerate(self.attempts, 1)
        ]
        return "\n".join([*lines, f"Last raw text: {_shown(self.text)}"])


class AnswerTimeout(AnswerError):
    """The call's own deadline passed before an answer was accepted. `deadline_s` is that deadline."""

    def __init__(
        self, step: str, kind: str, attempts: tuple[Attempt, ...], deadline_s: float
    ) -> None:
        self.deadline_s = deadline_s
        super().__init__(step, kind, attempts)

    def _told(self) -> str:
        head = f"step {self.step!r}: no {self.kind} answer within its deadline of {self.deadline_s:g} s"
        return f"{head}. {super()._told()}" if self.attempts else f"{head}."


def no_answer(step: str, attempts: Sequence[Attempt], errors: Sequence[EngineError]) -> EngineError:
    """What ends a call that no engine answered: their own error where there was one attempt. OverBudget where some were
    too dear and no other will do; where one only failed, the next attempt of the step may have it answer."""
    if len(attempts) == 1:
        return errors[-1]
    cause: EngineError
    kind: type[EngineError]
    too_dear = [error for error in errors if isinstance(error, OverBudget)]
    others = [error for error in errors if not isinstance(error, OverBudget)]
    if too_dear and all(isinstance(error, EngineRefused) for error in others):
        cause, kind = too_dear[-1], OverBudget
    else:
        cause = others[-1]
        kind = EngineRefused if isinstance(cause, EngineRefused) else EngineFailed
    told = "; ".join(f"{one.engine}: {one.reason}" for one in attempts)
    error = kind(f"step {step!r}: no engine answered. {told}", engine=cause.engine)
    error.__cause__ = cause
    return error


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 400 else f"{text[:300]!r} ... {text[-80:]!r}"


__all__ = ["AnswerError", "AnswerTimeout", "Attempt", "no_answer"]
