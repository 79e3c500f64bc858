"""What every canvas offers to the refine loop: a view of the block to denoise, and a place for what was read.

A canvas is a state machine without a model: `view` says what to look at next, `settle` takes what the model said
about it. Blocks follow each other; the clean tokens of a settled block are handed out once by `take_clean`, for
the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from carrara.engines.diffusion.commit import CommitRule
from carrara.engines.diffusion.judge import Along, Gate, all_of_them, chance_of_gate
from carrara.engines.diffusion.scaffold.lexicon import Row


@dataclass(frozen=True, slots=True)
class Site:
    """An undecided position of the block, counted from its start, and what may stand there (None: anything)."""

    offset: int
    row: Row | None


@dataclass(frozen=True, slots=True)
class View:
    """One block as the model sees it.

    `tokens` with masks at undecided positions; `sites` at which the best allowed token is wanted; `pairs` of
    (offset, token) whose logits are wanted as they are.
    """

    tokens: tuple[int, ...]
    sites: tuple[Site, ...]
    pairs: tuple[tuple[int, int], ...]

    @property
    def offsets(self) -> list[int]:
        """The positions whose logits are needed, in order."""
        found = {site.offset for site in self.sites} | {offset for offset, _ in self.pairs}
        return sorted(found)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model said about a view: for each site a token, how sure the judge is of it (its probability among
    the allowed ones, say; it ranks for commit) and its probability among all (which is reported); for each pair its
    logit. `gate` ranks what the canvas reads from pairs, `along` the tokens of slots that are written in order."""

    tokens: Sequence[int]
    sure: Sequence[float]
    chance: Sequence[float]
    logits: Sequence[float]
    gate: Gate = chance_of_gate
    along: Along = all_of_them


V_co = TypeVar("V_co", covariant=True)
R_contra = TypeVar("R_contra", contravariant=True)


class Canvas(Protocol[V_co, R_contra]):
    """An answer in the making, or a batch of them: what is to be looked at next (V), what was read there (R).

    Scaffolds and free text show a `View` and take a `Reading`; the batches of `block_canvas` show and take
    tensors.
    """

    def view(self) -> V_co | None:
        """The block as it stands, None once the answer is finished. Asking twice changes nothing."""
        ...

    def settle(self, reading: R_contra, rule: CommitRule, step: int) -> None:
        """Take a reading of the last view and commit what `rule` picks.

        `step` counts the block's denoising steps from 0.
        """
        ...

    def finish(self) -> None:
        """Decide all that is left without the model: the limit of steps is reached."""
        ...

    def take_clean(self) -> Sequence[int]:
        """What was settled since the last call and belongs into the cache, in order: clean tokens, or
        columns of a batch. A new block begins where there is some."""
        ...

    @property
    def undecided(self) -> int:
        """Decisions left in the block last viewed."""
        ...
