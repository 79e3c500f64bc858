"""What a routing decision may know: of a call, and of each engine that could answer it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carrara.engines.contract import Contract
from carrara.engines.contract_shape import shape_of
from carrara.engines.engine import Ability, Engine
from carrara.engines.facts import REMOTE
from carrara.runtime.routing.prospect import EXPECTED

Repair = Literal["off", "structural", "infill", "escalate"]


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
class Candidate:
    """An engine, for one call. `refusal` says why it cannot hold the call's contract, None if it can. `device` is
    "cpu", "cuda", …, or REMOTE. `expected` is the chance that its answer to such a contract is taken, before any was
    seen. `is_closed`: it could not be opened; `refusal` says why."""

    name: str
    can: frozenset[Ability] = frozenset()
    context_tokens: int = 1_000_000
    refusal: str | None = None
    device: str = REMOTE
    expected: float = EXPECTED
    is_closed: bool = False

    @classmethod
    def of(cls, name: str, engine: Engine, contract: Contract, refusal: str | None) -> Candidate:
        """The engine called `name`, for a call with this contract, which it may refuse."""
        facts = engine.facts
        expected = facts.accepted.get(shape_of(contract), EXPECTED) if facts.accepted else EXPECTED
        return cls(
            name,
            engine.can,
            engine.context_tokens,
            refusal,
            facts.device,
            expected,
            facts.is_closed,
        )


__all__ = ["CallFacts", "Candidate", "Repair"]
