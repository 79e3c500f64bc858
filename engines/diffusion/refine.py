"""The denoising loop: a canvas, a model, a commit rule, a schedule.

The loop for one canvas. `batch` drives many canvases with the same parts, all of them in each pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.engines.diffusion.canvas import Canvas, Reading, View
from carrara.engines.diffusion.commit import CommitRule, at_least
from carrara.engines.diffusion.reader import GREEDY, MaskTable, read
from carrara.engines.request import Sampling

Forward = Callable[[list[int], View], Tensor]
"""(clean tokens to encode first, block) -> logits [K, V] for the block's `offsets`, unshifted."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """At most `steps` denoising passes for the whole answer (None: as many as it takes)."""

    steps: int | None = None


@dataclass(frozen=True, slots=True)
class Refined:
    """`passes` were made; `cut` says that the limit of steps ended the work early."""

    passes: int
    cut: bool


def refine(
    canvas: Canvas,
    forward: Forward,
    rule: CommitRule,
    schedule: Schedule = Schedule(),
    *,
    table: MaskTable | None = None,
    sampling: Sampling = GREEDY,
    generator: torch.Generator | None = None,
    watch: Callable[[Canvas, int], None] | None = None,
) -> Refined:
    """Denoise a canvas block by block until it is settled. Mutates the canvas.

    `watch` sees the canvas after each pass, with the number of passes made.
    """
    table = table or MaskTable()
    passes, step = 0, 0
    while (view := canvas.view()) is not None:
        if schedule.steps is not None and passes >= schedule.steps:
            canvas.finish()
            return Refined(passes, cut=True)
        clean = canvas.take_clean()
        step = 0 if clean else step
        reading: Reading = read(forward(clean, view), view, table, sampling, generator)
        left = None if schedule.steps is None else schedule.steps - passes
        canvas.settle(reading, within(rule, canvas, left), step)
        passes, step = passes + 1, step + 1
        if watch is not None:
            watch(canvas, passes)
    return Refined(passes, cut=False)


def within(rule: CommitRule, canvas: Canvas, passes_left: int | None) -> CommitRule:
    """The rule, committing fast enough to be done with the block in the passes that are left."""
    if passes_left is None:
        return rule
    return at_least(rule, -(-canvas.undecided // max(1, passes_left)))
