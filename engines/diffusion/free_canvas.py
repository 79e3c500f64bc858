"""The canvas of free text, and of any span of tokens with masks in it: blocks of masks, nothing pinned but
what was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from carrara.engines.diffusion.canvas import Reading, Site, View
from carrara.engines.diffusion.commit import CommitRule
from carrara.engines.diffusion.rules import Edits
from carrara.engines.diffusion.scaffold.lexicon import Row
from carrara.engines.pieces import Piece, of_tokens


@dataclass(slots=True, eq=False)
class FreeCanvas:
    """Tokens in blocks of `block`; `start` is the whole canvas, masks at what is to be decided.

    A token of `eos_ids` ends the answer: what stands behind it is given up. `row` says which tokens may
    stand anywhere (None: all). `decode` makes text for `show`; `stops` looks at settled text and says
    whether a stop string ends it. `lead` tokens before the canvas belong to its first block, which is that
    much shorter. With `edits` tokens that the model wrote in the current block may be replaced: a block then ends
    once a look at it without masks edits nothing, or after so many looks. An end of text is final.
    """

    start: Sequence[int]
    block: int
    mask_id: int
    eos_ids: frozenset[int] = frozenset()
    row: Row | None = None
    decode: Callable[[Sequence[int]], str] = lambda ids: ""
    stops: Callable[[str], bool] = lambda text: False
    lead: int = 0
    edits: Edits | None = None
    tokens: list[int] = field(init=False)
    sure: list[float | None] = field(init=False)
    begin: int = field(init=False, default=0)
    ended: bool = field(init=False, default=False)
    stopped: bool = field(init=False, default=False)
    _clean: list[int] = field(init=False, default_factory=list)
    _looks: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.tokens = list(self.start)
        self.sure = [None] * len(self.tokens)
        self._cut_at_end()

    @property
    def end(self) -> int:
        """Where the current block ends."""
        used = (self.lead + self.begin) % self.block
        return min(self.begin + self.block - used, len(self.tokens))

    def view(self) -> View | None:
        while self.begin < len(self.tokens):
            current = self.tokens[self.begin : self.end]
            if offsets := self._sites(current):
                sites = tuple(Site(offset, self.row) for offset in offsets)
                return View(tuple(current), sites, ())
            self._pass_on(current)
        return None

    def settle(self, reading: Reading, rule: CommitRule, step: int) -> None:
        at = [self.begin + o for o in self._sites(self.tokens[self.begin : self.end])]
        was_open = self.undecided > 0
        sure = torch.tensor([list(reading.sure)], dtype=torch.float32)
        masked = torch.tensor([[self.tokens[i] == self.mask_id for i in at]])
        commit = rule(sure, masked, step) if was_open else torch.zeros_like(masked)
        if self.edits is not None:
            other = torch.tensor(
                [[self.tokens[i] != token for i, token in zip(at, reading.tokens, strict=True)]]
            )
            edited = ~masked & other & (sure > self.edits.threshold)
            commit |= edited
            done = self.edits.most_more if not was_open and not edited.any() else self._looks + 1
            self._looks = 0 if was_open else done
        found = zip(at, reading.tokens, reading.chance, commit[0].tolist(), strict=True)
        self.commit((i - self.begin, token, value) for i, token, value, commits in found if commits)

    def commit(self, decided: Iterable[tuple[int, int, float]]) -> None:
        """Put tokens at offsets of the current block, each with its probability."""
        for offset, token, chance in decided:
            self.tokens[self.begin + offset], self.sure[self.begin + offset] = token, chance
        self._cut_at_end()

    def finish(self) -> None:
        """Masks are not text: the answer ends before the first of them."""
        if self.mask_id in self.tokens:
            del self.tokens[self.tokens.index(self.mask_id) :]
        self._pass_on(self.tokens[self.begin :])

    def take_clean(self) -> list[int]:
        found, self._clean = self._clean, []
        return found

    @property
    def room(self) -> int:
        """The most positions that the answer may take."""
        return len(self.start)

    @property
    def undecided(self) -> int:
        return self.tokens[self.begin : self.end].count(self.mask_id)

    @property
    def settled_share(self) -> float:
        """What may still become another token is not settled."""
        unsettled = self.tokens.count(self.mask_id) + sum(map(self._may_change, self._block))
        return 1.0 - unsettled / max(1, len(self.tokens))

    def pieces(self) -> Iterator[Piece]:
        """The canvas up to the end of the block being refined."""
        tokens = ((None if t == self.mask_id else t) for t in self.tokens[: self.end])
        stays = (at < self.begin or not self._may_change(at) for at in range(self.end))
        return of_tokens(zip(tokens, self.sure, strict=False), self.decode, stays)

    @property
    def answer(self) -> list[int]:
        """The tokens of the answer without the end of text."""
        return [token for token in self.tokens if token not in self.eos_ids]

    def _sites(self, block: Sequence[int]) -> list[int]:
        """Where in the current block the model is asked: at masks, and with edits at what it wrote itself. Nowhere
        once the block is done."""
        masks = [i for i, token in enumerate(block) if token == self.mask_id]
        if self.edits is None or (not masks and self._looks >= self.edits.most_more):
            return masks
        return [
            i
            for i, token in enumerate(block)
            if token == self.mask_id or self._may_change(self.begin + i)
        ]

    @property
    def _block(self) -> range:
        return range(self.begin, self.end)

    def _may_change(self, at: int) -> bool:
        """Whether a token that stands in the current block may become another one."""
        if self.edits is None:
            return False
        return self.sure[at] is not None and self.tokens[at] not in self.eos_ids

    def _pass_on(self, block: list[int]) -> None:
        self._clean += block
        self.begin += len(block)
        self._looks = 0
        if self.stops(self.decode(self.tokens[: self.begin])):
            self.stopped = True
            del self.tokens[self.begin :]

    def _cut_at_end(self) -> None:
        ends = (i for i in range(self.begin, len(self.tokens)) if self.tokens[i] in self.eos_ids)
        first = next(ends, None)
        if first is not None:
            self.ended = True
            del self.tokens[first + 1 :], self.sure[first + 1 :]
