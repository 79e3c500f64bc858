"""What a wire format makes of an answer, and what the engine makes of that: one form for all servers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from carrara.engines.request import Confidence, StopReason, Usage

_LEAST_LOGPROB = -1000.0  # the probability of which is 0

End = Literal["", "filtered", "broken"] | StopReason
"""Why an answer ended; "" while it has not, "filtered" where the provider's filter ended it, "broken" where the server
gave it up."""


@dataclass(frozen=True, slots=True)
class TokenChance:
    """One token of an answer: its bytes, its probability, and those of the likeliest in its place, itself included."""

    raw: bytes
    chance: float
    others: tuple[tuple[bytes, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that the model wants called. `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(slots=True)
class Reply:
    """An answer as it came, or as far as it has come. `reason` is the provider's own word for the end, `refused` the
    words of a refusal, `token_ids` those of the text where they were asked for, `sure` what a server of this project
    says of its confidence."""

    text: str = ""
    end: End = ""
    reason: str = ""
    tokens: list[TokenChance] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    calls: list[Call] = field(default_factory=list)
    refused: str = ""
    token_ids: list[int] = field(default_factory=list)
    sure: Confidence | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask for. `parameters` is a JSON Schema."""

    name: str
    description: str
    parameters: Mapping[str, Any]


def chance(logprob: Any) -> float:
    """A probability from a log-probability; 0 for what is no number."""
    if isinstance(logprob, bool) or not isinstance(logprob, int | float) or logprob != logprob:
        return 0.0
    return math.exp(max(min(logprob, 0), _LEAST_LOGPROB))


def probability(value: Any) -> float | None:
    """A probability as a server tells it; None for what is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1 else None


def token_bytes(text: str) -> bytes:
    """The bytes of a token: its text may be half a surrogate pair."""
    return text.encode("utf-8", "surrogatepass")


def count(value: Any) -> int:
    """A number of tokens as a server tells it; 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


__all__ = [
    "Call",
    "End",
    "Reply",
    "TokenChance",
    "Tool",
    "chance",
    "count",
    "probability",
    "token_bytes",
]
