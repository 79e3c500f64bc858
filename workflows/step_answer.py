"""What an engine answered in one step of a row, with the question: enough to judge it by another policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from carrara.engines.request import Completion
from carrara.runtime.routing.call import LlmCall


@dataclass(frozen=True, slots=True)
class StepAnswer:
    """`step` is its name, `value` its value as JSON data. `completion` holds confidences and, of a free text, the text.
    `faulty`: an earlier answer of this call was of no use, so that this one came after a second try. `ms` is from the
    first call of an engine to the value, `cost` in US dollars."""

    step: str
    value: Any
    call: LlmCall
    completion: Completion
    faulty: bool = False
    ms: float = 0.0
    cost: float = 0.0


__all__ = ["StepAnswer"]
