"""Scaffolds, holes and drafts on DiffusionGemma: a forward pass for any canvas of this engine.

`gemma` decodes free text as the model was published; here a contract is held, by clamping what is pinned or committed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from carrara.engines.diffusion.canvas import View
from carrara.engines.diffusion.gemma_model import GemmaCache
from carrara.engines.diffusion.noise import Uniform


def gemma_forward(cache: GemmaCache, noise: Uniform) -> Callable[[list[int], View], Tensor]:
    """A forward pass for `reader.looking`: any canvas of this engine on DiffusionGemma.

    `cache` has read the prompt of one row. Settled blocks are encoded into it; a pass over a block that was seen
    before is told what the last one said (self-conditioning).
    """
    said: list[Tensor] = []

    def forward(clean: list[int], view: View) -> Tensor:
        if clean:
            cache.encode(*_row(clean, cache.device))
        tokens, _ = _row(noise.over(view).tokens, cache.device)
        same = said and not clean and said[0].shape[1] == tokens.shape[1]
        logits = cache.denoise(tokens, said[0] if same else None)
        said[:] = [logits]
        return logits[0, view.offsets]

    return forward


def _row(tokens: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    found = torch.tensor([list(tokens)], dtype=torch.int64, device=device)
    return found, torch.ones_like(found, dtype=torch.bool)


__all__ = ["gemma_forward"]
