"""Plain canvases of a batch as tensors: rows of tokens that are settled block by block, all rows together.

The canvas of the published samplers (`samplers`). Nothing is pinned but what was given; a rule may commit
masks, and a second one may edit what stands there already.

Legend: B rows, T columns, N columns of one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from carrara.engines.diffusion.commit import CommitRule


@dataclass(frozen=True, slots=True)
class Block:
    """Columns `start` to `stop` of the batch. `ends` [B]: where the block ends in each row, if rows differ."""

    start: int
    stop: int
    ends: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a pass proposes for columns `start` on: tokens [B, N] and how sure it is of them [B, N]."""

    start: int
    tokens: Tensor
    confidence: Tensor


@dataclass(frozen=True, slots=True)
class BlockView:
    """All tokens [B, T], the block that is being settled, and whether this is its first pass."""

    tokens: Tensor
    block: Block
    first: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a block is: `passes` made, `masked` positions left in all rows, `finished_passes` that began
    without masks, `quiet`: the last pass was one of those and changed nothing."""

    passes: int
    masked: int
    finished_passes: int = 0
    quiet: bool = False


Ends = Callable[[Progress], bool]
"""Whether a block is over; asked before each pass over it."""

Stops = Callable[[Tensor, Block, bool], bool]
"""(tokens, current block, whether it is over) -> whether the whole answer is; asked after each pass."""


def never(tokens: Tensor, block: Block, over: bool) -> bool:
    """Nothing ends the answer but its last block."""
    return False


def when_settled(least: int = 0, most: int | None = None) -> Ends:
    """Once nothing is masked, after `least` to `most` passes (None: as many as it takes)."""

    def ends(now: Progress) -> bool:
        spent = most is not None and now.passes >= most
        return spent or (now.masked == 0 and now.passes >= least)

    return ends


def after(passes: int) -> Ends:
    """After so many passes, needed or not."""
    return lambda now: now.passes >= passes


def when_unedited(most_more: int) -> Ends:
    """Once a pass over a block without masks edits nothing, or after `most_more` passes over such a block."""
    return lambda now: now.quiet or (now.masked == 0 and now.finished_passes >= most_more)


@dataclass(slots=True, eq=False)
class BlockCanvas:
    """`tokens` [B, T] int64 is changed in place; `mask_id` stands at what is to be decided.

    Candidates of a pass are the masked positions that it computed before the block's end. `edits` picks
    among the others of the block that were not `given` [B, T] and where another token is proposed.
    `context` columns before the first block are clean from the beginning.
    """

    tokens: Tensor
    mask_id: int
    blocks: Sequence[Block]
    ends: Ends = field(default_factory=when_settled)
    stops: Stops = never
    edits: CommitRule | None = None
    given: Tensor | None = None
    context: int = 0
    _number: int = field(init=False, default=0)
    _progress: Progress | None = field(init=False, default=None)
    _clean_from: int = field(init=False, default=0)
    _clean_to: int = field(init=False)
    _stopped: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._clean_to = self.context

    def view(self) -> BlockView | None:
        while not self._stopped and self._number < len(self.blocks):
            block = self.blocks[self._number]
            if self._progress is None:
                self._progress = Progress(0, self.undecided)
            if not self.ends(self._progress):
                return BlockView(self.tokens, block, self._progress.passes == 0)
            self._clean_to = block.stop
            self._stopped = self.stops(self.tokens, block, True)
            self._number, self._progress = self._number + 1, None
        return None

    def settle(self, reading: Proposal, rule: CommitRule, step: int) -> None:
        assert self._progress is not None
        block, before = self.blocks[self._number], self._progress
        stop = reading.start + reading.tokens.shape[1]
        now = self.tokens[:, reading.start : stop]
        inside = self._inside(block)[:, reading.start : stop]
        masked = inside & (now == self.mask_id)
        change = (
            rule(reading.confidence, masked, step) if before.masked else torch.zeros_like(masked)
        )
        edited = torch.zeros_like(masked)
        if self.edits is not None:
            columns = torch.arange(reading.start, stop, device=now.device)
            open_ = inside & ~masked & (columns >= block.start) & (now != reading.tokens)
            if self.given is not None:
                open_ &= ~self.given[:, reading.start : stop]
            edited = self.edits(reading.confidence, open_, step)
        change = change | edited
        now.copy_(torch.where(change, reading.tokens, now))
        finished = before.masked == 0
        self._progress = Progress(
            before.passes + 1,
            self.undecided,
            before.finished_passes + finished,
            finished and not bool(edited.any()),
        )
        self._stopped = self.stops(self.tokens, block, False)

    def finish(self) -> None:
        """Leave the rest masked."""
        self._stopped = True

    def take_clean(self) -> Sequence[int]:
        """The columns settled since the last call."""
        found = range(self._clean_from, self._clean_to)
        self._clean_from = self._clean_to
        return found

    @property
    def reached(self) -> int:
        """Columns up to the end of the last block that was looked at."""
        last = min(self._number, len(self.blocks) - 1) if self._progress else self._number - 1
        return self.blocks[last].stop if last >= 0 else self.context

    @property
    def undecided(self) -> int:
        if self._number >= len(self.blocks):
            return 0
        inside = self._inside(self.blocks[self._number])
        return int((inside & (self.tokens == self.mask_id)).sum())

    def _inside(self, block: Block) -> Tensor:
        """Which columns lie before the end of the block, [B, T]."""
        columns = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        ends = columns.new_tensor([block.stop]) if block.ends is None else block.ends
        return (columns < ends[:, None]).expand_as(self.tokens)
