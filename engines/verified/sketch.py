"""A canvas on its way to a draft: denoised window by window with a bound on the passes of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from carrara.engines.diffusion.canvas import View
from carrara.engines.diffusion.free_canvas import FreeCanvas
from carrara.engines.diffusion.reader import MaskTable, read
from carrara.engines.diffusion.refine import within
from carrara.engines.diffusion.rules import Ruling, ruling
from carrara.engines.diffusion.scaffold.nodes import Fork, Hole, OpenEnd, Pinned, leaves
from carrara.engines.diffusion.scaffold_canvas import ScaffoldCanvas
from carrara.engines.diffusion.settings import Settings
from carrara.engines.request import Rule
from carrara.engines.verified.draft import Piece

_SPARE_PASSES = 4  # beyond the bound, for what appears on the canvas only once a gate is decided


@dataclass(slots=True, eq=False)
class Sketch:
    """`view` is the block to denoise next, None once there is no more. `most` passes a window, None: no bound.

    `vocabulary` is what each token writes, `rule` the commit rule that the request asked for, if any.
    """

    canvas: ScaffoldCanvas | FreeCanvas
    settings: Settings
    vocabulary: Sequence[bytes]
    most: int | None = None
    rule: Rule | None = None
    view: View | None = field(init=False)
    passes: int = field(init=False, default=0)
    _ruling: Ruling = field(init=False)
    _told: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._ruling = ruling(self.settings.rule_of(self.rule), self.canvas.mask_id)
        self.view = self.canvas.view()
        self.canvas.take_clean()

    def take(self, logits: Tensor, table: MaskTable) -> bool:
        """Settle what the logits [K, V] of the view say; whether the window is done.

        Raises:
            FloatingPointError: the logits are no numbers.
        """
        assert self.view is not None
        left = None if self.most is None else self.most - self.passes
        reading = read(logits, self.view, table, judge=self._ruling.judge)
        self.canvas.settle(reading, within(self._ruling.commit, self.canvas, left), self.passes)
        self.passes += 1
        self.view = self.canvas.view()
        if self.view is not None and left is not None and left <= 1 - _SPARE_PASSES:
            self.canvas.finish()
            self.view = None
        if not self.canvas.take_clean() and self.view is not None:
            return False
        self.passes = 0
        return True

    def new_pieces(self) -> list[Piece]:
        """What was settled since the last call, in the order of the answer."""
        canvas, vocabulary = self.canvas, self.vocabulary
        decided = _of_text(canvas) if isinstance(canvas, FreeCanvas) else _of_scaffold(canvas)
        found = [Piece(token, vocabulary[token], sure) for token, sure in decided]
        new, self._told = found[self._told :], len(found)
        return new


_Decided = tuple[int, float]
"""A token and how sure the model was of it."""


def _of_text(canvas: FreeCanvas) -> Iterator[_Decided]:
    for token, sure in zip(canvas.tokens, canvas.sure, strict=False):
        if token == canvas.mask_id or token in canvas.eos_ids:
            return
        yield token, 1.0 if sure is None else sure


def _of_scaffold(canvas: ScaffoldCanvas) -> Iterator[_Decided]:
    for leaf in leaves(canvas.tree.root):
        if isinstance(leaf, OpenEnd) or not leaf.emitted:
            return
        yield from _of_leaf(leaf, canvas.tree.scaffold.lexicon.pad_id)


def _of_leaf(leaf: Pinned | Hole | Fork, pad_id: int) -> Iterator[_Decided]:
    if isinstance(leaf, Pinned):
        yield from ((token, 1.0) for token in leaf.ids)
    elif isinstance(leaf, Hole):
        for token, sure in zip(leaf.ids, leaf.sure, strict=True):
            if token is not None and token != pad_id:
                yield token, 1.0 if sure is None else sure
    else:
        for number, token in enumerate(leaf.lead):
            yield token, 1.0 if number or leaf.sure is None else leaf.sure
