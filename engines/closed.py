"""An engine that could not be opened: it stands among the others and says why it answers nothing."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from carrara.engines.contract import Contract
from carrara.engines.engine import Ability, Health
from carrara.engines.errors import EngineRefused
from carrara.engines.facts import EngineFacts
from carrara.engines.request import Completion, Request, Watch


class ClosedEngine:
    """An `Engine` that refuses every contract with the `error` that kept it from being opened."""

    can: frozenset[Ability] = frozenset()
    context_tokens = 1
    facts = EngineFacts(is_closed=True)

    def __init__(self, name: str, error: Exception) -> None:
        self.name, self.error = name, error

    @property
    def fingerprint(self) -> str:
        return f"closed-{self.name}"

    def refusal(self, contract: Contract) -> str | None:
        return f"not open: {str(self.error) or repr(self.error)}"

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        """Raises EngineRefused."""
        raise EngineRefused(
            f"engine {self.name!r} is {self.refusal(request.output)}", engine=self.name
        )

    def health(self) -> Health:
        return Health(False, f"{self.name}: not open: {self.error}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


__all__ = ["ClosedEngine"]
