"""Canvases for models of uniform noise, which have no mask token: what is undecided is shown as random tokens.

They are drawn anew in every pass: what a pass did not commit is *renoised*. What is pinned or committed is clamped, so
a scaffold holds there as it does with masks, and to refine a draft means to renoise the spans that were named.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from carrara.engines.diffusion.canvas import View


@dataclass(frozen=True, slots=True)
class Uniform:
    """Noise over the first `size` tokens of a vocabulary in the places of `mask_id`; `chance` draws it."""

    mask_id: int
    size: int
    chance: random.Random = field(default_factory=random.Random)

    def over(self, view: View) -> View:
        """The view with fresh noise at what is undecided."""
        mask, size, draw = self.mask_id, self.size, self.chance.randrange
        return replace(
            view, tokens=tuple(draw(size) if token == mask else token for token in view.tokens)
        )


__all__ = ["Uniform"]
