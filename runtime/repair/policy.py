"""What a repair may do: how far it goes, how sure it must be, which rules it leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carrara.engines.errors import CarraraError
from carrara.runtime.repair.report import Certainty

CERTAINTIES: tuple[Certainty, ...] = ("certain", "likely", "guess")


@dataclass(frozen=True, slots=True)
class RepairPolicy:
    """`max_tier`: 1 mends the structure without a model, 2 also fills holes by one infill call, 3 also asks an AR
    engine for what is left. Edits below `min_certainty` become proposals, and so do those of a rule named in
    `without`. `on_fail`: "keep" gives a text back that could not be mended in full, "raise" raises RepairFailed.
    `token_budget` bounds what models may write for one text."""

    max_tier: Literal[1, 2, 3] = 1
    min_certainty: Certainty = "likely"
    without: frozenset[str] = frozenset()
    on_fail: Literal["keep", "raise"] = "keep"
    token_budget: int = 1024

    def __post_init__(self) -> None:
        if self.min_certainty not in CERTAINTIES:
            known = ", ".join(CERTAINTIES)
            raise CarraraError(f"min_certainty is one of {known}, not {self.min_certainty!r}")
        if self.max_tier not in (1, 2, 3):
            raise CarraraError(f"max_tier is 1, 2 or 3, not {self.max_tier!r}")

    @property
    def refused(self) -> frozenset[str]:
        """Certainties and rules whose edits are not made."""
        least = CERTAINTIES.index(self.min_certainty)
        return frozenset(CERTAINTIES[least + 1 :]) | self.without

    def takes(self, certainty: Certainty, rule: str) -> bool:
        refused = self.refused
        return certainty not in refused and not refused.intersection(rule.split("+"))


DEFAULT = RepairPolicy()

__all__ = ["CERTAINTIES", "DEFAULT", "RepairPolicy"]
