"""The denoising loop: a canvas, a look at it, a commit rule, a schedule.

Every decoder of one canvas or one closed batch is this loop: what differs are the canvas (a scaffold, free
text, blocks of a batch), how it is looked at (model and cache: `reader`, `passes`) and the rule
(`commit`). `batch` drives many canvases of different requests with the same parts, all of them in each
pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from carrara.engines.diffusion.canvas import Canvas
from carrara.engines.diffusion.commit import CommitRule, at_least

V = TypeVar("V")
R = TypeVar("R")


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
    canvas: Canvas[V, R],
    look: Callable[[Sequence[int], V], R],
    rule: CommitRule,
    schedule: Schedule = Schedule(),
    watch: Callable[[int], None] | None = None,
) -> Refined:
    """Denoise a canvas block by block until it is settled. Mutates the canvas.

    `look` gets what was settled since the last look (for its cache) and the view, and gives what the model
    says. `watch` is called after each pass with the number of passes made.
    """
    passes, step = 0, 0
    while (view := canvas.view()) is not None:
        if schedule.steps is not None and passes >= schedule.steps:
            canvas.finish()
            return Refined(passes, cut=True)
        clean = canvas.take_clean()
        step = 0 if clean else step
        reading = look(clean, view)
        left = None if schedule.steps is None else schedule.steps - passes
        canvas.settle(reading, within(rule, canvas, left), step)
        passes, step = passes + 1, step + 1
        if watch is not None:
            watch(passes)
    return Refined(passes, cut=False)


def within(rule: CommitRule, canvas: Canvas[Any, Any], passes_left: int | None) -> CommitRule:
    """The rule, committing fast enough to be done with the block in the passes that are left."""
    if passes_left is None:
        return rule
    return at_least(rule, -(-canvas.undecided // max(1, passes_left)))
