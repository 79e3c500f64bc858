"""What it is to run a recorded algorithm with one of our samplers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from carrara.engines.goldens.folder import Case, Skip
from carrara.engines.goldens.params import Params
from carrara.engines.goldens.record import Record
from carrara.engines.model.llama import Llama

Facts = Mapping[str, Any]
"""The ids that stand at the top of cases.json, or the parameters of a case."""

Run = Callable[[Llama, Case, Facts, Record], tuple[Tensor, Tensor]]
"""Runs a case; gives what the reference function returns, and the canvas afterwards [B, T]."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A recorded algorithm: how it is run, and the parameters that it is held to."""

    run: Run
    params: Params


def algorithm(run: Run, names: str) -> Algorithm:
    """`names` of its parameters as `Params.of` reads them."""
    return Algorithm(run, Params.of(names))


def only_prompt(case: Case) -> list[int]:
    """The prompt of a case whose algorithm knows one row only."""
    if len(case.prompts) != 1:
        raise Skip(
            f"{case.facts['algorithm']} is defined for one row, the case has {len(case.prompts)}"
        )
    return case.prompts[0]
