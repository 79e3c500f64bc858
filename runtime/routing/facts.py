"""What a routing decision may know: of a call, and of an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carrara.engines.engine import Ability, Engine

Repair = Literal["off", "structural", "infill", "escalate"]

REMOTE = "remote"
"""The device of an engine that runs on no device of this machine."""


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What a decision needs to know of a call. `engine` is the one that the step insists on, None: policy.
    `prompt_tokens` is an estimate, `max_tokens` the room for the answer. `language` is the code of the prompt's
    language (ISO 639-1) where a rule asks for one, else "". `deadline_s` is how long the answer may take."""

    path: str
    kind: str
    prompt_tokens: int
    max_tokens: int
    tags: frozenset[str] = frozenset()
    engine: str | None = None
    repair: Repair = "escalate"
    reasoning: bool = False
    language: str = ""
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """`refusal` says why the engine cannot hold the call's contract, None if it can. `device` is "cpu", "cuda", …,
    or REMOTE."""

    name: str
    can: frozenset[Ability] = frozenset()
    context_tokens: int = 1_000_000
    refusal: str | None = None
    device: str = REMOTE


def device_of(engine: Engine) -> str:
    """The kind of device an engine computes on: "cuda" for cuda:1, REMOTE where it does not say."""
    return str(getattr(engine, "device", REMOTE)).partition(":")[0]


__all__ = ["REMOTE", "CallFacts", "EngineFacts", "Repair", "device_of"]
