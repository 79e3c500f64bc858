"""The one protocol behind which everything that differs between engines lives."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self, runtime_checkable

from carrara.engines.contract import Contract
from carrara.engines.facts import EngineFacts
from carrara.engines.request import Completion, Request, Watch

Ability = Literal[
    "schema", "choice", "regex", "table", "outline", "infill", "drafts", "logprobs", "stream"
]
"""What an engine can hold by construction ("schema" to "outline": the contract kinds it guarantees) or do."""


@dataclass(frozen=True, slots=True)
class Health:
    """`ready` and one line that a person can read: model, device, what is degraded and why."""

    ready: bool
    line: str


@runtime_checkable
class Engine(Protocol):
    """Something that completes prompts. It knows of no run, no step and no other engine.

    `async with engine:` loads it; leaving the block ends what is in flight and frees it. Entering twice
    nests: the engine is freed when the last block is left.
    """

    @property
    def name(self) -> str: ...

    @property
    def can(self) -> frozenset[Ability]: ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same request might get another answer: weights, adapter, precision."""
        ...

    @property
    def context_tokens(self) -> int:
        """Prompt and answer together may not be longer."""
        ...

    @property
    def facts(self) -> EngineFacts:
        """Where it computes, what it costs, what it is good at. By default: elsewhere, and nothing more is known."""
        return EngineFacts()

    def refusal(self, contract: Contract) -> str | None:
        """Why this engine can never hold `contract`, None if it can (by construction or by trying)."""
        ...

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        """Complete one request. Requests in flight together share batches, the prefix cache, the GPU.

        Cancelling the awaiting task takes the request out of the batch at its next pass.

        Raises:
            EngineBusy: the engine has no room now; the same call may succeed later.
            EngineRefused: the request can never succeed here (too long, contract not supported).
            EngineFailed: the engine broke while it worked on it.
        """
        ...

    def health(self) -> Health: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
