"""What a policy over two engines does on a row, by what each of them answered to the row alone. Pure.

Step by step the first engine's answer is taken, or its doubtful fields are the last engine's, or the last engine's
whole answer stands there, as the router decides (`verdict.doubt_of`, `mixed.part_of`). The fields that the last engine
would give when it is asked for them alone are those of its whole answer. What an engine would answer to a prompt that
it was not shown, because an earlier step's answer is in it, is not known: such rows are told.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

from carrara.engines.errors import ContractError
from carrara.runtime.routing.accept import Accept
from carrara.runtime.routing.mixed import part_of
from carrara.runtime.routing.verdict import doubt_of
from carrara.workflows.calibration.observed import Answer, Spot
from carrara.workflows.plain import plain
from carrara.workflows.scoring.score import Score
from carrara.workflows.step_answer import StepAnswer

_KEPT = None
_WHOLE: tuple[str, ...] = ()
Fate = tuple[str, ...] | None
"""What becomes of the first engine's answer in a step: `_KEPT`, `_WHOLE` or these fields from the last."""


@dataclass(frozen=True, slots=True)
class Routed:
    """`alone`: every answer is the first engine's. `known`: no answer in it is a guess."""

    score: Score
    alone: bool
    known: bool
    ms: float
    cost: float


class RoutedRow:
    """A row under one policy after another; what comes of equal decisions is worked out once."""

    def __init__(self, first: Answer, last: Answer, mixed: bool = True) -> None:
        """`mixed` as in Policy."""
        self.first, self.last, self.mixed = first, last, mixed
        more = (
            () if first.score.parsed else (path for path in last.calls if path not in first.calls)
        )
        self._paths = (*first.calls, *more)
        self._made: dict[tuple[Fate, ...], Routed] = {}

    def under(self, accepts: Mapping[str, Accept]) -> Routed:
        """With what the first engine's answers need, by the name of a step."""
        fates = tuple(self._fate(path, accepts) for path in self._paths)
        if fates not in self._made:
            self._made[fates] = self._routed(dict(zip(self._paths, fates, strict=True)))
        return self._made[fates]

    def _fate(self, path: str, accepts: Mapping[str, Accept]) -> Fate:
        own = self.first.calls.get(path)
        if (
            own is None or own.faulty
        ):  # the router mends nothing at an engine with another behind it
            return _WHOLE
        accept = accepts.get(own.step)
        found = None if accept is None else doubt_of(own.call, own.completion, accept, {})
        if found is None:
            return _KEPT
        return found.fields if self.mixed and found.partial and not found.whole else _WHOLE

    def _routed(self, fates: Mapping[str, Fate]) -> Routed:
        first, last = self.first, self.last
        asked = [path for path, fate in fates.items() if fate is not _KEPT]
        share = _share(last, asked)
        ms, cost = first.ms + share * last.ms, first.cost + share * last.cost
        alone = first.score.parsed and not asked
        if any(path not in last.calls for path in asked):
            # There the last engine gave no answer, so the row has none.
            known = len(set(fates) - set(last.calls)) == 1
            return Routed(last.score, alone, known, ms, cost)
        values = {path: self._value(path, fate) for path, fate in fates.items()}
        score = first.score if alone else self._score(values)
        known = score is not None and self._knows(fates, values)
        return Routed(score or last.score, alone, known, ms, cost)

    def _value(self, path: str, fate: Fate) -> Any:
        if fate is _KEPT:
            return self.first.calls[path].value
        theirs = self.last.calls[path]
        mine = self.first.calls.get(path)
        return theirs.value if mine is None or not fate else mixed(mine, theirs, fate)

    def _knows(self, fates: Mapping[str, Fate], values: Mapping[str, Any]) -> bool:
        """Whether each answer that stands was given to the prompt that the policy would make."""
        as_first = as_last = True  # all values so far are those of the first engine, or of the last
        for path, fate in fates.items():
            mine, theirs = self.first.calls.get(path), self.last.calls.get(path)
            if mine is None:
                fine = as_last
            elif theirs is not None and theirs.call.messages == mine.call.messages:
                fine = True
            else:
                fine = as_first and fate is _KEPT
            if not fine:
                return False
            as_first = as_first and mine is not None and values[path] == mine.value
            as_last = as_last and theirs is not None and values[path] == theirs.value
        return True

    def _score(self, values: Mapping[str, Any]) -> Score | None:
        """The marks of the row with these values, None where it is not known what becomes of one of them."""
        base = self.first if self.first.score.parsed else self.last
        answer, changed = base.answer, False
        for path, value in values.items():
            own = base.calls.get(path)
            if own is not None and own.value == value:
                continue
            spot = base.spots.get(path)
            if spot is None:
                return None
            answer, changed = _with(answer, spot, value), True
        return base.marked(answer) if changed else base.score


def mixed(mine: StepAnswer, theirs: StepAnswer, fields: tuple[str, ...]) -> Any:
    """An answer with these fields from another; the whole other one where the answer has no such part, or mixed does
    not hold what the step demands."""
    part = part_of(mine.call.output, fields, mine.value)
    if part is None:
        return theirs.value
    try:
        return plain(mine.call.validate(part.merged(theirs.value)))
    except (ValueError, ContractError, LookupError, TypeError):
        return theirs.value


def _share(answer: Answer, paths: list[str]) -> float:
    """The share of a row's time that these steps took; each counts as if the others had waited for it."""
    if len(paths) >= len(answer.calls):
        return 1.0 if paths else 0.0
    whole = sum(call.ms for call in answer.calls.values())
    found = sum(answer.calls[path].ms for path in paths if path in answer.calls)
    return found / whole if whole else len(paths) / len(answer.calls)


def _with(answer: Any, spot: Spot, value: Any) -> Any:
    if not spot:
        return value
    made = copy(answer)
    made[spot[0]] = _with(made.get(spot[0]), spot[1:], value)
    return made


__all__ = ["Routed", "RoutedRow", "mixed"]
